"""What the reaper would find, without touching anything: for `gapfactory doctor` and users who may only read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launchpad.queue.identity import ProcessIdentity
from launchpad.queue.reaper import _ACTIVE_WORKFLOWS, _age, _lags, _loss, _Pass

if TYPE_CHECKING:
    from launchpad.queue.launchpad import Queue

__all__ = ["Survey", "survey"]

#: An addition that is still there after this time (seconds) is regarded as cut short.
_ADDITION_S = 0.5


@dataclass(frozen=True)
class Survey:
    """What is stuck at this moment; ids are of Fireworks unless said otherwise.

    Parameters
    ----------
    lost
        Firework -> why its running launch is regarded as lost.
    reservations
        Checkouts that were cut short.
    locks
        Workflows (by one of their Fireworks) whose lock has no living holder.
    journals
        Number of additions and updates cut short.
    overdue
        Fireworks whose next try was due some time ago.
    lagging
        Workflows (by one of their Fireworks) behind their tasks.
    compared
        Number of workflows looked at for `lagging`.
    exhausted
        FIZZLED because the bound of tries after faults of the infrastructure was reached.
    fizzled
        Number of FIZZLED Fireworks, these included.
    """

    lost: dict[int, str]
    reservations: tuple[int, ...]
    locks: tuple[int, ...]
    journals: int
    overdue: tuple[int, ...]
    lagging: tuple[int, ...]
    compared: int
    exhausted: tuple[int, ...]
    fizzled: int

    @property
    def stuck(self) -> bool:
        """Whether there is work for the reaper."""
        return bool(
            self.lost or self.reservations or self.locks or self.journals or self.overdue or self.lagging
        )


def survey(queue: Queue, *, now: float | None = None, workflows: int = 500) -> Survey:
    """Look for everything that the reaper would put right; safe at any time, reads only.

    Parameters
    ----------
    queue
        The queue, which may be opened `read_only`.
    now
        Server's time, seconds since the epoch (default: asked from the server).
    workflows
        At most this many active workflows, the newest, are compared with their tasks (a query each).

    Raises
    ------
    pymongo.errors.PyMongoError
        The database is away, or does not let the user read.
    """
    if now is None:
        queue.clock.synchronise()
        now = queue.now()
    look = _Pass(queue, now, None)
    fields = {"launch_id": 1, "fw_id": 1, "process": 1, "heartbeat_at": 1, "state_history": 1, "host": 1}
    lost = {}
    for raw in queue.launches.find({"state": "RUNNING"}, fields):
        reason = _loss(look, raw)
        if reason is not None:
            lost[int(raw["fw_id"])] = reason
    lagging, compared = _lagging(look, workflows)
    return Survey(
        lost=dict(sorted(lost.items())),
        reservations=_reservations(look),
        locks=_locks(look),
        journals=_journals(queue),
        overdue=_overdue(look),
        lagging=lagging,
        compared=compared,
        exhausted=tuple(sorted(raw["_id"] for raw in queue.retries.find({"exhausted": True}, {"_id": 1}))),
        fizzled=queue.fireworks.count_documents({"state": "FIZZLED"}),
    )


def _reservations(look: _Pass) -> tuple[int, ...]:
    found = []
    settings = look.queue.settings
    fields = {"fw_id": 1, "checkout": 1, "updated_on": 1, "launches": 1}
    for raw in look.queue.fireworks.find({"state": "RESERVED"}, fields):
        claim = raw.get("checkout")
        if claim:
            owner = ProcessIdentity.from_document(claim)
            dead = owner is not None and owner.fate == "dead"
            stuck = dead or look.now - float(claim["since"]) > settings.reserved_grace_s
        else:
            live = {"launch_id": {"$in": raw["launches"]}, "state": {"$in": ["RESERVED", "RUNNING"]}}
            # with such a launch it waits in a batch system's queue
            waiting = raw["launches"] and look.queue.launches.find_one(live, {"launch_id": 1})
            stuck = not waiting and _age(look, raw.get("updated_on")) > settings.stock_reserved_grace_s
        if stuck:
            found.append(int(raw["fw_id"]))
    return tuple(sorted(found))


def _locks(look: _Pass) -> tuple[int, ...]:
    found = []
    settings = look.queue.settings
    for raw in look.queue.workflows.find({"locked": True}, {"nodes": 1, "lock_lease": 1, "updated_on": 1}):
        lease = raw.get("lock_lease")
        if lease:
            owner = ProcessIdentity.from_document(lease)
            dead = owner is not None and owner.fate == "dead"
            stuck = dead or look.now - float(lease["since"]) > settings.lock_ttl_s
        else:
            # FireWorks' own lock has no time: the workflow's last change is the best that can be known at once
            stuck = _age(look, raw.get("updated_on")) > settings.stock_lock_ttl_s
        if stuck:
            found.append(int(raw["nodes"][0]))
    return tuple(sorted(found))


def _journals(queue: Queue) -> int:
    """Count additions that somebody left, and updates whose lock is gone."""
    count = 0
    begun = {entry["_id"] for entry in queue.journal.find({"kind": "add"}, {"_id": 1})}
    if begun:
        # most are in progress and last milliseconds
        time.sleep(_ADDITION_S)
        count += queue.journal.count_documents({"_id": {"$in": sorted(begun)}, "kind": "add"})
    for entry in queue.journal.find({"kind": "update"}, {"fw_id": 1, "token": 1}):
        held = {"nodes": entry["fw_id"], "lock_lease.token": entry["token"]}
        count += queue.workflows.find_one(held, {"_id": 1}) is None
    return int(count)


def _overdue(look: _Pass) -> tuple[int, ...]:
    late = look.now - look.queue.settings.reaper_lease_s
    query: dict[str, Any] = {"requeue.pending": True, "requeue.due": {"$lt": late}}
    return tuple(sorted({int(raw["fw_id"]) for raw in look.queue.launches.find(query, {"fw_id": 1})}))


def _lagging(look: _Pass, limit: int) -> tuple[tuple[int, ...], int]:
    """Return workflows behind their Fireworks, and how many were compared."""
    if limit == 0:
        return (), 0
    queue = look.queue
    found, compared = [], 0
    query: dict[str, Any] = {"state": {"$in": _ACTIVE_WORKFLOWS}, "locked": {"$exists": False}}
    fields = {"nodes": 1, "fw_states": 1, "parent_links": 1}
    for raw in queue.workflows.find(query, fields).sort("_id", -1).limit(limit):
        compared += 1
        wanted = {"fw_id": 1, "state": 1, "updated_on": 1, "spec._allow_fizzled_parents": 1}
        states = {doc["fw_id"]: doc for doc in queue.fireworks.find({"fw_id": {"$in": raw["nodes"]}}, wanted)}
        if _lags(look, raw, states):
            found.append(int(raw["nodes"][0]))
    return tuple(sorted(found)), compared
