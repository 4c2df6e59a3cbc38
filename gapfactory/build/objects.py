"""What is put on the sites of a space group: single atoms, or units of several that stay together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Unit", "atom", "random_rotation"]


@dataclass(frozen=True, eq=False)
class Unit:
    """Atoms that are placed together.

    Parameters
    ----------
    symbols
        Chemical symbols, (m,).
    positions
        (m, 3) Å, Cartesian, relative to the point that is put on a site.
    rigid
        Whether the unit is pushed as one body; otherwise its atoms are pushed one by one.
    """

    symbols: tuple[str, ...]
    positions: NDArray[np.float64]
    rigid: bool = True

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.symbols)


def atom(symbol: str) -> Unit:
    """Return the unit that is one atom."""
    return Unit((symbol,), np.zeros((1, 3)))


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a proper rotation, (3, 3), uniform over all of them (of a normalised Gaussian quaternion)."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
