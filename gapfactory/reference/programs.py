"""Labels by programs, structure by structure; what is finished survives an interruption."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.reference.base import Label, LabelOutcome, Raw, kind_of
from gapfactory.reference.checks import voigt, wrong_numbers
from gapfactory.reference.faults import CalculationFailedError
from gapfactory.reference.recovery import machine_fault, run_program
from gapfactory.reference.settings import settings_hash
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.reference.program import ProgramEngine
    from gapfactory.reference.recovery import Calculation

__all__ = ["run_programs"]


def run_programs(
    engine: ProgramEngine,
    items: Sequence[tuple[str, Atoms, dict[str, Any] | None]],
    directory: Path,
    deliver: Callable[[LabelOutcome, dict[str, Any] | None], None],
) -> dict[str, LabelOutcome]:
    """Calculate structures one after the other.

    Parameters
    ----------
    engine
        Configured.
    items
        (id, structure, task) with unique ids; a task of None is a single point, else see `relax_with_reference`.
    directory
        Of this batch. Labels found there that match structure and settings are taken over.
    deliver
        Called once per structure with its outcome and, for a relaxation, what `relax_with_reference` returned.

    Returns
    -------
    dict
        Outcomes by id.

    Raises
    ------
    MissingEngineError
        The program or its data are not installed.
    MachineFaultError
        The machine is to blame; nothing is counted against a structure.
    """
    info = engine.info()
    hashes = engine.data_hashes(sorted({s for _, atoms, _ in items for s in atoms.symbols}))
    outcomes: dict[str, LabelOutcome] = {}
    for name, atoms, task in items:
        key = settings_hash(engine.settings, kind_of(atoms)) + json.dumps(task, sort_keys=True)
        place = _place(engine, directory, atoms, key)
        data = {symbol: hashes[symbol] for symbol in sorted(set(atoms.symbols))}
        outcome, relaxation = _taken_over(engine, name, atoms, key, data, place)
        unstored: OSError | None = None
        if outcome is None:
            outcome, relaxation = _calculate(engine, name, atoms, task, place)
            if outcome.label is not None:
                details = {**outcome.label.details, "data_sha256": data}
                label = Label(**{**vars(outcome.label), "version": info.version, "details": details})
                outcome = LabelOutcome(**{**vars(outcome), "label": label})
                try:
                    _store(outcome, label, relaxation, atoms, key, place)
                except OSError as error:
                    unstored = error
        outcomes[name] = outcome
        deliver(outcome, relaxation)
        if unstored is not None:
            # the caller has this label, but a full disk leaves nothing to the next one
            raise machine_fault(unstored, place) from unstored
        if engine.site.scratch:
            # the caller has it; a scratch that everybody uses must not fill up
            shutil.rmtree(place, ignore_errors=True)
    return outcomes


def _place(engine: ProgramEngine, directory: Path, atoms: Atoms, key: str) -> Path:
    """Return the directory of one structure: the same wherever it is calculated, if the site has a common scratch."""
    import hashlib

    name = hashlib.sha256(f"{structure_hash(atoms)}:{key}".encode()).hexdigest()[:24]
    return (engine.site.scratch / "labels" if engine.site.scratch else directory) / name


def _calculate(
    engine: ProgramEngine, name: str, atoms: Atoms, task: dict[str, Any] | None, place: Path
) -> tuple[LabelOutcome, dict[str, Any] | None]:
    if task is None:
        calculation = run_program(engine, atoms, place)
        return _outcome(engine, name, [calculation]), None
    from gapfactory.errors import RelaxationError
    from gapfactory.reference.relaxing import relax_with_reference

    done: list[Calculation] = []
    # a path whose points are at different settings has no energy to be minimised, nor has a curve of such points
    fixed = type(engine)(engine.settings.model_copy(update={"allow_energy_changes": False}), engine.site)

    def single_point(structure: Atoms) -> Raw:
        step = place / f"step-{len(done):04d}"
        calculation = run_program(fixed, structure, step)
        done.append(calculation)
        if calculation.raw is not None:
            # wave functions of every step would fill the disk
            shutil.rmtree(step, ignore_errors=True)
        if calculation.raw is None:
            failure = calculation.failure
            raise CalculationFailedError(failure.text, fault=failure.fault, hopeless=True)
        return calculation.raw

    try:
        _, relaxation = relax_with_reference(single_point, atoms, task)
    except (CalculationFailedError, RelaxationError) as error:
        attempts = sum(len(c.attempts) for c in done)
        history = tuple(line for c in done for line in _history(c))
        fault = error.fault.name.lower() if isinstance(error, CalculationFailedError) else ""
        text = f"{error} (quarantined after {attempts} attempts)"
        files = done[-1].files if done else {}
        return LabelOutcome(
            name, None, text, attempts, history, fault, custodian=_custodian(done), files=files
        ), None
    return _outcome(engine, name, done), relaxation


def _outcome(engine: ProgramEngine, name: str, done: list[Calculation]) -> LabelOutcome:
    """Return the outcome of a single point, or of a relaxation that ended with the last of its single points."""
    last = done[-1]
    attempts = sum(len(c.attempts) for c in done)
    history = tuple(line for c in done for line in _history(c))
    custodian = _custodian(done)
    scaled = engine.settings.scaled(last.factors)
    altered = {field: getattr(scaled, field) for field in last.factors}
    if last.raw is None:
        text = f"{last.failure} (quarantined after {attempts} attempt{'s' if attempts > 1 else ''})"
        fault = last.failure.fault.name.lower()
        return LabelOutcome(
            name, None, text, attempts, history, fault, altered, custodian=custodian, files=last.files
        )
    raw = last.raw
    label = Label(
        energy=float(raw.energy),
        forces=np.array(raw.forces, dtype=float),
        stress=voigt(None if raw.stress is None else np.array(raw.stress, dtype=float)),
        walltime_s=float(sum(c.attempts[-1].seconds for c in done)),
        engine=engine.name,
        version="",
        details={
            **raw.details,
            "recovery": last.attempts[-1].remedy,
            "scf_energies": list(last.attempts[-1].iterations),
            "failed_attempts": list(history),
        },
    )
    return LabelOutcome(name, label, "", attempts, history, altered=altered, custodian=custodian)


def _custodian(done: list[Calculation]) -> tuple[dict[str, Any], ...]:
    """Return custodian's record of a single point; of a relaxation, those of the points that met a fault."""
    return tuple(entry for c in done if len(done) == 1 or _history(c) for entry in c.custodian)


