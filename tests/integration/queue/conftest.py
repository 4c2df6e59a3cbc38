"""A real server for the queue's tests: the embedded one, or the one that GAPFACTORY_TEST_URI names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


def with_database(uri: str, name: str) -> str:
    """Return the URI with another database."""
    base, _, options = uri.partition("?")
    scheme, rest = base.split("://", 1)
    return f"{scheme}://{rest.split('/', 1)[0]}/{name}" + (f"?{options}" if options else "")


@pytest.fixture(scope="session")
def queue_server():
    given = os.environ.get("GAPFACTORY_TEST_URI")
    if given:
        yield given
        return
    from launchpad.embedded import stop

    # not below tmp_path: a socket's path is limited to about a hundred characters
    place = Path(tempfile.mkdtemp(prefix="gfq-"))
    # from a process of its own, as in life: the server outlives whoever starts it
    code = f"from launchpad.embedded import ensure_running; print(ensure_running({str(place)!r}))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    yield started.stdout.strip()
    stop(place)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def database_uri(queue_server):
    from pymongo import MongoClient

    name = f"queue_test_{uuid.uuid4().hex[:12]}"
    yield with_database(queue_server, name)
    with MongoClient(queue_server) as client:
        client.drop_database(name)


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
