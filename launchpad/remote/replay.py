"""Applying a result near the database: everything is checked before the first write, and again harms nothing.

The recorded statements are executed as they are, with their filters and upserts: a campaign that was cancelled
meanwhile stays so, a label that is there stays. Then the launch ends as a local worker would have ended it. Killed
anywhere, the same call finishes the work: every statement can be repeated, and the launch tells how far it got.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import GapFactoryError, StateError
from launchpad.database.campaigns import campaign_of, require_campaign, set_state
from launchpad.database.claims import release_claims
from launchpad.database.connection import durable
from launchpad.database.data_sets import require_same_data
from launchpad.database.potentials import BUCKET, damaged_files, store_files
from launchpad.queue.completion import note_late, takes
from launchpad.remote.archive import Archive, BundleError, BundleSettings, Manifest
from launchpad.remote.permits import Permit
from launchpad.remote.recording import decoded, operation
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pymongo.database import Database

    from launchpad.queue import Queue
    from launchpad.workers.rocket import Outcome

__all__ = ["Applied", "apply_result"]

logger = logging.getLogger("launchpad.remote")

#: Statements and bytes of one command at most.
_BATCH, _BATCH_BYTES = 200, 8 << 20
#: Server's code for a key that is there already.
_DUPLICATE: Final = 11000
_LONGEST_MESSAGE: Final = 100_000
#: What a result may ask of the workflow: nothing but to keep the children of a cancelled task from starting.
_CHANGES: Final = (
    "update_spec",
    "mod_spec",
    "additions",
    "detours",
    "append_wfs",
    "defuse_workflow",
    "propagate",
)
_FILES: Final = frozenset({f"{BUCKET}.files", f"{BUCKET}.chunks"})
#: Collections in which what is done is shared by all campaigns, and worth keeping whatever became of the task.
_SHARED: Final = frozenset({"labels", "curve_points"})


@dataclass(frozen=True)
class Applied:
    """What became of a result.

    Attributes
    ----------
    fw_id, launch_id
        Whose.
    state
        ``COMPLETED``, ``FIZZLED``, or ``HANDED BACK``: the task is run again.
    message
        The error in one line, empty if none.
    writes
        Statements that were executed now; 0 when it had been applied before.
    late
        The task had been given up and is being, or was, run by somebody else: only finished labels were kept.
    ends_worker
        The place where it ran is of no more use for such tasks.
    """

    fw_id: int
    launch_id: int
    state: str
    message: str = ""
    writes: int = 0
    late: bool = False
    ends_worker: bool = False


def apply_result(queue: Queue, result: Path, settings: BundleSettings | None = None) -> Applied:
    """Do what a task did at a site to the database, and end its launch; again changes nothing.

    Parameters
    ----------
    queue
        The queue.
    result
        The file that came back.
    settings
        Limits.

    Raises
    ------
    BundleError
        It is not whole, belongs to another database or launch, or holds what its task must not write. Nothing was
        changed.
    pymongo.errors.PyMongoError
        The database went away; call again.
    """
    with Archive.open(result, "result", settings) as archive, tempfile.TemporaryDirectory() as scratch:
        manifest = archive.manifest
        launch = _launch_of(queue, archive)
        ended, kind = _outcome(archive)
        state = "FIZZLED" if ended.failed else "COMPLETED"
        if launch["bundle"].get("applied") or launch["state"] == "COMPLETED":
            # an earlier call got that far; what follows from it may be unfinished
            _finish(queue, manifest, ended, kind)
            return _applied(manifest, ended, 0, late=False)
        writes = _Result(queue, archive, launch, Path(scratch))
        writes.validate()
        if not takes(queue, launch, state):
            return _keep_shared(queue, manifest, ended, kind, launch, writes)
        try:
            done = writes.execute()
        except StateError as error:
            # the labels were made with other data sets: the task has failed, as it would have near the database
            ended, kind, done = _failure(queue, manifest, error), "transient", 0
        _finish(queue, manifest, ended, kind)
        queue.launches.update_one({"launch_id": manifest.launch_id}, {"$set": {"bundle.applied": True}})
        return _applied(manifest, ended, done, late=False)


def _keep_shared(
    queue: Queue, manifest: Manifest, ended: Outcome, kind: str, launch: dict[str, Any], writes: _Result
) -> Applied:
    """Keep what is finished and shared in a result that the queue does not take.

    A launch that would be completed is left as it is: should the queue take it a moment later, the rest of the writes
    would be missing. One that has failed may have been ended by an earlier call, and what follows be unfinished.
    """
    try:
        done = writes.execute(only_shared=True)
    except StateError as error:
        logger.warning("%s: labels that came late are not used: %s", manifest.task, error)
        done = 0
    if ended.failed:
        _finish(queue, manifest, ended, kind)
    else:
        note_late(queue, launch, "COMPLETED", queue.now())
        release_claims(durable(queue.db), manifest.token)
    return _applied(manifest, ended, done, late=True)


def _applied(manifest: Manifest, ended: Outcome, writes: int, *, late: bool) -> Applied:
    state = "HANDED BACK" if ended.transient else "FIZZLED" if ended.failed else "COMPLETED"
    return Applied(manifest.fw_id, manifest.launch_id, state, ended.message, writes, late, ended.ends_worker)


def _launch_of(queue: Queue, archive: Archive) -> dict[str, Any]:
    """Return the launch that a result belongs to.

    Raises
    ------
    BundleError
        There is none, or not this one.
    """
    manifest = archive.manifest
    if manifest.database != queue.database_identity:
        msg = (
            f"{archive.path} belongs to another database (identity {manifest.database}); nothing was changed"
        )
        raise BundleError(msg)
    launch = queue.launches.find_one(
        {"launch_id": manifest.launch_id, "fw_id": manifest.fw_id}, {"action": 0}
    )
    sent = (launch or {}).get("bundle") or {}
    same = launch is not None and launch.get("checkout") == manifest.token
    if not same or sent.get("digest") != manifest.bundle:
        msg = (
            f"{archive.path} answers no bundle that was sent for launch {manifest.launch_id} of Firework "
            f"{manifest.fw_id}; nothing was changed"
        )
        raise BundleError(msg)
    return dict(launch or {})


def _outcome(archive: Archive) -> tuple[Outcome, str]:
    """Return how the task ended, and the kind of hand-back.

    Raises
    ------
    BundleError
        The result asks for what a task at a site cannot ask for.
    """
    from fireworks.core.firework import FWAction

    from launchpad.workers.rocket import Outcome

    (found,) = (decoded(raw) for raw in archive.documents("outcome"))
    try:
        action, message = found["action"], str(found["message"])[:_LONGEST_MESSAGE]
        failed, transient = bool(found["failed"]), bool(found["transient"])
        stored = _plain(action["stored_data"])
        cancelled = bool(action["defuse_children"])
        changes = [name for name in _CHANGES if action.get(name)]
        if changes or (cancelled and not stored.get("cancelled")) or not isinstance(stored, dict):
            names = ", ".join(changes) or "defuse_children"
            msg = f"{archive.path} asks for a change of the workflow ({names}); nothing was changed"
            raise BundleError(msg)
        outcome = Outcome(
            FWAction(stored_data=stored, exit=failed, defuse_children=cancelled),
            failed=failed,
            transient=failed and transient,
            message=message,
            times=int(found["times"]),
            ends_worker=bool(found["ends_worker"]),
        )
        kind = "drained" if found["kind"] == "drained" else "transient"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{archive.path}: its outcome cannot be read ({type(error).__name__}: {error}); nothing was changed"
        raise BundleError(msg) from error
    return outcome, kind


def _plain(value: Any) -> Any:
    """Return plain data as it is.

    Raises
    ------
    ValueError
        It holds an object that would be built when it is read.
    """
    if isinstance(value, dict):
        if {"_fw_name", "@module", "@class"} & set(value):
            msg = "a serialized object"
            raise ValueError(msg)
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _failure(queue: Queue, manifest: Manifest, error: GapFactoryError) -> Outcome:
    """Return the outcome of a task whose result this database cannot take, and halt its campaign."""
    from fireworks.core.firework import FWAction

    from launchpad.workers.rocket import Outcome

    message = f"{type(error).__name__}: {error}"
    reason = f"task {manifest.fw_id} {manifest.task} failed: {message}"
    set_state(durable(queue.db), manifest.campaign, CampaignState.HALTED, reason)
    stored = {
        "_message": message,
        "_task": None,
        "_exception": {"_stacktrace": message, "_details": None},
    }
    return Outcome(FWAction(stored_data=stored, exit=True), failed=True, message=message)


def _finish(queue: Queue, manifest: Manifest, ended: Outcome, kind: str) -> None:
    """End the launch as a local worker would; again harms nothing."""
    from launchpad.workers.ending import postpone, store_result

    if not ended.transient:
        store_result(queue, manifest.fw_id, manifest.launch_id, ended)
    elif kind == "drained":
        queue.hand_back(manifest.launch_id, ended.message, kind="drained")
    else:
        postpone(queue, manifest.fw_id, manifest.launch_id, ended)
    release_claims(durable(queue.db), manifest.token)


class _Result:
    """The recorded writes of one result."""

    def __init__(self, queue: Queue, archive: Archive, launch: dict[str, Any], scratch: Path) -> None:
        self._database: Database[Any] = durable(queue.db)
        self._archive = archive
        self._scratch = scratch
        firework = queue.fireworks.find_one({"fw_id": archive.manifest.fw_id})
        if firework is None:
            msg = f"{archive.path}: Firework {archive.manifest.fw_id} is not in the database any more"
            raise BundleError(msg)
        self._campaign = campaign_of(
            require_campaign(self._database, firework["spec"]["_tasks"][0]["campaign"])
        )
        self._permit = Permit.from_document(launch["bundle"]["permit"], firework, self._campaign)
        self._files: dict[str, Path] = {}
        self._data_sets: dict[str, str] = {}
        self._levels: set[str] = set()

    def _statements(self) -> Iterator[dict[str, Any]]:
        return (decoded(raw) for raw in self._archive.documents("writes"))

    def validate(self) -> None:
        """Check every statement, and put the files together that are to be stored.

        Raises
        ------
        BundleError
            One is not what the task may write, or a file is not whole.
        """
        names: dict[str, str] = {}
        wanted: list[dict[str, Any]] = []
        for statement in self._statements():
            self._permit.check(statement)
            if statement["c"] in _FILES:
                self._collect(statement, names)
            elif statement["c"] == "potentials":
                wanted.append(statement["u"])
            elif statement["c"] == "label_data":
                scope, _, symbol = statement["q"]["_id"].rpartition("/")
                if scope.startswith("level/"):
                    self._levels.add(scope.removeprefix("level/"))
                sha256 = statement["u"]["$setOnInsert"]["sha256"]
                if self._data_sets.setdefault(symbol, sha256) != sha256:
                    raise BundleError(f"{self._archive.path}: two data sets of {symbol}; nothing was changed")
        for digest, name in names.items():
            self._files[digest] = self._whole(digest, name)
        for record in wanted:
            missing = {"files": [e for e in record["files"] if e["sha256"] not in self._files]}
            if damaged_files(self._database, missing):
                msg = f"{self._archive.path}: files of potential {record['_id']!r} are missing; nothing was changed"
                raise BundleError(msg)

    def _collect(self, statement: Mapping[str, Any], names: dict[str, str]) -> None:
        """Keep a piece of a file on the local disk, and its name."""
        if statement["o"] != "insert":
            return
        document = statement["d"]
        if statement["c"] == f"{BUCKET}.files":
            names[document["_id"]] = str(document["filename"])
            return
        directory = self._scratch / document["files_id"]
        directory.mkdir(exist_ok=True)
        (directory / f"{document['n']:09d}.part").write_bytes(document["data"])

    def _whole(self, digest: str, name: str) -> Path:
        """Return a file of its pieces.

        Raises
        ------
        BundleError
            They are not what the hash says, or the name is no plain file name.
        """
        directory = self._scratch / digest
        directory.mkdir(exist_ok=True)
        pieces = sorted(directory.glob("*.part"))
        found = hashlib.sha256()
        if name in {"", ".", ".."} or Path(name).name != name or not re.fullmatch(r"[^\0]{1,200}", name):
            raise BundleError(f"{self._archive.path}: {name!r} is no file name; nothing was changed")
        target = self._scratch / f"{digest}-files" / name
        target.parent.mkdir()
        with target.open("wb") as stream:
            for piece in pieces:
                data = piece.read_bytes()
                found.update(data)
                stream.write(data)
                piece.unlink()
        if found.hexdigest() != digest:
            raise BundleError(f"{self._archive.path}: file {name!r} is not whole; nothing was changed")
        return target

    def execute(self, *, only_shared: bool = False) -> int:
        """Execute the statements in order; return how many.

        Parameters
        ----------
        only_shared
            Only what cannot change anything that is there: labels and points that are done.

        Raises
        ------
        StateError
            The labels were made with other data sets than those that are there; nothing was stored.
        """
        if self._data_sets:
            require_same_data(
                self._database,
                self._campaign.name,
                self._campaign.reference.engine,
                self._levels,
                self._data_sets,
            )
        store_files(self._database, [] if only_shared else [self._files[d] for d in sorted(self._files)])
        batch: list[dict[str, Any]] = []
        done, size, collection = 0, 0, ""
        for raw in self._archive.documents("writes"):
            statement = decoded(raw)
            name = statement["c"]
            if name in _FILES or name == "label_data" or (only_shared and not _is_shared(statement)):
                continue
            done += 1
            if batch and (name != collection or len(batch) >= _BATCH or size + len(raw) > _BATCH_BYTES):
                self._execute(collection, batch)
                batch, size = [], 0
            collection = name
            batch.append(statement)
            size += len(raw)
        self._execute(collection, batch)
        return done

    def _execute(self, collection: str, statements: list[dict[str, Any]]) -> None:
        from pymongo.errors import BulkWriteError

        if collection == "label_hand_backs":
            for statement in statements:
                self._count(statement)
        elif statements:
            operations = [operation(statement) for statement in statements]
            try:
                self._database[collection].bulk_write(operations)
            except BulkWriteError as error:
                # two upserts of one key at the same instant: the other one was first, and stays
                if any(entry.get("code") != _DUPLICATE for entry in error.details.get("writeErrors", [{}])):
                    raise
                self._database[collection].bulk_write(operations)

    def _count(self, statement: Mapping[str, Any]) -> None:
        """Count a fault once, however often the result is applied; or forget what was counted."""
        from pymongo.errors import DuplicateKeyError

        records = self._database.label_hand_backs
        if statement["o"] == "delete":
            records.delete_many(statement["q"])
            return
        met = statement["u"]["$addToSet"]["met"]
        try:
            records.update_one({**statement["q"], "met": {"$ne": met}}, statement["u"], upsert=True)
        except DuplicateKeyError:
            logger.debug("%s is counted already", statement["q"])


def _is_shared(statement: Mapping[str, Any]) -> bool:
    """Return whether a statement adds a finished label or point and can change nothing that is there."""
    fields = statement.get("u", {}).get("$setOnInsert")
    return statement["c"] in _SHARED and bool(fields) and fields.get("status") == "done"
