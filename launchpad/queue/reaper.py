"""The reaper: finds every kind of stuck Firework and puts it right, without anybody's help.

=====================================  ==============================================  =======================
what is found                          how it is recognised                            what is done
=====================================  ==============================================  =======================
result spooled on this host            files in the spool directory                    delivered
addition or update cut short           an entry in ``queue_journal``                   carried out
lock of a dead or lost holder          ``lock_lease``                                  taken over, repaired
lock without owner                     FireWorks' own, workflow unchanged for minutes  released, repaired
checkout cut short                     RESERVED, ``checkout`` of a dead process        READY again
RESERVED without a launch              left by FireWorks' launcher, minutes old        READY again
launch of a dead process               pid and start time on this host                 run again, bounded
launch without heartbeat               older than the lease                            run again, bounded
fault of the infrastructure in a task  launch with a pending ``requeue``               run again after a pause
launch ended, Firework still RUNNING   states of the two                               workflow repaired
parents done, Firework still WAITING   states in an active workflow                    workflow repaired
worker that was killed                 pid and start time on this host                 its entry says so
=====================================  ==============================================  =======================
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fireworks.core.launchpad import LockedWorkflowError

from launchpad.queue import repair
from launchpad.queue.checkout import iso_now
from launchpad.queue.completion import end_without_result
from launchpad.queue.identity import ProcessIdentity
from launchpad.queue.journal import finish_additions
from launchpad.queue.lock import WorkflowLock

if TYPE_CHECKING:
    from launchpad.queue.launchpad import Queue

__all__ = ["ReapReport", "reap"]

logger = logging.getLogger("launchpad.queue")

#: Workers that ended are listed (on request) for a day.
_REMEMBER_WORKERS_S = 86_400.0

_ACTIVE_WORKFLOWS = ["READY", "RESERVED", "RUNNING", "WAITING", "FIZZLED"]


@dataclass(frozen=True)
class ReapReport:
    """What one pass of the reaper did; ids are of Fireworks unless said otherwise.

    Parameters
    ----------
    skipped
        Another reaper is at work; nothing was looked at.
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
        Workflows (by one of their Fireworks) left for the next pass because somebody held their lock.
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
    now: float
    grace: float | None
    found: dict[str, list[int]] = field(default_factory=dict)

    def note(self, name: str, number: int) -> None:
        numbers = self.found.setdefault(name, [])
        if number not in numbers:
            numbers.append(number)

    def sorted(self) -> dict[str, Any]:
        return {name: tuple(sorted(numbers)) for name, numbers in self.found.items()}

    def limit(self, seconds: float) -> float:
        """Return a time limit, shortened to the caller's grace."""
        return seconds if self.grace is None else min(seconds, self.grace)


