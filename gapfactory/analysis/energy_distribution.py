"""The energies of what a generation found, as a box plot has them, and whether they still change (2018, Fig. 1b)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from gapfactory.errors import EvidenceError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

__all__ = ["DistributionSettings", "EnergyBox", "Verdict", "energy_box", "still_changes"]

#: Percentiles of one standard deviation to each side of the median of a normal distribution (68 % in between).
LOW, HIGH = 15.865525393145708, 84.1344746068543


class DistributionSettings(Settings):
    """When the energies of the structures that a search ends in no longer change."""

    median_change_in_eV: float = Field(default=0.02, gt=0)
    """Largest change of the median energy (eV/atom) from one generation to the next that counts as none."""
    box_change_in_eV: float = Field(default=0.05, gt=0)
    """Largest change of either end of the box that holds 68 % of the energies (eV/atom)."""
    generations: int = Field(default=1, ge=1)
    """How many times in a row neither may have changed."""
    minimum_structures: int = Field(default=20, ge=1)
    """Structures that a generation needs for its distribution to count."""


@dataclass(frozen=True)
class EnergyBox:
    """A distribution of energies per atom (eV/atom) as a box plot shows it.

    Attributes
    ----------
    n
        Structures.
    median, low, high
        The median, and the ends of the box that holds 68 %.
    least, most
        The whole range.
    """

    n: int
    median: float
    low: float
    high: float
    least: float
    most: float

    def as_dict(self) -> dict[str, float]:
        """Return plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, float]) -> EnergyBox:
        """Return the box that `as_dict` gave."""
        return cls(n=int(data["n"]), **{key: float(data[key]) for key in data if key != "n"})


def energy_box(energies: ArrayLike) -> EnergyBox:
    """Return the box of energies per atom, shape (M,), in eV/atom.

    Raises
    ------
    EvidenceError
        There are none, or one is not finite.
    """
    values = np.asarray(energies, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        msg = f"a distribution needs finite energies, one per structure; the shape is {values.shape}"
        raise EvidenceError(msg)
    low, median, high = np.percentile(values, [LOW, 50.0, HIGH])
    return EnergyBox(
        n=len(values),
        median=float(median),
        low=float(low),
        high=float(high),
        least=float(values.min()),
        most=float(values.max()),
    )


@dataclass(frozen=True)
class Verdict:
    """Whether a distribution still changes, in words too."""

    changes: bool
    reason: str


def still_changes(boxes: Sequence[EnergyBox | None], settings: DistributionSettings) -> Verdict:
    """Say whether the energies still change from generation to generation.

    Parameters
    ----------
    boxes
        One per generation of the search, in order; None where nothing was found.
    settings
        What counts as a change.

    Returns
    -------
    Verdict
        The same boxes always give the same verdict.
    """
    wanted = settings.generations + 1
    last = boxes[-wanted:]
    usable = [box for box in last if box is not None and box.n >= settings.minimum_structures]
    if len(usable) < wanted:
        return Verdict(
            True,
            f"{len(usable)} of the last {wanted} generations have the {settings.minimum_structures} structures that "
            "a distribution of energies needs",
        )
    pairs = list(pairwise(usable))
    medians = [abs(new.median - old.median) for old, new in pairs]
    ends = [max(abs(new.low - old.low), abs(new.high - old.high)) for old, new in pairs]
    moved = (
        f"from one generation to the next the median energy moved by {1000 * max(medians):.0f} meV/atom and the ends "
        f"of the 68 % box by {1000 * max(ends):.0f} meV/atom (allowed: {1000 * settings.median_change_in_eV:g} and "
        f"{1000 * settings.box_change_in_eV:g})"
    )
    changes = max(medians) > settings.median_change_in_eV or max(ends) > settings.box_change_in_eV
    return Verdict(changes, moved)
