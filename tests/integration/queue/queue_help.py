"""Helpers of the queue's tests."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

from fireworks.core.fworker import FWorker
from pymongo import monitoring
from pymongo.monitoring import CommandListener

from launchpad.queue import Queue
from launchpad.queue.guard import AllowList
from launchpad.workers.rocket import Rocket

ALLOWED = ("queue_tasks.*",)


def run_one(queue, fw_id=None) -> int | None:
    """Take and run one task in this process; return its Firework's id."""
    worker = FWorker(name="test")
    taken = queue.take(worker, "/nowhere", fw_id=fw_id)
    if taken is None:
        return None
    outcome = Rocket(queue, worker, taken.fw_id).execute(queue.build(taken), Path("/nowhere"))
    queue.complete_launch(taken.launch_id, outcome.action, "FIZZLED" if outcome.failed else "COMPLETED")
    return taken.fw_id


def run_all(queue, limit: int = 100) -> int:
    """Run tasks in this process until nothing is ready; return how many."""
    for count in range(limit):
        if run_one(queue) is None:
            return count
    raise AssertionError("the queue does not become empty")


def states(queue) -> dict[str, str]:
    """Return the state of every Firework by its name."""
    return {found["name"]: found["state"] for found in queue.fireworks.find({}, {"name": 1, "state": 1})}


def check_consistent(queue) -> None:
    """Workflow documents agree with their Fireworks; no lock, journal or open checkout is left."""
    for workflow in queue.workflows.find():
        shown = {int(key): value for key, value in workflow["fw_states"].items()}
        actual = {f["fw_id"]: f["state"] for f in queue.fireworks.find({"fw_id": {"$in": workflow["nodes"]}})}
        assert shown == actual
        assert "locked" not in workflow
        assert "lock_lease" not in workflow
    assert queue.journal.count_documents({"kind": {"$in": ["add", "update"]}}) == 0
    assert queue.fireworks.count_documents({"state": "RESERVED"}) == 0
    assert queue.launches.count_documents({"requeue.pending": True}) == 0


def completed_once(queue, fw_id: int) -> None:
    """The Firework is COMPLETED by exactly one launch."""
    firework = queue.fireworks.find_one({"fw_id": fw_id})
    assert firework["state"] == "COMPLETED"
    every = [launch["state"] for launch in queue.launches.find({"fw_id": fw_id})]
    assert every.count("COMPLETED") == 1, every
    assert "RUNNING" not in every
    assert len(firework["launches"]) == 1


def wait_for(condition, seconds: float = 90.0, tick=None, what: str = "the condition"):
    """Wait until a condition holds; return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if tick is not None:
            tick()
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {seconds} s")


class Commands(CommandListener):
    """Counts commands, and the documents that come back."""

    def __init__(self):
        self.names: list[str] = []
        self.documents = 0

    def started(self, event):
        self.names.append(event.command_name)

    def succeeded(self, event):
        cursor = event.reply.get("cursor", {})
        self.documents += len(cursor.get("firstBatch", cursor.get("nextBatch", ())))

    def failed(self, event):
        pass


@contextmanager
def counted_queue(uri):
    """Open a queue whose commands are counted."""
    commands = Commands()
    listeners = monitoring._LISTENERS.command_listeners
    before = list(listeners)
    monitoring.register(commands)
    try:
        with Queue.from_uri(uri, allowed=AllowList(ALLOWED)) as opened:
            yield opened, commands
    finally:
        listeners[:] = before
