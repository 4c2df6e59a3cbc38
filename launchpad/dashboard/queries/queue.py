"""What the queue's pages read: tasks by filter, failures with their causes, one task, one generation's tasks.

Every question is answered from an index and reads a bounded number of documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import NotFoundError
from gapfactory.protocols.plan import TaskKind
from launchpad.dashboard.ladder import MOST, Rung, arrange, fold
from launchpad.dashboard.listing import Column, Listing
from launchpad.dashboard.queries.logs import failed_calculations, whereabouts
from launchpad.queries import FAILURE_FIELDS, failure_of, queue_counts, task_counts
from launchpad.queue.states import FireworkState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

    from launchpad.dashboard.ladder import Ladder
    from launchpad.dashboard.listing import Page

__all__ = [
    "COLUMNS",
    "Attempt",
    "TaskView",
    "chosen_tasks",
    "generation_tasks",
    "ladder_of",
    "newest_failures",
    "read_listing",
    "task_page",
    "task_rows",
    "task_view",
]

#: Filters of the table of tasks; the order is that of submission.
COLUMNS: Final = (
    Column("state", "state", "State", "choice", tuple(FireworkState)),
    Column("kind", "spec._category", "Kind", "choice", tuple(TaskKind)),
    Column("campaign", "spec.campaign", "Campaign", "exact"),
    Column("generation", "spec.generation", "Generation", "number"),
    Column("id", "fw_id", "Task", "whole", sortable=True, unique=True),
    Column("name", "name", "Name begins with", "prefix", sortable=True),
)
_ROW: Final = {
    "fw_id": 1,
    "name": 1,
    "state": 1,
    "created_on": 1,
    "updated_on": 1,
    "spec._category": 1,
    "spec._priority": 1,
    "spec.campaign": 1,
    "spec.generation": 1,
}
#: Of a traceback or a reason, so much is shown (characters, its end); of a document of inputs, its beginning.
_TAIL: Final = 4000
_INPUT: Final = 20_000
#: Of the launches of one task, the newest so many are shown.
_LAUNCHES: Final = 50


def read_listing(arguments: Mapping[str, Sequence[str]]) -> Listing:
    """Read what the URL asks of the table of tasks.

    Raises
    ------
    InputError
        Something asked cannot be meant.
    """
    return Listing.read(COLUMNS, arguments, sort="id")


def task_page(database: Database[Any], listing: Listing) -> Page:
    """Return a page of tasks, the newest first, without their inputs."""
    return listing.page(database.fireworks, _ROW, _narrowed(database, listing))


def _narrowed(database: Database[Any], listing: Listing) -> dict[str, Any]:
    """Name every state and kind that there is where only others are asked for: see the indexes of tasks."""
    if listing.conditions.keys() <= {"fw_id"} or "name" in listing.conditions:
        return {}
    counts = queue_counts(database)
    states = sorted({state for row in counts.values() for state in row})
    return listing.spread({"state": states, "spec._category": [kind or None for kind in counts]})


def chosen_tasks(database: Database[Any], listing: Listing, limit: int) -> list[int]:
    """Return the ids of the first tasks that a filter matches, at most `limit`."""
    query = {**_narrowed(database, listing), **listing.conditions}
    direction = -1 if listing.descending else 1
    found = database.fireworks.find(query, {"fw_id": 1}).sort(listing.sort.path, direction).limit(limit)
    return [int(task["fw_id"]) for task in found]


def task_rows(database: Database[Any], ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the named tasks that exist, without their inputs, by id."""
    return list(
        database.fireworks.find({"fw_id": {"$in": list(ids)}}, {**_ROW, "launches": 1}).sort("fw_id", 1)
    )


