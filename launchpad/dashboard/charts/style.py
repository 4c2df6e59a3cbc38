"""What all charts share: colours, axes and the shape of a figure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from gapfactory.io.tables import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COLOURS",
    "INK",
    "QUIET",
    "SYMBOLS",
    "axis",
    "band",
    "coloured",
    "decades",
    "figure",
    "panels",
    "plotly_text",
    "points",
]

#: Okabe and Ito's palette without black and yellow, which one of both papers hides; a violet in place of them.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8F45E6")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
INK: Final = "var(--ink)"
QUIET: Final = "var(--quiet)"
#: More points than this are drawn by WebGL.
_MANY: Final = 800


def coloured(index: int) -> str:
    """Return the colour of the series with this index."""
    return COLOURS[index % len(COLOURS)]


def plotly_text(label: str) -> str:
    """Return a label that was written for matplotlib, ``B$_{12}$``, as Plotly reads it."""
    return re.sub(r"\$_\{?(\w+)\}?\$", r"<sub>\1</sub>", label)


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with its title, which names the unit."""
    return {"title": {"text": title}, "automargin": True, **more}


def decades(low: float, high: float) -> dict[str, Any]:
    """Return the marks of a logarithmic axis in plain numbers: 1, 2, 5, 10, ..., or decades alone."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    factors = (1, 2, 5) if math.log10(high / low) <= 3 else (1,)
    values = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]
    return {"tickmode": "array", "tickvals": values, "ticktext": [f"{value:g}" for value in values]}


def points(
    name: str, x: Sequence[Any], y: Sequence[Any], *, ids: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a series of points; with `ids` a click leads to the structure.

    Parameters
    ----------
    name
        In the legend.
    x, y
        Shape (n,).
    ids
        Ids of structures, shape (n,).
    more
        Further fields of the trace.
    """
    trace: dict[str, Any] = {
        "type": "scattergl" if len(x) > _MANY else "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
    }
    if ids is not None:
        trace["customdata"] = list(ids)
        trace["meta"] = {"structures": True}
    return trace | more


def band(
    name: str, x: Sequence[Any], low: Sequence[Any], high: Sequence[Any], colour: str, **more: Any
) -> dict[str, Any]:
    """Return an interval about a line, as one closed and half transparent area."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [*x, *reversed(list(x))],
        "y": [*low, *reversed(list(high))],
        "fill": "toself",
        "fillcolor": f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.18)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    } | more


def figure(
    traces: Sequence[dict[str, Any]],
    xaxis: dict[str, Any],
    yaxis: dict[str, Any],
    *,
    height: int = 420,
    **layout: Any,
) -> dict[str, Any]:
    """Return a figure with one pair of axes as plain JSON; what is not finite becomes null."""
    return dict(
        plain({"data": list(traces), "layout": {"xaxis": xaxis, "yaxis": yaxis, "height": height} | layout})
    )


def panels(
    rows: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    xaxis: dict[str, Any],
    *,
    height: int,
    titles: Sequence[str] = (),
    **layout: Any,
) -> dict[str, Any]:
    """Return panels above each other that share the x axis.

    Parameters
    ----------
    rows
        The y axis of each panel with its traces, from top to bottom.
    xaxis
        The common one, written below the last.
    height
        Of all panels together, pixels.
    titles
        Of each panel, written above it.
    layout
        Further fields.
    """
    gap = (36 if titles else 26) / height
    share = (1.0 - gap * (len(rows) - 1)) / len(rows)
    axes: dict[str, Any] = {}
    if titles:
        axes["annotations"] = [
            _above(title, 1.0 - index * (share + gap)) for index, title in enumerate(titles)
        ]
    traces: list[dict[str, Any]] = []
    for index, (yaxis, members) in enumerate(rows):
        suffix = "" if index == 0 else str(index + 1)
        top = 1.0 - index * (share + gap)
        axes[f"yaxis{suffix}"] = yaxis | {"domain": [max(top - share, 0.0), top]}
        traces += [trace | {"yaxis": f"y{suffix}"} for trace in members]
    lowest = "y" if len(rows) == 1 else f"y{len(rows)}"
    return dict(
        plain(
            {
                "data": traces,
                "layout": {"xaxis": xaxis | {"anchor": lowest}, "height": height} | axes | layout,
            }
        )
    )


def _above(text: str, y: float) -> dict[str, Any]:
    """Return the title of a panel whose upper edge is at `y` of the figure's height."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": y,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "align": "left",
    }
