"""How good the potential is: learning curve, named phases, predicted against reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import EvidenceError
from launchpad.dashboard.charts.style import (
    INK,
    QUIET,
    SYMBOLS,
    axis,
    band,
    coloured,
    decades,
    figure,
    panels,
    plotly_text,
    points,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.report import ReportData

__all__ = ["energy_scatter", "energy_volume", "learning_curve"]

#: Energy errors below this (eV/atom) are drawn at it, as in the report.
_FLOOR = 0.001
_FLOOR_FORCES = 1e-6
#: The axes of predicted against reference energies are linear up to here (eV/atom).
_BEND = 0.1


def learning_curve(data: ReportData) -> dict[str, Any] | None:
    """Draw errors against the number of labels by evidence set: one panel per unit, logarithmic."""
    if not data.learning:
        return None
    names = list(dict.fromkeys(p.series for p in data.learning))
    rows = []
    for unit in sorted({p.unit for p in data.learning}):
        energy = unit == "eV/atom"
        scale, shown, least = (1000.0, "meV/atom", _FLOOR) if energy else (1.0, unit, _FLOOR_FORCES)
        traces: list[dict[str, Any]] = []
        for name in names:
            line = sorted(
                (p for p in data.learning if p.series == name and p.unit == unit), key=lambda p: p.n_labels
            )
            if not line:
                continue
            colour = coloured(names.index(name))
            n = [p.n_labels for p in line]
            errors = [max(p.error, least) * scale for p in line]
            # an interval that reaches down to nothing must not squeeze the errors into a line
            floor = max(least, 0.2 * min(p.error for p in line))
            low, high = ([max(value, floor) * scale for value in ends] for ends in _ends(line))
            if all(value == value for value in (*low, *high)):
                traces.append(band(name, n, low, high, colour, legendgroup=name))
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": name,
                    "legendgroup": name,
                    "x": n,
                    "y": errors,
                    "text": [f"generation {p.generation}" for p in line],
                    "hovertemplate": f"%{{text}}, %{{x}} labels<br>%{{y:.4g}} {shown}",
                    "line": {"color": colour},
                    "marker": {"symbol": SYMBOLS[names.index(name) % len(SYMBOLS)], "size": 7},
                }
            )
            law = data.forecasts.get(name)
            if law is not None:
                ahead = [max(n) * 2.0 ** (k / 19) for k in range(20)]
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "lines",
                        "name": f"{name}: forecast",
                        "legendgroup": name,
                        "showlegend": False,
                        "x": ahead,
                        "y": [max(float(value), least) * scale for value in law.predict(ahead)],
                        "hovertemplate": f"forecast at %{{x:.0f}} labels<br>%{{y:.3g}} {shown}",
                        "line": {"color": colour, "dash": "dot"},
                    }
                )
        if energy:
            traces += _levels(data, [p.n_labels for p in data.learning], scale)
        values = [v for trace in traces for v in trace["y"]]
        rows.append((axis(f"error ({shown})", type="log", **decades(min(values), max(values))), traces))
    return panels(
        rows,
        axis("number of labels", rangemode="tozero"),
        height=200 + 200 * len(rows),
        meta={"logarithmic": [f"yaxis{k or ''}" for k in (None, *range(2, len(rows) + 1))]},
    )


def _ends(line: Sequence[Any]) -> tuple[list[float], list[float]]:
    # an unknown bound stays NaN: max() of Python would drop it, depending on the order
    return [p.low for p in line], [p.high if p.high == p.high else float("nan") for p in line]


def _levels(data: ReportData, labels: Sequence[int], scale: float) -> list[dict[str, Any]]:
    """Return the noise of the labels and the error asked for, as lines across."""
    target = data.phase_settings.energy_tolerance_meV / 1000 if data.phases else None
    across = [0.9 * min(labels), 1.1 * max(labels)]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": across,
            "y": [max(level, _FLOOR) * scale] * 2,
            "hovertemplate": f"{name}: %{{y:.3g}} meV/atom",
            "line": {"color": QUIET, "dash": dash, "width": 1.5},
        }
        for name, level, dash in (
            ("label noise", data.label_noise, "longdash"),
            ("target", target, "dash"),
        )
        if level
    ]


def energy_volume(data: ReportData) -> dict[str, Any] | None:
    """Draw energy-volume curves of the named phases: potential solid, reference dashed."""
    curves = [c for e in data.phases for c in (e.potential, e.reference) if c is not None and len(c.volumes)]
    if not curves:
        return None
    labels = {e.phase: plotly_text(e.label) for e in data.phases}
    phases = list(dict.fromkeys(c.phase for c in curves))
    references = [c for c in curves if c.method == "reference"] or curves
    zero = min(float(c.energies.min()) for c in references)
    traces: list[dict[str, Any]] = []
    for curve in curves:
        reference = curve.method == "reference"
        colour = coloured(phases.index(curve.phase))
        name = f"{labels.get(curve.phase, curve.phase)}, {curve.method}"
        x, y = _through(curve, zero)
        traces += [
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "legendgroup": name,
                "showlegend": False,
                "hoverinfo": "skip",
                "x": x,
                "y": y,
                "line": {"color": colour, "dash": "dash" if reference else "solid"},
            },
            points(
                name,
                curve.volumes.tolist(),
                (curve.energies - zero).tolist(),
                legendgroup=name,
                marker={
                    "symbol": "circle-open" if reference else "x-thin-open",
                    "color": colour,
                    "size": 8,
                    "line": {"width": 1.5, "color": colour},
                },
                hovertemplate="%{x:.3f} Å³/atom<br>%{y:.4f} eV/atom",
            ),
        ]
    return figure(traces, axis("volume (Å³/atom)"), axis("energy (eV/atom)"))


def _through(curve: EnergyVolumeCurve, zero: float) -> tuple[list[float], list[float]]:
    """Return the equation of state where it was fitted, and straight lines elsewhere, as the report draws them."""
    import numpy as np

    from gapfactory.analysis.energy_volume import fit_equation_of_state

    try:
        eos = fit_equation_of_state(curve)
    except EvidenceError:
        order = np.argsort(curve.volumes)
        return curve.volumes[order].tolist(), (curve.energies[order] - zero).tolist()
    low, high = eos.fitted_between
    v = np.linspace(low, high, 120)
    outside = (curve.volumes < low) | (curve.volumes > high)
    x = np.concatenate([v, curve.volumes[outside]])
    y = np.concatenate([eos.energies(v), curve.energies[outside]]) - zero
    order = np.argsort(x)
    return x[order].tolist(), y[order].tolist()


def energy_scatter(data: ReportData) -> dict[str, Any] | None:
    """Draw what the preceding potential predicted against the reference, linear up to 0.1 eV/atom."""
    s = data.scatter
    if s is None or not len(s.reference):
        return None
    names = list(s.groups) or ["structures"] * len(s.reference)
    traces = []
    for index, name in enumerate(dict.fromkeys(names)):
        mine = [k for k, other in enumerate(names) if other == name]
        traces.append(
            points(
                f"{name} ({len(mine)})",
                [float(s.reference[k]) for k in mine],
                [float(s.predicted[k]) for k in mine],
                ids=[s.ids[k] for k in mine] if s.ids else None,
                hovertemplate="%{x:.4g} by the reference, %{y:.4g} eV/atom predicted",
                marker={"color": coloured(index), "symbol": SYMBOLS[index % len(SYMBOLS)], "opacity": 0.7},
            )
        )
    ends = [
        float(min(s.reference.min(), s.predicted.min(), 0)),
        float(max(s.reference.max(), s.predicted.max())),
    ]
    traces.append(equal(ends))
    return figure(
        traces,
        axis("reference energy (eV/atom)"),
        axis("predicted energy (eV/atom)"),
        meta={"bent": {"axes": ["x", "y"], "linear_to": _BEND}},
    )


def equal(ends: Sequence[float]) -> dict[str, Any]:
    """Return the line on which both are equal, fine enough to be bent."""
    low, high = ends
    between = [low + (high - low) * k / 400 for k in range(401)] + [k / 400 * _BEND for k in range(401)]
    x = sorted(value for value in between if low <= value <= high)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "equal",
        "x": x,
        "y": x,
        "line": {"color": INK, "width": 1},
        "hoverinfo": "skip",
    }
