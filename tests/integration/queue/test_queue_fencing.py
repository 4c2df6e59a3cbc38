"""Late writers: a journal finished by others, a checkout overtaken, a lock lost while it is held."""

from __future__ import annotations

import pytest
from fireworks import Firework, FWAction, Workflow
from fireworks.core.fworker import FWorker
from pymongo.errors import AutoReconnect
from queue_help import ALLOWED, check_consistent, completed_once, run_all, run_one, states
from queue_tasks import Grow, Nothing

from launchpad.queue import Queue, QueueSettings, reap
from launchpad.queue.guard import AllowList
from launchpad.queue.lock import LockLostError, WorkflowLock

pytestmark = pytest.mark.database

WORKER = FWorker(name="test")


@pytest.fixture
def other(database_uri):
    """The same queue as seen by somebody else."""
    with Queue.from_uri(database_uri, allowed=AllowList(ALLOWED)) as opened:
        yield opened


@pytest.fixture
def family(queue):
    """Two parents of one child; ids by name."""
    first, second = Firework(Nothing(), name="first"), Firework(Nothing(), name="second")
    child = Firework(Nothing(), name="child", parents=[first, second])
    queue.add_wf(Workflow([first, second, child]))
    return {found["name"]: found["fw_id"] for found in queue.fireworks.find()}


class Fragile:
    """A collection one of whose methods loses the connection, before or after its effect."""

    def __init__(self, collection, method, *, after=False):
        self._collection, self._method, self._after = collection, method, after

    def __getattr__(self, name):
        real = getattr(self._collection, name)
        if name != self._method:
            return real

        def lost(*arguments, **options):
            if self._after:
                real(*arguments, **options)
            msg = "connection reset"
            raise AutoReconnect(msg)

        return lost


def dynamic(value):
    return FWAction(mod_spec=[{"_push": {"pushed": value}}]).to_dict()


def complete(queue, launch_id, value):
    queue.settings = QueueSettings(completion_limit_s=0.0)
    queue.complete_launch(launch_id, FWAction(mod_spec=[{"_push": {"pushed": value}}]))


def test_journal_finished_late_does_not_undo_what_happened_since(queue, other, family):
    run_one(queue, family["first"])
    taken = queue.take(WORKER, "/nowhere", fw_id=family["second"])
    queue.spool = None
    whole, queue.journal = queue.journal, Fragile(queue.journal, "delete_one")
    with pytest.raises(AutoReconnect):
        complete(queue, taken.launch_id, 2)
    queue.journal = whole
    assert states(queue)["child"] == "READY", "all was written; only the end of the journal is missing"
    child = other.take(WORKER, "/nowhere")
    assert child.fw_id == family["child"]
    reap(other, now=other.now() + 1000, grace=0.0)
    found = other.fireworks.find_one({"fw_id": family["child"]})
    assert found["state"] == "RUNNING"
    assert found["launches"] == [child.launch_id]
    other.complete_launch(child.launch_id, FWAction())
    for fw_id in family.values():
        completed_once(other, fw_id)
    check_consistent(other)


def test_lock_stays_while_a_change_is_half_written(queue, other, family):
    """Two parents change the same child: the second must not overtake the half-written change of the first."""
    one = queue.take(WORKER, "/nowhere", fw_id=family["first"])
    two = other.take(WORKER, "/nowhere", fw_id=family["second"])
    queue.spool = None
    whole, queue.fireworks = queue.fireworks, Fragile(queue.fireworks, "replace_one")
    with pytest.raises(AutoReconnect):
        complete(queue, one.launch_id, 1)
    queue.fireworks = whole
    assert other.workflows.find_one({"nodes": family["child"]})["locked"] is True
    complete(other, two.launch_id, 2)
    found = other.fireworks.find_one({"fw_id": family["child"]})
    assert sorted(found["spec"]["pushed"]) == [1, 2], "both actions were applied, each once"
    assert found["state"] == "READY"
    run_all(other)
    check_consistent(other)


