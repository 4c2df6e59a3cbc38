"""Accounts and the audit trail for admins; password and tokens for everybody."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, flash, g, redirect, render_template, request, url_for

from gapfactory.errors import InputError
from launchpad.dashboard.auth import accounts, sessions, tokens
from launchpad.dashboard.auth.access import Permission, Role, lower, needs
from launchpad.dashboard.start import checked_role
from launchpad.database.audit import acting_for, audit, read_audit

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("users", __name__, url_prefix="/g/<group>")
#: Events of the audit trail on its page, the newest.
_EVENTS: Final = 500


def _noted(event: str, **details: Any) -> None:
    with acting_for(g.account.name):
        audit(g.group.database, event, **details)


@blueprint.get("/users/")
@needs(Permission.ADMINISTER)
def page() -> ResponseReturnValue:
    """Show the accounts and everybody's tokens."""
    return _page()


def _page(made: dict[str, str] | None = None) -> ResponseReturnValue:
    shown = render_template(
        "users.html",
        accounts=accounts.list_accounts(g.group.database),
        tokens=tokens.list_tokens(g.group.database),
        roles=list(Role),
        made=made,
    )
    return shown, 200, {"Cache-Control": "no-store"}


@blueprint.post("/users/add")
@needs(Permission.ADMINISTER)
def add() -> ResponseReturnValue:
    """Make an account; its first password is shown once."""
    name, password = request.form.get("name", "").strip(), secrets.token_urlsafe(12)
    role = checked_role(request.form.get("role", ""))
    with acting_for(g.account.name):
        accounts.add_account(g.group.database, name, password, role)
    return _page({"name": name, "password": password})


@blueprint.post("/users/password")
@needs(Permission.ADMINISTER)
def reset() -> ResponseReturnValue:
    """Give an account another password, shown once; its logins and tokens end."""
    name, password = request.form.get("name", ""), secrets.token_urlsafe(12)
    with acting_for(g.account.name):
        accounts.change_password(g.group.database, name, password)
    return _page({"name": name, "password": password})


@blueprint.post("/users/role")
@needs(Permission.ADMINISTER)
def role() -> ResponseReturnValue:
    """Give an account another role; its logins end."""
    name, wanted = request.form.get("name", ""), checked_role(request.form.get("role", ""))
    _leave_an_admin(name, wanted)
    with acting_for(g.account.name):
        accounts.set_role(g.group.database, name, wanted)
    flash(f"{name} is {wanted} now.")
    return redirect(url_for("users.page"), 303)


@blueprint.post("/users/remove")
@needs(Permission.ADMINISTER)
def remove() -> ResponseReturnValue:
    """Remove an account with its logins and tokens, after a question."""
    name = request.form.get("name", "")
    _leave_an_admin(name, None)
    if request.form.get("confirmed") != "yes":
        return render_template("confirm_account.html", name=name)
    with acting_for(g.account.name):
        accounts.remove_account(g.group.database, name)
    flash(f"{name} is removed.")
    return redirect(url_for("users.page"), 303)


def _leave_an_admin(name: str, role: Role | None) -> None:
    """Refuse what would leave a group without anybody who manages its accounts."""
    others = [
        one for one in accounts.list_accounts(g.group.database) if one.role is Role.ADMIN and one.name != name
    ]
    account = accounts.find_account(g.group.database, name)
    if account is not None and account.role is Role.ADMIN and role is not Role.ADMIN and not others:
        raise InputError(f"{name} is the only admin: make another one first")


@blueprint.post("/users/token/remove")
@needs(Permission.ADMINISTER)
def remove_any_token() -> ResponseReturnValue:
    """Remove somebody's token."""
    key = request.form.get("id", "")
    tokens.remove_token(g.group.database, key)
    _noted("dashboard.token", token=key, what="removed")
    flash("The token is removed.")
    return redirect(url_for("users.page"), 303)


@blueprint.get("/audit/")
@needs(Permission.ADMINISTER)
def trail() -> ResponseReturnValue:
    """Show who did what, the newest first."""
    return render_template(
        "audit.html", events=read_audit(g.group.database, newest=_EVENTS)[::-1], most=_EVENTS
    )


@blueprint.get("/account/")
@needs(Permission.OWN)
def own() -> ResponseReturnValue:
    """Show what is one's own: password and tokens."""
    return _own()


def _own(made: str = "") -> ResponseReturnValue:
    mine = accounts.find_account(g.group.database, g.account.name)
    shown = render_template(
        "account.html",
        mine=mine,
        tokens=tokens.list_tokens(g.group.database, g.account.name) if mine else [],
        roles=[one for one in Role if lower(one, g.account.role) is one],
        made=made,
    )
    return shown, 200, {"Cache-Control": "no-store"}


def _mine() -> accounts.Account:
    """Return the account of whoever asks.

    Raises
    ------
    InputError
        It is the person at this computer, who has none.
    """
    if g.account.name == sessions.LOCAL:
        raise InputError(
            "you came by a ticket and have no account: 'gapfactory dashboard users add' makes one"
        )
    found: accounts.Account = g.account
    return found


@blueprint.post("/account/password")
@needs(Permission.OWN)
def change() -> ResponseReturnValue:
    """Change one's own password; other logins and all tokens of the account end."""
    from flask import current_app

    from launchpad.dashboard.auth.throttle import Throttle

    mine, settings = _mine(), current_app.extensions["gapfactory"]["settings"]
    # whoever finds a browser that somebody left open guesses no faster here than at the door
    throttle = Throttle(
        g.group.database,
        settings,
        g.group.name,
        mine.name,
        request.remote_addr or "",
        browser=f"own:{mine.name}",
    )
    if throttle.attempt() > 0:
        raise InputError("too many wrong passwords: try again later")
    if accounts.check_password(g.group.database, mine.name, request.form.get("present", "")) is None:
        raise InputError("the present password is wrong")
    throttle.succeeded()
    wanted = request.form.get("wanted", "")
    if wanted != request.form.get("again", ""):
        raise InputError("the new password is not the same in both fields")
    with acting_for(mine.name):
        accounts.change_password(g.group.database, mine.name, wanted)
    changed = accounts.find_account(g.group.database, mine.name)
    if changed is not None:
        sessions.log_in(g.group, changed, settings)
    flash("Your password is changed; your other logins and your tokens have ended.")
    return redirect(url_for("users.own"), 303)


@blueprint.post("/account/logins/end")
@needs(Permission.OWN)
def end_logins() -> ResponseReturnValue:
    """End every login of one's account, this one too."""
    accounts.end_logins(g.group.database, _mine().name)
    return redirect(url_for("login.form", group=g.group.name), 303)


@blueprint.post("/account/token")
@needs(Permission.OWN)
def make_token() -> ResponseReturnValue:
    """Make a token, shown once."""
    mine = _mine()
    given = request.form.get("days", "").strip()
    try:
        days = float(given) if given else None
    except ValueError as error:
        raise InputError(f"days: {given[:40]!r} is no number") from error
    text, token = tokens.make_token(
        g.group.database,
        mine,
        request.form.get("name", ""),
        checked_role(request.form.get("role", "")),
        days,
    )
    _noted("dashboard.token", token=token.id, what="made", role=str(token.role))
    return _own(text)


@blueprint.post("/account/token/remove")
@needs(Permission.OWN)
def remove_token() -> ResponseReturnValue:
    """Remove one of one's own tokens."""
    key = request.form.get("id", "")
    tokens.remove_token(g.group.database, key, _mine().name)
    _noted("dashboard.token", token=key, what="removed")
    flash("The token is removed.")
    return redirect(url_for("users.own"), 303)
