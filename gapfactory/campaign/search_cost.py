"""What searches cost: evaluations of the potential by relaxations and anneals, and the seconds of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.campaign import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.campaign.model import Campaign
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.search.settings import AnnealSettings

__all__ = ["anneal_evaluations", "evaluation_seconds", "labelled_cells", "load_seconds", "relaxation_costs"]

#: Evaluations of a relaxation, and the seconds that its optimiser takes for one.
EVALUATIONS, STEP_S = 91, 6e-5
#: Seconds that a step of an anneal takes beside its evaluation.
ANNEAL_STEP_S = 2e-4
#: Seconds of an evaluation by an analytic potential, per atom in this process.
ANALYTIC_ATOM_S = 3e-4
#: Seconds to read an EDDP.
EDDP_LOAD_S = 0.2


def labelled_cells(campaign: Campaign, recipes: Sequence[GenerationRecipe]) -> list[sizes.Cells]:
    """Return the random cells of all generations whose structures may be labelled."""
    return [
        cells
        for recipe in recipes
        for part in recipe.cells
        if part.labelled
        for cells in sizes.built(campaign, part.build, part.stop - part.start)
    ]


def relaxation_costs(campaign: Campaign, recipes: Sequence[GenerationRecipe]) -> tuple[float, float]:
    """Return the seconds of all relaxations, anneals included, and their evaluations of the potential."""
    by_reference = campaign.search is not None and campaign.search.potential == "reference"
    found = calls = 0.0
    for recipe in recipes:
        for part in recipe.cells:
            relax = recipe.relax_of(part)
            if relax is None:
                continue
            cells = sizes.mean(sizes.built(campaign, part.build, part.stop - part.start))
            per_atom = ANALYTIC_ATOM_S
            if not by_reference:
                per_atom = evaluation_seconds(
                    campaign,
                    recipe.potential if part.after_fit else campaign.potential_settings,
                    cells.volume,
                    uncertainty=relax.uncertainty_limit is not None,
                )
            relaxing = min(EVALUATIONS, relax.max_steps + 1) * (1 if relax.anneal is None else 2)
            annealing = 0 if relax.anneal is None else anneal_evaluations(relax.anneal)
            found += cells.n * (
                relaxing * STEP_S
                + annealing * ANNEAL_STEP_S
                + (relaxing + annealing) * cells.atoms * per_atom
            )
            calls += cells.n * (relaxing + annealing)
    return found, calls


def anneal_evaluations(anneal: AnnealSettings) -> int:
    """Return the evaluations of one anneal, at most: a scan of the mobility may end before its hottest run."""
    scan = 0 if anneal.temperature_K is not None else len(anneal.ladder) * (anneal.scan_steps + 1)
    return scan + anneal.n_steps + 1


def evaluation_seconds(
    campaign: Campaign, settings: GapSettings | EddpSettings, volume: float, *, uncertainty: bool = False
) -> float:
    """Return the seconds per atom of one evaluation of a potential at this volume per atom (Å^3)."""
    from gapfactory.potentials.eddp.cost import evaluation_time as eddp_time
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.memory import evaluation_time

    elements = tuple(campaign.species_table.values())
    if isinstance(settings, EddpSettings):
        once = eddp_time(settings, n_species=len(elements), volume_per_atom=volume)
        # the spread comes from a pass without derivatives
        return once * (1.4 if uncertainty else 1.0)
    return evaluation_time(
        volume_per_atom=volume, species=elements, settings=settings, uncertainty=uncertainty
    )


def load_seconds(campaign: Campaign) -> float:
    """Return the seconds to read the potential."""
    from gapfactory.potentials.gap.memory import load_time

    if campaign.potential == "eddp":
        return EDDP_LOAD_S
    return load_time(tuple(campaign.species_table.values()), campaign.gap)