def reap(
    queue: Queue, *, now: float | None = None, grace: float | None = None, deep: bool = True
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
        Also compare every active workflow with its Fireworks (a query per workflow).

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
    token = _lease(queue, now)
    if token is None:
        return ReapReport(skipped=True)
    work = _Pass(queue, now, grace)
    try:
        delivered = queue.spool.deliver(queue) if queue.spool is not None else 0
        journals = finish_additions(queue)
        journals += _locks_and_journals(work)
        _reservations(work)
        _lost_launches(work)
        _pending(work)
        _ended_but_running(work)
        _departed_workers(work)
        if deep:
            _inconsistent_workflows(work)
    finally:
        queue.leases.delete_one({"_id": "reaper", "token": token})
    report = ReapReport(
        delivered=delivered,
        journals=journals,
        **work.sorted(),
    )
    if not report.quiet:
        logger.info("reaper: %s", {name: value for name, value in report.document().items() if value})
    return report


def _lease(queue: Queue, now: float) -> str | None:
    """Become the only reaper, or return None."""
    from pymongo.errors import DuplicateKeyError

    token = uuid.uuid4().hex
    lease = {**queue.identity.document(), "token": token, "until": now + queue.settings.reaper_lease_s}
    try:
        queue.leases.insert_one({"_id": "reaper", **lease})
    except DuplicateKeyError:
        held = queue.leases.find_one({"_id": "reaper"})
        if held is None:
            return None  # just released; the next pass is near
        owner = ProcessIdentity.from_document(held)
        # one's own is left from a pass that lost the database
        living = owner is None or (owner.fate != "dead" and owner != queue.identity)
        if held["until"] > now and living:
            return None
        taken = queue.leases.update_one({"_id": "reaper", "token": held["token"]}, {"$set": lease})
        return token if taken.matched_count == 1 else None
    return token


def _repair(work: _Pass, fw_id: int, *, name: str) -> None:
    """Lock the workflow of a Firework, bring it in line, and note what changed."""
    try:
        with WorkflowLock(work.queue, fw_id, wait_s=1.0) as lock:
            changed = repair.repair_workflow(work.queue, lock)
            if lock.taken_over:
                work.note(name, fw_id)
        for number in changed:
            work.note("repaired", number)
    except LockedWorkflowError:
        work.note("busy", fw_id)


def _locks_and_journals(work: _Pass) -> int:
    """Take over abandoned locks, release FireWorks' forgotten ones, finish updates that were cut short."""
    queue = work.queue
    for raw in list(queue.workflows.find({"locked": True}, {"nodes": 1, "lock_lease": 1, "updated_on": 1})):
        lease = raw.get("lock_lease")
        fw_id = int(raw["nodes"][0])
        if lease:
            owner = ProcessIdentity.from_document(lease)
            fate = owner.fate if owner else "unknown"
            old = work.now - float(lease["since"]) > work.limit(queue.settings.lock_ttl_s)
            if fate == "dead" or old:
                _release(queue, raw, {"lock_lease.token": lease["token"]})
                work.note("locks", fw_id)
                _repair(work, fw_id, name="locks")
        elif _unchanged(
            work, f"lock:{raw['_id']}", str(raw.get("updated_on")), queue.settings.stock_lock_ttl_s
        ):
            _release(queue, raw, {"lock_lease": {"$exists": False}, "updated_on": raw.get("updated_on")})
            work.note("locks", fw_id)
            _repair(work, fw_id, name="locks")
    count = 0
    for entry in list(queue.journal.find({"kind": "update"}, {"fw_id": 1, "token": 1})):
        # under its lock, the holder is at it (or was dealt with above); without it, somebody forced the lock open
        if queue.workflows.find_one(
            {"nodes": entry["fw_id"], "lock_lease.token": entry["token"]}, {"_id": 1}
        ):
            continue
        _repair(work, int(entry["fw_id"]), name="locks")
        count += queue.journal.find_one({"_id": entry["_id"], "token": entry["token"]}) is None
    return count


def _release(queue: Queue, raw: dict[str, Any], condition: dict[str, Any]) -> None:
    queue.workflows.update_one(
        {"_id": raw["_id"], "locked": True, **condition}, {"$unset": {"locked": "", "lock_lease": ""}}
    )


def _unchanged(work: _Pass, name: str, value: str, limit: float) -> bool:
    """Return whether something without a time of its own has looked the same for longer than a limit.

    What was seen first, and when, is kept in ``queue_leases``, so that it survives the reaper's process.
    """
    seen = work.queue.leases.find_one({"_id": f"seen:{name}"})
    if seen is None or seen["value"] != value:
        work.queue.leases.update_one(
            {"_id": f"seen:{name}"}, {"$set": {"value": value, "since": work.now}}, upsert=True
        )
        return work.limit(limit) <= 0
    if work.now - seen["since"] < work.limit(limit):
        return False
    work.queue.leases.delete_one({"_id": f"seen:{name}"})
    return True


def _reservations(work: _Pass) -> None:
    """Take back checkouts that their process did not finish."""
    queue = work.queue
    fields = {"fw_id": 1, "checkout": 1, "updated_on": 1, "launches": 1}
    for raw in list(queue.fireworks.find({"state": "RESERVED"}, fields)):
        claim = raw.get("checkout")
        condition: dict[str, Any] = {"fw_id": raw["fw_id"], "state": "RESERVED"}
        if claim:
            owner = ProcessIdentity.from_document(claim)
            fate = owner.fate if owner else "unknown"
            old = work.now - float(claim["since"]) > work.limit(queue.settings.reserved_grace_s)
            # a living process is not asked either: should it go on with this checkout, its token is refused
            if fate != "dead" and not old:
                continue
            condition["checkout.token"] = claim["token"]
        else:
            live = {"launch_id": {"$in": raw["launches"]}, "state": {"$in": ["RESERVED", "RUNNING"]}}
            if raw["launches"] and queue.launches.find_one(live, {"launch_id": 1}):
                continue  # a reservation in a batch system's queue, or a launch that is judged by itself
            if _age(work, raw.get("updated_on")) < work.limit(queue.settings.stock_reserved_grace_s):
                continue
            condition["checkout"] = {"$exists": False}
        back = queue.fireworks.update_one(
            condition, {"$set": {"state": "READY", "updated_on": iso_now()}, "$unset": {"checkout": ""}}
        )
        if back.matched_count:
            work.note("reservations", int(raw["fw_id"]))


def _age(work: _Pass, moment: object) -> float:
    """Return the age in seconds of a time that FireWorks stored, as an ISO string or as a date."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        return float("inf")
    return work.now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _lost_launches(work: _Pass) -> None:
    """Give up running launches whose process is dead, or has been silent for longer than its lease."""
    queue = work.queue
    fields = {"launch_id": 1, "fw_id": 1, "process": 1, "heartbeat_at": 1, "state_history": 1, "host": 1}
    for raw in list(queue.launches.find({"state": "RUNNING"}, fields)):
        reason = _loss(work, raw)
        if reason is None:
            continue
        if end_without_result(queue, raw["launch_id"], reason, kind="dead", due=work.now):
            work.note("lost", int(raw["launch_id"]))
            logger.warning("launch %d of Firework %d is lost: %s", raw["launch_id"], raw["fw_id"], reason)


def _loss(work: _Pass, raw: dict[str, Any]) -> str | None:
    """Return why a running launch is regarded as lost, or None if it is not."""
    settings = work.queue.settings
    process = ProcessIdentity.from_document(raw.get("process"))
    if process is None:
        silent = _age(work, raw["state_history"][-1].get("updated_on"))
        if silent > work.limit(settings.stock_lease_s):
            return f"no ping from FireWorks' launcher on {raw.get('host')} for {silent:.0f} s"
        return None
    fate = process.fate
    if fate == "dead":
        return f"its worker (process {process.pid} on {process.host}) died"
    silent = work.now - float(raw.get("heartbeat_at") or 0.0)
    limit = settings.silent_process_s if fate == "alive" else work.limit(settings.lease_s)
    if silent > limit:
        return f"no heartbeat from process {process.pid} on {process.host} for {silent:.0f} s"
    return None


def _pending(work: _Pass) -> None:
    """Run again, when their time has come, Fireworks whose launch was given up."""
    fields = {"launch_id": 1, "fw_id": 1, "requeue": 1}
    for raw in list(work.queue.launches.find({"requeue.pending": True}, fields)):
        fw_id = int(raw["fw_id"])
        if raw["requeue"]["due"] > work.now:
            work.note("postponed", fw_id)
            continue
        try:
            outcome = repair.settle(work.queue, raw["launch_id"])
        except LockedWorkflowError:
            work.note("busy", fw_id)
            continue
        if outcome in {"rerun", "exhausted"}:
            work.note(outcome, fw_id)


def _ended_but_running(work: _Pass) -> None:
    """Repair workflows in which a Firework is RUNNING although its launches ended some time ago."""
    queue = work.queue
    running = {
        raw["fw_id"]: raw["launches"]
        for raw in queue.fireworks.find({"state": "RUNNING"}, {"fw_id": 1, "launches": 1})
    }
    ids = sorted(launch_id for launches in running.values() for launch_id in launches)
    fields = {"launch_id": 1, "state": 1, "time_end": 1, "requeue.pending": 1}
    launches = {raw["launch_id"]: raw for raw in queue.launches.find({"launch_id": {"$in": ids}}, fields)}
    for fw_id, mine in sorted(running.items()):
        known = [launches[launch_id] for launch_id in mine if launch_id in launches]
        if any(
            raw["state"] in {"RUNNING", "RESERVED"} or raw.get("requeue", {}).get("pending") for raw in known
        ):
            continue
        if any(_age(work, raw.get("time_end")) < work.limit(queue.settings.refresh_grace_s) for raw in known):
            continue  # whoever ended it is probably still at it
        _repair(work, int(fw_id), name="locks")


def _departed_workers(work: _Pass) -> None:
    """Note the end of workers that could not do so themselves; forget those that ended long ago."""
    workers = work.queue.workers
    for entry in list(
        workers.find({"state": {"$ne": "stopped"}}, {"host": 1, "node": 1, "pid": 1, "start": 1})
    ):
        identity = ProcessIdentity.from_document(entry)
        if identity is not None and identity.fate == "dead":
            workers.update_one(
                {"_id": entry["_id"]}, {"$set": {"state": "stopped", "fw_id": None, "killed": True}}
            )
    workers.delete_many({"state": "stopped", "heartbeat": {"$lt": work.now - _REMEMBER_WORKERS_S}})


def _inconsistent_workflows(work: _Pass) -> None:
    """Repair workflows whose document, or whose waiting Fireworks, lag behind."""
    queue = work.queue
    fields = {"nodes": 1, "fw_states": 1, "parent_links": 1}
    for raw in list(
        queue.workflows.find({"state": {"$in": _ACTIVE_WORKFLOWS}, "locked": {"$exists": False}}, fields)
    ):
        states = {
            found["fw_id"]: found
            for found in queue.fireworks.find(
                {"fw_id": {"$in": raw["nodes"]}},
                {"fw_id": 1, "state": 1, "updated_on": 1, "spec._allow_fizzled_parents": 1},
            )
        }
        if _lags(work, raw, states):
            _repair(work, int(raw["nodes"][0]), name="locks")


def _lags(work: _Pass, raw: dict[str, Any], fireworks: dict[int, dict[str, Any]]) -> bool:
    """Return whether a workflow has been behind its Fireworks for longer than the grace time."""
    final = {"COMPLETED", "FIZZLED"}
    grace = work.limit(work.queue.settings.refresh_grace_s)
    for fw_id, found in fireworks.items():
        shown = raw["fw_states"].get(str(fw_id))
        differs = found["state"] != shown and (found["state"] in final or shown in final)
        if differs and _age(work, found.get("updated_on")) >= grace:
            return True
        if found["state"] == "WAITING":
            parents = [fireworks.get(parent, {}) for parent in raw["parent_links"].get(str(fw_id), [])]
            done = {"COMPLETED"} | (
                {"FIZZLED"} if found.get("spec", {}).get("_allow_fizzled_parents") else set()
            )
            if all(
                parent.get("state") in done and _age(work, parent.get("updated_on")) >= grace
                for parent in parents
            ):
                return True
    return False
