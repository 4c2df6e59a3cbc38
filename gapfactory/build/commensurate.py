"""k-point grids that are the same in a crystal and in its supercells, so that differences are not those of k-points.

The primitive cell's Gamma-centred grid N1 x N2 x N3 consists of the k at which exp(2 pi i k . R) = 1 for each lattice
vector R of the form sum m_i N_i a_i. A supercell folds it onto its own smaller zone. What comes out is a regular grid
M1 x M2 x M3 along its vectors s_i exactly if the M_i s_i span the same lattice as the N_i a_i. Where each N_i a_i is a
vector of the supercell's lattice, which it is if the k-grid is a multiple of the supercell's q-points, some basis of
the supercell is like that (the Smith normal form of the one lattice in the other); the shortest one often is not. For
N1 = N2 = N3 and a supercell of n primitive cells it is mostly a pile of n cells: grid N x N x N/n.
"""

from __future__ import annotations

from itertools import permutations
from math import gcd, lcm
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.lattice import reduce_lattice
from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Grid", "commensurate_cell", "commensurate_grid", "grid_of"]

Grid = tuple[int, int, int]

#: vectors of the supercell's lattice, the shortest, of which the most compact basis is chosen
_MOST_VECTORS = 2000
#: how far a deformed supercell's vectors may be from whole numbers of the crystal's
_DEFORMED = 0.25


def commensurate_cell(
    matrix: ArrayLike, grid: Sequence[int], cell: ArrayLike
) -> tuple[NDArray[np.int64], Grid]:
    """Return a basis of a supercell, and its k-grid, whose points are those of the primitive cell's grid, folded.

    Of all such bases the one with the least product of lengths (in extremely long or flat cells: of those within the
    2000 shortest vectors): plane-wave codes' grids in space grow with it.

    Parameters
    ----------
    matrix
        (3, 3) integers, not singular: rows times `cell` are vectors of the supercell.
    grid
        N1, N2, N3: Gamma-centred k-grid of the primitive cell.
    cell
        (3, 3) vectors of the primitive cell in rows, Å.

    Returns
    -------
    matrix
        (3, 3), another basis of the same supercell, determinant positive; the shortest vector first.
    grid
        Gamma-centred, along those vectors.

    Raises
    ------
    InputError
        No basis has such a grid: a vector N_i a_i does not belong to the supercell's lattice. The message says of what
        the N_i have to be multiples. Or the numbers are no supercell, or no grid.
    """
    given, sizes = _supercell(matrix), _grid(grid)
    steps = tuple(_steps_back(given, axis) for axis in range(3))
    if any(n % step for n, step in zip(sizes, steps, strict=True)):
        raise InputError(
            f"k-grid {_text(sizes)} does not fold onto a regular grid of the supercell {given.tolist()}: give "
            f"multiples of {_text(steps)}"
        )
    vectors = np.asarray(cell, dtype=float)
    best = _most_compact(_some_basis(given, sizes, vectors), sizes, vectors)
    orders = [_order(row, sizes) for row in best.tolist()]
    return best, (orders[0], orders[1], orders[2])


def commensurate_grid(matrix: ArrayLike, grid: Sequence[int]) -> Grid:
    """Return the k-grid along a supercell's vectors as they are, equal to the primitive cell's.

    For diagonal supercells, and for those that `commensurate_cell` gave.

    Parameters
    ----------
    matrix
        (3, 3) integers: rows times the crystal's cell are the supercell's vectors.
    grid
        N1, N2, N3: Gamma-centred k-grid of the primitive cell.

    Raises
    ------
    InputError
        This basis has no such grid.
    """
    given, sizes = _supercell(matrix), _grid(grid)
    orders = [_order(row, sizes) for row in given.tolist()]
    if _product(orders) * _size(given) != _product(sizes):
        raise InputError(
            f"no regular grid along the vectors {given.tolist()} equals the primitive cell's {_text(sizes)}: take the "
            "basis that `commensurate_cell` gives"
        )
    return (orders[0], orders[1], orders[2])


