"""Claims on labels: of two workers that want the same label at once, of whatever campaigns, one computes it.

A claim saves work; it guards no result. The first label that is stored under a key stays, so a claim that was lost
too early (a host cut off from the database for longer than the lease) costs one calculation twice and nothing else.

Leases are written and judged by the server's clock, which each process carries on with its own monotonic clock: a host
whose time of day is wrong neither loses its claims nor takes those of others. A holder on the same host that is dead
loses its claims at once.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

from launchpad.queue.connection import ServerClock
from launchpad.queue.identity import ProcessIdentity
from launchpad.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymongo.database import Database

__all__ = ["LEASE_S", "Claims", "hold_claims", "keep_claims", "release_claims"]

logger = logging.getLogger("launchpad.labels")

#: Seconds after which a claim that its holder has not renewed is taken over by whoever wants the label.
LEASE_S = 300.0
#: A claim is renewed this often within its lease: one renewal may be lost.
_RENEWALS = 5


class Claims:
    """The claims of one task; a context manager that renews them in a thread and releases them at its end.

    Parameters
    ----------
    database
        With durable writes.
    campaign
        For people who look at the database.
    lease_s
        See `LEASE_S`.
    identity
        The calling process; tests give others.
    token
        Names the holder; a new name by default.
    """

    #: tokens of this process that are in use
    _in_use: set[str] = set()  # noqa: RUF012 - shared on purpose

    def __init__(
        self,
        database: Database[Any],
        campaign: str,
        *,
        lease_s: float = LEASE_S,
        identity: ProcessIdentity | None = None,
        token: str | None = None,
    ) -> None:
        self._claims = database.label_claims
        self._campaign = campaign
        self._lease_s = lease_s
        self._identity = identity or ProcessIdentity.current()
        self._clock = ServerClock(database.client)
        self.token = token or uuid.uuid4().hex
        # whether there may be claims: a write whose reply was lost may have been done
        self._asked = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="label claims", daemon=True)

    def __enter__(self) -> Self:
        self._clock.synchronise()
        self._in_use.add(self.token)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        from pymongo.errors import PyMongoError

        self._end.set()
        self._thread.join()
        try:
            self.release()
        except PyMongoError as failure:
            # a lost database must not hide the task's own end, and others must not wait for the lease to end
            logger.warning("claims on labels are not released yet: %s", failure)
            threading.Thread(target=self._insist, name="label claims", daemon=True).start()
        self._in_use.discard(self.token)

    def take(self, keys: Iterable[str]) -> list[str]:
        """Claim those of these labels that nobody is computing; return them, in their order.

        The caller looks again whether a claimed label is there by now before it computes it: its holder may have stored
        it between the caller's look and this claim.
        """
        return [key for key in dict.fromkeys(keys) if self._take(key)]

    def holders(self, keys: Sequence[str]) -> list[str]:
        """Return who holds claims on these labels, for people."""
        return [
            f"process {held['pid']} on {held['host']} (campaign {held['campaign']})"
            for held in self._claims.find({"_id": {"$in": list(keys)}}).sort("_id", 1)
        ]

    def release(self) -> None:
        """Give back every claim."""
        if self._asked:
            self._claims.delete_many({"token": self.token})
            self._asked = False

    def _insist(self) -> None:
        """Give the claims back as soon as the database is there again; beyond the lease they are worth nothing."""
        from pymongo.errors import PyMongoError

        end = time.monotonic() + self._lease_s
        for pause in Backoff(first_s=0.2, largest_s=5.0).pauses():
            time.sleep(pause)
            try:
                self.release()
            except PyMongoError:
                if time.monotonic() > end:
                    return
            else:
                return

    def _take(self, key: str) -> bool:
        from pymongo.errors import DuplicateKeyError

        self._asked = True
        now = self._clock.now()
        claim = {
            **self._identity.document(),
            "campaign": self._campaign,
            "token": self.token,
            "until": now + self._lease_s,
        }
        try:
            self._claims.insert_one({"_id": key, **claim})
        except DuplicateKeyError:
            held = self._claims.find_one({"_id": key})
            if held is None:
                return False  # just released: it is looked at again
            if not self._abandoned(held, now):
                return bool(held["token"] == self.token)
            taken = self._claims.update_one({"_id": key, "token": held["token"]}, {"$set": claim})
            if not taken.matched_count:
                return False
            logger.warning("label %s: claim of process %s on %s taken over", key, held["pid"], held["host"])
        return True

    def _abandoned(self, held: dict[str, Any], now: float) -> bool:
        owner = ProcessIdentity.from_document(held)
        if held["until"] < now or owner is None or owner.fate == "dead":
            return True
        # left behind when this process lost the database at the end of an earlier task
        return owner == self._identity and held["token"] not in self._in_use

    def _renew(self) -> None:
        from pymongo.errors import PyMongoError

        while not self._end.wait(self._lease_s / _RENEWALS):
            if not self._asked:
                continue
            try:
                self._clock.synchronise()
                self._claims.update_many(
                    {"token": self.token}, {"$set": {"until": self._clock.now() + self._lease_s}}
                )
            except PyMongoError as failure:
                logger.warning("claims on labels are not renewed: %s", failure)


def hold_claims(database: Database[Any], campaign: str, keys: Sequence[str], token: str) -> list[str]:
    """Claim labels that are computed out of reach of the database: all of them, or none.

    Whoever holds them calls `keep_claims` at least every `LEASE_S` seconds, and `release_claims` at the end.

    Parameters
    ----------
    database, campaign
        See `Claims`.
    keys
        Of the labels.
    token
        Names the holder; what it holds already is no hindrance.

    Returns
    -------
    list of str
        Who is at one of them already, for people; empty when all are claimed.
    """
    claims = Claims(database, campaign, token=token)
    Claims._in_use.add(token)
    taken = set(claims.take(keys))
    others = [key for key in dict.fromkeys(keys) if key not in taken]
    if not others:
        return []
    release_claims(database, token)
    return claims.holders(others) or ["somebody who has just ended"]


def keep_claims(database: Database[Any], token: str) -> None:
    """Renew what a holder has claimed, and let this process answer for it from now on."""
    Claims._in_use.add(token)
    clock = ServerClock(database.client)
    clock.synchronise()
    mine = {**ProcessIdentity.current().document(), "until": clock.now() + LEASE_S}
    database.label_claims.update_many({"token": token}, {"$set": mine})


def release_claims(database: Database[Any], token: str) -> None:
    """Give back what a holder has claimed; again harms nothing."""
    database.label_claims.delete_many({"token": token})
    Claims._in_use.discard(token)
