"""What a worker has, and which tasks that suffices for (``spec.needs``, from `execution.resources` of the campaign)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Offer"]


@dataclass(frozen=True)
class Offer:
    """What one task may use of a worker; what is None is not said, and then no need is too large.

    Parameters
    ----------
    cores
        Cores.
    memory_gb
        Memory (GB).
    until
        When the allocation ends, seconds since 1970 by this machine's clock.
    """

    cores: int | None = None
    memory_gb: float | None = None
    until: float | None = None

    def meets(self, needs: Mapping[str, Any]) -> bool:
        """Return whether a task of these needs may be taken, its time aside."""
        return all(
            have is None or float(needs.get(name) or 0) <= have
            for name, have in (("cores", self.cores), ("memory_gb", self.memory_gb))
        )

    def query(self) -> dict[str, Any]:
        """Return what restricts a checkout to tasks that need no more; those that say nothing fit everywhere."""
        minutes = None if self.until is None else max(0.0, (self.until - time.time()) / 60.0)
        have = {"cores": self.cores, "memory_gb": self.memory_gb, "minutes": minutes}
        return {
            f"spec.needs.{name}": {"$not": {"$gt": value}}
            for name, value in have.items()
            if value is not None
        }
