"""Tell people, once: notices are recorded before they are sent and after, and tried again while a receiver is away.

A notice is a document per event and target, under a key that the event decides; several services that see the same
event find the same document. Whoever sends it holds a lease on it. A service that dies between sending and recording
leaves the one case in which a notice is sent again, under the same id.
"""

from __future__ import annotations

import logging
import signal
import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError, InputError
from launchpad.database.documents import now as utc_now
from launchpad.operations.events import Watch
from launchpad.operations.send import SendError, send
from launchpad.queue.connection import ServerClock
from launchpad.retry import is_transient_database_error
from launchpad.stopping import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymongo.database import Database

    from launchpad.operations.events import Happening
    from launchpad.operations.settings import NoticeSettings, TargetSettings

__all__ = ["Notifier", "beside", "read_notices", "run_notices"]

logger = logging.getLogger("launchpad.operations")

#: Notices sent in one pass to one target.
_AT_ONCE = 20


class Notifier:
    """Records and sends.

    Parameters
    ----------
    database
        With durable writes.
    settings
        Who is told of what.
    deliver
        Sends one notice; tests give others.
    """

    def __init__(
        self, database: Database[Any], settings: NoticeSettings, *, deliver: Callable[..., None] = send
    ) -> None:
        self._database = database
        self._settings = settings
        self._deliver = deliver
        self._watch = Watch(database, settings)
        self._clock = ServerClock(database.client)

    def step(self) -> int:
        """Look once and send what is due; return how many notices were sent."""
        self._clock.synchronise()
        self._record(self._watch.look())
        return sum(self._send_to(target) for target in self._settings.targets)

    def _record(self, found: list[Happening]) -> None:
        """Record what is new. What was the case before anybody watched is recorded as old, and not sent."""
        from pymongo.errors import DuplicateKeyError

        notices, now = self._database.notices, self._clock.now()
        for target in self._settings.targets:
            # one that is added later is not told of what was before
            mark = {"_id": f"begun/{target.name}"}
            begun = notices.find_one(mark) is not None
            wanted = {
                f"{happening.key} -> {target.name}": happening
                for happening in found
                if happening.event in target.events
            }
            # every campaign that has ended is found at every look: what is recorded is not written again
            known = {d["_id"] for d in notices.find({"_id": {"$in": list(wanted)}}, {"_id": 1})}
            for key, happening in wanted.items():
                if key in known:
                    continue
                fields = {
                    "key": happening.key,
                    "event": happening.event,
                    "target": target.name,
                    "subject": happening.subject,
                    "text": happening.text,
                    "details": happening.details,
                    "state": "pending" if begun else "old",
                    "created": utc_now(),
                    "first": now,
                    "due": now,
                    "attempts": 0,
                }
                # another service may record the same at this moment
                with suppress(DuplicateKeyError):
                    notices.update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True)
            if not begun:
                with suppress(DuplicateKeyError):
                    seen = {"at": utc_now(), "state": "seen"}
                    notices.update_one(mark, {"$setOnInsert": seen}, upsert=True)

    def _send_to(self, target: TargetSettings) -> int:
        sent = 0
        for _ in range(_AT_ONCE):
            notice, token = self._claim(target)
            if notice is None:
                break
            try:
                self._deliver(target, self._content(notice), limit_s=self._settings.send_limit_s)
            except (SendError, InputError) as error:
                self._postpone(notice, token, str(error))
                break  # the others would meet the same
            mine = {"_id": notice["_id"], "token": token}
            done = {"state": "sent", "sent": utc_now()}
            self._database.notices.update_one(
                mine, {"$set": done, "$inc": {"attempts": 1}, "$unset": {"token": ""}}
            )
            logger.info("told %s: %s", target.name, notice["subject"])
            sent += 1
        return sent

    def _claim(self, target: TargetSettings) -> tuple[dict[str, Any] | None, str]:
        """Take a notice that is due; nobody else does within the time that sending may take."""
        token, now = uuid.uuid4().hex, self._clock.now()
        # mail takes several answers, each within its limit
        lease = now + 10 * self._settings.send_limit_s
        found = self._database.notices.find_one_and_update(
            {"state": "pending", "target": target.name, "due": {"$lte": now}},
            {"$set": {"due": lease, "token": token}},
            sort=[("first", 1)],
        )
        return (dict(found) if found else None), token

    def _content(self, notice: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": notice["_id"],
            "database": self._database.name,
            "created": notice["created"].isoformat(),
            **{name: notice[name] for name in ("event", "subject", "text", "details")},
        }

    def _postpone(self, notice: dict[str, Any], token: str, reason: str) -> None:
        now, settings = self._clock.now(), self._settings
        pause = min(settings.retry_first_s * 2.0 ** min(notice["attempts"], 30), settings.retry_largest_s)
        lost = now - notice["first"] > settings.give_up_after_s
        change = {"state": "given up" if lost else "pending", "due": now + pause, "fault": reason}
        self._database.notices.update_one(
            {"_id": notice["_id"], "token": token},
            {"$set": change, "$inc": {"attempts": 1}, "$unset": {"token": ""}},
        )
        logger.log(
            logging.ERROR if lost else logging.WARNING,
            "%s was not told of %r: %s; %s",
            notice["target"],
            notice["subject"],
            reason,
            "given up" if lost else f"next try in {pause:.0f} s",
        )


