"""Supercells that are nearly cubic, of about a wanted number of atoms."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["nearly_cubic_supercell", "supercell_matrix"]

#: widths of the shell of lattice vectors that edges are taken from, relative to the edge of the wanted cube
_SHELLS = (1.15, 1.3, 1.6, 2.2, 4.0)
#: share by which the number of atoms may differ from the wanted one while there is a choice
_SIZE_TOLERANCE = 0.25
#: edges tried at the most, nearest to the wanted length first; their triples are all tried
_MAX_EDGES = 160


def nearly_cubic_supercell(atoms: Atoms, n_atoms: int) -> Atoms:
    """Return a supercell of about `n_atoms` atoms whose edges are nearly equal and nearly orthogonal.

    Parameters
    ----------
    atoms
        Periodic structure; not changed. One that has as many atoms already is returned as a copy.
    n_atoms
        Wanted number of atoms.

    Raises
    ------
    InputError
        The structure is not periodic in three directions, or `n_atoms` is not positive.
    """
    from ase.build import make_supercell, niggli_reduce

    if not all(atoms.pbc) or atoms.cell.rank != 3:
        raise InputError(f"{atoms.symbols!s} is not periodic in three directions: it has no supercell")
    if n_atoms < 1:
        raise InputError(f"n_atoms = {n_atoms}: ask for at least one atom")
    if len(atoms) >= n_atoms:
        return atoms.copy()
    reduced = atoms.copy()
    reduced.calc = None
    # short edges: then the edges of a nearly cubic cell are small combinations of them
    niggli_reduce(reduced)
    return make_supercell(reduced, supercell_matrix(reduced.cell.array, len(atoms), n_atoms))


def supercell_matrix(cell: NDArray[np.float64], n_in_cell: int, n_atoms: int) -> NDArray[np.int_]:
    """Return the integer matrix (3, 3) that makes the nearly cubic supercell, with positive determinant.

    All triples of lattice vectors of about the wanted cube's edge are compared by the spread of their lengths, the
    largest cosine between them, and the deviation of the number of atoms.

    Parameters
    ----------
    cell
        (3, 3) reduced lattice vectors in rows, Å.
    n_in_cell
        Atoms in it.
    n_atoms
        Wanted atoms.
    """
    volume = abs(float(np.linalg.det(cell)))
    edge = float(np.cbrt(volume * n_atoms / n_in_cell))
    for width in _SHELLS:
        vectors = _shell(cell, edge, width)
        best = _best_triple(vectors, cell, n_atoms / n_in_cell) if len(vectors) >= 3 else None
        if best is not None:
            return best
    return np.diag(_repeats(np.linalg.norm(cell, axis=1), n_atoms / n_in_cell))


def _repeats(lengths: NDArray[np.float64], wanted: float) -> NDArray[np.int_]:
    """Return how often to repeat each edge of a cell that is so long that no near-cube exists."""
    most = max(1, int((1.0 + _SIZE_TOLERANCE) * wanted))
    choices = np.array([c for c in product(range(1, most + 1), repeat=3) if np.prod(c) <= most], dtype=int)
    edges = choices * lengths
    score = np.abs(choices.prod(axis=1) / wanted - 1.0) + np.log(edges.max(axis=1) / edges.min(axis=1))
    return np.asarray(choices[int(np.argmin(np.round(score, 6)))])


def _shell(cell: NDArray[np.float64], edge: float, width: float) -> NDArray[np.int_]:
    """Return the lattice vectors (n, 3; one of each pair of opposite ones) of length within edge/width, edge*width."""
    # |n_i| <= length times the norm of the reciprocal vector
    bounds = np.floor(edge * width * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int)
    grid = np.array(list(product(*(range(-b, b + 1) for b in bounds))), dtype=int)
    first = np.where(grid[:, 0] != 0, grid[:, 0], np.where(grid[:, 1] != 0, grid[:, 1], grid[:, 2]))
    grid = grid[first > 0]
    lengths = np.linalg.norm(grid @ cell, axis=1)
    near = (lengths > edge / width) & (lengths < edge * width)
    grid, lengths = grid[near], lengths[near]
    # rounded: rotations of a lattice must not decide the order by their last bits
    order = np.lexsort((*grid.T[::-1], np.round(np.abs(lengths - edge), 6)))
    return grid[order[:_MAX_EDGES]]


def _best_triple(
    vectors: NDArray[np.int_], cell: NDArray[np.float64], wanted: float
) -> NDArray[np.int_] | None:
    """Return the best three of the vectors as rows, or None where no triple has about the wanted size."""
    real = vectors @ cell
    lengths = np.linalg.norm(real, axis=1)
    cosines = np.abs(real @ real.T) / np.outer(lengths, lengths)
    first, second = np.nonzero(np.triu(cosines < 0.6, k=1))
    best: tuple[float, NDArray[np.int_]] | None = None
    for third in range(len(vectors)):
        use = (first < third) & (second < third) & (cosines[first, third] < 0.6)
        use &= cosines[second, third] < 0.6
        a, b = first[use], second[use]
        if not len(a):
            continue
        cells = np.rint(np.abs(np.cross(vectors[a], vectors[b]) @ vectors[third]))
        size = np.abs(cells / wanted - 1.0)
        of = np.stack([lengths[a], lengths[b], np.full(len(a), lengths[third])])
        spread = of.max(axis=0) / of.min(axis=0) - 1.0
        skew = np.maximum(np.maximum(cosines[a, b], cosines[a, third]), cosines[b, third])
        score = np.round(spread + skew + size, 6)
        score[(size > _SIZE_TOLERANCE) | (cells < 1)] = np.inf
        k = int(np.argmin(score))
        if np.isfinite(score[k]) and (best is None or score[k] < best[0]):
            best = float(score[k]), vectors[[a[k], b[k], third]]
    if best is None:
        return None
    matrix = best[1]
    return matrix if np.linalg.det(matrix @ cell) > 0 else matrix[[1, 0, 2]]
