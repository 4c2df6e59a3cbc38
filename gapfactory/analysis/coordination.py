"""Networks of bonds: coordination sequences that name a framework, and in how many dimensions a network extends.

The coordination sequence of an atom is the number of atoms that are one, two, three ... bonds away from it (Meier and
Moeck, J. Solid State Chem. 27, 349 (1979)); together with the space group it tells most frameworks apart, whatever the
lengths of bonds. The dimensionality of a network is the rank of the lattice vectors that its closed paths through the
crystal add up to: 0 molecules and cages, 1 chains and tubes, 2 layers, 3 frameworks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["BondNetwork", "Component"]

#: images along each direction that a packed integer can tell apart; far more than shells that can be counted
_IMAGES = 1 << 14


@dataclass(frozen=True)
class Component:
    """Atoms that bonds connect, to each other or to each other's images.

    Nets that go through each other and differ by a lattice vector only, as in cuprite, are one component.

    Attributes
    ----------
    atoms
        Indices in the structure, ascending.
    dimensionality
        0 molecule or cage, 1 chain or tube, 2 layer, 3 framework.
    """

    atoms: tuple[int, ...]
    dimensionality: int


@dataclass(frozen=True, eq=False)
class BondNetwork:
    """Atoms of a cell and the bonds between them and their images.

    Attributes
    ----------
    n_atoms
        Atoms N.
    first, second : (B,)
        Atoms at both ends of each bond; every bond is listed from both ends.
    shifts : (B, 3)
        Cell of the second atom relative to that of the first, in cell vectors.
    """

    n_atoms: int
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shifts: NDArray[np.int64]

    @classmethod
    def within(cls, atoms: Atoms, cutoff: float) -> BondNetwork:
        """Return the network of all pairs nearer than a distance in Å.

        Raises
        ------
        InputError
            The cutoff is not positive.
        """
        from ase.neighborlist import neighbor_list

        if not cutoff > 0.0:
            msg = f"bonds shorter than {cutoff:g} Å: give a positive length"
            raise InputError(msg)
        first, second, shifts = neighbor_list("ijS", atoms, cutoff)
        return cls(len(atoms), first.astype(np.int64), second.astype(np.int64), shifts.astype(np.int64))

    @cached_property
    def coordination(self) -> NDArray[np.int64]:
        """Bonds of each atom, shape (N,)."""
        return np.bincount(self.first, minlength=self.n_atoms)

    def sequences(self, shells: int = 5) -> NDArray[np.int64]:
        """Return the coordination sequence of each atom, shape (N, shells).

        Raises
        ------
        InputError
            `shells` is not between 1 and 1000.
        """
        if not 1 <= shells <= 1000:
            msg = f"{shells} shells: give a number between 1 and 1000"
            raise InputError(msg)
        starts = np.searchsorted(self.first, np.arange(self.n_atoms + 1))
        steps = self._packed(self.second, self.shifts) - self._packed(self.first, np.zeros_like(self.shifts))
        found = np.zeros((self.n_atoms, shells), dtype=np.int64)
        for atom in range(self.n_atoms):
            before = np.empty(0, dtype=np.int64)
            shell = self._packed(np.array([atom]), np.zeros((1, 3), dtype=np.int64))
            for k in range(shells):
                here = shell % self.n_atoms
                counts = starts[here + 1] - starts[here]
                bonds = np.repeat(starts[here] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
                reached = np.unique(np.repeat(shell, counts) + steps[bonds])
                # whoever is bonded to a shell is in it, or in the one before or after it
                seen = np.concatenate([before, shell])
                before, shell = shell, reached[~np.isin(reached, seen)]
                found[atom, k] = len(shell)
        return found

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Connected parts with their dimensionalities, in the order of their first atoms."""
        bonds_of: list[list[int]] = [[] for _ in range(self.n_atoms)]
        for bond, atom in enumerate(self.first.tolist()):
            bonds_of[atom].append(bond)
        second = self.second.tolist()
        image: dict[int, NDArray[np.int64]] = {}
        found = []
        for start in range(self.n_atoms):
            if start in image:
                continue
            image[start] = np.zeros(3, dtype=np.int64)
            waiting, members, loops = [start], [start], [np.zeros(3, dtype=np.int64)]
            while waiting:
                atom = waiting.pop()
                for bond in bonds_of[atom]:
                    other, place = second[bond], image[atom] + self.shifts[bond]
                    if other in image:
                        loops.append(place - image[other])
                    else:
                        image[other] = place
                        waiting.append(other)
                        members.append(other)
            rank = int(np.linalg.matrix_rank(np.unique(np.array(loops), axis=0).astype(float)))
            found.append(Component(tuple(sorted(members)), rank))
        return tuple(found)

    @property
    def dimensionality(self) -> int:
        """The highest of all components."""
        return max(part.dimensionality for part in self.components)

    def _packed(self, atoms: NDArray[np.int64], cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return one integer for each atom of a cell; sums of differences of cells stay in their own digits."""
        number = (cells[:, 0] * _IMAGES + cells[:, 1]) * _IMAGES + cells[:, 2]
        return number * self.n_atoms + atoms
