"""Remove what nobody needs any more, by policy: archived or deleted, never without a trace.

In order: everything that goes is written into an archive, which is on disk, and known to the database (``removals``),
before the first document loses anything; documents lose their fields in batches, each in one step with a tombstone
(``pruned``: which removal, when, sha256 of what went). Killed anywhere in between, the next run completes it.
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bson

from gapfactory.errors import InputError, NotFoundError, ServiceError
from launchpad.database.audit import audit
from launchpad.database.campaigns import list_campaigns
from launchpad.database.digest import relaxation_digest
from launchpad.database.documents import now
from launchpad.database.potentials import read_file, release_file, store_file
from launchpad.operations import archive
from launchpad.operations.lease import Lease
from launchpad.operations.needed import COLLECTIONS, Portion, beyond_the_best, portions_of, released
from launchpad.operations.settings import KINDS, RetentionPolicy
from launchpad.queue.connection import known_identity
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from pymongo.database import Database

    from launchpad.operations.settings import Rule

    PolicyOf = Callable[[str], RetentionPolicy]
    Progress = Callable[[str, int, int], None]

__all__ = ["Removal", "describe", "plan", "prune", "restore"]

#: Documents changed at once.
BATCH = 500
#: A file of a potential is removed when no fit has stored it for so long: one that stores it now records that next.
FILE_AGE_S = 3600.0


@dataclass(frozen=True)
class Removal:
    """What one run removed, or would remove.

    Attributes
    ----------
    campaign, kind, action
        Whose, what, and whether it is archived or deleted.
    documents
        How many lose something.
    megabytes
        What that is about (MB, 1e6 bytes), by the mean size of such documents; exact for potentials.
    """

    campaign: str
    kind: str
    action: str
    documents: int
    megabytes: float


def plan(
    database: Database[Any],
    policies: PolicyOf,
    *,
    campaigns: Sequence[str] = (),
    moment: datetime | None = None,
) -> list[tuple[Portion, str]]:
    """Return what may go by policy, with ``archive`` or ``delete``; nothing is changed.

    Parameters
    ----------
    database
        The database.
    policies
        Policy of a campaign, by its name.
    campaigns
        Only these.
    moment
        The present time; tests look into the future with it.

    Raises
    ------
    NotFoundError
        There is no campaign of this name.
    """
    records = list_campaigns(database)
    unknown = sorted(set(campaigns) - {record["_id"] for record in records})
    if unknown:
        msg = f"no campaign {unknown[0]!r} in this database; 'gapfactory campaign status' lists them"
        raise NotFoundError(msg)
    found: list[tuple[Portion, str]] = []
    for record in records:
        if campaigns and record["_id"] not in campaigns:
            continue
        policy = policies(record["_id"])
        for kinds, keep in _due(record, policy, moment or now()):
            portions = portions_of(database, record, kinds, newest=policy.keep_potentials, keep=keep)
            found += [(portion, _rule(policy, portion.kind).action) for portion in portions]
        if (days := policy.searches.after_days) is not None:
            before = (moment or now()) - timedelta(days=days)
            portion = beyond_the_best(database, record, policy.searches.within, before)
            found += [] if portion is None else _but(portion, policy.searches.action, found)
    return found


def _but(portion: Portion, action: str, planned: Sequence[tuple[Portion, str]]) -> list[tuple[Portion, str]]:
    """Return a portion without the relaxations that go as whole trajectories."""
    gone = {key for other, _ in planned if other.kind == "trajectories" for key in other.ids}
    left = tuple(key for key in portion.ids if key not in gone)
    return [(Portion(portion.campaign, portion.kind, left), action)] if left else []


def _rule(policy: RetentionPolicy, kind: str) -> Rule:
    rule: Rule = getattr(policy, kind)
    return rule


def _due(
    record: dict[str, Any], policy: RetentionPolicy, moment: datetime
) -> Iterator[tuple[list[str], int | None]]:
    """Yield which kinds of a campaign are due, and how many generations of them stay."""
    if CampaignState(record["state"]).ended:
        age = moment - record.get("since", record["updated"])
        due = [
            kind
            for kind in KINDS
            # searches do not wait for the end of their campaign
            if kind != "searches"
            and (days := _rule(policy, kind).after_days) is not None
            and age >= timedelta(days=days)
        ]
        yield due, None
    elif policy.keep_generations is not None:
        yield ["trajectories", "cells", "potentials"], policy.keep_generations


def describe(database: Database[Any], planned: Iterable[tuple[Portion, str]]) -> list[Removal]:
    """Return what is planned with its size."""
    rows, means = [], {}
    for portion, action in planned:
        name = COLLECTIONS[portion.kind]
        if portion.kind == "potentials":
            records = database.potentials.find({"_id": {"$in": list(portion.ids)}}, {"files": 1})
            size = float(sum(file["size"] for record in records for file in record["files"]))
        else:
            if name not in means:
                means[name] = float(database.command("collStats", name).get("avgObjSize", 0.0))
            size = means[name] * len(portion.ids)
        rows.append(Removal(portion.campaign, portion.kind, action, len(portion.ids), round(size / 1e6, 3)))
    return rows


def prune(
    database: Database[Any],
    policies: PolicyOf,
    directory: Path,
    *,
    by: str,
    campaigns: Sequence[str] = (),
    moment: datetime | None = None,
    file_age_s: float = FILE_AGE_S,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Remove what may go by policy, after finishing what an earlier run began; return the record of this removal.

    Parameters
    ----------
    database
        With durable writes.
    policies, campaigns, moment
        As for `plan`.
    directory
        For the archive.
    by
        Who asked for it.
    file_age_s
        Files of potentials that were stored within so many seconds stay until a later run.
    progress
        Called with a word for what is done, how many documents are through, and of how many.

    Raises
    ------
    StateError
        Another process is at it.
    ServiceError
        The archive cannot be written; nothing was removed.
    """
    tell = progress or _silent
    with Lease(database, "retention") as lease:
        _finish(database, lease)
        for partial in directory.glob(f".gapfactory-{database.name}-*.partial"):
            partial.unlink()  # of a run that was killed: this one holds the lease
        planned = plan(database, policies, campaigns=campaigns, moment=moment)
        record: dict[str, Any] | None = None
        if planned:
            record = _begin(by)
            kept = [portion for portion, action in planned if action == "archive"]
            dropped = [portion for portion, action in planned if action == "delete"]
            if kept:
                record |= _write(database, record, kept, directory, lease, tell)
                lease.renew()
            record["counts"] = _counts(planned)
            # from here on the removal will be completed, by this run or the next
            database.removals.insert_one(record)
            if kept:
                total = sum(len(portion.ids) for portion in kept)
                _apply(database, record, archive.read_documents(Path(record["file"])), total, lease, tell)
            for portion in dropped:
                documents = ((portion.kind, d) for d in _documents(database, portion))
                _apply(database, record, documents, len(portion.ids), lease, tell)
            _conclude(database, record, "done")
            record["state"] = "done"
        _release_files(database, lease, file_age_s)
    return record


