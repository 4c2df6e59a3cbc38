"""What can be asked and done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import g

from gapfactory.errors import NotFoundError
from launchpad.dashboard.api import answers
from launchpad.dashboard.api.declare import blueprint, operation
from launchpad.dashboard.auth.access import Permission
from launchpad.dashboard.queries.queue import COLUMNS, task_page
from launchpad.dashboard.queries.structure_table import STORED, stored_page

if TYPE_CHECKING:
    from launchpad.dashboard.api.declare import Call

__all__ = ["blueprint"]

_WORKER: Final = (
    "id", "kind", "pid", "condition", "asked", "site", "categories", "cores", "memory_gb", "fw_id", "task", "done",
    "failed", "per_hour", "started", "heartbeat",
)  # fmt: skip


@operation("GET", "/campaigns", Permission.READ, answers.Campaigns)
def campaigns(call: Call) -> dict[str, Any]:
    """Return the campaigns at a glance, the newest first."""
    from launchpad.dashboard.queries.campaigns import campaign_rows

    return {
        "campaigns": [
            {
                **row,
                "campaign": row["name"],
                "created": row["created"].isoformat(),
                "updated": row["updated"].isoformat(),
            }
            for row in campaign_rows(g.group.database)
        ]
    }


@operation("GET", "/campaigns/<name>", Permission.READ, answers.CampaignDetail)
def campaign(call: Call, name: str) -> dict[str, Any]:
    """Return where one campaign stands, with its settings."""
    from launchpad import service
    from launchpad.dashboard.queries.overview import labels_now
    from launchpad.database.campaigns import require_campaign

    record = require_campaign(g.group.database, name)
    return {
        **service.status(g.group.database, name, labels=labels_now(g.group.database, name)),
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


@operation("GET", "/structures", Permission.READ, answers.Structures, columns=STORED, sort="id")
def structures(call: Call) -> dict[str, Any]:
    """Return a page of the stored structures."""
    page = stored_page(g.group.database, call.listing)
    return {"structures": [{**row, "id": row["_id"]} for row in page.rows], "following": page.following}


@operation("GET", "/structure", Permission.READ, answers.StructureDetail, query=answers.StructureQuery)
def structure(call: Call) -> dict[str, Any]:
    """Return one structure with its atoms, and how it came about."""
    from launchpad.dashboard.queries.structures import find, know

    subject = find(g.group.database, call.query.id)
    known = know(g.group.database, subject)
    crystal = subject.crystal
    return {
        "id": subject.id,
        "campaign": subject.campaign,
        "generation": subject.generation,
        "kind": subject.kind,
        "composition": subject.composition,
        "hash": subject.hash,
        "symbols": crystal.symbols,
        "positions": crystal.positions.tolist(),
        "cell": crystal.cell.tolist(),
        "pbc": crystal.pbc.tolist(),
        "info": subject.info,
        "path": known.path,
        "label": known.label,
        "fits": [fit["generation"] for fit in known.fits],
    }


@operation("GET", "/tasks", Permission.READ, answers.Tasks, columns=COLUMNS, sort="id")
def tasks(call: Call) -> dict[str, Any]:
    """Return a page of the queue's tasks."""
    page = task_page(g.group.database, call.listing)
    return {"tasks": [_task(row) for row in page.rows], "following": page.following}


@operation("GET", "/tasks/<int:number>", Permission.READ, answers.TaskDetail)
def task(call: Call, number: int) -> dict[str, Any]:
    """Return one task with its inputs and launches."""
    from launchpad.dashboard.queries.queue import task_view

    view = task_view(g.group.database, number)
    return {
        **_task(view.row),
        "steps": [{"name": name, "parameters": parameters} for name, parameters in view.parameters],
        "needs": view.needs,
        "attempts": view.attempts,
        "tries": view.tries,
        "exhausted": view.exhausted,
        "parents": [row["fw_id"] for row in view.parents],
        "children": [row["fw_id"] for row in view.children],
    }


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
    from launchpad.dashboard.queries.workers import worker_hosts

    return {
        "workers": [
            {"host": host.name, "campaigns": row.campaigns, **{name: getattr(row, name) for name in _WORKER}}
            for host in worker_hosts(g.group.database)
            for row in host.rows
        ]
    }


@operation("POST", "/tasks/actions", Permission.OPERATE, answers.TaskOutcome, body=answers.TaskOrder)
def act_on_tasks(call: Call) -> Any:
    """Run tasks again, pause, resume or cancel them, or give them a priority."""
    from launchpad.dashboard import actions

    action = actions.task_action(call.body.action)
    return actions.act_on_tasks(g.group, g.account, action, call.body.ids, priority=call.body.priority)


@operation("POST", "/campaigns/<name>/cancel", Permission.OPERATE, answers.Changed)
def cancel_campaign(call: Call, name: str) -> Any:
    """End a campaign: nothing new starts, what runs is let finish, nothing stored is deleted."""
    from launchpad.dashboard import actions

    return actions.act_on_campaign(g.group, g.account, "cancel", name)


@operation("POST", "/campaigns/<name>/resume", Permission.OPERATE, answers.Changed)
def resume_campaign(call: Call, name: str) -> Any:
    """Put a halted, cancelled or failed campaign back on the queue, where it stopped."""
    from launchpad.dashboard import actions

    return actions.act_on_campaign(g.group, g.account, "resume", name)


@operation("POST", "/campaigns/<name>/retry", Permission.OPERATE, answers.Changed, body=answers.RetryOrder)
def retry_campaign(call: Call, name: str) -> Any:
    """Label quarantined structures again, and resume the campaign."""
    from launchpad.dashboard import actions

    order = call.body
    return actions.act_on_campaign(g.group, g.account, "retry", name, labels=order.labels, fault=order.fault)
