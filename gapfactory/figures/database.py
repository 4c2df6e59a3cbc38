"""The labelled structures of a campaign: energy against volume, and energies as boxes (Figs. 1a and 1b of 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, MARKERS, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gapfactory.analysis.database_overview import DatabaseOverview
    from gapfactory.analysis.energy_distribution import EnergyBox

__all__ = ["database_boxes", "database_energy_volume"]

#: Energies are drawn linearly up to here (eV/atom) and logarithmically above, where some lie beyond `_FAR`.
_LINEAR, _FAR = 1.0, 3.0


def database_energy_volume(
    data: DatabaseOverview, *, by: Literal["origin", "component", "generation"] = "origin"
) -> Figure:
    """Draw the labelled structures over volume (Fig. 1a of 2018), coloured by origin, component or generation.

    Where colours do not tell it, the component is told by the marker.

    Parameters
    ----------
    data
        The structures.
    by
        What the colour means.

    Raises
    ------
    EvidenceError
        There are none.
    """
    if not data.points:
        raise EvidenceError("no labelled structures to draw")
    figure = new_figure(7.0, 4.4)
    ax = figure.subplots()
    volumes = np.array([p.volume for p in data.points])
    groups = [p.origin if by == "origin" else p.component for p in data.points]
    marks = [p.component if by != "component" else p.origin for p in data.points]
    generations = sorted({p.generation for p in data.points})
    # distorted crystals come from no search
    unnamed = "of no component" if len(data.components) > 1 else "structures"
    mappable = None
    for k, mark in enumerate(m for m in (*data.components, *data.origins) if m in set(marks)):
        for i, group in enumerate(_in_order(data, by)):
            mask = np.array(
                [m == mark and (by == "generation" or g == group) for m, g in zip(marks, groups, strict=True)]
            )
            if not mask.any():
                continue
            name = ", ".join(n for n in (group, mark) if n) or unnamed
            drawn = ax.scatter(
                volumes[mask],
                data.heights[mask],
                s=13,
                alpha=0.7,
                linewidths=0.0,
                marker=("o", *MARKERS)[k % (len(MARKERS) + 1)],
                label=f"{name} ({int(mask.sum())})",
                **(
                    {
                        "c": [data.points[j].generation for j in np.flatnonzero(mask)],
                        "cmap": "viridis",
                        "vmin": generations[0],
                        "vmax": max(generations[-1], generations[0] + 1),
                    }
                    if by == "generation"
                    else {"color": COLOURS[i % len(COLOURS)]}
                ),
            )
            mappable = drawn if by == "generation" else None
    if mappable is not None:
        from matplotlib.ticker import MaxNLocator

        bar = figure.colorbar(mappable, ax=ax, pad=0.02, ticks=MaxNLocator(integer=True))
        bar.set_label("generation", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    _energy_axis(ax, data)
    style_axes(ax, "volume (Å$^3$/atom)", f"energy above {data.zero} (eV/atom)")
    legend_outside(figure, [ax])
    return figure


def _in_order(data: DatabaseOverview, by: str) -> tuple[str, ...]:
    """Return the groups that have a colour each; with generations, colours are a scale and there is one group."""
    return {"origin": data.origins, "component": data.components}.get(by, ("",))


def _energy_axis(ax: Axes, data: DatabaseOverview) -> None:
    """Cut the axis above the highest energy; where the range is wide, draw it logarithmically above 1 eV/atom."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(0.0, float(data.heights.min())), float(data.heights.max())
    if high <= _FAR:
        room = 0.04 * max(high - low, 1e-3)
        ax.set_ylim(low - room, high + 2 * room)
        return
    ax.set_yscale("symlog", linthresh=_LINEAR, linscale=1.5)
    ax.set_ylim(low - 0.05, high * 1.3)
    ticks = [
        t
        for t in (-1, -0.5, 0, 0.25, 0.5, 0.75, 1, 2, 5, 10, 20, 50, 100, 1000)
        if low - 0.05 <= t <= high * 1.3
    ]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.axhline(_LINEAR, color="#bbbbbb", linestyle=":", linewidth=1)


