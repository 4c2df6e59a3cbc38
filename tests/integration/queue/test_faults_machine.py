"""Faults of one machine must stay there: a full disk, a fault in every task, a clock that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from fireworks import Firework
from gf_clock import faketime_library, wrong_clock
from gf_fault_sides import Ours
from queue_help import ALLOWED, states, wait_for
from queue_tasks import Nothing, Once

from launchpad.queue import QueueSettings
from launchpad.workers import Supervisor, SupervisorSettings, WorkerSettings

pytestmark = pytest.mark.database


def other_clock(directory, ahead_s, environment):
    """Return the environment of processes with another clock; skip where that is not to be had."""
    if faketime_library() is None:
        pytest.skip("libfaketime is not installed (apt install faketime)")
    known = {**os.environ, **environment}
    return {**known, **wrong_clock(directory, ahead_s, known.get("PYTHONPATH", ""))}


def test_a_broken_node_does_not_run_through_the_queue(both):
    """Where every task finds the disk full, FireWorks' rapidfire makes the whole queue FIZZLED within seconds."""

    def scenario(side):
        for number in range(12):
            task = Once(file=str(side.directory / f"runs{number}"), full=1)
            side.pad.add_wf(Firework(task, name=f"n{number}"))
        end = time.monotonic() + 1.5
        if side.name == "stock":
            while time.monotonic() < end and side.run_one():
                pass
        else:
            worker = side.worker(side.pad)
            worker.pulse = Pulse(worker)
            while time.monotonic() < end and worker._step():
                worker._recover()
        spoiled = side.pad.launches.count_documents({"state": "FIZZLED"})
        assert spoiled <= 3, f"{spoiled} of 12 tasks spoiled"

    from launchpad.workers.pulse import Pulse

    both(scenario, match="tasks spoiled")


def test_a_worker_without_room_takes_nothing(make_side):
    side = make_side(Ours)
    side.add()
    worker = side.worker(side.pad)
    worker.settings = worker.settings.model_copy(update={"min_free_mb": 1e12})
    assert not worker._step()
    assert side.states() == {"only": "READY"}


CLOCKS = """
import json, os, sys
from pathlib import Path
from fireworks.core.fworker import FWorker
from gf_fault_forge import OldStock
from gf_fault_sides import Ours
name, uri, directory = sys.argv[1:]
os.chdir(directory)
side = {"stock": OldStock, "ours": Ours}[name](uri, Path(directory), {})
fw_id, launch_id = side.take()
print(launch_id, flush=True)
sys.stdin.readline()
side.pad.ping_launch(launch_id)
print("pinged", flush=True)
sys.stdin.readline()
"""


def start_with_clock(side, offset):
    """Start a process that takes a task with a clock of its own; it says the launch, pings when told, and ends."""
    environment = other_clock(side.directory / "clock", offset, side.environment)
    return subprocess.Popen(
        [sys.executable, "-c", CLOCKS, side.name, side.uri, str(side.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("offset", [-600.0, 600.0])
def test_clock_of_a_worker_ten_minutes_off(both, offset):
    """With lost runs looked for every five minutes, FireWorks takes a living task from a worker whose clock is late,
    and does not find the dead one of a worker whose clock is early."""

    def scenario(side):
        ids = side.add()
        process = start_with_clock(side, offset)
        try:
            launch_id = int(process.stdout.readline())
            # judged by its heartbeat, not by its process id
            side.pad.launches.update_one({"launch_id": launch_id}, {"$set": {"process.node": "elsewhere"}})
            process.stdin.write("ping\n")
            process.stdin.flush()
            assert process.stdout.readline() == "pinged\n"
            side.recover_soon(lease_s=300, after_s=0)
            assert side.state(ids["only"]) == "RUNNING", "a living task was taken from its worker"
        finally:
            process.communicate("end\n", timeout=30)
        side.recover_soon(lease_s=300, after_s=360)
        assert side.state(ids["only"]) == "READY", "a dead task was not found after six minutes"

    both(scenario, match="taken from its worker" if offset < 0 else "was not found")


def test_whole_worker_with_another_clock(queue, database_uri, tmp_path, worker_environment):
    """A supervisor's worker ten minutes ahead runs tasks, is not taken for dead, and takes nobody for dead."""
    environment = other_clock(tmp_path / "clock", 600.0, worker_environment)
    for number in range(3):
        queue.add_wf(Firework(Nothing(), name=f"n{number}"))
    supervisor = Supervisor(
        database_uri,
        1,
        scratch=tmp_path / "scratch",
        worker_settings=WorkerSettings(allowed=ALLOWED, report_s=0.2),
        queue_settings=QueueSettings(lease_s=5.0, heartbeat_s=0.5),
        settings=SupervisorSettings(reap_s=0.3, kill_after_s=1.0),
        environment=environment,
    )
    with supervisor:
        wait_for(lambda: set(states(queue).values()) == {"COMPLETED"}, tick=supervisor.tick)
        entry = wait_for(lambda: queue.workers.find_one({"kind": "worker"}))
        assert 590 < entry["clock_offset_s"] < 610, "it has another clock indeed"
    assert queue.launches.count_documents({}) == 3
    launch = queue.launches.find_one()
    ended = datetime.fromisoformat(launch["time_end"])
    assert abs((ended - datetime.now(UTC)).total_seconds()) < 60.0, (
        "the end of a task is told by the server's clock"
    )
    json.dumps(launch["process"])
