"""Making a workflow consistent again, and running a Firework again after its launch was given up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fireworks.core.launchpad import LockedWorkflowError

from launchpad.logs import event
from launchpad.queue.journal import finish_update
from launchpad.queue.lock import WorkflowLock

if TYPE_CHECKING:
    from launchpad.queue.launchpad import Queue

__all__ = ["repair_alone", "repair_workflow", "rerun_locked", "settle", "settle_if_free"]

logger = logging.getLogger("launchpad.queue")

_LIVE = frozenset({"RUNNING", "RESERVED"})


def repair_workflow(queue: Queue, lock: WorkflowLock) -> list[int]:
    """Bring a locked workflow in line with its Fireworks and launches; return the Fireworks changed.

    An unfinished journal is carried out first. Then: a Firework that is RUNNING although its launch ended
    takes the launch's state (and its action is applied), one whose launches are all missing runs again; a WAITING one
    whose parents are done becomes READY; the states in the workflow's document are those of the Fireworks.
    """
    finish_update(queue, lock)
    raw = queue.workflows.find_one({"_id": lock.workflow["_id"]})
    if raw is None:
        return []
    fields = {"fw_id": 1, "state": 1, "launches": 1, "spec._allow_fizzled_parents": 1}
    found = {doc["fw_id"]: doc for doc in queue.fireworks.find({"fw_id": {"$in": raw["nodes"]}}, fields)}
    states = {fw_id: doc["state"] for fw_id, doc in found.items()}
    workflow = queue.lazy_workflow(raw)
    stored = dict(workflow.fw_states)
    workflow.fw_states.update(states)
    parents = workflow.links.parent_links
    changed: set[int] = set()
    lost: list[int] = []
    for fw_id in _parents_first(workflow.links):
        document = found.get(fw_id)
        if document is None:
            continue
        state = states[fw_id]
        if state == "RUNNING" and not _exist(queue, document["launches"]):
            # restored from a copy that has its launch no more, or not yet
            lost.append(fw_id)
            stale = False
        elif state in _LIVE and document["launches"]:
            stale = _ended(queue, document["launches"])
        elif state == "WAITING":
            done = {"COMPLETED"}
            if document.get("spec", {}).get("_allow_fizzled_parents"):
                done.add("FIZZLED")
            stale = all(workflow.fw_states.get(parent) in done for parent in parents.get(fw_id, []))
        else:
            stale = False
        if stale:
            changed |= set(workflow.refresh(fw_id, set()))
    if changed or stored != workflow.fw_states or raw["state"] != workflow.state:
        logger.info(
            "repaired the workflow of Firework %d (changed: %s)",
            lock.fw_id,
            sorted(changed),
            extra=event("workflow.repaired", fw_id=lock.fw_id, changed=sorted(changed)),
        )
        queue._update_wf(workflow, changed)
        changed = changed or {lock.fw_id}
    for fw_id in lost:
        rerun_locked(queue, fw_id)
    return sorted(changed.union(lost))


def repair_alone(queue: Queue, fw_id: int) -> bool:
    """Let a Firework that no workflow contains follow its launches; return whether it changed.

    FireWorks stores the Fireworks of a workflow before the workflow: ``lpad add`` that was killed in between leaves
    such ones, and they can be taken. There is nothing else that could wait for them.
    """
    raw = queue.fireworks.find_one({"fw_id": fw_id, "state": "RUNNING"}, {"launches": 1})
    if raw is None:
        return False
    found = queue.launches.find({"launch_id": {"$in": raw["launches"]}}, {"state": 1})
    ends = {launch["state"] for launch in found}
    if ends & _LIVE and "COMPLETED" not in ends:
        return False
    state = "COMPLETED" if "COMPLETED" in ends else "FIZZLED" if ends else "READY"
    done = queue.fireworks.update_one(
        {"fw_id": fw_id, "state": "RUNNING", "launches": raw["launches"]},
        {"$set": {"state": state, "updated_on": queue.stamp(), **({} if ends else {"launches": []})}},
    )
    return bool(done.matched_count)


def _exist(queue: Queue, launch_ids: list[int]) -> bool:
    return queue.launches.find_one({"launch_id": {"$in": launch_ids}}, {"launch_id": 1}) is not None


def _ended(queue: Queue, launch_ids: list[int]) -> bool:
    """Return whether launches have all ended, and none is waiting for its next try."""
    fields = {"state": 1, "requeue.pending": 1}
    launches = list(queue.launches.find({"launch_id": {"$in": launch_ids}}, fields))
    if any(launch["state"] == "COMPLETED" for launch in launches):
        return True
    return bool(launches) and all(
        launch["state"] not in _LIVE and not launch.get("requeue", {}).get("pending") for launch in launches
    )


def _parents_first(links: dict[int, list[int]]) -> list[int]:
    """Return the Fireworks of a workflow so that parents precede their children."""
    waiting = dict.fromkeys(links, 0)
    for children in links.values():
        for child in children:
            waiting[child] += 1
    order = sorted(fw_id for fw_id, count in waiting.items() if count == 0)
    for fw_id in order:  # grows while it is read
        for child in links[fw_id]:
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    return order


def rerun_locked(queue: Queue, fw_id: int) -> None:
    """Archive the launches of a Firework; it, and what followed from it, runs again; the lock is held.

    FireWorks does it by recursion, which ends at chains of about a thousand.
    """
    workflow = queue.get_wf_by_fw_id_lzyfw(fw_id)
    again = {fw_id}
    for node in _parents_first(workflow.links):
        # its parents come before it: what they are, and whether it follows them, is known by now
        if node in again:
            workflow.id_fw[node]._rerun()
            workflow.refresh(node, set())
            again.update(child for child in workflow.links[node] if workflow.id_fw[child].state != "WAITING")
    queue._update_wf(workflow, again)


def settle(queue: Queue, launch_id: int) -> str:
    """Decide what becomes of a launch that was given up, and do it; safe to repeat and to do twice at once.

    Returns
    -------
    str
        ``rerun``; ``exhausted`` (its bound of tries is reached: FIZZLED); ``superseded`` (it does not matter
        any more); ``none`` (there is nothing to settle).
    """
    launch = queue.launches.find_one({"launch_id": launch_id, "requeue.pending": True}, {"action": 0})
    if launch is None:
        return "none"
    fw_id = int(launch["fw_id"])
    kind = launch["requeue"]["kind"]
    count, bound = _count(queue, fw_id, launch_id, kind)
    firework = queue.fireworks.find_one({"fw_id": fw_id, "launches": launch_id}, {"state": 1})
    if firework is None:
        return _close(queue, launch_id, "superseded")
    if queue.workflows.find_one({"nodes": fw_id}, {"_id": 1}) is None:
        # see `repair_alone`
        again = {"state": "READY", "launches": [], "updated_on": queue.stamp()}
        queue.fireworks.update_one(
            {"fw_id": fw_id, "launches": launch_id, "state": {"$in": [*_LIVE]}},
            {"$set": again if count <= bound else {"state": "FIZZLED"}},
        )
        return _close(queue, launch_id, "rerun" if count <= bound else "exhausted")
    with WorkflowLock(queue, fw_id) as lock:
        firework = queue.fireworks.find_one(
            {"fw_id": fw_id, "launches": launch_id}, {"state": 1, "launches": 1}
        )
        if firework is None or firework["state"] not in {*_LIVE, "FIZZLED"}:
            return _close(queue, launch_id, "superseded")
        others = [other for other in firework["launches"] if other != launch_id]
        if others and queue.launches.find_one(
            {"launch_id": {"$in": others}, "state": {"$in": ["RUNNING", "RESERVED", "COMPLETED"]}},
            {"launch_id": 1},
        ):
            return _close(queue, launch_id, "superseded")
        if count <= bound:
            rerun_locked(queue, fw_id)
            return _close(queue, launch_id, "rerun")
        reason = (
            f"given up after {count} tries that ended by a fault of the infrastructure ({kind}); "
            f"the last: {launch['requeue']['reason']}"
        )
        logger.error(
            "Firework %d: %s",
            fw_id,
            reason,
            extra=event("task.exhausted", fw_id=fw_id, kind=kind, tries=count),
        )
        queue.retries.update_one({"_id": fw_id}, {"$set": {"exhausted": True}})
        queue.launches.update_one(
            {"launch_id": launch_id},
            {
                "$set": {
                    "action.stored_data._message": reason,
                    "requeue.pending": False,
                    "requeue.outcome": "exhausted",
                }
            },
        )
        repair_workflow(queue, lock)
    return "exhausted"


def settle_if_free(queue: Queue, launch_id: int) -> None:
    """Settle a launch that was given up a moment ago, or leave it to the reaper if its workflow stays locked."""
    try:
        settle(queue, launch_id)
    except LockedWorkflowError as error:
        logger.warning(
            "launch %d was given up; the reaper will run its task again: %s",
            launch_id,
            error,
            extra=event("workflow.postponed", launch_id=launch_id),
        )


def _close(queue: Queue, launch_id: int, outcome: str) -> str:
    queue.launches.update_one(
        {"launch_id": launch_id}, {"$set": {"requeue.pending": False, "requeue.outcome": outcome}}
    )
    return outcome


def _count(queue: Queue, fw_id: int, launch_id: int, kind: str) -> tuple[int, int]:
    """Count a launch that was given up, once however often this is asked; return the count and its bound."""
    if kind in {"drained", "counted"}:
        return 0, 1
    bound = (
        len(queue.settings.transient_delays_s)
        if kind == "transient"
        else queue.settings.infrastructure_retries
    )
    known: dict[str, Any] | None = queue.retries.find_one({"_id": fw_id})
    if known and known.get("exhausted") and launch_id not in known.get(kind, []):
        # a person ran it again after it had been given up: its tries start anew
        queue.retries.update_one(
            {"_id": fw_id, "exhausted": True}, {"$set": {"dead": [], "transient": [], "exhausted": False}}
        )
    queue.retries.update_one({"_id": fw_id}, {"$addToSet": {kind: launch_id}}, upsert=True)
    now = queue.retries.find_one({"_id": fw_id}) or {}
    return len(now.get(kind, [])), bound
