"""What a relaxation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["FrameCollector", "Point", "RelaxStatus", "Trajectory"]

RelaxStatus = Literal["converged", "unconverged", "failed"]


class Point(NamedTuple):
    """A place where everything is known: variables and gradient (N + 3, 3), enthalpy, and what a frame holds."""

    variables: NDArray[np.float64]
    gradient: NDArray[np.float64]
    enthalpy: float
    force: float
    cell_force: float
    energy: float
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    uncertainty: float | None = None


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
    left_known_space
        Whether the uncertainty of the potential ended it; the last frame is where.
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
    left_known_space: bool = False

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


@dataclass
class FrameCollector:
    """Collects the frames that thinning keeps, and always the last one.

    Attributes
    ----------
    keep_first
        Every frame up to this step is kept.
    thinning_ratio
        Later ones are kept when the step number has grown by this ratio since the last one kept.
    """

    keep_first: int
    thinning_ratio: float
    _kept: list[tuple[int, Point]] = field(default_factory=list)
    _last: tuple[int, Point] | None = None

    def add(self, step: int, point: Point) -> None:
        """Offer the frame of a step."""
        self._last = (step, point)
        if step <= self.keep_first or step >= self._kept[-1][0] * self.thinning_ratio:
            self._kept.append(self._last)

    def trajectory(
        self,
        status: RelaxStatus,
        reason: str,
        *,
        pressure_GPa: float,
        pressure: float,
        numbers: NDArray[np.int_],
        n_steps: int,
        n_evaluations: int,
        left_known_space: bool = False,
    ) -> Trajectory:
        """Return what was kept; `pressure` is in eV/Å^3."""
        frames = list(self._kept)
        if self._last is not None and frames[-1] is not self._last:
            frames.append(self._last)
        points = [point for _, point in frames]
        cells = np.array([p.cell for p in points], dtype=float).reshape(-1, 3, 3)
        energies = np.array([p.energy for p in points], dtype=float)
        return Trajectory(
            status=status,
            reason=reason,
            pressure_GPa=float(pressure_GPa),
            numbers=np.array(numbers),
            steps=np.array([step for step, _ in frames], dtype=int),
            positions=np.array([p.positions for p in points], dtype=float).reshape(-1, len(numbers), 3),
            cells=cells,
            energies=energies,
            enthalpies=energies + pressure * np.abs(np.linalg.det(cells)),
            max_forces=np.array([p.force for p in points], dtype=float),
            cell_forces=np.array([p.cell_force for p in points], dtype=float),
            n_steps=n_steps,
            n_evaluations=n_evaluations,
            left_known_space=left_known_space,
        )
