"""The figures of the 2018 and 2022 papers: rows of `launchpad.figure_data` in, Plotly figures out.

`gapfactory figure` draws the same rows with matplotlib and prints them; here they are the table and the CSV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.origins import by_origin
from launchpad.dashboard.charts import vibrations
from launchpad.dashboard.charts.catalogue import TABLE_ROWS
from launchpad.dashboard.charts.style import QUIET, SYMBOLS, axis, coloured, decades, figure, panels, points
from launchpad.figure_data import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    #: One flat row, units in the names.
    Row = Mapping[str, Any]

__all__ = ["ASK_POTENTIALS", "PUBLISHED", "VIBRATIONS", "Published", "published_chart"]

#: Energies are linear up to here (eV/atom) where a few lie far above.
_LINEAR: Final = 1.0
#: Errors below this (meV/atom) are drawn at it, as `gapfactory figure` does.
_FLOOR_MEV: Final = 0.1
#: Method of curves that no potential gave, as the rows call it.
REFERENCE: Final = "reference"
_DASHES: Final = ("solid", "dash", "dot", "dashdot")


def _energy_volume(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any]:
    """Draw each labelled structure over its volume: colour by origin, symbol by component."""
    origins, components = sorted(_named(rows, "origin"), key=by_origin), _components(rows)
    generations = [row["generation"] for row in rows]
    newest = max(generations)
    traces: list[dict[str, Any]] = []
    for origin in origins:
        for component in components:
            mine = [row for row in rows if (row["origin"], row["component"]) == (origin, component)]
            if not mine:
                continue
            name = ", ".join(text for text in (origin, component) if text)
            scale = {
                "color": [row["generation"] for row in mine],
                "colorscale": "Viridis",
                "cmin": min(generations),
                "cmax": max(newest, min(generations) + 1),
                "showscale": not traces,
                "colorbar": {"title": {"text": "generation"}, "thickness": 12},
            }
            as_origin = {"color": coloured(origins.index(origin)), "showscale": False}
            as_component = {"color": _colour(component, components), "showscale": False}
            trace = points(
                f"{name} ({len(mine)})",
                [row["volume_A3_per_atom"] for row in mine],
                [row["above_zero_eV_per_atom"] for row in mine],
                ids=[row["id"] for row in mine],
                marker={
                    "symbol": SYMBOLS[components.index(component) % len(SYMBOLS)],
                    "size": 7,
                    "opacity": 0.7,
                    **as_origin,
                },
                hovertemplate="%{customdata}<br>%{y:.4f} eV/atom, %{x:.2f} Å³/atom",
            )
            trace["meta"] |= {"by": {"component": as_component, "generation": scale}}
            traces.append(trace)
    heights = [row["above_zero_eV_per_atom"] for row in rows]
    ways = ["origin", *(["component"] if len(components) > 1 else []), "generation"]
    return figure(
        traces,
        axis("volume (Å³/atom)"),
        axis(f"energy above {_zero(rows, labels)} (eV/atom)"),
        height=480,
        meta={"by": ways} | _bent(heights),
    )


def _energy_boxes(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any]:
    """Draw the boxes of each generation, one panel for each origin, one colour for each component."""
    components = _components(rows)
    panels_, titles, heights = [], [], []
    for origin in _named(rows, "origin"):
        traces: list[dict[str, Any]] = []
        of = [row for row in rows if row["origin"] == origin]
        beside = [name for name in components if name in {row["component"] for row in of}]
        each = min(0.8 / len(beside), 0.5)
        for k, component in enumerate(beside):
            mine = [row for row in of if row["component"] == component]
            x = [row["generation"] + (k - (len(beside) - 1) / 2) * each for row in mine]
            traces += _boxes(component, mine, x, 0.8 * each, _colour(component, components))
        heights += [row[f"{end}_eV_per_atom"] for row in of for end in ("lowest", "highest")]
        titles.append(f"{origin} ({sum(row['n'] for row in of)})")
        panels_.append((axis("above hull (eV/atom)"), traces))
    # each component once in the legend
    seen: set[str] = set()
    for _, traces in panels_:
        for trace in traces:
            if trace["type"] == "box":
                trace["showlegend"] = trace["name"] not in seen and len(components) > 1
                seen.add(trace["name"])
    generations = [row["generation"] for row in rows]
    span = max(generations) - min(generations)
    return panels(
        panels_,
        axis("generation", tickmode="linear", tick0=0, dtick=max(1, (span + 11) // 12)),
        height=120 + 190 * len(panels_),
        titles=titles,
        boxmode="overlay",
        meta=_bent(heights),
    )


def _boxes(
    component: str, rows: Sequence[Row], x: Sequence[float], width: float, colour: str
) -> list[dict[str, Any]]:
    """Return boxes that have been counted, and what the pointer finds at their medians."""
    name = component or "of no component"
    drawn: dict[str, Any] = {
        "type": "box",
        "name": name,
        "x": list(x),
        "lowerfence": [row["lowest_eV_per_atom"] for row in rows],
        "q1": [row["percentile_16_eV_per_atom"] for row in rows],
        "median": [row["median_eV_per_atom"] for row in rows],
        "q3": [row["percentile_84_eV_per_atom"] for row in rows],
        "upperfence": [row["highest_eV_per_atom"] for row in rows],
        "width": width,
        "line": {"color": colour, "width": 1.5},
        "fillcolor": "rgba(0,0,0,0)",
        "legendgroup": name,
        "hoverinfo": "skip",
    }
    words = [
        f"generation {row['generation']}{f', {component}' if component else ''}: {row['n']} structures<br>"
        f"median {row['median_eV_per_atom']:.3f}, 68 % {row['percentile_16_eV_per_atom']:.3f} to "
        f"{row['percentile_84_eV_per_atom']:.3f}, all {row['lowest_eV_per_atom']:.3f} to "
        f"{row['highest_eV_per_atom']:.3f} eV/atom"
        for row in rows
    ]
    medians = points(
        name,
        list(x),
        [row["median_eV_per_atom"] for row in rows],
        customdata=words,
        marker={"color": colour, "size": 7, "symbol": "line-ew-open", "line": {"width": 3}},
        hovertemplate="%{customdata}<extra></extra>",
        legendgroup=name,
        showlegend=False,
    )
    return [drawn, medians]


def _distorted_crystals(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Draw the error of each potential on the distorted crystals of each phase; hollow where it was trained on them."""
    potentials, known = _named(rows, "potential"), [row for row in rows if row["n"]]
    if not known:
        return None
    traces = []
    for k, phase in enumerate(_named(known, "phase")):
        mine = [row for row in known if row["phase"] == phase]
        symbol = SYMBOLS[k % len(SYMBOLS)]
        words = [
            f"{row['n']} crystals"
            + (", trained on" if row["trained"] else "")
            + (f", {row['unusable']} refused" if row["unusable"] else "")
            for row in mine
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": labels.get(phase, phase),
                "x": [row["potential"] for row in mine],
                "y": [max(row["rmse_meV_per_atom"], _FLOOR_MEV) for row in mine],
                "text": words,
                "hovertemplate": "potential %{x}: %{y:.4g} meV/atom<br>%{text}",
                "line": {"color": coloured(k)},
                "marker": {
                    "symbol": [f"{symbol}-open" if row["trained"] else symbol for row in mine],
                    "size": 9,
                },
            }
        )
    values = [value for trace in traces for value in trace["y"]]
    return figure(
        traces,
        # "4 + C" stands beside "4": they are names, in the order in which they were fitted
        axis("potential of generation", type="category", categoryorder="array", categoryarray=potentials),
        axis("RMSE of energies (meV/atom)", type="log", **decades(min(values), max(values))),
        # also of a single phase one sees which it is
        showlegend=True,
        meta={"logarithmic": ["yaxis"]},
    )


