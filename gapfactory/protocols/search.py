"""Searches that fit nothing (AIRSS: Pickard and Needs, J. Phys.: Condens. Matter 23, 053201, 2011).

Generation 0 makes random cells and relaxes them with a potential that exists. Each later one is a stage of the ranking:
the lowest distinct structures of the stage before are calculated by the reference, as they are or relaxed, and ranked
anew (as in Pickard, Faraday Discuss. 256, 61, 2025: single points, a window, relaxations, a smaller one, tighter ones).

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gapfactory.errors import InputError
from gapfactory.protocols.plan import Decision
from gapfactory.protocols.recipe import PLAIN, CellRange, GenerationRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.learning import Evidence
    from gapfactory.campaign import Campaign

__all__ = ["decide", "generations", "mean_pressure", "rank_pressure", "recipe"]

#: What a stage is called, by what it does.
TITLES: Final = {"single-points": "single points", "relax": "relaxations by the reference"}


def generations(campaign: Campaign) -> int:
    """Return the search and the stages after it."""
    return 1 + len(campaign.search_settings.ranking)


def recipe(campaign: Campaign, generation: int) -> GenerationRecipe:
    """Return the recipe of the search (0) or of a stage of the ranking.

    Raises
    ------
    InputError
        There is no such stage.
    """
    stages = campaign.search_settings.ranking
    if not 0 <= generation <= len(stages):
        msg = f"there is no generation {generation}: search.ranking has {len(stages)} stages after the search"
        raise InputError(msg)
    if generation == 0:
        return GenerationRecipe(
            generation=0,
            title="search",
            cells=_cells(campaign),
            relax=campaign.relax,
            picks="none",
            train=0,
            test=0,
            potential=campaign.potential_settings,
            fits=False,
        )
    stage = stages[generation - 1]
    relaxed = stage.do == "relax"
    return GenerationRecipe(
        generation=generation,
        title=TITLES[stage.do],
        cells=(),
        relax=None,
        picks="ranked",
        train=0 if relaxed else stage.most,
        test=0,
        potential=campaign.potential_settings,
        fits=False,
        reference_relaxations=stage.most if relaxed else 0,
    )


def _cells(campaign: Campaign) -> tuple[CellRange, ...]:
    """Return the cells of all components, those that are never ranked last."""
    if not campaign.components:
        return (CellRange(PLAIN, 0, campaign.schedule.cells_per_generation, campaign.build),)
    found: list[CellRange] = []
    for name, component in sorted(campaign.components.items(), key=lambda c: (not c[1].labelled, c[0])):
        start = found[-1].stop if found else 0
        found.append(
            CellRange(
                name,
                start,
                start + component.cells,
                component.build,
                component.labelled,
                relaxed=component.relaxed,
            )
        )
    return tuple(found)


def mean_pressure(campaign: Campaign) -> float:
    """Return the mean pressure of the search in GPa."""
    return campaign.relax.mean_pressure


def rank_pressure(campaign: Campaign, generation: int) -> float:
    """Return the pressure (GPa) at which the structures of a generation are ranked; a stage also relaxes them there."""
    stages = campaign.search_settings.ranking
    own = stages[generation - 1].pressure_GPa if generation else None
    return mean_pressure(campaign) if own is None else own


def decide(campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision:
    """Decide that the next stage follows, or that there is none."""
    stages = campaign.search_settings.ranking
    if generation >= len(stages):
        return Decision("stop", "every stage of the ranking is done" if stages else "the search is done")
    stage = stages[generation]
    return Decision(
        "continue",
        f"next: {TITLES[stage.do]} of at most {stage.most} structures within {stage.within_eV:g} eV/atom",
    )
