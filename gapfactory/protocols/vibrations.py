"""The protocol of Allen and Bartók (Mach. Learn.: Sci. Technol. 3, 045031, 2022): vibrations and elasticity.

Crystals are relaxed by the reference; small frames of each, non-diagonal supercells among them, are labelled and
fitted; and phonons and elastic constants of the potential are held against the reference's. It is one generation: the
whole campaign with the protocol `ndsc-2022`, the last one of a search that has a block `vibrations`.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gapfactory.errors import InputError
from gapfactory.protocols.plan import Decision
from gapfactory.protocols.recipe import GenerationRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.learning import Evidence
    from gapfactory.campaign import Campaign
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.settings import GapSettings

__all__ = ["decide", "generations", "recipe", "vibration_recipe"]

TITLE: Final = "vibrations"


def vibration_recipe(
    campaign: Campaign,
    generation: int,
    potential: GapSettings | EddpSettings,
    trained_crystals: tuple[str, ...] = (),
) -> GenerationRecipe:
    """Return the recipe of the generation of the vibrations.

    Parameters
    ----------
    campaign
        With a block `vibrations`.
    generation
        Its number.
    potential
        Settings of its potential: those of the last search.
    trained_crystals
        Groups of distorted crystals that the last search had in its training set.
    """
    plans = campaign.planned_frames.values()
    return GenerationRecipe(
        generation=generation,
        title=TITLE,
        cells=(),
        relax=None,
        picks="frames",
        train=sum(plan.labels for plan in plans),
        test=sum(plan.held_out for plan in plans),
        noise=0 if generation else campaign.select.noise_cells,
        potential=potential,
        trained_crystals=trained_crystals,
    )


def recipe(campaign: Campaign, generation: int) -> GenerationRecipe:
    """Return the recipe of the only generation.

    Raises
    ------
    InputError
        Another one was asked for.
    """
    if generation:
        msg = f"there is no generation {generation}: 'ndsc-2022' has one, number 0"
        raise InputError(msg)
    return vibration_recipe(campaign, 0, campaign.potential_settings)


def generations(campaign: Campaign) -> int:
    """Return that there is one generation."""
    return 1


def decide(campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision:
    """Decide that the campaign is over."""
    return Decision("stop", "vibrations and elasticity are measured")
