"""The queue on a new database of a real server."""

from __future__ import annotations

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
