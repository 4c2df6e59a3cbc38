"""Labels for many structures, and energy-volume curves of named phases, under supervision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import InputError, ReferenceCalculationError
from gapfactory.reference.base import LabelOutcome, kind_of
from gapfactory.reference.engines.registry import make_engine
from gapfactory.reference.kpoints import kpoint_grid
from gapfactory.reference.program import ProgramEngine
from gapfactory.reference.settings import DftSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.reference.settings import EngineSettings
    from gapfactory.reference.site import ProgramSite
    from gapfactory.search.settings import PhaseRelaxSettings
    from gapfactory.search.trajectory import Trajectory

__all__ = [
    "CurvePoint",
    "energy_volume_reference",
    "label_structures",
    "relax_phase_reference",
    "relax_structures",
]


def label_structures(
    items: Sequence[tuple[str, Atoms]],
    settings: EngineSettings,
    workdir: Path,
    on_result: Callable[[LabelOutcome], None] | None = None,
    *,
    site: ProgramSite | None = None,
) -> list[LabelOutcome]:
    """Label structures by single points under supervision.

    A crash, a kill, an exit without a result, numbers that are not finite or of the wrong shape, a
    calculation that does not converge or exceeds its time concern that structure only: it climbs the engine's
    ladder of recovery steps and is quarantined with its reason at the end of it.

    Parameters
    ----------
    items
        (id, structure) with unique ids. Periodicity decides the kind (see `kind_of`).
    settings
        Of the engine.
    workdir
        Directory for this batch, made if missing. Results found there that match structure and settings are
        taken over, so a batch that was interrupted continues.
    on_result
        Called in this process, once per structure, as soon as its outcome is known.
    site
        How the engine's program is run here; None: as the site's file says.

    Returns
    -------
    list of LabelOutcome
        In the order of `items`.

    Raises
    ------
    MissingEngineError
        The code or its data are not installed.
    InputError
        Ids repeat, a structure is empty or not finite, or the settings cannot be used.
    ReferenceCalculationError
        The disk is full or not writable, or the process cannot even start; `MachineFaultError` where another try
        can succeed. No structure is marked as failed then.
    """

    def deliver(outcome: LabelOutcome, _: dict[str, Any] | None) -> None:
        if on_result is not None:
            on_result(outcome)

    return _run([(name, atoms, None) for name, atoms in items], settings, workdir, deliver, site)


@dataclass(frozen=True)
class CurvePoint:
    """One point of an energy-volume curve.

    Attributes
    ----------
    volume_per_atom
        In Å^3, as asked for.
    energy_per_atom
        In eV, consistent with the forces; None when the point failed.
    atoms
        The relaxed structure, or None.
    outcome
        Label (of the relaxed structure) or reason, and attempts.
    n_steps
        Relaxation steps.
    """

    volume_per_atom: float
    energy_per_atom: float | None
    atoms: Atoms | None
    outcome: LabelOutcome
    n_steps: int


def energy_volume_reference(
    atoms: Atoms,
    volumes_per_atom: Sequence[float],
    settings: EngineSettings,
    workdir: Path,
    *,
    relax_settings: PhaseRelaxSettings,
    keep_symmetry: bool = True,
    on_point: Callable[[CurvePoint], None] | None = None,
    site: ProgramSite | None = None,
) -> list[CurvePoint]:
    """Return the energy of a phase at given volumes, shape and positions relaxed, all on one k-point grid.

    Parameters
    ----------
    atoms
        The phase; the k-point grid is that of this cell as given.
    volumes_per_atom
        In Å^3, distinct.
    settings
        Of the engine.
    workdir
        Directory of this curve; points found there are not calculated again.
    relax_settings
        Thresholds of the relaxation at fixed volume.
    keep_symmetry
        Keep the space group of the phase.
    on_point
        Called as soon as a point is known.
    site
        As `label_structures`.

    Returns
    -------
    list of CurvePoint
        In the order of `volumes_per_atom`; a failed point carries its reason.

    Raises
    ------
    InputError, ReferenceCalculationError
        As `label_structures`.
    """
    volumes = [float(v) for v in volumes_per_atom]
    if len(set(volumes)) != len(volumes) or not all(v > 0 for v in volumes):
        raise InputError(f"volumes per atom {volumes} must be positive and distinct.")
    points: dict[str, CurvePoint] = {}
    by_name = {f"volume-{v!r}": v for v in volumes}

    def deliver(outcome: LabelOutcome, relaxation: dict[str, Any] | None) -> None:
        point = _point(atoms, by_name[outcome.id], outcome, relaxation)
        points[outcome.id] = point
        if on_point is not None:
            on_point(point)

    task = {"settings": relax_settings.model_dump(mode="json"), "keep_symmetry": keep_symmetry}
    items = [(name, atoms, {**task, "volume_per_atom": v}) for name, v in by_name.items()]
    _run(items, _one_grid(settings, atoms), workdir, deliver, site)
    return [points[name] for name in by_name]


def relax_phase_reference(
    atoms: Atoms,
    settings: EngineSettings,
    workdir: Path,
    *,
    relax_settings: PhaseRelaxSettings,
    keep_symmetry: bool = True,
    site: ProgramSite | None = None,
) -> CurvePoint:
    """Relax cell and positions of a phase with the reference, on the k-point grid of `atoms`.

    Returns
    -------
    CurvePoint
        Its volume is that of the relaxed cell.

    Raises
    ------
    InputError, ReferenceCalculationError
        As `label_structures`.
    """
    found: list[CurvePoint] = []

    def deliver(outcome: LabelOutcome, relaxation: dict[str, Any] | None) -> None:
        volume = (
            atoms.get_volume() if relaxation is None else abs(np.linalg.det(np.array(relaxation["cell"])))
        )
        found.append(_point(atoms, float(volume) / len(atoms), outcome, relaxation))

    task = {
        "settings": relax_settings.model_dump(mode="json"),
        "keep_symmetry": keep_symmetry,
        "volume_per_atom": None,
    }
    _run([("phase", atoms, task)], _one_grid(settings, atoms), workdir, deliver, site)
    return found[0]


def relax_structures(
    items: Sequence[tuple[str, Atoms]],
    settings: EngineSettings,
    workdir: Path,
    on_result: Callable[[LabelOutcome, Trajectory | None], None],
    *,
    relax_settings: PhaseRelaxSettings,
    pressure_GPa: float = 0.0,
    keep_symmetry: bool = False,
    site: ProgramSite | None = None,
) -> None:
    """Relax cells and positions of structures with the reference, each on the k-point grid that it begins with.

    Parameters
    ----------
    items
        (id, structure) with unique ids.
    settings
        Of the engine.
    workdir
        Directory of this batch; what is found there is not calculated again.
    on_result
        Called as soon as a relaxation has ended, in the order of `items` but for those that are tried again: with its
        path, converged or not, or without one and with the reason.
    relax_settings
        Thresholds and steps.
    pressure_GPa
        External pressure.
    keep_symmetry
        Keep the space group of each.
    site
        As `label_structures`.

    Raises
    ------
    InputError, ReferenceCalculationError
        As `label_structures`.
    """

    def deliver(outcome: LabelOutcome, relaxation: dict[str, Any] | None) -> None:
        from gapfactory.search.trajectory import Trajectory

        on_result(outcome, None if relaxation is None else Trajectory.from_json(relaxation["path"]))

    task = {
        "settings": relax_settings.model_dump(mode="json"),
        "keep_symmetry": keep_symmetry,
        "volume_per_atom": None,
        "pressure_GPa": pressure_GPa,
    }
    batches: dict[str, tuple[EngineSettings, list[tuple[str, Atoms, dict[str, Any] | None]]]] = {}
    for name, atoms in items:
        own = _one_grid(settings, atoms)
        batches.setdefault(own.model_dump_json(), (own, []))[1].append((name, atoms, task))
    for number, (own, batch) in enumerate(batches.values()):
        _run(batch, own, workdir / f"grid-{number}", deliver, site)


def _point(
    atoms: Atoms, volume: float, outcome: LabelOutcome, relaxation: dict[str, Any] | None
) -> CurvePoint:
    if outcome.label is None or relaxation is None:
        return CurvePoint(volume, None, None, outcome, 0)
    relaxed = atoms.copy()
    relaxed.calc = None
    relaxed.set_cell(relaxation["cell"])
    relaxed.positions[:] = relaxation["positions"]
    return CurvePoint(volume, outcome.label.energy / len(atoms), relaxed, outcome, int(relaxation["n_steps"]))


def _one_grid(settings: EngineSettings, atoms: Atoms) -> EngineSettings:
    """Return the settings with the k-point grid of `atoms` for every volume (if the engine has k-points)."""
    if isinstance(settings, DftSettings) and settings.kpoint_grid is None:
        return settings.model_copy(update={"kpoint_grid": kpoint_grid(atoms, settings.kpoint_density)})
    return settings


def _run(
    items: Sequence[tuple[str, Atoms, dict[str, Any] | None]],
    settings: EngineSettings,
    workdir: Path,
    deliver: Callable[[LabelOutcome, dict[str, Any] | None], None],
    site: ProgramSite | None,
) -> list[LabelOutcome]:
    names = [name for name, _, _ in items]
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise InputError(
            f"structure ids repeat: {', '.join(repeated)}. Give every structure an id of its own."
        )
    for name, atoms, _ in items:
        _check(name, atoms)
    directory = workdir.resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReferenceCalculationError(
            f"the working directory {directory} cannot be used: {error}. Free space or give another one."
        ) from error
    engine = make_engine(settings, site)
    if isinstance(engine, ProgramEngine):
        from gapfactory.reference.programs import run_programs

        outcomes = run_programs(engine, items, directory, deliver)
        return [outcomes[name] for name in names]
    from gapfactory.reference.session import Session
    from gapfactory.reference.supervise import supervise

    session = Session(items, settings, directory, deliver)
    if session.pending:
        supervise(session)
    return [session.outcomes[name] for name in names]


def _check(name: str, atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise InputError(f"structure {name} has no atoms: leave it out.")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(f"structure {name} has positions or a cell that are not finite: build it again.")
    if kind_of(atoms) == "crystal" and (not atoms.pbc.all() or atoms.get_volume() < 1e-6):
        raise InputError(
            f"structure {name} has pbc {atoms.pbc.tolist()} and volume {atoms.get_volume():.3g} Å^3: "
            "a crystal is periodic in three directions and has a volume, an isolated structure in none."
        )