def _polymorphs(rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any]:
    """Draw each phase over volume: symbols of the reference, a line of each potential."""
    phases, methods = _named(rows, "phase"), _named(rows, "method")
    looks = {
        method: {"dash": _DASHES[k % len(_DASHES)], "width": 1.5 if k else 2.5}
        for k, method in enumerate(method for method in methods if method != REFERENCE)
    }
    traces: list[dict[str, Any]] = []
    for k, phase in enumerate(phases):
        label = labels.get(phase, phase)
        for method in methods:
            mine = sorted(
                (row for row in rows if (row["phase"], row["method"]) == (phase, method)),
                key=lambda row: row["volume_A3_per_atom"],
            )
            if not mine:
                continue
            trace = points(
                label,
                [row["volume_A3_per_atom"] for row in mine],
                [row["above_zero_eV_per_atom"] for row in mine],
                marker={"symbol": f"{SYMBOLS[k % len(SYMBOLS)]}-open", "color": coloured(k), "size": 9},
                hovertemplate=f"%{{x:.3f}} Å³/atom<br>%{{y:.4f}} eV/atom<extra>{label}, {method}</extra>",
                legendgroup=phase,
                showlegend=not any(other.get("legendgroup") == phase for other in traces),
            )
            if method != REFERENCE:
                trace |= {"type": "scatter", "mode": "lines", "line": {"color": coloured(k), **looks[method]}}
            traces.append(trace)
    # what symbols and lines mean, once for all phases
    meanings: list[dict[str, Any]] = [
        {"mode": "lines", "name": method, "line": {"color": QUIET, **look}} for method, look in looks.items()
    ]
    if REFERENCE in methods:
        meanings.append(
            {"mode": "markers", "name": "reference", "marker": {"symbol": "circle-open", "color": QUIET}}
        )
    traces += [{"type": "scatter", "x": [None], "y": [None], "hoverinfo": "skip"} | more for more in meanings]
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0}
    return figure(
        traces,
        axis("volume (Å³/atom)"),
        axis("energy above the lowest (eV/atom)"),
        height=480,
        shapes=[zero | {"line": {"color": QUIET, "width": 1}}],
    )


