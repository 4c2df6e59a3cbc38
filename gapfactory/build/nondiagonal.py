"""Non-diagonal supercells: the fewest atoms that hold every vibration of a q-grid.

J. H. Lloyd-Williams and B. Monserrat, Phys. Rev. B 92, 184301 (2015): a supercell with the vectors S a (S an integer
matrix, a the rows of the crystal's cell) holds the vibrations at q if S q is integer, and the smallest that does has as
many primitive cells as the least common multiple of the denominators of q.

That smallest supercell is unique. The q-points that a supercell of n primitive cells holds form a group of n elements,
and where q has the order n, that is {0, q, 2q, ..., (n-1)q}. Hence S follows from q without a search, two q-points
share their smallest supercell if they have the same order and one is a multiple of the other, and a supercell also
holds every multiple of its q-point, which stands for all of that multiple's star.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from gapfactory.build.commensurate import commensurate_cell
from gapfactory.build.lattice import reduce_lattice
from gapfactory.build.qpoints import QGrid, q_grid
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.build.commensurate import Grid

__all__ = [
    "NondiagonalCell",
    "NondiagonalSet",
    "NondiagonalSettings",
    "nondiagonal_cells",
    "smallest_supercell",
]


class NondiagonalSettings(Settings):
    """Which vibrations the supercells hold, and how the supercells are chosen."""

    divisions: tuple[int, int, int] = (4, 4, 4)
    """N1, N2, N3 of the grid of q-points, Gamma-centred. 4 4 4: Allen and Bartók 2022, section 3.2."""
    choice: Literal["stars", "published"] = "stars"
    """`published`: size after size, the smallest supercell to the first point of each star, unless one of the same
    size holds that point already (Lloyd-Williams and Monserrat 2015). `stars`: from large to small, and no supercell
    for a star of which one before holds any point: the same information in fewer atoms (20 instead of 25 for fcc at
    4 4 4)."""
    symprec: float = Field(default=1e-3, gt=0)
    """Tolerance of the crystal's symmetry in Å; relaxed crystals obey theirs within less."""


@dataclass(frozen=True)
class NondiagonalCell:
    """One supercell.

    Parameters
    ----------
    matrix
        (3, 3) integer, determinant = `size` > 0; its rows times the crystal's cell are the supercell's vectors:
        Minkowski-reduced, or those along which the k-grid is regular. phonopy takes its transpose.
    size
        Primitive cells in it.
    stars
        Numbers of the stars of which it holds a point.
    grid
        Its k-points: those of the primitive cell's grid, folded. None: none was asked for.
    """

    matrix: NDArray[np.int64]
    size: int
    stars: tuple[int, ...]
    grid: Grid | None = None

    def atoms(self, crystal: Atoms) -> Atoms:
        """Return the supercell, without calculator: all atoms of one primitive cell, then of the next."""
        from ase.build import make_supercell

        bare = crystal.copy()
        bare.calc = None
        return make_supercell(bare, self.matrix)


@dataclass(frozen=True)
class NondiagonalSet:
    """Supercells that together hold a point of every star of a grid.

    Parameters
    ----------
    grid
        The q-points and their stars.
    cells
        Supercells.
    kpoints
        k-grid of the primitive cell, to which those of the supercells are equal. None: none was asked for.
    """

    grid: QGrid
    cells: tuple[NondiagonalCell, ...]
    kpoints: Grid | None = None

    @property
    def size(self) -> int:
        """Primitive cells in all supercells together."""
        return sum(cell.size for cell in self.cells)