def grid_of(atoms: Atoms, crystal: Atoms, grid: Sequence[int]) -> Grid:
    """Return the k-grid of a crystal or supercell, strained by a few percent or not, equal to the primitive cell's.

    Parameters
    ----------
    atoms
        The crystal itself, strained or with displaced atoms, or a supercell of it.
    crystal
        The primitive cell, in the same orientation.
    grid
        Its Gamma-centred k-grid.

    Raises
    ------
    InputError
        The cell is not a supercell of the crystal, or has no such grid.
    """
    ratio = np.linalg.solve(crystal.cell.array.T, atoms.cell.array.T).T
    whole = np.rint(ratio).astype(np.int64)
    if np.abs(ratio - whole).max() > _DEFORMED:
        raise InputError(
            f"the cell {atoms.cell.array.round(3).tolist()} is no supercell, deformed by a few percent at most, of "
            f"{crystal.cell.array.round(3).tolist()}"
        )
    return commensurate_grid(whole, grid)


def _some_basis(matrix: NDArray[np.int64], grid: Grid, cell: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a basis of the supercell with a regular grid, its vectors shortened in pairs.

    The lattice of the N_i a_i is `inner` @ `basis` throughout. Its own vectors are changed at will (rows of `inner`),
    those of the supercell (columns, and rows of `basis`) so that the product stays, until `inner` is diagonal.
    """
    basis = matrix.copy()
    inner = np.rint(np.diag(grid) @ np.linalg.inv(matrix)).astype(np.int64)
    for k in range(3):
        while np.count_nonzero(inner[k, k:]) + np.count_nonzero(inner[k:, k]) > 2 or not inner[k, k]:
            rows, columns = np.nonzero(inner[k:, k:])
            smallest = int(np.argmin(np.abs(inner[k + rows, k + columns])))
            row, column = k + int(rows[smallest]), k + int(columns[smallest])
            inner[[k, row]] = inner[[row, k]]
            inner[:, [k, column]] = inner[:, [column, k]]
            basis[[k, column]] = basis[[column, k]]
            for other in range(k + 1, 3):
                inner[other] -= inner[other, k] // inner[k, k] * inner[k]
                times = int(inner[k, other] // inner[k, k])
                inner[:, other] -= times * inner[:, k]
                basis[k] += times * basis[other]
    orders = np.abs(np.diag(inner)).tolist()
    shorter = True
    while shorter:
        shorter = False
        for i, j in permutations(range(3), 2):
            # s_i + step s_j: M_i times that stays within the lattice
            step = orders[j] // gcd(orders[i], orders[j])
            a, b = basis[i] @ cell, basis[j] @ cell
            times = round(float(a @ b) / (step * float(b @ b)))
            changed = basis[i] - times * step * basis[j]
            if np.linalg.norm(changed @ cell) < np.linalg.norm(a) * (1 - 1e-9):
                basis[i], shorter = changed, True
    return basis


def _most_compact(start: NDArray[np.int64], grid: Grid, cell: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the basis with a regular grid that has the least product of lengths, the shortest vector first."""
    lengths = np.linalg.norm(start @ cell, axis=1)
    best, least = start[np.argsort(lengths.round(6), kind="stable")], float(np.prod(lengths).round(6))
    reduced, transformation = reduce_lattice(start @ cell)
    basis = np.rint(transformation).astype(np.int64) @ start
    shortest = np.sort(np.linalg.norm(reduced, axis=1))
    # the longest vector of a better basis: the other two are not shorter than the shortest
    coordinates, lengths = _vectors(reduced, least / float(shortest[0] * shortest[1]) * (1 + 1e-6))
    vectors = coordinates @ basis
    orders = np.lcm.reduce(np.array(grid) // np.gcd(vectors, np.array(grid)), axis=1)
    wanted = _product(grid) // _size(start)
    for first in range(len(vectors) - 2):
        if lengths[first] ** 3 > least:
            break
        later = slice(first + 1, None)
        seconds = first + 1 + np.flatnonzero(lengths[first] * lengths[later] ** 2 <= least)
        thirds = first + 1 + np.flatnonzero(lengths[first] * lengths[first + 1] * lengths[later] <= least)
        if not len(seconds):
            continue
        volumes = np.abs(np.cross(coordinates[first], coordinates[seconds]) @ coordinates[thirds].T)
        number = orders[first] * orders[seconds, None] * orders[None, thirds]
        # rounded: of equal ones the first, whatever the last bits
        product = np.round(lengths[first] * lengths[seconds, None] * lengths[None, thirds], 6)
        product[(volumes != 1) | (number != wanted) | (thirds[None] <= seconds[:, None])] = np.inf
        second, third = np.unravel_index(int(np.argmin(product)), product.shape)
        if product[second, third] < least:
            least = float(product[second, third])
            best = vectors[[first, int(seconds[second]), int(thirds[third])]]
    return best if np.linalg.det(best) > 0 else -best


def _vectors(lattice: NDArray[np.float64], radius: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return coordinates and lengths of vectors that may belong to a basis of a lattice, sorted by length.

    One of each opposite pair, up to a length, and no more than `_MOST_VECTORS` or a few more.
    """
    volume = abs(float(np.linalg.det(lattice)))
    # so many are in a sphere, half of them opposites
    enough = float(np.cbrt(2 * _MOST_VECTORS * volume * 3 / (4 * np.pi)))
    radius = min(radius, max(enough, float(np.linalg.norm(lattice, axis=1).max()) * (1 + 1e-6)))
    bounds = np.floor(radius * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int)
    axes = (np.arange(-b, b + 1) for b in bounds)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[len(points) // 2 + 1 :]
    lengths = np.linalg.norm(points @ lattice, axis=1)
    near = (lengths <= radius) & (np.gcd.reduce(points, axis=1) == 1)
    points, lengths = points[near], lengths[near]
    order = np.lexsort((*points.T[::-1], np.round(lengths, 6)))
    return points[order].astype(np.int64), lengths[order]


def _order(vector: Sequence[int], grid: Grid) -> int:
    """Return the smallest M for which M times the vector is made of whole N_i a_i."""
    return lcm(*(n // gcd(n, v) for n, v in zip(grid, vector, strict=True)))


def _steps_back(matrix: NDArray[np.int64], axis: int) -> int:
    """Return the smallest n for which n a_axis is a vector of the supercell's lattice."""
    size = _size(matrix)
    row = np.rint(np.linalg.inv(matrix)[axis] * size).astype(np.int64)
    return lcm(*(size // gcd(size, int(x)) for x in row))


def _supercell(matrix: ArrayLike) -> NDArray[np.int64]:
    given = np.asarray(matrix)
    whole = np.rint(given).astype(np.int64)
    if whole.shape != (3, 3) or np.abs(whole - given).max() > 1e-8 or _size(whole) == 0:
        raise InputError(f"{given.tolist()} is no matrix of a supercell: give 3 x 3 integers, not singular")
    return whole


def _grid(grid: Sequence[int]) -> Grid:
    if len(grid) != 3 or any(int(n) != n or n < 1 for n in grid):
        raise InputError(f"k-grid {tuple(grid)}: give three whole numbers of at least 1")
    return (int(grid[0]), int(grid[1]), int(grid[2]))


def _size(matrix: NDArray[np.int64]) -> int:
    return abs(round(float(np.linalg.det(matrix))))


def _product(numbers: Sequence[int]) -> int:
    return int(numbers[0]) * int(numbers[1]) * int(numbers[2])


def _text(grid: Sequence[int]) -> str:
    return "x".join(map(str, grid))
