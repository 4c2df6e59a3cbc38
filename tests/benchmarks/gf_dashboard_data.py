"""A database of the size of a group's: campaigns with structures, relaxations, labels and tasks as they are stored.

Numbers are made up and follow from the number of a campaign alone; shapes, keys and sizes are those that campaigns
write. A part that is there is not written again, so an interrupted filling goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pymongo.database import Database

__all__ = ["CAMPAIGNS", "Size", "fill"]

CAMPAIGNS = 20
GENERATIONS = 10
WORKERS = 200
BATCH = 2000
#: The last campaign has few generations with many tasks.
BIG_GENERATIONS = 2
_BEGUN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Size:
    """How much there is: structures and tasks in all, and how many are chosen in a generation of the first campaign."""

    structures: int
    tasks: int

    @property
    def cells(self) -> int:
        """Cells of one generation of a campaign."""
        return max(self.structures // (CAMPAIGNS * GENERATIONS), 20)

    def chosen(self, campaign: int) -> int:
        """Return how many structures a generation chooses, a fifth of them held out."""
        return min(1500 if campaign == 0 else 250, self.cells // 3)

    def tasks_of(self, campaign: int) -> tuple[int, int]:
        """Return generations on the queue and tasks of each."""
        generations = BIG_GENERATIONS if campaign == CAMPAIGNS - 1 else GENERATIONS
        return generations, max(self.tasks // CAMPAIGNS // generations, 10)


def name_of(campaign: int) -> str:
    """Return the name of a campaign."""
    return f"camp{campaign:02d}"


def fill(
    database: Database[Any],
    size: Size,
    show: Callable[[str, int, int], None],
    *,
    campaigns: Sequence[int] = range(CAMPAIGNS),
) -> None:
    """Write what is missing.

    Parameters
    ----------
    show
        Is told part, done and total.
    campaigns
        Which campaigns; each has its share of the size.
    """
    parts: list[tuple[str, Callable[[], Any]]] = []
    for number in campaigns:
        parts.append((f"{name_of(number)} campaign", partial(_campaign, database, size, number)))
        parts.append((f"{name_of(number)} tasks", partial(_tasks, database, size, number)))
        for generation in range(GENERATIONS):
            write = partial(_generation, database, size, number, generation)
            parts.append((f"{name_of(number)} generation {generation}", write))
        parts.append((f"{name_of(number)} rows", partial(_rows, database, number)))
    marks = database.benchmark_fill
    done = {mark["_id"] for mark in marks.find({}, {"_id": 1})}
    for number, (part, write) in enumerate(parts):
        show(part, number, len(parts))
        key = f"{part} {size}"
        if key not in done:
            write()
            marks.insert_one({"_id": key})
    show("done", len(parts), len(parts))
    _workers(database)


def _put(database: Database[Any], collection: str, documents: Iterable[dict[str, Any]]) -> None:
    """Insert in large parts; what an interrupted filling wrote stays as it is."""
    from pymongo.errors import BulkWriteError

    left = iter(documents)
    while part := list(islice(left, BATCH)):
        try:
            database[collection].insert_many(part, ordered=False)
        except BulkWriteError as error:
            if any(failed["code"] != 11000 for failed in error.details["writeErrors"]):
                raise


def _campaign(database: Database[Any], size: Size, number: int) -> None:
    from gapfactory.campaign import parse_campaign
    from launchpad.database.campaigns import create_campaign
    from launchpad.database.dataset import store_atoms

    name = name_of(number)
    text = (
        f"name: {name}\npreset: quickstart-Si-analytic\n"
        f"schedule: {{cells_per_generation: {size.cells}, initial_cells: {size.cells}, "
        f"generations: {GENERATIONS + 2}}}\n"
        f"stop: {{label_budget: {size.chosen(number) * (GENERATIONS + 2)}}}\n"
    )
    campaign = parse_campaign(text)
    create_campaign(database, campaign, text, {"gapfactory": "0.1.0"})
    moment = _BEGUN + timedelta(hours=number)
    database.campaigns.update_one(
        {"_id": name},
        {"$set": {"state": "running", "generation": GENERATIONS - 1, "created": moment, "updated": moment}},
    )
    store_atoms(database, campaign)


def _generation(database: Database[Any], size: Size, number: int, generation: int) -> None:
    """Cells of one generation, relaxations of the newest two, what was chosen, labels, potential, assessment."""
    from launchpad.database.documents import generation_id, structure_id

    name = name_of(number)
    rng = np.random.default_rng([number, generation])
    chosen = size.chosen(number)
    _put(database, "structures", _cells(size, name, generation, rng))
    if generation == 0:
        ids = [structure_id(name, 0, "cell", int(k)) for k in rng.permutation(size.cells)[:chosen]]
        frames = list(database.structures.find({"_id": {"$in": ids}}))
    else:
        frames = list(_frames(database, size, name, generation, rng))
        _put(database, "structures", frames)
    held_out = len(frames) // 5
    train, test = frames[held_out:], frames[:held_out]
    purposes = [(frame, "training") for frame in train] + [(frame, "held-out") for frame in test]
    picks = [
        {
            "id": frame["_id"], "purpose": purpose, "group": frame["composition"], "order": order,
            "leverage": float(rng.random()), "energy_eV": float(rng.normal(-4, 0.3)),
            "trajectory": frame["info"].get("relaxation", ""),
        }
        for order, (frame, purpose) in enumerate(purposes)
    ]  # fmt: skip
    key = generation_id(name, generation)
    selection = {
        "_id": key, "campaign": name, "generation": generation, "train": [frame["_id"] for frame in train],
        "test": [frame["_id"] for frame in test], "noise": [], "seconds": 80.0,
        "report": {"picks": picks, "noise": [], "stages": [], "counts": {"relaxations": size.cells}, "notes": []},
    }  # fmt: skip
    _put(database, "selections", [selection])
    _put(database, "labels", _labels(database, name, frames, rng))
    # the newest generation is in work: it has neither potential nor assessment
    if generation < GENERATIONS - 1:
        _put(database, "potentials", [_potential(database, name, generation)])
        _put(database, "metrics", [_metrics(name, generation, chosen, rng)])


def _atoms(rng: np.random.Generator, count: int) -> list[tuple[int, dict[str, Any], bytes]]:
    """Return (number of atoms, packed atoms, random bytes) of random cells of silicon."""
    from launchpad.database.packing import pack_array

    found = []
    for atoms in rng.integers(4, 17, count):
        n = int(atoms)
        length = (20.0 * n) ** (1 / 3)
        cell = np.eye(3) * length + rng.normal(0, 0.2, (3, 3))
        places = rng.random((n, 3)) @ cell
        packed = {
            "numbers": pack_array(np.full(n, 14), "i4"), "positions": pack_array(places),
            "cell": pack_array(cell), "pbc": [True, True, True],
        }  # fmt: skip
        found.append((n, packed, places.tobytes()))
    return found


def _cells(size: Size, name: str, generation: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    from launchpad.database.documents import structure_id

    for index, (_, packed, raw) in enumerate(_atoms(rng, size.cells)):
        yield {
            "_id": structure_id(name, generation, "cell", index), "campaign": name, "generation": generation,
            "stage": "cell", "index": index, "composition": "Si", "hash": hashlib.sha256(raw).hexdigest(),
            "atoms": packed, "info": {"space_group": 1 + index % 230, "attempts": 1 + index % 7},
        }  # fmt: skip


def _frames(
    database: Database[Any], size: Size, name: str, generation: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield the frames that a generation chose; write the relaxations that they come from."""
    from gapfactory.structures import structure_hash
    from launchpad.database.documents import structure_id
    from launchpad.database.packing import pack_array, pack_atoms
    from launchpad.database.results import frame_atoms

    chosen = size.chosen(int(name[-2:]))
    # older trajectories were removed by a policy, as a group does that keeps its database small
    kept = generation >= GENERATIONS - 2
    many = size.cells if kept else chosen
    wanted = set(rng.permutation(many)[:chosen].tolist())
    documents = []
    for index in range(many):
        n, frames = int(rng.integers(2, 7)), 12
        length = (20.0 * n) ** (1 / 3)
        cells = np.eye(3) * (length + rng.normal(0, 0.05, (frames, 1, 1)))
        places = (rng.random((1, n, 3)) + rng.normal(0, 0.01, (frames, n, 3))) * length
        energies = np.sort(rng.normal(-4.0 * n, 0.4 * n, frames))[::-1]
        record = {
            "_id": structure_id(name, generation, "relaxation", index), "campaign": name,
            "generation": generation, "index": index, "composition": "Si",
            "status": ("converged", "unconverged", "failed")[index % 10 // 8 + (index % 100 == 99)],
            "reason": "", "pressure_gpa": float(rng.exponential(0.2)), "n_steps": 60, "n_frames": frames,
            "numbers": pack_array(np.full(n, 14), "i4"), "steps": pack_array(np.arange(frames) * 5, "i8"),
            "positions": pack_array(places), "cells": pack_array(cells), "energies": pack_array(energies),
            "enthalpies": pack_array(energies), "max_forces": pack_array(rng.random(frames)),
            "final_energy_per_atom": float(energies[-1] / n),
            "final_volume_per_atom": float(np.linalg.det(cells[-1]) / n), "left_known_space": False, "seconds": 0.9,
        }  # fmt: skip
        documents.append(record)
        if index in wanted:
            frame = int(rng.integers(0, frames))
            atoms = frame_atoms(record, frame)
            yield {
                "_id": f"{record['_id']}/frame/{frame:04d}", "campaign": name, "generation": generation,
                "stage": "frame", "index": index, "composition": "Si", "hash": structure_hash(atoms),
                "atoms": pack_atoms(atoms), "info": {"relaxation": record["_id"], "frame": frame},
            }  # fmt: skip
        if kept and len(documents) == BATCH:
            _put(database, "relaxations", documents)
            documents = []
        elif not kept:
            documents = []
    _put(database, "relaxations", documents)


def _labels(
    database: Database[Any], name: str, frames: list[dict[str, Any]], rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield labels: of a hundred, 92 done, 2 altered, 2 failed and 4 still to come."""
    from launchpad.database.campaigns import levels_of
    from launchpad.database.documents import label_id, own_label_id
    from launchpad.database.packing import pack_array

    record = database.campaigns.find_one({"_id": name}, {"settings": 1, "versions": 1})
    settings = levels_of(record)["crystal"]
    for place, frame in enumerate(frames):
        kind = place % 100
        if kind >= 96:
            continue
        n = frame["atoms"]["numbers"]["s"][0]
        failed, altered = kind >= 94, 92 <= kind < 94
        key = label_id(frame["hash"], settings)
        target = label_id(frame["hash"], f"{settings[:-1]}x") if altered else ""
        label = {
            "_id": target or (own_label_id(key, name) if failed else key), "structure_hash": frame["hash"],
            "settings_hash": settings, "kind": "crystal", "status": "failed" if failed else "done",
            "reason": "the cycle did not converge" if failed else "",
            "fault": "self-consistency not reached" if failed else "",
            "attempts": 3 if failed else 1 + (kind % 20 == 0),
            "history": ["smaller mixing: self-consistency not reached"] * failed,
            "custodian": "", "files": [{"name": "out.txt", "text": "step\n" * 200}] if failed else [], "flags": [],
            "altered": {"mixing": 0.05} if altered else {}, "target": "", "enters": 0, "retry_in": None,
            "atoms": frame["atoms"], "energy": None if failed else float(rng.normal(-4.0 * n, 0.4 * n)),
            "forces": None if failed else pack_array(rng.normal(0, 1, (n, 3))),
            "stress": None if failed else pack_array(rng.normal(0, 0.01, 6)), "seconds": 40.0, "engine": "ase",
            "version": "stillinger-weber", "details": {"calculator": "analytic"}, "created": _BEGUN, "campaign": name,
        }  # fmt: skip
        yield label
        if altered:
            yield {**label, "_id": own_label_id(key, name), "status": "altered", "target": target}


def _fitted(database: Database[Any]) -> dict[str, Any]:
    """Return digest and files of the one potential that all campaigns have here: a small one, fitted once."""
    import tempfile
    from pathlib import Path

    from fit_cells import labelled

    from gapfactory.elements import species
    from gapfactory.potentials.gap import GapSettings, fit_gap
    from gapfactory.potentials.gap.settings import DeltaSettings, SoapSettings
    from launchpad.database.potentials import store_files

    key = {"_id": "potential"}
    stored = database.benchmark_fill.find_one(key)
    if stored is None:
        with tempfile.TemporaryDirectory() as scratch:
            fit = fit_gap(
                labelled(40, (8,), seed=1),
                species=[species("Si", radius=1.11, bonding="covalent")],
                settings=GapSettings(
                    soap=SoapSettings(n_sparse=50), delta=DeltaSettings(fixed=(1.0, 0.3, 0.1))
                ),
                seed=lambda k: np.random.default_rng([1, k]),
                workdir=Path(scratch),
            )
            stored = {**key, "digest": fit.digest, "files": store_files(database, list(fit.files))}
        database.benchmark_fill.insert_one(stored)
    return {"digest": stored["digest"], "files": stored["files"]}


def _potential(database: Database[Any], name: str, generation: int) -> dict[str, Any]:
    ids = [
        key
        for row in database.selections.find(
            {"campaign": name, "generation": {"$lte": generation}}, {"train": 1}
        ).sort("generation", 1)
        for key in row["train"]
    ]
    return {
        "_id": f"{name}/g{generation:03d}", "campaign": name, "generation": generation,
        **_fitted(database), "created": _BEGUN, "trained_on": ids,
        "report": {"backend": "native", "threads": 2, "e0_eV": {"Si": 0.0}, "deltas_eV": {"2b": 4.6, "soap": 3.8},
                   "train_errors": {"energy_rmse": 0.01, "force_rmse": 0.1}, "wall_s": {"total": 80.0}},
    }  # fmt: skip


def _metrics(name: str, generation: int, chosen: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return an assessment; evidence of the size that assessments have."""
    return {
        "_id": f"{name}/g{generation:03d}", "campaign": name, "generation": generation,
        "labels": int(chosen * (generation + 1) * 0.94), "decision": "continue", "reason": "budget is left",
        "created": _BEGUN + timedelta(hours=generation),
        "evidence": {
            "headline": {"energy_rmse_meV": 400.0 / (generation + 1), "force_rmse_eV_A": 1.0 / (generation + 1)},
            "scatter": {key: rng.normal(-4, 0.4, chosen).tolist() for key in ("reference", "predicted")},
            "held_out": chosen // 5, "unusable": [], "window": {"n": 3, "energy_rmse_eV": 0.4}, "noise": None,
            "phases": {}, "levels": None, "stability": None,
            "errors": [
                {"quantity": quantity, "unit": unit, "group": group, "n_structures": 40, "n_values": 40,
                 "rmse": 0.4 / k, "mae": 0.3 / k, "max": 2.0, "rmse_low": 0.3 / k, "rmse_high": 0.5 / k}
                for quantity, unit in (("energy", "eV/atom"), ("force", "eV/Å"))
                for k, group in enumerate(("all", "0-0.1 eV", "0.1-1 eV", "1-10 eV"), start=1)
            ],
        },
    }  # fmt: skip


def _tasks(database: Database[Any], size: Size, number: int) -> None:
    """Write workflows whose last generation is in work: layers of tasks that wait for each other."""
    name = name_of(number)
    generations, many = size.tasks_of(number)
    first = number * (size.tasks // CAMPAIGNS)
    # builds, relaxations, selection, references, fit, assessment
    edges = [0, many // 10, many // 2, many // 2 + 1, many - 2, many - 1, many]
    kinds = ("build", "relax", "select", "reference", "fit", "assess")
    for generation in range(generations):
        ids = list(range(first + generation * many + 1, first + (generation + 1) * many + 1))
        layers = [ids[start:stop] for start, stop in pairwise(edges)]
        parents: dict[str, list[int]] = {}
        links: dict[str, list[int]] = {str(task): [] for task in ids}
        for above, below in pairwise(layers):
            for place, task in enumerate(below):
                waits = above if len(below) == 1 else [above[place % len(above)]]
                parents[str(task)] = waits
                for parent in waits:
                    links[str(parent)].append(task)
        tasks, launches, states = [], [], {}
        for kind, layer in zip(kinds, layers, strict=True):
            for task in layer:
                state = "COMPLETED"
                if generation == generations - 1 and kind in kinds[3:]:
                    state = "WAITING" if kind != "reference" else "FIZZLED" if task % 50 == 0 else "READY"
                elif generation == generations - 1 and kind == "relax" and task % 10 == 0:
                    state = "RUNNING"
                states[str(task)] = state
                tasks.append(_task(name, generation, kind, task, state))
                if state in ("COMPLETED", "FIZZLED", "RUNNING"):
                    launches.append(_launch(task, state))
        _put(database, "fireworks", tasks)
        _put(database, "launches", launches)
        if not database.workflows.count_documents({"nodes": ids[0]}):
            workflow = {
                "nodes": ids, "links": links, "parent_links": parents, "fw_states": states,
                "name": f"{name} g{generation:03d}", "metadata": {"campaign": name, "generation": generation},
                "state": "COMPLETED" if generation < generations - 1 else "RUNNING",
                "created_on": _moment(ids[0]), "updated_on": _moment(ids[-1]),
            }  # fmt: skip
            database.workflows.insert_one(workflow)


def _moment(task: int) -> datetime:
    return _BEGUN + timedelta(seconds=2.5 * task)


def _task(name: str, generation: int, kind: str, task: int, state: str) -> dict[str, Any]:
    step = {"_fw_name": f"{{{{launchpad.tasks.{kind}.{kind.title()}Task}}}}", "campaign": name,
            "generation": generation, "start": task % 500 * 20, "stop": task % 500 * 20 + 20}  # fmt: skip
    return {
        "fw_id": task, "name": f"{name} g{generation:03d} {kind}-{task % 10**6:06d}", "state": state,
        "created_on": _moment(task).isoformat(), "updated_on": _moment(task + 100).isoformat(),
        "launches": [task] if state in ("COMPLETED", "FIZZLED", "RUNNING") else [], "archived_launches": [],
        "spec": {"_category": kind, "_priority": 10, "_add_launchpad_and_fw_id": True, "campaign": name,
                 "generation": generation, "_tasks": [step]},
    }  # fmt: skip


def _launch(task: int, state: str) -> dict[str, Any]:
    begun = _moment(task)
    ended = None if state == "RUNNING" else (begun + timedelta(seconds=60)).isoformat()
    failure = {"_message": "RuntimeError: the cell is too small for the cutoff",
               "_exception": {"_stacktrace": "Traceback (most recent call last):\n" * 60}}  # fmt: skip
    return {
        "launch_id": task, "fw_id": task, "state": state, "host": f"node{task % 20:02d}", "ip": "10.0.0.1",
        "launch_dir": f"/scratch/launches/{task}", "time_start": begun.isoformat(), "time_end": ended,
        "runtime_secs": None if ended is None else 60.0, "fworker": {"name": f"w{task % WORKERS}"},
        "state_history": [{"state": "RUNNING", "created_on": begun.isoformat()}],
        "action": {"stored_data": failure if state == "FIZZLED" else {"seconds": 60.0}} if ended else None,
    }  # fmt: skip


def _rows(database: Database[Any], number: int) -> None:
    """Work out the rows of the table of chosen structures, as a process of the dashboard does."""
    from launchpad.dashboard.works.rows import write_rows

    write_rows(database, lambda *_: None, name_of(number))


def _workers(database: Database[Any]) -> None:
    """Let every worker have been heard of just now: 200 on 20 hosts."""
    import time

    from pymongo import ReplaceOne

    now = time.time()
    running = [
        task["fw_id"] for task in database.fireworks.find({"state": "RUNNING"}, {"fw_id": 1}).limit(WORKERS)
    ]
    operations = []
    for number in range(WORKERS):
        key = f"node{number % 20:02d}:{1000 + number}:77"
        task = running[number] if number < len(running) else None
        worker = {
            "_id": key, "host": f"node{number % 20:02d}", "node": f"boot/{number % 20}", "pid": 1000 + number,
            "start": 77, "kind": "worker", "categories": [] if number % 3 else ["reference"], "campaigns": [],
            "supervisor": None, "started": now - 4000, "versions": {"gapfactory": "0.1.0"},
            "state": "idle" if task is None else "running", "done": 20, "failed": number % 2, "fw_id": task,
            "heartbeat": now, "clock_offset_s": 0.001,
        }  # fmt: skip
        operations.append(ReplaceOne({"_id": key}, worker, upsert=True))
    database.workers.bulk_write(operations)
