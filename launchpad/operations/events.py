"""What people are told of, found in the database: each event has a key of its own, so that it is told once.

What lasts (a standstill, no workers) is judged by the server's clock from when this was first seen; what was seen, and
since when, stands in ``notices`` beside the notices themselves, so that a restart forgets nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launchpad.operations.quotas import measure, remedy
from launchpad.operations.stored import quota_of
from launchpad.queue.connection import ServerClock
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from launchpad.operations.settings import Event, NoticeSettings

__all__ = ["Happening", "Watch"]

_OPEN = ["READY", "RESERVED", "RUNNING", "WAITING"]
#: A quota that fell this much below its threshold may be told of again.
_HYSTERESIS = 0.05


@dataclass(frozen=True)
class Happening:
    """Something that people may be told of.

    Attributes
    ----------
    key
        The same however often it is seen, and different for every new occasion.
    event
        What kind of event it is.
    subject
        One line.
    text
        What happened and what to do.
    details
        For programs; names and numbers only.
    """

    key: str
    event: Event
    subject: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


class Watch:
    """Looks at a database again and again.

    Parameters
    ----------
    database
        With durable writes.
    settings
        Its limits of time.
    """

    def __init__(self, database: Database[Any], settings: NoticeSettings) -> None:
        self._database = database
        self._settings = settings
        self._clock = ServerClock(database.client)
        self._quota_due = 0.0

    def look(self) -> list[Happening]:
        """Return everything that is the case now, told or not."""
        self._clock.synchronise()
        now = self._clock.now()
        found = [*self._campaigns(now), *self._workers(now), *self._gave_up()]
        if now >= self._quota_due:
            self._quota_due = now + self._settings.quota_every_s
            found += self._quota()
        return found

    def _since(self, what: str, value: str, now: float) -> float:
        """Return since when something has had this value, as far as anybody has looked."""
        from pymongo.errors import DuplicateKeyError

        key = {"_id": f"seen/{what}"}
        seen = self._database.notices.find_one(key)
        if seen is None or seen["value"] != value:
            # of several services one sets the time
            changed: dict[str, Any] = {"value": value, "since": now, "state": "seen"}
            if seen is None:
                with suppress(DuplicateKeyError):
                    self._database.notices.update_one(key, {"$setOnInsert": changed}, upsert=True)
            else:
                self._database.notices.update_one({**key, "value": seen["value"]}, {"$set": changed})
            seen = self._database.notices.find_one(key) or changed
        return float(seen["since"])

    def _campaigns(self, now: float) -> Iterator[Happening]:
        fields = {"state": 1, "reason": 1, "generation": 1, "since": 1, "updated": 1}
        for record in self._database.campaigns.find({}, fields).sort("_id", 1):
            state = CampaignState(record["state"])
            if state.ended:
                yield _ended(self._database.name, record, state)
            else:
                yield from self._standstill(record, now)

    def _standstill(self, record: dict[str, Any], now: float) -> Iterator[Happening]:
        name = record["_id"]
        mine = {"spec.campaign": name, "spec.generation": record["generation"]}
        fireworks = self._database.fireworks
        done = fireworks.count_documents({**mine, "state": "COMPLETED"})
        open_tasks = {state: fireworks.count_documents({**mine, "state": state}) for state in _OPEN}
        since = self._since(f"progress/{name}", f"{record['generation']}/{done}", now)
        if not sum(open_tasks.values()) or now - since < self._settings.stalled_after_s:
            return
        running = open_tasks["RUNNING"] + open_tasks["RESERVED"]
        why = (
            f"{running} tasks are running"
            if running
            else "nothing is running; 'gapfactory worker list' shows whether there are workers"
        )
        minutes = (now - since) / 60.0
        yield Happening(
            f"{name}/stalled/{since:.3f}",
            "stalled",
            f"campaign {name} stalls",
            f"No task of campaign {name} has ended for {minutes:.0f} minutes, and {sum(open_tasks.values())} are open: "
            f"{why}. 'gapfactory campaign why {name}' and 'gapfactory doctor' tell more.",
            {
                "campaign": name,
                "generation": record["generation"],
                "minutes": round(minutes, 1),
                **open_tasks,
            },
        )

    def _workers(self, now: float) -> Iterator[Happening]:
        from launchpad.workers.registry import list_workers

        alive = sum(
            entry["alive"] is True and entry.get("kind") == "worker" for entry in list_workers(self._database)
        )
        ready = self._database.fireworks.count_documents({"state": "READY"})
        gone = bool(ready) and not alive
        since = self._since("workers", "gone" if gone else "there", now)
        if gone and now - since >= self._settings.workers_gone_after_s:
            yield Happening(
                f"workers-gone/{since:.3f}",
                "workers-gone",
                "no workers",
                f"{ready} tasks of {self._database.name} are ready and no worker has been there for "
                f"{(now - since) / 60.0:.0f} minutes: 'gapfactory worker start', or look at the batch systems.",
                {"ready": ready},
            )

    def _gave_up(self) -> Iterator[Happening]:
        for raw in self._database.queue_retries.find({"exhausted": True}).sort("_id", 1):
            task = (
                self._database.fireworks.find_one({"fw_id": raw["_id"]}, {"name": 1, "spec.campaign": 1})
                or {}
            )
            name = task.get("name", "")
            # given up again after another resume, it is another occasion
            last = max([*raw.get("dead", ()), *raw.get("transient", ())], default=0)
            campaign = (task.get("spec") or {}).get("campaign", "")
            yield Happening(
                f"gave-up/{raw['_id']}/{last}",
                "gave-up",
                f"task {raw['_id']} {name} was given up",
                f"Task {raw['_id']} ({name}) has met faults of the machines too often and is not tried again. "
                f"'gapfactory campaign why {campaign}' tells the last one; mend it, then 'gapfactory campaign resume "
                f"{campaign}'.",
                {"fw_id": raw["_id"], "campaign": campaign},
            )

    def _quota(self) -> Iterator[Happening]:
        quota = quota_of(self._database)
        for use in measure(self._database, quota, limited=True):
            if use.limit is None:
                continue
            for step, words in ((quota.warn_at, "is nearly used"), (1.0, "is used up")):
                key = f"quota/{use.name}/{use.limit:g}/{step:g}"
                if use.share >= step:
                    what = use.name.replace("_", " ")
                    yield Happening(
                        key,
                        "quota",
                        f"quota of {what} {words}",
                        f"{use.used:.4g} of {use.limit:g} {what} are used in {self._database.name}. Campaigns halt at "
                        f"the limit and lose nothing; {remedy(use.name)}.",
                        {"what": use.name, "used": use.used, "limit": use.limit},
                    )
                elif use.share < step - _HYSTERESIS:
                    self._database.notices.delete_many({"key": key, "state": "sent"})


def _ended(database: str, record: dict[str, Any], state: CampaignState) -> Happening:
    name = record["_id"]
    moment = record.get("since", record["updated"])
    event: Event = (
        "done" if state is CampaignState.DONE else "halted" if state is CampaignState.HALTED else "cancelled"
    )
    words = {"done": "is done", "halted": "has halted", "cancelled": "was cancelled"}[event]
    remedy = {
        "done": f"'gapfactory campaign report {name}' writes its report.",
        "halted": f"'gapfactory campaign why {name}' tells what to do; nothing that was computed is lost.",
        "cancelled": f"'gapfactory campaign resume {name}' takes it up again.",
    }[event]
    return Happening(
        f"{name}/{event}/{moment.timestamp():.3f}",
        event,
        f"campaign {name} {words}",
        f"Campaign {name} in {database} {words}: {record['reason']}. {remedy}",
        {"campaign": name, "generation": record["generation"], "reason": record["reason"]},
    )
