"""Relaxations by the reference: stages of a search, each stored as soon as it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gapfactory.protocols.search import rank_pressure
from launchpad.database.connection import durable
from launchpad.database.documents import generation_id, structure_id
from launchpad.database.packing import unpack_atoms
from launchpad.database.results import existing_indices, require_selection, save_relaxation, structures_by_id
from launchpad.hand_backs import forget_hand_backs, hand_back, hand_backs, own_fault
from launchpad.labelling import require_data_sets
from launchpad.tasks.relax import relaxation_document

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.campaign import Campaign
    from gapfactory.reference import LabelOutcome
    from gapfactory.search import Trajectory
    from launchpad.queue import Queue
    from launchpad.tasks.base import TaskContext

__all__ = ["hand_back_name", "relax_chosen", "retry_relaxations"]


def hand_back_name(campaign: str, generation: int, index: int) -> str:
    """Return under which name faults of the machine are counted against a relaxation."""
    return f"relaxation/{structure_id(campaign, generation, 'relaxation', index)}"


def relax_chosen(context: TaskContext, start: int, stop: int) -> dict[str, int]:
    """Relax the structures number ``start <= i < stop`` that the stage has chosen, unless they are relaxed.

    Raises
    ------
    TransientFault
        A fault of the machine: the task is run again, and goes on with what is missing.
    """
    campaign, database, generation = context.campaign, context.database, context.generation
    ids = require_selection(database, campaign.name, generation)["train"][start:stop]
    done = existing_indices(database, "relaxations", campaign.name, generation, start, stop)
    documents = structures_by_id(database, ids)
    missing = {k: documents[key] for k, key in enumerate(ids, start) if k not in done}
    counts = {"reused": len(ids) - len(missing), "converged": 0, "unconverged": 0, "failed": 0}
    if missing:
        _relax(context, missing, counts)
    return counts


def _relax(context: TaskContext, missing: dict[int, dict[str, Any]], counts: dict[str, int]) -> None:
    from gapfactory.reference import relax_structures, settings_hash

    campaign, database, generation = context.campaign, context.database, context.generation
    stage = campaign.search_settings.ranking[generation - 1]
    reference, pressure = campaign.reference_in(generation), rank_pressure(campaign, generation)
    cells = {index: unpack_atoms(document["atoms"]) for index, document in missing.items()}
    symbols = {symbol for atoms in cells.values() for symbol in atoms.get_chemical_symbols()}
    require_data_sets(context, symbols, [settings_hash(reference, "crystal")])
    began = time.monotonic()

    def store(index: int, trajectory: Trajectory, seconds: float) -> None:
        counts[trajectory.status] += 1
        save_relaxation(
            database,
            relaxation_document(
                campaign.name,
                generation,
                index,
                missing[index]["composition"],
                trajectory,
                seconds,
                start=missing[index]["_id"],
            ),
        )
        left.pop(index)
        forget_hand_backs(database, [names[index]])

    def keep(outcome: LabelOutcome, trajectory: Trajectory | None) -> None:
        nonlocal began
        index = int(outcome.id)
        seconds, began = time.monotonic() - began, time.monotonic()
        store(index, trajectory or _failed(cells[index], pressure, outcome.reason), seconds)

    names = {index: hand_back_name(campaign.name, generation, index) for index in missing}
    times = hand_backs(database, names.values())
    left = dict(sorted(cells.items(), key=lambda pair: (times.get(names[pair[0]], 0), pair[0])))
    while left:
        try:
            relax_structures(
                [(str(index), atoms) for index, atoms in left.items()],
                reference,
                context.workdir / "relaxations",
                keep,
                relax_settings=stage.relax,
                pressure_GPa=pressure,
                keep_symmetry=stage.keep_symmetry,
            )
        except Exception as error:
            fault = own_fault(error)
            if not fault or not left:
                raise
            index = next(iter(left))
            _, reason = hand_back(database, names[index], missing[index]["_id"], fault, error)
            store(index, _failed(cells[index], pressure, reason), 0.0)


def _failed(atoms: Atoms, pressure_GPa: float, reason: str) -> Trajectory:
    """Return a relaxation without a frame."""
    import numpy as np

    from gapfactory.search import Trajectory

    nothing = np.zeros(0)
    return Trajectory(
        status="failed",
        reason=reason,
        pressure_GPa=pressure_GPa,
        numbers=atoms.numbers,
        steps=np.zeros(0, dtype=int),
        positions=np.zeros((0, len(atoms), 3)),
        cells=np.zeros((0, 3, 3)),
        energies=nothing,
        enthalpies=nothing,
        max_forces=nothing,
        cell_forces=nothing,
        n_steps=0,
        n_evaluations=0,
    )


def retry_relaxations(queue: Queue, campaign: Campaign) -> tuple[int, int]:
    """Forget what failed of the relaxations of a stage that is not ranked yet, and compute it again.

    Returns
    -------
    tuple of int
        Relaxations to be tried again, and tasks that were put back on the queue.
    """
    database, name = durable(queue.db), campaign.name
    if campaign.search is None:
        return 0, 0
    newest = database.campaigns.find_one({"_id": name}, {"generation": 1}) or {"generation": 0}
    generation = int(newest["generation"])
    ranked = database.metrics.find_one({"_id": generation_id(name, generation)}, {"_id": 1})
    if not generation or ranked is not None:
        return 0, 0
    query = {"campaign": name, "generation": generation, "status": "failed"}
    failed = [row["index"] for row in database.relaxations.find(query, {"index": 1})]
    if not failed:
        return 0, 0
    database.relaxations.delete_many(query)
    rerun = 0
    for task in database.fireworks.find(
        {
            "spec.campaign": name,
            "spec.generation": generation,
            "spec._category": "reference",
            "state": "COMPLETED",
        },
        {"fw_id": 1, "spec._tasks": 1},
    ).sort("fw_id", 1):
        (work,) = task["spec"]["_tasks"]
        if work["what"] == "relaxations" and any(work["start"] <= k < work["stop"] for k in failed):
            queue.rerun_fw(task["fw_id"])
            rerun += 1
    return len(failed), rerun
