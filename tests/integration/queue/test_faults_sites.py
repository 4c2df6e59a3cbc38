"""Faults of FireWorks at sites, with a batch system or without the database: ours must pass, FireWorks' must fail."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from fireworks import Firework
from fireworks.core.fworker import FWorker
from fireworks.core.rocket_launcher import launch_rocket
from fireworks.queue.queue_launcher import rapidfire as queue_rapidfire
from fireworks.queue.queue_launcher import setup_offline_job
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
from fireworks.utilities.fw_serializers import SAVED_FW_MODULES
from gf_fault_sides import Ours, Stock
from pymongo import MongoClient
from queue_tasks import Nothing

from gapfactory.errors import ServiceError
from launchpad.embedded import ensure_running, status, stop
from launchpad.sites import Site, submit_pilots, write_site

pytestmark = pytest.mark.database


@pytest.fixture
def moody_sbatch(tmp_path, monkeypatch):
    """An `sbatch` that refuses the second job and takes all others, as a scheduler does whose database is busy."""
    place = tmp_path / "scheduler"
    place.mkdir()
    count = place / "count"
    program = place / "sbatch"
    program.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\n"
        f"path = pathlib.Path({str(count)!r})\n"
        "number = int(path.read_text()) + 1 if path.exists() else 1\n"
        "path.write_text(str(number))\n"
        "if number == 2: sys.exit('sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying')\n"
        "print('Submitted batch job', number)\n"
    )
    program.chmod(0o755)
    squeue = place / "squeue"
    squeue.write_text("#!/bin/sh\nexit 0\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return count


def test_a_refused_job_is_told_and_the_rest_is_submitted_later(both, moody_sbatch, monkeypatch):
    """`qlaunch rapidfire` ends at the first job that the scheduler does not take, as if all were well."""
    monkeypatch.setattr("fireworks.queue.queue_launcher.QUEUE_UPDATE_INTERVAL", 0)
    # found by name, FireWorks would import all that is installed with it, its tests included
    monkeypatch.setitem(SAVED_FW_MODULES, "CommonAdapter", CommonAdapter.__module__)

    def scenario(side):
        moody_sbatch.unlink(missing_ok=True)
        for number in range(3):
            side.pad.add_wf(Firework(Nothing(), name=f"n{number}"))
        with pytest.raises(ServiceError, match=r"temporarily unable.* 1 were submitted before it"):
            submit(side, 3)
        submit(side, 2)
        assert moody_sbatch.read_text() == "4"

    # nothing is raised: the launcher logs it, and returns
    both(scenario, fails_with=pytest.fail.Exception, match="DID NOT RAISE")


def submit(side, jobs):
    """Submit jobs, one after the other."""
    if side.name == "stock":
        adapter = CommonAdapter("SLURM", "q", rocket_launch="true")
        queue_rapidfire(
            side.pad, FWorker(), adapter, str(side.directory), nlaunches=jobs, strm_lvl="CRITICAL"
        )
    else:
        place = side.directory / "site"
        if not place.exists():
            write_site(place, Site(scheduler="slurm", name="here"), side.uri)
        submit_pilots(place, jobs, arrays=False)


def test_offline_mode(make_side, tmp_path):
    """Offline mode ends with a TypeError under a current monty: a file is opened without saying how.

    Ours for sites without the database is the push worker; that it brings a task there and its result back, is
    tested in test_push_*.py.
    """
    stock = make_side(Stock)
    stock.add()
    firework, launch_id = stock.pad.reserve_fw(FWorker(), str(tmp_path))
    setup_offline_job(stock.pad, firework, launch_id)
    with pytest.raises(TypeError, match="mode"):
        launch_rocket(None, FWorker(), strm_lvl="CRITICAL")


def test_recovery_does_not_fizzle_what_it_cannot_see(make_side, tmp_path):
    """`lpad recover_offline` on one host makes the runs of all other sites FIZZLED: their directories are not there.

    Ours never looks into a directory to judge a task: a launch is judged by its process, its heartbeat, its scheduler.
    """

    def scenario(side):
        ids = side.add()
        if side.name == "stock":
            firework, launch_id = side.pad.reserve_fw(FWorker(), str(tmp_path / "another-site"))
            side.pad.add_offline_run(launch_id, firework.fw_id, firework.name)
            for run in side.pad.offline_runs.find({"completed": False, "deprecated": False}):
                side.pad.recover_offline(run["launch_id"])
        else:
            side.directory = tmp_path / "another-site"
            assert side.take()
            side.pad.launches.update_many({}, {"$set": {"process.node": "elsewhere"}})
            side.recover(60)
        assert side.state(ids["only"]) in {"RESERVED", "RUNNING"}, "a run of another site was given up"

    scenario(make_side(Ours))
    with pytest.raises(AssertionError, match="given up"):
        scenario(make_side(Stock))


def test_results_survive_the_end_of_the_database_process(tmp_path):
    """A server in memory, as a file for single machines, keeps nothing of a killed process; the embedded one does."""
    place = tmp_path / "db"
    uri = ensure_running(place)
    try:
        with MongoClient(uri) as client:
            client.x.y.insert_one({"_id": 1})
        os.kill(status(place).pid, 9)
        with MongoClient(ensure_running(place)) as client:
            assert client.x.y.count_documents({}) == 1
    finally:
        stop(place)
    file = tmp_path / "store.json"
    file.write_text("{}")
    code = (
        "import mongomock, os\n"
        "client = mongomock.MongoClient()\n"
        "client.x.y.insert_one({'_id': 1})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "MONGOMOCK_SERVERSTORE_FILE": str(file)}
    subprocess.run([sys.executable, "-c", code], env=environment)
    assert file.read_text() == "{}", "nothing of it is there"
