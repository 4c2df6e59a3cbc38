"""A pass of the reaper costs what is active and changed, not what is stored; and still nothing is missed for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fireworks import Firework, Workflow
from fireworks.core.fworker import FWorker
from queue_help import ALLOWED, check_consistent, counted_queue, run_one, states
from queue_tasks import Nothing

from launchpad.queue import Queue, QueueSettings, reap
from launchpad.queue.guard import AllowList

pytestmark = pytest.mark.database


@pytest.fixture
def counted(database_uri):
    """A queue whose commands are counted."""
    with counted_queue(database_uri) as opened:
        yield opened


def preload(queue, number, state="READY", days=30.0):
    """Store workflows of one task each that nobody has touched for a while."""
    first = queue.get_new_fw_id(quantity=number)
    moment = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    fireworks, workflows = [], []
    for fw_id in range(first, first + number):
        document = Firework(Nothing(), fw_id=fw_id, state=state, name="idle").to_db_dict()
        fireworks.append({**document, "updated_on": moment, "created_on": moment})
        graph = {
            "nodes": [fw_id],
            "links": {str(fw_id): []},
            "parent_links": {},
            "metadata": {},
            "name": "idle",
        }
        shown = {"state": state, "fw_states": {str(fw_id): state}, "created_on": moment, "updated_on": moment}
        workflows.append({**graph, **shown})
    queue.workflows.insert_many(workflows)
    queue.fireworks.insert_many(fireworks)


def cost(queue, commands):
    """Return the commands and the documents of a pass that has nothing to do."""
    commands.names.clear()
    commands.documents = 0
    assert reap(queue).quiet
    return len(commands.names), commands.documents


def test_a_pass_does_not_cost_more_with_many_idle_workflows(counted):
    queue, commands = counted
    queue.settings = QueueSettings(compared_workflows=100)
    reap(queue)
    empty, _ = cost(queue, commands)
    preload(queue, 2000)
    preload(queue, 500, state="COMPLETED")
    for _ in range(3):
        full, documents = cost(queue, commands)
        # a page of the sweep: one query for its Fireworks more, states behind it fewer
        assert full <= empty + 2, commands.names
        assert documents <= 2 * queue.settings.compared_workflows + 10
    assert empty <= 32, commands.names


def test_running_tasks_are_looked_at_together(counted):
    queue, commands = counted
    reap(queue)
    empty, _ = cost(queue, commands)
    for _ in range(30):
        queue.add_wf(Firework(Nothing(), name="task"))
    for _ in range(20):
        queue.take(FWorker(name="test"), "/nowhere")
    busy, _ = cost(queue, commands)
    assert busy <= empty + 4, commands.names


def test_a_change_is_found_by_the_next_pass_and_an_old_one_by_the_sweep(queue):
    """Waiting tasks that nobody promoted: one has just changed, of the other no time tells."""
    queue.settings = QueueSettings(compared_workflows=20)
    preload(queue, 200)
    parent = Firework(Nothing(), name="parent", spec={"_priority": 1})
    queue.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))
    reap(queue)
    run_one(queue)
    child = queue.fireworks.find_one({"name": "child"})["fw_id"]

    def undo(**more):
        queue.fireworks.update_one({"fw_id": child}, {"$set": {"state": "WAITING", **more}})
        queue.workflows.update_one({"nodes": child}, {"$set": {f"fw_states.{child}": "WAITING", **more}})

    undo()
    later = queue.now() + queue.settings.refresh_grace_s + 1
    assert reap(queue, now=later).repaired == (child,), "by the time of the change, not by the sweep"
    assert states(queue)["child"] == "READY"
    old = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    undo(updated_on=old)
    queue.fireworks.update_one({"name": "parent"}, {"$set": {"updated_on": old}})
    # 20 of the 201 active workflows by each deep pass, in turn
    passes = [reap(queue, now=later + 20 * (k + 1)).repaired for k in range(12)]
    assert passes.count((child,)) == 1, passes
    assert states(queue)["child"] == "READY"
    check_consistent(queue)


def test_times_as_dates_and_as_text_are_both_seen(queue):
    """FireWorks writes ``updated_on`` as an ISO string in some places, as a date in others."""
    queue.settings = QueueSettings(compared_workflows=1)
    preload(queue, 20)
    reap(queue)
    ids = [raw["fw_id"] for raw in queue.fireworks.find({}, {"fw_id": 1}).sort("fw_id", -1).limit(2)]
    now = datetime.now(UTC)
    for fw_id, moment in zip(ids, (now, now.isoformat()), strict=True):
        queue.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "COMPLETED", "updated_on": moment}})
    found = reap(queue, now=queue.now() + 15).repaired
    found += reap(queue, now=queue.now() + 35).repaired
    assert sorted(found) == sorted(ids)
    check_consistent(queue)


def test_many_supervisors_make_one_pass(queue, database_uri):
    """What concerns all nodes is looked at once per period, however many reapers ask; each looks after its own."""
    with Queue.from_uri(database_uri, allowed=AllowList(ALLOWED)) as other:
        assert not reap(queue, every_s=5.0).skipped
        assert reap(other, every_s=5.0).skipped
        assert reap(queue, every_s=5.0).skipped
        assert not reap(other, every_s=5.0, now=other.now() + 6.0).skipped