def nondiagonal_cells(
    crystal: Atoms, settings: NondiagonalSettings | None = None, *, kpoints: Grid | None = None
) -> NondiagonalSet:
    """Return non-diagonal supercells that hold every q-point of a grid, up to symmetry.

    With `choice: stars` no set whose members are each the smallest supercell of some point of the grid has fewer
    atoms: a star that gets no supercell lies in a larger one that is needed anyway, and each of the others lies in
    none but its own.

    Parameters
    ----------
    crystal
        Periodic structure, best primitive: the grid and the sizes count its cell. Not changed.
    settings
        Grid, choice, tolerance.
    kpoints
        Gamma-centred k-grid of the primitive cell, e.g. of `gapfactory.reference.kpoints.primitive_grid`. With it the
        supercells are in a basis that has the same k-points (see `gapfactory.build.commensurate`) and know their grid.

    Raises
    ------
    InputError
        The divisions are not positive, or the crystal is not periodic in three directions; the k-grid is no multiple
        of a supercell's q-points.
    """
    settings = settings or NondiagonalSettings()
    grid = q_grid(crystal, settings.divisions, settings.symprec)
    first = grid.numerators[grid.representatives]
    sizes = grid.sizes[grid.representatives]
    held = [_stars_held(grid, q, int(size)) for q, size in zip(first, sizes, strict=True)]
    done: set[int] = set()
    chosen: list[NondiagonalCell] = []
    for star in np.argsort(sizes if settings.choice == "published" else -sizes, kind="stable").tolist():
        if star in done:
            continue
        q, size = first[star], int(sizes[star])
        if settings.choice == "published":
            multiples = np.arange(1, size)[:, None] * q % grid.denominator
            same = {tuple(m) for m in multiples.tolist()}
            done |= {s for s in held[star] if sizes[s] == size and tuple(first[s].tolist()) in same} | {star}
        else:
            done |= held[star]
        form, stars = smallest_supercell(q.tolist(), grid.denominator), tuple(sorted(held[star]))
        if kpoints is None:
            chosen.append(NondiagonalCell(_reduced(form, crystal.cell.array), size, stars))
        else:
            matrix, its_grid = commensurate_cell(form, kpoints, crystal.cell.array)
            chosen.append(NondiagonalCell(matrix, size, stars, its_grid))
    return NondiagonalSet(grid, tuple(chosen), kpoints)


def smallest_supercell(numerators: Sequence[int], denominator: int) -> NDArray[np.int64]:
    """Return the smallest supercell that holds q = numerators / denominator, in Hermite normal form.

    Its rows span the integer vectors s with s . q integer. The form is that of
    `gapfactory.build.shaken.supercell_shapes`: upper triangular, entries at least 0 and smaller than the diagonal
    element below them.

    Parameters
    ----------
    numerators
        Three integers.
    denominator
        Positive.
    """
    n1, n2, n3 = (int(n) % denominator for n in numerators)
    # values of the last coordinate alone, of the last two, of all: multiples of these, modulo the denominator
    g3 = gcd(n3, denominator)
    g2, f = gcd(n2, g3), denominator // g3
    g1, c = gcd(n1, g2), g3 // g2
    a = g2 // g1

    def last(value: int) -> int:
        """Return d in 0 ... f - 1 with value + d n3 = 0 modulo the denominator; value is a multiple of g3."""
        return -(value // g3) * pow(n3 // g3, -1, f) % f

    e = last(c * n2)
    b = -(a * n1 // g2) * pow(n2 // g2, -1, c) % c
    return np.array([[a, b, last(a * n1 + b * n2)], [0, c, e], [0, 0, f]], dtype=np.int64)


def _stars_held(grid: QGrid, q: NDArray[np.int64], size: int) -> set[int]:
    """Return the stars of all multiples of q."""
    return set(grid.star[grid.index(np.arange(size)[:, None] * q)].tolist())


def _reduced(matrix: NDArray[np.int64], cell: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a matrix of the same supercell whose vectors are the shortest, of positive determinant."""
    _, transformation = reduce_lattice(matrix @ cell)
    reduced = np.rint(transformation).astype(np.int64) @ matrix
    # the handedness is the crystal's
    return reduced if np.linalg.det(reduced) > 0 else -reduced
