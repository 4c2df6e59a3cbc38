"""The audit trail: who did what and when, in a collection to which the group's roles can only add.

The database enforces that no entry is changed or removed by anybody of the group. Who and when are what the server
told this client; a hostile member can add false entries, see ``docs/reference/security.md``.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from launchpad.database.privileges import AUDIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pymongo.database import Database

__all__ = ["EVENTS", "Entry", "acting_for", "audit", "read_audit"]

#: Names of events with what they mean.
EVENTS: dict[str, str] = {
    "user.added": "a user was made",
    "user.removed": "a user was removed",
    "user.password": "a user was given a new password",
    "user.upgraded": "a user was given the role of this version",
    "share.granted": "another group was granted something",
    "share.revoked": "a grant was taken back",
    "share.accepted": "labels of another group are used from now on",
    "share.declined": "labels of another group are used no more",
    "campaign.submitted": "a campaign was submitted, or its settings were changed",
    "campaign.cancelled": "a campaign was cancelled",
    "campaign.resumed": "a halted or cancelled campaign was taken up again",
    "campaign.retried": "quarantined structures of a campaign are labelled again",
    "task.rerun": "tasks were run again",
    "task.paused": "tasks were paused",
    "task.resumed": "paused or cancelled tasks may start again",
    "task.cancelled": "tasks were switched off",
    "task.priority": "tasks were given another priority",
    "worker.stopped": "workers were asked to stop",
    "dashboard.account": "an account of the dashboard was made, changed or removed",
    "dashboard.token": "a token of the dashboard was made or removed",
    "database.imported": "an archive was read into the database",
    "retention.deleted": "data were deleted by the retention policy",
    "retention.restored": "an archive of removed data was read back",
    "retention.policy": "a retention policy was stored or taken away",
    "quota.changed": "the limits of the group were changed",
    "schema.migrated": "the documents were brought to a newer layout",
}


@dataclass(frozen=True)
class Entry:
    """One event.

    Attributes
    ----------
    event
        One of `EVENTS`.
    who
        The authenticated users of the connection, ``name@database``; ``local`` on a server of one's own. Before it, the
        person for whom the dashboard acted, where it did: ``anna (dashboard) as gapfactory@si``.
    when
        By the server's clock, UTC.
    details
        What it was about.
    """

    event: str
    who: str
    when: datetime
    details: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "when": self.when.isoformat()}


_PERSON: Final[ContextVar[str]] = ContextVar("person", default="")


@contextmanager
def acting_for(person: str) -> Iterator[None]:
    """Name whoever asked for what this process does now under an account that many share.

    Parameters
    ----------
    person
        Account of the dashboard, checked by it.
    """
    token = _PERSON.set(person)
    try:
        yield
    finally:
        _PERSON.reset(token)


def audit(database: Database[Any], event: str, **details: Any) -> None:
    """Add an event to the trail of a group, after it has happened.

    Parameters
    ----------
    database
        The group's.
    event
        One of `EVENTS`.
    details
        What it was about, as plain data: names and numbers, never a secret.

    Raises
    ------
    KeyError
        There is no such event.
    pymongo.errors.OperationFailure
        The user may not add to the trail (workers and viewers may not).
    """
    EVENTS[event]
    admin = database.client.admin
    users = admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
    who = ", ".join(f"{user['user']}@{user['db']}" for user in users) or "local"
    person = _PERSON.get()
    database[AUDIT].insert_one(
        {
            "event": event,
            "who": f"{person} (dashboard) as {who}" if person else who,
            "when": admin.command("hello")["localTime"],
            "details": details,
        }
    )


def read_audit(database: Database[Any], *, newest: int = 0) -> list[Entry]:
    """Return the events of a group, oldest first; only so many of the newest if asked."""
    found = database[AUDIT].find().sort([("when", -1), ("_id", -1)]).limit(newest)
    return [Entry(d["event"], d["who"], d["when"], d["details"]) for d in found][::-1]