def newest_failures(database: Database[Any], limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest failed tasks with cause, end of the traceback, directory and host."""
    tasks = list(
        database.fireworks.find({"state": "FIZZLED"}, {**_ROW, "launches": 1}).sort("_id", -1).limit(limit)
    )
    last = {task["fw_id"]: max(task["launches"]) for task in tasks if task.get("launches")}
    launches = {
        launch["launch_id"]: launch
        for launch in database.launches.find(
            {"launch_id": {"$in": sorted(last.values())}}, {**FAILURE_FIELDS, "time_end": 1}
        )
    }
    found = []
    for task in tasks:
        launch = launches.get(last.get(task["fw_id"]), {})
        failure = failure_of(launch)
        found.append(
            {
                **task,
                **failure,
                "traceback": str(failure["traceback"])[-_TAIL:],
                "files": whereabouts(launch, failed=True),
                "ended": launch.get("time_end") or task.get("updated_on"),
            }
        )
    return found


@dataclass(frozen=True)
class Attempt:
    """One launch of a task.

    Attributes
    ----------
    launch_id, state, host, worker
        Which, how it ended, where it ran and the name of who ran it.
    archived
        Whether the task was run again since.
    started, ended
        As stored, None where it has not.
    seconds
        Wall time, None while it runs.
    heartbeat
        Last sign of life (seconds since the epoch), None for other programs' launches.
    files
        Where its files lie, for people.
    error, tail
        Message and end of the traceback of a failed one, else empty.
    summary
        What a completed one reports.
    given_up
        Why it was ended without a result, and what became of it, else empty.
    """

    launch_id: int
    state: str
    host: str
    worker: str
    archived: bool
    started: Any
    ended: Any
    seconds: float | None
    heartbeat: float | None
    files: str
    error: str
    tail: str
    summary: dict[str, Any]
    given_up: str


@dataclass(frozen=True)
class TaskView:
    """One task.

    Attributes
    ----------
    row
        As in the table.
    parameters
        The parameters of each of its steps: (name of the step, parameters).
    needs
        Of a worker: cores, memory.
    attempts
        The launches, the newest first.
    tries
        Tries that ended by a fault of the machine, counted by kind.
    exhausted
        Whether the bound of these was reached.
    parents, children
        Other tasks of its workflow: (id, name, state).
    calculations
        Of a reference task: those that gave no label.
    """

    row: dict[str, Any]
    parameters: tuple[tuple[str, dict[str, Any]], ...]
    needs: dict[str, Any]
    attempts: tuple[Attempt, ...]
    tries: dict[str, int]
    exhausted: bool
    parents: tuple[dict[str, Any], ...]
    children: tuple[dict[str, Any], ...]
    calculations: tuple[dict[str, Any], ...]


def task_view(database: Database[Any], fw_id: int) -> TaskView:
    """Return everything about one task.

    Raises
    ------
    NotFoundError
        There is none of this number.
    """
    task = database.fireworks.find_one({"fw_id": fw_id})
    if task is None:
        raise NotFoundError(f"there is no task {fw_id}")
    spec = task.get("spec") or {}
    current = set(task.get("launches") or ())
    ids = sorted(current | set(task.get("archived_launches") or ()))[-_LAUNCHES:]
    launches = database.launches.find({"launch_id": {"$in": ids}}).sort("launch_id", -1)
    tries = database.queue_retries.find_one({"_id": fw_id}) or {}
    parents, children = _neighbours(database, fw_id)
    return TaskView(
        row={key: value for key, value in task.items() if key != "spec"}
        | {"spec": {key: spec.get(key) for key in ("_category", "_priority", "campaign", "generation")}},
        parameters=tuple(_step(step) for step in spec.get("_tasks") or ()),
        needs=dict(spec.get("needs") or {}),
        attempts=tuple(_attempt(launch, launch["launch_id"] not in current) for launch in launches),
        tries={kind: len(tries[kind]) for kind in ("dead", "transient") if tries.get(kind)},
        exhausted=bool(tries.get("exhausted")),
        parents=parents,
        children=children,
        calculations=tuple(failed_calculations(database, task)),
    )


def _step(step: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(step, dict):
        return str(step)[:_INPUT], {}
    name = str(step.get("_fw_name", "")).strip("{}").rpartition(".")[2]
    return name, {key: str(value)[:_INPUT] for key, value in step.items() if key != "_fw_name"}


def _attempt(launch: dict[str, Any], archived: bool) -> Attempt:
    stored = (launch.get("action") or {}).get("stored_data") or {}
    failed = launch["state"] == "FIZZLED" or "_message" in stored
    failure = failure_of(launch) if failed else {"error": "", "traceback": ""}
    requeue = launch.get("requeue") or {}
    given_up = ""
    if requeue:
        outcome = "waits for its next try" if requeue.get("pending") else requeue.get("outcome", "")
        given_up = f"{requeue.get('kind', '')}: {requeue.get('reason', '')}" + (
            f" ({outcome})" if outcome else ""
        )
    heartbeat = launch.get("heartbeat_at")
    seconds = launch.get("runtime_secs")
    return Attempt(
        launch_id=int(launch["launch_id"]),
        state=str(launch["state"]),
        host=str(launch.get("host") or ""),
        worker=str((launch.get("fworker") or {}).get("name") or ""),
        archived=archived,
        started=launch.get("time_start"),
        ended=launch.get("time_end"),
        seconds=None if seconds is None else float(seconds),
        heartbeat=None if heartbeat is None else float(heartbeat),
        files=whereabouts(launch, failed=failed),
        error=str(failure["error"])[:_TAIL],
        tail=str(failure["traceback"])[-_TAIL:],
        summary={
            key: value if isinstance(value, int | float | bool) else str(value)[:_TAIL]
            for key, value in stored.items()
            if not key.startswith("_")
        },
        given_up=given_up,
    )


def _neighbours(
    database: Database[Any], fw_id: int
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """Return what a task waits for and what waits for it, at most 200 of each."""
    key = str(fw_id)
    workflow = database.workflows.find_one({"nodes": fw_id}, {f"links.{key}": 1, f"parent_links.{key}": 1})
    if workflow is None:
        return (), ()
    found = []
    for name in ("parent_links", "links"):
        ids = (workflow.get(name) or {}).get(key) or []
        found.append(tuple(task_rows(database, ids[:200])))
    return found[0], found[1]


def ladder_of(database: Database[Any], campaign: str, generation: int) -> tuple[Ladder, int]:
    """Return the drawing of a generation's tasks, and how many there are; of very many, only their numbers are read.

    Raises
    ------
    NotFoundError
        There is no such generation on the queue.
    """
    counts = task_counts(database, campaign, generation)
    total = sum(sum(row.values()) for row in counts.values())
    if total > MOST:
        return fold(counts, tuple(TaskKind)), total
    rungs = generation_tasks(database, campaign, generation)
    return arrange(rungs), len(rungs)


def generation_tasks(database: Database[Any], campaign: str, generation: int) -> list[Rung]:
    """Return the tasks of a generation's workflow with what they wait for.

    Raises
    ------
    NotFoundError
        There is no such generation on the queue.
    """
    first = database.fireworks.find_one(
        {"spec.campaign": campaign, "spec.generation": generation}, {"fw_id": 1}
    )
    workflow = first and database.workflows.find_one(
        {"nodes": first["fw_id"]}, {"nodes": 1, "parent_links": 1}
    )
    if not workflow:
        raise NotFoundError(f"generation {generation} of campaign {campaign!r} is not on the queue")
    parents = workflow.get("parent_links") or {}
    fields = {"fw_id": 1, "name": 1, "state": 1, "spec._category": 1}
    return [
        Rung(
            fw_id=int(task["fw_id"]),
            name=str(task.get("name") or ""),
            kind=str((task.get("spec") or {}).get("_category") or ""),
            state=str(task["state"]),
            parents=tuple(parents.get(str(task["fw_id"])) or ()),
        )
        for task in database.fireworks.find({"fw_id": {"$in": workflow["nodes"]}}, fields).sort("fw_id", 1)
    ]
