"""What labels cost: seconds of single points, by engine, cutoff, k-points and size of the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.campaign import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.campaign.model import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe

__all__ = ["count_atom_labels", "curve_calls", "label_basis", "label_seconds"]

#: Seconds of a plane-wave single point: for itself, per k-point, and per k-point, atom, Å^3 of the cell and
#: (300 eV)^-1.5 of cutoff; from so many atoms on, orthogonal bands cost more than their Fourier transforms.
DFT_FIXED_S, DFT_POINT_S, DFT_WORK_S, DFT_BANDS = 1.0, 0.05, 7e-5, 60.0
#: Seconds of a single point by an analytic potential.
ANALYTIC_S = 0.02


def label_seconds(campaign: Campaign, cells: sizes.Cells, generation: int = 0) -> float:
    """Return the seconds of one single point of a cell of this size, at the level of a generation."""
    from math import ceil, pi, prod

    from gapfactory.reference import DftSettings, engine_classes

    reference = campaign.reference_in(generation)
    if not isinstance(reference, DftSettings):
        return ANALYTIC_S
    engine = engine_classes()[reference.engine]
    volume = cells.volume * cells.atoms
    along = ceil(reference.kpoint_density * 2 * pi / volume ** (1 / 3))
    # time reversal leaves half of them
    points = max(1.0, prod(reference.kpoint_grid or (along,) * 3) / 2)
    waves = volume * (reference.cutoff_eV / engine.cost_cutoff_eV) ** 1.5
    work = DFT_WORK_S * waves * cells.atoms * (1 + cells.atoms / DFT_BANDS)
    return DFT_FIXED_S + engine.relative_cost * points * (DFT_POINT_S + work)


def label_basis(campaign: Campaign, recipes: Sequence[GenerationRecipe]) -> str:
    """Say what a label costs at the level of its generation, on average and of the largest cells."""
    from gapfactory.reference import DftSettings

    numbers = [(recipe.generation, c) for recipe in recipes for c in sizes.labelled(campaign, recipe)]
    if not numbers:
        return "single points and relaxations by the reference"
    dft = [(n, level, c) for n, c in numbers if isinstance(level := campaign.reference_in(n), DftSettings)]
    if not dft:
        return f"{ANALYTIC_S:g} s a label (analytic)"
    every = sizes.mean(c for _, _, c in dft)
    seconds = sum(c.n * label_seconds(campaign, c, n) for n, _, c in dft) / max(every.n, 1.0)
    number, reference, largest = max(dft, key=lambda label: label[2].atoms)
    most, grid = label_seconds(campaign, largest, number), reference.kpoint_grid
    points = f"{reference.kpoint_density:g} k-points per 1/Å" if grid is None else f"{grid} k-points"
    average = f"{seconds:.3g} s a label of {every.atoms:.3g} atoms on average"
    return f"{average}, {most:.3g} s one of {largest.atoms:g}; {reference.cutoff_eV:g} eV, {points}"


def count_atom_labels(campaign: Campaign) -> int:
    """Return the free atoms and dimers that are labelled."""
    if not campaign.labels_atoms:
        return 0
    n_species = len(campaign.species_table)
    pairs = n_species * (n_species + 1) // 2
    return n_species + (campaign.dimers.bond_lengths * pairs if campaign.potential == "gap" else 0)


def curve_calls(phase: sizes.Cells) -> float:
    """Return the evaluations that relaxing a phase at all its volumes takes (20 each for alpha-B12 by DFT)."""
    # symmetry leaves the smallest cells hardly anything to relax
    return phase.n * (20 if phase.atoms > 2 else 4)
