"""The two launchers that every fault is tried on: FireWorks as it is, and ours; one interface for both.

A scenario is a function that takes a side and asserts what a user needs. It is run with both: it has to pass with ours
and to fail with FireWorks' own, so that the day FireWorks mends a fault, the test says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bson import encode
from fireworks import Firework, LaunchPad, Workflow
from fireworks.core.fworker import FWorker
from fireworks.core.launchpad import WFLock
from fireworks.core.rocket_launcher import launch_rocket
from pymongo import monitoring
from pymongo.errors import AutoReconnect
from queue_help import ALLOWED
from queue_tasks import Nothing

from launchpad.queue import Queue, QueueSettings, reap
from launchpad.queue.guard import AllowList
from launchpad.queue.lock import WorkflowLock
from launchpad.workers.process import Worker
from launchpad.workers.pulse import Pulse
from launchpad.workers.registry import Registration
from launchpad.workers.settings import WorkerSettings

DAY = 86_400.0
#: After how many seconds FireWorks regards a launch, and a reservation, as lost (its defaults).
STOCK_RUN_S, STOCK_RESERVATION_S = 4 * 3600, 14 * 86_400
HANDSHAKE = {"hello", "ismaster", "isMaster", "ping", "endSessions", "saslStart", "saslContinue"}


class Wire(monitoring.CommandListener):
    """Counts what clients made while it listens send and receive."""

    def __init__(self):
        self.names: list[tuple[str, str]] = []
        self.commands: list[dict] = []
        self.received = 0

    def started(self, event):
        if event.command_name not in HANDSHAKE:
            self.names.append((event.command_name, str(event.command.get(event.command_name))))
            self.commands.append(dict(event.command))

    def succeeded(self, event):
        if event.command_name not in HANDSHAKE:
            self.received += len(encode(event.reply))

    def failed(self, event):
        pass

    def clear(self):
        self.names.clear()
        self.commands.clear()
        self.received = 0


class Breaking:
    """A collection that loses the connection: `times` times, at the given methods, before or after their effect."""

    def __init__(self, collection, methods, *, times=1, after=False):
        self._collection, self._methods, self._after = collection, methods, after
        self.left = times

    def __getattr__(self, name):
        real = getattr(self._collection, name)
        if name not in self._methods:
            return real

        def call(*arguments, **options):
            if self.left <= 0:
                return real(*arguments, **options)
            self.left -= 1
            if self._after:
                real(*arguments, **options)
            msg = "connection reset"
            raise AutoReconnect(msg)

        return call


class Side:
    """One of the two launchers on a database of its own."""

    name = ""

    def __init__(self, uri, directory, environment):
        self.uri, self.directory, self.environment = uri, directory, environment
        self.database_name = uri.partition("?")[0].rsplit("/", 1)[1]
        self.wire = Wire()
        self._opened = []
        self.pad = self.open()

    def open(self, uri=None):
        """Open the database once more, as another process would."""
        monitoring.register(self.wire)
        try:
            pad = self._open(uri or self.uri)
        finally:
            # ours alone: clients that others make afterwards are not listened to
            monitoring._LISTENERS.command_listeners.remove(self.wire)
        self._opened.append(pad)
        return pad

    def close(self):
        for pad in self._opened:
            pad.connection.close()

    def add(self, *fireworks, pad=None):
        """Add a workflow of Fireworks; return their ids by name."""
        given = (pad or self.pad).add_wf(Workflow(list(fireworks) or [Firework(Nothing(), name="only")]))
        del given
        found = self.pad.fireworks.find({"name": {"$in": [f.name for f in fireworks] or ["only"]}})
        return {document["name"]: document["fw_id"] for document in found}

    def run_all(self, pad=None, limit=50):
        for _ in range(limit):
            if not self.run_one(pad):
                return
        raise AssertionError("the queue does not become empty")

    def state(self, fw_id):
        return self.pad.fireworks.find_one({"fw_id": fw_id}, {"state": 1})["state"]

    def states(self):
        return {f["name"]: f["state"] for f in self.pad.fireworks.find({}, {"name": 1, "state": 1})}

    def stored(self, fw_id):
        """Return what the COMPLETED launches of a Firework have stored."""
        found = self.pad.launches.find({"fw_id": fw_id, "state": "COMPLETED"})
        return [launch["action"]["stored_data"] for launch in found]

    def all_completed(self):
        """Every Firework COMPLETED by exactly one launch, and every workflow says so."""
        for firework in self.pad.fireworks.find():
            assert firework["state"] == "COMPLETED", f"{firework['name']} is {firework['state']}"
            ends = [found["state"] for found in self.pad.launches.find({"fw_id": firework["fw_id"]})]
            assert ends.count("COMPLETED") == 1, f"{firework['name']} has launches {ends}"
        for workflow in self.pad.workflows.find():
            assert set(workflow["fw_states"].values()) == {"COMPLETED"}, "a workflow lags behind its tasks"
            assert "locked" not in workflow, "a workflow is locked"


class Stock(Side):
    """FireWorks' own LaunchPad and rockets."""

    name = "stock"
    #: how a command that stores a new launch looks on the wire
    launch_written = "launches.findAndModify"

    def _open(self, uri):
        pad = LaunchPad(host=uri, name=self.database_name, uri_mode=True, strm_lvl="CRITICAL")
        if not self._opened:
            pad.reset("", require_password=False)
        return pad

    def take(self, pad=None, fw_id=None, worker=None):
        firework, launch_id = (pad or self.pad).checkout_fw(worker or FWorker(), str(self.directory), fw_id)
        return None if firework is None else (firework.fw_id, launch_id)

    def run_one(self, pad=None, fw_id=None):
        return launch_rocket(pad or self.pad, FWorker(), fw_id=fw_id, strm_lvl="CRITICAL")

    def complete(self, launch_id, action, state="COMPLETED", pad=None):
        (pad or self.pad).complete_launch(launch_id, action, state)

    def recover(self, after_s):
        """Do all that FireWorks has for lost runs, `after_s` seconds from now."""
        self.pad.detect_lostruns(expiration_secs=STOCK_RUN_S - after_s, rerun=True, refresh=True)
        self.pad.detect_unreserved(expiration_secs=STOCK_RESERVATION_S - after_s, rerun=True)

    def recover_soon(self, lease_s, after_s):
        """Do the same with a limit of minutes, where the hosts' pings allow it."""
        self.pad.detect_lostruns(expiration_secs=lease_s - after_s, rerun=True, refresh=True)

    def lock(self, fw_id, pad=None, wait_s=0.2, *, force=False):
        return WFLock(pad or self.pad, fw_id, wait_s, kill=force)

    def looking(self):
        """Ask, as a launcher that has nothing to do does."""
        assert not self.pad.future_run_exists(FWorker())

    def heart(self, fw_id, launch_id):
        """Start the thread that says a launch is alive; return how to stop it."""
        del fw_id
        from fireworks.core.rocket import start_ping_launch

        return start_ping_launch(self.pad, launch_id).set


