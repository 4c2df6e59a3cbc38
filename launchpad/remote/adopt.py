"""What a push worker takes over from one that was killed: from the ledger, from the site, from the database."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from launchpad.logs import event
from launchpad.remote.ledger import Entry

if TYPE_CHECKING:
    from launchpad.remote.exchange import Look
    from launchpad.remote.push import PushWorker

__all__ = ["adopt_known", "adopt_strangers"]

logger = logging.getLogger("launchpad.remote")

#: A launch whose heart was silent for so many beats belongs to no push worker that lives.
_BEATS = 3


def adopt_known(worker: PushWorker) -> None:
    """Go on with the launches of the ledger that still run, and renew their heartbeats at once."""
    queue, ledger = worker.queue, worker.ledger
    for entry in ledger:
        # also one that was written just before its launch was given to the site
        alive = queue.launches.update_one(
            {"launch_id": entry.launch_id, "fw_id": entry.fw_id, "state": "RUNNING"},
            {"$set": {**worker.ownership(), "heartbeat_at": queue.now()}},
        )
        if alive.matched_count == 0:
            worker.settle(entry.name)
    if len(ledger):
        told = event("carry.adopted", site=worker.site.name, tasks=len(ledger))
        logger.info("going on with %d tasks of %s", len(ledger), worker.site.name, extra=told)
        worker.beat()  # claims too: those of a process that is dead are taken over at once


def adopt_strangers(worker: PushWorker, found: Look) -> None:
    """Deal with what the site has and the ledger has not, and with launches of the site that neither has."""
    queue, ledger = worker.queue, worker.ledger
    mine = queue.database_identity[:8] + "-"
    # results are looked at in any case: a task that somebody else has by now may have left labels
    known = found.known - set(found.results)
    strangers = sorted(name for name in known if name.startswith(mine) and name not in ledger)
    fields = {"launch_id": 1, "fw_id": 1, "state_history": 1}
    ours = {"state": "RUNNING", "process.node": worker.identity.node}
    if strangers:
        ids = {int(name.removeprefix(mine)): name for name in strangers if name.removeprefix(mine).isdigit()}
        running = {
            raw["launch_id"]: raw
            for raw in queue.launches.find({"launch_id": {"$in": list(ids)}, **ours}, fields)
        }
        for launch_id, name in ids.items():
            raw = running.get(launch_id)
            if raw is None:
                worker.forget(name)  # somebody else has the task
                continue
            told = event("carry.adopted", site=worker.site.name, launch_id=launch_id)
            logger.info("adopting launch %d, found at %s", launch_id, worker.site.name, extra=told)
            index = len(raw["state_history"]) - 1
            ledger.add(Entry(name, raw["fw_id"], launch_id, index, "", time.time()))
    if worker.looked_for_orphans:
        return
    worker.looked_for_orphans = True
    # one whose heart beat just now may be on its way there, by a push worker on another machine
    old = queue.now() - _BEATS * worker.site.timing.beat_s
    for raw in list(queue.launches.find(ours, {**fields, "heartbeat_at": 1})):
        name = worker.name_of(raw["launch_id"])
        if name in ledger or name in found.known:
            continue
        if raw["heartbeat_at"] > old:
            worker.looked_for_orphans = False
        else:
            reason = f"neither {worker.site.name} nor its push worker has it any more"
            queue.hand_back(raw["launch_id"], reason, kind="dead")
