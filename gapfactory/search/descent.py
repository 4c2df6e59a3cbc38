"""One relaxation as a state machine: it yields the structure it wants evaluated and is sent the answer.

The optimiser is the L-BFGS of ASE's ``PreconLBFGS`` (Packwood et al., J. Chem. Phys. 144, 164109 (2016)) step by step,
with its line search; ASE's own drives one calculator and cannot wait for a batch. The variables are those of ASE's
``FrechetCellFilter``: positions in the undeformed cell, and N times the logarithm U of the deformation exp(U), so that
the gradient is exact and a traceless step keeps the volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.units import GPa

from gapfactory.errors import RelaxationError
from gapfactory.search._batch_lbfgs import direction, learn, place, pull_back, symmetrise
from gapfactory.search.guards import Guards, GuardTrippedError, sound, uncertainty_limit
from gapfactory.search.trajectory import FrameCollector, Point

if TYPE_CHECKING:
    from collections.abc import Generator

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.search.evaluator import Answer
    from gapfactory.search.settings import MinimiserSettings
    from gapfactory.search.trajectory import RelaxStatus, Trajectory

    Asking = Generator[Atoms, Answer, Point]

__all__ = ["Minimisation", "bare_copy", "descend", "operations"]

# PreconLBFGS's own: pairs remembered, initial inverse Hessian without a preconditioner in Å^2/eV (its `alpha` has no
# effect there), sufficient decrease, and the trial lengths between which a guess is believed
_MEMORY = 100
_INVERSE_HESSIAN = 1.0
_DECREASE = 0.23
_SHORTEST, _LONGEST = 1e-10, 2.0


@dataclass(frozen=True)
class Minimisation:
    """What to minimise, and which frames to keep.

    Attributes
    ----------
    start
        Starting structure, periodic in three directions.
    pressure_GPa
        External pressure, in GPa.
    settings
        Optimiser, thresholds and guards.
    keep_first, thinning_ratio
        Frames to keep, as in `RelaxSettings`.
    symmetry_tolerance
        Keep the space group found within this distance (Å), or None.
    fixed_volume
        Minimise the energy over shape and positions only.
    fixed_cell
        Minimise it over positions only.
    max_uncertainty
        End where the uncertainty exceeds this and that of the start, as in `RelaxSettings`, or None.
    """

    start: Atoms
    pressure_GPa: float
    settings: MinimiserSettings
    keep_first: int
    thinning_ratio: float
    symmetry_tolerance: float | None
    fixed_volume: bool = False
    max_uncertainty: float | None = None
    fixed_cell: bool = False


class _NoDescentError(Exception):
    """The line search found no lower enthalpy; never leaves this module."""


def bare_copy(atoms: Atoms) -> Atoms:
    """Return numbers, positions and cell of a structure that can be relaxed.

    Raises
    ------
    RelaxationError
        It has no atoms, is not periodic, not finite or has no volume.
    """
    from ase import Atoms as AseAtoms

    if len(atoms) == 0:
        raise RelaxationError("there is no atom to relax: give a structure with at least one atom.")
    if not atoms.pbc.all():
        raise RelaxationError(
            f"pbc is {atoms.pbc.tolist()}: only cells periodic in three directions are relaxed."
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise RelaxationError(
            "a position or cell vector of the starting structure is not finite: build it again."
        )
    if atoms.get_volume() < 1e-6:
        raise RelaxationError(f"the cell {atoms.cell.array.tolist()} has no volume: build it again.")
    return AseAtoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def descend(task: Minimisation) -> Generator[Atoms, Answer, Trajectory]:
    """Yield the structures to evaluate one after the other; return the trajectory.

    The structure that is yielded is the same object every time.

    Raises
    ------
    RelaxationError
        The structure cannot be relaxed.
    """
    landscape = _Landscape(task)
    frames = FrameCollector(task.keep_first, task.thinning_ratio)
    settings = task.settings
    status: RelaxStatus = "failed"
    steps, left = 0, False
    try:
        optimiser = _LBFGS(landscape, settings)
        point = yield from landscape.start()
        frames.add(0, point)
        limit = uncertainty_limit(task.max_uncertainty, point.uncertainty)
        while True:
            if point.force < settings.force_threshold and point.cell_force < settings.cell_force_threshold:
                status, reason = "converged", "both residuals below their thresholds"
                break
            if point.uncertainty is not None and point.uncertainty > limit:
                status, left = "unconverged", True
                reason = (
                    f"left known space: the uncertainty reached {point.uncertainty:.2f} (allowed {limit:.2f})"
                )
                break
            if steps >= settings.max_steps:
                status = "unconverged"
                reason = f"residuals still above their thresholds after {steps} of at most {settings.max_steps} steps"
                break
            point = yield from optimiser.step(point)
            steps += 1
            frames.add(steps, point)
    except GuardTrippedError as guard:
        reason = str(guard)
    except _NoDescentError as end:
        status, reason = "unconverged", str(end)
    return frames.trajectory(
        status,
        reason,
        pressure_GPa=task.pressure_GPa,
        numbers=landscape.structure.numbers,
        n_steps=steps,
        n_evaluations=landscape.n_evaluations,
        left_known_space=left,
    )


class _Landscape:
    """The enthalpy of one structure over its variables, with the guards that stop a relaxation gone wrong."""

    def __init__(self, task: Minimisation) -> None:
        settings = task.settings
        self.structure = bare_copy(task.start)
        self.pressure = task.pressure_GPa * GPa
        self.n_evaluations = 0
        self._fixed_volume, self._fixed_cell = task.fixed_volume, task.fixed_cell
        self._symmetry: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None
        if task.symmetry_tolerance is not None:
            self._symmetry = operations(self.structure, task.symmetry_tolerance)
        self._start_cell = self.structure.cell.array.copy()
        self._start_volume = float(self.structure.get_volume())
        self._guards = Guards(settings, self.structure.numbers, self._start_volume)

    def start(self) -> Asking:
        """Evaluate the structure as it was given, to the last bit."""
        n = len(self.structure)
        variables = np.concatenate([self.structure.positions, np.zeros((3, 3))])
        return (
            yield from self._evaluate(
                variables, np.eye(3), self._start_volume, variables[:n].copy(), self._start_cell.copy()
            )
        )

    def at(self, variables: NDArray[np.float64]) -> Asking:
        """Evaluate at variables (N + 3, 3)."""
        deformation, cell = np.empty((3, 3)), np.empty((3, 3))
        positions = np.empty((len(variables) - 3, 3))
        volume = place(variables, self._start_cell, deformation, positions, cell)
        return (yield from self._evaluate(variables, deformation, volume, positions, cell))

    def _evaluate(
        self,
        variables: NDArray[np.float64],
        deformation: NDArray[np.float64],
        volume: float,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
    ) -> Asking:
        self._guards.check(volume, positions, cell)
        self.structure.positions[:] = positions
        self.structure.cell[:] = cell
        self.n_evaluations += 1
        found = sound((yield self.structure), len(positions))
        energy, forces, stress = found.energy, found.forces, found.stress
        if self._symmetry is not None:
            forces, stress = symmetrise(*self._symmetry, forces, stress)
        gradient = np.empty_like(variables)
        force, cell_force = pull_back(
            variables, deformation, volume, forces, stress, self.pressure, self._fixed_volume, gradient
        )
        if self._fixed_cell:
            gradient[-3:], cell_force = 0.0, 0.0
        enthalpy = energy + self.pressure * volume
        return Point(
            variables, gradient, enthalpy, force, cell_force, energy, positions, cell, found.uncertainty
        )


class _LBFGS:
    """Directions from a limited memory, and the line search along them."""

    def __init__(self, landscape: _Landscape, settings: MinimiserSettings) -> None:
        size = 3 * (len(landscape.structure) + 3)
        rows = min(_MEMORY, max(settings.max_steps, 1))
        self._landscape = landscape
        self._settings = settings
        self._inverse = _preconditioner(landscape.structure, settings)
        # one row more than is used, for the pair that may turn out to be none
        self._steps, self._changes = np.empty((rows + 1, size)), np.empty((rows + 1, size))
        self._products = np.empty(rows + 1)
        self._oldest = self._count = 0
        self._before: Point | None = None
        self._enthalpy_before: float | None = None

    def step(self, point: Point) -> Asking:
        """Go one step; a step from which the line search finds no way down forgets what was learnt and stays.

        Raises
        ------
        _NoDescentError
            There was nothing to forget.
        """
        fresh = self._before is None
        if self._before is not None:
            self._learn(point, self._before)
        search = np.empty(point.gradient.size)
        slope, longest = direction(
            point.gradient.ravel(),
            self._steps,
            self._changes,
            self._products,
            self._oldest,
            self._count,
            _INVERSE_HESSIAN,
            self._inverse,
            search,
        )
        found = None
        if slope < 0.0 and np.isfinite(slope):
            found = yield from self._search(point, search.reshape(-1, 3), slope, longest)
        if found is None:
            if fresh:
                raise _NoDescentError(
                    "the line search found no lower enthalpy along the gradient: it may not belong to the energy"
                )
            self._before = None
            self._oldest = self._count = 0
            return point
        self._before, self._enthalpy_before = point, point.enthalpy
        return found

    def _learn(self, point: Point, before: Point) -> None:
        """Remember the last step, unless the enthalpy curves downwards along it.

        The Armijo rule alone does not promise positive curvature. A pair without it makes the next direction point
        uphill, which costs a reset of everything learnt and a step that does not move.
        """
        rows = len(self._products)
        if learn(
            point.variables.ravel(),
            point.gradient.ravel(),
            before.variables.ravel(),
            before.gradient.ravel(),
            self._steps,
            self._changes,
            self._products,
            (self._oldest + self._count) % rows,
        ):
            if self._count == rows - 1:
                self._oldest = (self._oldest + 1) % rows
            else:
                self._count += 1

    def _search(
        self, point: Point, search: NDArray[np.float64], slope: float, longest: float
    ) -> Generator[Atoms, Answer, Point | None]:
        """Return the first trial that is low enough (Armijo's rule, quadratic interpolation), or None."""
        length = 1.0
        if self._enthalpy_before is not None:
            length = 2.0 * (point.enthalpy - self._enthalpy_before) / slope
            if not _SHORTEST <= length <= _LONGEST:
                length = 1.0
        if length * longest >= self._settings.max_step:
            length = self._settings.max_step / longest
        if abs(length - 1.0) <= 0.5:
            length = 1.0
        while length >= _SHORTEST:
            trial = yield from self._landscape.at(point.variables + length * search)
            if trial.enthalpy <= point.enthalpy + _DECREASE * length * slope:
                return trial
            rise = trial.enthalpy - point.enthalpy
            best = -slope * length / (2.0 * (rise / length - slope))
            length = max(best, length / 10.0)
        return None


def operations(structure: Atoms, tolerance: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Make `structure` exactly symmetric; return the Cartesian rotations (G, 3, 3) and the images (G, N) of its atoms.

    The steps are sums of gradients, so gradients averaged over the group keep it; the operations are those of the
    start throughout, because a symmetric deformation commutes with them.
    """
    from ase.constraints import FixSymmetry

    found = FixSymmetry(structure, symprec=tolerance)
    cell = structure.cell.array
    rotations = np.array([cell.T @ r @ np.linalg.inv(cell.T) for r in found.rotations])
    return rotations, np.array(found.symm_map, dtype=np.int64)


def _preconditioner(atoms: Atoms, settings: MinimiserSettings) -> NDArray[np.float64]:
    """Return the inverse (N + 3, N + 3) of the exponential preconditioner of the starting structure, or (0, 0).

    ASE's ``Exp`` estimates its scales by walking outwards over neighbour shells and displacing atoms: on dense random
    cells that takes long or never ends, so both are given. The length is that of a close-packed cell.
    """
    if settings.preconditioner == "none":
        return np.empty((0, 0))
    from ase.neighborlist import neighbor_list

    n = len(atoms)
    nearest = (np.sqrt(2.0) * atoms.get_volume() / n) ** (1 / 3)
    scale = settings.initial_hessian / 12
    first, second, length = neighbor_list("ijd", atoms, 2.0 * nearest)
    strength = scale * np.exp(-3.0 * (length / nearest - 1.0))
    matrix = np.eye(n + 3)
    matrix[:n, :n] *= 0.1 * scale
    np.add.at(matrix, (first, first), strength)
    np.add.at(matrix, (first, second), -strength)
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
