"""Taking a Firework: one leased step, then three that can be undone by anybody who sees that the taker died.

1. ``fireworks``: READY to RESERVED together with ``checkout`` = who, when, token (atomic: nobody else gets
it);
2. ``launches``: insert the launch, RUNNING, with the process that runs it;
3. ``fireworks``: RESERVED to RUNNING with the launch, only if the token is still ours;
4. ``workflows``: show it as running (for people; nothing depends on it).

Killed after 1 or 2: the reaper finds RESERVED with a ``checkout`` of a dead process and makes it READY again.
Killed after 3 or 4: a RUNNING launch of a dead process.
"""

from __future__ import annotations

import logging
import socket
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fireworks.core.firework import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fireworks.core.fworker import FWorker

    from launchpad.queue.launchpad import Queue

__all__ = ["Taken", "heartbeat", "ready_query", "take", "undo_interrupted"]

logger = logging.getLogger("launchpad.queue")


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
    """

    fw_id: int
    launch_id: int
    raw: dict[str, Any]
    history_index: int
    token: str


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
    launch_id = queue.get_new_launch_id()
    host, address = _address()
    launch = Launch(
        "RUNNING", launch_dir, fworker, host, address, launch_id=launch_id, fw_id=raw["fw_id"]
    ).to_db_dict()
    launch["time_start"] = queue.stamp()
    launch["process"] = queue.identity.document()
    launch["heartbeat_at"] = queue.now()
    # whoever judges this launch may have other settings than the worker that keeps it alive
    launch["lease_s"] = queue.settings.lease_s
    launch["checkout"] = token
    queue.launches.insert_one(launch)
    attached = queue.fireworks.update_one(
        {"fw_id": raw["fw_id"], "state": "RESERVED", "checkout.token": token},
        {
            "$set": {"state": "RUNNING", "updated_on": queue.stamp()},
            "$push": {"launches": launch_id},
            "$unset": {"checkout": ""},
        },
    )
    if attached.matched_count == 0 and not _attached_before(queue, raw["fw_id"], launch_id):
        logger.warning("checkout of Firework %d was taken back; leaving it", raw["fw_id"])
        queue.launches.update_one({"launch_id": launch_id}, {"$set": {"state": "ARCHIVED"}})
        return None
    # not under the workflow's lock: only a display, and a concurrent writer that overrides it sets a later
    # state
    queue.workflows.update_one(
        {"nodes": raw["fw_id"], "state": {"$in": ["READY", "RESERVED", "WAITING", "RUNNING"]}},
        {
            "$set": {
                f"fw_states.{raw['fw_id']}": "RUNNING",
                "state": "RUNNING",
                "updated_on": queue.moment(),
            }
        },
    )
    raw["launches"] = [*raw.get("launches", []), launch_id]
    raw["state"] = "RUNNING"
    return Taken(int(raw["fw_id"]), int(launch_id), raw, len(launch["state_history"]) - 1, token)


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
