"""The protocol of Deringer, Pickard and Csányi for boron (2018): searching and fitting with single points only.

The first generation labels every random cell of several components as it was made, and distorted crystals with them.
Each later one makes new cells, relaxes them with the potential before, and labels snapshots of every relaxation: early
on the way, and at its end. After the last search, known crystals may join the training set ("+C"), and the same data
are fitted once more with tighter settings: both are generations of their own, without cells and labels.

The preprint and the Letter (Phys. Rev. Lett. 120, 156001) differ in components, pressures, snapshots and crystals; each
is a preset.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.analysis.energy_distribution import still_changes
from gapfactory.errors import InputError
from gapfactory.protocols.plan import Decision
from gapfactory.protocols.recipe import GenerationRecipe, cell_ranges, diagnostic_ranges, relax_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.learning import Evidence
    from gapfactory.campaign import Campaign

__all__ = ["closing", "decide", "generations", "recipe"]

CRYSTALS, FINAL = "crystals join", "final fit"


def closing(campaign: Campaign) -> tuple[str, ...]:
    """Return what the generations after the last search are for, in order."""
    joining = any(group.joins == "end" for group in campaign.crystals.values())
    return ((CRYSTALS,) if joining else ()) + ((FINAL,) if campaign.final_fit else ())


def generations(campaign: Campaign) -> int:
    """Return how many generations a campaign has, those after the last search included."""
    return campaign.schedule.generations


def searches(campaign: Campaign) -> int:
    """Return how many generations make cells, the first included."""
    return campaign.schedule.generations - len(closing(campaign))


def recipe(campaign: Campaign, generation: int) -> GenerationRecipe:
    """Return the recipe of one generation, 0 for the first.

    Raises
    ------
    InputError
        The campaign has no such generation.
    """
    last = searches(campaign)
    if not 0 <= generation < campaign.schedule.generations:
        msg = f"there is no generation {generation}: schedule.generations is {campaign.schedule.generations}"
        raise InputError(msg)
    groups = campaign.crystals
    first = tuple(sorted(name for name, group in groups.items() if group.joins == "first"))
    if generation >= last:
        title = closing(campaign)[generation - last]
        trained = tuple(sorted(name for name, group in groups.items() if group.joins != "never"))
        fitted = campaign.final_potential if title == FINAL else campaign.potential_settings
        looked = diagnostic_ranges(campaign, generation)
        return GenerationRecipe(
            generation=generation,
            title=title,
            cells=looked,
            relax=relax_settings(campaign, generation) if looked else None,
            picks="none",
            train=0,
            test=0,
            potential=fitted,
            trained_crystals=trained,
        )
    cells = cell_ranges(campaign, generation)
    n_cells = max(part.stop for part in cells if part.labelled)
    if generation == 0:
        joined = sum(groups[name].count for name in first)
        return GenerationRecipe(
            generation=0,
            title="random cells",
            cells=cells,
            relax=None,
            picks="cells",
            train=n_cells + joined,
            test=sum(group.count for group in groups.values()) - joined,
            noise=campaign.select.noise_cells,
            potential=campaign.potential_settings,
            crystals=tuple(sorted(groups)),
            trained_crystals=first,
        )
    snapshots = campaign.snapshots
    only_ends = snapshots.minima_only_from is not None and generation >= snapshots.minima_only_from
    early = () if only_ends else snapshots.early_steps
    return GenerationRecipe(
        generation=generation,
        title="search",
        cells=cells,
        relax=relax_settings(campaign, generation),
        picks="snapshots",
        train=n_cells * (len(early) + 1),
        test=0,
        potential=campaign.potential_settings,
        early_steps=early,
        trained_crystals=first,
    )


def decide(campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision:
    """Decide at the end of a generation how the campaign goes on.

    A search whose energies no longer change is followed at once by what comes after the last search.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        The generation that was just assessed.
    history
        What every assessed generation was measured on.
    """
    total, last = generations(campaign), searches(campaign)
    if generation + 1 >= total:
        return Decision("stop", f"all {total} generations are done")
    if generation + 1 >= last:
        return Decision("continue", f"next: {recipe(campaign, generation + 1).title}")
    wanted = campaign.stop.energy_distribution
    if wanted is None:
        return Decision("continue", f"search {generation} of {last - 1} is done")
    found = {entry.generation: entry.ends for entry in history}
    verdict = still_changes([found.get(g) for g in range(1, generation + 1)], wanted)
    if verdict.changes:
        return Decision("continue", verdict.reason)
    if last == total:
        return Decision("stop", verdict.reason)
    return Decision("continue", f"the search is over: {verdict.reason}", go_to=last)
