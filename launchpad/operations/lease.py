"""One process at a time: a lease in the database, by the server's clock."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

from gapfactory.errors import StateError
from launchpad.queue.connection import ServerClock
from launchpad.queue.identity import ProcessIdentity

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["Lease"]


class Lease:
    """A context manager that holds a lease, or raises; the holder renews it between its batches.

    Parameters
    ----------
    database
        With durable writes.
    name
        What is leased.
    ttl_s
        Seconds after which another process takes it over, unless it was renewed; a dead holder on the same host loses
        it at once.

    Raises
    ------
    StateError
        Another process holds it, or has taken it over.
    """

    def __init__(self, database: Database[Any], name: str, *, ttl_s: float = 120.0) -> None:
        self.leases = database.queue_leases
        self._name = name
        self._ttl_s = ttl_s
        self._token = uuid.uuid4().hex
        self._identity = ProcessIdentity.current()
        self._clock = ServerClock(database.client)
        self._renewed = 0.0

    def __enter__(self) -> Self:
        from pymongo.errors import DuplicateKeyError

        self._clock.synchronise()
        now = self._clock.now()
        lease = {**self._identity.document(), "token": self._token, "until": now + self._ttl_s}
        self._renewed = now
        try:
            self.leases.insert_one({"_id": self._name, **lease})
        except DuplicateKeyError:
            held = self.leases.find_one({"_id": self._name}) or {"token": None, "until": 0.0}
            owner = ProcessIdentity.from_document(held)
            dead = owner is not None and owner.fate == "dead"
            free = dead or held["until"] <= now
            taken = free and self.leases.update_one(
                {"_id": self._name, "token": held["token"]}, {"$set": lease}
            )
            if not taken or taken.matched_count == 0:
                who = f"process {owner.pid} on {owner.host}" if owner else "another process"
                msg = f"{self._name}: {who} is at it; wait until it has ended, then repeat the command"
                raise StateError(msg) from None
        return self

    def __exit__(self, *error: object) -> None:
        self.leases.delete_one({"_id": self._name, "token": self._token})

    def renew(self) -> None:
        """Prolong the lease, when a quarter of it is over; raise `StateError` if it was taken over."""
        now = self._clock.now()
        if now - self._renewed < self._ttl_s / 4:
            return
        done = self.leases.update_one(
            {"_id": self._name, "token": self._token}, {"$set": {"until": now + self._ttl_s}}
        )
        if done.matched_count == 0:
            msg = f"{self._name}: another process has taken over; nothing is lost, repeat the command"
            raise StateError(msg)
        self._renewed = now
