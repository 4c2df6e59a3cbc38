"""Molecular dynamics that a potential has to survive: guards, what stopped it, and the last sound frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError, PotentialError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms
    from numpy.random import Generator
    from numpy.typing import NDArray

    from gapfactory.analysis.stability_settings import StabilitySettings

__all__ = ["Dynamics", "default_timestep", "run_dynamics"]

#: blocks that a trace is averaged into, at the most
_BLOCKS = 400
#: steps between two looks at the interatomic distances: 10 fs of a 2 fs step, in which no atom goes far
_LOOK_EVERY = 5
#: frames that are kept, spaced by this many looks
_FRAMES, _FRAME_EVERY = 3, 2
#: time constant of the running mean of the temperature, ps; longer than a vibration, shorter than a run
_MEMORY_PS = 0.5
#: multiples of the wanted temperature that the running mean and a single step may not exceed
_HOT, _FLASH = 1.8, 4.0
#: RMS displacement, in shortest distances, beyond which atoms do not sit on their sites any more
_LATTICE_LOST = 0.35
#: what a calculator raises when it gives up on a structure
_GIVES_UP = (ArithmeticError, ValueError, RuntimeError, PotentialError)


@dataclass(frozen=True)
class Dynamics:
    """What became of one run, traced in B blocks of equal time.

    Parameters
    ----------
    survived
        Whether the run reached its end within every bound.
    reason
        What ended it early, or what the checks at its end found; empty when it survived.
    n_atoms, temperature_K, timestep_fs, duration_ps
        What was asked for.
    reached_ps
        How far it came at constant temperature.
    times
        (B,) end of each block, ps.
    temperatures, energies, shortest
        (B,) mean temperature (K), mean potential energy above the crystal at rest (eV/atom) and shortest distance (Å).
    displacement
        RMS distance (Å) of the atoms from where they began, without the drift of the whole, in the last frame.
    kept_lattice
        Whether the atoms still sit on their sites.
    drift_meV_per_ps
        Slope of the total energy per atom in the part without thermostat, or None when it was not reached.
    frames
        The last sound frames, oldest first.
    frame_times
        Their times, ps.
    """

    survived: bool
    reason: str
    n_atoms: int
    temperature_K: float
    timestep_fs: float
    duration_ps: float
    reached_ps: float
    times: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    energies: NDArray[np.float64]
    shortest: NDArray[np.float64]
    displacement: float
    kept_lattice: bool
    drift_meV_per_ps: float | None
    frames: tuple[Atoms, ...] = ()
    frame_times: tuple[float, ...] = ()

    def sentence(self) -> str:
        """Return what happened, in one sentence without its full stop."""
        what = f"molecular dynamics of {self.n_atoms} atoms at {self.temperature_K:.0f} K"
        if not self.survived:
            return f"Does not survive {what}: after {self.reached_ps:.3g} of {self.duration_ps:.3g} ps {self.reason}"
        text = f"Survives {self.duration_ps:.3g} ps of {what}"
        if self.drift_meV_per_ps is not None:
            text += f"; drift without thermostat {self.drift_meV_per_ps:+.2g} meV/atom/ps"
        if not self.kept_lattice:
            text += (
                f"; the crystal did not last: its atoms are {self.displacement:.2g} Å (RMS) from their sites, it "
                "melted or became another structure"
            )
        return text


def default_timestep(masses: NDArray[np.float64]) -> float:
    """Return a time step in fs: 2 for silicon, with the root of the lightest mass for others, 0.25 to 3."""
    return float(np.clip(2.0 * np.sqrt(float(masses.min()) / 28.085), 0.25, 3.0))


class _Stopped(Exception):  # noqa: N818 - ends a run, is no error
    """A guard ended the run; carries the reason and never leaves this module."""


@dataclass
class _Watch:
    """Checks every step of a run and keeps its trace."""

    atoms: Atoms
    settings: StabilitySettings
    temperature: float
    timestep: float
    crystal_energy: float
    floor: float
    contact: float
    nearest: float
    block: int
    steps: int = 0
    smooth: float = 0.0
    totals: list[float] = field(default_factory=list)
    rows: list[tuple[float, float, float, float]] = field(default_factory=list)
    frames: deque[tuple[float, Atoms]] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, np.inf])

    @property
    def time(self) -> float:
        """Time of the run, ps."""
        return self.steps * self.timestep / 1000.0

    def look(self, energy: float, forces: NDArray[np.float64]) -> None:
        """Take in a step; raise `_Stopped` when something is wrong with it."""
        self.steps += 1
        if not (
            np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(self.atoms.positions).all()
        ):
            raise _Stopped("energy, forces or positions are not finite numbers")
        n, settings = len(self.atoms), self.settings
        per_atom, temperature = energy / n, float(self.atoms.get_temperature())
        if per_atom < self.floor:
            raise _Stopped(
                f"it fell into a hole of the potential: {per_atom:.3f} eV/atom, "
                f"{self.crystal_energy - per_atom:.3f} below the crystal at rest, where no known structure is"
            )
        ceiling = settings.max_rise_eV + 3.0 * _KB * self.temperature
        if per_atom - self.crystal_energy > ceiling:
            raise _Stopped(
                f"the potential energy rose {per_atom - self.crystal_energy:.3f} eV/atom above the crystal "
                f"(allowed {ceiling:.2f}): it flew apart or atoms collided"
            )
        self.smooth += (temperature - self.smooth) * min(1.0, self.timestep / (1000.0 * _MEMORY_PS))
        if self.smooth > _HOT * self.temperature or temperature > _FLASH * self.temperature:
            raise _Stopped(
                f"the temperature ran away to {temperature:.0f} K (mean over {_MEMORY_PS:g} ps {self.smooth:.0f} K)"
            )
        self.totals.append(per_atom + 1.5 * _KB * temperature)
        distance = np.inf
        if self.steps % _LOOK_EVERY == 0:
            distance = _shortest(self.atoms, self.nearest)
            if distance < self.contact:
                raise _Stopped(
                    f"two atoms came as close as {distance:.2f} Å, less than {settings.closest_approach:g} of the "
                    f"crystal's shortest distance of {self.nearest:.2f} Å"
                )
            if self.steps % (_LOOK_EVERY * _FRAME_EVERY) == 0:
                self.keep_frame()
        self._record(temperature, per_atom - self.crystal_energy, distance)

    def keep_frame(self) -> None:
        """Keep the present frame as the newest sound one."""
        self.frames.append((self.time, self.atoms.copy()))

    def _record(self, temperature: float, energy: float, distance: float) -> None:
        sums = self._sums
        sums[0] += 1.0
        sums[1] += temperature
        sums[2] += energy
        sums[3] = min(sums[3], distance)
        if sums[0] >= self.block:
            self.flush()

    def flush(self) -> None:
        """End the present block."""
        count, temperature, energy, distance = self._sums
        if count:
            shortest = distance if np.isfinite(distance) else _shortest(self.atoms, self.nearest)
            self.rows.append((self.time, temperature / count, energy / count, shortest))
        self._sums = [0.0, 0.0, 0.0, np.inf]


#: Boltzmann's constant, eV/K
_KB = 8.617333262e-5


def _shortest(atoms: Atoms, nearest: float) -> float:
    """Return the shortest distance (Å); the crystal's own where no two atoms are that near."""
    from ase.neighborlist import neighbor_list

    found = neighbor_list("d", atoms, nearest)
    return float(found.min()) if len(found) else nearest


