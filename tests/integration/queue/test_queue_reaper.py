"""Every kind of stuck Firework: made by hand, found by the reaper, put right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from fireworks import Firework, FWAction, Workflow
from fireworks.core.fworker import FWorker
from queue_help import check_consistent, completed_once, run_all, run_one, states
from queue_tasks import Fail, Nothing

from launchpad.queue import QueueSettings, reap
from launchpad.queue.identity import ProcessIdentity

pytestmark = pytest.mark.database

WORKER = FWorker(name="test")
ELSEWHERE = {"host": "faraway", "node": "another-boot/pid:[1]", "pid": 4242, "start": 1}


@cache
def _dead_process() -> str:
    """Return the identity of a process of this host that has ended."""
    code = (
        "import json; from launchpad.queue.identity import ProcessIdentity\n"
        "print(json.dumps(ProcessIdentity.current().document()))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def dead_process() -> dict:
    """Return the identity of a process of this host that has ended."""
    return json.loads(_dead_process())


def chain(queue, task=None):
    """Add parent -> child; return their ids."""
    parent = Firework(Nothing() if task is None else task, name="parent")
    ids = queue.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))
    found = sorted(ids.values())
    return found[1], found[0]


def taken_by(queue, process, **fields):
    """Take a task as if another process had done it."""
    taken = queue.take(WORKER, "/nowhere")
    queue.launches.update_one({"launch_id": taken.launch_id}, {"$set": {"process": process, **fields}})
    return taken


def test_nothing_is_wrong_with_a_healthy_queue(queue):
    chain(queue)
    queue.take(WORKER, "/nowhere")
    report = reap(queue)
    assert report.quiet
    assert states(queue) == {"parent": "RUNNING", "child": "WAITING"}
    json.dumps(report.document())


def test_dead_process_on_this_host_is_found_at_once(queue):
    parent, child = chain(queue)
    taken = taken_by(queue, dead_process())
    report = reap(queue)
    assert report.lost == (taken.launch_id,)
    assert report.rerun == (parent,)
    run_all(queue)
    completed_once(queue, parent)
    completed_once(queue, child)
    check_consistent(queue)


def test_reused_process_id_is_not_mistaken_for_the_worker(queue):
    chain(queue)
    me = ProcessIdentity.current().document()
    taken_by(queue, {**me, "start": me["start"] - 1})
    assert len(reap(queue).rerun) == 1


def test_lost_heartbeat_of_another_host(queue):
    parent, _ = chain(queue)
    taken_by(queue, ELSEWHERE)
    now = queue.now()
    assert reap(queue, now=now + queue.settings.lease_s - 5).quiet
    assert reap(queue, now=now + queue.settings.lease_s + 5).rerun == (parent,)


def test_heartbeat_keeps_a_task_of_another_host(queue):
    chain(queue)
    taken = taken_by(queue, ELSEWHERE, heartbeat_at=queue.now() - 10_000)
    assert queue.beat(taken.launch_id, taken.history_index)
    assert reap(queue).quiet
    history = queue.launches.find_one({"launch_id": taken.launch_id})["state_history"]
    assert history[0]["updated_on"] > history[0]["created_on"], (
        "stock lpad detect_lostruns sees the heartbeat too"
    )


def test_stock_launch_is_judged_by_hourly_pings(queue):
    parent, _ = chain(queue)
    taken = queue.take(WORKER, "/nowhere")
    queue.launches.update_one({"launch_id": taken.launch_id}, {"$unset": {"process": "", "heartbeat_at": ""}})
    now = queue.now()
    assert reap(queue, now=now + 2 * 3600).quiet
    assert reap(queue, now=now + 5 * 3600).rerun == (parent,)


def test_retries_after_deaths_are_bounded_and_then_fizzled(queue):
    queue.settings = QueueSettings(infrastructure_retries=2)
    parent, _ = chain(queue)
    process = dead_process()
    for attempt in range(2):
        taken_by(queue, process)
        assert reap(queue).rerun == (parent,), attempt
    taken = taken_by(queue, process)
    assert reap(queue).exhausted == (parent,)
    assert reap(queue, grace=0).quiet
    assert states(queue) == {"parent": "FIZZLED", "child": "WAITING"}
    reason = queue.launches.find_one({"launch_id": taken.launch_id})["action"]["stored_data"]["_message"]
    assert "given up after 3 tries" in reason
    assert "died" in reason
    check_consistent(queue)
    # a person runs it again: its tries start anew
    queue.rerun_fw(parent)
    taken_by(queue, process)
    assert reap(queue).rerun == (parent,)
    run_all(queue)
    assert states(queue) == {"parent": "COMPLETED", "child": "COMPLETED"}


def test_transient_faults_are_retried_after_growing_pauses(queue):
    parent, _ = chain(queue)
    assert queue.settings.transient_delays_s == (30.0, 300.0, 1200.0)
    for delay in queue.settings.transient_delays_s:
        taken = queue.take(WORKER, "/nowhere")
        queue.hand_back(taken.launch_id, "disk full", kind="transient", delay_s=delay)
        assert reap(queue, now=queue.now() + delay - 2).postponed == (parent,)
        assert states(queue)["parent"] == "RUNNING", "not FIZZLED in between: nobody may conclude from that"
        assert reap(queue, now=queue.now() + delay + 2).rerun == (parent,)
    taken = queue.take(WORKER, "/nowhere")
    queue.hand_back(taken.launch_id, "disk full", kind="transient")
    assert states(queue)["parent"] == "FIZZLED"
    assert reap(queue, grace=0).quiet


def test_drained_tasks_are_not_counted(queue):
    parent, _ = chain(queue)
    for _ in range(5):
        taken = queue.take(WORKER, "/nowhere")
        queue.hand_back(taken.launch_id, "stopped", kind="drained")
        assert states(queue)["parent"] == "READY"
    assert queue.retries.find_one({"_id": parent}) is None


def test_failed_task_stays_failed(queue):
    parent, _ = chain(queue, Fail())
    assert run_one(queue) == parent
    assert reap(queue, grace=0).quiet
    assert states(queue) == {"parent": "FIZZLED", "child": "WAITING"}


def test_checkout_of_another_host_is_taken_back_after_its_grace(queue):
    parent, _ = chain(queue)
    claim = {**ELSEWHERE, "token": "t", "since": queue.now()}
    queue.fireworks.update_one({"fw_id": parent}, {"$set": {"state": "RESERVED", "checkout": claim}})
    now = queue.now()
    assert reap(queue, now=now + 30).quiet
    assert reap(queue, now=now + 90).reservations == (parent,)
    run_all(queue)
    completed_once(queue, parent)


def test_slow_taker_whose_checkout_was_taken_back_leaves_the_task(queue, monkeypatch):
    """A process that sleeps in the middle of its checkout and wakes up after somebody else got the task."""
    parent, _ = chain(queue)
    original = queue.get_new_launch_id

    def sleep_meanwhile():
        monkeypatch.setattr(queue, "get_new_launch_id", original)
        queue.fireworks.update_one({"fw_id": parent}, {"$set": {"checkout.node": "another-boot"}})
        assert reap(queue, now=queue.now() + 100).reservations == (parent,)
        assert run_one(queue) == parent
        return original()

    monkeypatch.setattr(queue, "get_new_launch_id", sleep_meanwhile)
    assert queue.take(WORKER, "/nowhere") is None
    completed_once(queue, parent)


def test_stock_reservation_without_launch(queue):
    """FireWorks' launcher died between its first and its second write: no stock command ever finds this."""
    parent, _ = chain(queue)
    queue.fireworks.update_one(
        {"fw_id": parent},
        {"$set": {"state": "RESERVED", "updated_on": datetime.now(UTC) - timedelta(seconds=200)}},
    )
    assert reap(queue).quiet
    assert reap(queue, now=queue.now() + 200).reservations == (parent,)


