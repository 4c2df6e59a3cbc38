"""Several documents changed as one: a write-ahead journal in the database.

FireWorks updates a workflow with one write per Firework and one for the workflow. A process that dies in
between loses the updates of the children for ever, because the finished Firework is already COMPLETED. Here
the whole change is first stored as one document (atomic), then applied, then removed; whoever finds a journal
finishes it. Each write is conditional on what the Firework was before, so that applying a journal twice, or
late, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.queue.lock import LockLostError, WorkflowLock

if TYPE_CHECKING:
    from launchpad.queue.launchpad import Queue

_DUPLICATE_KEY = 11000

__all__ = ["apply_update", "finish_additions", "finish_update", "record_addition"]


def apply_update(
    queue: Queue,
    lock: WorkflowLock,
    fireworks: list[dict[str, Any]],
    before: dict[int, dict[str, Any]],
    workflow: dict[str, Any],
) -> None:
    """Store and carry out one update of a workflow under its lock.

    Parameters
    ----------
    queue, lock
        The queue and the held lock.
    fireworks
        New Firework documents; those without an entry in `before` are inserted.
    before
        For each replaced Firework, the ``state`` and ``updated_on`` from which the change was computed.
    workflow
        The new fields of the workflow document.

    Raises
    ------
    LockLostError
        The lock was taken over meanwhile.
    """
    steps = [{"document": document, "before": before.get(document["fw_id"])} for document in fireworks]
    entry = {
        "_id": f"workflow:{lock.workflow['_id']}",
        "kind": "update",
        "fw_id": lock.fw_id,
        "token": lock.token,
        "steps": steps,
        "workflow": workflow,
    }
    # a holder that slept must not write its record over that of the next one, nor add Fireworks beside it
    lock.renew()
    lock.unfinished = True
    queue.journal.replace_one({"_id": entry["_id"]}, entry, upsert=True)
    _carry_out(queue, lock, entry)
    lock.unfinished = False


def finish_update(queue: Queue, lock: WorkflowLock) -> bool:
    """Carry out an update that a previous holder of the lock left; return whether there was one."""
    entry = queue.journal.find_one({"_id": f"workflow:{lock.workflow['_id']}"})
    if entry is None:
        return False
    lock.unfinished = True
    _carry_out(queue, lock, entry)
    lock.unfinished = False
    return True


def _carry_out(queue: Queue, lock: WorkflowLock, entry: dict[str, Any]) -> None:
    # new Fireworks first: nothing may name what does not exist
    _insert_absent(queue, [step["document"] for step in entry["steps"] if step["before"] is None])
    for step in entry["steps"]:
        if step["before"] is not None:
            document = step["document"]
            queue.fireworks.replace_one({"fw_id": document["fw_id"], **step["before"]}, document)
    done = queue.workflows.update_one(
        {"_id": lock.workflow["_id"], "lock_lease.token": lock.token}, {"$set": entry["workflow"]}
    )
    if done.matched_count == 0:
        msg = f"the lock of the workflow of Firework {lock.fw_id} was taken over"
        raise LockLostError(msg)
    queue.journal.delete_one({"_id": entry["_id"], "token": entry["token"]})


def _insert_absent(queue: Queue, documents: list[dict[str, Any]]) -> None:
    """Insert the Firework documents whose ids do not exist yet (the others may be running by now)."""
    from pymongo.errors import BulkWriteError

    if not documents:
        return
    try:
        queue.fireworks.insert_many([dict(document) for document in documents], ordered=False)
    except BulkWriteError as error:
        failures = error.details.get("writeErrors", [])
        if any(failure.get("code") != _DUPLICATE_KEY for failure in failures) or error.details.get(
            "writeConcernErrors"
        ):
            raise


def record_addition(
    queue: Queue,
    key: str,
    workflow: dict[str, Any],
    fireworks: list[dict[str, Any]],
    *,
    ids: dict[str, int],
    keep: bool,
) -> bool:
    """Store the addition of a workflow under a key that is used once; return False if it was used before.

    `keep` tells whether the key is remembered after the addition, so that it can never be added again.
    """
    from pymongo.errors import DuplicateKeyError

    entry = {
        "_id": f"add:{key}",
        "kind": "add",
        "workflow": workflow,
        "steps": fireworks,
        "ids": ids,
        "keep": keep,
    }
    try:
        queue.journal.insert_one(entry)
    except DuplicateKeyError:
        return False
    return True


def finish_additions(queue: Queue, key: str | None = None) -> int:
    """Carry out recorded additions of workflows (all pending ones, or one); return how many there were.

    The workflow document comes first: a Firework without its workflow could be checked out and never
    completed.
    """
    query: dict[str, Any] = {"kind": "add"} if key is None else {"_id": f"add:{key}", "kind": "add"}
    entries = list(queue.journal.find(query))
    for entry in entries:
        workflow = entry["workflow"]
        queue.workflows.update_one(
            {"_id": workflow["_id"]},
            {"$setOnInsert": {name: value for name, value in workflow.items() if name != "_id"}},
            upsert=True,
        )
        _insert_absent(queue, entry["steps"])
        if entry["keep"]:
            # the key stays for ever, without its load: submitting the same thing again must find it
            done = {"_id": entry["_id"], "kind": "added", "ids": entry["ids"]}
            queue.journal.replace_one({"_id": entry["_id"]}, done)
        else:
            queue.journal.delete_one({"_id": entry["_id"]})
    return len(entries)
