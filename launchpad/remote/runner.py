"""The program on a compute node: takes bundles, runs each in a process of its own, leaves the results.

It needs the directory of the site and nothing else: no database, no network. It ends when there was no work for some
time, when the allocation is about to end, or on SIGTERM; what it cannot finish then goes back with what was done.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

from launchpad.logs import event
from launchpad.remote.depot import BUNDLE
from launchpad.remote.slot import Slot

if TYPE_CHECKING:
    from pathlib import Path

    from launchpad.remote.depot import Depot
    from launchpad.remote.settings import RunnerSettings

__all__ = ["Runner"]

logger = logging.getLogger("launchpad.remote")

#: Variables in which batch systems give a job's id.
_JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
#: Pause (s) after a fault of the node, such as a full disk, before this node takes another bundle.
_AFTER_FAULT_S = 30.0


class Runner:
    """Runs bundles on one node.

    Parameters
    ----------
    depot
        The directory of the site.
    settings
        How many at a time, and when to end.
    scratch
        Directory for launches, on a disk of the node. Default: below the directory of the site, where another runner
        goes on with what one that was killed had done.
    """

    def __init__(self, depot: Depot, settings: RunnerSettings, scratch: Path | None = None) -> None:
        self.depot = depot
        self.settings = settings
        self.job = next((os.environ[name] for name in _JOB_IDS if os.environ.get(name)), "shell")
        host = socket.gethostname().split(".")[0]
        self.id = f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.scratch = scratch or depot.scratch
        self.done = 0
        self.failed = 0
        self.draining_since: float | None = None
        self._slots = [Slot(index, self) for index in range(settings.cores)]
        self._not_before = 0.0
        end = os.environ.get("GAPFACTORY_JOB_END", "")
        self._end = float(end) - settings.stop_before_s if end.isdigit() else None

    def run(self) -> int:
        """Work until told to stop, idle for too long, or the allocation is about to end; return 0."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: self.drain(f"signal {received}"))
        self.depot.prepare()
        self.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._beat()
        (self.depot.running / self.id).mkdir(exist_ok=True, mode=0o700)
        told = event("runner.begun", runner=self.id, cores=self.settings.cores)
        logger.info(
            "runner %s: %d cores, bundles in %s", self.id, self.settings.cores, self.depot.place, extra=told
        )
        try:
            self._loop()
        finally:
            for slot in self._slots:
                slot.close()
            self._leave()
        return 0

    def drain(self, reason: str) -> None:
        """Take nothing more; give what runs its grace, then hand it back."""
        if self.draining_since is None:
            logger.info("draining: %s", reason, extra=event("worker.draining", reason=reason))
            self.draining_since = time.monotonic()

    def _loop(self) -> None:
        idle_since = next_beat = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self.settings.beat_s
                self._beat()
            if self._end is not None and time.time() >= self._end:
                self.drain("the allocation is about to end")
            worked = self._tend()
            busy = any(slot.bundle is not None for slot in self._slots)
            if busy or worked:
                idle_since = now
            if self.draining_since is not None:
                if not busy:
                    return
            elif self.settings.idle_s is not None and now - idle_since > self.settings.idle_s:
                logger.info(
                    "nothing to do for %g s: ending", self.settings.idle_s, extra=event("worker.idle")
                )
                return
            if not worked:
                time.sleep(min(0.1, self.settings.poll_s) if busy else self.settings.poll_s)

    def _tend(self) -> bool:
        """Look after every slot once; return whether something ended or began."""
        worked = False
        for slot in self._slots:
            if slot.bundle is not None:
                worked = slot.tend(self.draining_since) or worked
            if slot.bundle is None and self.draining_since is None and time.monotonic() >= self._not_before:
                bundle = self._claim()
                if bundle is None:
                    return worked
                slot.begin(bundle)
                worked = True
        return worked

    def _claim(self) -> Path | None:
        try:
            found = os.statvfs(self.scratch)
            if found.f_bavail * found.f_frsize / 1e6 < self.settings.min_free_mb:
                self.fault(f"less than {self.settings.min_free_mb:g} MB are free in {self.scratch}")
                return None
            return self.depot.claim(self.id)
        except OSError as error:
            self.fault(error)
            return None

    def fault(self, error: object) -> None:
        """Take no bundle for a while: this node has trouble that others may not have."""
        logger.warning(
            "trouble on this node, pausing for %g s: %s", _AFTER_FAULT_S, error, extra=event("worker.pausing")
        )
        self._not_before = time.monotonic() + _AFTER_FAULT_S

    def _beat(self) -> None:
        try:
            self.depot.enlist(self.id, self.about())
        except OSError as error:
            logger.warning("heartbeat: %s", error, extra=event("heartbeat.missed"))

    def about(self) -> dict[str, Any]:
        """Return what others may know of this runner."""
        from gapfactory import __version__

        return {
            "cores": self.settings.cores,
            "job": self.job,
            "state": "running" if self.draining_since is None else "draining",
            "done": self.done,
            "failed": self.failed,
            "version": __version__,
        }

    def _leave(self) -> None:
        mine = self.depot.running / self.id
        with contextlib.suppress(OSError):
            for bundle in mine.glob(f"*{BUNDLE}"):
                self.depot.give_back(bundle)
        self.depot.delist(self.id)
        told = event("runner.ended", runner=self.id, done=self.done, failed=self.failed)
        logger.info(
            "runner %s ends: %d done, %d without a result", self.id, self.done, self.failed, extra=told
        )
