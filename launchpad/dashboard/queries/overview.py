"""What the first page reads: campaigns at a glance with pace and cost, and what does not go as it should."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymongo.database import Database

    from launchpad.dashboard.queries.workers import Host

logger = logging.getLogger("launchpad.dashboard")

__all__ = ["CampaignLine", "Ledger", "Trouble", "campaign_lines", "ledger_of", "troubles"]

#: So many launches are added to a ledger at one look; a longer history is read beside the pages.
_AT_ONCE: Final = 500
#: Results are written a little later than the time that they carry.
_MARGIN: Final = timedelta(seconds=10)
_HOUR_S: Final = 3600.0
#: So many campaigns are shown on the first page; the others are on the page of campaigns.
_CAMPAIGNS: Final = 20


class Ledger:
    """Adds up what the launches of each campaign cost, and counts those that ended lately; each launch is read once.

    A result that a worker delivers long after its end, from the spool of a host, is counted by ledgers made later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._position = ""
        self._near: dict[int, str] = {}
        self._seconds: dict[str, float] = {}
        self._ends: dict[str, deque[float]] = {}
        self._beside: threading.Thread | None = None
        self._known: dict[tuple[Any, ...], Any] = {}
        #: Whether everything stored has been read.
        self.complete = False

    def look(self, database: Database[Any]) -> None:
        """Read what ended since the last look; what is too much for a page is read beside it."""
        with self._lock:
            if self._beside is not None and self._beside.is_alive():
                return
            self._read(database)
            if not self.complete:
                self._beside = threading.Thread(target=self._read_all, args=(database,), daemon=True)
                self._beside.start()

    def _read_all(self, database: Database[Any]) -> None:
        from pymongo.errors import PyMongoError

        while not self.complete:
            # pages are answered by the same process
            time.sleep(0.05)
            try:
                with self._lock:
                    self._read(database)
            except PyMongoError as error:
                logger.warning("the history of launches is not read to its end for now: %s", error)
                return

    def _read(self, database: Database[Any]) -> None:
        since = ""
        if self._position:
            since = (datetime.fromisoformat(self._position) - _MARGIN).isoformat()
        fields = {
            "launch_id": 1,
            "fw_id": 1,
            "time_end": 1,
            "runtime_secs": 1,
            "action.stored_data.seconds": 1,
        }
        found = list(
            database.launches.find({"time_end": {"$gt": since}}, fields).sort("time_end", 1).limit(_AT_ONCE)
        )
        new = [launch for launch in found if launch["launch_id"] not in self._near]
        campaigns = {
            task["fw_id"]: str(task["spec"]["campaign"])
            for task in database.fireworks.find(
                {"fw_id": {"$in": sorted({launch["fw_id"] for launch in new})}},
                {"fw_id": 1, "spec.campaign": 1},
            )
            if (task.get("spec") or {}).get("campaign")
        }
        for launch in new:
            name = campaigns.get(launch["fw_id"])
            if name is None:
                continue
            stored = (launch.get("action") or {}).get("stored_data") or {}
            seconds = stored.get("seconds") or launch.get("runtime_secs") or 0.0
            self._seconds[name] = self._seconds.get(name, 0.0) + float(seconds)
            moment = datetime.fromisoformat(launch["time_end"])
            ended = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            self._ends.setdefault(name, deque(maxlen=20_000)).append(ended)
        self.complete = len(found) < _AT_ONCE
        if found:
            self._position = found[-1]["time_end"]
            edge = (datetime.fromisoformat(self._position) - _MARGIN).isoformat()
            kept = {**self._near, **{launch["launch_id"]: launch["time_end"] for launch in new}}
            self._near = {key: ended for key, ended in kept.items() if ended > edge}

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what was made for a key before, or make it: for what only changes together with the key."""
        if key not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[key] = make()
        return self._known[key]

    def hours(self, campaign: str) -> float:
        """Return the core hours of a campaign so far: wall time of its tasks on one core each."""
        return self._seconds.get(campaign, 0.0) / _HOUR_S

    def last_hour(self, campaign: str, now: float) -> int:
        """Return how many launches of a campaign ended within the hour before `now` (seconds since the epoch)."""
        with self._lock:
            ends = self._ends.get(campaign)
            while ends and ends[0] < now - _HOUR_S:
                ends.popleft()
            return len(ends or ())


#: By client and name of the database: clients of one server are equal.
_LEDGERS: WeakKeyDictionary[Any, dict[str, Ledger]] = WeakKeyDictionary()


def ledger_of(database: Database[Any]) -> Ledger:
    """Return the ledger of this process for a database, up to date unless much is new."""
    ledger = _LEDGERS.setdefault(database.client, {}).setdefault(database.name, Ledger())
    ledger.look(database)
    return ledger


@dataclass(frozen=True)
class CampaignLine:
    """A campaign at a glance.

    Attributes
    ----------
    row
        As in the list of campaigns.
    labels
        Of the budget, those of the generation in work included.
    failed
        Failed tasks.
    last_hour
        Launches that ended within an hour.
    core_hours
        Cost so far.
    counted
        Whether the cost is that of everything.
    forecast
        When the energy error reaches its target by the learning curve: see `campaigns.forecast`; None where the
        campaign has ended or nothing is known.
    """

    row: dict[str, Any]
    labels: int
    failed: int
    last_hour: int
    core_hours: float
    counted: bool
    forecast: dict[str, Any] | None


def campaign_lines(database: Database[Any]) -> tuple[list[CampaignLine], int]:
    """Return the campaigns that were changed last, those in work first, and how many there are in all."""
    from launchpad.dashboard.queries.campaigns import campaign_rows, forecast

    rows = campaign_rows(database)
    rows.sort(key=lambda row: row["updated"], reverse=True)
    rows.sort(key=lambda row: row["state"] in (CampaignState.DONE, CampaignState.CANCELLED))
    ledger = ledger_of(database)
    now = time.time()
    lines = []
    for row in rows[:_CAMPAIGNS]:
        name = row["name"]
        active = row["state"] in (CampaignState.SUBMITTED, CampaignState.RUNNING)
        expected = []
        if active and row["assessed"] is not None:
            # of the assessments, and of what a campaign's file cannot change afterwards
            key = ("forecast", name, row["created"], row["assessed"])
            expected = ledger.once(key, partial(forecast, database, name))
        lines.append(
            CampaignLine(
                row=row,
                labels=row["labels"] + (_labels_in_work(database, ledger, row) if active else 0),
                failed=database.fireworks.count_documents({"state": "FIZZLED", "spec.campaign": name}),
                last_hour=ledger.last_hour(name, now),
                core_hours=ledger.hours(name),
                counted=ledger.complete,
                forecast=expected[0] if expected else None,
            )
        )
    return lines, len(rows)


def _labels_in_work(database: Database[Any], ledger: Ledger, row: Mapping[str, Any]) -> int:
    """Return how many structures of the generation in work have their label."""
    from launchpad.database.campaigns import levels_of, require_campaign
    from launchpad.database.documents import generation_id, label_id
    from launchpad.database.labels import count_done

    if row["assessed"] is not None and row["generation"] <= row["assessed"]:
        return 0
    key = generation_id(row["name"], row["generation"])
    selection = database.selections.find_one({"_id": key}, {"train": 1, "test": 1})
    if selection is None:
        return 0
    ids = [*selection["train"], *selection["test"]]
    hashes = [d["hash"] for d in database.structures.find({"_id": {"$in": ids}}, {"hash": 1})]

    level = levels_of(require_campaign(database, row["name"]))["crystal"]
    return count_done(database, [label_id(text, level) for text in hashes], row["name"])


@dataclass(frozen=True)
class Trouble:
    """Something that does not go as it should.

    Attributes
    ----------
    found
        What.
    remedy
        What to do, empty if nothing.
    failed_tasks
        Whether the queue's list of failures tells more.
    """

    found: str
    remedy: str = ""
    failed_tasks: bool = False


def troubles(
    counts: Mapping[str, Mapping[str, int]], hosts: Sequence[Host], lines: Sequence[CampaignLine]
) -> list[Trouble]:
    """Judge what the other parts of the page have read; an empty list means that all is well.

    Parameters
    ----------
    counts
        From `launchpad.queries.queue_counts`.
    hosts
        From `worker_hosts`.
    lines
        From `campaign_lines`.
    """
    found = [
        Trouble(f"campaign {line.row['name']} is halted: {line.row['reason']}")
        for line in lines
        if line.row["state"] == CampaignState.HALTED
    ]
    failed = sum(row.get("FIZZLED", 0) for row in counts.values())
    if failed:
        found.append(
            Trouble(f"{failed} tasks have failed" if failed > 1 else "one task has failed", "", True)
        )
    rows = [row for host in hosts for row in host.rows]
    gone = sum(row.condition in {"dead", "silent"} for row in rows)
    if gone:
        found.append(
            Trouble(
                f"{gone} processes ended without a word or cannot be heard",
                "their tasks run again by themselves; 'gapfactory doctor' on their hosts tells more",
            )
        )
    living = [
        row for row in rows if row.kind in {"worker", "push"} and row.condition not in {"dead", "silent"}
    ]
    ready = {kind: row["READY"] for kind, row in counts.items() if row.get("READY")}
    left = {
        kind: number
        for kind, number in ready.items()
        if not any(not row.categories or kind in row.categories for row in living)
    }
    if left:
        kinds = ", ".join(f"{number} {kind or 'without kind'}" for kind, number in left.items())
        found.append(Trouble(f"ready, and no living worker takes them: {kinds}", "'gapfactory worker start'"))
    return found
