"""Maintenance without workers: the reaper in a loop, for a service beside the database."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from gapfactory.errors import DatabaseError
from launchpad.logs import event
from launchpad.retry import is_transient_database_error
from launchpad.stopping import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable

    from launchpad.queue.launchpad import Queue
    from launchpad.queue.reaper import ReapReport

__all__ = ["maintain"]

logger = logging.getLogger("launchpad.workers")


def maintain(
    uri: str,
    *,
    every_s: float = 20.0,
    once: bool = False,
    stop: StopFlag | None = None,
    seen: Callable[[ReapReport], None] | None = None,
    also: Callable[[Queue], object] | None = None,
) -> int:
    """Run the reaper until SIGTERM or SIGINT; return the number of passes.

    Parameters
    ----------
    uri
        The database.
    every_s
        Seconds between two passes.
    once
        Make one pass and return; then a database that does not answer is an error.
    stop
        Ends the loop when set; without it signals are handled here.
    seen
        Called with the report of each pass.
    also
        Called with the queue after each pass.

    Raises
    ------
    DatabaseError
        The URI or its credentials are refused, or, with `once`, nobody answers. Otherwise a database that is away is
        waited for.
    """
    from launchpad.queue.launchpad import Queue
    from launchpad.queue.reaper import reap
    from launchpad.workers.configuration import service_settings

    limits = service_settings().queue
    ending = stop or StopFlag()
    if stop is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ending.set())
    queue: Queue | None = None
    passes, away = 0, False
    try:
        while not ending.is_set():
            try:
                queue = queue or Queue.from_uri(uri, settings=limits)
                report = reap(queue)
                if also is not None:
                    also(queue)
            except Exception as error:
                cause = error.__cause__ if isinstance(error, DatabaseError) else error
                if once or not is_transient_database_error(cause or error):
                    raise
                if not away:
                    logger.warning(
                        "the database does not answer, waiting for it: %s",
                        str(error).split(", Timeout:")[0],
                        extra=event("database.away"),
                    )
                away = True
            else:
                passes, away = passes + 1, False
                if seen is not None:
                    seen(report)
                if once:
                    break
            ending.wait(every_s)
    finally:
        if queue is not None:
            queue.close()
    return passes
