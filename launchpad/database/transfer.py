"""Move a database: every collection as concatenated BSON in one archive, with its indexes' home in the code."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import bson
from bson.errors import BSONError

from gapfactory.errors import DatabaseError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

__all__ = ["export_database", "import_database"]

FORMAT = 1


def export_database(database: Database[Any], target: Path) -> dict[str, int]:
    """Write every collection into a tar.gz archive; returns the number of documents per collection.

    The archive appears under its name only when it is complete.
    """
    names = sorted(n for n in database.list_collection_names() if not n.startswith("system."))
    counts: dict[str, int] = {}
    partial = target.with_name(target.name + ".partial")
    with tarfile.open(partial, "w:gz") as archive:
        for name in names:
            buffer = io.BytesIO()
            counts[name] = 0
            for document in database[name].find(sort=[("_id", 1)]):
                buffer.write(bson.encode(document))
                counts[name] += 1
            _add(archive, f"{name}.bson", buffer.getvalue())
        _add(
            archive, "manifest.json", json.dumps({"format": FORMAT, "collections": counts}, indent=2).encode()
        )
    partial.replace(target)
    return counts


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o600
    archive.addfile(entry, io.BytesIO(data))


def import_database(database: Database[Any], source: Path) -> dict[str, int]:
    """Read an archive into a database that holds no campaign yet.

    Raises
    ------
    InputError
        The archive is not one of ours, or is incomplete.
    DatabaseError
        The database is not empty.
    """
    if database.campaigns.find_one({}, {"_id": 1}) or database.fireworks.find_one({}, {"_id": 1}):
        msg = (
            "this database holds campaigns or tasks already; import into an empty one (--db URI or --data "
            "DIRECTORY)"
        )
        raise DatabaseError(msg)
    try:
        with gzip.open(source) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            members = {member.name: member for member in archive.getmembers()}
            manifest = json.loads(_read(archive, members, "manifest.json"))
            contents = {
                name: [_plain(d) for d in bson.decode_all(_read(archive, members, f"{name}.bson"))]
                for name in manifest["collections"]
            }
            # tarfile stops before the end, where the checksum of everything stands
            while stream.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, ValueError, BSONError) as error:
        msg = f"{source} is not an archive of 'gapfactory db export', or is cut short: {error}"
        raise InputError(msg) from error
    for name, expected in manifest["collections"].items():
        if len(contents[name]) != expected:
            msg = f"{source} holds {len(contents[name])} of {expected} documents of {name!r}; export it again"
            raise InputError(msg)
    # what makes a database count as used comes last: an import that was cut off is simply repeated
    for name in sorted(contents, key=lambda name: (name in {"campaigns", "fireworks"}, name)):
        documents = contents[name]
        database[name].delete_many({})
        for start in range(0, len(documents), 500):
            database[name].insert_many(documents[start : start + 500])
    return dict(manifest["collections"])


def _plain(document: Any) -> dict[str, Any]:
    return dict(document)


def _read(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    stream = archive.extractfile(members[name])
    if stream is None:
        msg = f"{name} is not a file"
        raise ValueError(msg)
    return stream.read()
