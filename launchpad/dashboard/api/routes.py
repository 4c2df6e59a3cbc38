"""What can be asked and done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import g

from gapfactory.errors import NotFoundError
from launchpad.dashboard.api import answers
from launchpad.dashboard.api.declare import blueprint, operation
from launchpad.dashboard.auth.access import Permission
from launchpad.dashboard.listing import Column
from launchpad.dashboard.queries.queue import COLUMNS, task_page
from launchpad.database.audit import acting_for, audit

if TYPE_CHECKING:
    from launchpad.dashboard.api.declare import Call

__all__ = ["STRUCTURES", "blueprint"]

#: Filters of the table of structures.
STRUCTURES: Final = (
    Column("campaign", "campaign", "Campaign", "exact"),
    Column("generation", "generation", "Generation", "whole"),
    Column("stage", "stage", "Kind", "choice", ("cell", "frame", "isolated", "dimer")),
    Column("composition", "composition", "Composition", "exact"),
    Column("hash", "hash", "Content hash", "exact"),
    Column("id", "_id", "Id", "exact", sortable=True),
)
_STRUCTURE: Final = dict.fromkeys(
    ("campaign", "generation", "stage", "index", "composition", "hash", "info"), 1
)
_LAUNCH: Final = {
    "_id": 0, "launch_id": 1, "state": 1, "host": 1, "launch_dir": 1, "time_start": 1, "time_end": 1,
    "runtime_secs": 1, "action.stored_data": 1, "requeue": 1,
}  # fmt: skip
_LAUNCHES: Final = 50


@operation("GET", "/campaigns", Permission.READ, answers.Campaigns)
def campaigns(call: Call) -> dict[str, Any]:
    """Return where each campaign stands."""
    from launchpad import service
    from launchpad.database.campaigns import list_campaigns

    database = g.group.database
    return {"campaigns": [service.status(database, one["_id"]) for one in list_campaigns(database)]}


@operation("GET", "/campaigns/<name>", Permission.READ, answers.CampaignDetail)
def campaign(call: Call, name: str) -> dict[str, Any]:
    """Return where one campaign stands, with its settings."""
    from launchpad import service
    from launchpad.database.campaigns import require_campaign

    record = require_campaign(g.group.database, name)
    return {
        **service.status(g.group.database, name),
        "settings": record["settings"],
        "versions": record["versions"],
    }


@operation("GET", "/campaigns/<name>/generations", Permission.READ, answers.Generations)
def generations(call: Call, name: str) -> dict[str, Any]:
    """Return what the assessment of each generation found."""
    from launchpad.database.campaigns import require_campaign

    require_campaign(g.group.database, name)
    found = g.group.database.metrics.find(
        {"campaign": name},
        {"generation": 1, "labels": 1, "decision": 1, "reason": 1, "evidence.headline": 1},
    ).sort("generation", 1)
    return {
        "generations": [{**one, "headline": (one.get("evidence") or {}).get("headline", {})} for one in found]
    }


@operation("GET", "/campaigns/<name>/generations/<int:number>", Permission.READ, answers.Metrics)
def metrics_of_generation(call: Call, name: str, number: int) -> dict[str, Any]:
    """Return everything that was measured of one generation."""
    found = g.group.database.metrics.find_one({"campaign": name, "generation": number})
    if found is None:
        raise NotFoundError(f"generation {number} of campaign {name!r} was not assessed")
    return dict(found)


@operation("GET", "/structures", Permission.READ, answers.Structures, columns=STRUCTURES, sort="id")
def structures(call: Call) -> dict[str, Any]:
    """Return a page of the stored structures."""
    page = call.listing.page(g.group.database.structures, _STRUCTURE, {})
    return {"structures": [{**row, "id": row["_id"]} for row in page.rows], "following": page.following}


@operation("GET", "/structure", Permission.READ, answers.StructureDetail, query=answers.StructureQuery)
def structure(call: Call) -> dict[str, Any]:
    """Return one stored structure with its atoms."""
    from launchpad.dashboard.queries.crystal import Crystal

    found = g.group.database.structures.find_one({"_id": call.query.id})
    if found is None:
        raise NotFoundError(f"there is no structure {call.query.id!r}")
    crystal = Crystal.of(found["atoms"])
    return {
        **found,
        "id": found["_id"],
        "symbols": crystal.symbols,
        "positions": crystal.positions.tolist(),
        "cell": crystal.cell.tolist(),
        "pbc": crystal.pbc.tolist(),
    }


@operation("GET", "/tasks", Permission.READ, answers.Tasks, columns=COLUMNS, sort="id")
def tasks(call: Call) -> dict[str, Any]:
    """Return a page of the queue's tasks."""
    page = task_page(g.group.database, call.listing)
    return {"tasks": [_task(row) for row in page.rows], "following": page.following}


