"""Keeps the workers of one host alive, and the queue in order: restarts, reaper, and the local database."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError
from launchpad.logs import event
from launchpad.queue.guard import AllowList
from launchpad.queue.settings import QueueSettings
from launchpad.retry import is_transient_database_error
from launchpad.sites.inquiry import Inquiry
from launchpad.workers.room import lack_of_room
from launchpad.workers.settings import RECYCLE, SupervisorSettings, WorkerSettings, default_scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from launchpad.queue.launchpad import Queue
    from launchpad.queue.reaper import ReapReport
    from launchpad.workers.registry import Registration

__all__ = ["THREADS", "Supervisor", "SupervisorStatus"]

logger = logging.getLogger("launchpad.workers")

#: One thread per worker: results must not depend on the number of cores, and workers must not fight for them.
THREADS = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)


@dataclass(frozen=True)
class SupervisorStatus:
    """What a tick of the supervisor found.

    Parameters
    ----------
    alive
        Worker processes running now.
    wanted
        Worker processes that should run.
    restarts
        How often a worker was replaced so far.
    database
        Whether the database answered.
    message
        The last trouble in one line, empty if there is none.
    reaped
        Report of the reaper if it ran in this tick.
    stop
        Somebody asked this supervisor to stop through the database.
    """

    alive: int
    wanted: int
    restarts: int
    database: bool
    message: str = ""
    reaped: ReapReport | None = None
    stop: bool = False


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a worker or supervisor: one thread, and no URI.

    They get the URI through a pipe. In their environment every program that a task starts would inherit its password,
    and some print their environment.
    """
    kept = {name: value for name, value in os.environ.items() if name != "GAPFACTORY_DB"}
    return {**kept, **(more or {}), **THREADS}


@dataclass
class _Slot:
    number: int
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=deque)
    next_start: float = 0.0
    ended: bool = False


