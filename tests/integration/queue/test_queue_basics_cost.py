"""Commands per task: few, and none that a lost reply, a rival or a restored database can turn into a second result."""

from __future__ import annotations

from collections import Counter

import pytest
from fireworks import Firework, FWAction, Workflow
from fireworks.core.fworker import FWorker
from queue_help import check_consistent, completed_once, counted_queue, run_all, run_one, states
from queue_tasks import Nothing

from launchpad.queue import reap

pytestmark = pytest.mark.database

WORKER = FWorker(name="test")


def test_commands_per_task(queue, database_uri):
    with counted_queue(database_uri) as (other, commands):
        for _ in range(20):
            queue.add_wf(Firework(Nothing(), name="only"))
        commands.names.clear()
        assert run_all(other) == 20
        assert run_one(other) is None
        counts = Counter(commands.names)
        # two for the ids of all, one for each look that found nothing
        assert counts == {"findAndModify": 20 * 3 + 2 + 2, "insert": 20, "update": 20 * 3}, counts
        parent = Firework(Nothing(), name="parent")
        queue.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))
        commands.names.clear()
        assert run_all(other) == 2
        assert len(commands.names) <= 17, commands.names
    check_consistent(queue)


def test_ids_that_were_given_away_after_a_restore_are_not_used(queue):
    """A backup brought back the counter: what this process set aside is handed out a second time."""
    for _ in range(30):
        queue.add_wf(Firework(Nothing(), name="only"))
    first = queue.take(WORKER, "/nowhere")
    for number in range(first.launch_id + 1, first.launch_id + 15):
        queue.launches.insert_one({"launch_id": number, "fw_id": 0, "state": "ARCHIVED"})
    second = queue.take(WORKER, "/nowhere")
    assert second.launch_id >= first.launch_id + 15
    for taken in (first, second):
        queue.complete_launch(taken.launch_id, FWAction())
        completed_once(queue, taken.fw_id)


def test_a_launch_that_a_restore_gave_to_somebody_else_is_left_alone(queue):
    for _ in range(2):
        queue.add_wf(Firework(Nothing(), name="only"))
    taken = queue.take(WORKER, "/nowhere")
    other = {"state": "RUNNING", "checkout": "somebody else's", "fw_id": taken.fw_id + 1}
    queue.launches.update_one({"launch_id": taken.launch_id}, {"$set": other})
    queue._launch_ids.clear()
    assert queue.complete_launch(taken.launch_id, FWAction(stored_data={"mine": True}))["state"] == "RUNNING"
    found = queue.launches.find_one({"launch_id": taken.launch_id})
    assert found["state"] == "RUNNING"
    assert found["action"] is None


def test_running_is_shown_by_the_workflow_when_it_is_told_to(queue):
    queue.add_wf(Firework(Nothing(), name="only"))
    taken = queue.take(WORKER, "/nowhere")
    assert states(queue) == {"only": "RUNNING"}
    assert queue.workflows.find_one()["state"] == "READY"
    assert reap(queue).quiet, "the workflow's document is only a display"
    queue.show_running(taken.fw_id)
    assert queue.workflows.find_one()["state"] == "RUNNING"
    queue.complete_launch(taken.launch_id, FWAction())
    queue.show_running(taken.fw_id)
    shown = queue.workflows.find_one()
    assert (shown["state"], set(shown["fw_states"].values())) == ("COMPLETED", {"COMPLETED"})
