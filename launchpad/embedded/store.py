"""All databases in memory, loaded from the journal and changed only through a transaction."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import bson

from launchpad.embedded.collection import Collection, Examined, Record
from launchpad.embedded.errors import CommandError
from launchpad.embedded.indexes import Index, build
from launchpad.embedded.journal import Journal, Volatile
from launchpad.embedded.sessions import Replies
from launchpad.embedded.transaction import Transaction
from launchpad.embedded.wire import decode

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Store"]

_BAD_DATABASE = re.compile(r'[/\\. "$*<>:|?\0]')


class Store:
    """The data of one server.

    Parameters
    ----------
    path
        The journal's file; None keeps the data in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self.journal: Journal | Volatile = Volatile() if path is None else Journal(path)
        self.databases: dict[str, dict[str, Collection]] = {}
        self.examined = Examined()
        self._next_namespace = 1
        last_row = self._load()
        self.transaction = Transaction(last_row + 1)
        self.replies = Replies(self.journal.replies())

    def _load(self) -> int:
        numbers: dict[int, Collection] = {}
        for number, database, name in self.journal.namespaces():
            numbers[number] = self.databases.setdefault(database, {})[name] = Collection(
                number, database, name, self.examined
            )
            self._next_namespace = max(self._next_namespace, number + 1)
        last = 0
        for row, number, raw in self.journal.documents():
            collection = numbers[number]
            collection.records[row] = Record(row, raw)
            collection.bytes += len(raw)
            last = row
        specs: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for number, raw in self.journal.indexes():
            specs[number].append(decode(raw))
        for number, collection in numbers.items():
            for spec in specs[number]:
                index = Index(spec)
                collection.indexes[index.name] = index
            build(
                list(collection.indexes.values()),
                ((row, record.glance()) for row, record in collection.records.items()),
            )
        return last

    # --- the catalog -------------------------------------------------------------------------------

    def get(self, database: str, name: str) -> Collection | None:
        """Return a collection, or None when there is none of this name."""
        return self.databases.get(database, {}).get(name)

    def ensure(self, database: str, name: str) -> Collection:
        """Return a collection, made when absent."""
        return self.get(database, name) or self.create(database, name)

    def create(self, database: str, name: str) -> Collection:
        """Make a collection.

        Raises
        ------
        CommandError
            When a name is not allowed.
        """
        check_names(database, name)
        number = self._next_namespace
        self._next_namespace += 1
        collection = Collection(number, database, name, self.examined)
        self._attach(collection)
        self.transaction.execute(
            "INSERT INTO namespaces (number, database, collection) VALUES (?, ?, ?)", number, database, name
        )
        self.transaction.on_undo(lambda: self._detach(collection))
        return collection

    def drop(self, collection: Collection) -> None:
        """Drop a collection with its documents and indexes."""
        self._detach(collection)
        for table, column in (("documents", "namespace"), ("indexes", "namespace"), ("namespaces", "number")):
            self.transaction.execute(f"DELETE FROM {table} WHERE {column} = ?", collection.number)  # noqa: S608
        self.transaction.on_undo(lambda: self._attach(collection))

    def rename(self, collection: Collection, database: str, name: str) -> None:
        """Give a collection another name (and database)."""
        check_names(database, name)
        old = (collection.database, collection.name)

        def move(target: tuple[str, str]) -> None:
            self._detach(collection)
            collection.database, collection.name = target
            self._attach(collection)

        move((database, name))
        self.transaction.execute(
            "UPDATE namespaces SET database = ?, collection = ? WHERE number = ?",
            database,
            name,
            collection.number,
        )
        self.transaction.on_undo(lambda: move(old))

    def _attach(self, collection: Collection) -> None:
        self.databases.setdefault(collection.database, {})[collection.name] = collection

    def _detach(self, collection: Collection) -> None:
        collections = self.databases[collection.database]
        del collections[collection.name]
        if not collections:
            del self.databases[collection.database]

    def create_index(self, collection: Collection, spec: dict[str, Any]) -> bool:
        """Build an index; False when the same one exists already.

        Raises
        ------
        CommandError
            When another index has this name or this key, or documents violate uniqueness.
        """
        index = Index(spec)
        for other in collection.indexes.values():
            if other.fields == index.fields:
                same = (other.unique, other.sparse) == (index.unique, index.sparse) or other.name == "_id_"
                if same and (other.name == index.name or other.name == "_id_"):
                    return False
                code, what = (85, "options") if same else (86, "uniqueness")
                raise CommandError(code, f"index {other.name} has the same key but another name or {what}")
            if other.name == index.name:
                raise CommandError(86, f"an index named {index.name} exists with another key")
        build([index], ((row, record.glance()) for row, record in collection.records.items()))
        collection.indexes[index.name] = index
        self.transaction.execute(
            "INSERT INTO indexes (namespace, name, spec) VALUES (?, ?, ?)",
            collection.number,
            index.name,
            bson.encode(index.spec),
        )

        def undo() -> None:
            del collection.indexes[index.name]

        self.transaction.on_undo(undo)
        return True

    def drop_index(self, collection: Collection, name: str) -> None:
        """Drop one index.

        Raises
        ------
        CommandError
            For the index on ``_id``, or when there is none of this name.
        """
        if name == "_id_":
            raise CommandError(72, "the index on _id cannot be dropped")
        if name not in collection.indexes:
            raise CommandError(27, f"index not found with name [{name}]")
        before = dict(collection.indexes)
        del collection.indexes[name]
        self.transaction.execute(
            "DELETE FROM indexes WHERE namespace = ? AND name = ?", collection.number, name
        )

        def undo() -> None:
            collection.indexes = before

        self.transaction.on_undo(undo)

    # --- durability --------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make the transaction durable.

        Raises
        ------
        StorageFullError
            When it cannot be written; memory is then as it was before the transaction.
        """
        if not self.transaction.statements:
            self.transaction.clear()
            return
        try:
            self.journal.commit(self.transaction.statements)
        except CommandError:
            self.transaction.rollback()
            raise
        self.transaction.clear()

    def totals(self) -> tuple[int, int]:
        """Return the numbers of documents and of bytes of BSON."""
        collections = [c for names in self.databases.values() for c in names.values()]
        return sum(len(c.records) for c in collections), sum(c.bytes for c in collections)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()


def check_names(database: str, name: str) -> None:
    """Refuse names that MongoDB refuses.

    Raises
    ------
    CommandError
        Code 73, naming the name.
    """
    if not database or len(database) > 63 or _BAD_DATABASE.search(database):
        raise CommandError(73, f"invalid database name: '{database}'")
    if not name or name.startswith(".") or name.endswith(".") or "$" in name or "\0" in name or ".." in name:
        raise CommandError(73, f"invalid collection name: '{name}'")
