"""One task, and the ladder of a generation's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, g, render_template

from launchpad.dashboard import actions
from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.fragments import fragment

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("tasks", __name__, url_prefix="/g/<group>")


@blueprint.get("/tasks/<int:fw_id>")
@needs(Permission.READ)
def page(fw_id: int) -> ResponseReturnValue:
    """Show a task: inputs, launches, what it waits for."""
    return render_template("task.html", **_task(fw_id))


@blueprint.get("/tasks/<int:fw_id>/now")
@needs(Permission.READ)
def now(fw_id: int) -> ResponseReturnValue:
    """Return the part of the page that changes."""
    return fragment("_task.html", **_task(fw_id))


def _task(fw_id: int) -> dict[str, Any]:
    from launchpad.dashboard.queries.queue import task_view

    view = task_view(g.group.database, fw_id)
    return {
        "task": view,
        "actions": [a for a in actions.TASK_ACTIONS.values() if view.row["state"] in a.states],
    }


@blueprint.get("/campaigns/<name>/generations/<int:generation>/tasks")
@needs(Permission.READ)
def graph(name: str, generation: int) -> ResponseReturnValue:
    """Show the tasks of a generation as a ladder."""
    return render_template("graph.html", **_graph(name, generation))


@blueprint.get("/campaigns/<name>/generations/<int:generation>/tasks/now")
@needs(Permission.READ)
def graph_now(name: str, generation: int) -> ResponseReturnValue:
    """Return the ladder."""
    return fragment("_graph.html", **_graph(name, generation))


def _graph(name: str, generation: int) -> dict[str, Any]:
    from launchpad.dashboard.queries.queue import ladder_of

    ladder, total = ladder_of(g.group.database, name, generation)
    return {"campaign": name, "generation": generation, "ladder": ladder, "total": total}