def database_boxes(data: DatabaseOverview) -> Figure:
    """Draw how energies are spread (Fig. 1b of 2018): median, box of 68 %, whiskers to the whole range.

    One panel for each origin, generations side by side, one colour for each component.

    Raises
    ------
    EvidenceError
        There are no structures.
    """
    groups = data.boxes()
    if not groups:
        raise EvidenceError("no labelled structures to draw")
    slots = {o: sorted({g.generation for g in groups if g.origin == o}) for o in data.origins}
    shares = [0.6 + len(s) * max(0.5, 0.3 * len(data.components)) for s in slots.values()]
    width = 1.4 + 0.75 * sum(shares) + (1.5 if len(data.components) > 1 else 0.3)
    figure = new_figure(float(np.clip(width, 5.4, 16.0)), 4.0)
    axes = np.atleast_1d(figure.subplots(1, len(slots), sharey=True, width_ratios=shares))
    several = len(data.components) > 1
    for ax, (origin, present) in zip(axes, slots.items(), strict=True):
        mine = [g for g in groups if g.origin == origin]
        beside = [c for c in data.components if c in {g.component for g in mine}]
        # a component that is missing in a generation leaves its place empty
        each = min(0.8 / len(beside), 0.5)
        for group in mine:
            x = (
                present.index(group.generation)
                + (beside.index(group.component) - (len(beside) - 1) / 2) * each
            )
            _box(ax, x, 0.8 * each, group.box, _colour(data, group.component))
        ax.set_xlim(-0.6, len(present) - 0.4)
        ax.set_xticks(range(len(present)), [str(g) for g in present])
        first = ax is axes[0]
        style_axes(ax, "", f"energy above {data.zero} (eV/atom)" if first else "")
        ax.set_title(_broken(origin), fontsize=8.5, loc="left")
        ax.grid(visible=False, axis="x")
    for ax in axes:
        _energy_axis(ax, data)
    figure.supxlabel("generation", fontsize=9)
    if several:
        for component in filter(None, data.components):
            axes[0].plot([], [], color=_colour(data, component), linewidth=5, alpha=0.5, label=component)
        legend_outside(figure, list(axes))
    return figure


def _colour(data: DatabaseOverview, component: str) -> str:
    """Return the colour of a component; what belongs to none is grey where there are several."""
    if not component and len(data.components) > 1:
        return GREY
    return COLOURS[data.components.index(component) % len(COLOURS)]


def _broken(text: str) -> str:
    """Return a title of a narrow panel on two lines."""
    words = text.split()
    half = min(range(1, len(words)), key=lambda k: abs(len(" ".join(words[:k])) - len(text) / 2), default=0)
    return f"{' '.join(words[:half])}\n{' '.join(words[half:])}" if half else f"{text}\n"


def _box(ax: Axes, x: float, width: float, box: EnergyBox, colour: str) -> None:
    """Draw one box."""
    from matplotlib.patches import Rectangle

    ax.vlines([x, x], [box.least, box.high], [box.low, box.most], color=colour, linewidth=1.0)
    for end in (box.least, box.most):
        ax.hlines(end, x - 0.25 * width, x + 0.25 * width, color=colour, linewidth=1.0)
    ax.add_patch(
        Rectangle(
            (x - width / 2, box.low),
            width,
            box.high - box.low,
            facecolor=colour,
            edgecolor=colour,
            alpha=0.35,
            zorder=2,
        )
    )
    ax.hlines(box.median, x - width / 2, x + width / 2, color="black", linewidth=2.2, zorder=3)
    if box.n == 1:
        ax.plot([x], [box.median], marker="o", markersize=3, color=GREY, zorder=4)
