"""One anneal as a state machine, as a relaxation is: it yields the structure it wants evaluated and is sent the answer.

What it is at any step is a plain state (`AnnealState`): positions, velocities, cell, step and sums of what is measured.
Its noise depends on (seed, step) alone, so an anneal that goes on from a stored state ends in the same bits as one
that was never interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.units import GPa

from gapfactory.errors import RelaxationError
from gapfactory.search.anneal_steps import FreeMotion, Noise, Thermostat
from gapfactory.search.descent import bare_copy, operations
from gapfactory.search.guards import Guards, GuardTrippedError, sound, uncertainty_limit
from gapfactory.search.trajectory import Frame, trajectory_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.search.evaluator import Answer, Evaluation
    from gapfactory.search.settings import AnnealSettings, RelaxSettings
    from gapfactory.search.trajectory import Trajectory

__all__ = ["Anneal", "AnnealFacts", "AnnealState", "anneal", "find_temperature"]


@dataclass(frozen=True)
class AnnealState:
    """Where an anneal stands after a step.

    Attributes
    ----------
    step
        Steps done.
    temperature_K
        Its temperature.
    ladder
        Lindemann ratios of the scan that found it, hotter and hotter; empty where it was given.
    positions, velocities
        (N, 3) in Å, not wrapped, and in ASE's units.
    cell
        (3, 3) rows in Å.
    start_energy, heat
        Total energy at the start, and what the thermostat has given since, eV.
    kinetic
        Sum over the steps of the temperatures by the degrees of freedom, K.
    mean, square
        Sums over the second half of the steps of the displacements (N, 3) and of their squares (N,), in Å and Å^2.
    limit
        Uncertainty beyond which it ends.
    spent
        Evaluations of the scan.
    frames
        Frames kept.
    """

    step: int
    temperature_K: float
    ladder: tuple[float, ...]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    cell: NDArray[np.float64]
    start_energy: float
    heat: float
    kinetic: float
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    limit: float
    spent: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class AnnealFacts:
    """What an anneal was, in numbers.

    Attributes
    ----------
    temperature_K
        As set, or as found.
    ladder
        Lindemann ratios of the scan, by temperature; empty where the temperature was given.
    kinetic_K
        Mean temperature by the degrees of freedom.
    degrees
        Degrees of freedom of the atoms.
    lindemann
        Root-mean-square displacement from the mean places in the second half, in mean distances of nearest neighbours.
    drift_meV
        Change of the energy that is conserved at fixed cell (total minus heat), per atom; None with a variable cell.
    n_steps, n_evaluations
        Time steps; evaluations, those of the scan included.
    relaxed_energy_per_atom, relaxed_enthalpy_per_atom
        Of the relaxation before, in eV: where a plain search would have ended.
    """

    temperature_K: float
    ladder: tuple[float, ...]
    kinetic_K: float
    degrees: int
    lindemann: float
    drift_meV: float | None
    n_steps: int
    n_evaluations: int
    relaxed_energy_per_atom: float = np.nan
    relaxed_enthalpy_per_atom: float = np.nan


@dataclass(frozen=True)
class Anneal:
    """One anneal.

    Attributes
    ----------
    path
        Frames kept, the last one always; ``failed`` where a guard stopped it, else ``unconverged``.
    facts
        Its numbers.
    """

    path: Trajectory
    facts: AnnealFacts


class _Now(NamedTuple):
    """A geometry with velocities, and what the potential says of it: forces (N, 3) and stress (3, 3) projected."""

    found: Evaluation
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    cell: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    heat: float = 0.0


class _Run:
    """Dynamics of one cell at one temperature."""

    def __init__(
        self,
        start: Atoms,
        settings: RelaxSettings,
        temperature_K: float,
        *,
        seed: int,
        run: int,
        pressure_GPa: float,
        moves_cell: bool,
    ) -> None:
        wanted = _wanted(settings)
        self.structure = bare_copy(start)
        group = operations(self.structure, settings.symmetry_tolerance) if wanted.keep_symmetry else None
        masses = self.structure.get_masses()
        volume = float(self.structure.get_volume())
        self.free = FreeMotion(self.structure, masses, group)
        self.thermostat = Thermostat(
            wanted,
            temperature_K,
            masses,
            self.free,
            Noise(seed, run),
            pressure=pressure_GPa * GPa,
            volume=volume,
            moves_cell=moves_cell,
        )
        self.n_evaluations = 0
        self._every = wanted.reproject_steps
        self._sites = np.linalg.solve(self.structure.cell.array.T, self.structure.positions.T).T
        self._guards = Guards(settings, self.structure.numbers, volume)

    def at(
        self,
        positions: NDArray[np.float64],
        velocities: NDArray[np.float64],
        cell: NDArray[np.float64],
        heat: float = 0.0,
    ) -> Generator[Atoms, Answer, _Now]:
        """Evaluate a geometry."""
        self._guards.check(abs(float(np.linalg.det(cell))), positions, cell)
        self.structure.positions[:] = positions
        self.structure.cell[:] = cell
        self.n_evaluations += 1
        found = sound((yield self.structure), len(positions))
        return _Now(found, positions, velocities, cell, *self.free.forces(found.forces, found.stress), heat)

    def start(self) -> Generator[Atoms, Answer, _Now]:
        """Evaluate the start, with the velocities of the temperature."""
        positions, cell = self.structure.positions.copy(), self.structure.cell.array.copy()
        return (yield from self.at(positions, self.thermostat.velocities(), cell))

    def displacements(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far atoms are from where they began, (N, 3), the motion of the cell left out."""
        return positions - self._sites @ cell

    def step(self, number: int, now: _Now) -> Generator[Atoms, Answer, _Now]:
        """Do one step, numbered from 1."""
        thermostat = self.thermostat
        kicked = thermostat.kick(now.velocities, now.forces)
        positions, velocities, cell, heat = thermostat.move(
            number, now.positions, kicked, now.cell, now.stress
        )
        if number % self._every == 0:
            positions, cell = self.free.geometry(positions, cell)
        then = yield from self.at(positions, velocities, cell, heat)
        return then._replace(velocities=thermostat.kick(velocities, then.forces))


