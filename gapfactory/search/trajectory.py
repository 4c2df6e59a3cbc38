"""What a relaxation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from ase.units import GPa

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.search.anneal import AnnealFacts

__all__ = ["Frame", "FrameCollector", "Point", "RelaxStatus", "Trajectory", "joined", "trajectory_of"]

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


class Frame(NamedTuple):
    """What is kept of a step: positions (N, 3) and cell (3, 3) in Å, energy in eV, residuals as in `Trajectory`."""

    step: int
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    energy: float
    force: float
    cell_force: float = np.nan


@dataclass(frozen=True)
class Trajectory:
    """The kept frames of one relaxation, with T frames of N atoms.

    Of a hot search they are those of relaxation, anneal and relaxation, the steps counted on.

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
        (T,) optimiser step, or time step, of each frame, ascending; step 0 is the starting structure.
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
        (T,) largest row norm of V (stress + p) / N, in eV; NaN in an anneal.
    n_steps
        Steps taken.
    n_evaluations
        Calls of the calculator (steps + rejected trial steps of the line search + 1).
    left_known_space
        Whether the uncertainty of the potential ended it; the last frame is where.
    anneal
        Of a hot search, what its anneal was.
    uncertainty
        Of the potential at the last evaluation that was kept, as in `Evaluation`; None where it was not asked for.
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
    anneal: AnnealFacts | None = None
    uncertainty: float | None = None

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

    def as_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads; floats survive exactly."""
        return {
            field.name: value.tolist() if isinstance(value, np.ndarray) else value
            for field in fields(self)
            for value in (getattr(self, field.name),)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trajectory:
        """Return what `as_json` was given."""
        n = len(data["numbers"])
        shapes = {"positions": (-1, n, 3), "cells": (-1, 3, 3)}
        arrays = {
            name: np.array(data[name], dtype=int if name in {"numbers", "steps"} else float).reshape(
                shapes.get(name, (-1,))
            )
            for name in (
                *("numbers", "steps", "positions", "cells", "energies", "enthalpies"),
                *("max_forces", "cell_forces"),
            )
        }
        return cls(**{**data, **arrays})


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
        numbers: NDArray[np.int_],
        n_steps: int,
        n_evaluations: int,
        left_known_space: bool = False,
    ) -> Trajectory:
        """Return what was kept."""
        kept = list(self._kept)
        if self._last is not None and kept[-1] is not self._last:
            kept.append(self._last)
        return trajectory_of(
            [Frame(step, p.positions, p.cell, p.energy, p.force, p.cell_force) for step, p in kept],
            status,
            reason,
            pressure_GPa=pressure_GPa,
            numbers=numbers,
            n_steps=n_steps,
            n_evaluations=n_evaluations,
            left_known_space=left_known_space,
            uncertainty=None if self._last is None else self._last[1].uncertainty,
        )


def trajectory_of(
    frames: Sequence[Frame],
    status: RelaxStatus,
    reason: str,
    *,
    pressure_GPa: float,
    numbers: NDArray[np.int_],
    n_steps: int,
    n_evaluations: int,
    left_known_space: bool = False,
    uncertainty: float | None = None,
) -> Trajectory:
    """Return frames as a trajectory; see there for the parameters."""
    cells = np.array([f.cell for f in frames], dtype=float).reshape(-1, 3, 3)
    energies = np.array([f.energy for f in frames], dtype=float)
    return Trajectory(
        status=status,
        reason=reason,
        pressure_GPa=float(pressure_GPa),
        numbers=np.array(numbers),
        steps=np.array([f.step for f in frames], dtype=int),
        positions=np.array([f.positions for f in frames], dtype=float).reshape(-1, len(numbers), 3),
        cells=cells,
        energies=energies,
        enthalpies=energies + pressure_GPa * GPa * np.abs(np.linalg.det(cells)),
        max_forces=np.array([f.force for f in frames], dtype=float),
        cell_forces=np.array([f.cell_force for f in frames], dtype=float),
        n_steps=n_steps,
        n_evaluations=n_evaluations,
        left_known_space=left_known_space,
        uncertainty=uncertainty,
    )


def joined(parts: Sequence[Trajectory], anneal: AnnealFacts) -> Trajectory:
    """Return the parts of a hot search as one trajectory that ended as the last part did.

    The first frame of a part is the last one of the part before, and is kept once.
    """
    steps, kept, done = [], [], 0
    for part in parts:
        keep = (part.steps > 0) | (done == 0)
        steps.append(part.steps[keep] + done)
        kept.append(keep)
        done += part.n_steps

    def all_of(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(part, name)[keep] for part, keep in zip(parts, kept, strict=True)])

    return Trajectory(
        status=parts[-1].status,
        reason=parts[-1].reason,
        pressure_GPa=parts[0].pressure_GPa,
        numbers=parts[0].numbers,
        steps=np.concatenate(steps),
        positions=all_of("positions"),
        cells=all_of("cells"),
        energies=all_of("energies"),
        enthalpies=all_of("enthalpies"),
        max_forces=all_of("max_forces"),
        cell_forces=all_of("cell_forces"),
        n_steps=done,
        n_evaluations=sum(part.n_evaluations for part in parts),
        left_known_space=parts[-1].left_known_space,
        anneal=anneal,
        uncertainty=parts[-1].uncertainty,
    )
