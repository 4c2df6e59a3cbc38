"""Forks children that kill themselves before their k-th database command: every write is a kill point.

Reads lines ``<scenario> <k> <uri> <fw_id>`` and answers each with ``killed`` or ``done <commands>`` once the child has
ended. The parent opens no connection, so forking is safe, and the imports are paid once.
"""

from __future__ import annotations

import os
import signal
import sys

import pymongo.monitoring
from fireworks import Firework, Workflow
from queue_help import ALLOWED, run_one
from queue_tasks import Nothing

from launchpad.queue.guard import AllowList
from launchpad.queue.launchpad import Queue
from launchpad.queue.reaper import reap


class Guillotine(pymongo.monitoring.CommandListener):
    """Kill the process before command number `k` after it was armed."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.count = 0
        self.armed = False

    def started(self, event):
        if self.armed:
            self.count += 1
            if self.count == self.k:
                os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def play(scenario: str, queue: Queue, fw_id: int) -> None:
    """Do what the scenario is about."""
    if scenario == "run":
        run_one(queue, fw_id or None)
    elif scenario == "beat":
        from fireworks.core.fworker import FWorker

        taken = queue.take(FWorker(name="test"), "/nowhere")
        queue.beat(taken.launch_id, taken.history_index)
        queue.ping_launch(taken.launch_id)
    elif scenario == "add":
        parent = Firework(Nothing(), name="parent")
        queue.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))
    elif scenario == "once":
        parent = Firework(Nothing(), name="parent")
        queue.submit_once(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]), "key")
    elif scenario == "reap":
        reap(queue, grace=0.0)


def main() -> None:
    for line in sys.stdin:
        scenario, k, uri, fw_id = line.split()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            guillotine = Guillotine(int(k))
            pymongo.monitoring.register(guillotine)
            queue = Queue.from_uri(uri, allowed=AllowList(ALLOWED))
            guillotine.armed = True
            play(scenario, queue, int(fw_id))
            guillotine.armed = False
            os.write(writer, str(guillotine.count).encode())
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(pid, 0)
        count = os.read(reader, 32).decode()
        os.close(reader)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            answer = "killed"
        elif status == 0:
            answer = f"done {count}"
        else:
            answer = f"failed {status}"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
