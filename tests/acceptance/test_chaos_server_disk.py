"""The disk under the database fills while eight workers write: refused in clear words, nothing acknowledged lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest
from gf_chaos import Chaos, may_mount
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from launchpad.embedded import ensure_running, status

pytestmark = [pytest.mark.alone, pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(180)]


class SmallDisk(Chaos):
    """The server's own disk is small."""

    def _build(self):
        self.data.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(self.data)], check=True)
        self.mounts.append(self.data)
        super()._build()
        self.acknowledged, self.refused, self.stop_writing = [], [], threading.Event()
        self.writer = threading.Thread(target=self.write)
        self.writer.start()

    def write(self):
        """Write without a retry of our own, and remember what was acknowledged."""
        with MongoClient(self.direct, w="majority", journal=True) as client:
            number = 0
            while not self.stop_writing.is_set():
                number += 1
                try:
                    client.gapfactory.chaos_acknowledged.insert_one({"_id": number, "load": "x" * 2000})
                    self.acknowledged.append(number)
                except OperationFailure as error:
                    self.refused.append(error)
                except PyMongoError:
                    pass  # not known whether it was stored
                time.sleep(0.02)

    def _disk(self):
        """Keep the disk full until a write was refused: the server may clear its journal and have room again."""
        fill = self.data / "fill"
        deadline = time.monotonic() + 20.0
        with fill.open("wb", buffering=0) as stream:
            while not self.refused and time.monotonic() < deadline:
                for size in (1 << 20, 512):
                    with contextlib.suppress(OSError):
                        while True:
                            stream.write(bytes(size))
                time.sleep(0.05)
        self.later(0.5, self._kill_on_full_disk)
        self.later(2.0, lambda: fill.unlink(missing_ok=True))
        self.later(2.2, lambda: ensure_running(self.data))
        return "server's disk"

    def _kill_on_full_disk(self):
        """What was acknowledged must not be lost by a crash just now either."""
        pid = status(self.data).pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not may_mount(), reason="needs root, to mount a small disk")
def test_nothing_that_was_acknowledged_is_lost():
    with SmallDisk(
        5, chains=4, generations=2, injuries={"disk": 1}, workers=(4, 2, 2), limit_s=90.0
    ) as chaos:
        try:
            chaos.run()
        finally:
            chaos.stop_writing.set()
            chaos.writer.join(30)
        chaos.check()
        assert chaos.refused, "the disk was never full"
        assert {error.code for error in chaos.refused} == {14031}
        assert "space" in str(chaos.refused[0])
        stored = {found["_id"] for found in chaos.queue.db.chaos_acknowledged.find({}, {"_id": 1})}
        assert set(chaos.acknowledged) <= stored, "a write that was acknowledged is lost"
        assert chaos.acknowledged[-1] > len(chaos.acknowledged), "and writes went on afterwards"