def run_dynamics(
    crystal: Atoms,
    calculator: Any,
    *,
    temperature_K: float,
    settings: StabilitySettings,
    rng: Generator,
    known_energy: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Dynamics:
    """Run molecular dynamics of a crystal and judge it: Langevin at constant temperature, then a part without it.

    The cell is fixed. The run ends early, with the reason in words, on the first step that is not sound: energy or
    forces that are not finite, a calculator that refuses, two atoms too close, an energy far below every known
    structure (a hole of the potential) or far above the crystal, a temperature that runs away. At its end the mean
    temperature must be the wanted one within 20 %, and the total energy must be conserved without thermostat.

    Parameters
    ----------
    crystal
        The supercell at rest; not changed.
    calculator
        ASE calculator with energy and forces.
    temperature_K
        Temperature of the run.
    settings
        Durations and bounds.
    rng
        Velocities and thermostat.
    known_energy
        Lowest energy per atom (eV) of any known structure; by default the crystal's own.
    progress
        Called with a line of text ten times during the run.

    Raises
    ------
    EvidenceError
        Two atoms of the crystal coincide, so there is nothing to start from.
    """
    atoms = crystal.copy()
    atoms.calc = calculator
    timestep = settings.timestep_fs or default_timestep(atoms.get_masses())
    n_steps = max(1, round(1000.0 * settings.duration_ps / timestep))
    nearest = _crystal_distance(crystal)
    try:
        energy = float(atoms.get_potential_energy()) / len(atoms)
    except _GIVES_UP as error:
        raise EvidenceError(
            f"the potential refuses the crystal itself ({_words(error)}); there is no run"
        ) from error
    lowest = energy if known_energy is None else min(energy, known_energy)
    watch = _Watch(
        atoms,
        settings,
        temperature=temperature_K,
        timestep=timestep,
        crystal_energy=energy,
        floor=lowest - settings.hole_margin_eV,
        contact=settings.closest_approach * nearest,
        nearest=nearest,
        block=max(1, -(-n_steps // _BLOCKS)),
        smooth=temperature_K,
    )
    watch.keep_frame()
    reason, drift, reached = "", None, 0.0
    try:
        _advance(watch, _thermostat(atoms, temperature_K, timestep, settings, rng), n_steps, progress)
        reached = watch.time
        reason = _settled(watch)
        watch.flush()
        if not reason and settings.nve_ps > 0:
            drift, reason = _drift(watch, settings)
    except _Stopped as stop:
        reason, reached = str(stop), reached or watch.time
        watch.flush()
    rows = np.array([row for row in watch.rows if row[0] <= reached + 1e-9], dtype=float).reshape(-1, 4)
    displacement = _displacement(watch.frames[-1][1], crystal)
    return Dynamics(
        survived=not reason,
        reason=reason,
        n_atoms=len(atoms),
        temperature_K=temperature_K,
        timestep_fs=timestep,
        duration_ps=n_steps * timestep / 1000.0,
        reached_ps=reached,
        times=rows[:, 0],
        temperatures=rows[:, 1],
        energies=rows[:, 2],
        shortest=rows[:, 3],
        displacement=displacement,
        kept_lattice=displacement < _LATTICE_LOST * nearest,
        drift_meV_per_ps=drift,
        frames=tuple(frame for _, frame in watch.frames),
        frame_times=tuple(time for time, _ in watch.frames),
    )


def _crystal_distance(crystal: Atoms) -> float:
    from ase.neighborlist import neighbor_list

    cutoff = 1.3 * float(np.cbrt(crystal.get_volume() / len(crystal)))
    while not len(found := neighbor_list("d", crystal, cutoff)):
        cutoff *= 1.5
    nearest = float(found.min())
    if nearest < 0.1:
        raise EvidenceError(f"two atoms of the crystal are {nearest:.2g} Å apart; give another one")
    return nearest


def _thermostat(
    atoms: Atoms, temperature: float, timestep: float, settings: StabilitySettings, rng: Generator
) -> Any:
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import Stationary

    # at rest on its sites, the crystal soon turns half of this into potential energy
    widths = np.sqrt(2.0 * temperature * units.kB * atoms.get_masses())
    atoms.set_momenta(widths[:, None] * rng.standard_normal((len(atoms), 3)))
    Stationary(atoms)
    return Langevin(
        atoms,
        timestep * units.fs,
        temperature_K=temperature,
        friction=settings.friction_per_ps / (1000.0 * units.fs),
        rng=rng,
        # the whole takes part in the thermal motion; its drift is taken out where sites are compared
        fixcm=False,
    )


def _advance(watch: _Watch, integrator: Any, n_steps: int, progress: Callable[[str], None] | None) -> None:
    """Make the steps; every one is looked at."""
    atoms, tenth = watch.atoms, max(1, n_steps // 10)
    try:
        for step, _ in enumerate(integrator.irun(n_steps)):
            if not step:
                continue  # the state before the first step
            watch.look(float(atoms.get_potential_energy()), atoms.get_forces())
            if progress is not None and step % tenth == 0:
                progress(f"molecular dynamics: {watch.time:.3g} ps, {watch.smooth:.0f} K")
    except _GIVES_UP as error:
        raise _Stopped(f"the potential refused a structure: {_words(error)}") from error


def _settled(watch: _Watch) -> str:
    """Return what is wrong with the mean temperature of the second half, or nothing."""
    kinetic = [row[1] for row in watch.rows[len(watch.rows) // 2 :]]
    # the mean of few, correlated blocks scatters: short runs get no verdict from it
    if watch.time < 10 * _MEMORY_PS or not kinetic:
        return ""
    mean = float(np.mean(kinetic))
    if abs(mean - watch.temperature) > 0.2 * watch.temperature:
        return f"the mean temperature was {mean:.0f} K, although a thermostat held {watch.temperature:.0f} K"
    return ""


def _drift(watch: _Watch, settings: StabilitySettings) -> tuple[float, str]:
    """Go on without thermostat; return the slope of the total energy (meV/atom/ps) and what is wrong with it."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    watch.totals.clear()
    steps = max(10, round(1000.0 * settings.nve_ps / watch.timestep))
    _advance(watch, VelocityVerlet(watch.atoms, watch.timestep * units.fs), steps, None)
    totals = np.array(watch.totals)
    times = np.arange(len(totals)) * watch.timestep / 1000.0
    slope = 1000.0 * float(np.polyfit(times, totals, 1)[0])
    if abs(slope) > settings.max_drift_meV_per_ps:
        return slope, (
            f"the total energy drifted by {slope:+.1f} meV/atom/ps without thermostat (allowed "
            f"{settings.max_drift_meV_per_ps:g}): forces do not belong to the energy, or it jumps"
        )
    return slope, ""


def _displacement(atoms: Atoms, crystal: Atoms) -> float:
    moved = atoms.positions - crystal.positions
    moved -= moved.mean(axis=0)
    return float(np.sqrt((moved**2).sum(axis=1).mean()))


def _words(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
