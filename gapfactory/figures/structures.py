"""Structures in the plane: similarity map, and energies over volume with the hull that sets the sigmas."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, MARKERS, legend_outside, new_figure, style_axes
from gapfactory.structures import composition_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from gapfactory.analysis.similarity_map import SimilarityMap

__all__ = ["hull_plot", "similarity_map_plot"]

_POINT: Final[dict[str, Any]] = {"s": 22, "linewidths": 0.3, "edgecolors": "white"}
#: A legend above the axes.
_ABOVE: Final[dict[str, Any]] = {
    "loc": "lower left",
    "bbox_to_anchor": (0.0, 1.0),
    "fontsize": 8,
    "frameon": False,
    "borderaxespad": 0.2,
    "handletextpad": 0.2,
}


def similarity_map_plot(data: SimilarityMap) -> Figure:
    """Draw the similarity map (Fig. 5): symbols by system, colour by mean coordination number.

    A system of several compositions has a second panel: the same points coloured by composition.

    Raises
    ------
    EvidenceError
        The map is empty.
    """
    if not len(data.coordinates):
        raise EvidenceError("no structures on the map")
    mixed = len(set(zip(data.groups, data.compositions, strict=True))) > len(set(data.groups))
    figure = new_figure(10.6 if mixed else 6.6, 4.6)
    axes = figure.subplots(1, 2 if mixed else 1, sharex=True, sharey=True, squeeze=False)[0]
    low = float(data.coordination.min())
    high = float(max(data.coordination.max(), low + 1))
    _coloured_points(figure, axes[0], data, data.coordination, (low, high), "mean coordination number")
    if mixed:
        scale = composition_scale(data.compositions)
        if scale is not None:
            text, shares = scale
            _coloured_points(figure, axes[1], data, np.array(shares), (0.0, 1.0), text)
        else:
            _points_by_composition(axes[1], data)
    for ax in axes:
        style_axes(
            ax,
            f"first component ({100 * data.explained[0]:.0f} % of the variance)",
            f"second component ({100 * data.explained[1]:.0f} %)",
        )
        ax.tick_params(labelbottom=False, labelleft=False, length=0)
    axes[0].legend(ncols=4, **_ABOVE)
    return figure


def _coloured_points(
    figure: Figure,
    ax: Axes,
    data: SimilarityMap,
    values: NDArray[np.float64],
    limits: tuple[float, float],
    text: str,
) -> None:
    """Draw the points of a map, a symbol for each system, with a bar of colours for the values."""
    mappable = None
    for i, name in enumerate(dict.fromkeys(data.groups)):
        mask = np.array([g == name for g in data.groups])
        mappable = ax.scatter(
            data.coordinates[mask, 0],
            data.coordinates[mask, 1],
            c=values[mask],
            vmin=limits[0],
            vmax=limits[1],
            cmap="viridis",
            marker=MARKERS[i % len(MARKERS)],
            label=f"{name} ({mask.sum()})",
            **_POINT,
        )
    if mappable is not None:
        bar = figure.colorbar(mappable, ax=ax, pad=0.02)
        bar.set_label(text, fontsize=9)
        bar.ax.tick_params(labelsize=8)


def _points_by_composition(ax: Axes, data: SimilarityMap) -> None:
    """Draw the points of a map in a colour for each of the commonest compositions, and grey for the others."""
    common = Counter(data.compositions).most_common()
    named = [name for name, _ in common[: len(COLOURS)]]
    for colour, name in [(GREY, None), *zip(COLOURS, named, strict=False)]:
        mask = np.array([c == name or (name is None and c not in named) for c in data.compositions])
        if mask.any():
            ax.scatter(
                data.coordinates[mask, 0],
                data.coordinates[mask, 1],
                color=colour,
                label=f"{name or 'other'} ({mask.sum()})",
                **_POINT,
            )
    ax.legend(ncols=3, **_ABOVE)


def hull_plot(
    volumes: ArrayLike,
    energies: ArrayLike,
    hull_volumes: ArrayLike,
    hull_energies: ArrayLike,
    distances: ArrayLike,
    *,
    edges: tuple[float, float] = (0.1, 1.0),
) -> Figure:
    """Draw structures over volume with the lower hull, coloured by their distance to it (the sigma rule).

    Parameters
    ----------
    volumes, energies
        Shape (n,), Å^3/atom and eV/atom.
    hull_volumes, hull_energies
        Corners of the lower convex hull, shape (m,), any order.
    distances
        Shape (n,), energy above the hull at the same volume, eV/atom.
    edges
        Where the sigma starts and stops to grow, eV/atom; dotted lines parallel to the hull.

    Raises
    ------
    EvidenceError
        No structures, or shapes that do not pair up.
    """
    v, e, d = (np.asarray(a, dtype=float) for a in (volumes, energies, distances))
    if v.size == 0 or not v.shape == e.shape == d.shape:
        raise EvidenceError(f"cannot draw volumes {v.shape}, energies {e.shape} and distances {d.shape}")
    hv, he = np.asarray(hull_volumes, dtype=float), np.asarray(hull_energies, dtype=float)
    order = np.argsort(hv)
    hv, he = hv[order], he[order]
    zero = min(float(e.min()), float(he.min()) if he.size else np.inf)
    figure = new_figure(6.6, 4.2)
    ax = figure.subplots()
    for low, high, colour, name in (
        (-np.inf, edges[0], COLOURS[2], f"up to {edges[0]:g} eV above: tightest"),
        (edges[0], edges[1], COLOURS[4], f"{edges[0]:g} to {edges[1]:g} eV: growing"),
        (edges[1], np.inf, COLOURS[1], f"above {edges[1]:g} eV: loosest"),
    ):
        mask = (d > low) & (d <= high)
        if mask.any():
            ax.plot(
                v[mask],
                e[mask] - zero,
                linestyle="none",
                marker="o",
                markersize=3.2,
                alpha=0.6,
                markeredgewidth=0,
                color=colour,
                label=f"{name} ({mask.sum()})",
            )
    if hv.size:
        ax.plot(hv, he - zero, color="black", linewidth=1.4, marker="s", markersize=3, label="hull")
        for edge in edges:
            ax.plot(hv, he - zero + edge, color=GREY, linewidth=0.9, linestyle=":")
    # exploded cells would hide the hull
    limit = float(np.quantile(e - zero, 0.98))
    if limit > 0:
        ax.set_ylim(-0.04 * limit, 1.15 * limit)
    hidden = int((e - zero > 1.15 * limit).sum()) if limit > 0 else 0
    title = f"{hidden} structure{'s' if hidden > 1 else ''} above the axis not shown" if hidden else None
    style_axes(ax, "volume (Å$^3$/atom)", "energy above the lowest (eV/atom)", title=title)
    legend_outside(figure, [ax], title="distance to the hull and sigma")
    return figure
