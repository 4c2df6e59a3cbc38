"""The figures of Allen and Bartók (2022): rows of `launchpad.figure_data` in, Plotly figures out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from gapfactory.io.tables import plain
from launchpad.dashboard.charts.style import COLOURS, INK, QUIET, axis, coloured, decades, figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    #: One flat row, units in the names.
    Row = Mapping[str, Any]
    Draw = Callable[[Sequence[Row], Mapping[str, str]], dict[str, Any] | None]

__all__ = ["DRAWN"]

#: Method that is drawn in the colour of the text.
_REFERENCE: Final = "reference"
#: What share of the width the bands have beside the density of states.
_BANDS: Final = 0.77
#: Height of a panel of bands, of the title above it, of the room below it, and of legend and margins, pixels.
_PANEL, _TITLE, _GAP, _MARGIN = 290, 22, 40, 120
#: What share of the highest frequency is noise below zero.
_NOISE: Final = 0.01
_SHADE: Final = "rgba(213,94,0,0.12)"


def _phonons(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any]:
    """Draw bands with densities of states beside them, a panel for each crystal."""
    return _panels(rows, list(dict.fromkeys(str(row["crystal"]) for row in rows)))


def _bain(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any]:
    """Draw the same for each place on Bain's path, body-centred cubic first."""
    titles = {}
    for row in rows:
        if row["crystal"] not in titles:
            ends = {0.0: ", body-centred cubic", 1.0: ", face-centred cubic"}
            trained = "trained on" if row["trained"] else "not trained on"
            titles[str(row["crystal"])] = f"η = {row['eta']:.3g}{ends.get(row['eta'], '')}, {trained}"
    return _panels(rows, list(titles), titles, panel=200)


def _panels(
    rows: Sequence[Row], crystals: Sequence[str], titles: Mapping[str, str] | None = None, panel: int = _PANEL
) -> dict[str, Any]:
    titles = titles or {}
    area = len(crystals) * (_TITLE + panel) + (len(crystals) - 1) * _GAP
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"height": area + _MARGIN, "annotations": [], "shapes": [], "showlegend": True}
    methods = [m for m in dict.fromkeys(str(row["method"]) for row in rows) if m != _REFERENCE]
    for number, crystal in enumerate(crystals):
        mine = [row for row in rows if row["crystal"] == crystal]
        bands = [row for row in mine if row["kind"] == "bands"]
        top = 1.0 - (_TITLE + number * (_TITLE + panel + _GAP)) / area
        x, y, states = _axes_of(number)
        frequencies = [float(row["frequency_THz"]) for row in bands]
        highest, lowest = max(frequencies), min(frequencies)
        # noise of the acoustic modes at Gamma is not imaginary
        unstable = lowest < -_NOISE * highest
        span = [1.1 * lowest if unstable else 0.0, 1.05 * highest]
        layout[f"xaxis{x}"] = axis("", domain=[0.0, _BANDS], anchor=f"y{y}") | _corners(bands)
        layout[f"yaxis{y}"] = axis(
            "frequency (THz)", domain=[max(top - panel / area, 0.0), top], anchor=f"x{x}", range=span
        )
        layout[f"xaxis{states}"] = _states_axis(mine, y, last=crystal == crystals[-1])
        layout["annotations"].append(_title(titles.get(crystal, crystal), top))
        layout["shapes"] += _zero(f"y{y}", span[0])
        for method in (*methods, _REFERENCE):
            line = _line(method, methods)
            common = {
                "name": method,
                "legendgroup": method,
                "line": line,
                "mode": "lines",
                "type": "scatter",
                "yaxis": f"y{y}",
            }
            own = [row for row in bands if row["method"] == method]
            if not own:
                continue
            named = not any(trace["name"] == method for trace in traces)
            traces.append(common | _joined(own) | {"xaxis": f"x{x}", "showlegend": named})
            dos = [row for row in mine if row["kind"] == "states" and row["method"] == method]
            traces.append(
                common
                | {
                    "x": [_short(row["states_per_THz"]) for row in dos],
                    "y": [_short(row["frequency_THz"]) for row in dos],
                    "xaxis": f"x{states}",
                    "showlegend": False,
                    "hovertemplate": f"%{{y:.3f}} THz: %{{x:.3f}} states/THz<extra>{method}</extra>",
                }
            )
    return dict(plain({"data": traces, "layout": layout}))


