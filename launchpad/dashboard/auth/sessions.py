"""Logins in a signed cookie: name, epoch and time per group, checked against the account each time."""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING

from flask import session

from launchpad.dashboard.auth.access import Role
from launchpad.dashboard.auth.accounts import Account, find_account

if TYPE_CHECKING:
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["LOCAL", "current", "log_in", "log_in_locally", "log_out"]

#: Name of whoever came by the link that the terminal printed; an account cannot have it.
LOCAL = "(this computer)"


def log_in(group: Group, account: Account) -> None:
    """Remember a login; what the cookie held before for this group, whoever planted it, is gone."""
    logins = dict(session.get("logins", {}))
    session.clear()
    logins[group.name] = [account.name, account.epoch, int(time.time())]
    session["logins"] = logins


def log_in_locally(groups: list[str], given: str, ticket: str) -> bool:
    """Log in by the ticket that the terminal printed; return whether it was right."""
    if not hmac.compare_digest(given.encode(), ticket.encode()):
        return False
    session.clear()
    session["logins"] = {name: [LOCAL, 0, int(time.time())] for name in groups}
    return True


def log_out() -> None:
    """Forget everything."""
    session.clear()


def current(group: Group, settings: DashboardSettings, *, local: bool) -> Account | None:
    """Return who is logged in to a group, or None.

    Parameters
    ----------
    group
        The group.
    settings
        How long a login lasts.
    local
        Whether this dashboard prints a ticket for the person at this computer.
    """
    entry = session.get("logins", {}).get(group.name)
    if not isinstance(entry, list) or len(entry) != 3:
        return None
    name, epoch, since = entry
    if time.time() - float(since) > settings.session_hours * 3600:
        return None
    if name == LOCAL:
        return Account(LOCAL, Role.ADMIN) if local else None
    account = find_account(group.database, str(name))
    return account if account is not None and account.epoch == epoch else None
