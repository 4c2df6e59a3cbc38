"""A task with the slice of the database that it reads, as one file for a site that cannot reach the database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from gapfactory.errors import StateError
from gapfactory.protocols.plan import TaskKind
from launchpad.database import claims
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.connection import NOT_AUTHORISED, durable
from launchpad.remote.archive import Archive, BundleError, BundleSettings, Manifest, write_archive
from launchpad.remote.permits import permit_for
from launchpad.remote.recording import encoded
from launchpad.remote.slices import SENDABLE, needed_by
from launchpad.retry import TransientFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pymongo.database import Database

    from launchpad.queue import Queue
    from launchpad.queue.checkout import Taken
    from launchpad.remote.slices import Need, Slice

__all__ = ["ClaimedElsewhere", "abandon_bundle", "keep_claims", "make_bundle", "read_manifest"]

logger = logging.getLogger("launchpad.remote")

#: What the spec of a task that is sent may hold: nothing that changes other Fireworks or the launcher.
_SPEC: Final = frozenset(
    [
        "_tasks",
        "_category",
        "_priority",
        "_fworker",
        "_add_launchpad_and_fw_id",
        "campaign",
        "generation",
        "needs",
    ]
)
_RAW: Final = CodecOptions(document_class=RawBSONDocument)
#: How often the labels to claim are looked up again when others were stored or asked for meanwhile.
_LOOKS: Final = 5


class ClaimedElsewhere(TransientFault):
    """Another worker computes one of the task's labels: the task is sent later, as a local one would wait."""

    code = "claimed-elsewhere"


def make_bundle(queue: Queue, taken: Taken, path: Path, settings: BundleSettings | None = None) -> Manifest:
    """Write the bundle of a task that was checked out; claim the labels that it will compute.

    Parameters
    ----------
    queue
        The queue.
    taken
        The checkout; its token is that of the claims.
    path
        The file, replaced in one step.
    settings
        Limits.

    Returns
    -------
    Manifest
        What was written, with its sizes.

    Raises
    ------
    BundleError
        The task cannot be sent.
    ClaimedElsewhere
        Another worker is at one of its labels; nothing is claimed then.
    StateError
        The launch is not this checkout's any more.
    GapFactoryError
        What the task needs is not there, as the task itself would say.
    """
    from launchpad.service import versions

    kind = _require_sendable(queue, taken.raw)
    database = durable(queue.db)
    try:
        need = _claimed_need(database, taken)
        spec_task = taken.raw["spec"]["_tasks"][0]
        campaign = campaign_of(require_campaign(database, spec_task["campaign"]))
        permit = permit_for(taken.raw, campaign, need).document()
        firework = {**taken.raw, "launches": [], "archived_launches": []}
        facts = {
            "holds": "bundle",
            "database": queue.database_identity,
            "fw_id": taken.fw_id,
            "launch_id": taken.launch_id,
            "token": taken.token,
            "campaign": campaign.name,
            "generation": spec_task["generation"],
            "kind": kind,
            "task": str(taken.raw.get("name", "")),
            "versions": versions(),
        }
        members: dict[str, Iterable[bytes]] = {
            "task": [encoded({"firework": firework, "permit": permit, "database": queue.db.name})],
            "slices": (encoded(part.document()) for part in need.slices),
            **{
                name: _documents(database, [part for part in need.slices if part.member == name])
                for name in sorted({part.member for part in need.slices})
            },
        }
        manifest = write_archive(path, facts, members, settings)
        _note(queue, manifest, permit, manifest_digest(path))
    except BaseException:
        claims.release_claims(database, taken.token)
        raise
    logger.info("%s: bundle of %d bytes (%d unpacked)", manifest.task, manifest.stored, manifest.size)
    return manifest


