"""Fits a Gaussian approximation potential in stages: 2b, then 2b+3b, then 2b+3b+SOAP, as far as it has these."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.backends import (
    NativeBackend,
    Problem,
    ProgramBackend,
    package_versions,
    usable_cores,
)
from gapfactory.potentials.gap.check import Evaluation, evaluate, validate_potential
from gapfactory.potentials.gap.data import GapFit, StageFit, TrainErrors, checked, pool
from gapfactory.potentials.gap.deltas import binding_energies, judged, stage_delta
from gapfactory.potentials.gap.files import XML_NAME, read_manifest, write_manifest
from gapfactory.potentials.gap.memory import LARGEST_CROSS, estimate_memory
from gapfactory.potentials.gap.program import find_program
from gapfactory.potentials.gap.sigmas import Sigmas, adaptive_sigmas, crystal_sigmas, distance_to_hull
from gapfactory.potentials.gap.sparse import choose
from gapfactory.potentials.gap.terms import terms
from gapfactory.potentials.gap.trainfile import has_forces, virial_voigt
from gapfactory.potentials.gap.xml import sparse_files
from gapfactory.potentials.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.backends import Backend
    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.potentials.gap.sigmas import SigmaSettings
    from gapfactory.potentials.gap.terms import SpeciesLike

__all__ = ["fit_gap", "structure_sigmas", "train_errors"]

_TERM_NAMES = ("2b", "3b", "soap")


def structure_sigmas(
    data: Sequence[LabelledStructure], numbers: Sequence[int], settings: SigmaSettings
) -> dict[str, Sigmas]:
    """Return the absolute errors of every structure by id.

    Crystals get theirs from the distance above the hull in volume, composition and energy per atom, or those of
    forces and virials from the magnitude of each component; isolated atoms and dimers have fixed ones.

    Parameters
    ----------
    numbers
        Atomic numbers of the species; compositions are the fractions of all but the first.
    """
    sigmas = {
        item.id: Sigmas(
            settings.isolated_energy if item.kind == "isolated" else settings.dimer_energy,
            settings.dimer_force,
            settings.virial_high,
            0.0,
        )
        for item in data
        if item.kind != "crystal"
    }
    crystals = [item for item in data if item.kind == "crystal"]
    volumes = np.array([item.atoms.get_volume() / len(item.atoms) for item in crystals])
    energies = np.array([item.energy / len(item.atoms) for item in crystals])
    fractions = np.array([[(item.atoms.numbers == z).mean() for z in numbers[1:]] for item in crystals])
    above = distance_to_hull(volumes, energies, fractions.reshape(len(crystals), len(numbers) - 1))
    for item, value in zip(crystals, above, strict=True):
        n = len(item.atoms)
        if settings.rule == "hull":
            sigmas[item.id] = crystal_sigmas(float(value), n, settings)
            continue
        forces = item.forces if has_forces(item) else None
        sigmas[item.id] = adaptive_sigmas(forces, virial_voigt(item), n, settings, above_hull=float(value))
    return sigmas


def train_errors(
    data: Sequence[LabelledStructure], found: Evaluation
) -> tuple[TrainErrors, dict[str, tuple[float, float | None]]]:
    """Return the errors on the crystals, and by id the energy error (eV/atom) and force error (eV/A, rms)."""
    residuals: dict[str, tuple[float, float | None]] = {}
    for k, item in enumerate(data):
        energy = float(found.energies[k] - item.energy) / len(item.atoms)
        force = None
        if item.forces is not None and found.forces is not None:
            force = float(np.sqrt(np.mean((found.forces[k] - item.forces) ** 2)))
        residuals[item.id] = (energy, force)
    chosen = judged(data)
    energy_errors = np.array([residuals[data[k].id][0] for k in chosen])
    force_errors: list[NDArray[np.float64]] = []
    virial_errors: list[NDArray[np.float64]] = []
    for k in chosen:
        item = data[k]
        if item.forces is not None and found.forces is not None:
            force_errors.append(np.ravel(found.forces[k] - item.forces))
        if item.stress is not None and item.kind == "crystal" and found.stresses is not None:
            virial_errors.append(
                (found.stresses[k] - item.stress) * item.atoms.get_volume() / len(item.atoms)
            )

    def summary(parts: Sequence[NDArray[np.float64]]) -> tuple[float | None, float | None]:
        if not parts:
            return None, None
        values = np.concatenate(parts)
        return float(np.sqrt(np.mean(values**2))), float(np.mean(np.abs(values)))

    force_rmse, force_mae = summary(force_errors)
    virial_rmse, virial_mae = summary(virial_errors)
    errors = TrainErrors(
        n_structures=len(chosen),
        energy_rmse=float(np.sqrt(np.mean(energy_errors**2))),
        energy_mae=float(np.mean(np.abs(energy_errors))),
        force_rmse=force_rmse,
        force_mae=force_mae,
        virial_rmse=virial_rmse,
        virial_mae=virial_mae,
    )
    return errors, residuals


def _check_size(
    data: Sequence[LabelledStructure], species: Sequence[SpeciesLike], settings: GapSettings
) -> None:
    """Refuse a fit that cannot succeed before hours are spent on it."""
    crystals = [item for item in data if item.kind == "crystal"]
    if not crystals:
        return
    atoms = sum(len(item.atoms) for item in crystals)
    estimate = estimate_memory(
        n_structures=len(crystals),
        atoms_per_structure=atoms / len(crystals),
        volume_per_atom=sum(item.atoms.get_volume() for item in crystals) / atoms,
        species=species,
        settings=settings,
        forces=any(item.forces is not None for item in crystals),
        virials=any(item.stress is not None for item in crystals),
    )
    if estimate.too_many_derivatives:
        msg = (
            f"the terms {', '.join(estimate.too_many_derivatives)} have more than {LARGEST_CROSS} "
            "derivatives, which "
            "overflows gap_fit's counters: fit fewer structures, leave out virials, or shorten the cutoff"
        )
        raise FitError(msg)
    limit = settings.program.memory_limit_gb
    if limit is not None and estimate.peak_bytes > limit * 1e9:
        msg = (
            f"the fit needs about {estimate.peak_bytes / 1e9:.3g} GB, more than "
            "gap.program.memory_limit_gb = "
            f"{limit:g}: use a larger machine, fewer structures, or leave out virials"
        )
        raise FitError(msg)


def fit_gap(
    data: Sequence[LabelledStructure],
    *,
    species: Sequence[SpeciesLike],
    settings: GapSettings,
    seed: Callable[[int], np.random.Generator],
    workdir: Path,
    progress: Callable[[str], None] | None = None,
    extra_sparse_structures: Sequence[Atoms] = (),
    store: Path | None = None,
) -> GapFit:
    """Fit a potential, prove that it is complete, and measure its errors.

    Bernstein, Csányi and Deringer (2019), Methods. The same data, species, settings and seed give the same
    files to the last byte, whatever the order of the data and the number of threads.

    Parameters
    ----------
    data
        Labelled structures; one isolated atom per species is required.
    species
        Species of the potential.
    settings
        All numbers.
    seed
        Returns the random stream of the sparse points of term number k.
    workdir
        A fresh directory is made in it for this fit.
    progress
        Called with one line of text as the fit proceeds.
    extra_sparse_structures
        Structures without labels that sparse points may be chosen from as well, beside those of
        `settings.unlabelled`. They change nothing but the sparse points: see `pool`.
    store
        Directory of parts of earlier fits (see `solve.blocks`): a fit with the same sparse points computes only
        what is new. For the native backend.

    Raises
    ------
    FitError
        If labels are unusable, the program is missing, fails, runs out of time or did not use all the data.
    PotentialError
        If the fitted potential cannot be evaluated.
    """
    say = progress or (lambda _: None)
    begin = time.monotonic()
    ordered = sorted(species, key=lambda s: s.number)
    if settings.backend == "gap_fit":
        find_program(settings.program)
    items, duplicates, e0 = checked(data, [s.symbol for s in ordered])
    sigmas = structure_sigmas(items, [s.number for s in ordered], settings.sigma)
    limit = settings.sigma.discard_above
    discarded = tuple(i.id for i in items if limit is not None and sigmas[i.id].above_hull > limit)
    items = [item for item in items if item.id not in set(discarded)]
    _check_size(items, ordered, settings)
    workdir.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="fit-", dir=workdir))

    all_terms = terms(ordered, settings)
    unlabelled = [*settings.unlabelled.atoms(), *extra_sparse_structures]
    names, structures = pool(items, unlabelled, [s.symbol for s in ordered])
    points = [choose(term, structures, settings, seed(k), names) for k, term in enumerate(all_terms)]
    skipped = tuple(t.name for t, p in zip(all_terms, points, strict=True) if not len(p))
    kept = [(t, p) for t, p in zip(all_terms, points, strict=True) if len(p)]
    problem = Problem(items, sigmas, [t for t, _ in kept], [p for _, p in kept], e0, settings)
    wall = {"sparse points": time.monotonic() - begin}
    said = f", chosen from {len(structures)} structures" if unlabelled else ""
    say(f"{len(items)} structures, {sum(len(p) for _, p in kept)} sparse points{said}")

    stages = sorted({term.stage for term in problem.terms})
    if not stages:
        msg = "no two atoms of the training data are within the cutoff of any term: nothing can be fitted"
        raise FitError(msg)
    backend = _backend(problem, store)
    threads = settings.program.fit_threads or usable_cores()
    residuals = binding_energies(items, e0)
    deltas = _given_deltas(settings)
    reports: list[StageFit] = []
    for stage in stages[-1:] if settings.delta.fixed else stages:
        if not settings.delta.fixed:
            # As many digits as gap_fit is given, so that both backends solve the same equations.
            deltas[stage] = float(f"{stage_delta(stage, items, residuals, ordered, settings):.6g}")
        name = "+".join(_TERM_NAMES[k] for k in stages if k <= stage)
        directory = root / name
        solved = backend.solve(directory, stage, deltas)
        write_manifest(directory, energy_limit_per_atom=settings.energy_limit_per_atom, e0=dict(e0))
        start = time.monotonic()
        found = evaluate(
            solved.model,
            [item.atoms for item in items],
            properties="all" if stage == stages[-1] else "energy",
            threads=threads,
        )
        errors, by_id = train_errors(items, found)
        report = StageFit(
            name=name,
            delta=deltas[stage],
            n_sparse=tuple(len(p) for p in problem.points[: problem.up_to(stage)]),
            targets=solved.targets,
            wall_s={**solved.wall_s, "evaluate": time.monotonic() - start},
            errors=errors,
            diagnostics=solved.diagnostics,
        )
        reports.append(report)
        residuals = np.array([item.energy for item in items]) - found.energies
        wall |= {f"{name} {step}": seconds for step, seconds in report.wall_s.items()}
        say(f"{report.name}: delta {report.delta:.4g} eV, error {1000 * errors.energy_rmse:.3g} meV/atom")

    versions = package_versions("gapfactory", "numpy", "scipy", "ase") | dict(solved.versions)
    if settings.program.openmp_threads > 1 and versions.get("openmp") == "no":
        say("gap_fit is a serial build: openmp_threads has no effect")
    start = time.monotonic()
    final = _publish(directory, root / "potential")
    sentinels = [(items[k].atoms, float(found.energies[k])) for k in _sentinels(items)]
    validate_potential(
        final, sentinels, timeout_s=settings.program.evaluation_timeout_s, engine=backend.proof
    )
    wall["prove"] = time.monotonic() - start
    manifest = read_manifest(final)
    files = [XML_NAME, *sparse_files(final / XML_NAME), MANIFEST_NAME]
    wall["total"] = time.monotonic() - begin
    return GapFit(
        directory=final,
        files=tuple(final / name for name in files),
        sha256=dict(manifest["files"]),
        digest=str(manifest["digest"]),
        deltas={_TERM_NAMES[stage]: deltas[stage] for stage in stages},
        sigmas=sigmas,
        targets=reports[-1].targets,
        train_errors=errors,
        residuals=by_id,
        energies={item.id: float(e) for item, e in zip(items, found.energies, strict=True)},
        stages=tuple(reports),
        wall_s=wall,
        e0=e0,
        descriptors=tuple(" ".join(term.command.split()) for term in solved.model.terms),
        skipped=skipped,
        duplicates=duplicates,
        discarded=discarded,
        versions=versions,
        backend=settings.backend,
        threads=threads if settings.backend == "native" else settings.program.openmp_threads,
        peak_memory=_peak_memory(settings),
        pool=len(structures),
    )


def _backend(problem: Problem, store: Path | None) -> Backend:
    if problem.settings.backend == "gap_fit":
        return ProgramBackend(problem)
    if store is None:
        return NativeBackend(problem)
    from gapfactory.potentials.gap.solve import TriangleStore

    return NativeBackend(problem, TriangleStore(store))


def _peak_memory(settings: GapSettings) -> int:
    """Return the highest resident memory so far, bytes."""
    import resource
    import sys

    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    largest = max(own, children) if settings.backend == "gap_fit" else own
    return largest * (1 if sys.platform == "darwin" else 1024)


def _given_deltas(settings: GapSettings) -> list[float]:
    """Return the fixed deltas by stage number (a stage that is switched off takes none), or placeholders."""
    values = iter(settings.delta.fixed)
    return [next(values) if on and settings.delta.fixed else settings.delta.least for on in settings.enabled]


def _sentinels(items: Sequence[LabelledStructure]) -> list[int]:
    """Return the first structure of every kind: enough to recognise a potential."""
    kinds = [item.kind for item in items]
    return sorted(kinds.index(kind) for kind in dict.fromkeys(kinds))


def _publish(source: Path, target: Path) -> Path:
    """Copy the potential's own files, and nothing else, to their final place in one step."""
    manifest = read_manifest(source)
    scratch = target.with_name(f".{target.name}.part")
    scratch.mkdir()
    for name in (*manifest["files"], MANIFEST_NAME):
        shutil.copyfile(source / name, scratch / name)
    return scratch.rename(target)