def test_lock_forced_open_in_the_middle_of_a_change(queue, other, family):
    """``lpad admin unlock`` while a change is half-written: the reaper finishes the change."""
    run_one(queue, family["first"])
    taken = queue.take(WORKER, "/nowhere", fw_id=family["second"])
    queue.spool = None
    whole, queue.fireworks = queue.fireworks, Fragile(queue.fireworks, "replace_one")
    with pytest.raises(AutoReconnect):
        complete(queue, taken.launch_id, 2)
    queue.fireworks = whole
    assert reap(other).journals == 0, "under its lock it may still be at work"
    other.workflows.update_one({}, {"$unset": {"locked": ""}})
    other.workflows.update_one({}, {"$unset": {"lock_lease": ""}})
    assert reap(other).journals == 1
    assert other.fireworks.find_one({"fw_id": family["child"]})["spec"]["pushed"] == [2]
    assert states(other)["child"] == "READY"
    check_consistent(other)


def test_taker_that_sleeps_while_another_one_is_taking(queue, family, monkeypatch):
    original = queue.get_new_launch_id

    def sleep_meanwhile():
        monkeypatch.setattr(queue, "get_new_launch_id", original)
        queue.fireworks.update_one(
            {"fw_id": family["first"]}, {"$set": {"checkout.token": "somebody else's"}}
        )
        return original()

    monkeypatch.setattr(queue, "get_new_launch_id", sleep_meanwhile)
    assert queue.take(WORKER, "/nowhere", fw_id=family["first"]) is None
    found = queue.fireworks.find_one({"fw_id": family["first"]})
    assert found["state"] == "RESERVED"
    assert found["launches"] == []


def test_checkout_by_id_is_exclusive(queue, other, family):
    """FireWorks gives a Firework asked for by id to everybody who asks."""
    assert queue.take(WORKER, "/nowhere", fw_id=family["first"]) is not None
    assert other.take(WORKER, "/nowhere", fw_id=family["first"]) is None


def test_writes_under_a_lost_lock_are_refused(queue, other, family):
    with WorkflowLock(queue, family["first"]) as lock:
        other.workflows.update_one({}, {"$set": {"lock_lease.since": 0.0, "lock_lease.node": "elsewhere"}})
        with WorkflowLock(other, family["first"]) as taken:
            assert taken.taken_over
            with pytest.raises(LockLostError):
                lock.release_with({"state": "COMPLETED"})
            assert other.workflows.find_one({})["state"] == "READY"
    check_consistent(queue)


def test_lock_is_exclusive_between_living_processes(queue, other, family):
    with WorkflowLock(queue, family["first"]):
        with pytest.raises(ValueError, match="is locked"), WorkflowLock(other, family["first"], wait_s=0.3):
            pass
        other._identity = type(other.identity)("elsewhere", "another boot", 1, 1)
        with pytest.raises(ValueError, match="is locked"), WorkflowLock(other, family["first"], wait_s=0.3):
            pass
    with WorkflowLock(other, family["first"], wait_s=0.3):
        pass


def test_second_result_of_a_launch_changes_nothing(queue, family):
    taken = queue.take(WORKER, "/nowhere", fw_id=family["first"])
    queue.complete_launch(taken.launch_id, FWAction(stored_data={"answer": 1}))
    queue.complete_launch(taken.launch_id, FWAction(stored_data={"answer": 2}))
    launch = queue.launches.find_one({"launch_id": taken.launch_id})
    assert launch["action"]["stored_data"] == {"answer": 1}
    assert [entry["state"] for entry in launch["state_history"]] == ["RUNNING", "COMPLETED"]


def test_action_too_large_for_a_document_goes_to_gridfs(queue, family):
    taken = queue.take(WORKER, "/nowhere", fw_id=family["first"])
    queue.complete_launch(taken.launch_id, FWAction(stored_data={"text": "x" * 17_000_000}))
    completed_once(queue, family["first"])
    assert len(queue.get_fw_by_id(family["first"]).launches[0].action.stored_data["text"]) == 17_000_000


def pair(queue, task=None):
    """Add parent -> child; return their ids."""
    parent = Firework(Nothing() if task is None else task, name="parent")
    ids = queue.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))
    found = sorted(ids.values())
    return found[1], found[0]


