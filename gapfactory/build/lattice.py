"""Random lattices that obey a point group, of given volume, reduced so that near images are near in index.

Shape as in AIRSS's buildcell: lengths between 1 and 4 (arbitrary units) with one at the lower end, angles
uniform in (0, 180) degrees, flat cells rejected. The metric is then averaged over the point group, which
imposes the crystal system without treating any by name.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.symmetry import space_group
from gapfactory.errors import BuildError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.build.settings import BuildSettings, ShapeSettings
    from gapfactory.build.symmetry import SymmetryGroup

__all__ = ["draw_lattice", "obeyed", "random_lattice", "reduce_lattice"]

_DRAWS = 1000
#: relative deviation of a metric that still obeys an operation
_SAME_METRIC = 1e-5
#: rounds of imposing conditions and symmetry in turn, and the relative change that ends them
_ROUNDS, _SETTLED = 150, 1e-13
_PERMUTATIONS = np.array([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])


def draw_lattice(
    rng: np.random.Generator, group: SymmetryGroup, volume: float, settings: BuildSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the lattice of one attempt (rows, Å, right-handed) and T, with lattice = T @ (lattice of the group).

    Parameters
    ----------
    rng
        Source of the draws.
    group
        Space group.
    volume
        Volume of the primitive cell in Å^3.
    settings
        Shape. None is returned where the conditions `shape.cellcon` do not go with the group and the lattice drawn.

    Raises
    ------
    BuildError
        No lattice has the wanted shape.
    """
    shape = settings.shape
    if shape.cell is not None:
        ways = _orientations(_fixed(shape), group.number)
        if not len(ways):
            raise AssertionError("only groups that the fixed cell obeys are drawn")
        return np.array(_fixed(shape)).reshape(3, 3), ways[int(rng.integers(len(ways)))]
    lattice = random_lattice(rng, group, volume, shape)
    if shape.cellcon is not None:
        permutation = np.eye(3)[_PERMUTATIONS[int(rng.integers(6))]]
        permutation *= np.linalg.det(permutation)  # inversion keeps a lattice as it is
        conditioned = _conditioned(permutation @ lattice, permutation, group, volume, shape.cellcon)
        return None if conditioned is None else (conditioned, permutation)
    if not shape.compact:
        sign = np.sign(np.linalg.det(lattice))
        return sign * lattice, sign * np.eye(3)
    return reduce_lattice(lattice)


def random_lattice(
    rng: np.random.Generator, group: SymmetryGroup, volume: float, shape: ShapeSettings
) -> NDArray[np.float64]:
    """Return the primitive vectors (rows, Å) of a random lattice with the symmetry of the group.

    Parameters
    ----------
    rng
        Source of the draws.
    group
        Space group.
    volume
        Volume of the primitive cell in Å^3.
    shape
        How alike the lengths are, and how flat the cell may be.

    Raises
    ------
    BuildError
        No cell is as little flat as asked for.
    """
    shortest, longest = shape.equal_lengths / 2, 1 - shape.equal_lengths / 2
    for _ in range(_DRAWS):
        u = rng.random(6)
        middle = shortest + (longest - shortest) * u[0]
        lengths = np.array([shortest, middle, shortest + (middle - shortest) * u[1]])
        lengths = lengths[_PERMUTATIONS[int(6 * u[2])]]
        c = np.cos(np.pi * u[3:])
        gram = np.array([[1.0, c[2], c[1]], [c[2], 1.0, c[0]], [c[1], c[0], 1.0]])
        determinant = 1.0 - c @ c + 2.0 * c[0] * c[1] * c[2]
        if determinant >= shape.flatness**2 and determinant > 0:
            break
    else:
        raise BuildError(
            f"none of {_DRAWS} random cells has a volume of {shape.flatness} of the product of its lengths: lower "
            "shape.flatness"
        )
    metric = gram * np.outer(lengths, lengths)
    w = group.conventional_rotations
    metric = np.einsum("nji,jk,nkl->il", w, metric, w) / len(w)
    lattice = group.primitive @ np.linalg.cholesky(metric)
    return np.asarray(lattice * (volume / abs(np.linalg.det(lattice))) ** (1 / 3))


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


