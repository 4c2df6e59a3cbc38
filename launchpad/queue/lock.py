"""The workflow lock with an owner and an end.

FireWorks locks a workflow with the boolean ``locked`` in its document: no owner, no time, so a process killed
inside the lock blocks the workflow for ever. We set the same boolean (stock clients respect it) and, in the
same atomic update, a lease that names the holder. A lease whose holder is dead, or that is too old, is taken
over. Writes to the workflow's document are conditional on the lease still being one's own (fencing); a change of
several documents is recorded in the journal only after that was made sure of, and each of its writes is conditional on
what its document was.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from fireworks.core.launchpad import LockedWorkflowError

from launchpad.logs import event
from launchpad.queue.identity import ProcessIdentity
from launchpad.retry import Backoff, is_transient_database_error, retrying

if TYPE_CHECKING:
    from types import TracebackType

    from launchpad.queue.launchpad import Queue

__all__ = ["HELD_TOKENS", "LockLostError", "NoWorkflowError", "WorkflowLock"]

logger = logging.getLogger("launchpad.queue")

#: Leases that this process holds now, through whatever queue object; any other lease in its name is abandoned.
HELD_TOKENS: set[str] = set()


class LockLostError(LockedWorkflowError):
    """The lock was taken over by another process while this one held it."""


class NoWorkflowError(ValueError):
    """No workflow contains the Firework: its addition by FireWorks was cut short, or somebody deleted it."""


class WorkflowLock:
    """Hold the workflow that contains a Firework.

    Parameters
    ----------
    queue
        The queue.
    fw_id
        Any Firework of the workflow.
    wait_s
        How long to wait (default: the settings').

    Raises
    ------
    LockedWorkflowError
        Somebody else held the lock for all of that time.
    NoWorkflowError
        No workflow contains the Firework.
    """

    def __init__(self, queue: Queue, fw_id: int, *, wait_s: float | None = None) -> None:
        self.queue = queue
        self.fw_id = fw_id
        self.wait_s = queue.settings.lock_wait_s if wait_s is None else wait_s
        self.token = uuid.uuid4().hex
        self.workflow: dict[str, Any] = {}
        self.taken_over = False
        #: set while writes that belong together are only partly done: the next holder finishes them from the
        #: journal
        self.unfinished = False
        self.released = False

    def __enter__(self) -> WorkflowLock:
        HELD_TOKENS.add(self.token)
        try:
            self._acquire()
        except BaseException:
            HELD_TOKENS.discard(self.token)
            raise
        self.queue.locks.append(self)
        if self.taken_over:
            try:
                self.queue.repair_locked(self)
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return self

    def _lease(self) -> dict[str, Any]:
        return {**self.queue.identity.document(), "token": self.token, "since": self.queue.now()}

    def _acquire(self) -> None:
        from pymongo import ReturnDocument

        end = time.monotonic() + self.wait_s
        for pause in Backoff(first_s=0.01, largest_s=0.5, factor=1.6).pauses():
            found = self.queue.workflows.find_one_and_update(
                # FireWorks removes only its boolean, also from a lock that is not its own: the lease counts too
                {"nodes": self.fw_id, "locked": {"$exists": False}, "lock_lease": {"$exists": False}},
                {"$set": {"locked": True, "lock_lease": self._lease()}},
                return_document=ReturnDocument.AFTER,
            )
            if found is None:
                found = self._take_over()
            if found is not None:
                self.workflow = found
                return
            if time.monotonic() + pause > end:
                msg = f"workflow of Firework {self.fw_id} is locked by another process for {self.wait_s:g} s"
                raise LockedWorkflowError(msg)
            time.sleep(pause)

    def _take_over(self) -> dict[str, Any] | None:
        """Take the lock from a holder that cannot release it any more."""
        from pymongo import ReturnDocument

        found = self.queue.workflows.find_one({"nodes": self.fw_id})
        if found is None:
            msg = f"no workflow contains Firework {self.fw_id}"
            raise NoWorkflowError(msg)
        lease = found.get("lock_lease")
        if not lease:
            return None  # free by now, or FireWorks' own lock, which the reaper watches
        if lease["token"] == self.token:
            return dict(found)  # our own request was executed although its answer was lost
        if not self._abandoned(lease):
            return None
        taken = self.queue.workflows.find_one_and_update(
            {"_id": found["_id"], "lock_lease.token": lease["token"]},
            {"$set": {"locked": True, "lock_lease": self._lease()}},
            return_document=ReturnDocument.AFTER,
        )
        if taken is None:
            return None
        logger.warning(
            "took over the lock of the workflow of Firework %d from %s",
            self.fw_id,
            lease.get("host"),
            extra=event("lock.taken_over", fw_id=self.fw_id, host=lease.get("host")),
        )
        self.taken_over = True
        return dict(taken)

    def _abandoned(self, lease: dict[str, Any]) -> bool:
        if lease.get("abandoned"):
            return True  # the reaper says so
        owner = ProcessIdentity.from_document(lease)
        if owner == self.queue.identity:
            return lease["token"] not in HELD_TOKENS
        fate = owner.fate if owner else "unknown"
        old = self.queue.now() - float(lease["since"]) > self.queue.settings.lock_ttl_s
        return fate == "dead" or old

    def renew(self) -> None:
        """Begin the lease anew before writes that are not bound to it themselves.

        Raises
        ------
        LockLostError
            The lock has been taken over.
        """
        done = self.queue.workflows.update_one(
            {
                "_id": self.workflow["_id"],
                "lock_lease.token": self.token,
                "lock_lease.abandoned": {"$exists": False},
            },
            {"$set": {"locked": True, "lock_lease.since": self.queue.now()}},
        )
        if done.matched_count == 0:
            msg = f"the lock of the workflow of Firework {self.fw_id} was taken over"
            raise LockLostError(msg)

    def release_with(self, changes: dict[str, Any]) -> None:
        """Write the last changes of the workflow document and release the lock in one atomic update.

        Raises
        ------
        LockLostError
            The lock had been taken over; nothing was written.
        """
        done = self.queue.workflows.update_one(
            {"_id": self.workflow["_id"], "lock_lease.token": self.token},
            {"$set": changes, "$unset": {"locked": "", "lock_lease": ""}},
        )
        if done.matched_count == 0:
            # a retried command may find its own work done: then the states are already as wanted
            probe = {"_id": self.workflow["_id"], **changes}
            if self.queue.workflows.find_one(probe, {"_id": 1}) is None:
                msg = f"the lock of the workflow of Firework {self.fw_id} was taken over"
                raise LockLostError(msg)
        self.released = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        HELD_TOKENS.discard(self.token)
        if self in self.queue.locks:
            self.queue.locks.remove(self)
        if self.released or self.unfinished:
            # unfinished: the lease stays, and since its token is no longer held, the next one takes over and
            # finishes
            return
        try:
            retrying(
                lambda: self.queue.workflows.update_one(
                    {"_id": self.workflow["_id"], "lock_lease.token": self.token},
                    {"$unset": {"locked": "", "lock_lease": ""}},
                ),
                limit_s=5.0,
            )
        except Exception as failure:
            if not is_transient_database_error(failure):
                raise
            logger.warning(
                "could not release the lock of the workflow of Firework %d: %s",
                self.fw_id,
                failure,
                extra=event("lock.not_released", fw_id=self.fw_id),
            )
