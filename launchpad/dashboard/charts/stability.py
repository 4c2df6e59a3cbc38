"""Whether the potential can be used: molecular dynamics and close contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.dashboard.charts.style import INK, QUIET, axis, coloured, panels

if TYPE_CHECKING:
    from gapfactory.report import ReportData

__all__ = ["close_contacts", "dynamics"]


def dynamics(data: ReportData) -> dict[str, Any] | None:
    """Draw temperature, potential energy and shortest distance over time, one panel each."""
    run = None if data.stability is None else data.stability.dynamics
    if run is None or not len(run.times):
        return None
    times = run.times.tolist()
    rows = []
    for index, (values, title) in enumerate(
        (
            (run.temperatures, "temperature (K)"),
            (1000.0 * run.energies, "potential energy<br>(meV/atom)"),
            (run.shortest, "shortest<br>distance (Å)"),
        )
    ):
        name = title.partition(" (")[0].replace("<br>", " ")
        trace = {
            "type": "scatter",
            "mode": "lines" if len(times) > 2 else "lines+markers",
            "name": name,
            "x": times,
            "y": values.tolist(),
            "line": {"color": coloured(index)},
            "hovertemplate": "%{x:.4g} ps: %{y:.5g}",
        }
        rows.append((axis(title), [trace]))
    rows[0][1].append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "wanted",
            "x": [0, times[-1]],
            "y": [run.temperature_K] * 2,
            "line": {"color": QUIET, "dash": "dot"},
        }
    )
    early = [] if run.survived else [_upright(run.reached_ps, INK, "dash")]
    return panels(rows, axis("time (ps)"), height=560, shapes=early)


def close_contacts(data: ReportData) -> dict[str, Any] | None:
    """Draw energies over distance by kind: pairs of atoms in one panel, the compressed crystal in the other."""
    curves = () if data.stability is None else data.stability.contacts
    if not curves:
        return None
    rows = []
    drawn = 0
    for members, title in (
        ([c for c in curves if c.kind != "crystal"], "energy of a pair (eV)"),
        ([c for c in curves if c.kind == "crystal"], "energy of the crystal<br>(eV/atom)"),
    ):
        traces: list[dict[str, Any]] = []
        for curve in members:
            colour = coloured(drawn)
            drawn += 1
            x = (curve.distances / curve.equilibrium).tolist()
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": curve.title,
                    "x": x,
                    "y": curve.energies.tolist(),
                    "customdata": curve.distances.tolist(),
                    "line": {"color": colour},
                    "hovertemplate": f"%{{customdata:.3f}} Å: %{{y:.4g}} {curve.unit}",
                }
            )
            if curve.hole:
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": f"{curve.title}: stops rising",
                        "x": [curve.repulsive_to / curve.equilibrium],
                        "y": [curve.barrier],
                        "marker": {"symbol": "x", "size": 10, "color": colour},
                    }
                )
        if traces:
            rows.append((axis(title), traces))
    wanted = curves[0].wanted
    repulsive = {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": wanted,
        "x1": 1,
        "y0": 0,
        "y1": 1,
        "fillcolor": "rgba(128,128,128,0.13)",
        "line": {"width": 0},
        "layer": "below",
    }
    return panels(
        rows,
        axis("distance / equilibrium distance (grey: has to be repulsive)"),
        height=160 + 200 * len(rows),
        shapes=[repulsive],
        meta={"bent": {"axes": ["y"], "linear_to": 1.0}},
    )


def _upright(x: float, colour: str, dash: str) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "line": {"color": colour, "dash": dash, "width": 1.5},
    }
