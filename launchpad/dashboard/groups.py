"""The groups that a dashboard shows: one database each, opened by the process that needs it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import StateError
from launchpad.database.connection import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from launchpad.queue import Queue

__all__ = ["Group"]

#: An action waits so long for those before it (s), and for a workflow that somebody else changes.
_TURN_S: Final = 45.0
_LOCK_S: Final = 5.0


@dataclass
class Group:
    """One group.

    Attributes
    ----------
    name
        As in the URLs.
    uri
        Its database; for actions a member's account.
    """

    name: str
    uri: str = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _acting: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _database: Database[Any] | None = field(default=None, repr=False)
    _queue: Queue | None = field(default=None, repr=False)

    @property
    def database(self) -> Database[Any]:
        """The database, for reading (clients are safe to share between threads, not between processes)."""
        with self._lock:
            if self._database is None:
                self._database = open_database(self.uri)
            return self._database

    @contextmanager
    def queue(self) -> Iterator[Queue]:
        """Lend the queue for an action: one at a time, since a queue's locks belong to one thread.

        Raises
        ------
        StateError
            Others act all the time, or change the workflow that is meant.
        """
        from fireworks.core.launchpad import LockedWorkflowError

        from launchpad.queue import Queue
        from launchpad.queue.settings import QueueSettings

        if not self._acting.acquire(timeout=_TURN_S):
            raise StateError("others are acting on the queue: try again in a while")
        try:
            if self._queue is None:
                # whoever asked waits for the answer: a busy workflow is said soon
                self._queue = Queue.from_uri(self.uri, settings=QueueSettings(lock_wait_s=_LOCK_S))
            yield self._queue
        except LockedWorkflowError as error:
            raise StateError("a workflow is busy, so not all of it was done: try again in a while") from error
        finally:
            self._acting.release()

    def close(self) -> None:
        """Close the connections."""
        with self._lock, self._acting:
            if self._database is not None:
                self._database.client.close()
            if self._queue is not None:
                self._queue.close()
            self._database = self._queue = None
