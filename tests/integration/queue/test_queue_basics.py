"""Connecting, adding and taking, when nothing goes wrong; and what is said when connecting does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fireworks import Firework, Workflow
from fireworks.core.fworker import FWorker
from pymongo.errors import AutoReconnect
from queue_help import ALLOWED, check_consistent, run_all, run_one, states, wait_for
from queue_tasks import Note, Nothing

from gapfactory.errors import DatabaseError
from launchpad.queue import Queue
from launchpad.workers import WorkerSettings, start_background

pytestmark = pytest.mark.database


def test_category_and_priority(queue):
    queue.add_wf(Firework(Nothing(), spec={"_category": "fit", "_priority": 9}, name="fit"))
    for priority in (1, 3, 2):
        queue.add_wf(
            Firework(Nothing(), spec={"_category": "relax", "_priority": priority}, name=f"relax{priority}")
        )
    queue.add_wf(
        Firework(
            Nothing(), spec={"_category": "relax", "_fworker": "elsewhere", "_priority": 7}, name="pinned"
        )
    )
    worker = FWorker(name="here", category=["relax", "build"])
    names = []
    while (taken := queue.take(worker, "/nowhere")) is not None:
        names.append(taken.raw["name"])
    assert names == ["relax3", "relax2", "relax1"]
    assert states(queue)["fit"] == "READY"
    pinned = queue.take(FWorker(name="elsewhere"), "/nowhere", fw_id=None)
    assert pinned.raw["name"] == "fit", "of all categories, by priority"
    assert queue.take(FWorker(name="elsewhere"), "/nowhere").raw["name"] == "pinned"


def test_submitting_again_changes_nothing(queue):
    def workflow():
        parent = Firework(Nothing(), name="parent")
        return Workflow([parent, Firework(Nothing(), name="child", parents=[parent])])

    first = queue.submit_once(workflow(), "generation 1")
    run_one(queue)
    assert queue.submit_once(workflow(), "generation 1") == first
    assert queue.submit_once(workflow(), "generation 2") != first
    assert queue.workflows.count_documents({}) == 2
    run_all(queue)
    assert set(states(queue).values()) == {"COMPLETED"}
    check_consistent(queue)


def test_appending_to_a_workflow_that_moves_on(queue):
    """FireWorks reads the workflow before it locks it, and loses what happened in between."""
    parent = Firework(Nothing(), name="parent")
    ids = queue.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))
    run_one(queue)
    queue.append_wf(Workflow([Firework(Nothing(), name="late")]), [min(ids.values())])
    run_all(queue)
    assert states(queue) == {"parent": "COMPLETED", "child": "COMPLETED", "late": "COMPLETED"}
    check_consistent(queue)


def test_heartbeat_of_stock_rockets_survives_a_lost_database(queue, monkeypatch):
    queue.add_wf(Firework(Nothing(), name="only"))
    taken = queue.take(FWorker(name="test"), "/nowhere")

    def lost(*_arguments, **_options):
        msg = "gone"
        raise AutoReconnect(msg)

    class Away:
        update_one = find_one = staticmethod(lost)

    whole = queue.launches
    monkeypatch.setattr(queue, "launches", Away())
    queue.ping_launch(taken.launch_id)
    monkeypatch.setattr(queue, "launches", whole)
    queue.ping_launch(taken.launch_id)
    history = queue.launches.find_one({"launch_id": taken.launch_id})["state_history"]
    assert history[0]["updated_on"] > history[0]["created_on"]


def test_tcp_with_a_password():
    from launchpad.embedded import stop

    place = Path(tempfile.mkdtemp(prefix="gfq-"))
    code = f"from launchpad.embedded import ensure_running; print(ensure_running({str(place)!r}, port=0))"
    try:
        started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        uri = started.stdout.strip()
        user, _, rest = uri.removeprefix("mongodb://").partition(":")
        password, _, host = rest.partition("@")
        assert password
        with Queue.from_uri(uri) as queue:
            queue.add_wf(Firework(Nothing(), name="only"))
            assert states(queue) == {"only": "READY"}
            assert password not in repr(queue)
        with pytest.raises(DatabaseError) as caught:
            Queue.from_uri(f"mongodb://{user}:wrong-word@{host}")
        assert "wrong-word" not in str(caught.value)
    finally:
        stop(place)
        shutil.rmtree(place, ignore_errors=True)


def test_no_server_is_a_clear_error(tmp_path):
    with pytest.raises(DatabaseError, match="does not answer"):
        Queue.from_uri(
            f"mongodb://{str(tmp_path / 'no.sock').replace('/', '%2F')}/x?serverSelectionTimeoutMS=100"
        )


def test_workers_end_when_their_supervisor_is_killed(
    queue, database_uri, tmp_path, worker_environment, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", worker_environment["PYTHONPATH"])
    note = tmp_path / "note"
    queue.add_wf(Firework(Note(file=str(note), sleep=0.5), name="only"))
    settings = WorkerSettings(allowed=ALLOWED, report_s=0.2)
    pid = start_background(database_uri, 1, (), tmp_path / "scratch", worker_settings=settings)
    wait_for(note.exists)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_for(lambda: queue.workers.find_one({"kind": "worker", "state": "stopped"}), what="the worker's end")
    assert states(queue) == {"only": "COMPLETED"}, "what it was at is finished first"
