"""Which known structures a search has found by itself: how often, and at how many labels first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from gapfactory.analysis.matching import MatchSettings

__all__ = ["Minimum", "Rediscovery", "SearchCount", "rate_interval", "rediscovery"]

#: two standard deviations of the normal distribution
_Z = 1.959963984540054


@dataclass(frozen=True)
class Minimum:
    """An end point of a relaxation.

    Parameters
    ----------
    name
        Its key, e.g. ``"boron/g002/relaxation/000017"``.
    atoms
        The structure.
    labels
        Labels that the potential was trained on with which it was relaxed.
    energy
        Energy or enthalpy per atom (eV), for the order among the minima of the same label count; None if unknown.
    """

    name: str
    atoms: Atoms
    labels: int
    energy: float | None = None


@dataclass(frozen=True)
class Rediscovery:
    """How one target was found.

    Parameters
    ----------
    target
        Its name.
    attempts, found
        Minima that were looked at, and those that are the target.
    by_labels
        (labels, attempts, found) of each label count, ascending.
    first_labels
        Fewest labels at which it was found; None when it never was.
    first
        Name of the first minimum that is the target, lowest energy first among those of one label count; "" if none.
    names
        Names of all minima that are the target, in the order given.
    rank
        How many minima of that label count lie below it in energy, plus one; None where energies are unknown.
    """

    target: str
    attempts: int
    found: int
    by_labels: tuple[tuple[int, int, int], ...]
    first_labels: int | None
    first: str
    names: tuple[str, ...]
    rank: int | None

    @property
    def rate(self) -> float:
        """Share of the attempts that found it."""
        return self.found / self.attempts if self.attempts else 0.0

    def sentence(self) -> str:
        """Return the outcome in words."""
        if self.first_labels is None:
            return f"{self.target} was not found in {self.attempts} minima"
        low, high = rate_interval(self.found, self.attempts)
        return (
            f"{self.target} was found {self.found} times in {self.attempts} minima ({100 * self.rate:.2f} %, 95 % "
            f"interval {100 * low:.2f}-{100 * high:.2f} %), first with {self.first_labels} labels ({self.first})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON-able numbers."""
        low, high = rate_interval(self.found, self.attempts)
        return {
            "target": self.target,
            "attempts": self.attempts,
            "found": self.found,
            "rate": self.rate,
            "rate_low_95": low,
            "rate_high_95": high,
            "first_labels": self.first_labels,
            "first": self.first,
            "rank": self.rank,
            "by_labels": [{"labels": n, "attempts": a, "found": f} for n, a, f in self.by_labels],
        }


@dataclass(frozen=True)
class SearchCount:
    """How often a diagnostic search of one generation found one target.

    Parameters
    ----------
    generation, search, target
        Which generation, component of the campaign, and named phase.
    potential, labels
        Generation of the potential that relaxed the cells, and how many structures that was trained on; None: it is no
        potential of the campaign's own.
    cells, attempts, found
        Cells made; relaxations that did not fail; those that ended in the target.
    rate_low_95, rate_high_95
        Interval of the rate found/attempts.
    first, rank
        As in `Rediscovery`: one relaxation that ended in the target, and its place among all by enthalpy.
    """

    generation: int
    search: str
    potential: int | None
    labels: int | None
    target: str
    cells: int
    attempts: int
    found: int
    rate_low_95: float
    rate_high_95: float
    first: str = ""
    rank: int | None = None

    def sentence(self) -> str:
        """Return it in words."""
        found = f"{self.target} was found {self.found} times in {self.attempts} relaxations of search {self.search}"
        if self.potential is None:
            return found
        labels = "" if self.labels is None else f", {self.labels} structures"
        return f"{found} with the potential of generation {self.potential}{labels}"


def rate_interval(found: int, attempts: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson), which is right also for none or few of many.

    Raises
    ------
    EvidenceError
        More were found than attempted, or a number is negative.
    """
    if not 0 <= found <= attempts:
        raise EvidenceError(f"{found} found in {attempts} attempts: give counts with 0 <= found <= attempts")
    if attempts == 0:
        return 0.0, 1.0
    rate, z2 = found / attempts, _Z**2 / attempts
    centre = (rate + 0.5 * z2) / (1.0 + z2)
    half = _Z / (1.0 + z2) * math.sqrt(rate * (1.0 - rate) / attempts + 0.25 * z2 / attempts)
    return max(0.0, centre - half), min(1.0, centre + half)


def rediscovery(
    minima: Sequence[Minimum],
    targets: Mapping[str, Atoms],
    settings: MatchSettings | None = None,
    *,
    cores: int = 1,
) -> tuple[Rediscovery, ...]:
    """Look for the targets among the minima of a campaign, or of a search with one potential.

    Parameters
    ----------
    minima
        In any order.
    targets
        Name -> structure, e.g. `gapfactory.analysis.phases.named_phases`; optimised with the same reference or
        potential where volumes matter.
    settings
        When two structures are the same.
    cores
        Threads; results do not depend on it.

    Returns
    -------
    tuple
        One entry for each target, in their order.

    Raises
    ------
    EvidenceError
        Two minima have the same name.
    """
    from gapfactory.analysis.matching import StructureMatcher

    if len({m.name for m in minima}) != len(minima):
        raise EvidenceError("two minima have the same name: name them by their keys")
    if not targets:
        return ()
    matches = StructureMatcher(list(targets.values()), settings).match([m.atoms for m in minima], cores=cores)
    counts = sorted({m.labels for m in minima})
    found = []
    for k, name in enumerate(targets):
        mine = [
            m for m, match in zip(minima, matches, strict=True) if match is not None and match.target == k
        ]
        first = min(mine, key=lambda m: (m.labels, _order(m), m.name), default=None)
        found.append(
            Rediscovery(
                target=name,
                attempts=len(minima),
                found=len(mine),
                by_labels=tuple(
                    (n, sum(m.labels == n for m in minima), sum(m.labels == n for m in mine)) for n in counts
                ),
                first_labels=None if first is None else first.labels,
                first="" if first is None else first.name,
                names=tuple(m.name for m in mine),
                rank=None if first is None else _rank(first, minima),
            )
        )
    return tuple(found)


def _order(minimum: Minimum) -> float:
    return math.inf if minimum.energy is None else minimum.energy


def _rank(minimum: Minimum, minima: Sequence[Minimum]) -> int | None:
    if minimum.energy is None:
        return None
    energy = minimum.energy
    return 1 + sum(m.labels == minimum.labels and m.energy is not None and m.energy < energy for m in minima)