def _components(rows: Sequence[Row]) -> list[str]:
    """Return the components by name, the empty one last."""
    return sorted(_named(rows, "component"), key=lambda name: (not name, name))


def _colour(component: str, components: Sequence[str]) -> str:
    """Return the colour of a component; what belongs to none is grey where there are several."""
    return QUIET if not component and len(components) > 1 else coloured(components.index(component))


def _named(rows: Sequence[Row], key: str) -> list[str]:
    """Return the names in a column, in the order in which they first occur."""
    return list(dict.fromkeys(row[key] for row in rows))


def _zero(rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    name = str(rows[0]["zero"])
    return labels.get(name, name)


def _bent(heights: Sequence[float]) -> dict[str, Any]:
    return {"bent": {"axes": ["y"], "linear_to": _LINEAR}} if max(heights) > 3 * _LINEAR else {}


@dataclass(frozen=True)
class Published:
    """A figure of the papers as a page shows it.

    Attributes
    ----------
    title, caption
        Heading, and what it shows.
    draw
        Makes the Plotly figure of rows and of labels by phase; None where none of the rows can be drawn.
    """

    title: str
    caption: str
    draw: Callable[[Sequence[Row], Mapping[str, str]], dict[str, Any] | None]


#: Name of `gapfactory figure` -> chart, in the order of the page. The others need a file, or are pictures of atoms.
PUBLISHED: Final = {
    "energy-volume": Published(
        "Energy over volume",
        "Every labelled structure, by what it is and by the component of the search that built its cell, above the "
        "lowest named phase by the reference (Fig. 1a).",
        _energy_volume,
    ),
    "energy-boxes": Published(
        "How energies are spread",
        "Median, box of 68 % and whole range of the labelled structures of each generation, above the convex hull of "
        "all; one panel for each origin (Fig. 1b).",
        _energy_boxes,
    ),
    "distorted-crystals": Published(
        "Errors on distorted crystals",
        "Root mean square errors of each generation's potential on distorted crystals of named phases (Fig. 1c). "
        "Hollow symbols: the potential was trained on these very crystals.",
        _distorted_crystals,
    ),
    "polymorphs": Published(
        "Phases over volume",
        "Symbols are the reference, the thick line the newest potential, the thin one an earlier potential that was "
        "fitted to the same data (Fig. 2).",
        _polymorphs,
    ),
}

#: The same of vibrations and elasticity, which have a page of their own.
VIBRATIONS: Final = {name: Published(*known) for name, known in vibrations.DRAWN.items()}

#: Those for which every potential of a campaign is asked.
ASK_POTENTIALS: Final = frozenset({"distorted-crystals"})


def published_chart(
    name: str, rows: Sequence[Row], notes: Sequence[str], labels: Mapping[str, str], missing: str = ""
) -> dict[str, Any]:
    """Return a figure as a page shows it: words, Plotly figure and the first rows of its table.

    Parameters
    ----------
    name
        Key of `PUBLISHED` or `VIBRATIONS`.
    rows
        Its numbers; none where it cannot be drawn.
    notes
        What people should know of it.
    labels
        Phase -> how figures call it.
    missing
        Why it cannot be drawn.
    """
    known = (PUBLISHED | VIBRATIONS)[name]
    drawn = known.draw(rows, labels) if rows else None
    if rows and name in TABLES:
        missing = "The table is all there is."
    return {
        "key": name,
        "title": known.title,
        "caption": " ".join([known.caption, *(f"{note[:1].upper()}{note[1:]}." for note in notes)]),
        "missing": "" if drawn is not None else missing or "There is nothing to draw.",
        "figure": drawn,
        # the script links what is called so to its page
        "header": ["structure" if key == "id" else key for key in (rows[0] if rows else ())],
        "rows": [list(row.values()) for row in rows[:TABLE_ROWS]],
        "n_rows": len(rows),
    }
