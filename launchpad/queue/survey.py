"""What the reaper would find, without touching anything: for `gapfactory doctor` and users who may only read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launchpad.queue import finder
from launchpad.queue.finder import ACTIVE_WORKFLOWS, Look

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from launchpad.queue.finder import Stuck
    from launchpad.queue.launchpad import Queue

__all__ = ["Survey", "survey"]

#: An addition that is still there after this time (seconds) is regarded as cut short.
_ADDITION_S = 0.5


@dataclass(frozen=True)
class Survey:
    """What is stuck at this moment; ids are of Fireworks unless said otherwise.

    Parameters
    ----------
    lost
        Firework -> why its running launch is regarded as lost.
    reservations
        Checkouts that were cut short.
    locks
        Workflows (by one of their Fireworks) whose lock has no living holder.
    journals
        Number of additions and updates cut short.
    overdue
        Fireworks whose next try was due some time ago.
    lagging
        Workflows (by one of their Fireworks) behind their tasks.
    compared
        Number of workflows looked at for `lagging`.
    exhausted
        FIZZLED because the bound of tries after faults of the infrastructure was reached.
    fizzled
        Number of FIZZLED Fireworks, these included.
    """

    lost: dict[int, str]
    reservations: tuple[int, ...]
    locks: tuple[int, ...]
    journals: int
    overdue: tuple[int, ...]
    lagging: tuple[int, ...]
    compared: int
    exhausted: tuple[int, ...]
    fizzled: int

    @property
    def stuck(self) -> bool:
        """Whether there is work for the reaper."""
        return bool(
            self.lost or self.reservations or self.locks or self.journals or self.overdue or self.lagging
        )


def survey(queue: Queue, *, now: float | None = None, workflows: int = 500) -> Survey:
    """Look for everything that the reaper would put right; safe at any time, reads only.

    Parameters
    ----------
    queue
        The queue, which may be opened `read_only`.
    now
        Server's time, seconds since the epoch (default: asked from the server).
    workflows
        At most this many active workflows, the newest, are compared with their tasks.

    Raises
    ------
    pymongo.errors.PyMongoError
        The database is away, or does not let the user read.
    """
    if now is None:
        queue.clock.synchronise()
        now = queue.now()
    look = Look(queue, now)
    newest = _newest(queue, workflows)

    def unchanged_s(raw: Mapping[str, Any]) -> float:
        # the workflow's last change is the best that can be known at once
        return look.age(raw.get("updated_on"))

    return Survey(
        lost={stuck.fw_id: stuck.reason for stuck in _sorted(finder.lost_launches(look))},
        reservations=_ids(finder.cut_checkouts(look)),
        locks=_ids(finder.abandoned_locks(look, unchanged_s)),
        journals=_additions(queue) + len(list(finder.cut_updates(look))),
        overdue=_ids(
            stuck for stuck in finder.given_up(look) if stuck.overdue_s > queue.settings.reaper_lease_s
        ),
        lagging=_ids(finder.behind(look, workflows=newest)),
        compared=sum("locked" not in raw for raw in newest),
        exhausted=tuple(sorted(raw["_id"] for raw in queue.retries.find({"exhausted": True}, {"_id": 1}))),
        fizzled=queue.fireworks.count_documents({"state": "FIZZLED"}),
    )


def _sorted(found: Iterable[Stuck]) -> list[Stuck]:
    return sorted(found, key=lambda stuck: stuck.fw_id)


def _ids(found: Iterable[Stuck]) -> tuple[int, ...]:
    return tuple(sorted({stuck.fw_id for stuck in found}))


def _additions(queue: Queue) -> int:
    """Count additions that somebody left: most are in progress, and last milliseconds."""
    begun = [entry["_id"] for entry in queue.journal.find({"kind": "add"}, {"_id": 1})]
    if not begun:
        return 0
    time.sleep(_ADDITION_S)
    return int(queue.journal.count_documents({"_id": {"$in": begun}, "kind": "add"}))


def _newest(queue: Queue, limit: int) -> list[dict[str, Any]]:
    """Return active workflows, the newest first."""
    if limit == 0:
        return []
    fields = {"nodes": 1, "fw_states": 1, "parent_links": 1, "locked": 1}
    found = queue.workflows.find({"state": {"$in": list(ACTIVE_WORKFLOWS)}}, fields)
    return list(found.sort("_id", -1).limit(limit))