def _silent(what: str, done: int, of: int) -> None:
    del what, done, of


def _begin(by: str) -> dict[str, Any]:
    moment = now()
    return {
        "_id": f"{moment:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}",
        "at": moment,
        "by": by,
        "host": socket.gethostname(),
        "state": "begun",
        "file": "",
        "sha256": "",
    }


def _counts(planned: Iterable[tuple[Portion, str]]) -> list[dict[str, Any]]:
    return [
        {"campaign": portion.campaign, "kind": portion.kind, "action": action, "documents": len(portion.ids)}
        for portion, action in planned
    ]


def _documents(database: Database[Any], portion: Portion) -> Iterator[dict[str, Any]]:
    collection = database[COLLECTIONS[portion.kind]]
    for start in range(0, len(portion.ids), BATCH):
        chunk = list(portion.ids[start : start + BATCH])
        yield from collection.find({"_id": {"$in": chunk}, "pruned": {"$exists": False}}).sort("_id", 1)


def _write(
    database: Database[Any],
    record: dict[str, Any],
    portions: Sequence[Portion],
    directory: Path,
    lease: Lease,
    tell: Progress,
) -> dict[str, Any]:
    """Write the archive; return where it is."""
    target = directory.absolute() / f"gapfactory-{database.name}-{record['_id']}.tar.gz"
    total, done = sum(len(portion.ids) for portion in portions), 0
    files: dict[str, None] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with archive.ArchiveWriter(target) as writer:
            for kind in KINDS:
                mine = [portion for portion in portions if portion.kind == kind]
                if not mine:
                    continue
                with writer.temporary() as content:
                    count = 0
                    for document in (d for portion in mine for d in _documents(database, portion)):
                        content.write(bson.encode(_entry(kind, document)))
                        files |= dict.fromkeys(
                            f["sha256"] for f in document.get("files", ()) if "sha256" in f
                        )
                        count, done = count + 1, done + 1
                        if done % BATCH == 0:
                            lease.renew()
                            tell("archived", done, total)
                    writer.add(f"{kind}.bson", content, count)
            for digest in sorted(files):
                with writer.temporary() as content:
                    content.write(read_file(database, digest))
                    writer.add(f"files/{digest}", content)
                lease.renew()
            facts: dict[str, Any] = {
                "removal": record["_id"],
                "database": known_identity(database),
                "by": record["by"],
            }
            facts |= {"at": record["at"].isoformat(), "counts": _counts((p, "archive") for p in portions)}
            sha256 = writer.finish(**facts)
    except OSError as error:
        msg = f"the archive cannot be written: {error}. Nothing was removed; make room or name another directory"
        raise ServiceError(msg) from error
    tell("archived", total, total)
    return {"file": str(target), "sha256": sha256, "bytes": target.stat().st_size}


