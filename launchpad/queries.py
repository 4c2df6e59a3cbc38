"""The named questions that the CLI, the report and the dashboard ask the database."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = [
    "FAILURE_FIELDS",
    "failed_tasks",
    "failure_of",
    "kept_directory",
    "needs_of_ready_tasks",
    "postponed_tasks",
    "queue_counts",
    "relaxation_counts",
    "task_counts",
    "task_seconds",
    "unfinished_tasks",
]


def _counts(rows: Any) -> dict[str, int]:
    return {str(row["_id"]): int(row["n"]) for row in rows}


def task_counts(
    database: Database[Any], campaign: str, generation: int | None = None
) -> dict[str, dict[str, int]]:
    """Return ``{kind: {state: number}}`` of a campaign's tasks, or of one generation's."""
    match: dict[str, Any] = {"spec.campaign": campaign}
    if generation is not None:
        match["spec.generation"] = generation
    return _by_kind(database, match)


def _by_kind(database: Database[Any], match: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return ``{kind: {state: number}}``, counted state by state from the keys of an index: no task is read."""
    from launchpad.queue.states import FireworkState

    result: dict[str, dict[str, int]] = {}
    for state in FireworkState:
        rows = database.fireworks.aggregate(
            [
                {"$match": {**match, "state": str(state)}},
                {"$group": {"_id": "$spec._category", "n": {"$sum": 1}}},
            ]
        )
        for row in rows:
            result.setdefault(str(row["_id"] or ""), {})[str(state)] = int(row["n"])
    return dict(sorted(result.items()))


def needs_of_ready_tasks(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return ``{kind, needs, n}`` of the tasks that could start and need something of their worker."""
    rows = database.fireworks.aggregate(
        [
            {"$match": {"spec.campaign": campaign, "state": "READY", "spec.needs": {"$exists": True}}},
            {"$group": {"_id": {"kind": "$spec._category", "needs": "$spec.needs"}, "n": {"$sum": 1}}},
        ]
    )
    found = [{**row["_id"], "n": int(row["n"])} for row in rows]
    return sorted(found, key=lambda row: (row["kind"], str(row["needs"])))


def queue_counts(database: Database[Any]) -> dict[str, dict[str, int]]:
    """Return ``{kind: {state: number}}`` of every task of the database; tasks without a kind under an empty name."""
    return _by_kind(database, {})


def unfinished_tasks(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return the tasks that are running or could run, without their specs."""
    return list(
        database.fireworks.find(
            {"spec.campaign": campaign, "state": {"$in": ["READY", "RESERVED", "RUNNING"]}},
            {"fw_id": 1, "name": 1, "state": 1, "updated_on": 1},
        ).sort("fw_id", 1)
    )


def failed_tasks(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return the failed tasks with the end of their traceback and their directory."""
    failed = []
    for task in database.fireworks.find(
        {"spec.campaign": campaign, "state": "FIZZLED"}, {"fw_id": 1, "name": 1, "launches": 1}
    ).sort("fw_id", 1):
        launches = list(
            database.launches.find({"launch_id": {"$in": task["launches"]}}, FAILURE_FIELDS)
            .sort("launch_id", -1)
            .limit(1)
        )
        failed.append(
            {
                "fw_id": task["fw_id"],
                "name": task["name"],
                **failure_of(launches[0] if launches else {}),
            }
        )
    return failed


#: What `failure_of` needs of a launch.
FAILURE_FIELDS = {"launch_id": 1, "fw_id": 1, "action": 1, "launch_dir": 1, "host": 1, "requeue": 1}


def failure_of(launch: dict[str, Any]) -> dict[str, Any]:
    """Return ``error``, ``traceback``, ``directory`` and ``host`` of a launch that failed."""
    stored = (launch.get("action") or {}).get("stored_data") or {}
    trace = (stored.get("_exception") or {}).get("_stacktrace") or ""
    last = str(trace).strip().splitlines()[-1:]
    return {
        # the whole message: a clear error may have several lines, the last one alone says little
        "error": str(
            stored.get("_message")
            or (launch.get("requeue") or {}).get("reason")
            or (last[0] if last else "its process was killed, or lost its database, and left no message")
        ),
        "traceback": trace,
        "directory": kept_directory(launch),
        "host": launch.get("host"),
    }


def postponed_tasks(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return the tasks that met a fault of the machine or the database and wait for their next try, with the fault."""
    launches = {
        int(launch["fw_id"]): launch
        for launch in database.launches.find(
            {"requeue.pending": True, "requeue.kind": {"$in": ["transient", "counted"]}},
            {"launch_id": 1, "fw_id": 1, "requeue": 1},
        ).sort("launch_id", 1)
    }
    tasks = database.fireworks.find(
        {"fw_id": {"$in": sorted(launches)}, "spec.campaign": campaign}, {"fw_id": 1, "name": 1}
    ).sort("fw_id", 1)
    return [
        {
            "fw_id": task["fw_id"],
            "name": task["name"],
            "launch_id": launches[task["fw_id"]]["launch_id"],
            "reason": str(launches[task["fw_id"]]["requeue"]["reason"]),
        }
        for task in tasks
    ]


def kept_directory(launch: dict[str, Any]) -> str | None:
    """Return where a worker of ours keeps a failed launch; those of others stay where they ran."""
    given = launch.get("launch_dir")
    if not given:
        return None
    place = PurePath(given)
    if place.parent.name != "launches":
        return str(given)
    return str(place.parent.parent / "failed" / f"{launch['fw_id']}-{launch['launch_id']}")


def relaxation_counts(database: Database[Any], campaign: str, generation: int) -> dict[str, int]:
    """Return ``{status: number}`` of a generation's relaxations."""
    rows = database.relaxations.aggregate(
        [
            {"$match": {"campaign": campaign, "generation": generation}},
            {"$group": {"_id": "$status", "n": {"$sum": 1}}},
        ]
    )
    return _counts(rows)


def task_seconds(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return ``{generation, kind, seconds, tasks}`` of the completed tasks: where the time went."""
    fireworks = {
        task["fw_id"]: task["spec"]
        for task in database.fireworks.find(
            {"spec.campaign": campaign, "state": "COMPLETED"},
            {"fw_id": 1, "spec._category": 1, "spec.generation": 1},
        )
    }
    totals: dict[tuple[int, str], list[float]] = {}
    for launch in database.launches.find(
        {"fw_id": {"$in": list(fireworks)}, "state": "COMPLETED"},
        {"fw_id": 1, "action.stored_data.seconds": 1},
    ):
        spec = fireworks[launch["fw_id"]]
        seconds = ((launch.get("action") or {}).get("stored_data") or {}).get("seconds") or 0.0
        entry = totals.setdefault((spec["generation"], spec["_category"]), [0.0, 0])
        entry[0] += float(seconds)
        entry[1] += 1
    return [
        {"generation": generation, "kind": kind, "seconds": round(total, 3), "tasks": int(number)}
        for (generation, kind), (total, number) in sorted(totals.items())
    ]
