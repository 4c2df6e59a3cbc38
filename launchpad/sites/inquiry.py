"""Asks the scheduler of a site which of its jobs have ended, and lets their tasks run again at once.

A task whose whole job was killed is silent, and would be missed only when its lease is over. Whoever runs where the
scheduler can be asked (a supervisor inside one of the jobs, `gapfactory site watch` on a login node) asks for all of
them, one at a time for each site, and never more often than every half minute. An answer that does not come changes
nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import ServiceError
from launchpad.logs import event
from launchpad.queue import repair
from launchpad.queue.batch import BatchJob
from launchpad.queue.completion import end_without_result
from launchpad.queue.identity import ProcessIdentity
from launchpad.sites.schedulers import SCHEDULERS_ASKED, ended_jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launchpad.queue.launchpad import Queue

__all__ = ["Inquiry"]

logger = logging.getLogger("launchpad.sites")


@dataclass(frozen=True)
class _Launch:
    """A launch that is asked for."""

    launch_id: int
    fw_id: int
    state: str
    job: str


@dataclass(frozen=True)
class _Question:
    launches: tuple[_Launch, ...]
    workers: Mapping[str, str]

    @property
    def jobs(self) -> list[str]:
        return sorted({launch.job for launch in self.launches} | set(self.workers.values()))


class Inquiry:
    """Questions to one scheduler.

    Parameters
    ----------
    scheduler, where
        As in `launchpad.queue.batch.BatchJob`: only jobs recorded with the same are asked for.
    every_s
        All processes together ask no more often than this (seconds).
    patience_s
        How long one question may take (seconds).
    """

    def __init__(
        self, scheduler: str, where: str, *, every_s: float = 30.0, patience_s: float = 20.0
    ) -> None:
        self.scheduler = scheduler
        self.where = where
        self.every_s = every_s
        self.patience_s = patience_s
        self._next = 0.0
        self._thread: threading.Thread | None = None
        self._answer: tuple[_Question, dict[str, str]] | None = None
        self._complained = False

    @classmethod
    def of_this_job(cls, *, every_s: float, patience_s: float) -> Inquiry | None:
        """Return what can ask for the jobs beside the one that this process runs in, or None outside of any."""
        job = BatchJob.current()
        if job is None or not job.where or job.scheduler not in SCHEDULERS_ASKED:
            return None
        return cls(job.scheduler, job.where, every_s=every_s, patience_s=patience_s)

    def step(self, queue: Queue) -> tuple[int, ...]:
        """Ask, if it is time, or make use of the answer that has come; never waits for the scheduler.

        Returns
        -------
        tuple of int
            Fireworks that were put back.

        Raises
        ------
        pymongo.errors.PyMongoError
            The database is away.
        """
        if self._thread is not None:
            if self._thread.is_alive():
                return ()
            self._thread = None
        answer, self._answer = self._answer, None
        if answer is not None:
            return self._mend(queue, *answer)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.every_s
            question = self._question(queue) if self._my_turn(queue) else None
            if question is not None and question.jobs:
                self._thread = threading.Thread(
                    target=self._ask, args=(question,), name="inquiry", daemon=True
                )
                self._thread.start()
        return ()

    def at_once(self, queue: Queue) -> tuple[int, ...]:
        """Ask and wait for the answer; see `step`."""
        self._next = 0.0
        found = self.step(queue)
        if self._thread is not None:
            self._thread.join()
            found += self.step(queue)
        return found

    def _my_turn(self, queue: Queue) -> bool:
        """Return whether nobody has asked this scheduler a moment ago; if so, it is noted that we do."""
        from pymongo.errors import DuplicateKeyError

        now, name = queue.now(), f"asked:{self.where}"
        query = {"_id": name, "at": {"$not": {"$gt": now - 0.9 * self.every_s, "$lte": now}}}
        try:
            queue.leases.update_one(query, {"$set": {"at": now}}, upsert=True)
        except DuplicateKeyError:
            return False  # it is there, and does not match: somebody has asked
        return True

    def _question(self, queue: Queue) -> _Question:
        """Return the launches and workers of this scheduler whose processes cannot be looked up from here."""
        mine = {"process.job.scheduler": self.scheduler, "process.job.where": self.where}
        fields = {"launch_id": 1, "fw_id": 1, "state": 1, "process": 1, "state_history": 1}
        launches = []
        for raw in queue.launches.find({"state": "RUNNING", **mine}, fields):
            if _unknown(raw["process"]):
                job = str(raw["process"]["job"]["id"])
                launches.append(_Launch(int(raw["launch_id"]), int(raw["fw_id"]), "RUNNING", job))
        if self.where.startswith("site:"):
            # reserved by FireWorks' qlaunch in the site directory, whose FWorker has this name
            stock = {"fworker.name": self.where.removeprefix("site:"), "process": {"$exists": False}}
            for raw in queue.launches.find({"state": {"$in": ["RESERVED", "RUNNING"]}, **stock}, fields):
                numbers = [entry.get("reservation_id") for entry in raw.get("state_history", ())]
                job = next((str(number) for number in numbers if number), "")
                if job:
                    launches.append(_Launch(int(raw["launch_id"]), int(raw["fw_id"]), str(raw["state"]), job))
        theirs = {"job.scheduler": self.scheduler, "job.where": self.where, "state": {"$ne": "stopped"}}
        workers = {
            str(raw["_id"]): str(raw["job"]["id"]) for raw in queue.workers.find(theirs) if _unknown(raw)
        }
        return _Question(tuple(launches), workers)

    def _ask(self, question: _Question) -> None:
        try:
            ended = ended_jobs(
                self.scheduler,
                question.jobs,
                patience_s=self.patience_s,
                # two clusters may have the same name
                absent=self.where.startswith("site:"),
            )
        except ServiceError as error:
            if not self._complained:
                logger.warning(
                    "%s; tasks of jobs that were killed wait for the end of their lease",
                    error,
                    extra=event("scheduler.silent", scheduler=self.scheduler),
                )
            self._complained = True
            return
        if self._complained:
            logger.info(
                "the scheduler answers again", extra=event("scheduler.answers", scheduler=self.scheduler)
            )
        self._complained = False
        self._answer = (question, ended)

    def _mend(self, queue: Queue, question: _Question, ended: Mapping[str, str]) -> tuple[int, ...]:
        """Give up the launches of jobs that have ended: they began before it was asked, so they have ended too."""
        back = []
        for launch in question.launches:
            if launch.job not in ended:
                continue
            reason = f"its batch job {launch.job} has ended ({self.scheduler}: {ended[launch.job]})"
            running = launch.state == "RUNNING"
            given_up = end_without_result(
                queue,
                launch.launch_id,
                reason,
                # a job that never started is nobody's failure
                kind="dead" if running else "drained",
                due=queue.now(),
                state=launch.state,
            )
            if not given_up:
                continue
            logger.warning(
                "launch %d of Firework %d is lost: %s",
                launch.launch_id,
                launch.fw_id,
                reason,
                extra=event("launch.lost", launch_id=launch.launch_id, fw_id=launch.fw_id, reason=reason),
            )
            back.append(launch.fw_id)
            repair.settle_if_free(queue, launch.launch_id)
        for name, job in question.workers.items():
            if job in ended:
                done: dict[str, Any] = {"state": "stopped", "fw_id": None, "killed": True}
                queue.workers.update_one({"_id": name}, {"$set": done})
        return tuple(back)


def _unknown(document: Mapping[str, Any]) -> bool:
    identity = ProcessIdentity.from_document(document)
    return identity is None or identity.fate == "unknown"
