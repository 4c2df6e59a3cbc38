"""Kill workers while they hold a task that is half done, and know that it was so."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Collection, Mapping

    from pymongo.database import Database

__all__ = ["Killed", "kill_holder"]

#: how long something to be killed is waited for; a limit against a test that hangs, not a measure
LIMIT_S = 300.0


@dataclass(frozen=True)
class Killed:
    """A worker that was killed, with the launch that it held."""

    pid: int
    fw_id: int
    launch_id: int
    task: str

    def require_lost(self, database: Database[Any]) -> None:
        """Check that the launch was lost with its worker, and that another one has done the task."""
        launches = {d["launch_id"]: d for d in database.launches.find({"fw_id": self.fw_id})}
        assert launches[self.launch_id]["state"] != "COMPLETED", self
        others = [d for key, d in launches.items() if key != self.launch_id and d["state"] == "COMPLETED"]
        assert len(others) == 1, (self, launches)


def kill_holder(
    database: Database[Any],
    run: subprocess.Popen[bytes],
    kind: str,
    half_done: Callable[[Mapping[str, Any]], bool],
    dead: Collection[Killed] = (),
) -> Killed:
    """Kill the worker of a running task.

    It is stopped first: what holds then holds until it is dead.

    Parameters
    ----------
    database
        With the queue.
    run
        The command whose workers they are; it must not end before.
    kind
        What the keys of the tasks begin with, such as ``relax``.
    half_done
        Whether a task, of which it gets the parameters, is just where its worker is to die.
    dead
        Those killed before: the queue may not have seen it yet.
    """
    end = time.monotonic() + LIMIT_S
    running = {"state": "RUNNING", "launch_id": {"$nin": [one.launch_id for one in dead]}}
    while time.monotonic() < end:
        assert run.poll() is None, f"the run was over before a worker died at {kind!r}"
        for launch in database.launches.find(running):
            task = database.fireworks.find_one({"fw_id": launch["fw_id"]}, {"name": 1, "spec._tasks": 1})
            parameters = task["spec"]["_tasks"][0]
            if not task["name"].split()[-1].startswith(kind) or not half_done(parameters):
                continue
            pid = launch["process"]["pid"]
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError:
                continue
            held = database.launches.find_one({"launch_id": launch["launch_id"], "state": "RUNNING"})
            if held is None or not half_done(parameters):
                os.kill(pid, signal.SIGCONT)
                continue
            os.kill(pid, signal.SIGKILL)
            return Killed(pid, launch["fw_id"], launch["launch_id"], task["name"])
        time.sleep(0.01)
    raise AssertionError(f"no task {kind!r} was half done within {LIMIT_S:g} s")
