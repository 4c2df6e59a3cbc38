"""The first page: campaigns, queue and workers at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, g, render_template

from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.fragments import fragment

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from pymongo.database import Database

    from launchpad.dashboard.actions import CampaignAction

__all__ = ["blueprint"]

blueprint = Blueprint("overview", __name__, url_prefix="/g/<group>")

#: So many processes are shown on the first page.
_WORKERS = 30


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


def _possible(state: str) -> list[CampaignAction]:
    """Return what can be done to a campaign in a state."""
    from launchpad.dashboard.actions import CAMPAIGN_ACTIONS

    return [
        action
        for action in CAMPAIGN_ACTIONS.values()
        if state in action.states and (action.name == "cancel" or state != "running")
    ]


def _content(database: Database[Any]) -> dict[str, Any]:
    from launchpad.dashboard.queries.overview import campaign_lines, troubles
    from launchpad.dashboard.queries.workers import worker_hosts
    from launchpad.queries import queue_counts
    from launchpad.queue.states import FireworkState

    counts = queue_counts(database)
    present = {state for row in counts.values() for state in row}
    hosts = worker_hosts(database)
    rows = [(host.name, row) for host in hosts for row in host.rows]
    lines, total = campaign_lines(database)
    return {
        "lines": lines,
        "campaigns": total,
        "actions": {line.row["name"]: _possible(line.row["state"]) for line in lines},
        "counts": counts,
        "states": [state.value for state in FireworkState if state in present],
        "hosts": hosts,
        "workers": rows[:_WORKERS],
        "processes": len(rows),
        "troubles": troubles(counts, hosts, lines),
    }
