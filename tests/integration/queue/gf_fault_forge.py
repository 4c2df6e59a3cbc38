"""Forks children that do something with FireWorks' or our launcher and kill themselves at a chosen database command.

Reads lines ``[side, action, "collection.command", number, after, uri, directory]`` as JSON and answers each with
``killed`` or ``done``. The parent opens no connection, so forking is safe, and the imports are paid once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pymongo.monitoring
from fireworks import Firework, FWAction, LaunchPad, Workflow
from gf_fault_sides import HANDSHAKE, Breaking, Ours, Stock
from queue_tasks import Nothing


class Guillotine(pymongo.monitoring.CommandListener):
    """Kill the process at a command, before it is sent or after its answer came."""

    def __init__(self, at, number, after):
        self.at, self.number, self.after = at, number, after
        self.armed = False
        self.count = 0
        self.names = {}

    def started(self, event):
        self.names[event.request_id] = f"{event.command.get(event.command_name)}.{event.command_name}"
        if not self.after:
            self._strike(event)

    def succeeded(self, event):
        if self.after:
            self._strike(event)

    def failed(self, event):
        pass

    def _strike(self, event):
        name = self.names[event.request_id]
        if name == self.at or (self.at == "*" and event.command_name not in HANDSHAKE):
            self.step()

    def step(self):
        """Come to a kill point."""
        if self.armed:
            self.count += 1
            if self.count == self.number:
                os.kill(os.getpid(), signal.SIGKILL)


class OldStock(Stock):
    """FireWorks on a database that is there already."""

    def _open(self, uri):
        return LaunchPad(host=uri, name=self.database_name, uri_mode=True, strm_lvl="CRITICAL")


def spool(side, guillotine):
    """Finish a task while the database is away, and deliver its result when it is back; killed at every step."""
    from launchpad.queue import spool as module

    class Halves:
        """Writes JSON in two halves, with a kill point in between."""

        loads = staticmethod(json.loads)

        @staticmethod
        def dump(content, stream):
            text = json.dumps(content)
            stream.write(text[: len(text) // 2])
            stream.flush()
            guillotine.step()
            stream.write(text[len(text) // 2 :])

    def changes_spool(event, arguments):
        if event in {"open", "os.rename", "os.remove", "os.mkdir"} and "spool" in str(arguments[0]):
            guillotine.step()

    _, launch_id = side.take()
    module.json = Halves
    whole, side.pad.launches = (
        side.pad.launches,
        Breaking(side.pad.launches, {"update_one", "find_one"}, times=1000),
    )
    guillotine.armed = True
    sys.addaudithook(changes_spool)
    side.complete(launch_id, FWAction(stored_data={"from": "spool"}))
    side.pad.launches = whole
    assert side.pad.spool.deliver(side.pad) == 1


def play(side, action, guillotine):
    """Do what the order is about."""
    if action == "spool":
        guillotine.armed = False
        spool(side, guillotine)
    elif action == "hand back":
        _, launch_id = side.take()
        side.pad.hand_back(launch_id, "stopped", kind="drained")
    elif action.startswith("late "):
        side.complete(int(action.split()[1]), FWAction(stored_data={"late": True}))
    elif action == "run":
        side.run_one()
    elif action == "take":
        side.take()
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "add":
        parent = Firework(Nothing(), name="parent")
        side.pad.add_wf(Workflow([parent, Firework(Nothing(), name="child", parents=[parent])]))


def main():
    for line in sys.stdin:
        name, action, at, number, after, uri, directory = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            guillotine = Guillotine(at, number, after)
            pymongo.monitoring.register(guillotine)
            os.chdir(directory)
            side = {"stock": OldStock, "ours": Ours}[name](uri, Path(directory), {})
            guillotine.armed = True
            play(side, action, guillotine)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write(f"{'killed' if killed else 'done' if status == 0 else f'failed {status}'}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