def test_lock_opened_by_lpad_in_the_middle_of_a_change(queue, other):
    """``lpad admin unlock`` removes FireWorks' boolean, not our lease: the half-written change is still finished."""
    parent, child = pair(queue, Grow())
    queue.add_wf(Firework(Nothing(), name="other"))
    taken = queue.take(WORKER, "/nowhere", fw_id=parent)
    queue.spool = None
    queue.settings = QueueSettings(completion_limit_s=0.0)
    task = queue.build(taken).tasks[0].run_task({})
    whole, queue.fireworks = queue.fireworks, Fragile(queue.fireworks, "replace_one")
    with pytest.raises(AutoReconnect):
        queue.complete_launch(taken.launch_id, task)
    queue.fireworks = whole
    other.workflows.find_one_and_update({"nodes": parent}, {"$unset": {"locked": True}})
    lock = WorkflowLock(other, parent)
    with lock:
        assert lock.taken_over, "what its holder left is finished first"
    found = other.fireworks.find_one({"fw_id": child})
    assert found["spec"]["pushed"] == [1]
    reap(other, now=other.now() + 60)
    run_all(other)
    check_consistent(other)
    assert list(states(other).values()).count("COMPLETED") == 4
    assert other.fireworks.count_documents({"name": "added"}) == 1


def test_lease_without_fireworks_boolean_is_respected(queue, other):
    """FireWorks' launcher removes the boolean of whoever holds the lock when its own was released by the reaper."""
    parent, _ = pair(queue)
    with WorkflowLock(queue, parent):
        queue.workflows.update_one({}, {"$unset": {"locked": ""}})
        with pytest.raises(ValueError, match="is locked"), WorkflowLock(other, parent, wait_s=0.2):
            pass
    with WorkflowLock(other, parent, wait_s=0.2):
        pass
    check_consistent(other)


def test_change_under_a_lost_lock_adds_nothing(queue, other):
    """A holder that slept while its lock was taken over must not add its Fireworks beside those of the next one."""
    parent, _ = pair(queue, Grow())
    with WorkflowLock(queue, parent) as lock:
        other.workflows.update_one({}, {"$set": {"lock_lease.since": 0.0, "lock_lease.node": "elsewhere"}})
        with WorkflowLock(other, parent) as taken:
            assert taken.taken_over
            workflow = queue.get_wf_by_fw_id_lzyfw(parent)
            updated = workflow.append_wf(Workflow([Firework(Nothing(), name="late")]), [parent])
            with pytest.raises(LockLostError):
                queue._update_wf(workflow, updated)
            assert other.fireworks.count_documents({"name": "late"}) == 0
            assert other.journal.count_documents({}) == 0
        assert not lock.unfinished
    check_consistent(other)


def test_hand_back_from_a_locked_workflow(queue):
    """The launch is given up at once; the reaper runs its task again as soon as the workflow is free."""
    parent, _ = pair(queue)
    queue.settings = QueueSettings(lock_wait_s=0.2)
    taken = queue.take(WORKER, "/nowhere")
    queue.workflows.update_one({}, {"$set": {"locked": True}})
    queue.hand_back(taken.launch_id, "stopped", kind="drained")
    queue.workflows.update_one({}, {"$unset": {"locked": ""}})
    assert reap(queue).rerun == (parent,)


def test_released_lock_is_taken_before_the_reaper_repairs(queue, other, family, monkeypatch):
    """Whoever gets the lock of a holder that is gone finishes its change first, be it the reaper or a worker."""
    from launchpad.queue import reaper

    one = queue.take(WORKER, "/nowhere", fw_id=family["first"])
    two = other.take(WORKER, "/nowhere", fw_id=family["second"])
    queue.spool = None
    whole = queue.fireworks

    class SecondWriteLost(Fragile):
        """Writes one document of the change, and loses the connection at the next one."""

        def __getattr__(self, name):
            if name == self._method:
                queue.fireworks = Fragile(whole, name)
            return getattr(self._collection, name)

    queue.fireworks = SecondWriteLost(whole, "replace_one")
    with pytest.raises(AutoReconnect):
        complete(queue, one.launch_id, 1)
    queue.fireworks = whole
    other.workflows.update_one({}, {"$set": {"lock_lease.since": 0.0, "lock_lease.node": "elsewhere"}})
    original = reaper._repair

    def overtaken(work, stuck):
        monkeypatch.setattr(reaper, "_repair", original)
        complete(other, two.launch_id, 2)
        original(work, stuck)

    monkeypatch.setattr(reaper, "_repair", overtaken)
    reap(queue)
    found = other.fireworks.find_one({"fw_id": family["child"]})
    assert sorted(found["spec"]["pushed"]) == [1, 2], "both actions were applied, each once"
    assert found["state"] == "READY"
    check_consistent(other)