def _axes_of(number: int) -> tuple[str, str, str]:
    """Return the suffixes of the axes of a panel: path, frequency, density of states."""
    return (
        "" if number == 0 else str(2 * number + 1),
        "" if number == 0 else str(number + 1),
        str(2 * number + 2),
    )


def _line(method: str, methods: Sequence[str]) -> dict[str, Any]:
    if method == _REFERENCE:
        return {"color": INK, "dash": "dash", "width": 1.2}
    return {"color": coloured(methods.index(method)), "width": 1.8}


def _joined(rows: Sequence[Row]) -> dict[str, Any]:
    """Return all branches of a method as one series, broken between branches and between pieces of the path."""
    x: list[float | None] = []
    y: list[float | None] = []
    at: list[str | None] = []
    before = None
    for row in sorted(rows, key=lambda row: (row["branch"], row["piece"])):
        here = (row["branch"], row["piece"])
        if before not in (None, here):
            x.append(None)
            y.append(None)
            at.append(None)
        before = here
        x.append(_short(row["distance_per_A"]))
        y.append(_short(row["frequency_THz"]))
        at.append(_wave_vector(row))
    return {
        "x": x,
        "y": y,
        "connectgaps": False,
        "customdata": at,
        "hovertemplate": "%{y:.3f} THz<br>%{customdata}",
    }


def _wave_vector(row: Row) -> str:
    """Return a wave vector in words, in units of the reciprocal vectors."""
    vector = ", ".join(f"{row[key]:.3g}" for key in ("q1", "q2", "q3"))
    return f"{row['point']} ({vector})" if row["point"] else f"q = ({vector})"


def _short(value: float) -> float:
    """Return a number with no more digits than a screen shows."""
    return round(float(value), 4)


def _corners(bands: Sequence[Row]) -> dict[str, Any]:
    """Return the marks of the path: its corners, the two at a break at one place."""
    first = min(row["branch"] for row in bands)
    method = bands[0]["method"]
    places: dict[float, str] = {}
    for row in bands:
        if row["point"] and row["branch"] == first and row["method"] == method:
            where = _short(row["distance_per_A"])
            places[where] = f"{places[where]}|{row['point']}" if where in places else str(row["point"])
    names = list(places.values())
    at, length = list(places), max(places)
    for k in range(1, len(names)):
        # one that stands too close to its neighbour goes below it
        room = 0.035 * length * (1.0 + 0.35 * (len(names[k]) + len(names[k - 1]) - 2))
        if at[k] - at[k - 1] < room and not names[k - 1].startswith("<br>"):
            names[k] = f"<br>{names[k]}"
    return {
        "tickmode": "array",
        "tickvals": at,
        "ticktext": names,
        "range": [0.0, length],
        "tickangle": 0,
    }


def _states_axis(rows: Sequence[Row], y: str, *, last: bool) -> dict[str, Any]:
    """Return the axis of the density of states; one mark, for there is little room, and its name below the last."""
    most = max(float(row["states_per_THz"]) for row in rows if row["kind"] == "states")
    power = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    mark = max((factor * power for factor in (1, 2, 5) if factor * power <= most), default=power)
    named = axis("states/THz" if last else "", domain=[_BANDS + 0.02, 1.0], anchor=f"y{y}")
    named["title"] |= {"font": {"size": 12}}
    return named | {
        "range": [0.0, 1.05 * most],
        "tickmode": "array",
        "tickvals": [mark],
        "ticktext": [f"{mark:g}"],
    }


def _zero(yaxis: str, lowest: float = 0.0) -> list[dict[str, Any]]:
    """Return the line at zero, and a shade below it down to `lowest`, where frequencies are imaginary."""
    across = {"xref": "paper", "x0": 0, "x1": 1, "yref": yaxis}
    found: list[dict[str, Any]] = [
        {"type": "line", **across, "y0": 0, "y1": 0, "line": {"color": QUIET, "width": 1}}
    ]
    if lowest < 0:
        found.append(
            {
                "type": "rect",
                **across,
                "y0": lowest,
                "y1": 0,
                "fillcolor": _SHADE,
                "line": {"width": 0},
                "layer": "below",
            }
        )
    return found


