"""What the campaign did: energies by generation, selection, hull, levels, time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from launchpad.dashboard.charts.style import INK, QUIET, axis, coloured, figure, panels, points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.report import ReportData

__all__ = ["bars", "energy_distribution", "histograms", "hull", "levels", "selection", "time_budget"]

#: Distances to the hull (eV/atom) at which the sigma starts and stops to grow, as in the report's figure.
_EDGES = (0.1, 1.0)
#: Energies by generation are linear up to here (eV/atom) where a few lie far above.
_LINEAR = 1.0
_BINS = 24


def energy_distribution(data: ReportData) -> dict[str, Any] | None:
    """Draw the reference energies of each generation's labelled structures, with median and quartiles."""
    groups = {g: [float(e) for e in values] for g, values in sorted(data.energies.items()) if len(values)}
    if not groups:
        return None
    traces = [
        {
            "type": "box",
            "name": f"generation {generation}",
            "x": [generation] * len(values),
            "y": values,
            "boxpoints": "all",
            "pointpos": 0,
            "jitter": 0.6,
            "width": 0.7,
            "line": {"color": coloured(1), "width": 1.5},
            "fillcolor": "rgba(0,0,0,0)",
            "marker": {"color": coloured(0), "size": 5, "opacity": 0.55},
            "showlegend": False,
            "hoverinfo": "y",
        }
        for generation, values in groups.items()
    ]
    far = max(max(values) for values in groups.values()) > 3 * _LINEAR
    return figure(
        traces,
        axis("generation", tickmode="linear", dtick=max(1, len(groups) // 12)),
        axis("energy above the lowest (eV/atom)"),
        meta={"bent": {"axes": ["y"], "linear_to": _LINEAR}} if far else {},
    )


def selection(data: ReportData) -> dict[str, Any] | None:
    """Draw how many structures each step of the selection had or kept at which energy (Fig. 1b of the paper)."""
    from gapfactory.figures.campaign import common_edges

    stages = [s for s in data.selection if s.size]
    if not stages:
        return None
    zero, common = common_edges(stages, _BINS)
    rows, titles = [], []
    for index, stage in enumerate(stages):
        edges, counts, beyond = stage.histogram(zero, common)
        titles.append(f"{stage.name}: {stage.size}{_beyond(beyond)}")
        rows.append((axis("structures", rangemode="tozero"), [bars(stage.name, edges, counts, index)]))
    return histograms(rows, titles, axis("energy above the lowest (eV/atom)", range=[0.0, float(common[-1])]))


def _beyond(number: int) -> str:
    return f" ({number} beyond the axis, in the last bin)" if number else ""


def histograms(
    rows: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    titles: Sequence[str],
    xaxis: dict[str, Any],
) -> dict[str, Any]:
    """Return counted histograms above each other, each under its title."""
    return panels(rows, xaxis, height=110 + 130 * len(rows), titles=titles, bargap=0.04, showlegend=False)


def bars(name: str, edges: Any, counts: Any, index: int, **more: Any) -> dict[str, Any]:
    """Return a histogram that has been counted, so that a million values are a few numbers here."""
    return {
        "type": "bar",
        "name": name,
        "x": [float(low + high) / 2 for low, high in pairwise(edges)],
        "y": [int(count) for count in counts],
        "width": [float(high - low) for low, high in pairwise(edges)],
        "customdata": [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)],
        "hovertemplate": "%{customdata} eV/atom: %{y}",
        "marker": {"color": coloured(index)},
    } | more


def hull(data: ReportData) -> dict[str, Any] | None:
    """Draw the training set over volume with the lower hull, coloured by the distance to it that sets the sigma."""
    import numpy as np

    h = data.hull
    if h is None or not len(h.volumes):
        return None
    zero = float(min(h.energies.min(), h.hull_energies.min() if len(h.hull_energies) else np.inf))
    traces = []
    for low, high, index, name in (
        (-np.inf, _EDGES[0], 2, f"up to {_EDGES[0]:g} eV above: tightest"),
        (_EDGES[0], _EDGES[1], 4, f"{_EDGES[0]:g} to {_EDGES[1]:g} eV: growing"),
        (_EDGES[1], np.inf, 1, f"above {_EDGES[1]:g} eV: loosest"),
    ):
        mask = (h.distances > low) & (h.distances <= high)
        if mask.any():
            traces.append(
                points(
                    f"{name} ({int(mask.sum())})",
                    h.volumes[mask].tolist(),
                    (h.energies[mask] - zero).tolist(),
                    ids=[name for name, inside in zip(h.ids, mask, strict=True) if inside] if h.ids else None,
                    marker={"color": coloured(index), "size": 7, "opacity": 0.7},
                    text=[f"{d:.3f} eV/atom above the hull" for d in h.distances[mask]],
                    hovertemplate="%{x:.2f} Å³/atom, %{y:.3f} eV/atom<br>%{text}",
                )
            )
    if len(h.hull_volumes):
        order = np.argsort(h.hull_volumes)
        x, y = h.hull_volumes[order].tolist(), (h.hull_energies[order] - zero).tolist()
        traces.append(_line("hull", x, y, {"color": INK, "width": 1.5}, mode="lines+markers"))
        for edge in _EDGES:
            above = [value + edge for value in y]
            traces.append(_line(f"{edge:g} eV above", x, above, {"color": QUIET, "width": 1, "dash": "dot"}))
    # exploded cells would hide the hull: they are a double click (all of the axis) away
    limit = float(np.quantile(h.energies - zero, 0.98))
    return figure(
        traces,
        axis("volume (Å³/atom)"),
        axis(
            "energy above the lowest (eV/atom)", **({"range": [-0.04 * limit, 1.15 * limit]} if limit else {})
        ),
    )


def _line(
    name: str, x: list[float], y: list[float], line: dict[str, Any], mode: str = "lines"
) -> dict[str, Any]:
    # the structures under it are what the pointer finds
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": x,
        "y": y,
        "line": line,
        "hoverinfo": "skip",
    }