def run_notices(uri: str, settings: NoticeSettings, stop: StopFlag, *, once: bool = False) -> int:
    """Watch a database and tell people until somebody says stop; return the number of notices that were sent.

    A database that is away is waited for.

    Parameters
    ----------
    uri
        The database.
    settings
        Who is told of what.
    stop
        Ends it when set.
    once
        Look once and return; then a database that does not answer is an error.

    Raises
    ------
    DatabaseError
        The URI or its credentials are refused, or, with `once`, nobody answers.
    """
    from launchpad.database.connection import open_database
    from launchpad.database.migrations import require_writable

    notifier: Notifier | None = None
    database: Database[Any] | None = None
    sent, away = 0, False
    try:
        while True:
            try:
                if database is None:
                    database = open_database(uri)
                    require_writable(database)
                notifier = notifier or Notifier(database, settings)
                sent += notifier.step()
                away = False
            except Exception as error:
                cause = error.__cause__ if isinstance(error, DatabaseError) else error
                if once or not is_transient_database_error(cause or error):
                    raise
                if not away:
                    logger.warning("notices: the database does not answer, waiting for it")
                away = True
            if once or stop.wait(settings.every_s):
                return sent
    finally:
        if database is not None:
            database.client.close()


def read_notices(path: Path) -> NoticeSettings:
    """Read who is told of what, and make sure that every secret can be read.

    Raises
    ------
    InputError
        A key, a value or a file of a secret cannot be used.
    """
    from launchpad.operations.send import check_secrets
    from launchpad.operations.settings import NoticeSettings
    from launchpad.operations.stored import load_settings

    settings = load_settings(path, NoticeSettings)
    for target in settings.targets:
        check_secrets(target)
    return settings


@contextmanager
def beside(uri: str, path: Path, *, once: bool) -> Iterator[StopFlag]:
    """Tell people in a thread beside other work; yields what ends both, also set by SIGTERM and SIGINT.

    A receiver that hangs does not keep the other work waiting. What ends the thread ends the other work too, and is
    raised here.

    Parameters
    ----------
    uri
        The database.
    path
        Who is told of what.
    once
        Tell once, after the other work.
    """
    settings = read_notices(path)
    stop = StopFlag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if once:
        yield stop
        run_notices(uri, settings, stop, once=True)
        return
    faults: list[Exception] = []

    def work() -> None:
        try:
            run_notices(uri, settings, stop)
        except Exception as error:  # noqa: BLE001 - raised below
            faults.append(error)
            stop.set()

    thread = threading.Thread(target=work, name="notices", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(settings.send_limit_s)
    if faults:
        raise faults[0]
