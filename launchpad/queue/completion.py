"""Ending a launch: store its result once, then bring the workflow up to date.

The launch is the record: once it is COMPLETED, the rest (Firework, children, workflow) follows from it and
can be redone by anybody. An ordinary result (no change of the workflow's shape or of its children's specs) is
applied by targeted updates; anything else goes through FireWorks' own code under the journal.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from launchpad.logs import event
from launchpad.queue import repair
from launchpad.queue.lock import LockLostError, NoWorkflowError, WorkflowLock

if TYPE_CHECKING:
    from launchpad.queue.checkout import Taken
    from launchpad.queue.launchpad import Queue

__all__ = ["complete", "end_without_result", "failure", "note_late", "takes"]

logger = logging.getLogger("launchpad.queue")

#: Parts of an action that change more than the states of the children.
_DYNAMIC = (
    "update_spec",
    "mod_spec",
    "additions",
    "detours",
    "append_wfs",
    "defuse_children",
    "defuse_workflow",
)


def complete(
    queue: Queue,
    launch_id: int,
    action: dict[str, Any] | None,
    state: str,
    moment: float,
    checkout: str | None = None,
) -> dict[str, Any]:
    """Store the end of a launch and refresh its workflow; safe to repeat.

    Parameters
    ----------
    queue
        The queue.
    launch_id
        The launch.
    action
        FireWorks' action as a dictionary, or None.
    state
        COMPLETED or FIZZLED.
    moment
        When the task ended (server's time, seconds since the epoch).
    checkout
        Token of the checkout that made the launch, where this process did not make it itself.

    Returns
    -------
    dict
        The launch's document; without more than its id if somebody deleted it.
    """
    taken = queue.held.get(launch_id)
    token = checkout if taken is None else taken.token
    raw = None if taken is None else _store_held(queue, taken, action, state, moment)
    first = raw is not None
    if raw is None:
        raw = queue.launches.find_one({"launch_id": launch_id}, {"action": 0})
        if raw is None:
            # 'lpad delete_wflows', a retention rule, a restored backup: it must not stop who brings other results
            logger.error(
                "launch %d does not exist any more; its result is not used",
                launch_id,
                extra=event("result.orphaned", launch_id=launch_id, state=state),
            )
            return {"launch_id": launch_id}
        if token is not None and raw.get("checkout") != token:
            logger.error(
                "launch %d belongs to another checkout now; a result is not used",
                launch_id,
                extra=event("result.foreign", launch_id=launch_id),
            )
            return dict(raw)
        if _acceptable(raw, state) or (state == "COMPLETED" and _reclaim(queue, raw)):
            first = _store(queue, raw, action, state, moment)
        elif raw["state"] != state:
            return note_late(queue, raw, state, moment)
    raw["state"] = state
    plain = state == "COMPLETED" and not any((action or {}).get(name) for name in _DYNAMIC)
    try:
        _bring_up_to_date(queue, int(raw["fw_id"]), launch_id, first=first, plain=plain)
    except NoWorkflowError as error:
        logger.warning(
            "launch %d: %s", launch_id, error, extra=event("workflow.missing", fw_id=int(raw["fw_id"]))
        )
        repair.repair_alone(queue, int(raw["fw_id"]))
    return dict(raw)


def _bring_up_to_date(queue: Queue, fw_id: int, launch_id: int, *, first: bool, plain: bool) -> None:
    """Let a Firework, its children and its workflow follow the end of a launch.

    Parameters
    ----------
    queue
        The queue.
    fw_id, launch_id
        The Firework and its launch.
    first
        The end was written just now; otherwise somebody may have got anywhere in doing this.
    plain
        The result changes nothing but states.
    """
    if first and plain:
        try:
            if _finish_plain(queue, fw_id, launch_id):
                return
        except LockLostError:
            logger.warning(
                "lock lost while completing launch %d; refreshing",
                launch_id,
                extra=event("lock.lost", launch_id=launch_id),
            )
    if first:
        for found in list(queue.fireworks.find({"launches": launch_id}, {"fw_id": 1})):
            queue._refresh_wf(found["fw_id"])
    else:
        for found in list(queue.fireworks.find({"launches": launch_id}, {"fw_id": 1})):
            with WorkflowLock(queue, found["fw_id"]) as lock:
                repair.repair_workflow(queue, lock)


def _store_held(
    queue: Queue, taken: Taken, action: dict[str, Any] | None, state: str, moment: float
) -> dict[str, Any] | None:
    """Write the end of a launch of this process, which knows it; return None if it is no longer as it was."""
    raw = {
        "launch_id": taken.launch_id,
        "fw_id": taken.fw_id,
        "state": "RUNNING",
        "checkout": taken.token,
        "time_start": datetime.fromtimestamp(taken.since, UTC).isoformat(),
    }
    return raw if _store(queue, raw, action, state, moment) else None


def note_late(queue: Queue, raw: dict[str, Any], state: str, moment: float) -> dict[str, Any]:
    """Keep a trace of a result that came too late to be used."""
    logger.warning(
        "launch %d of Firework %d is %s; its late result (%s) is not used",
        raw["launch_id"],
        raw["fw_id"],
        raw["state"],
        state,
        extra=event("result.late", launch_id=raw["launch_id"], fw_id=raw["fw_id"], state=state),
    )
    late = {"state": state, "at": moment}
    queue.launches.update_one({"launch_id": raw["launch_id"]}, {"$set": {"late": late}})
    return raw


def _acceptable(raw: dict[str, Any], state: str) -> bool:
    """Return whether a result may still be stored: the launch runs, or was given up but not yet run again."""
    if raw["state"] in {"RUNNING", "RESERVED"}:
        return True
    requeue = raw.get("requeue", {})
    given_up = raw["state"] == "FIZZLED" and requeue.get("pending") and not requeue.get("reclaimed")
    return state == "COMPLETED" and bool(given_up)


def takes(queue: Queue, raw: dict[str, Any], state: str) -> bool:
    """Return whether a result would be stored now, without doing anything.

    Parameters
    ----------
    queue
        The queue.
    raw
        The launch's document.
    state
        COMPLETED or FIZZLED.
    """
    if _acceptable(raw, state):
        return True
    requeue = raw.get("requeue", {})
    if state != "COMPLETED" or raw["state"] != "FIZZLED":
        return False
    if not (requeue.get("reclaimed") or requeue.get("outcome") == "rerun"):
        return False
    mine = {"state": {"$in": ["RUNNING", "RESERVED"]}, "launches": raw["launch_id"]}
    found = queue.fireworks.find_one({"fw_id": raw["fw_id"], "$or": [mine, _waiting(raw)]}, {"fw_id": 1})
    return found is not None


def _waiting(raw: dict[str, Any]) -> dict[str, Any]:
    """Return what finds the Firework of a launch that was given up, as long as nobody has begun to run it again."""
    return {"state": "READY", "launches": [], "archived_launches": raw["launch_id"]}


def _reclaim(queue: Queue, raw: dict[str, Any]) -> bool:
    """Take a Firework back for a launch that was given up too early, as long as nobody has begun to run it again.

    The launch is pending again before the Firework is taken: should this process die in between, the reaper lets
    the Firework run again as if nothing had been.
    """
    requeue = raw.get("requeue", {})
    if raw["state"] != "FIZZLED" or not (requeue.get("reclaimed") or requeue.get("outcome") == "rerun"):
        return False
    launch_id, fw_id = raw["launch_id"], raw["fw_id"]
    waiting = {"fw_id": fw_id, **_waiting(raw)}
    if queue.fireworks.find_one(waiting, {"fw_id": 1}) is not None:
        queue.launches.update_one(
            {"launch_id": launch_id, "state": "FIZZLED"},
            {"$set": {"requeue.pending": True, "requeue.reclaimed": True, "requeue.due": queue.now()}},
        )
        queue.fireworks.update_one(
            waiting,
            {
                "$set": {"state": "RUNNING", "launches": [launch_id], "updated_on": queue.stamp()},
                "$pull": {"archived_launches": launch_id},
            },
        )
    # also when an earlier try of this got so far
    taken = {"fw_id": fw_id, "state": {"$in": ["RUNNING", "RESERVED"]}, "launches": launch_id}
    return queue.fireworks.find_one(taken, {"fw_id": 1}) is not None


def _store(
    queue: Queue, raw: dict[str, Any], action: dict[str, Any] | None, state: str, moment: float
) -> bool:
    """Write the end of a launch; return False if somebody else ended it meanwhile."""
    from pymongo.errors import DocumentTooLarge

    launch_id = raw["launch_id"]
    ended = datetime.fromtimestamp(moment, UTC)
    changes: dict[str, Any] = {"state": state, "time_end": ended.isoformat(), "action": action}
    started = raw.get("time_start")
    if isinstance(started, str):
        began = datetime.fromisoformat(started)
        began = began if began.tzinfo else began.replace(tzinfo=UTC)
        changes["runtime_secs"] = max(0.0, (ended - began).total_seconds())
    update: dict[str, Any] = {
        "$set": changes,
        "$push": {"state_history": {"state": state, "created_on": ended.isoformat()}},
    }
    if "requeue" in raw:
        update["$unset"] = {"requeue": ""}
    # after a database was restored from a backup, the same id may belong to another launch
    condition = {"launch_id": launch_id, "state": raw["state"], "checkout": raw.get("checkout")}
    try:
        done = queue.launches.update_one(condition, update)
    except DocumentTooLarge:
        if queue.gridfs_fallback is None or not action:
            raise
        changes["action"] = {"gridfs_id": _action_in_gridfs(queue, launch_id, action)}
        done = queue.launches.update_one(condition, update)
    return done.matched_count == 1


def _action_in_gridfs(queue: Queue, launch_id: int, action: dict[str, Any]) -> str:
    """Store an action that does not fit into a document, once per launch, where FireWorks looks for it."""
    for found in queue.gridfs_fallback.find({"metadata.launch_id": launch_id}):
        queue.gridfs_fallback.delete(found._id)  # left by a try that did not get further
    return str(
        queue.gridfs_fallback.put(json.dumps(action), encoding="utf-8", metadata={"launch_id": launch_id})
    )


def _finish_plain(queue: Queue, fw_id: int, launch_id: int) -> bool:
    """Apply an ordinary result to the workflow; return False where FireWorks' own code must do it."""
    with WorkflowLock(queue, fw_id) as lock:
        links = {int(node): children for node, children in lock.workflow["links"].items()}
        parents = {int(node): found for node, found in lock.workflow["parent_links"].items()}
        states = {int(node): state for node, state in lock.workflow["fw_states"].items()}
        states[fw_id] = "COMPLETED"
        if not set(states.values()) <= {"COMPLETED", "RUNNING", "RESERVED", "READY", "WAITING"}:
            return (
                False  # FIZZLED parents may be allowed, paused ones must stay: rules that depend on the specs
            )
        firework = queue.fireworks.find_one_and_update(
            {
                "fw_id": fw_id,
                "launches": launch_id,
                "state": {"$in": ["RUNNING", "RESERVED"]},
                "spec._dupefinder": {"$exists": False},
            },
            {"$set": {"state": "COMPLETED", "updated_on": queue.stamp()}},
            projection={"fw_id": 1},
        )
        if firework is None:
            return False
        ready = [
            child
            for child in links.get(fw_id, [])
            if states[child] == "WAITING" and all(states[parent] == "COMPLETED" for parent in parents[child])
        ]
        if ready:
            promoted = queue.fireworks.update_many(
                {"fw_id": {"$in": ready}, "state": "WAITING", "launches": []},
                {"$set": {"state": "READY", "updated_on": queue.stamp()}},
            )
            if promoted.matched_count != len(ready):
                repair.repair_workflow(queue, lock)
                return True
        for child in ready:
            states[child] = "READY"
        leaves = [node for node, children in links.items() if not children]
        changes: dict[str, Any] = {f"fw_states.{child}": "READY" for child in ready}
        changes[f"fw_states.{fw_id}"] = "COMPLETED"
        changes["state"] = "COMPLETED" if all(states[leaf] == "COMPLETED" for leaf in leaves) else "RUNNING"
        changes["updated_on"] = queue.moment()
        lock.release_with(changes)
    return True


def failure(reason: str) -> dict[str, Any]:
    """Return what an action stores, as FireWorks does, of a failure that no task raised."""
    return {
        "_message": reason,
        "_task": None,
        "_exception": {"_stacktrace": reason, "_details": None},
    }


def end_without_result(
    queue: Queue, launch_id: int, reason: str, *, kind: str, due: float, state: str = "RUNNING"
) -> bool:
    """Give up a launch that is in a state, to be run again from `due` on; return False if it had ended already."""
    ended = queue.stamp()
    done = queue.launches.update_one(
        {"launch_id": launch_id, "state": state},
        {
            "$set": {
                "state": "FIZZLED",
                "time_end": ended,
                "requeue": {"pending": True, "kind": kind, "reason": reason, "due": due},
                "action": {
                    "stored_data": failure(reason),
                    "exit": True,
                    "update_spec": {},
                    "mod_spec": [],
                    "additions": [],
                    "detours": [],
                    "append_wfs": [],
                    "defuse_children": False,
                    "defuse_workflow": False,
                    "propagate": False,
                },
            },
            "$push": {"state_history": {"state": "FIZZLED", "created_on": ended}},
        },
    )
    return done.matched_count == 1