def levels(data: ReportData) -> dict[str, Any] | None:
    """Draw how labels differ from those of the same structures in another campaign, constants taken out."""
    rows = () if data.levels is None else data.levels.rows
    if not rows:
        return None
    lowest = min(r.first for r in rows)
    trace = points(
        "structures",
        [r.first - lowest for r in rows],
        [1000 * r.aligned_difference for r in rows],
        ids=[r.id for r in rows],
        marker={"color": coloured(0), "size": 7, "opacity": 0.7},
        hovertemplate="%{customdata}<br>%{y:.3g} meV/atom",
    )
    return figure(
        [trace], axis("energy above the lowest (eV/atom)"), axis("difference without constants (meV/atom)")
    )


def time_budget(data: ReportData) -> dict[str, Any] | None:
    """Draw where the time went: per generation, stacked by kind of task."""
    seconds = {g.generation: dict(g.seconds) for g in data.generations if g.seconds}
    if not sum(sum(kinds.values()) for kinds in seconds.values()) > 0:
        return None
    generations = sorted(seconds)
    kinds = list(dict.fromkeys(kind for g in generations for kind in seconds[g]))
    total = sum(sum(found.values()) for found in seconds.values())
    longest = max(sum(found.values()) for found in seconds.values())
    unit, size = next(
        (unit, size)
        for unit, size in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
        if longest > 2 * size or size == 1.0
    )
    traces = []
    for index, kind in enumerate(kinds):
        spent = [seconds[g].get(kind, 0.0) for g in generations]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": f"{kind} ({100 * sum(spent) / total:.0f} %)",
                "y": generations,
                "x": [value / size for value in spent],
                "marker": {"color": coloured(index)},
                "hovertemplate": f"generation %{{y}}, {kind}: %{{x:.3g}} {unit}",
            }
        )
    return figure(
        traces,
        axis(f"task time ({unit})"),
        axis("generation", autorange="reversed", tickmode="linear", dtick=max(1, len(generations) // 20)),
        barmode="stack",
        height=200 + 24 * len(generations),
    )
