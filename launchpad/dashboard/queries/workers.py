"""What the page of workers reads: hosts, their processes, what each is at and how fast it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["Host", "WorkerRow", "worker_hosts"]


@dataclass(frozen=True)
class WorkerRow:
    """One process.

    Attributes
    ----------
    id, kind, pid
        Entry, ``worker``, ``supervisor`` or ``push``, process id on its host.
    condition
        ``idle``, ``running``, ``draining`` and the like as it said itself; ``silent`` where it has not been heard of
        for long, ``dead`` where it ended without a word.
    asked
        Whether it was asked to stop.
    site
        The batch job that it runs in, empty outside of one.
    categories, campaigns
        Kinds of task and campaigns that it works for; empty: all.
    cores, memory_gb
        What one task may use, where that is said.
    fw_id, task
        The task that it is at and its name, None and empty without one.
    done, failed
        Tasks so far.
    per_hour
        Tasks in an hour of its life, None where it has not lived long enough to tell.
    started, heartbeat
        Seconds since the epoch.
    """

    id: str
    kind: str
    pid: int
    condition: str
    asked: bool
    site: str
    categories: tuple[str, ...]
    campaigns: tuple[str, ...]
    cores: int | None
    memory_gb: float | None
    fw_id: int | None
    task: str
    done: int
    failed: int
    per_hour: float | None
    started: float | None
    heartbeat: float | None

    @property
    def living(self) -> bool:
        """Whether asking it to stop means anything."""
        return self.condition not in {"dead", "stopped"}


@dataclass(frozen=True)
class Host:
    """A machine with its processes."""

    name: str
    rows: tuple[WorkerRow, ...]

    @property
    def workers(self) -> int:
        """How many of its processes run tasks."""
        return sum(row.kind == "worker" and row.living for row in self.rows)

    @property
    def busy(self) -> int:
        """How many of them are at a task."""
        return sum(row.fw_id is not None and row.living for row in self.rows)

    @property
    def per_hour(self) -> float:
        """Tasks in an hour of all of them."""
        return sum(row.per_hour or 0.0 for row in self.rows if row.living)


def worker_hosts(database: Database[Any], *, silent_s: float = 300.0) -> list[Host]:
    """Return the machines that have workers, supervisors first on each.

    Parameters
    ----------
    database
        The database.
    silent_s
        A process on another host that has not reported for this long is shown as silent.
    """
    from launchpad.workers.registry import list_workers

    entries = list_workers(database, silent_s=silent_s)
    at = sorted({int(entry["fw_id"]) for entry in entries if entry.get("fw_id") is not None})
    names = {
        task["fw_id"]: str(task.get("name") or "")
        for task in database.fireworks.find({"fw_id": {"$in": at}}, {"fw_id": 1, "name": 1})
    }
    hosts: dict[str, list[WorkerRow]] = {}
    for entry in entries:
        hosts.setdefault(str(entry.get("host") or "?"), []).append(_row(entry, names))
    order = {"supervisor": 0, "push": 1}
    return [
        Host(name, tuple(sorted(rows, key=lambda row: (order.get(row.kind, 2), row.pid))))
        for name, rows in sorted(hosts.items())
    ]


def _row(entry: dict[str, Any], names: dict[int, str]) -> WorkerRow:
    fw_id = entry.get("fw_id")
    started, heartbeat = entry.get("started"), entry.get("heartbeat")
    done, failed = int(entry.get("done") or 0), int(entry.get("failed") or 0)
    life = float(heartbeat) - float(started) if started and heartbeat else 0.0
    job = entry.get("job") or {}
    where = str(job.get("where") or "").partition(":")[2]
    condition = str(entry.get("state") or "?")
    if entry["alive"] is False:
        condition = "dead"
    elif entry["alive"] is None:
        condition = "silent"
    elif entry.get("stop"):
        condition = "draining"
    return WorkerRow(
        id=str(entry["_id"]),
        kind=str(entry.get("kind") or "worker"),
        pid=int(entry.get("pid") or 0),
        condition=condition,
        asked=bool(entry.get("stop")),
        site=" ".join(
            part for part in (where, str(job.get("scheduler") or ""), str(job.get("id") or "")) if part
        ),
        categories=tuple(str(name) for name in entry.get("categories") or ()),
        campaigns=tuple(str(name) for name in entry.get("campaigns") or ()),
        cores=entry.get("cores"),
        memory_gb=entry.get("memory_gb"),
        fw_id=None if fw_id is None else int(fw_id),
        task=names.get(int(fw_id), "") if fw_id is not None else "",
        done=done,
        failed=failed,
        # a worker that has just begun would show any number
        per_hour=(done + failed) / life * 3600.0 if life > 30.0 else None,
        started=started,
        heartbeat=heartbeat,
    )
