"""How large the cells of a campaign are, group by group: what its plan needs to tell what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gapfactory.campaign.crystals import crystals_of
from gapfactory.protocols.own_data import data_joined, shares_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gapfactory.build.body_settings import StartSettings
    from gapfactory.build.settings import BuildSettings
    from gapfactory.campaign.model import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe

__all__ = [
    "Cells",
    "built",
    "crystal",
    "evidence",
    "frames",
    "labelled",
    "mean",
    "reference_relaxations",
    "relaxed",
    "trained",
]

#: Single points that relaxing a crystal takes, about.
_RELAXATION: Final = 15


@dataclass(frozen=True)
class Cells:
    """Cells of one size.

    Attributes
    ----------
    n
        How many, on average.
    atoms
        In each.
    volume
        Å^3 per atom.
    """

    n: float
    atoms: float
    volume: float


def built(campaign: Campaign, build: BuildSettings, n: float) -> list[Cells]:
    """Return `n` cells: of a given start; else formulas by their weights, each possible size as often as any other."""
    from gapfactory.build import atom_counts, volume_per_atom
    from gapfactory.build.cells import formula_of

    if build.start is not None:
        return [_shaken(campaign, build, build.start, n)]
    table, found = campaign.species_table, []
    for plain, weight in campaign.formulas:
        formula = formula_of(plain, table, build)
        counts = atom_counts(formula, build)
        volume = volume_per_atom([table[s] for s in formula], list(formula.values()), build)
        found += [Cells(n * weight / len(counts), float(atoms), volume) for atoms in counts]
    return found


def _shaken(campaign: Campaign, build: BuildSettings, start: StartSettings, n: float) -> Cells:
    """Return `n` cells of a starting structure; without a cell of its own it gets one of the volume of its contents."""
    import numpy as np

    from gapfactory.build import volume_per_atom

    repeats = start.supercell_size or (
        1 if start.supercell is None else round(abs(np.linalg.det(start.supercell)))
    )
    atoms = repeats * len(start.symbols)
    left = atoms - sum(start.vacancies.values())
    if start.cell is None:
        species = [campaign.species_table[s] for s in start.symbols]
        volume = volume_per_atom(species, [1] * len(species), build)
    else:
        volume = repeats * float(abs(np.linalg.det(start.cell))) / left
    return Cells(n, float(left), volume)


def crystal(campaign: Campaign, name: str) -> list[Cells]:
    """Return the distorted cells of a group of crystals."""
    whole = crystals_of(campaign, name)
    share = campaign.crystals[name].count / len(whole)
    return [Cells(share, len(atoms), float(atoms.get_volume()) / len(atoms)) for atoms in whole]


def _chosen(campaign: Campaign, recipe: GenerationRecipe, n: float) -> list[Cells]:
    """Return `n` structures that are of the labelled cells of a generation, each as often as any other."""
    parts = [part for part in recipe.cells if part.labelled]
    if not parts and recipe.picks == "ranked":
        # what a search has found is of its cells
        from gapfactory.protocols.planner import recipe_of

        recipe = recipe_of(campaign, 0)
        parts = [part for part in recipe.cells if part.labelled]
    if not parts:
        return built(campaign, campaign.build, n)
    return [
        cells
        for part in parts
        for cells in built(campaign, part.build, n * (part.stop - part.start) / recipe.n_labelled)
    ]


def frames(campaign: Campaign, *, held_out: bool = False) -> list[Cells]:
    """Return the frames that teach vibrations, those of the tests with them or not."""
    found = []
    for plan in campaign.planned_frames.values():
        found += [Cells(float(n), float(atoms), volume) for n, atoms, volume in plan.sizes]
        if held_out and plan.held_out:
            # further variants of the supercells
            _, atoms, volume = plan.sizes[-1]
            found.append(Cells(float(plan.held_out), float(atoms), volume))
    return found


def relaxed(campaign: Campaign) -> list[Cells]:
    """Return what relaxing the named crystals of the vibrations takes of the reference."""
    from gapfactory.campaign.parents import given_parent

    settings, found = campaign.vibrations, []
    for name, parent in () if settings is None else settings.parents.items():
        crystal = given_parent(campaign, name)
        if parent.relaxed and crystal is not None:
            volume = float(crystal.get_volume()) / len(crystal)
            found.append(Cells(float(_RELAXATION), float(len(crystal)), volume))
    return found


def evidence(campaign: Campaign) -> list[Cells]:
    """Return what the reference labels of named crystals to know their vibrations; of minima, nothing is known."""
    from gapfactory.analysis.vibrations import vibration_cells
    from gapfactory.build.single_displacements import single_displacements
    from gapfactory.campaign.parents import given_parent

    settings, found = campaign.vibrations, []
    for name in () if settings is None else settings.names():
        crystal = given_parent(campaign, name)
        if settings is None or crystal is None:
            continue
        volume = float(crystal.get_volume()) / len(crystal)
        planned = vibration_cells(crystal, settings.phonons, settings.elastic)
        sizes = [len(cell) for cell in planned.cells]
        if settings.studies.diagonal and name in settings.trained():
            sizes += [len(cell) for cell in single_displacements(crystal, settings.studies.single)]
        found += [Cells(1.0, float(atoms), volume) for atoms in sizes]
    return found


def reference_relaxations(campaign: Campaign, recipe: GenerationRecipe) -> list[Cells]:
    """Return the single points that the relaxations of a ranking take."""
    n = float(recipe.reference_relaxations)
    return [replace(c, n=c.n * _RELAXATION) for c in _chosen(campaign, recipe, n)] if n else []


def labelled(campaign: Campaign, recipe: GenerationRecipe) -> list[Cells]:
    """Return what a generation labels."""
    if recipe.picks == "frames":
        return frames(campaign, held_out=True)
    crystals = [cells for name in recipe.crystals for cells in crystal(campaign, name)]
    plain = recipe.labels - sum(campaign.crystals[name].count for name in recipe.crystals)
    return [*(_chosen(campaign, recipe, plain) if plain else []), *crystals]


def trained(campaign: Campaign, recipes: Iterable[GenerationRecipe], newest: GenerationRecipe) -> list[Cells]:
    """Return what the potential of a generation is trained on; `recipes` are those up to it."""
    found: list[Cells] = []
    for recipe in recipes:
        if recipe.picks == "frames":
            found += frames(campaign)
            continue
        plain = recipe.train - sum(
            campaign.crystals[name].count for name in recipe.crystals if name in recipe.trained_crystals
        )
        if plain:
            found += _chosen(campaign, recipe, plain)
    found += [cells for name in newest.trained_crystals for cells in crystal(campaign, name)]
    return [
        *found,
        *(own for name in data_joined(campaign, newest.generation) for own in _own(campaign, name)),
    ]


def _own(campaign: Campaign, name: str) -> list[Cells]:
    """Return what the potentials are trained on of a file; of its volumes nothing is known."""
    entry = campaign.data[name]
    train, _ = shares_of(campaign, name)
    volume = mean(built(campaign, campaign.build, 1.0)).volume
    return [Cells(float(len(train)), (entry.atoms or 0) / (entry.structures or 1), volume)]


def mean(cells: Iterable[Cells]) -> Cells:
    """Return all cells as so many of the mean size; none as one atom each."""
    cells = list(cells)
    n = sum(c.n for c in cells)
    atoms = sum(c.n * c.atoms for c in cells)
    if not atoms:
        return Cells(0.0, 1.0, 20.0)
    return Cells(n, atoms / n, sum(c.n * c.atoms * c.volume for c in cells) / atoms)
