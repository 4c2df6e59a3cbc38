"""The worker process: take a task, run it, store its result, again; whatever happens to the database."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fireworks.core.firework import FWAction
from fireworks.core.fworker import FWorker

from gapfactory.errors import DatabaseError
from launchpad.logs import event
from launchpad.queue.enrolment import Enrolment
from launchpad.queue.guard import AllowList
from launchpad.queue.launchpad import Queue
from launchpad.queue.offer import Offer
from launchpad.retry import Backoff, is_transient_database_error
from launchpad.stopping import StopFlag
from launchpad.workers.ending import postpone, store_result
from launchpad.workers.pulse import Pulse
from launchpad.workers.registry import Registration
from launchpad.workers.rocket import HandBack, Outcome, Rocket
from launchpad.workers.room import lack_of_room
from launchpad.workers.settings import RECYCLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from launchpad.queue.checkout import Taken
    from launchpad.queue.settings import QueueSettings
    from launchpad.workers.settings import WorkerSettings

__all__ = ["Worker"]

logger = logging.getLogger("launchpad.workers")

#: So long before the end of its allocation (seconds) a worker that was told to stop hands its task back at the latest.
_BEFORE_THE_END_S = 20.0


class Worker:
    """One worker.

    Parameters
    ----------
    uri
        The database.
    settings
        Its behaviour.
    queue_settings
        Time limits of the queue.
    scratch
        Directory for launches, failed launches and spooled results; on a local disk.
    parent
        Id of the supervisor's entry, or None.
    watch_parent
        Whether to drain when the parent process is gone.
    """

    def __init__(
        self,
        uri: str,
        *,
        settings: WorkerSettings,
        queue_settings: QueueSettings,
        scratch: Path,
        parent: str | None = None,
        watch_parent: bool = False,
    ) -> None:
        self.uri = uri
        self.settings = settings
        self.queue_settings = queue_settings
        self.scratch = scratch.absolute()
        self.parent = parent
        self.parent_pid = os.getppid() if watch_parent else None
        self.draining = StopFlag()
        self.in_task = False
        self.done = 0
        self.failed = 0
        self._launches = 0
        self._faults = 0
        #: why it takes nothing, for people; empty if all is well
        self.trouble = ""
        self.bloated = False

    def run(self) -> int:
        """Work until told to stop, or idle for too long: return 0; RECYCLE asks for a fresh process."""
        self._handle_signals()
        for name in ("launches", "failed", "spool"):
            (self.scratch / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        queue = self._connect()
        if queue is None:
            return 0
        self.queue = queue
        queue.give_up = self.draining.is_set
        queue.enrolment = Enrolment(queue.db, self.settings.campaigns)
        from gapfactory.reference.site import end_of_allocation

        queue.offer = Offer(self.settings.cores, self.settings.memory_gb, end_of_allocation())
        self.registration = Registration(
            queue,
            "worker",
            self.settings.categories,
            self.parent,
            campaigns=self.settings.campaigns,
            cores=self.settings.cores,
            memory_gb=self.settings.memory_gb,
        )
        self.fworker = FWorker(
            name=f"gapfactory@{queue.identity.host}", category=list(self.settings.categories)
        )
        pulse = self.pulse = Pulse(self)
        pulse.start()
        self._tidy()
        try:
            self._loop()
        finally:
            pulse.stop()
            with contextlib.suppress(Exception):
                self.registration.report("stopped", done=self.done, failed=self.failed)
            queue.close()
        return RECYCLE if self.bloated else 0

    def drain(self) -> None:
        """Finish the current task, or hand it back after the grace time, and end."""
        self.draining.set()

    def grace_s(self) -> float:
        """Return how long the current task may go on once the worker was told to stop (seconds)."""
        until = self.queue.offer.until if self.queue.offer is not None else None
        left = float("inf") if until is None else until - time.time()
        # one that is over was prolonged
        most = max(0.0, left - _BEFORE_THE_END_S) if left > 0 else float("inf")
        return min(self.settings.drain_grace_s, most)

    def _handle_signals(self) -> None:
        def stop(number: int, _frame: object) -> None:
            logger.info("signal %d: draining", number, extra=event("worker.draining", signal=number))
            self.drain()

        def hand_back(_number: int, _frame: object) -> None:
            if self.in_task:
                self.in_task = False
                raise HandBack

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGUSR1, hand_back)

    def _connect(self) -> Queue | None:
        """Connect, waiting for the database as long as nobody says stop."""
        for pause in Backoff(first_s=0.2, largest_s=5.0).pauses():
            try:
                return Queue.from_uri(
                    self.uri,
                    settings=self.queue_settings,
                    allowed=AllowList(self.settings.allowed),
                    spool=self.scratch / "spool",
                )
            except DatabaseError as error:
                if not is_transient_database_error(error.__cause__ or error):
                    raise
                logger.warning("waiting for the database: %s", error, extra=event("database.away"))
            if self.draining.wait(pause) or self._orphaned():
                return None
        return None

    def _orphaned(self) -> bool:
        return self.parent_pid is not None and os.getppid() != self.parent_pid

    def _loop(self) -> None:
        idle_since = time.monotonic()
        idle = self.settings.poll_min_s
        lost = Backoff(first_s=0.2, largest_s=5.0).pauses()
        while not self.draining.is_set():
            try:
                worked = self._step()
                lost = Backoff(first_s=0.2, largest_s=5.0).pauses()
            except Exception as error:
                if not self.queue.database_lost(error):
                    raise
                pause = next(lost)
                logger.warning(
                    "the database is away, next try in %.1f s: %s", pause, error, extra=event("database.away")
                )
                self.draining.wait(pause)
                continue
            if worked:
                if self._holds_too_much():
                    self.bloated = True
                    return
                self._recover()
                idle, idle_since = self.settings.poll_min_s, time.monotonic()
                continue
            limit = self.settings.idle_timeout_s
            if limit is not None and time.monotonic() - idle_since > limit:
                logger.info("nothing to do for %g s: ending", limit, extra=event("worker.idle"))
                return
            self.draining.wait(idle)
            idle = min(2.0 * idle, self.settings.poll_max_s)

    def _recover(self) -> None:
        """After a fault of this machine, wait: a broken node must not run through the whole queue."""
        if self._faults:
            most = self.settings.fault_pause_max_s
            pause = min(self.settings.fault_pause_s * 2.0 ** min(self._faults - 1, 30), most)
            logger.warning(
                "faults of the infrastructure, %d in a row: waiting %.1f s",
                self._faults,
                pause,
                extra=event("worker.pausing", faults=self._faults),
            )
            self.draining.wait(pause)

    def _has_room(self) -> bool:
        """Return whether there is room for a task; what is wrong is reported to people."""
        trouble = lack_of_room(self.scratch, self.settings.min_free_mb)
        if bool(trouble) != bool(self.trouble):
            logger.warning(
                "%s",
                trouble or f"there is room in {self.scratch} again",
                extra=event(
                    "scratch.full" if trouble else "scratch.room", needed_mb=self.settings.min_free_mb
                ),
            )
        self.trouble = trouble
        return not trouble

    def _holds_too_much(self) -> bool:
        limit = self.settings.memory_limit_gb
        if limit is None:
            return False
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        held = pages * os.sysconf("SC_PAGE_SIZE") / 1e9
        if held > limit:
            logger.info(
                "holding %.1f GB after a task: asking for a fresh process",
                held,
                extra=event("worker.recycled", memory_gb=round(held, 1)),
            )
        return held > limit

    def _step(self) -> bool:
        """Deliver what is spooled, take one task and run it; return whether there was one."""
        if self.queue.spool is not None and self.queue.spool.waiting():
            self.queue.spool.deliver(self.queue)
        if not self._has_room():
            return False
        self._launches += 1
        directory = self.scratch / "launches" / f"{self._place()}-{os.getpid()}-{self._launches:06d}"
        taken = self.queue.take(self.fworker, directory)
        if taken is None:
            return False
        logger.info(
            "Firework %d begins",
            taken.fw_id,
            extra=event(
                "task.begun", fw_id=taken.fw_id, launch_id=taken.launch_id, name=taken.raw.get("name")
            ),
        )
        with self.pulse.launch(taken):
            self._run(taken, directory)
        return True

    def _run(self, taken: Taken, directory: Path) -> None:
        try:
            firework = self.queue.build(taken)
        except PermissionError as error:
            reason = str(error)
            self.failed += 1
            self._insist(lambda: self.queue.refuse(taken, reason))
            return
        try:
            directory.mkdir(parents=True)
            os.chdir(directory)
            self.in_task = True
            try:
                outcome = Rocket(self.queue, self.fworker, taken.fw_id).execute(firework, directory)
            finally:
                self.in_task = False
        except HandBack:
            logger.info(
                "handing back Firework %d",
                taken.fw_id,
                extra=event("task.handed_back", fw_id=taken.fw_id, launch_id=taken.launch_id),
            )
            self._leave(directory, keep_as=None)
            self._insist(
                lambda: self.queue.hand_back(taken.launch_id, "its worker was stopped", kind="drained")
            )
            return
        except OSError as error:
            # no directory to work in: a fault of this machine, not of the task
            outcome = Outcome(FWAction(), failed=True, transient=True, message=f"{directory}: {error}")
        self._store(taken, outcome, directory)

    def _store(self, taken: Taken, outcome: Outcome, directory: Path) -> None:
        name = f"{taken.fw_id}-{taken.launch_id}"
        if outcome.failed:
            self.failed += 1
            logger.error(
                "Firework %d failed: %s",
                taken.fw_id,
                outcome.message,
                extra=event(
                    "task.postponed" if outcome.transient else "task.failed",
                    fw_id=taken.fw_id,
                    launch_id=taken.launch_id,
                    reason=outcome.message,
                ),
            )
        else:
            self.done += 1
            logger.info(
                "Firework %d done",
                taken.fw_id,
                extra=event(
                    "task.done",
                    fw_id=taken.fw_id,
                    launch_id=taken.launch_id,
                    seconds=round(self.queue.now() - taken.since, 3),
                ),
            )
        self._leave(directory, keep_as=name if outcome.failed else None)
        self._faults = self._faults + 1 if outcome.transient and not outcome.times else 0
        if outcome.transient:
            self._insist(lambda: postpone(self.queue, taken.fw_id, taken.launch_id, outcome))
            if outcome.ends_worker:
                logger.info("ending: %s", outcome.message, extra=event("worker.ending"))
                self.drain()
            return
        store_result(self.queue, taken.fw_id, taken.launch_id, outcome)

    def _insist(self, function: Callable[[], object]) -> None:
        """Repeat an idempotent write until the database takes it; when draining, leave it to the reaper."""
        for pause in Backoff(first_s=0.2, largest_s=5.0).pauses():
            try:
                function()
            except Exception as error:
                if not self.queue.database_lost(error):
                    raise
                logger.warning("the database is away: %s", error, extra=event("database.away"))
                if self.draining.wait(pause):
                    return
            else:
                return

    def _leave(self, directory: Path, *, keep_as: str | None) -> None:
        """Leave the launch directory: removed, or kept among the failed ones."""
        os.chdir(self.scratch)
        if keep_as is None:
            shutil.rmtree(directory, ignore_errors=True)
            return
        with contextlib.suppress(OSError):
            directory.rename(self.scratch / "failed" / keep_as)
        self._prune()

    def _prune(self) -> None:
        """Keep only the newest failed launches."""

        def age(path: Path) -> float:
            try:
                return path.stat().st_mtime
            except OSError:
                return 0.0  # another worker removed it

        kept = sorted((self.scratch / "failed").iterdir(), key=age, reverse=True)
        for path in kept[self.settings.keep_failed :]:
            shutil.rmtree(path, ignore_errors=True)

    def _place(self) -> str:
        """Name this machine: several hosts may share a scratch directory, and two of them a host name."""
        return f"{self.queue.identity.host}-{self.queue.identity.node_tag}"

    def _tidy(self) -> None:
        """Move directories of workers that died on this host to the failed ones."""
        for directory in (self.scratch / "launches").glob(f"{self._place()}-*-*"):
            pid = directory.name.rsplit("-", 2)[1]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                with contextlib.suppress(OSError):
                    directory.rename(self.scratch / "failed" / f"killed-{directory.name}")
        self._prune()
