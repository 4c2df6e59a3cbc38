"""Versions of what a database holds, and how an older one becomes the present one.

The version stands in ``queue_meta``. A database without one was made before there were versions: it has version 0,
unless it is empty. Migrations are numbered functions that may be repeated: one that was killed is run again from its
start and finds less to do. A program refuses a database of a later version, and writes into one of an earlier version
only where every migration that is missing allows that.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError, StateError
from launchpad.database.documents import now, own_label_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pymongo.database import Database

__all__ = [
    "IMPORT",
    "MIGRATIONS",
    "RESERVED",
    "SCHEMA",
    "Migration",
    "mark_new",
    "outstanding",
    "require_readable",
    "require_writable",
    "schema_version",
    "upgrade",
]

logger = logging.getLogger("launchpad.database")

#: Documents changed at once.
BATCH = 500
#: Databases of MongoDB's own, in which the administrator's URI ends.
RESERVED = frozenset({"admin", "local", "config"})
#: Document of ``queue_meta`` that is there while an archive is read into the database.
IMPORT = "import"


@dataclass(frozen=True)
class Migration:
    """One step from a version to the next.

    Attributes
    ----------
    to
        The version that it leads to.
    what
        For people.
    work
        Does it; called with the database and a function to call between batches. Returns how many documents changed.
    count
        Returns how many documents would change.
    before_writing
        Whether this program must not write into the database before.
    """

    to: int
    what: str
    work: Callable[[Database[Any], Callable[[], None]], int]
    count: Callable[[Database[Any]], int]
    before_writing: bool = False


#: What older documents lack -> what today's code would have written.
_LABEL_DEFAULTS: dict[str, Any] = {
    "fault": "",
    "attempts": 1,
    "history": [],
    "custodian": "",
    "files": [],
    "flags": [],
    "altered": {},
    "target": "",
    "enters": 0,
    "retry_in": None,
    "version": "",
    "details": {},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "labels": _LABEL_DEFAULTS,
    "relaxations": {"left_known_space": False, "start": "", "seconds": 0.0},
    "curves": {"failures": [], "seconds": 0.0},
}
#: A failure under the key of the shared label: those of campaigns have a third part.
_SHARED_FAILURE = {"status": "failed", "_id": {"$not": {"$regex": "/"}}}


def _lacking(defaults: dict[str, Any]) -> dict[str, Any]:
    return {"$or": [{name: {"$exists": False}} for name in defaults]}


def _count_first(database: Database[Any]) -> int:
    lacking = sum(database[name].count_documents(_lacking(defaults)) for name, defaults in _DEFAULTS.items())
    return int(lacking + database.labels.count_documents(_SHARED_FAILURE))


def _first(database: Database[Any], between: Callable[[], None]) -> int:
    """Complete documents of earlier versions, and move failures to the campaigns that met them."""
    from pymongo import UpdateOne

    from launchpad.database.indexes import ensure_indexes
    from launchpad.queue.connection import queue_indexes

    ensure_indexes(database)
    for name, models in queue_indexes().items():
        database[name].create_indexes(models)
    changed = 0
    for name, defaults in _DEFAULTS.items():
        query = _lacking(defaults)
        # each document once, whatever order the server returns them in
        ids = [d["_id"] for d in database[name].find(query, {"_id": 1})]
        for start in range(0, len(ids), BATCH):
            between()
            chunk = ids[start : start + BATCH]
            found = database[name].find({"_id": {"$in": chunk}}, dict.fromkeys(defaults, 1))
            operations = [
                UpdateOne(
                    {"_id": d["_id"]},
                    {"$set": {field: value for field, value in defaults.items() if field not in d}},
                )
                for d in found
            ]
            changed += database[name].bulk_write(operations, ordered=False).modified_count
    for old in list(database.labels.find(_SHARED_FAILURE)):
        between()
        own = own_label_id(old["_id"], old["campaign"])
        fields = {name: value for name, value in old.items() if name != "_id"}
        # what the campaign met later stays
        database.labels.update_one({"_id": own}, {"$setOnInsert": fields}, upsert=True)
        changed += database.labels.delete_one({"_id": old["_id"], "status": "failed"}).deleted_count
    return changed


_NO_LEVELS = {"levels": {"$exists": False}}


def _count_second(database: Database[Any]) -> int:
    return int(database.campaigns.count_documents(_NO_LEVELS))


def _second(database: Database[Any], between: Callable[[], None]) -> int:
    """Write beside the settings of each campaign what those who only read results need of them."""
    from launchpad.database.campaigns import compositions_of, levels_of

    changed = 0
    for record in list(database.campaigns.find(_NO_LEVELS, {"settings": 1, "versions": 1})):
        between()
        try:
            fields: dict[str, Any] = {
                "levels": levels_of(record),
                "compositions": list(compositions_of(record)),
            }
        except StateError as error:
            # this version does not read its settings, here or elsewhere
            logger.warning("%s", error)
            fields = {"levels": {}, "compositions": []}
        changed += database.campaigns.update_one({"_id": record["_id"]}, {"$set": fields}).modified_count
    return changed


#: In order; the last one leads to the version of this program.
MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "indexes, fields that older documents lack, failures of labels beside the shared key",
        _first,
        _count_first,
    ),
    Migration(2, "hashes of the levels of theory beside the settings of campaigns", _second, _count_second),
)
#: The version that this program makes.
SCHEMA = MIGRATIONS[-1].to


def schema_version(database: Database[Any]) -> int:
    """Return the version of a database; that of this program for an empty one."""
    found = database.queue_meta.find_one({"_id": "schema"}, {"version": 1})
    if found is not None:
        return int(found["version"])
    used = database.campaigns.find_one({}, {"_id": 1}) or database.fireworks.find_one({}, {"_id": 1})
    return 0 if used else SCHEMA


def mark_new(database: Database[Any]) -> None:
    """Give the version of this program to a database that holds nothing yet; nothing that exists is changed."""
    from pymongo.errors import DuplicateKeyError

    key, fields = {"_id": "schema"}, {"version": SCHEMA, "history": [_entry(SCHEMA)]}
    if database.queue_meta.find_one(key, {"_id": 1}) is None and schema_version(database) == SCHEMA:
        # another process may do it at the same moment
        with contextlib.suppress(DuplicateKeyError):
            database.queue_meta.update_one(key, {"$setOnInsert": fields}, upsert=True)


def _entry(version: int) -> dict[str, Any]:
    from gapfactory import __version__

    return {"version": version, "at": now(), "gapfactory": __version__, "host": socket.gethostname()}


def outstanding(database: Database[Any]) -> tuple[Migration, ...]:
    """Return the migrations that a database has not had."""
    version = schema_version(database)
    return tuple(migration for migration in MIGRATIONS if migration.to > version)


def require_readable(database: Database[Any]) -> None:
    """Refuse a database of a later version, and MongoDB's own.

    Raises
    ------
    DatabaseError
        This program does not know what it holds.
    """
    if database.name in RESERVED:
        msg = (
            f"{database.name!r} is MongoDB's own database and no group's. 'gapfactory share open GROUP --to FILE' "
            "writes the URI by which you, as the user of this one, reach a group's"
        )
        raise DatabaseError(msg)
    version = schema_version(database)
    if version > SCHEMA:
        msg = (
            f"database {database.name!r} was made by a newer gapfactory (schema {version}; this one knows up to "
            f"{SCHEMA}); install that version here. Nothing was changed"
        )
        raise DatabaseError(msg)


def require_writable(database: Database[Any]) -> None:
    """Refuse to write into a database of a later version, of an earlier one where that does harm, or half imported.

    Raises
    ------
    DatabaseError
        With the remedy.
    """
    require_readable(database)
    half = database.queue_meta.find_one({"_id": IMPORT})
    if half is not None:
        msg = (
            f"{half['archive']} is being read into database {database.name!r}, or was until that was cut off: wait "
            "until it has ended, or repeat 'gapfactory db import'. Nothing is written before it is whole"
        )
        raise DatabaseError(msg)
    missing = [migration for migration in outstanding(database) if migration.before_writing]
    if missing:
        msg = (
            f"database {database.name!r} was made by an older gapfactory (schema {schema_version(database)}; this one "
            f"writes {SCHEMA}). Stop all workers, make a backup ('gapfactory db export'), then 'gapfactory db upgrade'"
        )
        raise DatabaseError(msg)


def upgrade(
    database: Database[Any], *, migrations: Iterable[Migration] | None = None
) -> list[tuple[Migration, int]]:
    """Run the migrations that are missing, one after the other; return each with the number of changed documents.

    Parameters
    ----------
    database
        With durable writes.
    migrations
        Instead of those that are outstanding; tests give others.

    Raises
    ------
    StateError
        Another process is at it.
    DatabaseError
        The database is of a later version.
    """
    from launchpad.database.audit import audit
    from launchpad.operations.lease import Lease

    require_readable(database)
    done = []
    with Lease(database, "migration") as lease:
        for migration in outstanding(database) if migrations is None else migrations:
            changed = migration.work(database, lease.renew)
            database.queue_meta.update_one(
                {"_id": "schema"},
                {"$set": {"version": migration.to}, "$push": {"history": _entry(migration.to)}},
                upsert=True,
            )
            audit(database, "schema.migrated", version=migration.to, documents=changed)
            logger.info("schema %d: %d documents changed (%s)", migration.to, changed, migration.what)
            done.append((migration, changed))
    mark_new(database)
    return done
