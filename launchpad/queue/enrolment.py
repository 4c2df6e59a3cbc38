"""Which campaigns a worker works for.

A task of this project belongs to a campaign, and both its spec and the task name it. A worker takes only tasks of
campaigns that exist in its database and, where it was told some, of those. Tasks of other packages, which somebody put
on the worker's allow-list, are not bound to campaigns.
"""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from launchpad.queue.guard import DEFAULT_ALLOWED, AllowList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

__all__ = ["Enrolment"]

#: What is known of the campaigns is asked for again after this time (seconds): there may be new ones.
_FRESH_S = 10.0

_OURS = AllowList(DEFAULT_ALLOWED)


class Enrolment:
    """The campaigns of one worker.

    Parameters
    ----------
    database
        Where the campaigns are.
    patterns
        Names, or shell patterns such as ``boron-*``; none given means all.
    """

    def __init__(self, database: Database[Any], patterns: tuple[str, ...] = ()) -> None:
        self._database = database
        self.patterns = patterns
        self._seen: dict[str, float] = {}
        self._wanted: list[str] = []
        self._looked_at = float("-inf")

    def query(self) -> dict[str, Any]:
        """Return what restricts a checkout to these campaigns, and to tasks that name none; empty for all."""
        if not self.patterns:
            return {}
        if time.monotonic() - self._looked_at > _FRESH_S:
            names = (str(found["_id"]) for found in self._database.campaigns.find({}, {"_id": 1}))
            self._wanted = sorted(name for name in names if self._listed(name))
            self._looked_at = time.monotonic()
        return {"spec.campaign": {"$in": [None, *self._wanted]}}

    def refusal(self, spec: Mapping[str, Any]) -> str | None:
        """Return why a Firework of this (raw) spec must not run here, or None if it may."""
        ours = [task for task in spec.get("_tasks") or [] if _OURS.allows(task.get("_fw_name"))]
        if not ours:
            return None
        name = spec.get("campaign")
        if not isinstance(name, str):
            return "its spec names no campaign: tasks of this project belong to one"
        others = sorted({repr(task.get("campaign")) for task in ours if task.get("campaign") != name})
        if others:
            return f"its spec names campaign {name!r} and a task of it {', '.join(others)}"
        if not self._exists(name):
            return f"campaign {name!r} does not exist in database {self._database.name!r}"
        if not self._listed(name):
            return f"this worker is not enrolled for campaign {name!r} (only for {', '.join(self.patterns)})"
        return None

    def _listed(self, name: str) -> bool:
        return not self.patterns or any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def _exists(self, name: str) -> bool:
        """Return whether the database has the campaign, or had it a few seconds ago."""
        if time.monotonic() - self._seen.get(name, float("-inf")) > _FRESH_S:
            self._seen.pop(name, None)
            if self._database.campaigns.find_one({"_id": name}, {"_id": 1}) is None:
                return False
            self._seen[name] = time.monotonic()
        return True
