"""Running a bundle at a site: the same Firetask, on a small database in this process that only its own user can reach.

Nothing listens on a network: the server has one Unix socket in a directory of mode 0700, keeps its data in memory, and
lives as long as the task. What the task writes goes to a log in the work directory. A runner that was killed is started
again on the same directory and goes on with what the log holds; the rest is done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import tempfile
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from launchpad.remote.archive import Archive, BundleError, BundleSettings, Manifest, write_archive
from launchpad.remote.permits import Permit
from launchpad.remote.recording import RecordingExecutor, WriteLog, decoded, encoded, operation
from launchpad.remote.slices import Slice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launchpad.queue import Queue
    from launchpad.queue.guard import AllowList
    from launchpad.workers.rocket import Outcome

__all__ = ["run_bundle", "salvage"]

logger = logging.getLogger("launchpad.remote")

#: Room for a socket's path, less the name of the file.
_LONGEST_DIRECTORY = 80


def run_bundle(
    bundle: Path, result: Path, workdir: Path, allowed: AllowList, settings: BundleSettings | None = None
) -> None:
    """Run the task of a bundle and write its result.

    A task that fails, or meets a fault of the machine, has a result too. Called again with the result there, it does
    nothing; called again after it was killed, it goes on.

    Parameters
    ----------
    bundle
        The bundle.
    result
        File for the result, written in one step.
    workdir
        Of this bundle alone, made if missing; keeps the log between runs. The task runs in ``workdir/launch``.
    allowed
        Tasks that may run here.
    settings
        Limits.

    Raises
    ------
    BundleError
        The bundle is not whole, of another version, or asks for what must not run here; or another process runs it.
    """
    with Archive.open(bundle, "bundle", settings) as archive:
        if _answered(result, archive):
            return
        _require_same_version(archive.manifest)
        (task,) = (decoded(raw) for raw in archive.documents("task"))
        reason = allowed.refusal(task["firework"]["spec"])
        if reason is not None:
            msg = f"{bundle} must not run here: {reason}"
            raise BundleError(msg)
        workdir = workdir.absolute()
        workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(workdir), contextlib.closing(WriteLog(workdir / "writes.log", archive.digest)) as log:
            outcome, kind = _run(archive, task, workdir, allowed, log)
            _write_result(result.absolute(), archive, log, outcome, kind, settings)
            if not outcome.failed:
                shutil.rmtree(workdir / "launch", ignore_errors=True)


def salvage(
    bundle: Path, result: Path, workdir: Path, reason: str, settings: BundleSettings | None = None
) -> bool:
    """Make a result of what a runner left that was killed and will not be started again.

    What it had done is kept, and the task is run again for the rest.

    Parameters
    ----------
    bundle, result, workdir, settings
        As for `run_bundle`.
    reason
        For people.

    Returns
    -------
    bool
        False if there was a result already.

    Raises
    ------
    BundleError
        The bundle is not whole, or the runner lives.
    """
    from fireworks.core.firework import FWAction

    from launchpad.workers.rocket import Outcome

    with Archive.open(bundle, "bundle", settings) as archive:
        if _answered(result, archive):
            return False
        workdir = workdir.absolute()
        workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(workdir), contextlib.closing(WriteLog(workdir / "writes.log", archive.digest)) as log:
            outcome = Outcome(FWAction(), failed=True, transient=True, message=reason)
            _write_result(result.absolute(), archive, log, outcome, "drained", settings)
    return True


def _answered(result: Path, archive: Archive) -> bool:
    """Return whether a whole result of this bundle is there."""
    if not result.exists():
        return False
    try:
        with Archive.open(result, "result") as found:
            return found.manifest.bundle == archive.digest
    except BundleError as error:
        logger.warning("%s is made again: %s", result, error)
        return False


def _require_same_version(manifest: Manifest) -> None:
    """Refuse a bundle of another version of this program; warn of other libraries, as nobody asks local workers."""
    from launchpad.service import versions

    here, there = versions(), manifest.versions
    if here.get("gapfactory") != there.get("gapfactory"):
        msg = (
            f"the bundle of Firework {manifest.fw_id} was made by gapfactory {there.get('gapfactory')}, here is "
            f"{here.get('gapfactory')}: install the same version at the site and near the database"
        )
        raise BundleError(msg)
    others = [
        f"{name} {here.get(name, 'not installed')} (there {there[name]})"
        for name in sorted(set(there) & {"ase", "numpy", "scipy", "numba", "phonopy", "spglib", "quippy-ase"})
        if here.get(name) != there[name]
    ]
    if others:
        logger.warning(
            "other versions than near the database may round numbers otherwise: %s", ", ".join(others)
        )


@contextlib.contextmanager
def _alone(workdir: Path) -> Iterator[None]:
    """Hold a work directory; the lock ends with the process.

    Raises
    ------
    BundleError
        Another process holds it.
    """
    descriptor = os.open(workdir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"another process runs a bundle in {workdir}"
            raise BundleError(msg) from None
        yield
    finally:
        os.close(descriptor)


def _run(
    archive: Archive, task: dict[str, Any], workdir: Path, allowed: AllowList, log: WriteLog
) -> tuple[Outcome, str]:
    """Run the task; return how it ended, and the kind of hand-back where it is to be run again."""
    from fireworks.core.firework import FWAction
    from fireworks.core.fworker import FWorker

    from launchpad.queue.checkout import Taken
    from launchpad.workers.rocket import HandBack, Outcome, Rocket

    manifest, launch = archive.manifest, workdir / "launch"
    before = Path.cwd()
    with _site_database(archive, task, allowed, log) as queue:
        if manifest.kind != "reference":
            # of labels, what another try left there is taken over, and calculations go on from their checkpoints
            shutil.rmtree(launch, ignore_errors=True)
        try:
            launch.mkdir(exist_ok=True, mode=0o700)
            os.chdir(launch)
        except OSError as error:
            message = f"{launch}: {error}"
            return Outcome(FWAction(), failed=True, transient=True, message=message), "transient"
        taken = Taken(manifest.fw_id, manifest.launch_id, task["firework"], 0, manifest.token)
        try:
            rocket = Rocket(queue, FWorker(name=f"gapfactory@{socket.gethostname()}"), manifest.fw_id)
            return rocket.execute(queue.build(taken), launch), "transient"
        except HandBack:
            message = "its worker was stopped"
            return Outcome(FWAction(), failed=True, transient=True, message=message), "drained"
        except PermissionError as error:
            raise BundleError(str(error)) from error
        finally:
            os.chdir(before)


@contextlib.contextmanager
def _site_database(
    archive: Archive, task: dict[str, Any], allowed: AllowList, log: WriteLog
) -> Iterator[Queue]:
    """Serve the slice, with what the log holds done to it, to this process alone."""
    from launchpad.database.campaigns import campaign_of
    from launchpad.database.indexes import ensure_indexes
    from launchpad.embedded.server import Server
    from launchpad.embedded.store import Store
    from launchpad.queue import Queue

    # under its own name: the databases of other groups are told from it by theirs
    store, own = Store(None), str(task["database"])
    slices = [Slice.from_document(decoded(raw)) for raw in archive.documents("slices")]
    for member, part in {part.member: part for part in slices}.items():
        collection = store.ensure(part.group or own, part.collection)
        for raw in archive.documents(member):
            collection.insert(raw, store.transaction)
            store.commit()
    with _private_directory() as path:
        server = Server(store, path, trust_same_user=True)
        executor = RecordingExecutor(store, server.executor.info, own)
        server.executor = executor
        server.listen_unix(path / "mongo.sock")
        thread = threading.Thread(target=server.serve, name="site database", daemon=True)
        thread.start()
        try:
            uri = f"mongodb://{quote_plus(str(path / 'mongo.sock'))}/{own}?directConnection=true&retryWrites=true"
            with Queue.from_uri(uri, allowed=allowed) as queue:
                ensure_indexes(queue.db)
                for raw in log.statements():
                    statement = decoded(raw)
                    queue.db[statement["c"]].bulk_write([operation(statement)])
                campaign = campaign_of(
                    queue.db.campaigns.find_one({"_id": archive.manifest.campaign})
                    or {"_id": "", "settings": {}}
                )
                executor.guard(slices, Permit.from_document(task["permit"], task["firework"], campaign), log)
                yield queue
        finally:
            server.stop()
            thread.join()


@contextlib.contextmanager
def _private_directory() -> Iterator[Path]:
    """Make a directory of mode 0700 whose name fits a socket's address: short, and in lower case for pymongo."""
    base = tempfile.gettempdir()
    if len(base) > _LONGEST_DIRECTORY or base != base.lower():
        base = "/tmp"  # noqa: S108 - the directory made there is private
    path = Path(base) / f"gfb-{uuid.uuid4().hex}"
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write_result(
    result: Path,
    archive: Archive,
    log: WriteLog,
    outcome: Outcome,
    kind: str,
    settings: BundleSettings | None,
) -> None:
    from launchpad.service import versions

    ended = {
        "action": outcome.action.to_dict(),
        "failed": outcome.failed,
        "transient": outcome.transient,
        "message": outcome.message,
        "times": outcome.times,
        "ends_worker": outcome.ends_worker,
        "kind": kind,
        "host": socket.gethostname(),
    }
    facts = archive.manifest.model_dump(mode="json", exclude={"members"})
    facts |= {"holds": "result", "bundle": archive.digest, "versions": versions()}
    manifest = write_archive(
        result, facts, {"outcome": [encoded(ended)], "writes": log.statements()}, settings
    )
    logger.info("%s: result of %d bytes (%d unpacked)", manifest.task, manifest.stored, manifest.size)
