"""Random lattices that obey a point group, of given volume, reduced so that near images are near in index.

Shape as in AIRSS's buildcell: lengths between 1 and 4 (arbitrary units) with one at the lower end, angles
uniform in (0, 180) degrees, flat cells rejected. The metric is then averaged over the point group, which
imposes the crystal system without treating any by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.build.symmetry import SpaceGroup

__all__ = ["random_lattice", "reduce_lattice"]

#: shortest and longest length before scaling: buildcell's CONS = 0.4, aspect ratio at most 4
_SHORTEST, _LONGEST = 0.2, 0.8
#: smallest volume of a cell over the product of its lengths: buildcell's ACONS = 0.5
_FLATNESS = 0.5
_DRAWS = 1000


def random_lattice(rng: np.random.Generator, group: SpaceGroup, volume: float) -> NDArray[np.float64]:
    """Return the primitive vectors (rows, Å) of a random lattice with the symmetry of the group.

    Parameters
    ----------
    rng
        Source of the draws.
    group
        Space group.
    volume
        Volume of the primitive cell in Å^3.
    """
    metric = np.eye(3)
    for _ in range(_DRAWS):
        u = rng.random(6)
        middle = _SHORTEST + (_LONGEST - _SHORTEST) * u[0]
        lengths = np.array([_SHORTEST, middle, _SHORTEST + (middle - _SHORTEST) * u[1]])
        lengths = lengths[_PERMUTATIONS[int(6 * u[2])]]
        c = np.cos(np.pi * u[3:])
        gram = np.array([[1.0, c[2], c[1]], [c[2], 1.0, c[0]], [c[1], c[0], 1.0]])
        determinant = 1.0 - c @ c + 2.0 * c[0] * c[1] * c[2]
        if determinant < _FLATNESS**2:
            continue
        metric = gram * np.outer(lengths, lengths)
        break
    w = group.conventional_rotations
    metric = np.einsum("nji,jk,nkl->il", w, metric, w) / len(w)
    lattice = group.primitive @ np.linalg.cholesky(metric)
    return lattice * (volume / abs(np.linalg.det(lattice))) ** (1 / 3)


_PERMUTATIONS = np.array([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])


def reduce_lattice(lattice: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Minkowski-reduced lattice (rows, right-handed) and the integer T with reduced = T @ lattice.

    Its vectors are the shortest that span the lattice, so that near periodic images are near in index.
    """
    from gapfactory.build import _kernels

    transformation: NDArray[np.float64] = _kernels.minkowski(lattice)
    reduced = transformation @ lattice
    if np.linalg.det(reduced) < 0:
        transformation, reduced = -transformation, -reduced
    return reduced, transformation