def test_reservation_in_a_batch_queue_is_left_alone(queue):
    parent, _ = chain(queue)
    queue.reserve_fw(WORKER, "/nowhere", fw_id=parent)
    assert reap(queue, now=queue.now() + 86_400).quiet
    assert states(queue)["parent"] == "RESERVED"


def test_stock_launch_running_while_the_firework_is_reserved(queue):
    parent, _ = chain(queue)
    taken = queue.take(WORKER, "/nowhere")
    queue.launches.update_one({"launch_id": taken.launch_id}, {"$unset": {"process": "", "heartbeat_at": ""}})
    queue.fireworks.update_one({"fw_id": parent}, {"$set": {"state": "RESERVED", "launches": []}})
    reap(queue, now=queue.now() + 5 * 3600)
    run_all(queue)
    reap(queue, now=queue.now() + 5 * 3600)
    completed_once(queue, parent)
    check_consistent(queue)


def test_finished_launch_whose_workflow_was_never_refreshed(queue):
    parent, child = chain(queue)
    taken = queue.take(WORKER, "/nowhere")
    action = FWAction(update_spec={"x": 7}).to_dict()
    end = (datetime.now(UTC) - timedelta(seconds=60)).isoformat()
    queue.launches.update_one(
        {"launch_id": taken.launch_id},
        {
            "$set": {"state": "COMPLETED", "action": action, "time_end": end},
            "$push": {"state_history": {"state": "COMPLETED", "created_on": end}},
        },
    )
    assert parent in reap(queue).repaired
    assert states(queue) == {"parent": "COMPLETED", "child": "READY"}
    assert queue.fireworks.find_one({"fw_id": child})["spec"]["x"] == 7, "the action was applied"
    check_consistent(queue)


