"""Taking a Firework: one leased step, then two that can be undone by anybody who sees that the taker died.

1. ``fireworks``: READY to RESERVED together with ``checkout`` = who, when, token (atomic: nobody else gets
it);
2. ``launches``: insert the launch, RUNNING, with the process that runs it (its id was set aside before);
3. ``fireworks``: RESERVED to RUNNING with the launch, only if the token is still ours.

Killed after 1 or 2: the reaper finds RESERVED with a ``checkout`` of a dead process and makes it READY again.
Killed after 3: a RUNNING launch of a dead process. The workflow's document shows a task as running only after a while
(`show_running`): nothing depends on it, and short tasks need not pay for it.
"""

from __future__ import annotations

import logging
import socket
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fireworks.core.firework import Launch

from gapfactory.errors import DatabaseError
from launchpad.logs import event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fireworks.core.fworker import FWorker

    from launchpad.queue.launchpad import Queue

__all__ = ["Taken", "heartbeat", "ready_query", "show_running", "take", "undo_interrupted"]

logger = logging.getLogger("launchpad.queue")

#: So many ids are tried before a checkout gives up.
_MOST_IDS = 100


@dataclass(frozen=True)
class Taken:
    """A checked-out Firework as it is stored; nothing of it has been imported or built.

    Parameters
    ----------
    fw_id, launch_id
        Ids of the Firework and of its new launch.
    raw
        The Firework's document.
    history_index
        Position of the RUNNING entry in the launch's history, for the heartbeat.
    token
        Names this checkout, so that it can be undone.
    since
        When it was taken (server's time, seconds since the epoch).
    """

    fw_id: int
    launch_id: int
    raw: dict[str, Any]
    history_index: int
    token: str
    since: float = 0.0


@lru_cache(maxsize=1)
def _address() -> tuple[str, str]:
    host = socket.gethostname()
    try:
        return host, socket.gethostbyname(host)
    except OSError:
        return host, "unknown"


