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

from gapfactory.errors import StateError
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pymongo.database import Database

    from launchpad.dashboard.queries.workers import Host

logger = logging.getLogger("launchpad.dashboard")

__all__ = ["CampaignLine", "Ledger", "Trouble", "campaign_lines", "labels_now", "ledger_of", "troubles"]

#: So many launches are added to a ledger at one look; a longer history is read beside the pages.
_AT_ONCE: Final = 500
#: Beside the pages, so many are read at once, and the pause is so much longer than the reading: a database that answers
#: one after the other answers the pages in between.
_BESIDE: Final = 100
_PAUSES: Final = 4.0
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
        #: held while the database is asked, and while what it said is added up
        self._reading = threading.Lock()
        self._lock = threading.Lock()
        self._position = ""
        self._near: dict[int, str] = {}
        self._seconds: dict[str, float] = {}
        self._ends: dict[str, deque[float]] = {}
        self._beside: threading.Thread | None = None
        self._known: dict[tuple[Any, ...], Any] = {}
        self._waiting: dict[tuple[Any, ...], tuple[int, set[str]]] = {}
        #: Core hours of the completed launches of all campaigns, as quotas count them.
        self.completed_hours = 0.0
        #: Whether everything stored has been read.
        self.complete = False

    def look(self, database: Database[Any]) -> None:
        """Read what ended since the last look; what is too much for a page is read beside it, and no page waits."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            if self._beside is not None and self._beside.is_alive():
                return
            self._read(database, _AT_ONCE)
            if not self.complete:
                self._beside = threading.Thread(target=self._read_all, args=(database,), daemon=True)
                self._beside.start()
        finally:
            self._reading.release()

    def _read_all(self, database: Database[Any]) -> None:
        from pymongo.errors import PyMongoError

        took = 0.0
        while not self.complete:
            time.sleep(max(0.02, _PAUSES * took))
            begun = time.monotonic()
            try:
                with self._reading:
                    self._read(database, _BESIDE)
                took = time.monotonic() - begun
            except PyMongoError as error:
                logger.warning("the history of launches is not read to its end for now: %s", error)
                return

    def _read(self, database: Database[Any], most: int) -> None:
        since = self._position
        if since and self.complete:
            since = (datetime.fromisoformat(since) - _MARGIN).isoformat()
        fields = {
            "launch_id": 1,
            "fw_id": 1,
            "state": 1,
            "time_end": 1,
            "runtime_secs": 1,
            "action.stored_data.seconds": 1,
        }
        found = list(
            database.launches.find({"time_end": {"$gte": since}}, fields).sort("time_end", 1).limit(most)
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
        with self._lock:
            self._add(new, campaigns)
        self.complete = len(found) < most
        if found:
            self._position = found[-1]["time_end"]
            edge = (datetime.fromisoformat(self._position) - _MARGIN).isoformat()
            kept = {**self._near, **{launch["launch_id"]: launch["time_end"] for launch in new}}
            self._near = {key: ended for key, ended in kept.items() if ended > edge}

    def _add(self, launches: Sequence[Mapping[str, Any]], campaigns: Mapping[int, str]) -> None:
        for launch in launches:
            name = campaigns.get(launch["fw_id"])
            stored = (launch.get("action") or {}).get("stored_data") or {}
            if launch["state"] == "COMPLETED":
                self.completed_hours += float(stored.get("seconds") or 0.0) / _HOUR_S
            if name is None:
                continue
            seconds = stored.get("seconds") or launch.get("runtime_secs") or 0.0
            self._seconds[name] = self._seconds.get(name, 0.0) + float(seconds)
            moment = datetime.fromisoformat(launch["time_end"])
            ended = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            self._ends.setdefault(name, deque(maxlen=20_000)).append(ended)

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what was made for a key before, or make it: for what only changes together with the key."""
        if key not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[key] = make()
        return self._known[key]

    def labels_done(
        self, database: Database[Any], chosen: Mapping[tuple[Any, ...], Callable[[], Collection[str]]]
    ) -> dict[tuple[Any, ...], int]:
        """Return how many labels are done of what was chosen; a label that is done is not looked for again.

        Parameters
        ----------
        chosen
            By what never changes, the campaign first: returns the keys of the labels, asked for once.
        """
        from launchpad.database.labels import done_keys

        waiting = {key: self._waiting.get(key) or (0, set(make())) for key, make in chosen.items()}
        found = done_keys(database, {key[0]: keys for key, (_, keys) in waiting.items()})
        now = {
            key: (done + len(found[key[0]]), keys - found[key[0]]) for key, (done, keys) in waiting.items()
        }
        if len(self._waiting) > 1000:
            self._waiting.clear()
        self._waiting |= now
        return {key: done for key, (done, _) in now.items()}

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
    ledger = _ledger(database)
    ledger.look(database)
    return ledger