class Supervisor:
    """Starts workers, replaces those that die, and runs the reaper.

    Parameters
    ----------
    uri
        The database.
    n
        Number of worker processes.
    categories
        What they take; none means everything.
    scratch
        Directory on a local disk for launches, logs and spooled results (default: see `default_scratch`).
    worker_settings, queue_settings, settings
        Behaviour; `categories` overrides those of the worker settings.
    ensure_database
        Called when the database does not answer; brings it back and returns its URI.
    environment
        Additional environment of the workers.

    Notes
    -----
    Call `start`, then `tick` every fraction of a second (it does not block for long), then `stop`.
    """

    def __init__(
        self,
        uri: str,
        n: int,
        categories: Sequence[str] = (),
        scratch: Path | str | None = None,
        *,
        worker_settings: WorkerSettings | None = None,
        queue_settings: QueueSettings | None = None,
        settings: SupervisorSettings | None = None,
        ensure_database: Callable[[], str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = uri
        self.n = n
        self.scratch = Path(scratch or default_scratch()).absolute()
        base = worker_settings or WorkerSettings()
        self.worker_settings = (
            base.model_copy(update={"categories": tuple(categories)}) if categories else base
        )
        self.queue_settings = queue_settings or QueueSettings()
        self.settings = settings or SupervisorSettings()
        self.ensure_database = ensure_database
        self.environment = dict(environment or {})
        self.restarts = 0
        self._slots = [_Slot(number) for number in range(n)]
        self._queue: Queue | None = None
        self._registration: Registration | None = None
        self._inquiry = Inquiry.of_this_job(
            every_s=self.settings.ask_s, patience_s=self.settings.ask_patience_s
        )
        self._next = {"reap": 0.0, "ensure": 0.0, "report": 0.0}
        self._message = ""
        self._lost_message = ""
        self._database = True

    def start(self) -> None:
        """Start the workers."""
        for name in ("logs", "spool"):
            (self.scratch / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        for slot in self._slots:
            self._start(slot)

    def tick(self) -> SupervisorStatus:
        """Replace dead workers, bring a lost database back, reap if it is time; a lost database is no error."""
        now = time.monotonic()
        for slot in self._slots:
            self._watch(slot, now)
        report: ReapReport | None = None
        asked = False
        try:
            queue = self._connected()
            if now >= self._next["report"] and self._registration is not None:
                self._next["report"] = now + 2.0
                asked = self._registration.report("running")
            if now >= self._next["reap"]:
                report = self._reap(queue)
                self._next["reap"] = now + self.settings.reap_s
            if self._inquiry is not None:
                self._inquiry.step(queue)
            self._database, self._lost_message = True, ""
        except Exception as error:
            cause = error.__cause__ if isinstance(error, DatabaseError) else error
            if not is_transient_database_error(cause or error):
                raise
            self._lost(error, now)
        return self.status(report, stop=asked)

    def status(self, report: ReapReport | None = None, *, stop: bool = False) -> SupervisorStatus:
        """Return how many workers live, and what is wrong."""
        alive = sum(slot.process is not None for slot in self._slots)
        wanted = sum(not slot.ended for slot in self._slots)
        lack = lack_of_room(self.scratch, self.worker_settings.min_free_mb)
        message = self._lost_message or lack or self._message
        return SupervisorStatus(alive, wanted, self.restarts, self._database, message, report, stop)

    def stop(self, *, grace_s: float | None = None, at_once: Callable[[], bool] = lambda: False) -> None:
        """Tell the workers to finish or hand back what they do, wait for them, and kill those that stay.

        Parameters
        ----------
        grace_s
            How long to wait before killing (default: the workers' grace and a little more).
        at_once
            Asked again and again; once it is true, nobody is waited for any longer.
        """
        for slot in self._slots:
            slot.ended = True
            self._signal(slot, signal.SIGTERM)
        default = self.worker_settings.drain_grace_s + self.settings.kill_after_s
        end = time.monotonic() + (default if grace_s is None else grace_s)
        while any(slot.process is not None for slot in self._slots):
            for slot in self._slots:
                self._collect(slot)
            if time.monotonic() > end or at_once():
                for slot in self._slots:
                    self._signal(slot, signal.SIGKILL)
            time.sleep(0.02)
        self._close()

    def run_forever(self, *, pause_s: float = 0.2) -> int:
        """Supervise until a signal, a stop request, or until all workers have ended by themselves; return 0."""
        stopping: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: stopping.append(received))
        self.start()
        while not stopping:
            status = self.tick()
            if status.stop or (status.wanted == 0 and status.alive == 0):
                break
            time.sleep(pause_s)
        self.stop()
        return 0

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the living workers."""
        return tuple(slot.process.pid for slot in self._slots if slot.process is not None)

    def _start(self, slot: _Slot) -> None:
        configuration: dict[str, Any] = {
            "uri": self.uri,
            "scratch": str(self.scratch),
            "worker": self.worker_settings.model_dump(mode="json"),
            "queue": self.queue_settings.model_dump(mode="json"),
            "supervisor": self._registration.id if self._registration else None,
            "watch_parent": True,
        }
        log = self.scratch / "logs" / f"worker-{slot.number}.log"
        with log.open("ab") as stream:
            slot.process = subprocess.Popen(
                [sys.executable, "-m", "launchpad.workers"],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.scratch,
                env=child_environment(self.environment),
                # its own process group: a Ctrl-C at the terminal is for the supervisor, and what a killed worker
                # leaves behind can be ended together
                start_new_session=True,
            )
        # through a pipe: the URI holds a password, and command lines and environments can be read by others
        assert slot.process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(BrokenPipeError), slot.process.stdin as pipe:
            pipe.write(json.dumps(configuration).encode())

    def _watch(self, slot: _Slot, now: float) -> None:
        code = self._collect(slot)
        if code is not None and not slot.ended:
            if code == 0:
                slot.ended = True  # idle for too long, or told to stop through the database
                return
            if code == RECYCLE:
                self._start(slot)
                return
            self.restarts += 1
            slot.deaths.append(now)
            window = self.settings.restart_window_s
            while slot.deaths and now - slot.deaths[0] > window:
                slot.deaths.popleft()
            extra = len(slot.deaths) - self.settings.restarts
            pause = 0.0 if extra <= 0 else min(self.settings.restart_pause_s * 2.0 ** (extra - 1), window)
            slot.next_start = now + pause
            self._message = f"worker {slot.number} ended with {_reason(code)}; see {self.scratch / 'logs'}"
            logger.warning(
                "%s; next start in %.1f s",
                self._message,
                pause,
                extra=event("worker.died", slot=slot.number, restarts=self.restarts),
            )
        if slot.process is None and not slot.ended and now >= slot.next_start:
            self._start(slot)

    def _collect(self, slot: _Slot) -> int | None:
        """Return the exit code of a worker that ended, after ending what it left in its process group."""
        process = slot.process
        if process is None:
            return None
        try:
            # look without reaping: as long as it is a zombie, its id cannot be given to a stranger
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
        except ChildProcessError:
            # the calling program reaps all children (SIGCHLD ignored): its process group cannot be ended safely
            slot.process = None
            return process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        slot.process = None
        return code

    def _signal(self, slot: _Slot, number: signal.Signals) -> None:
        if slot.process is not None:
            with contextlib.suppress(ProcessLookupError):
                slot.process.send_signal(number)

    def _connected(self) -> Queue:
        if self._queue is None:
            from launchpad.queue.launchpad import Queue
            from launchpad.workers.registry import Registration

            settings = self.queue_settings.model_copy(
                update={"server_selection_s": min(2.0, self.queue_settings.server_selection_s)}
            )
            self._queue = Queue.from_uri(
                self.uri,
                settings=settings,
                allowed=AllowList(self.worker_settings.allowed),
                spool=self.scratch / "spool",
            )
            self._registration = Registration(
                self._queue,
                "supervisor",
                self.worker_settings.categories,
                campaigns=self.worker_settings.campaigns,
            )
        return self._queue

    def _reap(self, queue: Queue) -> ReapReport:
        from launchpad.queue.reaper import reap

        # a little less than the period, so that one supervisor alone does not leave out every other pass
        settings = self.settings
        return reap(queue, every_s=0.9 * settings.reap_s, deep_every_s=0.9 * settings.deep_reap_s)

    def _lost(self, error: BaseException, now: float) -> None:
        self._database = False
        self._lost_message = f"the database does not answer: {str(error).split(', Timeout:')[0]}"
        if self.ensure_database is None or now < self._next["ensure"]:
            return
        self._next["ensure"] = now + self.settings.ensure_s
        logger.warning("%s; bringing it back", self._lost_message, extra=event("database.away"))
        try:
            uri = self.ensure_database()
        except (DatabaseError, OSError) as failure:
            self._lost_message = f"the database could not be brought back: {failure}"
            logger.warning("%s", self._lost_message, extra=event("database.away"))
            return
        if uri != self.uri:
            # the workers know only the old one: they are replaced as they end
            logger.warning(
                "the database has a new address: replacing the workers", extra=event("database.moved")
            )
            self.uri = uri
            for slot in self._slots:
                self._signal(slot, signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        if self._queue is not None:
            with contextlib.suppress(Exception):
                if self._registration is not None and all(slot.process is None for slot in self._slots):
                    self._registration.report("stopped")
            self._queue.close()
        self._queue = None


def _reason(code: int) -> str:
    """Return an exit code in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
