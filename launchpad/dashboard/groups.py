"""The groups that a dashboard shows: one database each, opened by the process that needs it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launchpad.database.connection import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from launchpad.queue import Queue

__all__ = ["Group"]


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
        """Lend the queue for an action: one at a time, since a queue's locks belong to one thread."""
        from launchpad.queue import Queue

        with self._acting:
            if self._queue is None:
                self._queue = Queue.from_uri(self.uri)
            yield self._queue

    def close(self) -> None:
        """Close the connections."""
        with self._lock, self._acting:
            if self._database is not None:
                self._database.client.close()
            if self._queue is not None:
                self._queue.close()
            self._database = self._queue = None