def ready_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a worker may take: the query of an FWorker, its ``$or`` in a form that indexes like."""
    wanted = dict(query)
    alternatives = wanted.get("$or")
    if alternatives and all(list(item) == ["spec._fworker"] for item in alternatives):
        names = [item["spec._fworker"] for item in alternatives if isinstance(item["spec._fworker"], str)]
        del wanted["$or"]
        wanted["spec._fworker"] = {"$in": [None, *names]}  # None also stands for "no such field"
    wanted["state"] = "READY"
    return wanted


def take(
    queue: Queue, query: Mapping[str, Any], fworker: FWorker, launch_dir: str, *, fw_id: int | None = None
) -> Taken | None:
    """Check out one Firework exclusively (also by id); see the module for the steps.

    Returns None when nothing is ready, or when the checkout was taken back meanwhile.
    """
    undo_interrupted(queue)
    token = uuid.uuid4().hex
    try:
        return _take(queue, query, fworker, launch_dir, fw_id, token)
    except Exception as error:
        # which of the steps were carried out is not known; this process lives on, so it must clear up itself
        if queue.database_lost(error):
            queue.interrupted.append(token)
        raise


def undo_interrupted(queue: Queue) -> None:
    """Put back what checkouts of this process took that were cut off by the loss of the database."""
    while queue.interrupted:
        token = queue.interrupted[0]
        queue.fireworks.update_one(
            {"state": "RESERVED", "checkout.token": token},
            {"$set": {"state": "READY", "updated_on": queue.stamp()}, "$unset": {"checkout": ""}},
        )
        launch = queue.launches.find_one({"checkout": token, "state": "RUNNING"}, {"launch_id": 1})
        if launch is not None:
            queue.hand_back(launch["launch_id"], "the database went away during the checkout", kind="drained")
        queue.interrupted.pop(0)


def _take(
    queue: Queue, query: Mapping[str, Any], fworker: FWorker, launch_dir: str, fw_id: int | None, token: str
) -> Taken | None:
    from pymongo import ReturnDocument

    wanted = {"fw_id": fw_id, "state": "READY"} if fw_id is not None else ready_query(query)
    claim = {**queue.identity.document(), "token": token, "since": queue.now()}
    raw = queue.fireworks.find_one_and_update(
        wanted,
        {"$set": {"state": "RESERVED", "updated_on": queue.stamp(), "checkout": claim}},
        sort=[("spec._priority", -1), ("created_on", 1)],
        return_document=ReturnDocument.AFTER,
    )
    if raw is None:
        return None
    launch = _insert_launch(queue, int(raw["fw_id"]), fworker, launch_dir, token)
    launch_id = launch["launch_id"]
    attached = queue.fireworks.update_one(
        {"fw_id": raw["fw_id"], "state": "RESERVED", "checkout.token": token},
        {
            "$set": {"state": "RUNNING", "updated_on": queue.stamp()},
            "$push": {"launches": launch_id},
            "$unset": {"checkout": ""},
        },
    )
    if attached.matched_count == 0 and not _attached_before(queue, raw["fw_id"], launch_id):
        logger.warning(
            "checkout of Firework %d was taken back; leaving it",
            raw["fw_id"],
            extra=event("checkout.taken_back", fw_id=raw["fw_id"]),
        )
        queue.launches.update_one({"launch_id": launch_id}, {"$set": {"state": "ARCHIVED"}})
        return None
    raw["launches"] = [*raw.get("launches", []), launch_id]
    raw["state"] = "RUNNING"
    taken = Taken(int(raw["fw_id"]), launch_id, raw, len(launch["state_history"]) - 1, token, claim["since"])
    queue.held[launch_id] = taken
    return taken


def _insert_launch(queue: Queue, fw_id: int, fworker: FWorker, launch_dir: str, token: str) -> dict[str, Any]:
    """Store the launch of a checkout under a new id; return its document."""
    from pymongo.errors import DuplicateKeyError

    host, address = _address()
    for _ in range(_MOST_IDS):
        launch_id = int(queue.get_new_launch_id())
        launch: dict[str, Any] = Launch(
            "RUNNING", launch_dir, fworker, host, address, launch_id=launch_id, fw_id=fw_id
        ).to_db_dict()
        launch["time_start"] = queue.stamp()
        launch["process"] = queue.process_document()
        launch["heartbeat_at"] = queue.now()
        # whoever judges this launch may have other settings than the worker that keeps it alive
        launch["lease_s"] = queue.settings.lease_s
        launch["checkout"] = token
        try:
            queue.launches.insert_one(launch)
        except DuplicateKeyError:
            # the database was restored from a backup since these ids were set aside
            queue.forget_launch_ids()
        else:
            return launch
    msg = f"no new launch id was found in {_MOST_IDS} tries: is the counter in fw_id_assigner behind the launches?"
    raise DatabaseError(msg)


def show_running(queue: Queue, fw_id: int) -> None:
    """Show a Firework as running in its workflow's document, for people.

    Not under the workflow's lock: a concurrent writer that overrides it sets a later state.
    """
    queue.workflows.update_one(
        {
            "nodes": fw_id,
            "state": {"$in": ["READY", "RESERVED", "WAITING", "RUNNING"]},
            f"fw_states.{fw_id}": {"$in": ["READY", "RESERVED", "WAITING"]},
        },
        {"$set": {f"fw_states.{fw_id}": "RUNNING", "state": "RUNNING", "updated_on": queue.moment()}},
    )


def _attached_before(queue: Queue, fw_id: int, launch_id: int) -> bool:
    """Return whether the attaching update was executed although its answer was lost and it was sent again."""
    return queue.fireworks.find_one({"fw_id": fw_id, "launches": launch_id}, {"fw_id": 1}) is not None


def heartbeat(queue: Queue, launch_id: int, history_index: int | None = None) -> bool:
    """Record that a launch is alive, for us and (in its history) for stock ``lpad detect_lostruns``."""
    changes: dict[str, Any] = {"heartbeat_at": queue.now()}
    if history_index is not None:
        changes[f"state_history.{history_index}.updated_on"] = queue.stamp()
    done = queue.launches.update_one({"launch_id": launch_id, "state": "RUNNING"}, {"$set": changes})
    return done.matched_count == 1
