"""Hot random search: relax, anneal, relax again, as one state machine.

C. J. Pickard, Faraday Discuss. 256, 61 (2025), Fig. 2.

Its steps ask for evaluations as those of a relaxation do, so cells in any part of a search share the calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gapfactory.search.anneal import AnnealState, anneal, find_temperature
from gapfactory.search.descent import Minimisation, descend
from gapfactory.search.trajectory import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ase import Atoms

    from gapfactory.search.evaluator import Answer
    from gapfactory.search.settings import RelaxSettings
    from gapfactory.search.trajectory import Trajectory

__all__ = ["Checkpoint", "SearchJob", "minimisation", "search"]


@dataclass(frozen=True)
class Checkpoint:
    """From where a search goes on whose anneal was interrupted.

    Attributes
    ----------
    relaxed
        The relaxation before.
    state
        Of the anneal.
    """

    relaxed: Trajectory
    state: AnnealState


@dataclass(frozen=True)
class SearchJob:
    """One cell of a search.

    Attributes
    ----------
    start
        As it was made; not changed.
    pressure_GPa
        External pressure.
    settings
        With `anneal`, a hot search; without, one relaxation.
    seed
        Of the noise of the anneal, below 2**128.
    checkpoint
        Go on from here.
    save
        Told where the anneal stands, see `AnnealSettings.checkpoint_steps`.
    """

    start: Atoms
    pressure_GPa: float
    settings: RelaxSettings
    seed: int = 0
    checkpoint: Checkpoint | None = None
    save: Callable[[Checkpoint], None] | None = None


def minimisation(start: Atoms, pressure_GPa: float, settings: RelaxSettings) -> Minimisation:
    """Return how a cell is relaxed by these settings."""
    return Minimisation(
        start=start,
        pressure_GPa=pressure_GPa,
        settings=settings,
        keep_first=settings.keep_first_steps,
        thinning_ratio=settings.thinning_ratio,
        symmetry_tolerance=settings.symmetry_tolerance if settings.keep_symmetry else None,
        max_uncertainty=settings.stopping_uncertainty,
        fixed_cell=settings.cell == "fixed",
    )


def search(job: SearchJob) -> Generator[Atoms, Answer, Trajectory]:
    """Yield the structures to evaluate one after the other; return the trajectory.

    A relaxation or anneal that fails, or leaves known space, ends the search as that.

    Raises
    ------
    RelaxationError
        The structure cannot be relaxed.
    """
    settings, pressure, before = job.settings, job.pressure_GPa, job.checkpoint
    if before is None:
        relaxed = yield from descend(minimisation(job.start, pressure, settings))
    else:
        relaxed = before.relaxed
    if settings.anneal is None or relaxed.status == "failed" or relaxed.left_known_space:
        return relaxed
    start, found, save = relaxed.frame(-1), None, job.save
    if before is None and settings.anneal.temperature_K is None:
        found = yield from find_temperature(start, settings, seed=job.seed)
    annealed = yield from anneal(
        start,
        settings,
        seed=job.seed,
        pressure_GPa=pressure,
        state=None if before is None else before.state,
        temperature=found,
        save=None if save is None else lambda state: save(Checkpoint(relaxed, state)),
    )
    facts = replace(
        annealed.facts,
        relaxed_energy_per_atom=float(relaxed.energies[-1]) / len(start),
        relaxed_enthalpy_per_atom=float(relaxed.enthalpies[-1]) / len(start),
    )
    path = annealed.path
    if path.status == "failed" or path.left_known_space:
        return joined([relaxed, path], facts)
    end = path.frame(-1) if len(path) else start
    return joined([relaxed, path, (yield from descend(minimisation(end, pressure, settings)))], facts)
