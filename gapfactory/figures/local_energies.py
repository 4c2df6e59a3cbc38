"""Local energies drawn on structures, side by side with one scale of colours (Fig. 4 of 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.analysis.local_energies import common_scale
from gapfactory.figures._style import new_figure
from gapfactory.figures.cells import draw_atoms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from gapfactory.analysis.local_energies import LocalEnergies

__all__ = ["local_energy_pictures"]

#: blue is favourable and red is not, as in the paper; also told apart without red or green cones
_MAP = "RdYlBu_r"


def local_energy_pictures(
    models: Sequence[LocalEnergies], *, scale: tuple[float, float] | None = None
) -> Figure:
    """Draw structures side by side, each atom coloured by its local energy, with one colour bar.

    Parameters
    ----------
    models
        Usually two.
    scale
        Lowest and highest energy of the colours (eV); by default those of all atoms drawn.

    Raises
    ------
    EvidenceError
        There is no atom.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low, high = scale or common_scale(models)
    norm, colours = Normalize(low, high, clip=True), colormaps[_MAP]
    figure = new_figure(3.9 * max(len(models), 1) + 1.0, 4.0)
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for ax, model in zip(axes, models, strict=True):
        draw_atoms(ax, model.atoms, colours=[colours(norm(e)) for e in model.energies])
        ax.set_anchor("N")
        # names come from outside: a dollar sign in one begins no formula
        ax.set_title(
            f"{model.title}\n{model.atoms.get_chemical_formula()}, mean {model.mean:.3f} eV/atom\n{model.potential}",
            fontsize=7.5,
            linespacing=1.3,
            parse_math=False,
        )
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=list(axes), shrink=0.85, pad=0.02)
    bar.set_label(
        "local energy relative to the free atom (eV)\nfavourable (low) to unfavourable (high)", fontsize=8.5
    )
    bar.ax.tick_params(labelsize=8)
    return figure
