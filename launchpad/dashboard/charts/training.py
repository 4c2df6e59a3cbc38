"""What the potential was trained on and how it does there: labelled structures, errors by energy, enthalpies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.dashboard.charts.campaign import bars, histograms
from launchpad.dashboard.charts.style import (
    INK,
    SYMBOLS,
    axis,
    coloured,
    decades,
    figure,
    panels,
    points,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.report import ReportData, TrainingPoint

__all__ = ["enthalpies", "error_windows", "fit_errors", "held_out_errors", "training_set"]

#: Energies of held-out structures are linear up to here (eV/atom).
_BEND_ENERGY = 0.1
#: Errors on the training set are linear up to here (meV/atom).
_BEND = 10.0


def training_set(data: ReportData) -> dict[str, Any] | None:
    """Draw energies of the labelled structures over volume: colour by generation, symbol by origin."""
    found = data.training
    if not found:
        return None
    lowest = min(p.energy for p in found)
    energies = sorted(p.energy - lowest for p in found)
    traces = _by_origin(
        found,
        [p.volume for p in found],
        [p.energy - lowest for p in found],
        "%{y:.4f} eV/atom, %{x:.2f} Å³/atom",
    )
    # exploded cells would hide the rest: they are a double click (all of the axis) away
    limit = energies[int(0.98 * (len(energies) - 1))]
    return figure(
        traces,
        axis("volume (Å³/atom)"),
        axis(
            "energy above the lowest (eV/atom)", **({"range": [-0.04 * limit, 1.15 * limit]} if limit else {})
        ),
        height=480,
        meta={"by": ["generation", "origin"]},
    )


def fit_errors(data: ReportData) -> dict[str, Any] | None:
    """Draw energy errors of the training set over the reference energy: colour by generation, symbol by origin."""
    found = [p for p in data.training if not p.held_out and p.energy_error is not None]
    if not found:
        return None
    lowest = min(p.energy for p in data.training)
    x = [p.energy - lowest for p in found]
    y = [1000 * p.energy_error for p in found if p.energy_error is not None]
    traces = _by_origin(found, x, y, "%{y:.4g} meV/atom at %{x:.4g} eV/atom")
    zero = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": 0,
        "y1": 0,
        "line": {"color": INK, "width": 1},
    }
    return figure(
        traces,
        axis("reference energy above the lowest (eV/atom)"),
        axis("potential - reference (meV/atom)"),
        height=480,
        shapes=[zero],
        meta={"bent": {"axes": ["y"], "linear_to": _BEND}, "by": ["generation", "origin"]},
    )


def held_out_errors(data: ReportData) -> dict[str, Any] | None:
    """Draw the energy error of each held-out structure over its energy, and the error of each energy window."""
    from gapfactory.analysis.errors import window_rows
    from gapfactory.figures.training import SMALLEST_MEV

    found = [p for p in data.training if p.held_out and p.energy_error is not None]
    if not found:
        return None
    lowest = min(p.energy for p in data.training)
    x = [p.energy - lowest for p in found]
    y = [max(1000 * abs(p.energy_error), SMALLEST_MEV) for p in found if p.energy_error is not None]
    traces = _by_origin(found, x, y, "%{y:.4g} meV/atom off at %{x:.4g} eV/atom")
    newest = max((g for g in data.generations if g.errors), key=lambda g: g.generation, default=None)
    for low, high, row in window_rows(newest.errors if newest else (), "energy"):
        end = min(high, max(*x, low + 0.1))
        rmse = max(1000 * row.summary.rmse, SMALLEST_MEV)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{row.group}: {rmse:.3g} meV/atom",
                "showlegend": False,
                # fine enough to be bent
                "x": [low + (end - low) * k / 50 for k in range(51)],
                "y": [rmse] * 51,
                "line": {"color": INK, "width": 2},
                "hovertemplate": f"root mean square of {row.n_structures} structures {row.group} above the lowest: "
                "%{y:.4g} meV/atom",
            }
        )
    return figure(
        traces,
        axis("reference energy above the lowest (eV/atom)"),
        axis("|potential - reference| (meV/atom)", type="log", **decades(min(y), max(y))),
        height=480,
        meta={
            "bent": {"axes": ["x"], "linear_to": _BEND_ENERGY},
            "logarithmic": ["yaxis"],
            "by": ["generation", "origin"],
        },
    )


def _by_origin(
    found: Sequence[TrainingPoint], x: Sequence[float], y: Sequence[float], hover: str
) -> list[dict[str, Any]]:
    """Return a series for each origin: its symbol says which, its colour the generation or, switched, the origin."""
    origins = list(dict.fromkeys(p.origin for p in found))
    scale = _generations(found)
    traces = []
    for index, origin in enumerate(origins):
        mine = [k for k, p in enumerate(found) if p.origin == origin]
        marker = {
            "color": [found[k].generation for k in mine],
            **(scale | {"showscale": index == 0}),
            "symbol": SYMBOLS[index % len(SYMBOLS)],
            "size": 8,
            "opacity": 0.85,
            "line": {"width": 0.5, "color": INK},
        }
        trace = points(
            f"{origin} ({len(mine)})",
            [x[k] for k in mine],
            [y[k] for k in mine],
            ids=[found[k].id for k in mine],
            marker=marker,
            hovertemplate=f"%{{customdata}}<br>{hover}<extra>{origin}</extra>",
        )
        trace["meta"]["by"] = {"origin": {"color": coloured(index), "showscale": False}}
        traces.append(trace)
    return traces


def _generations(found: Sequence[TrainingPoint]) -> dict[str, Any]:
    """Return the colour scale; viridis is told apart by everybody, and in print."""
    first, last = min(p.generation for p in found), max(p.generation for p in found)
    return {
        "colorscale": "Viridis",
        "cmin": first,
        "cmax": max(last, first + 1),
        "colorbar": {
            "title": {"text": "generation", "side": "right"},
            "tickmode": "linear",
            "tick0": first,
            "dtick": max(1, (last - first) // 8),
            "thickness": 14,
            "outlinewidth": 0,
        },
    }


def error_windows(data: ReportData) -> dict[str, Any] | None:
    """Draw errors of held-out structures by energy window over the generations: energies above, forces below."""
    from gapfactory.figures.training import SMALLEST_FORCE, SMALLEST_MEV, windows_in_order

    generations = sorted((g for g in data.generations if g.errors), key=lambda g: g.generation)
    rows: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    drawn: list[str] = []
    for quantity, title, unit, scale, least in (
        ("energy", "energy error (meV/atom)", "meV/atom", 1000.0, SMALLEST_MEV),
        ("forces", "force error (eV/Å)", "eV/Å", 1.0, SMALLEST_FORCE),
    ):
        known = [
            (g.generation, r)
            for g in generations
            for r in g.errors
            if r.quantity == quantity and ":" not in r.group and r.summary.rmse > 0
        ]
        traces = []
        for group in windows_in_order(r.group for _, r in known):
            if group not in drawn:
                drawn.append(group)
            line = [(g, r) for g, r in known if r.group == group]
            colour = coloured(drawn.index(group))
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": group,
                    "legendgroup": group,
                    "showlegend": not rows,
                    "x": [g for g, _ in line],
                    "y": [max(scale * r.summary.rmse, least) for _, r in line],
                    "text": [f"{r.n_structures} structures" for _, r in line],
                    "hovertemplate": f"generation %{{x}}, %{{text}}<br>%{{y:.4g}} {unit}",
                    "line": {"color": colour},
                    "marker": {"symbol": SYMBOLS[drawn.index(group) % len(SYMBOLS)], "size": 7},
                }
            )
        if traces:
            values = [max(scale * r.summary.rmse, least) for _, r in known]
            rows.append((axis(title, type="log", **decades(min(values), max(values))), traces))
    if not rows:
        return None
    return panels(
        rows,
        axis("generation", tickmode="linear", dtick=max(1, len(generations) // 12)),
        height=200 + 200 * len(rows),
        meta={"logarithmic": ["yaxis", "yaxis2"][: len(rows)]},
    )


def enthalpies(data: ReportData) -> dict[str, Any] | None:
    """Draw histograms of the enthalpies where relaxations ended, one panel per generation."""
    import numpy as np

    from gapfactory.figures.training import ENTHALPY_BINS

    filled = {g: np.asarray(v, dtype=float) for g, v in sorted(data.enthalpies.items()) if len(v)}
    if not filled:
        return None
    top = float(np.quantile(np.concatenate([v - v.min() for v in filled.values()]), 0.99)) or 1.0
    edges = np.linspace(0.0, top, ENTHALPY_BINS + 1)
    rows, titles = [], []
    for index, (generation, values) in enumerate(filled.items()):
        above = values - values.min()
        counts, _ = np.histogram(np.clip(above, 0.0, top), edges)
        beyond = int((above > top).sum())
        note = f" ({beyond} beyond the axis, in the last bin)" if beyond else ""
        titles.append(f"generation {generation}: {values.size}{note}")
        rows.append(
            (
                axis("structures", rangemode="tozero"),
                [bars(f"generation {generation}", edges, counts, index)],
            )
        )
    return histograms(rows, titles, axis("enthalpy above the lowest of the generation (eV/atom)"))
