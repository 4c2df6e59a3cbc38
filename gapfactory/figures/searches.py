"""What searches found: structural densities of states on one axis, and pictures of the best structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory._spglib import ask_spglib
from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, legend_outside, new_figure, style_axes
from gapfactory.figures.cells import cell_pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from matplotlib.figure import Figure

    from gapfactory.analysis.ranking import Ranked
    from gapfactory.analysis.structural_density import StructuralDensity

__all__ = ["best_structures", "density_of_structures"]

#: Conventional cells with more atoms are not drawn: the cell of the search is.
_LARGEST = 120


def density_of_structures(data: StructuralDensity) -> Figure:
    """Draw structural densities of states one over the other, with a tick for each of the lowest structures below.

    The ticks are those of the lowest tenth of each search, 200 at the most: what a density hides is where its first
    structures lie.
    """
    figure = new_figure(6.8, 3.8)
    upper, lower = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [6, 0.35 + 0.3 * len(data.searches)]}
    )
    for k, search in enumerate(data.searches):
        colour = COLOURS[k % len(COLOURS)]
        label = f"{search.name} ({len(search.energies)})"
        upper.plot(data.axis, search.density, color=colour, linewidth=1.5, label=label)
        upper.fill_between(data.axis, search.density, color=colour, alpha=0.15, linewidth=0)
        lowest = search.energies[: min(200, max(1, len(search.energies) // 10))]
        lower.vlines(lowest, -k - 0.4, -k + 0.4, color=colour, linewidth=0.9)
    upper.set_ylim(bottom=0.0)
    upper.set_xlim(float(data.axis[0]), float(data.axis[-1]))
    hidden = sum(len(s.energies) - s.shown for s in data.searches)
    title = f"Gaussians of {1000 * data.smearing:g} meV/atom"
    if hidden:
        title += f"; {hidden} structure{'s' if hidden > 1 else ''} beyond the axis"
    style_axes(upper, "", "density of structures (1/eV)", title=title)
    style_axes(lower, "energy above the lowest structure (eV/atom)", "")
    lower.set_ylim(-len(data.searches) + 0.4, 0.6)
    lower.set_yticks([])
    lower.grid(visible=False)
    lower.spines["left"].set_visible(False)
    legend_outside(figure, [upper], title="structures found by")
    return figure


def best_structures(entries: Sequence[Ranked], symprec: float = 0.1) -> Figure:
    """Draw the structures of a ranking: place, space group, height per atom, and how often each was found.

    Cells are the conventional ones of the space groups, where these have 120 atoms at the most: the cell of a search
    may be any of the lattice, and the same structure looks different in each.

    Parameters
    ----------
    entries
        In the order of their places.
    symprec
        Tolerance with which the conventional cell is looked for, in Å.

    Raises
    ------
    EvidenceError
        None of them has its geometry.
    """
    drawn = []
    for place, entry in enumerate(entries, 1):
        if entry.structure.atoms is not None:
            height = entry.relative if entry.above_hull is None else entry.above_hull
            group = entry.symbol or "?"
            drawn.append(
                (
                    f"{place}. {group}  {height:+.3f} eV  {entry.copies}×",
                    _conventional(entry.structure.atoms, symprec),
                )
            )
    if not drawn:
        raise EvidenceError("no geometry of these structures was kept: there is nothing to draw")
    return cell_pictures(drawn)


def _conventional(atoms: Atoms, symprec: float) -> Atoms:
    from ase import Atoms as AseAtoms

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = ask_spglib("standardize_cell", cell, to_primitive=False, no_idealize=False, symprec=symprec)
    if found is None or len(found[2]) > _LARGEST:
        return atoms
    lattice, positions, numbers = found
    return AseAtoms(numbers, cell=lattice, scaled_positions=positions, pbc=True)
