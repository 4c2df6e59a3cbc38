"""Common look of all figures, set per figure and never globally."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "GREY", "MARKERS", "legend_outside", "new_figure", "style_axes"]

#: Okabe and Ito's palette, distinguishable with every common kind of colour blindness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#6b6b6b"
#: markers in the order in which campaigns are drawn; the paper's Fig. 5 uses triangle, square, circle
MARKERS = ("^", "s", "o", "D", "v", "P", "X")

_FONT = 9.0


def new_figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """Return an empty figure (inches) on an Agg canvas, laid out so that nothing overlaps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, xlabel: str, ylabel: str, *, title: str | None = None) -> None:
    """Set labels, font sizes and a light grid."""
    axes.set_xlabel(xlabel, fontsize=_FONT)
    axes.set_ylabel(ylabel, fontsize=_FONT)
    if title:
        axes.set_title(title, fontsize=_FONT, loc="left")
    axes.tick_params(labelsize=_FONT - 1.0, which="both")
    axes.grid(True, which="major", color="#d8d8d8", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def legend_outside(figure: Figure, axes: Sequence[Axes], *, title: str | None = None) -> None:
    """Put one legend of all labelled artists to the right of the axes; none when there is nothing to tell."""
    handles, labels = [], []
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    if handles:
        legend = figure.legend(
            handles, labels, loc="outside right upper", fontsize=_FONT - 1.0, frameon=False, title=title
        )
        legend.get_title().set_fontsize(_FONT - 1.0)