class Ours(Side):
    """Our queue and worker."""

    name = "ours"
    launch_written = "launches.insert"
    settings = QueueSettings(
        lock_wait_s=5.0, completion_limit_s=0.3, transient_delays_s=(0.1, 0.1), heartbeat_s=0.05
    )

    def _open(self, uri):
        return Queue.from_uri(
            uri, settings=self.settings, allowed=AllowList(ALLOWED), spool=self.directory / "spool"
        )

    def take(self, pad=None, fw_id=None, worker=None):
        taken = (pad or self.pad).take(worker or FWorker(), self.directory, fw_id=fw_id)
        return taken and (taken.fw_id, taken.launch_id)

    def run_one(self, pad=None, fw_id=None):
        """Take and run one task as a worker process does."""
        queue = pad or self.pad
        worker = self.worker(queue)
        directory = self.directory / f"launch-{time.monotonic_ns()}"
        taken = queue.take(FWorker(name="test"), directory, fw_id=fw_id)
        if taken is None:
            return False
        worker._run(taken, directory)
        return True

    def worker(self, queue):
        """Return a worker of this process around an open queue."""
        worker = Worker(
            self.uri,
            settings=WorkerSettings(allowed=ALLOWED, memory_limit_gb=None, report_s=0.05),
            queue_settings=queue.settings,
            scratch=self.directory,
        )
        (self.directory / "failed").mkdir(exist_ok=True)
        worker.queue = queue
        worker.fworker = FWorker(name="test")
        worker.registration = Registration(queue, "worker", ())
        return worker

    def complete(self, launch_id, action, state="COMPLETED", pad=None):
        (pad or self.pad).complete_launch(launch_id, action, state)

    def recover(self, after_s):
        """Let the reaper work, `after_s` seconds from now."""
        for _ in range(2):
            reap(self.pad, now=self.pad.now() + after_s)

    def recover_soon(self, lease_s, after_s):
        """Do the same; our lease is of minutes anyway."""
        assert self.pad.settings.lease_s == lease_s
        self.recover(after_s)

    def lock(self, fw_id, pad=None, wait_s=0.2, *, force=False):
        queue = pad or self.pad
        if force:
            old = {"lock_lease.since": 0.0, "lock_lease.node": "elsewhere"}
            queue.workflows.update_one({"nodes": fw_id}, {"$set": old})
        return WorkflowLock(queue, fw_id, wait_s=wait_s)

    def looking(self):
        """Ask, as a worker that has nothing to do does."""
        assert self.take() is None

    def heart(self, fw_id, launch_id):
        """Start the thread that says a launch is alive; return how to stop it."""
        worker = self.worker(self.pad)
        raw = self.pad.fireworks.find_one({"fw_id": fw_id})
        from launchpad.queue.checkout import Taken

        pulse = worker.pulse = Pulse(worker)
        pulse._taken = Taken(fw_id, launch_id, raw, 0, "")
        pulse.start()
        return pulse.stop


class Forge:
    """Children that do something on a side and kill themselves at a chosen command; see gf_fault_forge.py."""

    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("gf_fault_forge.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    def kill(self, side, action, at, number=1, *, after=True):
        """Play an action that is killed at the `number`-th command `collection.command`; it must get there."""
        answer = self.play(side, action, at, number, after=after)
        assert answer == "killed", f"{side.name} {action} never reached {at} number {number}: {answer}"

    def play(self, side, action, at, number, *, after=True):
        order = [side.name, action, at, number, after, side.uri, str(side.directory)]
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=30)


def both(make_side):
    """Return a function that runs a scenario with ours and, expecting it to fail, with FireWorks' own."""

    def run(scenario, fails_with=AssertionError, match=None):
        scenario(make_side(Ours))
        stock = make_side(Stock)
        with pytest.raises(fails_with, match=match):
            scenario(stock)

    return run
