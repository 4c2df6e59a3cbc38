"""The labelled structures that a campaign is given: when they join, who of them is held out, where labels are kept.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

from gapfactory.seeds import Stage, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.campaign import Campaign
    from gapfactory.protocols.data_settings import DataSettings

__all__ = ["data_joined", "data_joining", "given_up_to", "level_of", "shares_of"]


def level_of(settings: DataSettings) -> str:
    """Return the settings hash under which the labels of a file are stored; who gives the same file shares them."""
    text = f"own data {settings.sha256} {settings.prefix!r}"
    return hashlib.sha256(text.encode()).hexdigest()


def data_joining(campaign: Campaign, generation: int) -> list[str]:
    """Return the names of the data whose structures a generation is the first to be trained on."""
    return [name for name, entry in sorted(campaign.data.items()) if entry.joins == generation]


def data_joined(campaign: Campaign, generation: int) -> list[str]:
    """Return the names of the data that the potential of a generation is trained on."""
    return [name for name, entry in sorted(campaign.data.items()) if entry.joins <= generation]


def given_up_to(campaign: Campaign, generation: int) -> int:
    """Return how many structures came with labels, those held out among them, up to a generation."""
    return sum(campaign.data[name].structures or 0 for name in data_joined(campaign, generation))


def shares_of(campaign: Campaign, name: str) -> tuple[Sequence[int], Sequence[int]]:
    """Return the numbers of the structures of a file that are trained on, and of those that are held out."""
    entry = campaign.data[name]
    total = entry.structures or 0
    held_out = min(round(entry.held_out * total), total - 1)
    # by the name: what other data there are changes nothing
    rng = stream(campaign.seed, entry.joins, Stage.DATA, zlib.crc32(name.encode()))
    chosen = set(rng.permutation(total)[:held_out].tolist())
    return [k for k in range(total) if k not in chosen], sorted(chosen)
