"""Workers: who lives, whether their versions agree, and whether somebody takes what is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pymongo.database import Database

    from launchpad.health.finding import Patient

__all__ = ["check_workers", "judge_ready", "judge_versions"]


def check_workers(patient: Patient) -> Iterator[Finding]:
    """Look at the registry of workers."""
    database = patient.database
    if database is None:
        yield Finding("workers", "check", "advice", "not checked: there is no database")
        return
    from launchpad.workers.registry import current_versions, list_workers

    entries = list_workers(database, silent_s=patient.settings.silent_worker_s)
    workers = [entry for entry in entries if entry.get("kind") == "worker"]
    yield _alive(workers)
    living = [worker for worker in workers if worker["alive"]]
    yield judge_versions(living, current_versions())
    yield judge_ready(ready_tasks(database), [worker["categories"] for worker in living])


def _alive(workers: Sequence[Mapping[str, Any]]) -> Finding:
    living = [worker for worker in workers if worker["alive"]]
    silent = [worker for worker in workers if worker["alive"] is None]
    dead = [worker for worker in workers if worker["alive"] is False]
    hosts = sorted({str(worker["host"]) for worker in living})
    data = {"alive": len(living), "silent": len(silent), "dead": len(dead), "hosts": hosts}
    found = f"{len(living)} workers live" + (f" on {', '.join(hosts)}" if hosts else "")
    if silent or dead:
        gone = [f"{worker['host']}:{worker['pid']}" for worker in (*dead, *silent)]
        return Finding(
            "workers",
            "alive",
            "advice",
            f"{found}; {len(gone)} ended without a word or cannot be heard: {', '.join(gone[:5])}",
            "their tasks run again by themselves; look at the worker's log in the scratch directory of that host "
            "(memory, time limit of the batch job, network)",
            data,
        )
    return Finding("workers", "alive", "ok", found, "", data)


def judge_versions(workers: Sequence[Mapping[str, Any]], here: Mapping[str, str]) -> Finding:
    """Compare what the living workers run with what runs here."""
    different: dict[str, set[str]] = {}
    for worker in workers:
        theirs = worker.get("versions") or {"gapfactory": "unknown (too old to say)"}
        for name, version in theirs.items():
            if version != here.get(name, version):
                different.setdefault(f"{name} {version}", set()).add(str(worker["host"]))
    data = {name: sorted(hosts) for name, hosts in sorted(different.items())}
    if not different:
        return Finding(
            "workers", "versions", "ok", "all living workers have the versions of this host", "", data
        )
    words = "; ".join(f"{name} on {', '.join(hosts)}" for name, hosts in data.items())
    mine = ", ".join(f"{name} {version}" for name, version in here.items())
    return Finding(
        "workers",
        "versions",
        "advice",
        f"{words}, where this host has {mine}",
        "install the same versions everywhere and restart the workers: results are promised to be equal only then",
        data,
    )


def ready_tasks(database: Database[Any]) -> dict[str, int]:
    """Return the number of READY tasks of each category."""
    rows = database.fireworks.aggregate(
        [{"$match": {"state": "READY"}}, {"$group": {"_id": "$spec._category", "n": {"$sum": 1}}}]
    )
    return {str(row["_id"] or ""): int(row["n"]) for row in rows}


def judge_ready(ready: Mapping[str, int], takes: Sequence[Sequence[str]]) -> Finding:
    """Judge whether the living workers take what is ready.

    Parameters
    ----------
    ready
        READY tasks by category.
    takes
        Categories of each living worker; none means all.
    """
    everything = any(not categories for categories in takes)
    taken = {name for categories in takes for name in categories}
    left = {} if everything else {name: n for name, n in ready.items() if name not in taken}
    data = {"ready": dict(ready), "left": left}
    if not left:
        found = f"{sum(ready.values())} tasks are ready" + ("" if ready else ": nothing waits for a worker")
        return Finding("workers", "ready tasks", "ok", found, "", data)
    words = ", ".join(f"{n} {name or 'without category'}" for name, n in sorted(left.items()))
    only = sorted({name for name in left if name})
    return Finding(
        "workers",
        "ready tasks",
        "advice",
        f"tasks are ready that no living worker takes: {words}",
        "'gapfactory worker start" + "".join(f" -c {name}" for name in only) + "' where they can run",
        data,
    )
