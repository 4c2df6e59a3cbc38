"""What reference calculations cost, as far as two sets of cells are compared: k-points times the cube of the atoms.

``C = sum over cells of n_k N^3``: the time of a plane-wave calculation grows as the cube of the number of atoms N, and
in proportion to the number of k-points (Allen and Bartók 2022, Sections 1 and 2.2). Two sets have equal cost if their C
is equal; the unit cancels. The k-points are those of the whole grid: displaced atoms leave no symmetry that would
reduce it, and time reversal halves all grids alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Grid = tuple[int, int, int]

__all__ = ["CostRow", "ReferenceCost", "affordable", "reference_cost"]


@dataclass(frozen=True)
class CostRow:
    """Cells that cost the same.

    Attributes
    ----------
    cells
        How many.
    atoms
        Atoms of each.
    grid
        k-points along the three reciprocal vectors.
    """

    cells: int
    atoms: int
    grid: Grid

    @property
    def kpoints(self) -> int:
        """k-points of each cell."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def total(self) -> int:
        """Cost of all of them, k-points x atoms^3."""
        return self.cells * self.kpoints * self.atoms**3


@dataclass(frozen=True)
class ReferenceCost:
    """Cost of labelling some cells.

    Attributes
    ----------
    rows
        Cells of one size and grid each, from the smallest.
    """

    rows: tuple[CostRow, ...]

    @property
    def cells(self) -> int:
        """How many cells."""
        return sum(row.cells for row in self.rows)

    @property
    def total(self) -> int:
        """Sum over the cells of k-points x atoms^3."""
        return sum(row.total for row in self.rows)

    def text(self) -> str:
        """Return a table for people, the total in its last line."""
        head = ("cells", "atoms", "k-points", "sum of k-points x atoms^3")
        lines = [
            (str(row.cells), str(row.atoms), "x".join(map(str, row.grid)), str(row.total))
            for row in self.rows
        ]
        lines.append((str(self.cells), "", "", str(self.total)))
        widths = [max(len(line[k]) for line in (head, *lines)) for k in range(4)]
        return "\n".join(
            "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True))
            for line in (head, *lines)
        )


def reference_cost(atoms: Sequence[int], grids: Sequence[Grid]) -> ReferenceCost:
    """Return the cost of labelling cells.

    Parameters
    ----------
    atoms
        (n,) atoms of each cell.
    grids
        (n,) k-points of each along its reciprocal vectors, e.g. of `gapfactory.reference.kpoints.kpoint_grid`.

    Raises
    ------
    InputError
        If there are not as many grids as cells, or a number is not positive.
    """
    if len(atoms) != len(grids):
        msg = f"there are {len(atoms)} cells and {len(grids)} grids of k-points: give one grid for each cell"
        raise InputError(msg)
    for n, grid in zip(atoms, grids, strict=True):
        if n < 1 or len(grid) != 3 or min(grid) < 1:
            msg = f"a cell of {n} atoms with {grid} k-points has no cost: all numbers must be positive"
            raise InputError(msg)
    counted = Counter((int(n), tuple(map(int, grid))) for n, grid in zip(atoms, grids, strict=True))
    return ReferenceCost(
        tuple(CostRow(count, n, (a, b, c)) for (n, (a, b, c)), count in sorted(counted.items()))
    )


def affordable(atoms: Sequence[int], grids: Sequence[Grid], budget: float) -> int:
    """Return how many cells, from the first, cost no more than `budget` together.

    Raises
    ------
    InputError
        See `reference_cost`.
    """
    reference_cost(atoms, grids)
    costs = [grid[0] * grid[1] * grid[2] * n**3 for n, grid in zip(atoms, grids, strict=True)]
    return sum(total <= budget for total in accumulate(costs))
