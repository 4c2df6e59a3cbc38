"""Firetasks of the queue's tests; imported by worker processes too, by way of PYTHONPATH."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from fireworks import FiretaskBase, Firework, FWAction, explicit_serialize

from launchpad.retry import TransientFault


@explicit_serialize
class Note(FiretaskBase):
    """Append a line to a file, then sleep; the file shows how often the task began and ended."""

    def run_task(self, fw_spec):
        path = Path(self["file"])
        with path.open("a") as stream:
            stream.write(f"begin {os.getpid()}\n")
        time.sleep(self.get("sleep", 0.0))
        with path.open("a") as stream:
            stream.write(f"end {os.getpid()}\n")
        return FWAction(stored_data={"pid": os.getpid()})


@explicit_serialize
class Nothing(FiretaskBase):
    """Do nothing."""

    def run_task(self, fw_spec):
        return FWAction(stored_data={"x": fw_spec.get("x")})


@explicit_serialize
class Grow(FiretaskBase):
    """Change the children's spec (not idempotently) and add a Firework."""

    def run_task(self, fw_spec):
        return FWAction(
            mod_spec=[{"_push": {"pushed": 1}}],
            update_spec={"x": 1},
            additions=[Firework(Nothing(), name="added")],
        )


@explicit_serialize
class Fail(FiretaskBase):
    """Raise what it is told to."""

    def run_task(self, fw_spec):
        if self.get("transient"):
            msg = "the file system went away"
            raise TransientFault(msg)
        msg = "wrong input"
        raise ValueError(msg)


@explicit_serialize
class HandsBack(FiretaskBase):
    """Hand itself back `times` times for something that it counts itself, then succeed."""

    def run_task(self, fw_spec):
        path = Path(self["file"])
        with path.open("a") as stream:
            stream.write("try\n")
        number = len(path.read_text().splitlines())
        if number <= self["times"]:
            msg = "out of memory"
            raise TransientFault(msg, times=number, ends_worker=bool(self.get("ends_worker")))
        return FWAction()


@explicit_serialize
class Threads(FiretaskBase):
    """Report the environment in which numpy was imported."""

    def run_task(self, fw_spec):
        return FWAction(
            stored_data={name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
        )


@explicit_serialize
class Once(FiretaskBase):
    """Count its runs in a file, and return the count; the first `full` of them find the disk full."""

    def run_task(self, fw_spec):
        path = Path(self["file"])
        with path.open("a") as stream:
            stream.write("run\n")
        number = len(path.read_text().splitlines())
        time.sleep(self.get("sleep", 0.0))
        if number <= self.get("full", 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return FWAction(stored_data={"run": number})
