"""The queue on a new database of a real server."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


@pytest.fixture
def queue(database_uri, tmp_path):
    from launchpad.queue import Queue
    from launchpad.queue.guard import AllowList

    with Queue.from_uri(
        database_uri, allowed=AllowList(("queue_tasks.*",)), spool=tmp_path / "spool"
    ) as opened:
        yield opened


@pytest.fixture
def worker_environment():
    root = HERE.parents[2]
    return {"PYTHONPATH": os.pathsep.join([str(HERE), str(root)])}


@pytest.fixture(scope="module")
def forge():
    """Children that die at a chosen command, of FireWorks' launcher or of ours."""
    from gf_fault_sides import Forge

    root = HERE.parents[2]
    made = Forge({"PYTHONPATH": os.pathsep.join([str(HERE), str(root)])})
    yield made
    made.close()


@pytest.fixture
def make_side(new_database, tmp_path, monkeypatch, worker_environment):
    """Return a function that makes a side of `gf_fault_sides` on a new database, in a directory of its own."""
    made = []

    def make(kind):
        directory = tmp_path / f"{kind.name}{len(made)}"
        directory.mkdir()
        monkeypatch.chdir(directory)
        made.append(kind(new_database(), directory, worker_environment))
        return made[-1]

    yield make
    for side in made:
        side.close()


@pytest.fixture
def both(make_side, monkeypatch):
    """Return a function that runs a scenario with our launcher (has to pass) and with FireWorks' (has to fail)."""
    import gf_fault_sides
    from fireworks.core.launchpad import WFLock

    # FireWorks waits five minutes for a lock
    monkeypatch.setattr(WFLock.__init__, "__defaults__", (1.0, False))
    return gf_fault_sides.both(make_side)


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Put stand-ins for all schedulers on PATH; return their directory and end what is left of their jobs."""
    place = tmp_path / "scheduler"
    place.mkdir()
    for name in ("sbatch", "squeue", "scancel", "qsub", "qstat", "bsub", "bjobs"):
        program = place / name
        program.write_text(
            f"#!{sys.executable}\nimport runpy, sys\n"
            f"sys.argv.insert(1, {name!r})\nrunpy.run_path({str(HERE / 'gf_scheduler.py')!r}, run_name='__main__')\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GF_SCHEDULER_DIR", str(place))
    monkeypatch.setenv("GF_SCHEDULER", "pbs")
    # no waiting between two jobs: the stand-ins need no time to notice one
    config = tmp_path / "fw_config.yaml"
    config.write_text("QUEUE_UPDATE_INTERVAL: 0\n")
    monkeypatch.setenv("FW_CONFIG_FILE", str(config))
    yield place
    for record in place.glob("*.job"):
        end_pilot(json.loads(record.read_text())["pid"])


def end_pilot(pid: int) -> None:
    """End a pilot that a test started, with its workers, and wait for it."""
    try:
        os.kill(pid, 15)
    except ProcessLookupError:
        return
    from queue_help import wait_for

    wait_for(lambda: not lives(pid), 120.0, what="the end of a pilot")


def lives(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"
