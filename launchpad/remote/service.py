"""What the commands about sites by SSH do: start a push worker, stop it, say how it stands."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError, InputError, StateError
from launchpad.logs import event
from launchpad.remote.ledger import Ledger, ledger_directory
from launchpad.retry import Backoff, is_transient_database_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from launchpad.queue.launchpad import Queue
    from launchpad.queue.settings import QueueSettings
    from launchpad.remote.push import PushWorker
    from launchpad.remote.settings import PushSite
    from launchpad.workers.registry import Registration

__all__ = ["run_push_worker", "site_status", "start_push_background", "stop_push_worker"]

logger = logging.getLogger("launchpad.remote")

#: A push worker in the background is given this long (s) to begin, or to say why it cannot.
_BEGIN_S = 10.0
#: A result is offered to an absent database for this long (s) before the next turn: it waits at the site meanwhile.
_PATIENCE_S = 20.0


def run_push_worker(
    uri: str,
    site: PushSite,
    *,
    queue_settings: QueueSettings | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    ensure_database: Callable[[], str] | None = None,
    recall: bool = False,
) -> dict[str, Any]:
    """Carry tasks until SIGTERM or SIGINT; return the last status.

    Parameters
    ----------
    uri
        The database.
    site
        The site.
    queue_settings
        Time limits of the queue.
    report
        Called with the status after every turn.
    ensure_database
        Called when the database does not answer; brings a local one back.
    recall
        Take nothing: bring back what is at the site, and end.

    Raises
    ------
    StateError
        Another push worker of this machine works for this site.
    DatabaseError
        The URI or its credentials are refused.
    """
    from launchpad.queue.settings import QueueSettings
    from launchpad.remote.push import PushWorker
    from launchpad.workers.registry import Registration

    settings = (queue_settings or QueueSettings()).model_copy(update={"completion_limit_s": _PATIENCE_S})
    ledger = Ledger(ledger_directory(site.name))
    queue = _connect(uri, settings, ensure_database)
    offer = site.offer()
    registration = Registration(
        queue,
        "push",
        site.categories,
        campaigns=site.campaigns,
        cores=offer.cores,
        memory_gb=offer.memory_gb,
    )

    def register(stopping: bool) -> bool:
        state = "draining" if stopping else "running"
        return registration.report(state, done=worker.done, failed=worker.failed)

    worker = PushWorker(
        queue, site, ledger, report=report, register=register, ensure_database=ensure_database
    )
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        signal.signal(number, lambda *_: worker.stop.set())
    try:
        worker.open()
        if recall:
            worker.recall = True
            worker.stop.set()
        worker.run()
        _note_end(registration, worker)
        return worker.status()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        queue.close()


def _connect(uri: str, settings: QueueSettings, ensure_database: Callable[[], str] | None) -> Queue:
    """Connect; a database that is away is waited for."""
    from launchpad.queue.launchpad import Queue

    for pause in Backoff(first_s=0.5, largest_s=10.0).pauses():
        try:
            return Queue.from_uri(uri, settings=settings)
        except DatabaseError as error:
            if not is_transient_database_error(error.__cause__ or error):
                raise
            told = event("database.away")
            logger.warning("the database is away, next try in %.1f s: %s", pause, error, extra=told)
            if ensure_database is not None:
                uri = ensure_database()
        time.sleep(pause)
    raise AssertionError  # pragma: no cover - pauses() never ends


def _note_end(registration: Registration, worker: PushWorker) -> None:
    """Write the end into the list of workers; with a lost database, the reaper does it later."""
    try:
        registration.report("stopped", done=worker.done, failed=worker.failed)
    except Exception as error:
        if not worker.queue.database_lost(error):
            raise
        logger.warning("the database is away: %s", error, extra=event("database.away"))


def start_push_background(path: Path, site: PushSite, uri: str | None, data: Path | None) -> tuple[int, bool]:
    """Start a push worker that outlives the calling process; return its process id, and whether it has begun by now.

    Parameters
    ----------
    path
        The site's file.
    site
        Its content.
    uri, data
        The database as it was given; it travels by the environment, which only the owner can read.

    Raises
    ------
    StateError
        One works for this site already, or it ended at once.
    """
    ledger = Ledger(ledger_directory(site.name))
    holder = ledger.holder()
    if holder is not None:
        raise StateError(f"a push worker (process {holder}) works for {site.name} already.")
    ledger.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = {"GAPFACTORY_DB": uri, "GAPFACTORY_DATA": None if data is None else str(data)}
    with (ledger.directory / "push.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "launchpad.cli", "push", "start", str(path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **{name: value for name, value in given.items() if value}},
            start_new_session=True,
        )
    end = time.monotonic() + _BEGIN_S
    while (begun := ledger.holder() == process.pid) is False and time.monotonic() < end:
        if process.poll() is not None:
            raise StateError(
                f"the push worker of {site.name} ended at once; why stands at the end of {log.name}"
            )
        time.sleep(0.1)
    process.returncode = 0  # it is meant to go on: no warning about a child that still runs
    return process.pid, begun


def stop_push_worker(site: PushSite, *, recall: bool) -> int | None:
    """Ask the push worker of this machine to end; return its process id, or None if there is none."""
    ledger = Ledger(ledger_directory(site.name))
    holder = ledger.holder()
    if holder is None:
        return None
    if recall:
        ledger.ask_recall()
    os.kill(holder, signal.SIGTERM)
    return holder


def site_status(site: PushSite) -> dict[str, Any]:
    """Return what the push worker of this machine said last, whether it lives, and whether the connection is open.

    Raises
    ------
    InputError
        No push worker has worked for this site here.
    """
    from launchpad.remote.transport import Transport

    ledger = Ledger(ledger_directory(site.name))
    status = ledger.status()
    holder = ledger.holder()
    if status is None and holder is None:
        raise InputError(
            f"no push worker has worked for {site.name} on this machine: 'gapfactory push start' starts one."
        )
    told = status or {"site": site.name}
    age = round(time.time() - float(told["time"]), 1) if "time" in told else None
    log = str(ledger.directory / "push.log")
    return {**told, "pid": holder, "connected": Transport(site).connected, "age_s": age, "log": log}
