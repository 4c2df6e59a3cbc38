"""The thread that says "still alive": for the task, for the worker, and to notice that it is time to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from launchpad.logs import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launchpad.queue.checkout import Taken
    from launchpad.workers.process import Worker

__all__ = ["Pulse"]

logger = logging.getLogger("launchpad.workers")

#: A task that was asked to end (by an exception inside it) and does not, gets this long before the process
#: ends itself.
_LAST_WAIT_S = 10.0


class Pulse:
    """Heartbeat of one worker; no error of the database ends it.

    Parameters
    ----------
    worker
        The worker.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._taken: Taken | None = None
        self._shown: Taken | None = None
        self._taken_at = 0.0
        self._end = threading.Event()
        self._main = threading.main_thread().ident or 0
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join(timeout=5.0)

    @contextlib.contextmanager
    def launch(self, taken: Taken) -> Iterator[None]:
        """Keep a launch alive inside the context."""
        self._taken_at = time.monotonic()
        self._taken = taken
        try:
            yield
        finally:
            self._taken = None

    def _run(self) -> None:
        worker = self._worker
        settings = worker.settings
        next_beat = time.monotonic() + worker.queue_settings.heartbeat_s
        next_report = 0.0
        asked_at: float | None = None
        grace = settings.drain_grace_s
        while not self._end.is_set():
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + worker.queue_settings.heartbeat_s
                self._survive(self._beat)
            if now >= next_report:
                next_report = now + settings.report_s
                self._survive(self._report)
            if self._taken is not self._shown and now - self._taken_at >= settings.show_running_s:
                self._survive(self._show)
            if worker._orphaned() and not worker.draining.is_set():
                logger.warning("the supervisor is gone: draining", extra=event("worker.draining"))
                worker.drain()
            if worker.draining.is_set() and self._taken is not None:
                if asked_at is None:
                    asked_at, grace = now, worker.grace_s()
                if now - asked_at > grace + _LAST_WAIT_S:
                    self._end_at_once()
                elif now - asked_at > grace and worker.in_task:
                    signal.pthread_kill(self._main, signal.SIGUSR1)
            self._end.wait(0.25 if worker.draining.is_set() else min(1.0, settings.report_s))

    def _survive(self, function: object) -> None:
        try:
            function()  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001 - if it died of an error, a living task would run twice
            logger.warning("heartbeat: %s", error, extra=event("heartbeat.missed"))

    def _beat(self) -> None:
        taken = self._taken
        self._worker.queue.clock.synchronise()
        if taken is not None and not self._worker.queue.beat(taken.launch_id, taken.history_index):
            logger.warning(
                "launch %d is no longer ours",
                taken.launch_id,
                extra=event("launch.taken_away", fw_id=taken.fw_id, launch_id=taken.launch_id),
            )

    def _show(self) -> None:
        taken = self._taken
        if taken is not None:
            self._worker.queue.show_running(taken.fw_id)
        self._shown = taken

    def _report(self) -> None:
        worker, taken = self._worker, self._taken
        state = "draining" if worker.draining.is_set() else "running" if taken else "idle"
        asked = worker.registration.report(
            state,
            fw_id=taken.fw_id if taken else None,
            done=worker.done,
            failed=worker.failed,
            trouble=worker.trouble,
        )
        if asked and not worker.draining.is_set():
            logger.info("told to stop: draining", extra=event("worker.draining"))
            worker.drain()

    def _end_at_once(self) -> None:
        """Hand the task back from here and end the process: its main thread does not return from a library."""
        taken = self._taken
        if taken is None:
            return
        logger.error(
            "Firework %d does not end: handing it back and ending the process",
            taken.fw_id,
            extra=event("task.abandoned", fw_id=taken.fw_id, launch_id=taken.launch_id),
        )
        queue = self._worker.queue
        self._survive(lambda: queue.hand_back(taken.launch_id, "its worker was stopped", kind="drained"))
        os._exit(0)
