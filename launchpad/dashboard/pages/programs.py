"""What programs ask besides the API: its description, and numbers for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, current_app, g, render_template

from launchpad.dashboard.auth.access import Permission, needs, public

if TYPE_CHECKING:
    from flask import Response
    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("programs", __name__)


@blueprint.get("/api/v1/openapi.json")
@public("describes routes, holds nothing of a group")
def openapi() -> ResponseReturnValue:
    """Return the description of the API."""
    from launchpad.dashboard.api.openapi import description

    return description()


@blueprint.get("/api/v1/")
@public("describes routes, holds nothing of a group")
def readable() -> ResponseReturnValue:
    """Show the description of the API."""
    from launchpad.dashboard.api.openapi import description

    return render_template("api.html", api=description())


@blueprint.get("/g/<group>/metrics")
@needs(Permission.READ)
def metrics() -> Response:
    """Return numbers for Prometheus, which sends a token."""
    from launchpad.dashboard.queries.overview import ledger_of
    from launchpad.health.metrics import measure, render

    # a long history is read beside the answers; until it is, this number is not there
    ledger = ledger_of(g.group.database)
    hours = ledger.completed_hours if ledger.complete else None
    return current_app.response_class(
        render(measure(g.group.database, known={"core_hours": hours})),
        content_type="text/plain; version=0.0.4; charset=utf-8",
    )
