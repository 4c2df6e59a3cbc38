"""What FireWorks' own commands, people and restored backups leave behind: nothing of it stops a reaper or a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fireworks import Firework, FWAction, Workflow
from fireworks.core.fworker import FWorker
from fireworks.core.launchpad import LaunchPad
from pymongo.errors import AutoReconnect
from queue_help import check_consistent, completed_once, run_all, run_one, states
from queue_tasks import Nothing

from launchpad.queue import QueueSettings, reap

pytestmark = pytest.mark.database

WORKER = FWorker(name="test")
ELSEWHERE = {"host": "faraway", "node": "another-boot/pid:[1]", "pid": 4242, "start": 1}


@pytest.fixture
def stock(database_uri):
    """FireWorks' own LaunchPad on the same database."""
    opened = LaunchPad(host=database_uri, name=database_uri.rsplit("/", 1)[1].split("?")[0], uri_mode=True)
    yield opened
    opened.connection.close()


def pair(queue, task=None):
    """Add parent -> child; return their ids."""
    parent = Firework(Nothing() if task is None else task, name="parent")
    ids = queue.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))
    found = sorted(ids.values())
    return found[1], found[0]


def orphan(stock, monkeypatch):
    """Let ``lpad add`` die between its two writes: a READY Firework without a workflow."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(stock.workflows), "insert_one", killed)
        with pytest.raises(KeyboardInterrupt):
            stock.add_wf(Firework(Nothing(), name="orphan"))
    return stock.fireworks.find_one({"name": "orphan"})["fw_id"]


def test_firework_without_a_workflow_stops_nobody(queue, stock, monkeypatch):
    fw_id = orphan(stock, monkeypatch)
    parent, child = pair(queue)
    assert run_all(queue) == 3
    reap(queue, now=queue.now() + 60)
    assert states(queue)["orphan"] == "COMPLETED"
    for each in (fw_id, parent, child):
        completed_once(queue, each)
    assert reap(queue, now=queue.now() + 60).quiet, "it is not found again and again"


def test_lost_firework_without_a_workflow_stops_nobody(queue, stock, monkeypatch):
    orphan(stock, monkeypatch)
    taken = queue.take(WORKER, "/nowhere")
    queue.launches.update_one(
        {"launch_id": taken.launch_id}, {"$set": {"process": ELSEWHERE, "heartbeat_at": 0.0}}
    )
    parent, _ = pair(queue)
    lost = queue.take(WORKER, "/nowhere")
    queue.launches.update_one(
        {"launch_id": lost.launch_id}, {"$set": {"process": ELSEWHERE, "heartbeat_at": 0.0}}
    )
    report = reap(queue)
    assert parent in report.rerun
    assert run_all(queue) == 3
    assert states(queue)["orphan"] == "COMPLETED"
    assert reap(queue, now=queue.now() + 60).quiet


def test_workflow_deleted_while_its_task_runs(queue, stock):
    """``lpad delete_wflows``: nobody wants the result any more, and whoever brings it goes on with other tasks."""
    parent, _ = pair(queue)
    taken = queue.take(WORKER, "/nowhere", fw_id=parent)
    stock.delete_wf(parent)
    queue.complete_launch(taken.launch_id, FWAction())
    assert run_one(queue) is None
    queue.hand_back(taken.launch_id, "late", kind="drained")
    assert reap(queue).quiet


def test_spooled_result_of_a_deleted_launch_stops_nobody(queue):
    parent, _ = pair(queue)
    taken = queue.take(WORKER, "/nowhere")
    queue.spool.put(queue.database_identity, taken.launch_id, "COMPLETED", FWAction().to_dict(), queue.now())
    queue.launches.delete_many({})
    reap(queue, now=queue.now() + 60)
    assert queue.spool.waiting() == []
    assert run_all(queue) == 2
    completed_once(queue, parent)


def test_workflow_that_cannot_be_brought_in_line_does_not_stop_the_reaper(queue):
    """``lpad delete_wflows`` that was killed in the middle: a parent has ended, its child does not exist."""
    ends = (datetime.now(UTC) - timedelta(seconds=60)).isoformat()
    for number in range(2):
        parent, child = pair(queue)
        taken = queue.take(WORKER, "/nowhere", fw_id=parent)
        queue.launches.update_one(
            {"launch_id": taken.launch_id},
            {
                "$set": {"state": "COMPLETED", "action": FWAction().to_dict(), "time_end": ends},
                "$push": {"state_history": {"state": "COMPLETED", "created_on": ends}},
            },
        )
        if number == 0:
            queue.fireworks.delete_one({"fw_id": child})
            broken = parent
    report = reap(queue)
    assert report.broken == (broken,)
    assert queue.fireworks.find_one({"fw_id": broken})["state"] == "FIZZLED"
    assert queue.fireworks.find_one({"fw_id": parent})["state"] == "COMPLETED"
    assert queue.fireworks.find_one({"fw_id": child})["state"] == "READY"
    assert reap(queue).quiet, "it is reported once"


def test_workflow_with_a_paused_task_is_swept_too(queue, stock):
    """By its state such a workflow is PAUSED (or DEFUSED), whatever its other tasks do."""
    parent = Firework(Nothing(), name="parent")
    child = Firework(Nothing(), name="child", parents=[parent])
    queue.add_wf(Workflow([parent, child, Firework(Nothing(), name="aside")]))
    stock.pause_fw(queue.fireworks.find_one({"name": "aside"})["fw_id"])
    run_one(queue)
    assert states(queue) == {"parent": "COMPLETED", "child": "READY", "aside": "PAUSED"}
    old = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    number = queue.fireworks.find_one({"name": "child"})["fw_id"]
    queue.fireworks.update_many({}, {"$set": {"updated_on": old}})
    queue.fireworks.update_one({"name": "child"}, {"$set": {"state": "WAITING"}})
    queue.workflows.update_many({}, {"$set": {"updated_on": old, f"fw_states.{number}": "WAITING"}})
    reap(queue)
    assert states(queue)["child"] == "READY"


def test_many_changes_of_one_moment_do_not_hold_up_the_search(queue):
    """A parent makes all its children READY at one moment: more than a pass looks at."""
    queue.settings = QueueSettings(compared_workflows=4)
    parent = Firework(Nothing(), name="parent")
    queue.add_wf(
        Workflow([parent, *(Firework(Nothing(), name=f"c{k}", parents=[parent]) for k in range(10))])
    )
    reap(queue)
    run_one(queue)
    now = queue.now()
    for k in range(6):
        reap(queue, now=now + 300 + 20 * k)
    since = queue.leases.find_one({"_id": "sweep"})["since"]
    assert since > now + 200, "the search has come past that moment"


def test_spooled_result_from_before_a_restore_is_not_given_to_another_task(queue):
    """A backup brings the counter of launch ids back: the same id is given again, to another task."""
    pair(queue)
    queue.settings = QueueSettings(completion_limit_s=0.0)
    before = queue.take(WORKER, "/nowhere")
    present = queue.launches

    class Away:
        def __getattr__(self, _):
            msg = "the server is away"
            raise AutoReconnect(msg)

    queue.launches = Away()
    queue.complete_launch(before.launch_id, FWAction(stored_data={"of": "before"}))
    queue.launches = present
    assert len(queue.spool.waiting()) == 1
    queue.launches.delete_many({})
    queue.fireworks.update_many({"state": "RUNNING"}, {"$set": {"state": "READY", "launches": []}})
    queue.fireworks.update_many({"name": "child"}, {"$set": {"state": "READY"}})
    queue.fireworks.update_many({"name": "parent"}, {"$set": {"state": "WAITING"}})
    queue.fw_id_assigner.update_one({}, {"$set": {"next_launch_id": before.launch_id}})
    queue.forget_launch_ids()
    after = queue.take(WORKER, "/nowhere")
    assert after.launch_id == before.launch_id
    assert after.fw_id != before.fw_id
    queue.held.clear()
    queue.spool.deliver(queue)
    assert queue.launches.find_one({"launch_id": after.launch_id})["state"] == "RUNNING"
    assert queue.spool.waiting() == []


def test_running_task_whose_launch_is_gone_runs_again(queue):
    """A dump of one collection after the other can hold the one without the other."""
    parent, _ = pair(queue)
    queue.take(WORKER, "/nowhere")
    queue.launches.delete_many({})
    reap(queue, now=queue.now() + 60)
    assert states(queue)["parent"] == "READY"
    assert run_all(queue) == 2
    completed_once(queue, parent)
    check_consistent(queue)