def _require_sendable(queue: Queue, firework: Mapping[str, Any]) -> TaskKind:
    """Return the kind of a task.

    Raises
    ------
    BundleError
        It cannot be sent.
    """
    spec = firework["spec"]
    reason = queue.allowed.refusal(spec)
    if reason is not None:
        msg = f"Firework {firework['fw_id']} is not sent: {reason}"
        raise BundleError(msg)
    category, tasks = str(spec.get("_category")), spec["_tasks"]
    if category == TaskKind.ASSESS:
        msg = (
            f"Firework {firework['fw_id']} assesses a potential: it decides how the campaign goes on and submits the "
            "next generation, so it runs near the database. Start a worker there ('gapfactory worker start -c assess')"
        )
        raise BundleError(msg)
    name = f"{{{{launchpad.tasks.{category}.{category.capitalize()}Task}}}}"
    if category not in SENDABLE or len(tasks) != 1 or tasks[0]["_fw_name"] != name:
        msg = (
            f"Firework {firework['fw_id']} is no single task of a campaign ({', '.join(SENDABLE)}): what it reads is "
            "not known. Workers that reach the database can run it"
        )
        raise BundleError(msg)
    if foreign := sorted(set(spec) - _SPEC):
        msg = f"the spec of Firework {firework['fw_id']} asks for {', '.join(foreign)}, which a site does not honour"
        raise BundleError(msg)
    return TaskKind(category)


def _claimed_need(database: Database[Any], taken: Taken) -> Need:
    """Return what a task needs, as it is when its labels are claimed.

    Whoever held a claim until just now may have stored the label before: it is looked at again after claiming.
    """
    campaign = taken.raw["spec"]["_tasks"][0]["campaign"]
    held: set[str] = set()
    for _ in range(_LOOKS):
        need = needed_by(database, taken.raw)
        if set(need.claims) <= held:
            return need
        others = claims.hold_claims(database, campaign, need.claims, taken.token)
        if others:
            msg = f"labels of {taken.raw.get('name')} are being computed by {', '.join(others)}; it is sent later"
            raise ClaimedElsewhere(msg)
        held |= set(need.claims)
    msg = f"the labels of {taken.raw.get('name')} change all the time; it is sent later"
    raise ClaimedElsewhere(msg)


def _documents(database: Database[Any], parts: list[Slice]) -> Iterator[bytes]:
    """Yield the documents of slices of one collection, each once and as completely as any of them wants it."""
    from pymongo.errors import OperationFailure

    seen = set()
    for part in sorted(parts, key=lambda part: part.fields is not None):
        shown = None if part.sent is None else dict.fromkeys(part.sent, 1)
        whose = database.client[part.group] if part.group else database
        collection = whose.get_collection(part.collection, codec_options=_RAW)
        try:
            for document in collection.find(part.filters[0], shown):
                key = document["_id"]
                if key not in seen:
                    seen.add(key)
                    yield document.raw
        except OperationFailure as error:
            # a group that grants nothing (any more) is one of which there is nothing to be had
            if not part.group or error.code != NOT_AUTHORISED:
                raise


def manifest_digest(path: Path) -> str:
    """Return the digest that names a bundle."""
    with Archive.open(path, "bundle") as archive:
        return archive.digest


def _note(queue: Queue, manifest: Manifest, permit: dict[str, Any], digest: str) -> None:
    """Write on the launch what was sent: a result is measured against this, not against what comes back."""
    done = queue.launches.update_one(
        {"launch_id": manifest.launch_id, "checkout": manifest.token, "state": "RUNNING"},
        {"$set": {"bundle": {"digest": digest, "permit": permit}}},
    )
    if done.matched_count == 0:
        msg = f"launch {manifest.launch_id} of Firework {manifest.fw_id} was given up meanwhile; nothing is sent"
        raise StateError(msg)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a bundle after checking every hash.

    Raises
    ------
    BundleError
        It is not whole.
    """
    with Archive.open(path, "bundle") as archive:
        return archive.manifest


def keep_claims(queue: Queue, manifest: Manifest) -> None:
    """Renew the claims of a bundle that is under way, as often as the heartbeat of its launch."""
    claims.keep_claims(durable(queue.db), manifest.token)


def abandon_bundle(queue: Queue, manifest: Manifest, reason: str) -> None:
    """Give up a bundle: release its claims and let the task run again at once. Again harms nothing.

    A result that comes back later is refused by the queue, but labels in it that are done are kept.

    Parameters
    ----------
    queue
        The queue.
    manifest
        Of the bundle.
    reason
        For people.
    """
    queue.hand_back(manifest.launch_id, reason, kind="drained")
    claims.release_claims(durable(queue.db), manifest.token)
