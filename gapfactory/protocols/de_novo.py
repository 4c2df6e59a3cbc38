"""The protocol of Bernstein, Csányi and Deringer (npj Comput. Mater. 5, 99, 2019): exploring and fitting *de novo*.

Generation 0 labels the most diverse of many random cells, with isolated atoms and dimers, and fits a first
potential. Every later generation relaxes new random cells with the potential before it, labels the most relevant and
diverse structures seen on the way down, and fits again.

A campaign that begins with labels of the group's own (`schedule.initial_cells: 0`) fits its first potential to these.
A campaign that labels another one's structures again (`Campaign.source`) has the first generation alone, without cells
and selection: the structures are chosen already.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.analysis.learning import decide_stop
from gapfactory.protocols.plan import Decision
from gapfactory.protocols.recipe import GenerationRecipe, cell_ranges, relax_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.learning import Evidence
    from gapfactory.campaign import Campaign

__all__ = ["decide", "generations", "recipe"]


def _starts_from_data(campaign: Campaign) -> bool:
    """Return whether the first generation labels nothing, because it is given labels."""
    return campaign.schedule.initial_cells == 0 and campaign.source is None


def _picks(campaign: Campaign, generation: int) -> tuple[int, int]:
    """Return how many structures generation `generation` labels for training and for testing.

    The last generation before the label budget is spent gets what is left, in the same proportion.
    """
    train, test = campaign.select.labels_per_generation, campaign.select.held_out_per_generation
    first = int(_starts_from_data(campaign))
    if generation < first:
        return 0, 0
    left = campaign.stop.label_budget - (generation - first) * (train + test)
    if left >= train + test:
        return train, test
    left = max(left, 0)
    few_test = left * test // (train + test)
    return left - few_test, few_test


def recipe(campaign: Campaign, generation: int) -> GenerationRecipe:
    """Return the recipe of one generation, 0 for the first."""
    train, test = _picks(campaign, generation)
    first, given = generation == 0, campaign.source is not None
    own = first and _starts_from_data(campaign)
    return GenerationRecipe(
        generation=generation,
        title="own labels" if own else "first labels" if first else "search",
        cells=() if given or own else cell_ranges(campaign, generation),
        relax=None if first else relax_settings(campaign, generation),
        picks="given" if given else "data" if own else "funnel",
        train=train,
        test=test,
        noise=campaign.select.noise_cells if first and not own else 0,
        potential=campaign.potential_settings,
    )


def generations(campaign: Campaign) -> int:
    """Return how many generations a campaign has that spends its whole budget."""
    for generation in range(int(_starts_from_data(campaign)), campaign.schedule.generations):
        if not any(_picks(campaign, generation)):
            return generation
    return campaign.schedule.generations


def decide(campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision:
    """Decide at the end of a generation whether the campaign stops.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        The generation that was just assessed.
    history
        What every assessed generation was measured on, none of it in its training set.
    """
    spent = sum(sum(_picks(campaign, earlier)) for earlier in range(generation + 1))
    stop = decide_stop(
        history,
        label_budget=campaign.stop.label_budget,
        labels_spent=spent,
        settings=campaign.stop.convergence,
    )
    if stop.stop:
        return Decision("stop", stop.reason)
    if generation + 1 >= campaign.schedule.generations:
        return Decision("stop", f"all {campaign.schedule.generations} generations are done")
    return Decision("continue", stop.reason)
