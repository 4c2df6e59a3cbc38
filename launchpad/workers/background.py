"""Workers in the background: start, list and stop the supervisors and workers of a host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchpad.queue.identity import ProcessIdentity
from launchpad.queue.settings import QueueSettings
from launchpad.workers.configuration import service_settings
from launchpad.workers.registry import list_workers
from launchpad.workers.settings import SupervisorSettings, WorkerSettings, default_scratch
from launchpad.workers.supervisor import Supervisor, child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymongo.database import Database

    from launchpad.workers.configuration import ServiceSettings

__all__ = ["request_stop", "serve", "start_background"]


def start_background(
    uri: str,
    n: int,
    categories: Sequence[str] = (),
    scratch: Path | str | None = None,
    *,
    worker_settings: WorkerSettings | None = None,
    queue_settings: QueueSettings | None = None,
    settings: SupervisorSettings | None = None,
    data_dir: Path | str | None = None,
) -> int:
    """Start a supervisor with its workers that outlives the calling process; return its process id.

    Parameters
    ----------
    uri, n, categories, scratch, worker_settings, queue_settings, settings
        As for `launchpad.workers.Supervisor`; its log is ``logs/supervisor.log`` below the scratch directory.
    data_dir
        Data directory of the embedded server, which the supervisor then keeps alive.
    """
    place = Path(scratch or default_scratch()).absolute()
    (place / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
    configuration: dict[str, Any] = {
        "uri": uri,
        "n": n,
        "categories": list(categories),
        "scratch": str(place),
        "worker": (worker_settings or WorkerSettings()).model_dump(mode="json"),
        "queue": (queue_settings or QueueSettings()).model_dump(mode="json"),
        "supervision": (settings or SupervisorSettings()).model_dump(mode="json"),
        "data_dir": None if data_dir is None else str(data_dir),
    }
    with (place / "logs" / "supervisor.log").open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "launchpad.workers", "--supervise"],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=place,
            env=child_environment(),
            start_new_session=True,
        )
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    with process.stdin as pipe:
        pipe.write(json.dumps(configuration).encode())
    process.returncode = 0  # it is meant to go on: no warning about a child that still runs
    return process.pid


def request_stop(
    database: Database[Any],
    *,
    everywhere: bool = False,
    ids: Sequence[str] | None = None,
) -> int:
    """Ask workers and supervisors to end: through the database, on this machine by SIGTERM as well; return how many.

    Parameters
    ----------
    database
        The database.
    everywhere
        Those of all machines, not only of this one.
    ids
        Only these entries.
    """
    asked = 0
    if everywhere:
        # also those that are taken for dead: one that was only silent for too long hears of it when it is back
        of_these = {} if ids is None else {"_id": {"$in": list(ids)}}
        lives = {"$or": [{"state": {"$ne": "stopped"}}, {"killed": True}]}
        database.workers.update_many({**lives, **of_these}, {"$set": {"stop": True}})
    for entry in list_workers(database, here=not everywhere):
        if ids is not None and entry["_id"] not in ids:
            continue
        if entry["alive"] is False:
            database.workers.update_one({"_id": entry["_id"]}, {"$set": {"state": "stopped"}})
            continue
        database.workers.update_one({"_id": entry["_id"]}, {"$set": {"stop": True}})
        identity = ProcessIdentity.from_document(entry)
        if identity is not None and identity.fate == "alive":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(identity.pid, signal.SIGTERM)
        asked += 1
    return asked


def serve(
    uri: str,
    n: int,
    categories: Sequence[str] = (),
    scratch: Path | str | None = None,
    *,
    idle_s: float | None = None,
    background: bool = False,
    data_dir: Path | str | None = None,
    ensure_database: Callable[[], str] | None = None,
    settings: ServiceSettings | None = None,
) -> int:
    """Run workers until they are told to stop, or idle for too long; in the background if asked.

    Returns the process id of the supervisor in the background, or 0.

    Parameters
    ----------
    uri, n, categories, scratch, data_dir
        As for `start_background`.
    idle_s
        The workers end after this long without work.
    background
        Return at once.
    ensure_database
        Brings a lost local database back; in the background, `data_dir` takes its place.
    settings
        Everything else (default: see `launchpad.workers.configuration`).
    """
    known = settings or service_settings()
    own: dict[str, Any] = {} if idle_s is None else {"idle_timeout_s": idle_s}
    behaviour: dict[str, Any] = {
        "worker_settings": known.worker.model_copy(update=own),
        "queue_settings": known.queue,
        "settings": known.supervisor,
    }
    if background:
        return start_background(uri, n, categories, scratch, data_dir=data_dir, **behaviour)
    supervisor = Supervisor(uri, n, categories, scratch, ensure_database=ensure_database, **behaviour)
    return supervisor.run_forever()
