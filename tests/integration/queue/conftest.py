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
