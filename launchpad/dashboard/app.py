"""The application: blueprints behind one gate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flask import Flask, abort, current_app, g, redirect, render_template, request, url_for
from pymongo.errors import OperationFailure, PyMongoError
from werkzeug.exceptions import BadHost, HTTPException
from werkzeug.routing import BaseConverter, IntegerConverter

from gapfactory.errors import GapFactoryError, InputError, NotFoundError, ServiceError, StateError
from launchpad.dashboard.auth import access, sessions, tokens
from launchpad.dashboard.security import bearer, is_api, protect
from launchpad.database.connection import NOT_AUTHORISED
from launchpad.database.privileges import role_needed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask.typing import ResponseReturnValue

    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["create_app"]

_STATUS = ((NotFoundError, 404), (InputError, 400), (StateError, 409), (ServiceError, 503))


def create_app(
    groups: Sequence[Group], settings: DashboardSettings, secret: bytes, *, ticket: str | None = None
) -> Flask:
    """Make the WSGI application.

    Parameters
    ----------
    groups
        What it shows.
    settings
        How it behaves.
    secret
        Key that signs cookies.
    ticket
        Whoever presents it is the person at this computer, an admin; None where people log in.

    Raises
    ------
    RuntimeError
        A route declares no permission: a defect.
    """
    from launchpad.dashboard.pages import blueprints

    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=secret,
        SESSION_COOKIE_NAME="__Host-gapfactory" if settings.secure else "gapfactory",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.secure,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=settings.session_hours),
        MAX_CONTENT_LENGTH=settings.body_limit_kb * 1024,
        MAX_FORM_MEMORY_SIZE=settings.body_limit_kb * 1024,
        TEMPLATES_AUTO_RELOAD=False,
    )
    app.jinja_env.undefined = _strict()
    app.extensions["gapfactory"] = {
        "groups": {group.name: group for group in groups},
        "settings": settings,
        "ticket": ticket,
    }
    if settings.proxies:
        from werkzeug.middleware.proxy_fix import ProxyFix

        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=settings.proxies)  # type: ignore[method-assign]
    protect(app, settings)
    app.before_request(_gate)
    app.url_defaults(_same_group)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(GapFactoryError, _own_error)
    app.register_error_handler(PyMongoError, _database_error)
    app.url_map.converters.update(int=_Number, default=_Text, string=_Text)
    app.context_processor(_common)
    app.add_template_filter(_moment, "moment")
    for blueprint in blueprints():
        app.register_blueprint(blueprint)
    app.view_functions["static"] = access.public("scripts and styles hold nothing of a group")(
        app.view_functions["static"]
    )
    forgotten = access.undeclared(app)
    if forgotten:
        raise RuntimeError(f"routes without a declared permission: {', '.join(forgotten)}")
    return app


def _strict() -> Any:
    from jinja2 import StrictUndefined

    return StrictUndefined


def _gate() -> ResponseReturnValue | None:
    """Let a request through if its route is public or its person has the permission that the route declares."""
    state = current_app.extensions["gapfactory"]
    g.account = None
    g.group = None
    name = (request.view_args or {}).pop("group", None)
    if request.endpoint is None:
        return None  # no such route: answered as such
    needed = access.declared(current_app.view_functions[request.endpoint])
    if name is not None:
        g.group = state["groups"].get(name)
        # whether a group exists is nobody's business who is not logged in to it
        if g.group is not None:
            token = bearer()
            # a request with a token is a program's: whose cookie came along does not matter
            g.account = (
                sessions.current(g.group, state["settings"], state["ticket"])
                if token is None
                else tokens.account_of(g.group.database, token)
            )
    if needed is None:
        return None
    if g.account is None:
        if (
            request.method == "GET"
            and request.accept_mimetypes.accept_html
            and not is_api()
            and "HX-Request" not in request.headers
        ):
            return redirect(url_for("login.form", group=name, next=request.full_path.rstrip("?")))
        abort(401)
    if not access.allows(g.account.role, needed):
        abort(403, f"This needs the role {access.lowest(needed)}; you are {g.account.role}.")
    if needed in (access.Permission.ADMINISTER, access.Permission.OWN) and bearer() is not None:
        abort(403, "This needs a login; a token is not enough.")
    return None


class _Number(IntegerConverter):
    """Whole numbers that a database holds; a longer one is no address of ours."""

    regex = r"\d{1,15}"


class _Text(BaseConverter):
    """One part of a path."""

    part_isolating = True
    regex = r"[^/\x00]{1,300}"


def _same_group(endpoint: str, values: dict[str, Any]) -> None:
    """Let links stay in the group of the page they are on."""
    if (
        "group" not in values
        and g.get("group") is not None
        and current_app.url_map.is_endpoint_expecting(endpoint, "group")
    ):
        values["group"] = g.group.name


def _http_error(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None or (error.code or 500) < 400 or isinstance(error, BadHost):
        return error  # without a page of ours where even links cannot be made
    shown = _answer(error.code or 500, error.name.lower().replace(" ", "-"), error.description or "")
    response = current_app.make_response(shown)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _database_error(error: PyMongoError) -> ResponseReturnValue:
    """Say what the database refused; what it said itself may hold more than its asker should read."""
    current_app.logger.error("the database refused: %s", error)
    if isinstance(error, OperationFailure) and error.code == NOT_AUTHORISED:
        roles = role_needed(str(error))
        need = f"; it takes the role {' or '.join(roles)}" if roles else ""
        return _answer(503, "database", f"The dashboard's own account of the database may not do this{need}.")
    return _answer(503, "database", "The database does not answer as it should. Try again in a while.")


def _own_error(error: GapFactoryError) -> ResponseReturnValue:
    code = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return _answer(code, error.code, str(error))


def _answer(code: int, name: str, text: str) -> ResponseReturnValue:
    if is_api() or not request.accept_mimetypes.accept_html:
        return {"error": {"code": name, "message": text}}, code
    if "HX-Request" in request.headers:
        return render_template("_error.html", code=code, name=name, text=text), code
    return render_template("error.html", code=code, name=name, text=text), code


def _common() -> dict[str, Any]:
    """Return what every template may use."""
    state = current_app.extensions["gapfactory"]
    return {
        "account": g.get("account"),
        "group": g.get("group"),
        "groups": sorted(state["groups"]),
        "may": lambda permission: access.may(g.get("account"), access.Permission(permission)),
        "refresh_s": state["settings"].refresh_s,
    }


def _moment(value: datetime | float | str | None) -> datetime | None:
    """Return a time of whatever kind is stored (date, seconds since the epoch, ISO text) as a date in UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value if value.tzinfo else value.replace(tzinfo=UTC)
