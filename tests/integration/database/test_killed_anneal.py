"""A hot search whose worker is killed in the middle of an anneal goes on at another one, to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from gf_harmonic import Einstein

from gapfactory.campaign import campaign_from_mapping
from gapfactory.potentials.gap.files import XML_NAME, write_manifest
from gapfactory.potentials.gap.model import GapModel, empty_term, with_points
from gapfactory.potentials.gap.xml import write_gap
from gapfactory.protocols.planner import recipe_of
from gapfactory.search import AnnealSettings, RelaxSettings, search_each
from gapfactory.search.anneal_search import SearchJob
from launchpad.database.anneals import checkpoints, forget_anneals, save_checkpoint
from launchpad.database.campaigns import create_campaign
from launchpad.database.digest import relaxation_digest
from launchpad.database.documents import PotentialDocument
from launchpad.database.potentials import save_potential, store_files
from launchpad.database.results import structure_documents
from launchpad.diagnostics import diagnostic_searches
from launchpad.tasks.base import TaskContext
from launchpad.tasks.build import BuildTask
from launchpad.tasks.relax import _jobs

pytestmark = [pytest.mark.database, pytest.mark.timeout(300)]

WORKER = Path(__file__).with_name("gf_relax_worker.py")
#: two plain cells; then two of a hot search and two of a plain one, the same cells but for their numbers
LOOK = {"cells": 2, "labelled": False, "targets": ["diamond"]}
CAMPAIGN = {
    "name": "hot",
    "element": "Si",
    "seed": 4,
    "build": {"atoms_min": 2, "atoms_max": 4},
    "schedule": {"cells_per_generation": 2, "initial_cells": 2, "generations": 2},
    "select": {"noise_cells": 0, "labels_per_generation": 1, "held_out_per_generation": 0, "minima": "all"},
    "stop": {"label_budget": 2},
    "relax": {"max_steps": 15, "closest_approach": 0.2},
    "components": {
        "hot": LOOK
        | {"anneal": {"temperature_K": 600, "time_ps": 2.4, "timestep_fs": 2, "checkpoint_steps": 60}},
        "plain": LOOK,
    },
}


@pytest.fixture
def campaign(database, tmp_path):
    """A campaign whose second generation has its cells and a potential of one pair term."""
    found = campaign_from_mapping(CAMPAIGN)
    create_campaign(database, found, "", {})
    term = empty_term(
        "distance_2b Z1=14 Z2=14 cutoff=4.5 cutoff_transition_width=1.0",
        "covariance_type=ard_se theta_uniform=0.6",
        1.0,
    )
    points = with_points(term, np.array([[1.2], [1.8], [2.5]]), np.array([9.0, 3.0, -0.8]))
    directory = tmp_path / "potential"
    directory.mkdir()
    write_gap(GapModel((points,), {14: -1.0}, None), directory / XML_NAME)
    write_manifest(directory)
    files = store_files(database, sorted(directory.iterdir()))
    save_potential(
        database,
        PotentialDocument(
            id="hot/g000", campaign="hot", generation=0, digest="d", files=files, trained_on=["x"], report={}
        ),
    )
    context = TaskContext(SimpleNamespace(db=database), found, 1, tmp_path)
    BuildTask(campaign="hot", generation=1, start=0, stop=6).work(context)
    return found


def start(uri, tmp_path, name):
    """Start a worker with a cache of its own, as on another machine."""
    return subprocess.Popen(
        [sys.executable, str(WORKER), uri, "hot", "6"],
        cwd=tmp_path,
        env=os.environ | {"GAPFACTORY_CACHE": str(tmp_path / name), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return int(out.split()[-1])


def test_a_killed_anneal_goes_on_elsewhere(database, database_uri, campaign, tmp_path) -> None:
    whole = finish(start(database_uri, tmp_path, "first"))
    expected = {d["_id"]: relaxation_digest(d) for d in database.relaxations.find()}
    facts = {d["_id"]: d["anneal"] for d in database.relaxations.find()}
    assert len(expected) == 6
    assert [facts[key] is not None for key in sorted(facts)] == [False, False, True, True, False, False]
    for key in sorted(facts)[2:4]:
        assert facts[key]["n_steps"] == 1200
        assert facts[key]["temperature_K"] == 600
    assert database.anneals.count_documents({}) == 0
    # each cell has noise of its own, whoever relaxes it
    context = TaskContext(SimpleNamespace(db=database), campaign, 1, tmp_path)
    cells = structure_documents(database, "hot", 1, "cell", 0, 6)
    seeds = [job.seed for job in _jobs(context, recipe_of(campaign, 1), cells, 0, 6)]
    assert len(set(seeds)) == 6
    assert seeds[2:] == [job.seed for job in _jobs(context, recipe_of(campaign, 1), cells[2:], 2, 6)]
    searches = diagnostic_searches(database, campaign, 1)
    assert {name: (found["cells"], found["ends"]) for name, found in searches.items()} == {
        "hot": (2, 2),
        "plain": (2, 2),
    }

    database.relaxations.delete_many({})
    killed = start(database_uri, tmp_path, "second")
    soon = time.monotonic() + 200
    while time.monotonic() < soon and database.anneals.count_documents({"step": {"$gte": 300}}) < 2:
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    left = checkpoints(database, "hot", 1, 0, 6)
    assert set(left) == {2, 3}
    assert all(300 <= one.state.step < 1200 for one in left.values())
    # what needs no anneal is stored by then, and stays
    assert {d["index"] for d in database.relaxations.find()} == {0, 1, 4, 5}

    again = finish(start(database_uri, tmp_path, "third"))
    assert {d["_id"]: relaxation_digest(d) for d in database.relaxations.find()} == expected
    assert {d["_id"]: d["anneal"] for d in database.relaxations.find()} == facts
    assert database.anneals.count_documents({}) == 0
    # neither the first relaxations nor the steps before the checkpoints were done again
    assert again <= whole - 2 * 300
    steps = [entry["n_evaluations"] - entry["n_steps"] for entry in facts.values() if entry]
    assert steps == [1, 1]


def test_what_is_left_of_a_generation_can_be_forgotten(database) -> None:
    key = {"campaign": "hot", "step": 1}
    database.anneals.insert_many(
        [
            {"_id": 1, "generation": 1, "index": 3, **key},
            {"_id": 2, "generation": 1, "index": 4, **key},
            {"_id": 3, "generation": 2, "index": 3, **key},
            {"_id": 4, "generation": 1, "index": 3, **key, "campaign": "other"},
        ]
    )
    forget_anneals(database, "hot", 1, 3)
    assert {d["_id"] for d in database.anneals.find()} == {2, 3, 4}
    forget_anneals(database, "hot", 1)
    assert {d["_id"] for d in database.anneals.find()} == {3, 4}


def test_a_checkpoint_is_stored_to_the_last_bit(database) -> None:
    """In a generation 0 as well, which the protocol `search` has."""
    atoms = bulk("Si", cubic=True)
    kept = []
    anneal = AnnealSettings(
        time_ps=0.02, frames=4, checkpoint_steps=15, scan={"time_ps": 0.002, "highest_K": 400}
    )
    job = SearchJob(atoms, 1.0, RelaxSettings(anneal=anneal, max_steps=2), seed=1, save=kept.append)
    list(search_each([job], Einstein(atoms.positions.copy(), 5.0)))
    assert [one.state.step for one in kept] == [0, 15]
    assert (len(kept[1].state.frames), len(kept[1].state.ladder)) == (3, 1)
    for one in kept:
        save_checkpoint(database, "hot", 0, 7, one)
    (found,) = checkpoints(database, "hot", 0, 7, 8).values()
    assert checkpoints(database, "hot", 0, 0, 7) == checkpoints(database, "hot", 1, 0, 9) == {}
    for there, here in ((found.relaxed, kept[1].relaxed), (found.state, kept[1].state)):
        for field in fields(here):
            a, b = getattr(there, field.name), getattr(here, field.name)
            if field.name == "frames":
                assert all(
                    np.array_equal(x, y, equal_nan=True)
                    for f, g in zip(a, b, strict=True)
                    for x, y in zip(f, g, strict=True)
                )
            elif isinstance(b, np.ndarray):
                assert a.tobytes() == b.tobytes()
                assert a.dtype == b.dtype
            else:
                assert a == b, field.name
