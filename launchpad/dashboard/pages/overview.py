"""The first page: campaigns, queue and workers at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, g, render_template

from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.fragments import fragment

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from pymongo.database import Database

__all__ = ["blueprint"]

blueprint = Blueprint("overview", __name__, url_prefix="/g/<group>")


@blueprint.get("/")
@needs(Permission.READ)
def page() -> ResponseReturnValue:
    """Show the page; its part that changes is fetched again while it is looked at."""
    return render_template("overview.html", **_content(g.group.database))


@blueprint.get("/overview/now")
@needs(Permission.READ)
def now() -> ResponseReturnValue:
    """Return the part that changes."""
    return fragment("_overview.html", **_content(g.group.database))


def _content(database: Database[Any]) -> dict[str, Any]:
    from launchpad import service
    from launchpad.database.campaigns import list_campaigns
    from launchpad.queries import queue_counts
    from launchpad.queue.states import FireworkState
    from launchpad.workers.registry import list_workers

    queue = queue_counts(database)
    states = {state for row in queue.values() for state in row}
    return {
        "campaigns": [service.status(database, record["_id"]) for record in list_campaigns(database)],
        "queue": queue,
        "states": [state.value for state in FireworkState if state in states],
        "workers": list_workers(database),
    }
