"""What pages need and no request may wait for: worked out by a process of its own, kept in the database.

Charts, pictures, the rows of the table of chosen structures, similarity maps, what a potential says of the atoms of a
structure: all of it follows from what campaigns stored, and may be removed at any time. A result is a document of
`RESULTS` (what it is of, who is at it, why it failed) with its content in pieces of `PARTS`; both are in the group's
database, so every process and every machine that serves the group shares them, and none needs a directory.

A request asks. What is missing, old or failed long enough ago is claimed, by one of all processes that were asked, and
worked out by a child (`launchpad.dashboard.compute`) that says every few seconds that it lives; one that falls silent
has lost its claim. Meanwhile everybody is given the result from before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from gapfactory import __version__
from launchpad.database.connection import NOT_AUTHORISED
from launchpad.database.documents import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pymongo.database import Database

    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

__all__ = [
    "FORM",
    "PARTS",
    "RESULTS",
    "ROWS",
    "Part",
    "Result",
    "Work",
    "ask",
    "content",
    "remove_old",
    "stem",
    "wait",
]

logger = logging.getLogger("launchpad.dashboard")

#: One document per result.
RESULTS: Final = "dashboard_results"
#: Their contents: ``<stem of the result>/<claim>/<name>/<number>``.
PARTS: Final = "dashboard_parts"
#: Rows of the table of chosen structures, a result that the table filters.
ROWS: Final = "dashboard_rows"
#: In which form contents and rows are stored; the number grows whenever a field of them changes its name or meaning.
#: What has another form is not shown and is worked out again.
FORM: Final = f"{__version__}/1"
#: A child that was silent for so long is dead (seconds); it speaks four times as often. Machines whose clocks differ by
#: more do some work twice; the result of the one that claimed it last counts.
LEASE_S: Final = 60.0
#: That somebody asked is written down this often (seconds).
_ASKED_S: Final = 3600.0
#: Requests of one process that wait for a picture at the same time; its other threads answer.
_waiting = threading.BoundedSemaphore(3)
_running: set[str] = set()
_guard = threading.Lock()


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
    of
        Which state of the data: a result of another one is old. None: every one is.
    every_s
        An old one is not replaced before this age (seconds).
    """

    id: str
    kind: Literal["charts", "figures", "picture", "rows", "map", "values"]
    arguments: Mapping[str, Any]
    of: str | None = ""
    every_s: float = 0.0


@dataclass(frozen=True)
class Part:
    """A named part of a result: its length in bytes, in how many pieces it is stored, and its sha256."""

    name: str
    size: int
    pieces: int
    digest: str


@dataclass(frozen=True)
class Result:
    """What is there.

    Attributes
    ----------
    state
        Of the newest attempt: ``done``, ``computing`` or ``failed``.
    reason, code
        Why it failed, for people and as the code of the error.
    progress
        ``text``, ``done`` and ``total`` of what is being computed, where known.
    made
        When the content was made; None: there is none yet.
    facts
        Small numbers that go with it.
    """

    id: str
    state: Literal["done", "computing", "failed"]
    reason: str = ""
    code: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    made: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    claim: str = ""

    def part(self, name: str) -> Part | None:
        """Return a part of the content; None where it has none of this name."""
        return next((part for part in self.parts if part.name == name), None)


def ask(group: Group, work: Work, settings: DashboardSettings) -> Result:
    """Return what is there, and have it worked out if it is missing, old or failed a while ago."""
    database = group.database
    found = database[RESULTS].find_one({"_id": work.id})
    result = _result(work.id, found)
    try:
        if not _due(found, work, settings):
            if found is not None and (now() - found["asked"]).total_seconds() > _ASKED_S:
                database[RESULTS].update_one({"_id": work.id}, {"$set": {"asked": now()}})
            return result
        if _reserve(work.id, settings.computations):
            claim = None
            try:
                claim = _claim(database, work, found)
            finally:
                if claim is None:
                    _release(work.id)
            if claim is not None:
                threading.Thread(
                    target=_run, args=(group, work, claim, settings), name="derived", daemon=True
                ).start()
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:
            raise
        reason = "the dashboard's own account of the database may not write what it works out; see its documentation"
        return replace(result, state="failed", reason=reason, code="service")
    return replace(result, state="computing")


def wait(group: Group, work: Work, settings: DashboardSettings) -> Result:
    """Return what is there once nothing newer is being worked out; after `picture_wait_s` what is there then."""
    result = ask(group, work, settings)
    if result.state != "computing" or not _waiting.acquire(blocking=False):
        return result
    try:
        end = time.monotonic() + settings.picture_wait_s
        while result.state == "computing" and time.monotonic() < end:
            time.sleep(0.1)
            result = ask(group, work, settings)
    finally:
        _waiting.release()
    return result


def content(database: Database[Any], result: Result, part: Part) -> bytes | None:
    """Return a part of a result; None where a newer one replaced it just now: ask again."""
    ids = [f"{stem(result.id)}/{result.claim}/{part.name}/{number}" for number in range(part.pieces)]
    pieces = {row["_id"]: row["data"] for row in database[PARTS].find({"_id": {"$in": ids}})}
    if len(pieces) != part.pieces:
        return None
    return b"".join(pieces[key] for key in ids)


