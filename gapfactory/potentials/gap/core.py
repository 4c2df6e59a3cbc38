"""The core potential a fit is made on top of: tables of pair energies (QUIP's Glue format without embedding)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._arrays import ArrayData, as_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GlueType", "PairCurve", "PairTable"]


@dataclass(frozen=True, eq=False)
class PairCurve(ArrayData):
    """Energy of a pair as a cubic spline.

    Beyond the last knot it is zero; below the first it goes on as a straight line with the slope there.

    Attributes
    ----------
    numbers
        The two atomic numbers.
    r, energy
        (n,) knots in ascending order, A, and values, eV.
    slope_first, slope_last
        Derivative at the first and last knot, eV/A; above 0.99e30 the second derivative is zero instead.
    """

    numbers: tuple[int, int]
    r: NDArray[np.float64]
    energy: NDArray[np.float64]
    slope_first: float = 0.0
    slope_last: float = 0.0

    def __post_init__(self) -> None:
        r = as_array(self, "r", (None,))
        as_array(self, "energy", (len(r),))
        if len(r) < 2 or not (np.diff(r) > 0.0).all() or r[0] < 0.0:
            msg = f"the core potential of {self.numbers} needs at least two ascending knots, got {r[:4].tolist()}"
            raise PotentialError(msg)
        if not (np.isfinite(self.slope_first) and np.isfinite(self.slope_last)):
            msg = f"the core potential of {self.numbers} has an end slope that is not finite"
            raise PotentialError(msg)


@dataclass(frozen=True, eq=False)
class GlueType(ArrayData):
    """What QUIP's Glue format states for an element besides the pairs; it contributes no energy here.

    Attributes
    ----------
    number
        Atomic number.
    density
        (n, 2) distance (A) and density.
    density_slopes
        At the two ends.
    density_spline
        Whether QUIP interpolates the density.
    embedding
        (m, 2) density and energy (eV); every energy is zero.
    embedding_slopes
        At the two ends, or None where the file states none.
    """

    number: int
    density: NDArray[np.float64]
    density_slopes: tuple[float, float]
    density_spline: bool
    embedding: NDArray[np.float64]
    embedding_slopes: tuple[float | None, float | None]

    def __post_init__(self) -> None:
        as_array(self, "density", (None, 2))
        as_array(self, "embedding", (None, 2))
        if np.any(self.embedding[:, 1] != 0.0) or any(
            slope not in (None, 0.0) and slope < 0.99e30 for slope in self.embedding_slopes
        ):
            msg = (
                f"the core potential of element {self.number} has an embedding energy, which is not supported: "
                "only pair tables are, evaluate this potential with quippy"
            )
            raise PotentialError(msg)


@dataclass(frozen=True, eq=False)
class PairTable(ArrayData):
    """Core potential that the fit was made on top of: one spline for each pair of elements (QUIP's Glue).

    Attributes
    ----------
    curves
        One for each unordered pair; a pair without one has no core potential.
    types
        The elements in the order of the file.
    arguments
        QUIP's init string (`IP Glue`).
    label
        Label of the table in the file, often empty.
    """

    curves: tuple[PairCurve, ...]
    types: tuple[GlueType, ...]
    arguments: str = "IP Glue"
    label: str = ""

    def __post_init__(self) -> None:
        pairs = [tuple(sorted(curve.numbers)) for curve in self.curves]
        known = {item.number for item in self.types}
        if len(set(pairs)) != len(pairs) or len(known) != len(self.types):
            msg = "the core potential states an element or a pair twice: keep one"
            raise PotentialError(msg)
        if not all(set(pair) <= known for pair in pairs):
            msg = f"the core potential has pairs {pairs} of elements it does not list ({sorted(known)})"
            raise PotentialError(msg)

    @property
    def cutoff(self) -> float:
        """Longest range, A."""
        return max((float(curve.r[-1]) for curve in self.curves), default=0.0)