def _wanted(settings: RelaxSettings) -> AnnealSettings:
    if settings.anneal is None:
        raise RelaxationError("there is no anneal in the settings: set relax.anneal.")
    return settings.anneal


def anneal(
    start: Atoms,
    settings: RelaxSettings,
    *,
    seed: int,
    pressure_GPa: float,
    state: AnnealState | None = None,
    temperature: tuple[float, tuple[float, ...], int] | None = None,
    save: Callable[[AnnealState], None] | None = None,
) -> Generator[Atoms, Answer, Anneal]:
    """Yield the structures to evaluate one after the other; return the anneal.

    Parameters
    ----------
    start
        Relaxed structure, periodic in three directions; not changed.
    settings
        With `anneal`; the guards are those of the relaxation.
    seed
        Of the noise, below 2**128.
    pressure_GPa
        On a variable cell.
    state
        Go on from here; `start` is the same as it was.
    temperature
        Temperature (K), ladder and evaluations, as `find_temperature` returns them; by default that of the settings.
    save
        Told the state every `checkpoint_steps`, and the first one.

    Raises
    ------
    RelaxationError
        The structure cannot be annealed, or no temperature is known.
    """
    wanted = _wanted(settings)
    moves_cell = "variable" == wanted.cell == settings.cell
    kelvin, ladder, spent = temperature or (wanted.temperature_K, (), 0)
    if state is not None:
        kelvin, ladder, spent = state.temperature_K, state.ladder, state.spent
    if kelvin is None:
        raise RelaxationError("the anneal has no temperature: give one, or find it with find_temperature.")
    run = _Run(start, settings, kelvin, seed=seed, run=0, pressure_GPa=pressure_GPa, moves_cell=moves_cell)
    n, before = len(run.structure), state.step if state else 0
    # a cell that nothing can move needs no time
    total = wanted.n_steps if run.free.rank or moves_cell else 0
    every = max(1, total // wanted.frames) if wanted.frames else total + 1
    thermostat, reason, left = run.thermostat, "", False
    drift = uncertainty = None
    try:
        if state is None:
            now = yield from run.start()
            state = AnnealState(
                step=0,
                temperature_K=kelvin,
                ladder=ladder,
                positions=now.positions,
                velocities=now.velocities,
                cell=now.cell,
                start_energy=now.found.energy + thermostat.kinetic(now.velocities),
                heat=0.0,
                kinetic=0.0,
                mean=np.zeros((n, 3)),
                square=np.zeros(n),
                limit=uncertainty_limit(settings.stopping_uncertainty, now.found.uncertainty),
                spent=spent,
                frames=(),
            )
            if save is not None:
                save(state)
        else:
            now = yield from run.at(state.positions, state.velocities, state.cell)
        while state.step < total and not left:
            number = state.step + 1
            now = yield from run.step(number, now)
            uncertainty = now.found.uncertainty
            left = uncertainty is not None and uncertainty > state.limit
            frames = state.frames
            if left or number % every == 0 or number == total:
                force = float(np.sqrt((now.forces**2).sum(axis=1).max()))
                frames = (*frames, Frame(number, now.positions, now.cell, now.found.energy, force))
            mean, square = state.mean, state.square
            if 2 * number > total:
                moved = run.displacements(now.positions, now.cell)
                mean, square = mean + moved, square + (moved**2).sum(axis=1)
            state = replace(
                state,
                step=number,
                positions=now.positions,
                velocities=now.velocities,
                cell=now.cell,
                heat=state.heat + now.heat,
                kinetic=state.kinetic + thermostat.temperature(now.velocities),
                mean=mean,
                square=square,
                frames=frames,
            )
            if save is not None and number % wanted.checkpoint_steps == 0 and number < total:
                save(state)
        if not moves_cell:
            energy = now.found.energy + thermostat.kinetic(now.velocities)
            drift = 1000.0 * (energy - state.heat - state.start_energy) / n
    except GuardTrippedError as guard:
        reason = f"anneal, step {state.step + 1 if state else 0}: {guard}"
    done = state.step if state else 0
    # an evaluation that was repeated to go on is no result
    evaluations = spent + before + run.n_evaluations
    return Anneal(
        trajectory_of(
            state.frames if state else (),
            "failed" if reason else "unconverged",
            reason or ("left known space during the anneal" if left else "annealed to the end"),
            pressure_GPa=pressure_GPa,
            numbers=run.structure.numbers,
            n_steps=done,
            n_evaluations=evaluations,
            left_known_space=left,
            uncertainty=uncertainty,
        ),
        AnnealFacts(
            temperature_K=kelvin,
            ladder=ladder,
            kinetic_K=state.kinetic / done if state and done else 0.0,
            degrees=run.free.rank,
            lindemann=_lindemann(start, state.mean, state.square, done - total // 2) if state else 0.0,
            drift_meV=drift,
            n_steps=done,
            n_evaluations=evaluations,
        ),
    )


def find_temperature(
    start: Atoms, settings: RelaxSettings, *, seed: int
) -> Generator[Atoms, Answer, tuple[float, tuple[float, ...], int]]:
    """Scan temperatures, see `MobilityScanSettings`; return that of the anneal, Lindemann ratios and evaluations.

    Parameters are those of `anneal`. A run that trips a guard, or in which the potential leaves what it knows, is too
    hot.
    """
    wanted = _wanted(settings)
    found: list[float] = []
    spent = 0
    for number, kelvin in enumerate(wanted.ladder, 1):
        run = _Run(start, settings, kelvin, seed=seed, run=number, pressure_GPa=0.0, moves_cell=False)
        if not run.free.rank:
            break
        found.append((yield from _mobility(run, start, settings)))
        spent += run.n_evaluations
        if found[-1] > wanted.scan.lindemann:
            break
    solid = sum(ratio <= wanted.scan.lindemann for ratio in found)
    return wanted.ladder[max(solid, 1) - 1], tuple(found), spent


def _mobility(run: _Run, start: Atoms, settings: RelaxSettings) -> Generator[Atoms, Answer, float]:
    """Return the Lindemann ratio of a run, infinite where it cannot go on."""
    total = _wanted(settings).scan_steps
    mean, square = np.zeros((len(start), 3)), np.zeros(len(start))
    try:
        now = yield from run.start()
        limit = uncertainty_limit(settings.stopping_uncertainty, now.found.uncertainty)
        for number in range(1, total + 1):
            now = yield from run.step(number, now)
            if now.found.uncertainty is not None and now.found.uncertainty > limit:
                return np.inf
            if 2 * number > total:
                moved = run.displacements(now.positions, now.cell)
                mean += moved
                square += (moved**2).sum(axis=1)
    except GuardTrippedError:
        return np.inf
    return _lindemann(start, mean, square, total // 2)


def _lindemann(start: Atoms, mean: NDArray[np.float64], square: NDArray[np.float64], count: int) -> float:
    """Return the Lindemann ratio of sums over `count` steps; 0 of none."""
    if count < 1:
        return 0.0
    spread = square / count - ((mean / count) ** 2).sum(axis=1)
    return float(np.sqrt(max(float(spread.mean()), 0.0))) / _nearest(start)


def _nearest(atoms: Atoms) -> float:
    """Return the mean distance (Å) of the atoms to their nearest neighbour, images included."""
    from ase.neighborlist import neighbor_list

    reach = 1.5 * (np.sqrt(2.0) * atoms.get_volume() / len(atoms)) ** (1 / 3)
    while True:
        first, length = neighbor_list("id", atoms, reach)
        nearest = np.full(len(atoms), np.inf)
        np.minimum.at(nearest, first, length)
        if np.isfinite(nearest).all():
            return float(nearest.mean())
        reach *= 1.5
