"""The chain by which EDDPs are made (Pickard, Phys. Rev. B 106, 014102 (2022); 2024 for boron and carbon).

The first generation labels random cells as they were made, and copies shaken out of known crystals (markers). Each
later one makes new cells, relaxes them under random pressures with the potential before, and labels the best ends and
copies shaken out of these; the potential is trained on everything so far. What comes after the last search, and when it
is over, is as in the protocol of 2018.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gapfactory.protocols import boron
from gapfactory.protocols.boron import decide, generations

if TYPE_CHECKING:
    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe

__all__ = ["decide", "generations", "recipe"]


def recipe(campaign: Campaign, generation: int) -> GenerationRecipe:
    """Return the recipe of one generation, 0 for the first.

    Raises
    ------
    InputError
        The campaign has no such generation.
    """
    found = boron.recipe(campaign, generation)
    if found.picks != "snapshots":
        return found
    chain = campaign.chain
    ends = min(chain.best, found.n_labelled)
    return replace(found, picks="ends", early_steps=(), train=ends * (chain.label_ends + chain.copies))
