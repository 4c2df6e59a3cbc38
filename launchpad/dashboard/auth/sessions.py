"""Logins: a signed cookie that names them, and an entry in the database that ends them.

The cookie alone would be good until it expires, whoever holds a copy; an entry of the database alone could be forged
by whoever may write there. A login needs both. It ends with a logout, with the account's next change of password or
role (its epoch), and after `session_hours`. Each login has a number of its own, so a cookie that somebody planted
before is worth nothing after.

Whoever came by the ticket that the terminal printed has no entry (the database may be one that this person only
reads): that login ends with the dashboard that printed it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from flask import session

from launchpad.dashboard.auth.access import Role
from launchpad.dashboard.auth.accounts import Account, find_account

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["LOCAL", "current", "log_in", "log_in_locally", "log_out"]

#: Name of whoever came by the link that the terminal printed; an account cannot have it.
LOCAL: Final = "(this computer)"


def log_in(group: Group, account: Account, settings: DashboardSettings) -> None:
    """Begin a login; one that the cookie held before for this group ends."""
    logins = dict(session.get("logins", {}))
    _end(group.database, logins.pop(group.name, None))
    session.clear()
    number = secrets.token_urlsafe(24)
    now = time.time()
    group.database.dashboard_logins.insert_one(
        {
            "_id": _key(number),
            "login": account.name,
            "since": now,
            "until": now + settings.session_hours * 3600,
        }
    )
    logins[group.name] = [account.name, account.epoch, int(now), number]
    session["logins"] = logins


def log_in_locally(groups: list[str], given: str, ticket: str) -> bool:
    """Log in by the ticket that the terminal printed; return whether it was right."""
    if not hmac.compare_digest(given.encode(errors="replace"), ticket.encode()):
        return False
    session.clear()
    session["logins"] = {name: [LOCAL, 0, int(time.time()), _mark(ticket)] for name in groups}
    return True


def log_out(groups: dict[str, Group]) -> None:
    """End every login of this browser."""
    for name, entry in dict(session.get("logins", {})).items():
        if name in groups:
            _end(groups[name].database, entry)
    session.clear()


def current(group: Group, settings: DashboardSettings, ticket: str | None) -> Account | None:
    """Return who is logged in to a group, or None.

    Parameters
    ----------
    group
        The group.
    settings
        How long a login lasts.
    ticket
        What this dashboard printed for the person at this computer, if anything.
    """
    logins = session.get("logins", {})
    entry = logins.get(group.name) if isinstance(logins, dict) else None
    if not isinstance(entry, list) or len(entry) != 4:
        return None
    name, epoch, since, number = entry
    if not 0 <= time.time() - float(since) + 60 <= settings.session_hours * 3600 + 60:
        return None
    if name == LOCAL:
        good = ticket is not None and hmac.compare_digest(str(number), _mark(ticket))
        return Account(LOCAL, Role.ADMIN) if good else None
    if group.database.dashboard_logins.find_one({"_id": _key(str(number)), "login": name}) is None:
        return None
    account = find_account(group.database, str(name))
    return account if account is not None and account.epoch == epoch else None


def _end(database: Database[Any], entry: Any) -> None:
    if isinstance(entry, list) and len(entry) == 4 and entry[0] != LOCAL:
        database.dashboard_logins.delete_one({"_id": _key(str(entry[3]))})


def _key(number: str) -> str:
    return hashlib.sha256(f"login:{number}".encode()).hexdigest()


def _mark(ticket: str) -> str:
    return hashlib.sha256(f"ticket:{ticket}".encode()).hexdigest()[:24]
