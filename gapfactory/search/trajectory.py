"""What a relaxation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["RelaxStatus", "Trajectory"]

RelaxStatus = Literal["converged", "unconverged", "failed"]


@dataclass(frozen=True)
class Trajectory:
    """The kept frames of one relaxation, with T frames of N atoms.

    Attributes
    ----------
    status
        ``converged``: the last frame meets both force thresholds. ``unconverged``: it does not, but the
        frames are sound. ``failed``: a guard stopped the relaxation; the sound frames before that are kept
        (T may be 0).
    reason
        Why it stopped, in words.
    pressure_GPa
        External pressure, in GPa.
    numbers
        (N,) atomic numbers.
    steps
        (T,) optimiser step of each frame, ascending; step 0 is the starting structure.
    positions
        (T, N, 3) in Å, not wrapped.
    cells
        (T, 3, 3) rows are lattice vectors, in Å.
    energies
        (T,) potential energies of the cell, in eV.
    enthalpies
        (T,) energies + p V, in eV.
    max_forces
        (T,) largest force on an atom, in eV/Å.
    cell_forces
        (T,) largest row norm of V (stress + p) / N, in eV.
    n_steps
        Optimiser steps taken.
    n_evaluations
        Calls of the calculator (steps + rejected trial steps of the line search + 1).
    """

    status: RelaxStatus
    reason: str
    pressure_GPa: float
    numbers: NDArray[np.int_]
    steps: NDArray[np.int_]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    energies: NDArray[np.float64]
    enthalpies: NDArray[np.float64]
    max_forces: NDArray[np.float64]
    cell_forces: NDArray[np.float64]
    n_steps: int
    n_evaluations: int

    def __len__(self) -> int:
        return len(self.steps)

    def frame(self, k: int) -> Atoms:
        """Return frame `k` (negative counts from the end) as periodic atoms without a calculator.

        Raises
        ------
        IndexError
            There is no such frame.
        """
        from ase import Atoms

        return Atoms(numbers=self.numbers, positions=self.positions[k], cell=self.cells[k], pbc=True)
