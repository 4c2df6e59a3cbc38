"""Formation energies over composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.figures._style import COLOURS, GREY, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from gapfactory.analysis.formation import FormationHull

__all__ = ["formation_energies"]


def formation_energies(
    hull: FormationHull, known: Mapping[str, tuple[float, float, float | None]] | None = None
) -> Figure:
    """Draw formation energies of labelled structures with their lower hull, and known crystals by both methods.

    Parameters
    ----------
    hull
        Of the labelled structures, by the reference.
    known
        Crystals by name: fraction of the second element, formation energy by the reference and by the potential
        (eV/atom; None where the potential has none).
    """
    figure = new_figure(6.8, 4.4)
    ax = figure.subplots()
    ax.plot(
        hull.fractions,
        hull.energies,
        linestyle="none",
        marker="o",
        markersize=3.5,
        alpha=0.5,
        markeredgewidth=0,
        color=COLOURS[0],
        label=f"labelled ({len(hull.energies)})",
    )
    ax.plot(
        hull.fractions[hull.corners],
        hull.energies[hull.corners],
        color="black",
        linewidth=1.3,
        marker="s",
        markersize=4,
        label="hull",
    )
    crystals = known or {}
    for number, (name, (fraction, reference, potential)) in enumerate(sorted(crystals.items())):
        ax.plot(
            fraction,
            reference,
            marker="_",
            markersize=22,
            color=COLOURS[1],
            linestyle="none",
            label=None if number else "known crystals, reference",
        )
        ax.annotate(name, (fraction, reference), (13, -3), textcoords="offset points", fontsize=8)
        if potential is not None:
            ax.plot(
                fraction,
                potential,
                marker="x",
                markersize=7,
                color=COLOURS[2],
                linestyle="none",
                label="known crystals, potential" if number == 0 else None,
            )
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    given = [value for _, *both in crystals.values() for value in both if value is not None]
    shown = np.concatenate([hull.energies, given])
    low, high = float(shown.min()), float(np.quantile(hull.energies, 0.98))
    span = max(high - low, 1e-3)
    ax.set_ylim(low - 0.08 * span, high + 0.12 * span)
    hidden = int((hull.energies > high + 0.12 * span).sum())
    width = hull.ends[1] - hull.ends[0]
    ax.set_xlim(hull.ends[0] - 0.06 * width, hull.ends[1] + 0.12 * width)
    style_axes(
        ax,
        f"fraction of {hull.elements[1]} in {hull.elements[0]}-{hull.elements[1]}",
        "formation energy (eV/atom)",
        title=f"{hidden} structure{'s' if hidden > 1 else ''} above the axis not shown" if hidden else None,
    )
    legend_outside(figure, [ax])
    return figure
