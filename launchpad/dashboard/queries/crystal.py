"""A structure as it is stored, without ASE: pages show numbers of it, and a server that loads ASE has 40 MB less."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.elements import symbol_of, tabulated_radius
from gapfactory.errors import UnknownElementError
from gapfactory.structures import content_hash
from launchpad.database.packing import unpack_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Crystal"]


@dataclass(frozen=True)
class Crystal:
    """Atoms in a cell, or without one.

    Attributes
    ----------
    numbers
        Atomic numbers, shape (N,).
    positions
        Shape (N, 3), Å.
    cell
        Lattice vectors as rows, shape (3, 3), Å; zeros where there is none.
    pbc
        Along which it is periodic, shape (3,).
    """

    numbers: NDArray[np.int32]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]

    @classmethod
    def of(cls, packed: Mapping[str, Any]) -> Crystal:
        """Return what `launchpad.database.packing.pack_atoms` stored."""
        numbers, positions, cell = (unpack_array(packed[name]) for name in ("numbers", "positions", "cell"))
        return cls(numbers, positions, cell, np.array(packed["pbc"], dtype=bool))

    @classmethod
    def frame(cls, relaxation: Mapping[str, Any], number: int) -> Crystal:
        """Return one frame of a stored trajectory."""
        positions, cells = (unpack_array(relaxation[name])[number] for name in ("positions", "cells"))
        return cls(unpack_array(relaxation["numbers"]), positions, cells, np.ones(3, dtype=bool))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """The element of each atom."""
        return [symbol_of(int(number)) for number in self.numbers]

    @property
    def formula(self) -> str:
        """Chemical formula: carbon and hydrogen first, the rest in the order of the alphabet (Hill)."""
        counts = Counter(self.symbols)
        first = [s for s in ("C", "H") if s in counts] if "C" in counts else []
        order = [*first, *sorted(set(counts) - set(first))]
        return "".join(s + (str(counts[s]) if counts[s] > 1 else "") for s in order)

    @property
    def hash(self) -> str:
        """Content hash, see `gapfactory.structures`."""
        return content_hash(self.numbers, self.positions, self.cell, self.pbc)

    @property
    def volume(self) -> float:
        """Å^3; 0 without a cell."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def lengths_and_angles(self) -> tuple[float, ...]:
        """Lengths a, b, c (Å) and angles alpha, beta, gamma (degrees) of a cell that has a volume."""
        lengths = np.linalg.norm(self.cell, axis=1)
        angles = [
            np.degrees(np.arccos(np.clip(self.cell[i] @ self.cell[j] / lengths[i] / lengths[j], -1.0, 1.0)))
            for i, j in ((1, 2), (0, 2), (0, 1))
        ]
        return (*(float(x) for x in lengths), *(float(x) for x in angles))

    @property
    def radii(self) -> list[float]:
        """Covalent radius of each atom, Å; 0.2 for elements that the table does not have, as viewers take it."""
        return [_radius(symbol) for symbol in self.symbols]


def _radius(symbol: str) -> float:
    try:
        return tabulated_radius(symbol, "covalent")
    except UnknownElementError:
        return 0.2
