"""The reaper: puts right what `launchpad.queue.finder` finds, without anybody's help.

====================================== =======================
what is found                          what is done
====================================== =======================
result spooled on this host            delivered
addition or update cut short           carried out
lock whose holder is gone              taken over, repaired
lock without owner, unchanged          released, repaired
checkout cut short                     READY again
RESERVED without a launch              READY again
launch of a dead process, or silent    run again, bounded
fault of the infrastructure in a task  run again after a pause
launch ended, Firework still RUNNING   workflow repaired
parents done, Firework still WAITING   workflow repaired
worker that was killed                 its entry says so
====================================== =======================

A pass has two parts. What processes of *this node* hold is looked at by every supervisor in every pass, because only
they can tell a dead process from a silent one. Everything else is looked at by one reaper at a time for all of them,
and no more often than needed, however many there are.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fireworks.core.launchpad import LockedWorkflowError
from pymongo.errors import PyMongoError

from launchpad.logs import event
from launchpad.queue import finder, repair
from launchpad.queue.completion import end_without_result
from launchpad.queue.finder import Look, Stuck
from launchpad.queue.identity import ProcessIdentity
from launchpad.queue.journal import finish_additions
from launchpad.queue.lock import NoWorkflowError, WorkflowLock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launchpad.queue.launchpad import Queue

__all__ = ["ReapReport", "reap"]

logger = logging.getLogger("launchpad.queue")

#: Workers that ended are listed (on request) for a day, and what was seen of a lock is kept as long (seconds).
_REMEMBER_S = 86_400.0


@dataclass(frozen=True)
class ReapReport:
    """What one pass of the reaper did; ids are of Fireworks unless said otherwise.

    Parameters
    ----------
    skipped
        Another reaper is at work, or was a moment ago: only what belongs to this node was looked at.
    delivered
        Number of spooled results delivered.
    journals
        Number of additions and updates carried out.
    locks
        Workflows (by one of their Fireworks) whose lock was taken from a lost holder.
    reservations
        Checkouts taken back.
    lost
        Launch ids whose process is dead or silent.
    rerun
        Put back to run again.
    exhausted
        Left FIZZLED because their bound of tries is reached.
    postponed
        Waiting for their next try.
    repaired
        Brought in line with their launches and parents.
    busy
        Workflows (by one of their Fireworks) left for a later pass because somebody held their lock.
    broken
        Fireworks left FIZZLED because their workflow cannot be brought in line: for people.
    """

    skipped: bool = False
    delivered: int = 0
    journals: int = 0
    locks: tuple[int, ...] = ()
    reservations: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    rerun: tuple[int, ...] = ()
    exhausted: tuple[int, ...] = ()
    postponed: tuple[int, ...] = ()
    repaired: tuple[int, ...] = ()
    busy: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()

    @property
    def quiet(self) -> bool:
        """Whether nothing had to be done."""
        return not any(
            (
                self.delivered,
                self.journals,
                self.locks,
                self.reservations,
                self.lost,
                self.rerun,
                self.exhausted,
                self.repaired,
                self.broken,
            )
        )

    def document(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


@dataclass
class _Pass:
    queue: Queue
    look: Look
    found: dict[str, list[int]] = field(default_factory=dict)

    def note(self, name: str, number: int) -> None:
        numbers = self.found.setdefault(name, [])
        if number not in numbers:
            numbers.append(number)

    def sorted(self) -> dict[str, Any]:
        return {name: tuple(sorted(numbers)) for name, numbers in self.found.items()}


def reap(
    queue: Queue,
    *,
    now: float | None = None,
    grace: float | None = None,
    deep: bool = True,
    every_s: float = 0.0,
    deep_every_s: float = 0.0,
) -> ReapReport:
    """Make one pass; safe while workers and other reapers run, and when repeated.

    Parameters
    ----------
    queue
        The queue.
    now
        Server's time, seconds since the epoch (default: asked from the server); tests look into the future
        with it.
    grace
        Upper bound for every time limit of the settings that concerns processes which cannot be asked, in
        seconds.
    deep
        Also compare workflows with their Fireworks: those that changed since the last deep pass, and a page of all.
    every_s, deep_every_s
        Leave out what concerns all nodes, or the deep part, if any reaper did it less than this ago (seconds).

    Returns
    -------
    ReapReport
        What was found and done.

    Raises
    ------
    pymongo.errors.PyMongoError
        The database is away; the next pass continues.
    """
    if now is None:
        queue.clock.synchronise()
        now = queue.now()
    delivered = queue.spool.deliver(queue) if queue.spool is not None else 0
    work = _Pass(queue, Look(queue, now, grace))
    mine = Look(queue, now, grace, node=queue.identity.node)
    _mend_holders(work, mine)
    _note_dead_workers(work, mine)
    journals = 0
    token = _lease(queue, now, every_s)
    if token is not None:
        try:
            journals = _mend_all(work, deep=deep, deep_every_s=deep_every_s)
        finally:
            queue.leases.update_one({"_id": "reaper", "token": token}, {"$set": {"token": "", "at": now}})
    report = ReapReport(skipped=token is None, delivered=delivered, journals=journals, **work.sorted())
    if not report.quiet:
        found = {name: value for name, value in report.document().items() if value}
        logger.info("reaper: %s", found, extra=event("reaper.pass", **found))
    return report


def _lease(queue: Queue, now: float, every_s: float) -> str | None:
    """Become the only reaper, or return None."""
    from pymongo.errors import DuplicateKeyError

    token = uuid.uuid4().hex
    lease = {**queue.identity.document(), "token": token, "until": now + queue.settings.reaper_lease_s}
    held = queue.leases.find_one({"_id": "reaper"})
    if held is None:
        try:
            queue.leases.insert_one({"_id": "reaper", **lease})
        except DuplicateKeyError:
            return None  # somebody else was first
        return token
    if held["token"]:
        owner = ProcessIdentity.from_document(held)
        # one's own is left from a pass that lost the database
        living = owner is None or (owner.fate != "dead" and owner != queue.identity)
        if held["until"] > now and living:
            return None
    elif 0.0 <= now - float(held["at"]) < every_s:
        return None
    condition = {"_id": "reaper", "token": held["token"], "at": held.get("at")}
    taken = queue.leases.update_one(condition, {"$set": lease})
    return token if taken.matched_count == 1 else None


def _mend_holders(work: _Pass, look: Look) -> None:
    """Put right what processes hold that do not come back: locks, checkouts, launches."""
    queue = work.queue
    for stuck in finder.abandoned_locks(look, lambda raw: _unchanged_s(work, raw)):
        # a lease is not removed: whoever comes first has to know that there may be a change to finish
        stock = "lock_lease.token" not in stuck.condition
        queue.workflows.update_one(
            {"_id": stuck.id, "locked": True, **stuck.condition},
            {"$unset": {"locked": ""}} if stock else {"$set": {"lock_lease.abandoned": True}},
        )
        queue.leases.delete_one({"_id": f"seen:lock:{stuck.id}"})
        logger.warning(
            "released the lock of the workflow of Firework %d: %s",
            stuck.fw_id,
            stuck.reason,
            extra=event("lock.released", fw_id=stuck.fw_id),
        )
        work.note("locks", stuck.fw_id)
        _repair(work, stuck)
    for stuck in finder.cut_checkouts(look):
        back = queue.fireworks.update_one(
            {"fw_id": stuck.fw_id, "state": "RESERVED", **stuck.condition},
            {"$set": {"state": "READY", "updated_on": queue.stamp()}, "$unset": {"checkout": ""}},
        )
        if back.matched_count:
            work.note("reservations", stuck.fw_id)
    for stuck in finder.lost_launches(look):
        if end_without_result(queue, stuck.id, stuck.reason, kind="dead", due=look.now):
            work.note("lost", stuck.id)
            logger.warning(
                "launch %d of Firework %d is lost: %s",
                stuck.id,
                stuck.fw_id,
                stuck.reason,
                extra=event("launch.lost", launch_id=stuck.id, fw_id=stuck.fw_id, reason=stuck.reason),
            )
            _settle(work, stuck)


def _mend_all(work: _Pass, *, deep: bool, deep_every_s: float) -> int:
    """Put right what does not depend on the node; return the number of additions and updates carried out."""
    queue, look = work.queue, work.look
    journals = finish_additions(queue)
    _mend_holders(work, look)
    for stuck in finder.cut_updates(look):
        _repair(work, stuck)
        journals += queue.journal.find_one({"_id": stuck.id, **stuck.condition}) is None
    for stuck in finder.given_up(look):
        if stuck.overdue_s < 0:
            work.note("postponed", stuck.fw_id)
        else:
            _settle(work, stuck)
    for stuck in finder.ended_but_running(look):
        _repair(work, stuck)
    _note_dead_workers(work, look)
    if deep:
        _compare(work, deep_every_s)
    return journals


def _settle(work: _Pass, stuck: Stuck) -> None:
    """Decide what becomes of a Firework whose launch was given up."""
    try:
        outcome = repair.settle(work.queue, stuck.id)
    except LockedWorkflowError:
        work.note("busy", stuck.fw_id)
        return
    except PyMongoError:
        raise
    except Exception as error:  # noqa: BLE001 - one broken workflow must not stop the reaper for all others
        _leave_to_people(work, stuck, error)
        return
    if outcome in {"rerun", "exhausted"}:
        work.note(outcome, stuck.fw_id)


def _repair(work: _Pass, stuck: Stuck) -> None:
    """Lock the workflow of a Firework, bring it in line, and note what changed."""
    fw_id = stuck.fw_id
    try:
        with WorkflowLock(work.queue, fw_id, wait_s=1.0) as lock:
            changed = repair.repair_workflow(work.queue, lock)
            if lock.taken_over:
                work.note("locks", fw_id)
        for number in changed:
            work.note("repaired", number)
    except LockedWorkflowError:
        work.note("busy", fw_id)
    except NoWorkflowError:
        if repair.repair_alone(work.queue, fw_id):
            work.note("repaired", fw_id)
    except PyMongoError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        _leave_to_people(work, stuck, error)


def _leave_to_people(work: _Pass, stuck: Stuck, error: Exception) -> None:
    """Note that something cannot be mended, so that it is seen, and not found by every pass."""
    queue, fw_id = work.queue, stuck.fw_id
    logger.error(
        "the workflow of Firework %d cannot be brought in line (%s): it is left FIZZLED for people",
        fw_id,
        stuck.reason,
        exc_info=error,
        extra=event("workflow.broken", fw_id=fw_id),
    )
    work.note("broken", fw_id)
    if stuck.kind in {"launch", "given up"}:
        queue.launches.update_one(
            {"launch_id": stuck.id}, {"$set": {"requeue.pending": False, "requeue.outcome": "broken"}}
        )
    if stuck.kind in {"launch", "given up", "ended"}:
        # not found again, and shown where failures are looked for
        queue.fireworks.update_one({"fw_id": fw_id, "state": "RUNNING"}, {"$set": {"state": "FIZZLED"}})
        queue.workflows.update_one(
            {"nodes": fw_id}, {"$set": {"state": "FIZZLED", f"fw_states.{fw_id}": "FIZZLED"}}
        )


def _unchanged_s(work: _Pass, raw: Mapping[str, Any]) -> float:
    """Return for how long the workflow of a lock without owner has looked the same (seconds).

    What was seen first, and when, is kept in ``queue_leases``, so that it survives the reaper's process.
    """
    leases, now = work.queue.leases, work.look.now
    name, value = f"seen:lock:{raw['_id']}", str(raw.get("updated_on"))
    seen = leases.find_one({"_id": name})
    if seen is None or seen["value"] != value:
        leases.update_one({"_id": name}, {"$set": {"value": value, "since": now}}, upsert=True)
        return 0.0
    return now - float(seen["since"])


def _note_dead_workers(work: _Pass, look: Look) -> None:
    """Note the end of workers that could not do so themselves."""
    for stuck in finder.dead_workers(look):
        ended = {"state": "stopped", "fw_id": None, "killed": True}
        work.queue.workers.update_one({"_id": stuck.id, **stuck.condition}, {"$set": ended})


def _compare(work: _Pass, every_s: float) -> None:
    """Repair workflows that lag behind their Fireworks, and forget what is old.

    Looked at are those that changed since the last time (and a little before, because a change is judged only when
    it is a grace time old), and a page of all active ones, so that nothing is missed for good: a change of which no
    time of ours tells, such as one made by a host whose clock is wrong.
    """
    queue, look = work.queue, work.look
    state = queue.leases.find_one({"_id": "sweep"}) or {}
    at = float(state.get("at", 0.0))
    if 0.0 <= look.now - at < every_s:
        return
    at_most = queue.settings.compared_workflows
    since = min(float(state.get("since", look.now)), look.now) - 2.0 * queue.settings.refresh_grace_s
    changed, until = finder.changed_fireworks(queue, since, at_most)
    page, cursor = finder.next_page(queue, state.get("cursor"), at_most)
    for stuck in finder.behind(look, fw_ids=changed, workflows=page):
        logger.warning(
            "the workflow of Firework %d is behind: %s",
            stuck.fw_id,
            stuck.reason,
            extra=event("workflow.behind", fw_id=stuck.fw_id),
        )
        _repair(work, stuck)
    # where so much changed that it was not all seen, the next pass goes on from there
    # (a little further each time: more than it looks at may have changed at one moment, which is left to the sweep)
    past = look.now if until is None else max(until, since + 0.001) + 2.0 * queue.settings.refresh_grace_s
    queue.leases.update_one(
        {"_id": "sweep"},
        {"$set": {"at": look.now, "since": min(past, look.now), "cursor": cursor}},
        upsert=True,
    )
    old = {"$lt": look.now - _REMEMBER_S}
    queue.workers.delete_many({"heartbeat": old})
    queue.leases.delete_many({"value": {"$exists": True}, "since": old})