def test_child_that_was_not_promoted(queue):
    _parent, child = chain(queue)
    run_one(queue)
    queue.fireworks.update_one({"fw_id": child}, {"$set": {"state": "WAITING"}})
    queue.workflows.update_one({"nodes": child}, {"$set": {f"fw_states.{child}": "WAITING"}})
    assert reap(queue, grace=0).repaired == (child,)
    assert states(queue) == {"parent": "COMPLETED", "child": "READY"}


def test_lock_of_a_dead_process_does_not_stop_anybody(queue):
    parent, _ = chain(queue)
    lease = {**dead_process(), "token": "t", "since": queue.now()}
    queue.workflows.update_one({"nodes": parent}, {"$set": {"locked": True, "lock_lease": lease}})
    assert run_all(queue) == 2, "the next one who needs the lock takes it over"
    check_consistent(queue)


def test_lock_of_another_host_is_released_after_its_time(queue):
    parent, child = chain(queue)
    lease = {**ELSEWHERE, "token": "t", "since": queue.now()}
    queue.workflows.update_one({"nodes": parent}, {"$set": {"locked": True, "lock_lease": lease}})
    assert reap(queue, now=queue.now() + 60).quiet
    assert reap(queue, now=queue.now() + 180).locks == (child,)
    check_consistent(queue)


def test_stock_lock_left_behind_is_released(queue):
    """FireWorks' boolean lock has neither owner nor time: it is judged by a workflow that does not change."""
    parent, child = chain(queue)
    queue.workflows.update_one({"nodes": parent}, {"$set": {"locked": True}})
    now = queue.now()
    assert reap(queue, now=now).quiet
    assert reap(queue, now=now + 200).quiet
    assert reap(queue, now=now + 400).locks == (child,)
    check_consistent(queue)
    assert run_all(queue) == 2


def test_own_lease_of_an_aborted_pass_does_not_stop_the_next_one(queue):
    queue.leases.insert_one(
        {"_id": "reaper", **queue.identity.document(), "token": "t", "until": queue.now() + 60}
    )
    assert not reap(queue).skipped


def test_killed_workers_are_noted(queue):
    from launchpad.workers import list_workers

    entry = {"kind": "worker", "state": "running", "fw_id": 3, "heartbeat": queue.now()}
    queue.workers.insert_one({"_id": "dead", **dead_process(), **entry})
    queue.workers.insert_one({"_id": "far", **ELSEWHERE, **entry})
    queue.workers.insert_one({"_id": "old", **ELSEWHERE, **entry, "state": "stopped", "heartbeat": 0.0})
    assert [(row["_id"], row["alive"]) for row in list_workers(queue.db)] == [("dead", False), ("far", True)]
    reap(queue)
    assert [row["_id"] for row in list_workers(queue.db)] == ["far"]
    assert {row["_id"] for row in list_workers(queue.db, all_states=True)} == {"dead", "far"}
    # a whole host that vanished cannot be asked: its silence tells
    reap(queue, now=queue.now() + queue.settings.lease_s + 1)
    assert list_workers(queue.db) == []


