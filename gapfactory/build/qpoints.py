"""Grids of q-points and which of their points a crystal's symmetry makes equivalent.

A q-point has fractions (q1, q2, q3) of the reciprocal lattice vectors and the phase exp(2 pi i q . R) at the lattice
vector R. All of it is done in integers: on the grid N1 x N2 x N3 a point has the numerators n = q L, where L is the
least common multiple of N1, N2 and N3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["QGrid", "q_grid"]

#: points of a grid; more are a slip of the pen
_MAX_POINTS = 200_000


@dataclass(frozen=True)
class QGrid:
    """The points of a Gamma-centred grid, sorted into stars.

    Parameters
    ----------
    divisions
        (N1, N2, N3).
    numerators
        (n, 3) points q times `denominator`, each in 0 ... `denominator` - 1; the first coordinate runs fastest.
    star
        (n,) number of each point's star: the points into which symmetry and time reversal (q and -q) turn it.
    representatives
        (s,) the first point of each star, an index of `numerators`; ascending.
    """

    divisions: tuple[int, int, int]
    numerators: NDArray[np.int64]
    star: NDArray[np.int64]
    representatives: NDArray[np.int64]

    @property
    def denominator(self) -> int:
        """The least common multiple of the divisions."""
        return lcm(*self.divisions)

    @property
    def points(self) -> NDArray[np.float64]:
        """(n, 3) fractions of the reciprocal lattice vectors, in [0, 1)."""
        return self.numerators / self.denominator

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(n,) least common multiple of each point's denominators: the primitive cells of its smallest supercell."""
        # q = n / L in lowest terms of all three coordinates at once
        common = np.gcd(np.gcd.reduce(self.numerators, axis=1), self.denominator)
        return np.asarray(self.denominator // common)

    @property
    def weights(self) -> NDArray[np.int64]:
        """(s,) points in each star."""
        return np.bincount(self.star)

    def index(self, numerators: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of points (..., 3), reduced into the cell; -1 for what is not on the grid."""
        steps = np.array([self.denominator // n for n in self.divisions])
        inside = np.asarray(numerators) % self.denominator
        n1, n2, _ = self.divisions
        number = inside // steps @ np.array([1, n1, n1 * n2])
        return np.where((inside % steps == 0).all(axis=-1), number, -1)


def q_grid(crystal: Atoms, divisions: Sequence[int], symprec: float) -> QGrid:
    """Return the points of a q-grid and their stars.

    Rotations that turn the grid into another (N1, N2, N3 may differ along equivalent directions) relate those points
    whose images lie on it.

    Parameters
    ----------
    crystal
        Periodic structure; the grid divides the reciprocal lattice of its cell, whether primitive or not.
    divisions
        N1, N2, N3.
    symprec
        Tolerance of the symmetry in Å.

    Raises
    ------
    InputError
        The divisions are not three positive numbers or too many; the crystal has no space group.
    """
    from gapfactory._spglib import symmetry_operations

    n1, n2, n3 = _checked(divisions)
    denominator = lcm(n1, n2, n3)
    steps = np.array([denominator // n for n in (n1, n2, n3)])
    third, second, first = np.indices((n3, n2, n1)).reshape(3, -1)
    numerators = np.stack([first, second, third], axis=1) * steps
    count = len(numerators)
    grid = QGrid((n1, n2, n3), numerators, np.zeros(count, dtype=np.int64), np.zeros(1, dtype=np.int64))
    rotations = np.unique(symmetry_operations(crystal, symprec)[0], axis=0)
    lowest = np.arange(count)
    for rotation in rotations:
        # q . (W x) = (q W) . x: a row of numerators turns by W from the right
        for image in (numerators @ rotation, -numerators @ rotation):
            found = grid.index(image)
            lowest = np.where(found >= 0, np.minimum(lowest, found), lowest)
    representatives, star = np.unique(lowest, return_inverse=True)
    return QGrid((n1, n2, n3), numerators, star, representatives)


def _checked(divisions: Sequence[int]) -> tuple[int, int, int]:
    if len(divisions) != 3 or any(int(n) != n or n < 1 for n in divisions):
        raise InputError(f"q-grid {tuple(divisions)}: give three whole numbers of at least 1")
    n1, n2, n3 = (int(n) for n in divisions)
    if n1 * n2 * n3 > _MAX_POINTS:
        raise InputError(f"q-grid {n1}x{n2}x{n3} has more than {_MAX_POINTS} points: give fewer divisions")
    return n1, n2, n3