def _entry(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return what goes into the archive of a document: what it loses, and what is needed to take it away."""
    gone, left = released(kind, document)
    entry = {"_id": document["_id"], "gone": gone, "left": left, "sha256": _sha256(gone)}
    if kind in ("trajectories", "searches") and gone:
        entry["digest"] = relaxation_digest(document)
    if kind == "potentials":
        entry["sha256"] = document["digest"]
    return entry


def _sha256(fields: dict[str, Any]) -> str:
    return hashlib.sha256(bson.encode(fields)).hexdigest()


def _apply(
    database: Database[Any],
    record: dict[str, Any],
    documents: Iterable[tuple[str, dict[str, Any]]],
    total: int,
    lease: Lease,
    tell: Progress,
) -> None:
    """Take away from documents what is to go, in batches, each document in one step with its tombstone."""
    from pymongo import UpdateOne

    pending: dict[str, list[UpdateOne]] = {}
    done = 0

    def flush(kind: str) -> None:
        nonlocal done
        operations = pending.pop(kind, [])
        if operations:
            lease.renew()
            database[COLLECTIONS[kind]].bulk_write(operations, ordered=False)
            done += len(operations)
            tell("removed", done, total)

    for kind, found in documents:
        entry = found if "gone" in found else _entry(kind, found)
        tombstone = {"in": record["_id"], "at": record["at"], "sha256": entry["sha256"]}
        if "digest" in entry:
            tombstone["digest"] = entry["digest"]
        unset = {name: "" for name in entry["gone"] if name not in entry["left"]}
        change: dict[str, Any] = {"$set": {"pruned": tombstone, **entry["left"]}}
        if unset:
            change["$unset"] = unset
        pending.setdefault(kind, []).append(
            UpdateOne({"_id": entry["_id"], "pruned": {"$exists": False}}, change)
        )
        if len(pending[kind]) >= BATCH:
            flush(kind)
    for kind in list(pending):
        flush(kind)


def _release_files(database: Database[Any], lease: Lease, age_s: float) -> None:
    """Remove the files that only removed potentials had, of this removal or an earlier one that was cut short."""
    digests = {
        file["sha256"]
        for record in database.potentials.find({"pruned": {"$exists": True}}, {"files": 1})
        for file in record["files"]
    }
    for digest in sorted(digests):
        lease.renew()
        release_file(database, digest, unused_s=age_s)


def _finish(database: Database[Any], lease: Lease) -> None:
    """Complete the removals that were cut short, as far as their archives are at hand."""
    for record in list(database.removals.find({"state": "begun"})):
        path = Path(record["file"]) if record["file"] else None
        whole = path is None or (path.is_file() and archive.sha256_of(path) == record["sha256"])
        if path is not None and whole:
            _apply(database, record, archive.read_documents(path), 0, lease, _silent)
        # what is left without its archive (another host's), or was to be deleted, is planned anew
        _conclude(database, record, "done" if whole else "partly")


def _conclude(database: Database[Any], record: dict[str, Any], state: str) -> None:
    # the trail first: a run that is killed here is finished once more, and nothing goes without an entry
    audit(database, "retention.deleted", removal=record["_id"], by=record["by"], counts=record["counts"])
    database.removals.update_one({"_id": record["_id"]}, {"$set": {"state": state}})


def restore(database: Database[Any], path: Path, *, progress: Progress | None = None) -> dict[str, int]:
    """Bring back what an archive holds; what is there already stays as it is.

    Returns
    -------
    dict
        Documents brought back, by kind.

    Raises
    ------
    InputError
        It is not an archive of this database, or is damaged.
    StateError
        Another process prunes or restores.
    """
    from pymongo import UpdateOne

    tell = progress or _silent
    manifest = archive.verified(path)
    mine = known_identity(database)
    if manifest["database"] != mine:
        msg = (
            f"{path} was pruned from another database ({manifest['database']}, this one is {mine}); name the database "
            "that it comes from"
        )
        raise InputError(msg)
    removal = manifest["removal"]
    total = sum(entry["documents"] or 0 for entry in manifest["members"].values())
    counts: dict[str, int] = {}
    with Lease(database, "retention") as lease:
        for _, data in archive.read_files(path):
            store_file(database, data)
            lease.renew()
        pending: list[tuple[str, UpdateOne]] = []
        done = 0

        def flush() -> None:
            nonlocal done
            lease.renew()
            for kind in KINDS:
                operations = [operation for of, operation in pending if of == kind]
                if operations:
                    result = database[COLLECTIONS[kind]].bulk_write(operations, ordered=False)
                    counts[kind] = counts.get(kind, 0) + result.modified_count
            done += len(pending)
            pending.clear()
            tell("restored", done, total)

        for kind, entry in archive.read_documents(path):
            change: dict[str, Any] = {"$unset": {"pruned": ""}}
            if entry["gone"]:
                change["$set"] = entry["gone"]
            pending.append((kind, UpdateOne({"_id": entry["_id"], "pruned.in": removal}, change)))
            if len(pending) >= BATCH:
                flush()
        flush()
        database.removals.update_one({"_id": removal}, {"$set": {"restored": now()}})
    audit(database, "retention.restored", removal=removal, counts=counts)
    return counts
