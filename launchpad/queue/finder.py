"""What is stuck: pure reads, for the reaper, which mends it, and for `gapfactory doctor`, which tells people.

=====================================  ==============================================
what is found                          how it is recognised
=====================================  ==============================================
lock of a dead or lost holder          ``lock_lease``
lock without owner                     FireWorks' own, workflow unchanged for minutes
update cut short                       an entry in ``queue_journal`` without its lock
checkout cut short                     RESERVED, ``checkout`` of a dead process
RESERVED without a launch              left by FireWorks' launcher, minutes old
launch of a dead process               pid and start time on this host
launch without heartbeat               older than the lease
fault of the infrastructure in a task  launch with a pending ``requeue``
launch ended, Firework still RUNNING   states of the two
parents done, Firework still WAITING   states of a workflow that changed, or in turn
worker that was killed                 pid and start time on this host, or silent
=====================================  ==============================================

Every query is answered from an index on what is active or changed; none walks through what is only stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from launchpad.queue.identity import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from launchpad.queue.launchpad import Queue

__all__ = [
    "ACTIVE_WORKFLOWS",
    "Kind",
    "Look",
    "Stuck",
    "abandoned_locks",
    "behind",
    "changed_fireworks",
    "cut_checkouts",
    "cut_updates",
    "dead_workers",
    "ended_but_running",
    "given_up",
    "lost_launches",
    "next_page",
]

Kind = Literal["lock", "update", "reservation", "launch", "given up", "ended", "behind", "worker"]

#: States of workflows in which something may still happen, in the order in which they are swept.
#: One paused or defused task gives the whole workflow that state, whatever the others do.
ACTIVE_WORKFLOWS = ("RUNNING", "WAITING", "RESERVED", "FIZZLED", "READY", "PAUSED", "DEFUSED")

#: So many Fireworks are compared with their workflows by one query.
_TOGETHER = 5000

_WORKFLOW = {"nodes": 1, "fw_states": 1, "parent_links": 1}


@dataclass(frozen=True)
class Stuck:
    """Something that does not go on by itself.

    Parameters
    ----------
    kind
        What it is.
    fw_id
        The Firework (one of the workflow's); 0 for a worker.
    reason
        Why it is regarded as stuck, in one line.
    id
        Of the launch, workflow, journal entry or worker.
    condition
        What must still be so in its document when it is mended.
    overdue_s
        Of a launch that was given up: seconds since its next try was due, negative before.
    """

    kind: Kind
    fw_id: int
    reason: str
    id: Any = None
    condition: Mapping[str, Any] = field(default_factory=dict)
    overdue_s: float = 0.0


@dataclass(frozen=True)
class Look:
    """From where and when something is judged.

    Parameters
    ----------
    queue
        The queue; nothing is written to it.
    now
        Server's time, seconds since the epoch.
    grace
        Upper bound for every time limit that concerns processes which cannot be asked, in seconds.
    node
        Only what processes of this node hold, which nobody else can judge at once; None: everything.
    """

    queue: Queue
    now: float
    grace: float | None = None
    node: str | None = None

    def limit(self, seconds: float) -> float:
        """Return a time limit, shortened to the grace."""
        return seconds if self.grace is None else min(seconds, self.grace)

    def age(self, moment: object) -> float:
        """Return the age in seconds of a time that FireWorks stored, as an ISO string or as a date."""
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        if not isinstance(moment, datetime):
            return float("inf")
        return self.now - _seconds(moment)

    def of_node(self, path: str) -> dict[str, Any]:
        """Return the condition that a document's process belongs to the node that is looked at."""
        return {} if self.node is None else {f"{path}.node": self.node}

    def gone(self, holder: Mapping[str, Any], limit_s: float) -> str | None:
        """Return why the holder of a lease does not come back, or None; it is judged by process and by age."""
        owner = ProcessIdentity.from_document(holder)
        if owner is not None and owner.fate == "dead":
            return f"process {owner.pid} on {owner.host} died"
        held = self.now - float(holder["since"])
        return f"held for {held:.0f} s" if held > self.limit(limit_s) else None


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def abandoned_locks(look: Look, unchanged_s: Callable[[Mapping[str, Any]], float]) -> Iterator[Stuck]:
    """Yield locks whose holder is gone.

    Parameters
    ----------
    look
        From where.
    unchanged_s
        FireWorks' own lock has neither owner nor time: tells for how long its workflow has looked the same.
    """
    settings = look.queue.settings
    fields = {"nodes": {"$slice": 1}, "lock_lease": 1, "updated_on": 1}
    query = {"locked": True, **look.of_node("lock_lease")}
    for raw in list(look.queue.workflows.find(query, fields)):
        lease = raw.get("lock_lease")
        condition: dict[str, Any]
        if lease:
            reason = look.gone(lease, settings.lock_ttl_s)
            condition = {"lock_lease.token": lease["token"]}
        else:
            same = unchanged_s(raw)
            old = same >= look.limit(settings.stock_lock_ttl_s)
            reason = f"a lock without owner, unchanged for {same:.0f} s" if old else None
            condition = {"lock_lease": {"$exists": False}, "updated_on": raw.get("updated_on")}
        if reason is not None:
            yield Stuck("lock", int(raw["nodes"][0]), reason, raw["_id"], condition)


def cut_updates(look: Look) -> Iterator[Stuck]:
    """Yield updates of workflows that were recorded and whose lock is gone: somebody forced it open."""
    entries = list(look.queue.journal.find({"kind": "update"}, {"fw_id": 1, "token": 1}))
    if not entries:
        return
    held = look.queue.workflows.find(
        {
            "nodes": {"$in": [entry["fw_id"] for entry in entries]},
            "locked": True,  # 'lpad admin unlock' removes only this
            "lock_lease": {"$exists": True},
        },
        {"lock_lease.token": 1},
    )
    tokens = {raw["lock_lease"].get("token") for raw in held}
    for entry in entries:
        if entry["token"] not in tokens:
            yield Stuck(
                "update", int(entry["fw_id"]), "its lock is gone", entry["_id"], {"token": entry["token"]}
            )


def cut_checkouts(look: Look) -> Iterator[Stuck]:
    """Yield Fireworks that are RESERVED by a checkout which its process did not finish."""
    queue, settings = look.queue, look.queue.settings
    fields = {"fw_id": 1, "checkout": 1, "updated_on": 1, "launches": 1}
    stock: list[dict[str, Any]] = []
    for raw in list(queue.fireworks.find({"state": "RESERVED", **look.of_node("checkout")}, fields)):
        claim = raw.get("checkout")
        if not claim:
            stock.append(raw)
            continue
        # a living process is not asked either: should it go on with this checkout, its token is refused
        reason = look.gone(claim, settings.reserved_grace_s)
        if reason is not None:
            yield Stuck(
                "reservation", int(raw["fw_id"]), reason, condition={"checkout.token": claim.get("token")}
            )
    stock = [
        raw for raw in stock if look.age(raw.get("updated_on")) >= look.limit(settings.stock_reserved_grace_s)
    ]
    ids = [launch_id for raw in stock for launch_id in raw["launches"]]
    if ids:
        # with such a launch it waits in a batch system's queue, or the launch is judged by itself
        query = {"launch_id": {"$in": ids}, "state": {"$in": ["RESERVED", "RUNNING"]}}
        live = {found["launch_id"] for found in queue.launches.find(query, {"launch_id": 1})}
        stock = [raw for raw in stock if not live.intersection(raw["launches"])]
    for raw in stock:
        yield Stuck(
            "reservation",
            int(raw["fw_id"]),
            "RESERVED without a launch",
            condition={"checkout": {"$exists": False}},
        )


def lost_launches(look: Look) -> Iterator[Stuck]:
    """Yield running launches whose process is dead, or has been silent for longer than its lease."""
    fields = {
        "launch_id": 1,
        "fw_id": 1,
        "process": 1,
        "heartbeat_at": 1,
        "lease_s": 1,
        "host": 1,
        "state_history": {"$slice": -1},
    }
    for raw in list(look.queue.launches.find({"state": "RUNNING", **look.of_node("process")}, fields)):
        reason = _loss(look, raw)
        if reason is not None:
            yield Stuck("launch", int(raw["fw_id"]), reason, int(raw["launch_id"]))


def _loss(look: Look, raw: Mapping[str, Any]) -> str | None:
    settings = look.queue.settings
    process = ProcessIdentity.from_document(raw.get("process"))
    if process is None:
        silent = look.age(raw["state_history"][-1].get("updated_on"))
        if silent > look.limit(settings.stock_lease_s):
            return f"no ping from FireWorks' launcher on {raw.get('host')} for {silent:.0f} s"
        return None
    fate = process.fate
    if fate == "dead":
        return f"its worker (process {process.pid} on {process.host}) died"
    silent = look.now - float(raw.get("heartbeat_at") or 0.0)
    lease = float(raw.get("lease_s") or settings.lease_s)
    limit = settings.silent_process_s if fate == "alive" else look.limit(lease)
    if silent > limit:
        return f"no heartbeat from process {process.pid} on {process.host} for {silent:.0f} s"
    return None


def given_up(look: Look) -> Iterator[Stuck]:
    """Yield launches that were given up, and whose Fireworks wait for their next try."""
    fields = {"launch_id": 1, "fw_id": 1, "requeue": 1}
    for raw in list(look.queue.launches.find({"requeue.pending": True}, fields)):
        request = raw["requeue"]
        overdue = look.now - float(request["due"])
        yield Stuck(
            "given up", int(raw["fw_id"]), str(request.get("reason", "")), int(raw["launch_id"]), {}, overdue
        )


def ended_but_running(look: Look) -> Iterator[Stuck]:
    """Yield Fireworks that are RUNNING although their launches ended some time ago."""
    queue = look.queue
    running = {
        raw["fw_id"]: raw
        for raw in queue.fireworks.find({"state": "RUNNING"}, {"fw_id": 1, "launches": 1, "updated_on": 1})
    }
    if not running:
        return
    ids = sorted(launch_id for raw in running.values() for launch_id in raw["launches"])
    fields = {"launch_id": 1, "state": 1, "time_end": 1, "requeue.pending": 1}
    launches = {raw["launch_id"]: raw for raw in queue.launches.find({"launch_id": {"$in": ids}}, fields)}
    grace = look.limit(queue.settings.refresh_grace_s)
    for fw_id, mine in sorted(running.items()):
        known = [launches[launch_id] for launch_id in mine["launches"] if launch_id in launches]
        if any(
            raw["state"] in {"RUNNING", "RESERVED"} or raw.get("requeue", {}).get("pending") for raw in known
        ):
            continue
        # whoever ended it a moment ago is probably still at it
        moments = [raw.get("time_end") for raw in known] or [mine.get("updated_on")]
        if all(look.age(moment) >= grace for moment in moments):
            reason = "its launches have ended" if known else "none of its launches exists"
            yield Stuck("ended", int(fw_id), reason)


def dead_workers(look: Look) -> Iterator[Stuck]:
    """Yield entries of workers that could not note their own end: dead on this node, or silent on another one.

    With a node to look at only those on it, else only the others. One that was only cut off writes its entry anew
    with its next report.
    """
    here = look.queue.identity.node
    before = look.now - look.limit(look.queue.settings.lease_s)
    where = {"node": look.node} if look.node else {"node": {"$ne": here}, "heartbeat": {"$lt": before}}
    fields = dict.fromkeys(("host", "node", "pid", "start", "heartbeat"), 1)
    for entry in list(look.queue.workers.find({**where, "state": {"$ne": "stopped"}}, fields)):
        identity = ProcessIdentity.from_document(entry)
        if identity is None:
            continue
        name = f"process {identity.pid} on {identity.host}"
        if identity.fate == "dead":
            yield Stuck("worker", 0, f"{name} died", entry["_id"])
        elif not look.node:
            silent = look.now - float(entry["heartbeat"])
            condition = {"heartbeat": entry["heartbeat"]}
            yield Stuck("worker", 0, f"no word from {name} for {silent:.0f} s", entry["_id"], condition)


def changed_fireworks(queue: Queue, since: float, at_most: int) -> tuple[list[int], float | None]:
    """Return Fireworks that changed, or whose workflow did, and up to when that is complete (None: until now).

    Parameters
    ----------
    queue
        The queue.
    since
        Seconds since the epoch.
    at_most
        So many of each kind.
    """
    moment = datetime.fromtimestamp(since, UTC)
    found: set[int] = set()
    until: float | None = None
    # we write the one kind, FireWorks either; an index keeps them apart
    for bound in (moment.replace(tzinfo=None).isoformat(), moment):
        for collection, fields in (
            (queue.fireworks, {"fw_id": 1, "updated_on": 1}),
            (queue.workflows, {"nodes": {"$slice": 1}, "updated_on": 1}),
        ):
            cursor = collection.find({"updated_on": {"$gte": bound}}, fields).sort("updated_on", 1)
            rows = list(cursor.limit(at_most).batch_size(at_most))
            found.update(int(raw["fw_id"] if "fw_id" in raw else raw["nodes"][0]) for raw in rows)
            if len(rows) == at_most:
                last = rows[-1]["updated_on"]
                end = _seconds(datetime.fromisoformat(last) if isinstance(last, str) else last)
                until = end if until is None else min(until, end)
    return sorted(found), until


def next_page(
    queue: Queue, cursor: Mapping[str, Any] | None, at_most: int
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the next active workflows of a sweep through all, and the cursor after them (None: that was all).

    The pages go through the index of state and id, one state after the other, so that what is stored and done costs
    nothing.
    """
    state, after = (cursor["state"], cursor["after"]) if cursor else (ACTIVE_WORKFLOWS[0], None)
    rows: list[dict[str, Any]] = []
    for name in ACTIVE_WORKFLOWS[ACTIVE_WORKFLOWS.index(state) :]:
        query: dict[str, Any] = {"state": name}
        if after is not None:
            query["_id"] = {"$gt": after}
        left = at_most - len(rows)
        page = list(
            queue.workflows.find(query, {**_WORKFLOW, "locked": 1})
            .sort("_id", 1)
            .limit(left)
            .batch_size(left)
        )
        rows += page
        if len(page) == left:
            return rows, {"state": name, "after": page[-1]["_id"]}
        after = None
    return rows, None


def behind(
    look: Look, *, fw_ids: Iterable[int] = (), workflows: Iterable[dict[str, Any]] = ()
) -> Iterator[Stuck]:
    """Yield workflows whose document, or whose waiting Fireworks, lag behind; a query for thousands of them.

    Parameters
    ----------
    look
        From where.
    fw_ids
        Look at the workflows of these Fireworks.
    workflows
        And at these, which have been read (see `next_page`).
    """
    rows = {raw["_id"]: raw for raw in workflows}
    wanted = sorted(set(fw_ids))
    for start in range(0, len(wanted), _TOGETHER):
        query = {"nodes": {"$in": wanted[start : start + _TOGETHER]}}
        rows.update({raw["_id"]: raw for raw in look.queue.workflows.find(query, {**_WORKFLOW, "locked": 1})})
    # somebody is at work in a locked one, or the lock is stuck, which is found by itself
    free = [raw for raw in rows.values() if "locked" not in raw]
    while free:
        batch: list[dict[str, Any]] = []
        size = 0
        while free and (not batch or size + len(free[-1]["nodes"]) <= _TOGETHER):
            batch.append(free.pop())
            size += len(batch[-1]["nodes"])
        yield from _compare(look, batch)


def _compare(look: Look, workflows: list[dict[str, Any]]) -> Iterator[Stuck]:
    nodes = [node for raw in workflows for node in raw["nodes"]]
    fields = {"fw_id": 1, "state": 1, "updated_on": 1, "spec._allow_fizzled_parents": 1}
    fireworks = {
        raw["fw_id"]: raw
        for raw in look.queue.fireworks.find({"fw_id": {"$in": nodes}}, fields).batch_size(len(nodes) + 1)
    }
    for raw in workflows:
        mine = {node: fireworks[node] for node in raw["nodes"] if node in fireworks}
        reason = _lag(look, raw, mine)
        if reason is not None:
            yield Stuck("behind", int(raw["nodes"][0]), reason, raw["_id"])


def _lag(look: Look, raw: Mapping[str, Any], fireworks: Mapping[int, Mapping[str, Any]]) -> str | None:
    """Return how a workflow has been behind its Fireworks for longer than the grace time, or None."""
    final = {"COMPLETED", "FIZZLED"}
    grace = look.limit(look.queue.settings.refresh_grace_s)
    for fw_id, found in fireworks.items():
        shown = raw["fw_states"].get(str(fw_id))
        differs = found["state"] != shown and (found["state"] in final or shown in final)
        if differs and look.age(found.get("updated_on")) >= grace:
            return f"Firework {fw_id} is {found['state']}, its workflow says {shown}"
        if found["state"] == "WAITING":
            parents = [fireworks.get(parent, {}) for parent in raw["parent_links"].get(str(fw_id), [])]
            done = {"COMPLETED"} | (
                {"FIZZLED"} if found.get("spec", {}).get("_allow_fizzled_parents") else set()
            )
            if all(
                parent.get("state") in done and look.age(parent.get("updated_on")) >= grace
                for parent in parents
            ):
                return f"Firework {fw_id} is WAITING, its parents are done"
    return None