def _history(calculation: Calculation) -> list[str]:
    return [f"{a.remedy}: {a.fault}" for a in calculation.attempts if a.fault]


def _store(
    outcome: LabelOutcome,
    label: Label,
    relaxation: dict[str, Any] | None,
    atoms: Atoms,
    key: str,
    place: Path,
) -> None:
    """Write a finished label in one step, then remove the program's files."""
    document = asdict(outcome)
    document["label"] |= {
        "forces": label.forces.tolist(),
        "stress": None if label.stress is None else label.stress.tolist(),
    }
    content = {"structure": structure_hash(atoms), "key": key, "outcome": document, "relaxation": relaxation}
    new = place / "label.json.new"
    with new.open("w", encoding="utf-8") as stream:
        json.dump(content, stream)
        stream.flush()
        # else a crash of the node may leave an empty file under the final name
        os.fsync(stream.fileno())
    new.replace(place / "label.json")
    for pattern in ("attempt-*", "step-*"):
        for path in place.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def _taken_over(
    engine: ProgramEngine, name: str, atoms: Atoms, key: str, data: dict[str, str], place: Path
) -> tuple[LabelOutcome | None, dict[str, Any] | None]:
    """Return a label that an interrupted batch left here, if it is sound and for this structure and settings."""
    path = place / "label.json"
    if not path.is_file():
        return None, None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        document = content["outcome"]
        found = document["label"]
        same = (content["structure"], content["key"], found["details"]["data_sha256"])
        if same != (structure_hash(atoms), key, data):
            return None, None
        if document["altered"] and not engine.settings.allow_energy_changes:
            # of a campaign that allows it: no part of the key
            return None, None
        if wrong_numbers(found["energy"], found["forces"], found["stress"], atoms):
            return None, None
        forces = np.array(found["forces"], dtype=float).reshape(-1, 3)
        stress = None if found["stress"] is None else np.array(found["stress"], dtype=float)
        label = Label(**{**found, "forces": forces, "stress": stress})
        fields = {**document, "id": name, "label": label}
        fields["history"], fields["custodian"] = tuple(document["history"]), tuple(document["custodian"])
        return LabelOutcome(**fields), content["relaxation"]
    except (KeyError, TypeError, ValueError):
        # cut short by a crash, or of another version: it is calculated again and replaced
        return None, None
