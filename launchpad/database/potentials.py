"""Potentials: files in GridFS under the sha256 of their content, checked on the way in and on the way out."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import NotFoundError, PotentialError
from launchpad.database.documents import generation_id, now

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.database.documents import PotentialDocument

__all__ = [
    "cache_directory",
    "damaged_files",
    "fetch_potential",
    "latest_potential",
    "preceding_potential",
    "read_file",
    "relaxing_potential",
    "release_file",
    "require_potential",
    "save_potential",
    "store_file",
    "store_files",
]

BUCKET = "potential_files"
#: Seconds within which another writer of the same content finishes, before what it left counts as abandoned.
WRITER_S = 10.0


def store_files(database: Database[Any], paths: list[Path]) -> list[dict[str, Any]]:
    """Store files and return ``[{name, sha256, size}]``; content that is there already is not stored twice.

    Raises
    ------
    PotentialError
        The database does not hold what was written into it.
    """
    manifest = []
    for path in paths:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        _store(database, path.name, digest, data)
        manifest.append({"name": path.name, "sha256": digest, "size": len(data)})
    return manifest


def _store(database: Database[Any], name: str, digest: str, data: bytes) -> None:
    import gridfs
    from gridfs.errors import FileExists

    files = gridfs.GridFS(database, BUCKET)
    # before it is looked for: what is in use by now is not released, see `release_file`
    database[f"{BUCKET}.files"].update_one({"_id": digest}, {"$set": {"stored": now()}})
    state = _stored(database, digest)
    if state == "damaged":
        files.delete(digest)
    for _ in range(2):
        if state != "whole":
            try:
                files.put(data, _id=digest, filename=name)
            except FileExists:
                # another worker stores the same bytes right now, or one was killed between its chunks and its
                # file document; the former is given its time before the remains are removed
                end = time.monotonic() + WRITER_S
                while _stored(database, digest) == "missing" and time.monotonic() < end:
                    time.sleep(0.1)
        state = _stored(database, digest)
        if state == "whole":
            return
        files.delete(digest)
    msg = f"{name} cannot be stored: the database does not hold what was written under {digest}"
    raise PotentialError(msg)


def _stored(database: Database[Any], digest: str) -> Literal["whole", "damaged", "missing"]:
    import gridfs
    from gridfs.errors import CorruptGridFile, NoFile

    try:
        data = gridfs.GridFS(database, BUCKET).get(digest).read()
    except NoFile:
        return "missing"
    except CorruptGridFile:
        return "damaged"
    return "whole" if hashlib.sha256(data).hexdigest() == digest else "damaged"


def store_file(database: Database[Any], data: bytes) -> None:
    """Store the content of one file again, under its sha256."""
    digest = hashlib.sha256(data).hexdigest()
    _store(database, digest, digest, data)


def read_file(database: Database[Any], digest: str) -> bytes:
    """Return the content of a file.

    Raises
    ------
    PotentialError
        It is missing or altered.
    """
    import gridfs

    if _stored(database, digest) != "whole":
        msg = f"file {digest} is missing from the database or altered in it; 'gapfactory db check' says whose it is"
        raise PotentialError(msg)
    return bytes(gridfs.GridFS(database, BUCKET).get(digest).read())


def release_file(database: Database[Any], digest: str, *, unused_s: float) -> bool:
    """Remove a file that no potential has; return whether it is gone.

    Parameters
    ----------
    database, digest
        The file.
    unused_s
        It stays if somebody has stored it within so many seconds: the record of the potential comes later.
    """
    files = database[f"{BUCKET}.files"]
    found = files.find_one({"_id": digest}, {"stored": 1, "uploadDate": 1})
    if database.potentials.find_one({"files.sha256": digest, "pruned": {"$exists": False}}, {"_id": 1}):
        return False
    if found is not None:
        last = found.get("stored", found["uploadDate"])
        if (now() - last).total_seconds() < unused_s:
            return False
        # somebody may store it at this moment: then it is of another time, and stays
        if not files.delete_one({"_id": digest, "stored": found.get("stored")}).deleted_count:
            return False
    database[f"{BUCKET}.chunks"].delete_many({"files_id": digest})
    return True


def damaged_files(database: Database[Any], record: dict[str, Any]) -> list[str]:
    """Return the names of a potential's files that are missing from the database or altered in it.

    None of one whose files were archived or deleted by policy.
    """
    if record.get("pruned"):
        return []
    return [entry["name"] for entry in record["files"] if _stored(database, entry["sha256"]) != "whole"]


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


def preceding_potential(database: Database[Any], campaign: str, generation: int) -> dict[str, Any]:
    """Return the record of the potential that a generation begins with.

    It is that of the generation before, or where this was left out, of the newest one before it.

    Raises
    ------
    NotFoundError
        There is none.
    """
    document = database.potentials.find_one({"_id": generation_id(campaign, generation - 1)})
    if document is not None:
        return dict(document)
    earlier = {"campaign": campaign, "generation": {"$lt": generation}}
    found = list(database.potentials.find(earlier).sort("generation", -1).limit(1))
    return dict(found[0]) if found else require_potential(database, campaign, generation - 1)


def relaxing_potential(
    database: Database[Any], campaign: str, generation: int, *, after_fit: bool
) -> dict[str, Any]:
    """Return the record of the potential that cells of a generation are relaxed with.

    Parameters
    ----------
    database, campaign, generation
        Whose cells.
    after_fit
        As in `gapfactory.protocols.recipe.CellRange`.

    Raises
    ------
    NotFoundError
        There is none.
    """
    found = require_potential if after_fit else preceding_potential
    return found(database, campaign, generation)


def latest_potential(database: Database[Any], campaign: str) -> dict[str, Any] | None:
    """Return the record of the newest potential, or None."""
    found = list(database.potentials.find({"campaign": campaign}).sort("generation", -1).limit(1))
    return dict(found[0]) if found else None


def fetch_potential(database: Database[Any], record: dict[str, Any], directory: Path) -> Path:
    """Write the files of a potential into a directory, each checked against its sha256.

    Raises
    ------
    PotentialError
        A file is missing from the database or is not what was stored, or its name is no plain file name.
    """
    import gridfs
    from gridfs.errors import CorruptGridFile, NoFile

    files = gridfs.GridFS(database, BUCKET)
    directory.mkdir(parents=True, exist_ok=True)
    for entry in record["files"]:
        # the name comes from the database: it must not lead out of the directory
        if entry["name"] in {"", ".", ".."} or Path(entry["name"]).name != entry["name"]:
            msg = (
                f"potential {record['_id']!r} names a file {entry['name']!r}, which is no plain file name: its record "
                "was altered; fit it again"
            )
            raise PotentialError(msg)
        try:
            data = files.get(entry["sha256"]).read()
        except (NoFile, CorruptGridFile) as error:
            if record.get("pruned"):
                raise PotentialError(_removed(database, record)) from error
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


def _removed(database: Database[Any], record: dict[str, Any]) -> str:
    """Say what became of files that were removed by policy."""
    removal = database.removals.find_one({"_id": record["pruned"]["in"]}) or {}
    what = f"the files of potential {record['_id']!r} were removed by policy on {record['pruned']['at']:%Y-%m-%d}"
    archived = {(c["campaign"], c["kind"]): c["action"] for c in removal.get("counts", ())}
    if archived.get((record["campaign"], "potentials")) != "archive":
        return f"{what} and not archived; newer potentials of campaign {record['campaign']!r} are there"
    return (
        f"{what} by {removal['by']}; they are in {removal['file']} on {removal['host']}: 'gapfactory db restore "
        "FILE' brings them back"
    )


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