@operation("GET", "/tasks/<int:number>", Permission.READ, answers.TaskDetail)
def task(call: Call, number: int) -> dict[str, Any]:
    """Return one task with its inputs and launches."""
    database = g.group.database
    found = database.fireworks.find_one({"fw_id": number})
    if found is None:
        raise NotFoundError(f"there is no task {number}")
    ids = [*found.get("launches", ()), *found.get("archived_launches", ())]
    launches = (
        database.launches.find({"launch_id": {"$in": ids}}, _LAUNCH).sort("launch_id", -1).limit(_LAUNCHES)
    )
    return {**_task(found), "spec": found["spec"], "launches": list(launches)}


def _task(row: dict[str, Any]) -> dict[str, Any]:
    spec = row.get("spec") or {}
    return {
        "id": row["fw_id"],
        "name": row["name"],
        "state": row["state"],
        "kind": spec.get("_category"),
        "campaign": spec.get("campaign"),
        "generation": spec.get("generation"),
        "priority": spec.get("_priority"),
        "created": row.get("created_on"),
        "updated": row.get("updated_on"),
    }


@operation("GET", "/queue", Permission.READ, answers.Queue)
def queue(call: Call) -> dict[str, Any]:
    """Return how many tasks of each kind are in each state."""
    from launchpad.queries import queue_counts

    return {"counts": queue_counts(g.group.database)}


@operation("GET", "/workers", Permission.READ, answers.Workers)
def workers(call: Call) -> dict[str, Any]:
    """Return the workers and supervisors that have not ended in order."""
    from launchpad.workers.registry import list_workers

    return {
        "workers": [
            {
                **{key: one.get(key) for key in ("kind", "host", "pid", "state")},
                "id": one["_id"],
                "alive": one["alive"],
                "age_s": one["age_s"],
                "task": one.get("fw_id"),
                "done": one.get("done") or 0,
                "failed": one.get("failed") or 0,
            }
            for one in list_workers(g.group.database)
        ]
    }


@operation("POST", "/tasks/actions", Permission.OPERATE, answers.TaskOutcome, body=answers.TaskOrder)
def act_on_tasks(call: Call) -> Any:
    """Run tasks again, pause, resume or cancel them, or give them a priority."""
    from launchpad.dashboard import actions

    action = actions.task_action(call.body.action)
    return actions.act_on_tasks(g.group, g.account, action, call.body.ids, priority=call.body.priority)


@operation("POST", "/campaigns/<name>/cancel", Permission.OPERATE, answers.Changed)
def cancel_campaign(call: Call, name: str) -> dict[str, Any]:
    """End a campaign: nothing new starts, what runs is let finish, nothing stored is deleted."""
    from launchpad import service

    with g.group.queue() as opened, acting_for(g.account.name):
        return {"action": "cancel", "campaign": name, "tasks": service.cancel(opened, name)}


@operation("POST", "/campaigns/<name>/resume", Permission.OPERATE, answers.Changed)
def resume_campaign(call: Call, name: str) -> dict[str, Any]:
    """Put a halted, cancelled or failed campaign back on the queue, where it stopped."""
    from launchpad import service

    with g.group.queue() as opened, acting_for(g.account.name):
        done = service.resume(opened, name)
        audit(opened.db, "campaign.resumed", campaign=name, **done)
    return {"action": "resume", "campaign": name, "tasks": done["rerun"]}


@operation("POST", "/campaigns/<name>/retry", Permission.OPERATE, answers.Changed, body=answers.RetryOrder)
def retry_campaign(call: Call, name: str) -> dict[str, Any]:
    """Label quarantined structures again, and resume the campaign."""
    from launchpad import service

    with g.group.queue() as opened, acting_for(g.account.name):
        done = service.retry(opened, name, labels=call.body.labels, fault=call.body.fault)
        audit(opened.db, "campaign.retried", campaign=name, **done)
    return {"action": "retry", "campaign": name, "tasks": done["rerun"]}
