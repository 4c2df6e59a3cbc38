"""What pages need and no request may wait for: worked out by a process of its own, kept in the database.

Three kinds: the rows of the table of chosen structures, similarity maps, and what a potential says of each atom of a
structure. All of it follows from what campaigns stored and may be removed at any time. A request asks for one; if it is
missing or old, one process at a time works it out (`launchpad.dashboard.compute`), wherever it was asked for first.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from launchpad.database.documents import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

__all__ = ["COLLECTION", "ROWS", "Work", "ask", "finish"]

logger = logging.getLogger("launchpad.dashboard")

#: Where the results are, and the rows of the table.
COLLECTION: Final = "dashboard_derived"
ROWS: Final = "dashboard_rows"
#: A process that has worked so long is ended, and whoever asks next begins again (seconds).
LIMIT_S: Final = 1200.0
#: What a potential says of the atoms of a structure is kept so long (hours).
VALUES_H: Final = 24.0

#: One at a time in each server process: they compute, the pages answer.
_slot = threading.BoundedSemaphore(1)


@dataclass(frozen=True)
class Work:
    """Something to work out.

    Attributes
    ----------
    id
        Under which the result is kept.
    kind
        What it is.
    arguments
        What it is of.
    """

    id: str
    kind: Literal["rows", "map", "values"]
    arguments: Mapping[str, Any]


def ask(database: Database[Any], uri: str, work: Work, *, older_s: float | None = None) -> dict[str, Any]:
    """Return what is there, and have it worked out if it is missing, failed or too old.

    Parameters
    ----------
    database, uri
        Where it is read and written.
    work
        What.
    older_s
        A result of this age is worked out again (the old one is returned meanwhile); None: never.

    Returns
    -------
    dict
        With ``state``: ``done``, ``computing`` or ``failed`` (then ``reason``); ``made`` of a result that is there.
    """
    found = database[COLLECTION].find_one({"_id": work.id})
    if found is not None and _fresh(found, older_s):
        return dict(found)
    if not _slot.acquire(blocking=False):
        return dict(found or {}) | {"state": "computing"}
    claimed = False
    try:
        claimed = _claim(database, work, found)
    finally:
        if not claimed:
            _slot.release()
    if claimed:
        threading.Thread(target=_run, args=(database, uri, work), daemon=True).start()
    return dict(found or {}) | {"state": "computing"}


def finish(database: Database[Any], key: str, fields: Mapping[str, Any]) -> None:
    """Store a result."""
    changes = {"state": "done", "made": now(), "since": now(), "reason": "", **fields}
    database[COLLECTION].update_one({"_id": key}, {"$set": changes})


def _fresh(found: Mapping[str, Any], older_s: float | None) -> bool:
    age = (now() - found["since"]).total_seconds()
    if found["state"] == "computing":
        return age < LIMIT_S + 60
    if found["state"] == "failed":
        return age < 60
    return older_s is None or age < older_s


def _claim(database: Database[Any], work: Work, found: Mapping[str, Any] | None) -> bool:
    """Announce that the work is being done; False if another process was faster."""
    from pymongo.errors import DuplicateKeyError

    collection = database[COLLECTION]
    begun = {"state": "computing", "kind": work.kind, "since": now()}
    if found is None:
        try:
            collection.insert_one({"_id": work.id, **begun})
        except DuplicateKeyError:
            return False
    else:
        same = {"_id": work.id, "state": found["state"], "since": found["since"]}
        if not collection.update_one(same, {"$set": begun}).matched_count:
            return False
    if work.kind == "values":
        collection.delete_many({"kind": "values", "since": {"$lt": now() - timedelta(hours=VALUES_H)}})
    return True


def _run(database: Database[Any], uri: str, work: Work) -> None:
    """Do the work in a process of its own, which leaves its memory behind; record it if that ends without a result."""
    order = {"uri": uri, "id": work.id, "kind": work.kind, "arguments": dict(work.arguments)}
    reason = ""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "launchpad.dashboard.compute"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode != 0:
            logger.error("%s ended with %d: %s", work.id, done.returncode, done.stderr[-4000:])
            reason = "it ended unexpectedly; the log of the dashboard says more"
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {LIMIT_S / 60:.0f} minutes"
    except OSError as error:
        reason = f"no process could be started: {error.strerror}"
    finally:
        _slot.release()
    if reason:
        database[COLLECTION].update_one(
            {"_id": work.id, "state": "computing"},
            {"$set": {"state": "failed", "reason": reason, "since": now()}},
        )
