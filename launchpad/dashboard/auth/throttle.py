"""Wrong passwords are counted per name and per address, in the database: several processes count together."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["Throttle"]


class Throttle:
    """Counts failures of one login attempt's name and address.

    Parameters
    ----------
    database
        The group's.
    settings
        How many are let pass, and for how long no more.
    name, address
        Of the attempt; stored as hashes, since people type passwords into the wrong field.
    """

    def __init__(self, database: Database[Any], settings: DashboardSettings, name: str, address: str) -> None:
        self._logins = database.dashboard_logins
        self._settings = settings
        self._keys = [
            hashlib.sha256(text.encode()).hexdigest() for text in (f"name:{name}", f"address:{address}")
        ]

    def wait_s(self) -> float:
        """Return for how long no password is looked at, 0 if it may be."""
        now = time.time()
        blocked = [
            float(found["until"]) - now
            for found in self._logins.find({"_id": {"$in": self._keys}, "until": {"$gt": now}})
        ]
        return max(blocked, default=0.0)

    def failed(self) -> None:
        """Count a wrong password."""
        now, pause = time.time(), self._settings.login_pause_s
        self._logins.delete_many({"last": {"$lt": now - pause}})
        for key in self._keys:
            self._logins.update_one(
                {"_id": key}, {"$inc": {"failures": 1}, "$set": {"last": now}}, upsert=True
            )
            self._logins.update_one(
                {"_id": key, "failures": {"$gte": self._settings.login_failures}},
                {"$set": {"until": now + pause}},
            )

    def succeeded(self) -> None:
        """Forget what was counted for the name; the address stays counted, since others may use it."""
        self._logins.delete_one({"_id": self._keys[0]})