def stem(key: str) -> str:
    """Return with what the ids of the parts of a result begin."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def remove_old(database: Database[Any], days: float) -> int:
    """Remove the results that nobody has asked for in so many days; return how many."""
    removed = 0
    results = database[RESULTS]
    for found in results.find(
        {"asked": {"$lt": now() - timedelta(days=days)}}, {"asked": 1, "kind": 1}
    ).limit(200):
        # whoever asks from here on finds nothing; if this process is killed now, the next one goes on
        same = {"_id": found["_id"], "asked": found["asked"]}
        if not results.update_one(same, {"$set": {"state": "removed", "content": None}}).matched_count:
            continue
        _remove_parts(database, found["_id"], keep="")
        if found["kind"] == "rows":
            database[ROWS].delete_many({"campaign": found["_id"].partition("/")[2]})
        removed += results.delete_one(same).deleted_count
    return removed


def _result(key: str, found: Mapping[str, Any] | None) -> Result:
    if found is None or found["state"] == "removed":
        return Result(key, "computing")
    there = found["content"] or {}
    if there.get("form") != FORM:
        there = {}
    return Result(
        key,
        found["state"],
        found["reason"],
        found["code"],
        found["progress"],
        there.get("made"),
        there.get("facts", {}),
        tuple(Part(**part) for part in there.get("parts", ())),
        there.get("claim", ""),
    )


def _due(found: Mapping[str, Any] | None, work: Work, settings: DashboardSettings) -> bool:
    if found is None or found["state"] == "removed":
        return True
    # times to come are of a machine whose clock is wrong: nobody waits for them
    silent_s = abs((now() - found["heard"]).total_seconds())
    if found["state"] == "computing":
        return silent_s > LEASE_S
    if found["state"] == "failed":
        return silent_s > settings.retry_s
    there = found["content"]
    if there.get("form") != FORM:
        return True
    old = work.of is None or there["of"] != work.of
    return old and abs((now() - there["made"]).total_seconds()) >= work.every_s


def _reserve(key: str, most: int) -> bool:
    with _guard:
        if len(_running) >= most or key in _running:
            return False
        _running.add(key)
        return True


def _release(key: str) -> None:
    with _guard:
        _running.discard(key)


def _claim(database: Database[Any], work: Work, found: Mapping[str, Any] | None) -> str | None:
    """Announce that the work is being done; return the claim, None if another process was faster."""
    from bson import ObjectId

    claim, moment = str(ObjectId()), now()
    begun = {
        "kind": work.kind, "arguments": dict(work.arguments), "state": "computing", "reason": "", "code": "",
        "progress": {}, "claim": claim, "heard": moment, "asked": moment,
    }  # fmt: skip
    if found is None:
        try:
            database[RESULTS].insert_one({"_id": work.id, "content": None, **begun})
        except DuplicateKeyError:
            return None
        return claim
    same = {"_id": work.id, "claim": found["claim"], "state": found["state"], "heard": found["heard"]}
    return claim if database[RESULTS].update_one(same, {"$set": begun}).matched_count else None


def _run(group: Group, work: Work, claim: str, settings: DashboardSettings) -> None:
    """Do the work in a process of its own, which leaves its memory behind; record it if that ends without a result."""
    database = group.database
    limit_s = settings.computation_limit_s
    # the URI holds a password: nothing for a command line
    order = {
        "uri": group.uri, "id": work.id, "claim": claim, "of": work.of, "kind": work.kind,
        "arguments": dict(work.arguments), "limit_s": limit_s,
    }  # fmt: skip
    reason = ""
    try:
        found = database[RESULTS].find_one({"_id": work.id}, {"content.claim": 1}) or {}
        # of a child that was killed
        _remove_parts(database, work.id, keep=(found.get("content") or {}).get("claim", ""))
        remove_old(database, settings.results_days)
        done = subprocess.run(
            [sys.executable, "-m", "launchpad.dashboard.compute"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        )
        if done.returncode == -signal.SIGALRM:
            reason = f"it took longer than {limit_s:g} s (setting computation_limit_s)"
        elif done.returncode < 0:
            reason = f"its process was ended by {signal.Signals(-done.returncode).name}"
        elif done.returncode:
            reason = "it ended unexpectedly; the log of the dashboard says more"
        if reason:
            logger.error("%s ended with %d: %s", work.id, done.returncode, done.stderr[-4000:])
            failed = {"state": "failed", "reason": reason, "code": "service", "heard": now()}
            mine = {"_id": work.id, "claim": claim, "state": "computing"}
            database[RESULTS].update_one(mine, {"$set": failed})
    except (OSError, PyMongoError) as error:
        # nobody is told of it by the database: it falls silent, and is done again
        logger.error("%s: %s", work.id, error)
    finally:
        _release(work.id)


def _remove_parts(database: Database[Any], key: str, *, keep: str) -> None:
    """Remove the contents of a result but those of one claim."""
    begin = f"{stem(key)}/"
    kept = f"{begin}{keep}/"
    ranges = [(begin, kept), (kept[:-1] + "0", begin[:-1] + "0")] if keep else [(begin, begin[:-1] + "0")]
    for low, high in ranges:
        # "0" is the character after "/"
        database[PARTS].delete_many({"_id": {"$gte": low, "$lt": high}})
