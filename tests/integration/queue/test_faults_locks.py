"""Faults of FireWorks' workflow lock and of what it protects: ours must pass, FireWorks' own must fail."""

from __future__ import annotations

import contextlib
import threading

import pytest
from fireworks import Firework, FWAction, Workflow
from fireworks.core.launchpad import LockedWorkflowError
from gf_fault_sides import DAY
from queue_tasks import Nothing

from launchpad.queue.lock import LockLostError

pytestmark = pytest.mark.database


def test_lock_of_a_killed_holder(both, forge):
    """The lock has neither owner nor time: the workflow stays locked, and what follows waits for a person."""

    def scenario(side):
        parent = Firework(Nothing(), name="parent")
        ids = side.add(parent, Firework(Nothing(), name="child", parents=[parent]))
        forge.kill(side, "run", "workflows.findAndModify")
        assert side.pad.workflows.find_one({"nodes": ids["child"]})["locked"] is True
        side.recover(DAY)
        side.run_all()
        side.recover(DAY)
        side.all_completed()

    both(scenario, fails_with=(AssertionError, LockedWorkflowError))


def test_completion_while_the_workflow_is_locked(both):
    """The completion gives up and says nothing; the child of a finished task never starts."""

    def scenario(side):
        parent = Firework(Nothing(), name="parent")
        ids = side.add(parent, Firework(Nothing(), name="child", parents=[parent]))
        _, launch_id = side.take(fw_id=ids["parent"])
        side.pad.workflows.update_one({}, {"$set": {"locked": True}})
        end = threading.Timer(2.0, lambda: side.pad.workflows.update_one({}, {"$unset": {"locked": ""}}))
        end.start()
        side.complete(launch_id, FWAction(stored_data={"answer": 42}))
        end.join()
        assert side.stored(ids["parent"]) == [{"answer": 42}]
        side.run_all()
        side.all_completed()

    both(scenario, match="child is WAITING|parent is RUNNING")


def test_a_late_holder_does_not_open_the_lock_of_the_next(both):
    """Leaving the lock opens it, whoever holds it by now."""

    def scenario(side):
        ids = side.add()
        other = side.open()
        late = side.lock(ids["only"])
        late.__enter__()
        with side.lock(ids["only"], other, force=True):
            with contextlib.suppress(LockLostError):
                late.__exit__(None, None, None)
            assert "locked" in side.pad.workflows.find_one({}), "the lock is open while somebody holds it"

    both(scenario, match="lock is open")


def test_append_to_a_workflow_that_moves_on(both):
    """FireWorks reads the workflow before it locks it: what happened in between is undone in its document."""

    def scenario(side):
        parent = Firework(Nothing(), name="parent")
        ids = side.add(parent, Firework(Nothing(), name="child", parents=[parent]))
        other = side.open()
        original = side.pad.get_wf_by_fw_id_lzyfw
        rocket = threading.Thread(target=side.run_one, args=(other,))

        def read_slowly(fw_id):
            side.pad.get_wf_by_fw_id_lzyfw = original
            found = original(fw_id)
            assert found.fw_states
            rocket.start()
            rocket.join(4.0)
            return found

        side.pad.get_wf_by_fw_id_lzyfw = read_slowly
        side.pad.append_wf(Workflow([Firework(Nothing(), name="late")]), [ids["parent"]])
        rocket.join(120.0)
        shown = side.pad.workflows.find_one({})["fw_states"]
        actual = {str(f["fw_id"]): f["state"] for f in side.pad.fireworks.find()}
        assert shown == actual, "the workflow's document has lost an update"

    both(scenario, match="lost an update")


def test_addition_killed_at_every_write(both, forge):
    """FireWorks stores the Fireworks before their workflow: a killed addition leaves tasks that belong nowhere."""

    def scenario(side):
        for at in ("queue_journal.insert", "workflows.update", "workflows.insert", "fireworks.insert"):
            forge.play(side, "add", at, 1)
            side.recover(DAY)
            for firework in side.pad.fireworks.find():
                workflow = side.pad.workflows.find_one({"nodes": firework["fw_id"]})
                assert workflow, "a task without a workflow"
        side.run_all()
        side.all_completed()

    both(scenario, match="a task without a workflow")


def test_task_is_not_ready_before_its_workflow_is_there(both):
    """In between, a rocket takes the task, and waits for the lock of a workflow that does not exist."""

    def scenario(side):
        seen = []
        original = side.pad.workflows

        class Watched:
            def __getattr__(self, name):
                real = getattr(original, name)
                if name not in {"insert_one", "update_one"}:
                    return real

                def write(*arguments, **options):
                    seen.append(side.pad.fireworks.count_documents({"state": "READY"}))
                    return real(*arguments, **options)

                return write

        side.pad.workflows = Watched()
        side.pad.add_wf(Firework(Nothing(), name="only"))
        assert seen[0] == 0, "ready before its workflow"

    both(scenario, match="ready before its workflow")
