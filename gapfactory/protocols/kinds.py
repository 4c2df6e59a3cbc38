"""What a service asks about a protocol by its name, before or without checking the settings of a campaign.

Pure, and with nothing to import: pages ask it about settings as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "ProtocolKind", "kind_of_protocol"]


@dataclass(frozen=True)
class ProtocolKind:
    """What generations of a protocol are.

    Attributes
    ----------
    ranks
        Nothing is fitted. The first generation searches, and each later one is a stage that calculates and ranks the
        best of what the one before has found, by a reference of its own.
    searches
        Random cells are made; crystals whose vibrations are learnt come after them, in a generation of their own.
        Otherwise such crystals are all there is.
    """

    ranks: bool = False
    searches: bool = True

    def generations(self, settings: Mapping[str, Any]) -> int:
        """Return how many generations a campaign has at the most, by its settings as they are stored.

        As `gapfactory.protocols.planner.generations_of`; checking the settings takes longer than a page may.
        """
        if not self.searches:
            return 1
        if self.ranks:
            return 1 + len(settings["search"]["ranking"])
        after = (settings.get("robustness") or {}).get("rounds", 0) + (settings.get("vibrations") is not None)
        return int(settings["schedule"]["generations"]) + int(after)


#: Protocol -> what its generations are.
KINDS: Final[dict[str, ProtocolKind]] = {
    "de-novo-2019": ProtocolKind(),
    "boron-2018": ProtocolKind(),
    "eddp-chain": ProtocolKind(),
    "ndsc-2022": ProtocolKind(searches=False),
    "search": ProtocolKind(ranks=True),
}


def kind_of_protocol(settings: Mapping[str, Any]) -> ProtocolKind:
    """Return what the protocol of a campaign is, by its settings as they are stored."""
    return KINDS[settings.get("protocol", "de-novo-2019")]
