"""In and out."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Blueprint, abort, current_app, g, redirect, render_template, request, url_for

from gapfactory.errors import DatabaseError
from launchpad.dashboard.auth import sessions
from launchpad.dashboard.auth.access import public
from launchpad.dashboard.auth.accounts import check_password
from launchpad.dashboard.auth.throttle import Throttle, known_browser, remember_browser

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("login", __name__)


@blueprint.get("/")
@public("leads to the only group, or to the choice of one")
def start() -> ResponseReturnValue:
    """Lead to the first page."""
    groups = sorted(current_app.extensions["gapfactory"]["groups"])
    if len(groups) == 1:
        return redirect(url_for("overview.page", group=groups[0]))
    return redirect(url_for("login.form"))


@blueprint.get("/login")
@public("how else would one log in")
def form() -> ResponseReturnValue:
    """Show the form; the ticket that the terminal printed needs none."""
    state = current_app.extensions["gapfactory"]
    given = request.args.get("ticket", "")
    if state["ticket"] and given and sessions.log_in_locally(sorted(state["groups"]), given, state["ticket"]):
        return redirect(url_for("login.start"))
    chosen = request.args.get("group", "")
    return render_template(
        "login.html", chosen=chosen, back=_inside(request.args.get("next", "")), problem="", name=""
    )


@blueprint.post("/login")
@public("how else would one log in")
def enter() -> ResponseReturnValue:
    """Check a password."""
    state = current_app.extensions["gapfactory"]
    given = {key: request.form.get(key, "") for key in ("group", "name", "password", "next")}
    settings, groups = state["settings"], state["groups"]
    group = groups.get(given["group"])
    back = _inside(given["next"])
    problem, code = "Name, password or group is wrong.", 401
    # groups that do not exist are counted somewhere as well, and a password is computed: nothing tells them apart
    counted = (group or groups[min(groups)]).database
    known = known_browser(given["group"], given["name"])
    throttle = Throttle(
        counted, settings, given["group"], given["name"], request.remote_addr or "", browser=known
    )
    wait = throttle.attempt()
    if wait > 0:
        problem, code = f"Too many wrong passwords. Try again in {max(1, round(wait / 60))} minutes.", 429
    else:
        account = check_password(counted, given["name"] if group else "", given["password"])
        if group is not None and account is not None:
            throttle.succeeded()
            sessions.log_in(group, account, settings)
            response = redirect(back or url_for("overview.page", group=group.name), 303)
            if known is None:
                remember_browser(response, given["group"], given["name"])
            return response
    shown = render_template(
        "login.html", chosen=given["group"], back=back, problem=problem, name=given["name"]
    )
    return shown, code


@blueprint.post("/logout")
@public("ends a login, if there is one")
def leave() -> ResponseReturnValue:
    """End all logins of this browser."""
    sessions.log_out(current_app.extensions["gapfactory"]["groups"])
    return redirect(url_for("login.form"), 303)


@blueprint.get("/healthz")
@public("for load balancers: says only whether the databases answer")
def healthz() -> ResponseReturnValue:
    """Answer 200 if every database answers."""
    from pymongo.errors import PyMongoError

    for group in current_app.extensions["gapfactory"]["groups"].values():
        try:
            group.database.command("ping")
        except (DatabaseError, PyMongoError):
            current_app.logger.exception("a database does not answer")
            abort(503)
    g.account = None
    return {"status": "ok"}


def _inside(target: str) -> str:
    """Return where to go after the login, if it is a page of ours."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return ""
    if not target.isprintable() or len(target) > 2000:
        return ""
    if parts.scheme or parts.netloc or not target.startswith("/g/") or "\\" in target:
        return ""
    return target
