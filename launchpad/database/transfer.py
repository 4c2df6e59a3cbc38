"""Move a database: every collection as concatenated BSON in one archive, with its indexes' home in the code.

An archive may be made while workers run. What says how far the work is (`PROGRESS`) is then read first, and read again
until it was the same before and after; results are read later, so there may be more of them than the tasks know of,
never fewer. A task that is run again finds its results and stores them once: a campaign goes on from such an archive.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import logging
import os
import tarfile
import tempfile
import time
import zlib
from typing import IO, TYPE_CHECKING, Any

import bson
from bson.errors import BSONError

from gapfactory.errors import DatabaseError, InputError
from launchpad.database.audit import audit
from launchpad.database.connection import NOT_AUTHORISED
from launchpad.database.documents import now
from launchpad.database.migrations import IMPORT, SCHEMA, schema_version, upgrade
from launchpad.database.privileges import AUDIT, OWNED, SHARES, WORKED_OUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

__all__ = ["add_member", "export_database", "import_database", "members"]

logger = logging.getLogger("launchpad.database")

FORMAT = 1
#: Documents sent to the database at once.
BATCH = 500
#: What says how far the work is, with the fields that say it (None: all); its parts must be of one moment.
PROGRESS: dict[str, tuple[str, ...] | None] = {
    "campaigns": None,
    "workflows": ("nodes", "links", "state", "fw_states"),
    "fireworks": ("fw_id", "state", "launches", "archived_launches"),
    "launches": ("launch_id", "fw_id", "state"),
    "fw_id_assigner": None,
    "queue_journal": ("kind", "token"),
}
#: How often that is read, with growing pauses, before an export gives up.
TRIES = 40
#: What makes a database count as used; imported last. Until it is whole, `IMPORT` says that it may be imported again.
LAST = frozenset({"campaigns", "fireworks"})


def export_database(database: Database[Any], target: Path) -> dict[str, int]:
    """Write every collection into a tar.gz archive; returns the number of documents per collection.

    The archive appears under its name only when it is complete, and only its owner may read it. No collection is held
    in memory: each goes through a temporary file next to the archive.

    Raises
    ------
    DatabaseError
        Tasks were taken and completed so fast that their state was never the same before and after it was read.
    """
    # what is granted to whom concerns this server and its users, and an imported list of it would say what is not so
    # what the dashboard works out of the rest is worked out again
    present = sorted(
        n
        for n in database.list_collection_names()
        if not n.startswith("system.") and n != SHARES and n not in WORKED_OUT
    )
    counts: dict[str, int] = {}
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with (
            os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream,
            tarfile.open(fileobj=stream, mode="w:gz") as archive,
        ):
            with contextlib.ExitStack() as stack:
                for name, (content, counts[name]) in _progress(database, present, target, stack).items():
                    add_member(archive, f"{name}.bson", content)
            for name in present:
                if name not in PROGRESS:
                    with tempfile.TemporaryFile(dir=target.parent) as content:
                        counts[name] = _write(database, name, content)
                        add_member(archive, f"{name}.bson", content)
            facts = {"format": FORMAT, "schema": schema_version(database), "collections": counts}
            manifest = json.dumps(facts, indent=2)
            add_member(archive, "manifest.json", io.BytesIO(manifest.encode()))
        with partial.open("rb") as written:
            os.fsync(written.fileno())  # a backup that has its name is on the disk
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return counts


def _progress(
    database: Database[Any], present: list[str], target: Path, stack: contextlib.ExitStack
) -> dict[str, tuple[IO[bytes], int]]:
    """Return the collections of `PROGRESS` as they were at one moment, each in a temporary file, with its length."""
    names = [name for name in PROGRESS if name in present]
    for attempt in range(TRIES):
        before = _fingerprint(database, names)
        found: dict[str, tuple[IO[bytes], int]] = {}
        with contextlib.ExitStack() as files:
            for name in names:
                content = files.enter_context(tempfile.TemporaryFile(dir=target.parent))
                found[name] = (content, _write(database, name, content))
            if _fingerprint(database, names) == before:
                stack.enter_context(files.pop_all())
                return found
        time.sleep(min(0.05 * (attempt + 1), 1.0))
    msg = (
        f"tasks were taken and completed during each of {TRIES} tries to read their state; stop the workers "
        "('gapfactory worker stop --everywhere'), export, and start them again, or use 'mongodump --oplog'"
    )
    raise DatabaseError(msg)


def _fingerprint(database: Database[Any], names: list[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        fields = PROGRESS[name]
        for document in (
            database[name].find({}, None if fields is None else dict.fromkeys(fields, 1)).sort("_id")
        ):
            digest.update(bson.encode(document))
    return digest.hexdigest()


def _write(database: Database[Any], name: str, content: IO[bytes]) -> int:
    """Write a collection in the order of its ids; return the number of documents."""
    count = 0
    for document in database[name].find(sort=[("_id", 1)]):
        content.write(bson.encode(document))
        count += 1
    return count


def add_member(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    """Add a file that is open at any place to an archive; only its owner may read it when it is unpacked."""
    entry = tarfile.TarInfo(name)
    entry.size = content.seek(0, io.SEEK_END)
    entry.mode = 0o600
    content.seek(0)
    archive.addfile(entry, content)


def import_database(database: Database[Any], source: Path) -> dict[str, int]:
    """Read an archive into a database that holds no campaign yet, and bring it to the version of this program.

    One that was cut off is repeated. What only an owner may write (policies, quotas, accounts of the dashboard) is left
    out with a warning where a member imports.

    Returns
    -------
    dict
        Documents by collection.

    Raises
    ------
    InputError
        The archive is not one of ours, is incomplete, or of a newer version.
    DatabaseError
        The database is not empty.
    """
    used = database.campaigns.find_one({}, {"_id": 1}) or database.fireworks.find_one({}, {"_id": 1})
    if used and database.queue_meta.find_one({"_id": IMPORT}) is None:
        msg = (
            "this database holds campaigns or tasks already; import into an empty one (--db URI or --data "
            "DIRECTORY)"
        )
        raise DatabaseError(msg)
    wanted = checked_archive(source)
    mark = {"archive": source.name, "at": now()}
    database.queue_meta.update_one({"_id": IMPORT}, {"$set": mark}, upsert=True)
    for last in (False, True):
        for member, content in members(source):
            name = member.removesuffix(".bson")
            # archives of before grants were left out of them may hold some, and they are another server's
            if name == SHARES:
                wanted.pop(SHARES, None)
            elif name in wanted and (name in LAST) is last and not _insert(database, name, content):
                del wanted[name]
                logger.warning("%s is left out: only an owner of the group may write it", name)
    if wanted.get("campaigns") or wanted.get("fireworks"):
        # the version came with the archive, or there was none
        upgrade(database)
    audit(database, "database.imported", documents=sum(wanted.values()), archive=source.name)
    database.queue_meta.delete_one({"_id": IMPORT})
    return wanted


def checked_archive(source: Path) -> dict[str, int]:
    """Read an archive of `export_database` to its end; return the number of documents per collection.

    Raises
    ------
    InputError
        It is not one of ours, is incomplete, or of a newer version.
    """
    try:
        counts: dict[str, int] = {}
        wanted: dict[str, int] | None = None
        facts: dict[str, Any] = {}
        for name, content in members(source):
            if name == "manifest.json":
                facts = json.load(content)
                wanted = dict(facts["collections"])
            else:
                counts[name.removesuffix(".bson")] = sum(1 for _ in bson.decode_file_iter(content))
        if wanted is None:
            raise ValueError("it has no manifest")
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, ValueError, BSONError) as error:
        msg = f"{source} is not an archive of 'gapfactory db export', or is cut short: {error}"
        raise InputError(msg) from error
    for name, expected in wanted.items():
        if counts.get(name, 0) != expected:
            msg = f"{source} holds {counts.get(name, 0)} of {expected} documents of {name!r}; export it again"
            raise InputError(msg)
    # archives of before there were versions say nothing
    if int(facts.get("schema", 0)) > SCHEMA:
        msg = (
            f"{source} was exported by a newer gapfactory (schema {facts['schema']}; this one knows up to {SCHEMA}); "
            "import it with that version. Nothing was imported"
        )
        raise InputError(msg)
    return wanted


def _insert(database: Database[Any], name: str, content: IO[bytes]) -> bool:
    """Write a collection anew; return whether this user may, as far as it is an owner's to write."""
    from pymongo.errors import OperationFailure

    known: set[Any] = set()
    if name == AUDIT:
        # only added to, by whoever it is: what happened in the database that the archive was made of, before this one
        known = {document["_id"] for document in database[name].find({}, {"_id": 1})}
    elif name == "queue_meta":
        known = {IMPORT}
        database[name].delete_many({"_id": {"$ne": IMPORT}})
    else:
        try:
            database[name].delete_many({})
        except OperationFailure as error:
            if error.code != NOT_AUTHORISED or name not in OWNED:
                raise
            return False
    documents = bson.decode_file_iter(content)
    while batch := [dict(document) for document in itertools.islice(documents, BATCH)]:
        if new := [document for document in batch if document["_id"] not in known]:
            database[name].insert_many(new)
    return True


def members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the files of an archive in their order, each to be read before the next; its checksum comes at the end."""
    with gzip.open(source) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    msg = f"{member.name} is not a file"
                    raise ValueError(msg)
                yield member.name, content
        # tarfile stops before the end, where the checksum of everything stands
        while stream.read(1 << 20):
            pass