def _ledger(database: Database[Any]) -> Ledger:
    return _LEDGERS.setdefault(database.client, {}).setdefault(database.name, Ledger())


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
    shown = rows[:_CAMPAIGNS]
    active = [row for row in shown if row["state"] in (CampaignState.SUBMITTED, CampaignState.RUNNING)]
    done = _labels_in_work(database, ledger, shown)
    failed = {
        str(row["_id"]): int(row["n"])
        for row in database.fireworks.aggregate(
            [{"$match": {"state": "FIZZLED"}}, {"$group": {"_id": "$spec.campaign", "n": {"$sum": 1}}}]
        )
    }
    lines = []
    for row in shown:
        name = row["name"]
        expected = []
        if row in active and row["assessed"] is not None:
            # of the assessments, and of what a campaign's file cannot change afterwards
            key = ("forecast", name, row["created"], row["assessed"])
            expected = ledger.once(key, partial(forecast, database, name))
        lines.append(
            CampaignLine(
                row=row,
                labels=row["labels"] + done.get(name, 0),
                failed=failed.get(name, 0),
                last_hour=ledger.last_hour(name, now),
                core_hours=ledger.hours(name),
                counted=ledger.complete,
                forecast=expected[0] if expected else None,
            )
        )
    return lines, len(rows)


def labels_now(database: Database[Any], campaign: str) -> int | None:
    """Return how many labels of a campaign's budget are done, those of the generation in work included.

    As `launchpad.service.status` counts them; what is done is not counted again. None: there is no such campaign.
    """
    from launchpad.dashboard.queries.campaigns import newest_assessments

    record = database.campaigns.find_one({"_id": campaign}, {"generation": 1, "created": 1})
    if record is None:
        return None
    assessed = newest_assessments(database, {campaign: record["generation"]}).get(campaign)
    row = {
        "name": campaign,
        "created": record["created"],
        "generation": record["generation"],
        "assessed": assessed and assessed["generation"],
    }
    done = _labels_in_work(database, _ledger(database), [row]).get(campaign, 0)
    return done + (int(assessed["labels"]) if assessed else 0)


def _labels_in_work(
    database: Database[Any], ledger: Ledger, rows: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Return by campaign how many structures of the generation in work have their label."""
    from launchpad.database.documents import generation_id

    working = {
        generation_id(row["name"], row["generation"]): row
        for row in rows
        if row["assessed"] is None or row["generation"] > row["assessed"]
    }
    selected = [s["_id"] for s in database.selections.find({"_id": {"$in": list(working)}}, {"_id": 1})]
    chosen = {
        (working[key]["name"], working[key]["created"], key): partial(_label_keys, database, working[key])
        for key in selected
    }
    return {str(key[0]): number for key, number in ledger.labels_done(database, chosen).items()}


def _label_keys(database: Database[Any], row: Mapping[str, Any]) -> list[str]:
    """Return the keys of the labels of what the generation in work chose."""
    from launchpad.database.campaigns import levels_of, require_campaign
    from launchpad.database.documents import is_data_id, label_id
    from launchpad.database.results import require_selection

    selection = require_selection(database, row["name"], row["generation"])
    ids = [key for key in (*selection["train"], *selection["test"]) if not is_data_id(key)]
    found = list(database.structures.find({"_id": {"$in": ids}}, {"hash": 1, "info.levels": 1}))
    record = require_campaign(database, row["name"])
    try:
        level = levels_of(record)["crystal"]
    except StateError as error:
        # its labels are not known here; the page is of the other campaigns as well
        logger.warning("%s", error)
        return []
    # what another campaign chose is labelled again at this one's level
    own = [{} if record["settings"].get("source") else d["info"].get("levels", {}) for d in found]
    return [label_id(d["hash"], of.get("crystal", level)) for d, of in zip(found, own, strict=True)]


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
