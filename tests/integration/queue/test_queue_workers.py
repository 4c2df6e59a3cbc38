"""Real worker processes: killed, drained, cut off from the database, asked for what they must not run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fireworks import Firework, ScriptTask, Workflow
from pymongo.errors import PyMongoError
from queue_help import ALLOWED, check_consistent, completed_once, states, wait_for
from queue_tasks import Fail, HandsBack, Note, Nothing, Threads

from launchpad.queue import QueueSettings, reap
from launchpad.workers import (
    Supervisor,
    SupervisorSettings,
    WorkerSettings,
    list_workers,
    request_stop,
    start_background,
)
from launchpad.workers.registry import Registration

pytestmark = pytest.mark.database

QUICK = WorkerSettings(allowed=ALLOWED, drain_grace_s=5.0, report_s=0.2)


@pytest.fixture
def supervise(database_uri, tmp_path, worker_environment):
    made = []

    def start(n=1, worker=QUICK, **more):
        supervisor = Supervisor(
            database_uri,
            n,
            scratch=tmp_path / "scratch",
            worker_settings=worker,
            settings=SupervisorSettings(reap_s=0.3, kill_after_s=1.0),
            environment=worker_environment,
            **more,
        )
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield start
    for supervisor in made:
        supervisor.stop(grace_s=2.0)


def all_completed(queue):
    return set(states(queue).values()) == {"COMPLETED"}


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_killed_worker_is_replaced_and_its_task_completed_once(queue, supervise, tmp_path):
    note = tmp_path / "note"
    ids = queue.add_wf(Firework(Note(file=str(note), sleep=1.0), name="only"))
    supervisor = supervise(n=1)
    wait_for(lambda: lines(note), tick=supervisor.tick, what="the task's beginning")
    os.kill(supervisor.pids[0], signal.SIGKILL)
    wait_for(lambda: all_completed(queue), tick=supervisor.tick)
    completed_once(queue, *ids.values())
    assert [line.split()[0] for line in lines(note)] == ["begin", "begin", "end"]
    assert supervisor.restarts == 1
    check_consistent(queue)


def test_a_worker_that_holds_too_much_memory_is_replaced_between_tasks(queue, supervise, tmp_path):
    """A leaking library must not fill the node; the replacement is no death and waits for nothing."""
    note = tmp_path / "note"
    for number in range(3):
        queue.add_wf(Firework(Note(file=str(note), sleep=0.0), name=f"n{number}"))
    supervisor = supervise(n=1, worker=QUICK.model_copy(update={"memory_limit_gb": 1e-4}))
    seen = set()

    def tick():
        supervisor.tick()
        seen.update(supervisor.pids)

    wait_for(lambda: all_completed(queue), tick=tick)
    assert len(seen) >= 3
    assert supervisor.restarts == 0
    assert [line.split()[0] for line in lines(note)] == ["begin", "end"] * 3


def test_many_tasks_while_workers_are_killed(queue, supervise, tmp_path):
    notes = [tmp_path / f"note{number}" for number in range(12)]
    for pair in zip(notes[::2], notes[1::2], strict=True):
        parent = Firework(Note(file=str(pair[0]), sleep=0.15), name=pair[0].name)
        queue.add_wf(
            Workflow(
                [parent, Firework(Note(file=str(pair[1]), sleep=0.15), name=pair[1].name, parents=[parent])]
            )
        )
    supervisor = supervise(n=2)
    kills = 0
    end = time.monotonic() + 180
    while not all_completed(queue):
        assert time.monotonic() < end, states(queue)
        supervisor.tick()
        if (
            kills < 4
            and queue.fireworks.count_documents({"state": "COMPLETED"}) >= 2 * kills
            and supervisor.pids
        ):
            os.kill(supervisor.pids[kills % len(supervisor.pids)], signal.SIGKILL)
            kills += 1
        time.sleep(0.05)
    for firework in queue.fireworks.find():
        completed_once(queue, firework["fw_id"])
    check_consistent(queue)


def test_foreign_task_is_refused_and_never_imported(queue, supervise, tmp_path):
    evil = tmp_path / "evil"
    refused = [
        Firework(ScriptTask.from_str(f"touch {evil}"), name="script"),
        Firework(Nothing(), spec={"_background_tasks": []}, name="background"),
        Firework(Nothing(), spec={"_launch_dir": "/"}, name="directory"),
        Firework(Nothing(), spec={"x": {"_fw_name": "{{os.path.Nothing}}"}}, name="nested"),
    ]
    for firework in refused:
        queue.add_wf(firework)
    # a class that does something when its module is imported
    (tmp_path / "wicked.py").write_text(f"open({str(evil)!r}, 'w')\nclass Task: pass\n")
    queue.fireworks.update_one(
        {"name": "script"}, {"$push": {"spec._tasks": {"_fw_name": "{{wicked.Task}}"}}}
    )
    parent = Firework(Nothing(), name="parent")
    queue.add_wf(Workflow([parent, Firework(Nothing(), name="wicked", parents=[parent])]))
    queue.fireworks.update_one(
        {"name": "wicked"}, {"$set": {"spec._tasks": [{"_fw_name": "{{wicked.Task}}", "a": 1}]}}
    )
    supervisor = supervise(n=1)
    supervisor.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    wait_for(lambda: set(states(queue).values()) <= {"COMPLETED", "FIZZLED"}, tick=supervisor.tick)
    found = states(queue)
    assert found.pop("parent") == "COMPLETED"
    assert set(found.values()) == {"FIZZLED"}
    assert not evil.exists()
    reasons = {
        launch["fw_id"]: launch["action"]["stored_data"]["_message"]
        for launch in queue.launches.find({"state": "FIZZLED"})
    }
    assert len(reasons) == 5
    assert all(reason.startswith("refused: ") for reason in reasons.values())
    kept = queue.fireworks.find_one({"name": "wicked"})["spec"]["_tasks"]
    assert kept == [{"_fw_name": "{{wicked.Task}}", "a": 1}], "refused, not altered"


def test_sigterm_lets_a_short_task_finish(queue, supervise, tmp_path):
    note = tmp_path / "note"
    ids = queue.add_wf(Firework(Note(file=str(note), sleep=1.0), name="short", spec={"_priority": 5}))
    queue.add_wf(Firework(Nothing(), name="later"))
    supervisor = supervise(n=1)
    wait_for(lambda: lines(note), tick=supervisor.tick)
    supervisor.stop()
    completed_once(queue, *ids.values())
    assert states(queue)["later"] == "READY"
    assert [line.split()[0] for line in lines(note)] == ["begin", "end"]


def test_sigterm_hands_a_long_task_back(queue, supervise, tmp_path):
    note = tmp_path / "note"
    queue.add_wf(Firework(Note(file=str(note), sleep=60.0), name="long"))
    supervisor = supervise(n=1, worker=QUICK.model_copy(update={"drain_grace_s": 0.3}))
    wait_for(lambda: lines(note), tick=supervisor.tick)
    began = time.monotonic()
    supervisor.stop(grace_s=10.0)
    assert time.monotonic() - began < 5.0
    assert states(queue) == {"long": "READY"}
    assert [line.split()[0] for line in lines(note)] == ["begin"]
    assert queue.retries.count_documents({}) == 0, "being told to stop is no failure"
    check_consistent(queue)


def test_grace_ends_before_the_allocation_does(queue, supervise, tmp_path, monkeypatch):
    """A settings file may give tasks more time than a pilot leaves between its signal and its end."""
    note = tmp_path / "note"
    queue.add_wf(Firework(Note(file=str(note), sleep=60.0), name="long"))
    monkeypatch.setenv("GAPFACTORY_JOB_END", str(time.time() + 21.0))
    supervisor = supervise(n=1, worker=QUICK.model_copy(update={"drain_grace_s": 600.0}))
    wait_for(lambda: lines(note), tick=supervisor.tick)
    supervisor.stop(grace_s=15.0)
    assert states(queue) == {"long": "READY"}
    assert queue.retries.count_documents({}) == 0, "it was handed back, not killed"
    check_consistent(queue)


def test_failed_and_transient_tasks(queue, supervise, tmp_path):
    queue.add_wf(Firework(Fail(), name="wrong"))
    queue.add_wf(Firework(Fail(transient=True), name="unlucky"))
    quick = QueueSettings(transient_delays_s=(0.1, 0.1))
    supervisor = supervise(n=1, queue_settings=quick)
    wait_for(lambda: set(states(queue).values()) == {"FIZZLED"}, tick=supervisor.tick)
    counts = {
        name: queue.launches.count_documents({"fw_id": queue.fireworks.find_one({"name": name})["fw_id"]})
        for name in ("wrong", "unlucky")
    }
    assert counts == {"wrong": 1, "unlucky": 3}
    kept = list((tmp_path / "scratch" / "failed").iterdir())
    assert len(kept) == 4
    assert list((tmp_path / "scratch" / "launches").iterdir()) == []


def test_what_a_task_counts_itself_is_not_counted_against_it(queue, supervise, tmp_path):
    task = HandsBack(times=4, file=str(tmp_path / "tries"))
    queue.add_wf(Firework(task, name="patient"))
    supervisor = supervise(n=1, queue_settings=QueueSettings(transient_delays_s=(0.1,)))
    wait_for(lambda: all_completed(queue), tick=supervisor.tick)
    assert queue.launches.count_documents({}) == 5
    assert queue.retries.count_documents({}) == 0


def test_a_worker_whose_allocation_ends_takes_nothing_more(queue, supervise, tmp_path):
    task = HandsBack(times=1, file=str(tmp_path / "tries"), ends_worker=True)
    queue.add_wf(Firework(task, name="late"))
    supervisor = supervise(n=1, queue_settings=QueueSettings(transient_delays_s=(0.1,)))
    wait_for(lambda: supervisor.tick().wanted == 0, what="the end of the worker")
    wait_for(lambda: states(queue) == {"late": "READY"}, tick=supervisor.tick)
    again = supervise(n=1)
    wait_for(lambda: all_completed(queue), tick=again.tick)


def test_one_thread_per_worker_and_clean_scratch(queue, supervise, tmp_path):
    queue.add_wf(Firework(Threads(), name="threads"))
    supervisor = supervise(n=1)
    wait_for(lambda: all_completed(queue), tick=supervisor.tick)
    stored = queue.launches.find_one()["action"]["stored_data"]
    assert stored == {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    assert list((tmp_path / "scratch" / "launches").iterdir()) == []


def test_idle_workers_end_and_crashing_ones_are_not_restarted_for_ever(queue, supervise):
    supervisor = supervise(n=1, worker=QUICK.model_copy(update={"idle_timeout_s": 0.2}))
    wait_for(lambda: supervisor.tick().wanted == 0, what="the end of the idle worker")
    broken = supervise(n=1)
    for slot in broken._slots:
        slot.deaths.extend([time.monotonic()] * 6)
        broken._signal(slot, signal.SIGKILL)
    status = wait_for(lambda: (seen := broken.tick()).alive == 0 and seen)
    assert status.restarts == 1
    assert "SIGKILL" in status.message
    assert broken.tick().alive == 0, "not at once: it died too often"


def test_background_workers_are_listed_and_stopped(
    queue, database_uri, tmp_path, worker_environment, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", worker_environment["PYTHONPATH"])
    queue.add_wf(Firework(Nothing(), name="only"))
    pid = start_background(database_uri, 1, (), tmp_path / "scratch", worker_settings=QUICK)
    wait_for(lambda: all_completed(queue))
    rows = wait_for(lambda: len(found := list_workers(queue.db)) == 2 and found)
    assert {row["kind"] for row in rows} == {"supervisor", "worker"}
    assert pid in {row["pid"] for row in rows}
    assert all(row["alive"] for row in rows)
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"mongodb" not in command, "the URI may hold a password"
    assert request_stop(queue.db) == 2
    wait_for(lambda: list_workers(queue.db) == [])
    os.waitpid(pid, 0)


def test_who_was_taken_for_dead_is_told_to_stop_as_well(queue):
    """A process of another host was silent for longer than a lease when everybody was told, and comes back."""
    registration = Registration(queue, "push", ())
    assert not registration.report("running")
    elsewhere = {"node": "another/1", "heartbeat": queue.now() - 2.0 * queue.settings.lease_s}
    mine = queue.workers.find_one_and_update({"_id": registration.id}, {"$set": elsewhere})
    reap(queue)
    found = queue.workers.find_one({"_id": registration.id})
    assert (found["state"], found["killed"]) == ("stopped", True)
    assert list_workers(queue.db) == []
    request_stop(queue.db, everywhere=True)
    # where it lives, that can be seen
    queue.workers.update_one({"_id": registration.id}, {"$set": {"node": mine["node"]}})
    (row,) = list_workers(queue.db, here=True)
    assert row["alive"] is True
    assert registration.report("running")
    assert registration.report("stopped"), "it ended by itself"
    assert list_workers(queue.db) == []


def test_server_killed_under_the_workers(tmp_path, worker_environment):
    """The server is killed in the middle; the supervisor brings it back, and every task is completed once."""
    import shutil
    import tempfile

    from launchpad.embedded import ensure_running, status, stop
    from launchpad.queue import Queue
    from launchpad.queue.guard import AllowList

    place = Path(tempfile.mkdtemp(prefix="gfq-"))

    def ensure():
        code = f"from launchpad.embedded import ensure_running; print(ensure_running({str(place)!r}))"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()

    uri = ensure()
    supervisor = Supervisor(
        uri,
        2,
        scratch=tmp_path / "scratch",
        worker_settings=QUICK,
        settings=SupervisorSettings(reap_s=0.3, ensure_s=0.2),
        ensure_database=ensure,
        environment=worker_environment,
    )
    try:
        with Queue.from_uri(uri, allowed=AllowList(ALLOWED)) as queue, supervisor:
            for number in range(8):
                queue.add_wf(Firework(Note(file=str(tmp_path / f"n{number}"), sleep=0.4), name=f"n{number}"))
            wait_for(
                lambda: queue.fireworks.count_documents({"state": "COMPLETED"}) >= 2, tick=supervisor.tick
            )
            os.kill(status(place).pid, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                supervisor.tick()
                try:
                    if all_completed(queue):
                        break
                except PyMongoError as error:  # the server is being replaced
                    if not queue.database_lost(error):
                        raise
                time.sleep(0.1)
            for firework in queue.fireworks.find():
                completed_once(queue, firework["fw_id"])
            assert queue.fireworks.count_documents({}) == 8
        assert ensure_running(place)
    finally:
        stop(place)
        shutil.rmtree(place, ignore_errors=True)