def test_a_launch_is_judged_by_the_lease_that_its_worker_has(queue, database_uri):
    from launchpad.queue import Queue, QueueSettings

    fw_id = next(iter(queue.add_wf(Firework(Nothing())).values()))
    with Queue.from_uri(database_uri, settings=QueueSettings(heartbeat_s=400, lease_s=1200)) as patient:
        taken = patient.take(FWorker(), "/nowhere")
    queue.launches.update_one({"launch_id": taken.launch_id}, {"$set": {"process": ELSEWHERE}})
    now = queue.now()
    assert reap(queue, now=now + 1100).lost == ()
    assert reap(queue, now=now + 1300).lost == (taken.launch_id,)
    assert run_all(queue) == 1
    completed_once(queue, fw_id)


def test_two_reapers(queue, database_uri):
    from launchpad.queue import Queue

    lease = {**ELSEWHERE, "token": "t", "until": queue.now() + 60}
    queue.leases.insert_one({"_id": "reaper", **lease})
    parent, _ = chain(queue)
    taken_by(queue, ELSEWHERE, heartbeat_at=queue.now() - 1000)
    assert reap(queue).skipped
    assert states(queue)["parent"] == "RUNNING"
    assert reap(queue, now=queue.now() + 61).rerun == (parent,), "the other one vanished"
    queue.leases.update_one({"_id": "reaper"}, {"$set": {**lease, "until": queue.now() + 60}})
    taken_by(queue, dead_process())
    here = reap(queue)
    assert here.skipped
    assert here.rerun == (parent,), (
        "who died on this host is known here only, and found whoever else is at work"
    )
    queue.leases.delete_one({"_id": "reaper"})
    queue.leases.insert_one({"_id": "reaper", **dead_process(), "token": "u", "until": queue.now() + 60})
    assert not reap(queue).skipped, "a dead one on this host is replaced at once"
    code = (
        "import sys; from launchpad.queue import Queue, reap\n"
        "queue = Queue.from_uri(sys.argv[1])\n"
        "print(sum(len(reap(queue).rerun) for _ in range(5)))"
    )
    for _ in range(4):
        queue.add_wf(Firework(Nothing(), name="more"))
    while queue.fireworks.count_documents({"state": "READY"}):
        taken_by(queue, dead_process())
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, database_uri], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        for _ in range(3)
    ]
    counts = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    reap(queue)
    assert sum(counts) == 5, "each was put back exactly once"
    assert queue.fireworks.count_documents({"state": "READY"}) == 5
    for found in queue.retries.find():
        assert len(found["dead"]) == len(
            queue.fireworks.find_one({"fw_id": found["_id"]})["archived_launches"]
        )
    with Queue.from_uri(database_uri) as other:
        assert reap(other, grace=0).quiet


def test_late_result_is_accepted_until_the_task_runs_again(queue):
    parent, _ = chain(queue)
    queue.settings = QueueSettings(transient_delays_s=(5.0,))
    taken = queue.take(WORKER, "/nowhere")
    queue.hand_back(taken.launch_id, "silent", kind="transient", delay_s=5.0)
    queue.complete_launch(taken.launch_id, FWAction(stored_data={"late": True}))
    completed_once(queue, parent)
    assert reap(queue, now=queue.now() + 10).quiet


def test_late_result_after_the_rerun_changes_nothing(queue):
    parent, _ = chain(queue)
    first = taken_by(queue, dead_process())
    reap(queue)
    assert run_one(queue) == parent
    queue.complete_launch(first.launch_id, FWAction(update_spec={"x": "late"}))
    completed_once(queue, parent)
    assert queue.launches.find_one({"launch_id": first.launch_id})["late"]["state"] == "COMPLETED"
    assert "x" not in queue.fireworks.find_one({"name": "child"})["spec"]


def test_completion_twice_is_the_same_as_once(queue):
    parent, _child = chain(queue)
    taken = queue.take(WORKER, "/nowhere")
    for _ in range(3):
        queue.complete_launch(taken.launch_id, FWAction(mod_spec=[{"_set": {"x": 1}}]))
    completed_once(queue, parent)
    assert states(queue)["child"] == "READY"
    check_consistent(queue)
