"""The SQLite file behind the memory: one row per document, written before anything is acknowledged."""

from __future__ import annotations

import sqlite3
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError
from launchpad.embedded.errors import StorageFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Journal", "Volatile"]

_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS namespaces (
    number INTEGER PRIMARY KEY, database TEXT NOT NULL, collection TEXT NOT NULL, UNIQUE (database, collection));
CREATE TABLE IF NOT EXISTS indexes (
    namespace INTEGER NOT NULL, name TEXT NOT NULL, spec BLOB NOT NULL, PRIMARY KEY (namespace, name));
CREATE TABLE IF NOT EXISTS documents (row INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, document BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS documents_by_namespace ON documents (namespace);
CREATE TABLE IF NOT EXISTS replies (
    session BLOB PRIMARY KEY, number INTEGER NOT NULL, reply BLOB NOT NULL, time REAL NOT NULL);
"""


class Journal:
    """SQLite in WAL mode with ``synchronous=FULL``: a commit is on the disk when it returns.

    Parameters
    ----------
    path
        The database file; made when absent.

    Raises
    ------
    DatabaseError
        When the file cannot be opened or is of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_SCHEMA)
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (str(_FORMAT),))
            (found,) = self._connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        except sqlite3.Error as error:
            raise DatabaseError(
                f"{path}: cannot be opened as the embedded server's database ({error}). Check that the file is whole "
                "and that its file system has space; a backup can be put in its place."
            ) from error
        if found != str(_FORMAT):
            raise DatabaseError(
                f"{path}: format {found} is not {_FORMAT}; it was written by another gapfactory."
            )

    def namespaces(self) -> list[tuple[int, str, str]]:
        """Return (number, database, collection) of every collection."""
        return self._connection.execute(
            "SELECT number, database, collection FROM namespaces ORDER BY number"
        ).fetchall()

    def indexes(self) -> list[tuple[int, bytes]]:
        """Return (namespace, definition as BSON) of every index but those on ``_id``."""
        return self._connection.execute("SELECT namespace, spec FROM indexes ORDER BY rowid").fetchall()

    def documents(self) -> Iterator[tuple[int, int, bytes]]:
        """Iterate (row, namespace, BSON) in the order of insertion."""
        yield from self._connection.execute("SELECT row, namespace, document FROM documents ORDER BY row")

    def replies(self) -> list[tuple[bytes, int, bytes, float]]:
        """Return (session, number, reply, time) of the last write of each session."""
        return self._connection.execute(
            "SELECT session, number, reply, time FROM replies ORDER BY time"
        ).fetchall()

    def commit(self, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        """Make statements durable, all or none.

        Raises
        ------
        StorageFullError
            When SQLite cannot write them; the file is as it was before.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, group in groupby(statements, key=lambda statement: statement[0]):
                self._connection.executemany(sql, [parameters for _, parameters in group])
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise StorageFullError(str(error)) from error

    def size(self) -> int:
        """Return the bytes on disk, write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def compact(self) -> None:
        """Give the space of deleted documents back to the file system."""
        try:
            self._connection.execute("VACUUM")
        except sqlite3.Error as error:
            raise StorageFullError(str(error)) from error

    def close(self) -> None:
        """Fold the log into the file and close it."""
        self._connection.close()


class Volatile:
    """In place of a journal for a store that nobody needs after this process: nothing is kept anywhere."""

    def namespaces(self) -> list[tuple[int, str, str]]:
        """Return nothing."""
        return []

    def indexes(self) -> list[tuple[int, bytes]]:
        """Return nothing."""
        return []

    def documents(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield nothing."""
        yield from ()

    def replies(self) -> list[tuple[bytes, int, bytes, float]]:
        """Return nothing."""
        return []

    def commit(self, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        """Do nothing: the memory holds it."""

    def size(self) -> int:
        """Return 0: nothing is on a disk."""
        return 0

    def compact(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
