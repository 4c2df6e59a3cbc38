"""Potentials: files in GridFS under the sha256 of their content, checked on the way in and on the way out."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError, PotentialError
from launchpad.database.documents import generation_id

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.database.documents import PotentialDocument

__all__ = [
    "cache_directory",
    "fetch_potential",
    "latest_potential",
    "require_potential",
    "save_potential",
    "store_files",
]

BUCKET = "potential_files"


def store_files(database: Database[Any], paths: list[Path]) -> list[dict[str, Any]]:
    """Store files and return ``[{name, sha256, size}]``; content that is there already is not stored twice."""
    import gridfs
    from gridfs.errors import FileExists

    files = gridfs.GridFS(database, BUCKET)
    manifest = []
    for path in paths:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        stored = files.find_one({"_id": digest})
        if stored is not None and stored.read() != data:
            # a writer was killed between its chunks and its file document, or the content rotted
            files.delete(digest)
            stored = None
        if stored is None:
            database[BUCKET].chunks.delete_many({"files_id": digest})
            try:
                files.put(data, _id=digest, filename=path.name)
            except FileExists:
                # another worker stored the same bytes at the same moment; reading back proves them
                if files.get(digest).read() != data:
                    msg = f"{path.name} cannot be stored: the database holds other bytes under {digest}"
                    raise PotentialError(msg) from None
        manifest.append({"name": path.name, "sha256": digest, "size": len(data)})
    return manifest


def save_potential(database: Database[Any], document: PotentialDocument) -> None:
    """Store the record of a potential whose files are stored."""
    fields = document.to_bson()
    database.potentials.replace_one({"_id": fields["_id"]}, fields, upsert=True)


def require_potential(database: Database[Any], campaign: str, generation: int) -> dict[str, Any]:
    """Return the record of a generation's potential.

    Raises
    ------
    NotFoundError
        It has not been fitted yet.
    """
    document = database.potentials.find_one({"_id": generation_id(campaign, generation)})
    if document is None:
        msg = (
            f"campaign {campaign!r} has no potential of generation {generation}; 'gapfactory campaign "
            f"status {campaign}' shows how far it is"
        )
        raise NotFoundError(msg)
    return dict(document)


def latest_potential(database: Database[Any], campaign: str) -> dict[str, Any] | None:
    """Return the record of the newest potential, or None."""
    found = list(database.potentials.find({"campaign": campaign}).sort("generation", -1).limit(1))
    return dict(found[0]) if found else None


def fetch_potential(database: Database[Any], record: dict[str, Any], directory: Path) -> Path:
    """Write the files of a potential into a directory, each checked against its sha256.

    Raises
    ------
    PotentialError
        A file is missing from the database or is not what was stored.
    """
    import gridfs
    from gridfs.errors import CorruptGridFile, NoFile

    files = gridfs.GridFS(database, BUCKET)
    directory.mkdir(parents=True, exist_ok=True)
    for entry in record["files"]:
        try:
            data = files.get(entry["sha256"]).read()
        except (NoFile, CorruptGridFile) as error:
            msg = (
                f"file {entry['name']!r} of potential {record['_id']!r} is missing or damaged in the "
                f"database: {error}; fit it again"
            )
            raise PotentialError(msg) from error
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            msg = (
                f"file {entry['name']!r} of potential {record['_id']!r} was altered in the database; fit "
                "it again"
            )
            raise PotentialError(msg)
        (directory / entry["name"]).write_bytes(data)
    return directory


def cache_directory() -> Path:
    """Return where workers keep potentials between tasks: GAPFACTORY_CACHE, or the user's cache directory."""
    given = os.environ.get("GAPFACTORY_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gapfactory"


def cached_potential(database: Database[Any], record: dict[str, Any]) -> Path:
    """Return a local directory with the potential's files, fetched once per machine and user.

    The directory is named by the content digest and appears by an atomic rename, so many workers may ask at once.
    """
    # the names of the files and their hashes decide, not the digest of the numbers: two fits may share the latter
    key = hashlib.sha256("".join(f"{f['name']}:{f['sha256']};" for f in record["files"]).encode()).hexdigest()
    target = cache_directory() / "potentials" / key
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".fetch-"))
    try:
        fetch_potential(database, record, scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