def _title(text: str, y: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": y, "xanchor": "left", "yanchor": "bottom"}
    return {"text": text, **place, "showarrow": False, "align": "left"}


def _learning(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any]:
    """Draw the errors of fits to more and more labels, sparse points of all frames and of the labelled ones."""
    traces = []
    for k, way in enumerate(dict.fromkeys(str(row["sparse_points_of"]) for row in rows)):
        mine = [row for row in rows if row["sparse_points_of"] == way]
        words = [
            f"{row['sparse_points'] or '?'} sparse points, {row['atoms'] or '?'} atoms"
            + (f"<br>lowest frequency {row['lowest_THz']:.2f} THz" if row["lowest_THz"] < -0.1 else "")
            for row in mine
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"sparse points of {way}",
                "x": [row["labels"] for row in mine],
                "y": [row["rmse_THz"] for row in mine],
                "text": words,
                "hovertemplate": "%{x} labels: %{y:.3g} THz<br>%{text}",
                "line": {"color": coloured(k), "dash": "dash" if k else "solid"},
                "marker": {"symbol": "square" if k else "circle", "size": 9},
            }
        )
    values = [float(row["rmse_THz"]) for row in rows if row["rmse_THz"] > 0]
    counts = [float(row["labels"]) for row in rows]
    if not values:
        return figure(traces, axis("labels"), axis("RMSE of frequencies (THz)"))
    return figure(
        traces,
        axis("labels (number of frames)", type="log", **decades(min(counts), max(counts))),
        axis("RMSE of frequencies (THz)", type="log", **decades(min(values), max(values))),
        showlegend=True,
        meta={"logarithmic": ["xaxis", "yaxis"]},
    )


def _elastic(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Draw the errors of moduli and elastic constants as bars, a colour for each crystal or potential."""
    known = [row for row in rows if row["error_percent"] is not None]
    if not known:
        return None
    several = len({row["crystal"] for row in known}) > 1
    key = "crystal" if several or len({row["method"] for row in known}) == 1 else "method"
    constants = sorted({str(row["constant"]) for row in known}, key=lambda name: (len(name), name))
    traces = []
    for k, name in enumerate(_names(known, key)):
        mine = [row for row in known if row[key] == name]
        traces.append(
            {
                "type": "bar",
                "name": name,
                "x": [row["constant"] for row in mine],
                "y": [row["error_percent"] for row in mine],
                "customdata": [
                    f"{row['potential_GPa']:.1f} GPa, reference {row['reference_GPa']:.1f}" for row in mine
                ],
                "hovertemplate": "%{x}: %{y:+.2f} %<br>%{customdata}",
                "marker": {"color": COLOURS[k % len(COLOURS)]},
            }
        )
    return figure(
        traces,
        axis("", type="category", categoryorder="array", categoryarray=constants),
        axis("error (% of the reference)"),
        barmode="group",
        showlegend=True,
        shapes=_zero("y"),
    )


def _names(rows: Iterable[Row], key: str) -> list[str]:
    return list(dict.fromkeys(str(row[key]) for row in rows))


def _nothing(rows: Sequence[Row], labels: Mapping[str, str]) -> None:
    """Draw nothing: the table is all there is."""


#: Name of `gapfactory figure` -> heading, what it shows, drawing, in the order of the page.
DRAWN: Final[dict[str, tuple[str, str, Draw]]] = {
    "phonons": (
        "Phonons",
        "Frequencies along the standard path and density of states, dashed by the reference; imaginary below zero.",
        _phonons,
    ),
    "elastic": ("Elastic constants", "Errors of moduli (Hill) and independent elastic constants.", _elastic),
    "elastic-constants": (
        "Table of elastic constants",
        "Relaxed crystals, standard axes; measured values where they are known.",
        _nothing,
    ),
    "vibration-fits": (
        "Settings, data and lattice parameters",
        "What the potential was fitted to, and the relaxed crystals.",
        _nothing,
    ),
    "phonons-primitives": (
        "Without supercells",
        "Phonons by the potential, and by one that was trained on strained primitive cells only (Fig. 1).",
        _phonons,
    ),
    "phonons-diagonal": (
        "Non-diagonal and diagonal supercells",
        "Phonons by fits to labels of the same cost, k-points times the cube of the atoms (Fig. 3).",
        _phonons,
    ),
    "phonons-learning": (
        "More and more labels",
        "Errors of fits to random parts of the labels (Fig. 4); the picture has the bands.",
        _learning,
    ),
    "phonons-bain": (
        "Bain's path",
        "Phonons from body-centred (η = 0) to face-centred cubic (η = 1) at one volume (Fig. 5).",
        _bain,
    ),
    "elastic-static": (
        "Adaptive and constant sigmas: elastic constants",
        "Errors with expected errors by component, and with constant ones (Fig. 7).",
        _elastic,
    ),
    "phonons-static": (
        "Adaptive and constant sigmas: phonons",
        "The same for phonons (Fig. 8).",
        _phonons,
    ),
}
