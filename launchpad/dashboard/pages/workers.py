"""Workers by host: heartbeat, what each is at, and asking them to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, flash, g, redirect, render_template, request, url_for

from gapfactory.errors import InputError
from launchpad.dashboard import actions
from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.fragments import fragment

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("workers", __name__, url_prefix="/g/<group>")


@blueprint.get("/workers")
@needs(Permission.READ)
def page() -> ResponseReturnValue:
    """Show the page."""
    from launchpad.dashboard.queries.workers import worker_hosts

    return render_template("workers.html", hosts=worker_hosts(g.group.database))


@blueprint.get("/workers/now")
@needs(Permission.READ)
def now() -> ResponseReturnValue:
    """Return the part that changes."""
    from launchpad.dashboard.queries.workers import worker_hosts

    return fragment("_workers.html", hosts=worker_hosts(g.group.database))


@blueprint.post("/workers/stop")
@needs(Permission.OPERATE)
def stop() -> ResponseReturnValue:
    """Ask whether stopping workers is meant, then ask them."""
    from launchpad.dashboard.queries.workers import worker_hosts

    ids = set(request.form.getlist("id"))
    chosen = [
        (host.name, row)
        for host in worker_hosts(g.group.database)
        for row in host.rows
        if row.id in ids and row.living
    ]
    if not chosen:
        raise InputError("no living worker is chosen: tick some in the table")
    if request.form.get("confirmed") != "yes":
        return render_template("confirm_workers.html", chosen=chosen)
    number = actions.stop_workers(g.group, g.account, [row.id for _, row in chosen])
    asked = "1 worker was asked" if number == 1 else f"{number} workers were asked"
    flash(f"{asked} to stop; each finishes the task that it is at.")
    return redirect(url_for("workers.page"), 303)