def obeyed(classes: tuple[tuple[int, ...], ...], shape: ShapeSettings) -> tuple[tuple[int, ...], ...]:
    """Return the classes of space groups with those left that a fixed cell obeys in some choice of its axes."""
    return classes if shape.cell is None else _obeyed(classes, _fixed(shape))


@lru_cache(maxsize=64)
def _obeyed(classes: tuple[tuple[int, ...], ...], cell: tuple[float, ...]) -> tuple[tuple[int, ...], ...]:
    kept = (tuple(number for number in groups if len(_orientations(cell, number))) for groups in classes)
    return tuple(groups for groups in kept if groups)


def _fixed(shape: ShapeSettings) -> tuple[float, ...]:
    from ase.cell import Cell

    return tuple(float(x) for x in Cell.new(shape.cell).array.ravel())


@lru_cache(maxsize=1)
def _unimodular() -> NDArray[np.float64]:
    """Return all proper changes of basis with entries -1, 0, 1, (n, 3, 3)."""
    found = np.array(list(product((-1, 0, 1), repeat=9)), dtype=float).reshape(-1, 3, 3)
    return np.asarray(found[np.abs(np.linalg.det(found) - 1) < 1e-6])


@lru_cache(maxsize=1024)
def _orientations(cell: tuple[float, ...], number: int) -> NDArray[np.float64]:
    """Return the T, (n, 3, 3), with cell = T @ lattice for which that lattice has the symmetry of the group."""
    rows = np.array(cell).reshape(3, 3)
    ways = _unimodular()
    bases = np.linalg.inv(ways) @ rows
    metrics = bases @ bases.transpose(0, 2, 1)
    scale = np.abs(metrics).max(axis=(1, 2))
    fits = np.ones(len(ways), dtype=bool)
    for w in space_group(number).rotations.astype(float):
        fits[fits] = (
            np.abs(w.T @ metrics[fits] @ w - metrics[fits]).max(axis=(1, 2)) < _SAME_METRIC * scale[fits]
        )
    return np.asarray(ways[fits])


def _conditioned(
    lattice: NDArray[np.float64],
    permutation: NDArray[np.float64],
    group: SymmetryGroup,
    volume: float,
    codes: tuple[float, ...],
) -> NDArray[np.float64] | None:
    """Return the lattice with conditions, symmetry and volume imposed in turn until all hold; None if they do not."""
    forward, back = permutation.T, np.linalg.inv(permutation.T)
    w = back @ group.rotations @ forward
    length_codes, angle_codes = np.array(codes[:3]), np.array(codes[3:])
    fixed = length_codes > 0
    metric = lattice @ lattice.T
    for _ in range(_ROUNDS):
        before = metric
        metric = np.einsum("nji,jk,nkl->il", w, metric, w) / len(w)
        lengths = np.sqrt(np.diag(metric))
        cosines = (metric / np.outer(lengths, lengths))[[1, 0, 0], [2, 2, 1]]
        lengths[fixed] = length_codes[fixed]
        if (length_codes == -1).any():
            lengths[length_codes == -1] = lengths[length_codes == -1].mean()
        cosines[angle_codes > 0] = np.cos(np.radians(angle_codes[angle_codes > 0]))
        if (angle_codes == -1).any():
            cosines[angle_codes == -1] = cosines[angle_codes == -1].mean()
        a, b, c = cosines
        gram = np.array([[1.0, c, b], [c, 1.0, a], [b, a, 1.0]])
        square = 1.0 - cosines @ cosines + 2.0 * a * b * c
        if square <= 1e-6:
            return None
        lengths[~fixed] *= (volume / (np.sqrt(square) * lengths.prod())) ** (1 / (~fixed).sum())
        metric = gram * np.outer(lengths, lengths)
        if np.abs(metric - before).max() < _SETTLED * metric.max():
            break
    average = np.einsum("nji,jk,nkl->il", w, metric, w) / len(w)
    if np.abs(average - metric).max() > _SAME_METRIC * 1e-4 * metric.max():
        return None
    result = np.linalg.cholesky(average)
    # rounding of the rounds: the volume is exact
    return np.asarray(result * (volume / np.linalg.det(result)) ** (1 / 3))
