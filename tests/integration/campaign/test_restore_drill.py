"""Kill and restore: back up while workers run, destroy all, restore: the campaign ends in the same bits.

The reference is analytic; the queue, the database server, its files, the kills and the archive are real.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.database, pytest.mark.timeout(900)]

RUN = ("campaign", "run", "tiny.yaml", "--workers", "2")
LIMIT_S = 300.0


def processes_below(directory: Path) -> list[int]:
    """Return the workers whose working directory is below this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and b"launchpad.workers" in (entry / "cmdline").read_bytes()
                and str((entry / "cwd").readlink()).startswith(str(directory))
            ):
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def completed(place) -> int:
    """Return how many tasks the log has seen completed, of all generations so far."""
    lines = [line for line in place.log().splitlines() if " tasks, " in line]
    return int(lines[-1].split(": ", 1)[1].split("/")[0]) if lines else -1


def test_a_campaign_goes_on_from_a_backup_to_the_same_bits(place, tiny, first_digests, tmp_path) -> None:
    place.write("tiny.yaml", tiny())
    process = place.start(*RUN)
    try:
        end = time.monotonic() + LIMIT_S
        while completed(place) < 3:
            assert process.poll() is None, place.log()
            assert time.monotonic() < end, place.log()
            time.sleep(0.05)
        backup = tmp_path / "backup.tar.gz"
        place.good("db", "export", str(backup))
        # destroyed: the processes at one stroke, then the files
        for pid in (process.pid, *processes_below(place.data), place.server_pid()):
            os.kill(pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait(60)
    shutil.rmtree(place.data)

    place.data.mkdir(mode=0o700)
    place.good("db", "import", str(backup))
    assert place.json("campaign", "status", "tiny")["state"] in {"submitted", "running"}
    assert not (place.directory / "tiny-report").exists(), "the run was over before it was destroyed"
    place.good("campaign", "resume", "tiny", "--run", "--workers", "2", "--no-report")
    assert place.json("campaign", "digest", "tiny") == first_digests
    place.good("db", "check")
