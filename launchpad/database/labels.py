"""Labels: reference energies, forces and stresses, keyed by structure and settings, shared by all campaigns.

Only success is shared. What failed may have failed for a limit on time or attempts, which is no part of the key:
it is a record of the campaign that met it, and another campaign computes it again. For that campaign its own record
counts until it asks for another try: what others add to the database meanwhile changes none of its fits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError
from launchpad.database.documents import LabelDocument, label_id, own_label_id
from launchpad.database.packing import pack_array, pack_atoms, unpack_array, unpack_atoms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray
    from pymongo.database import Database

    from gapfactory.reference import Label, LabelOutcome

__all__ = [
    "StoredLabel",
    "Subject",
    "adopt_altered",
    "adopt_shared",
    "ask_again",
    "count_done",
    "done_keys",
    "labels_of",
    "save_outcome",
    "settle",
    "store_once",
]

#: Largest text that is kept of the files of one failed calculation, and of custodian's record (characters).
FILES_LIMIT, CUSTODIAN_LIMIT = 100_000, 50_000


@dataclass(frozen=True)
class Subject:
    """What a label is of, and for whom.

    Attributes
    ----------
    campaign
        The campaign that wants it.
    structure_hash, settings_hash
        Its key.
    kind
        What the reference method must know about the structure.
    atoms
        The structure.
    """

    campaign: str
    structure_hash: str
    settings_hash: str
    kind: str
    atoms: Atoms

    @property
    def key(self) -> str:
        """The key under which the label is shared."""
        return label_id(self.structure_hash, self.settings_hash)


@dataclass(frozen=True)
class StoredLabel:
    """A label as one campaign sees it (eV, eV/Å, eV/Å^3 in ASE's Voigt order); see `LabelDocument`.

    Attributes
    ----------
    id
        Of the record that decides: the shared label, or the campaign's own.
    status
        ``done`` or ``failed``.
    enters
        Generation from whose fit on it counts: 0, or more for one that failed first.
    retry_in
        A failed one is tried again by the reference tasks of this generation; None: it is not.
    """

    id: str
    status: str
    reason: str
    kind: str
    #: as `launchpad.database.packing.pack_atoms` stored it; see `atoms`
    structure: dict[str, Any]
    energy: float
    forces: NDArray[Any] | None
    stress: NDArray[Any] | None
    seconds: float
    #: the campaign that made it
    campaign: str = ""
    fault: str = ""
    attempts: int = 1
    history: tuple[str, ...] = ()
    files: tuple[dict[str, str], ...] = ()
    flags: tuple[str, ...] = ()
    altered: dict[str, Any] = field(default_factory=dict)
    engine: str = ""
    version: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    #: group, label and campaign that it was taken over from; empty for one that this group made
    origin: dict[str, str] = field(default_factory=dict)
    enters: int = 0
    retry_in: int | None = None

    @property
    def atoms(self) -> Atoms:
        """The structure; most readers of a label need its numbers only."""
        return unpack_atoms(self.structure)

    def wanted_in(self, generation: int) -> bool:
        """Return whether the reference tasks of a generation shall compute it again."""
        return self.status == "failed" and self.retry_in is not None and self.retry_in <= generation

    def usable_in(self, generation: int) -> bool:
        """Return whether the fit of a generation may use it."""
        return self.status == "done" and self.enters <= generation

    def as_label(self) -> Label:
        """Return it as the reference method gave it.

        Raises
        ------
        DatabaseError
            It failed: there is nothing to give.
        """
        from gapfactory.reference import Label

        if self.status != "done" or self.forces is None:
            msg = f"label {self.id!r} has no numbers: {self.reason}"
            raise DatabaseError(msg)
        return Label(
            energy=self.energy,
            forces=self.forces,
            stress=self.stress,
            walltime_s=self.seconds,
            engine=self.engine,
            version=self.version,
            details=self.details,
        )


def save_outcome(
    database: Database[Any],
    subject: Subject,
    outcome: LabelOutcome,
    engine: str,
    *,
    altered_hash: str = "",
    enters: int = 0,
) -> str:
    """Store how a calculation ended.

    A label goes where all campaigns find it; the first one of a key stays, so that two workers that labelled the same
    structure agree on one. One at altered settings goes under the hash of the settings that it really has, and its
    campaign gets a pointer. A failure is recorded for its campaign alone, and not where the label is there by now.

    Parameters
    ----------
    database, subject, outcome
        What ended how.
    engine
        Name of the engine, for failures.
    altered_hash
        Settings hash that the label really has, where `outcome.altered` is not empty.
    enters
        Generation whose fit is the first to use it, where an earlier one went on without it.

    Returns
    -------
    str
        ``labelled``, ``altered`` or ``failed``.
    """
    own = own_label_id(subject.key, subject.campaign)
    if outcome.label is None:
        if adopt_shared(database, subject, enters=enters):
            return "labelled"
        failed = {
            "status": "failed",
            "reason": outcome.reason,
            "fault": outcome.fault,
            "engine": engine,
            "files": _files(outcome.files),
            **_story(outcome),
        }
        database.labels.replace_one({"_id": own}, _document(own, subject, **failed), upsert=True)
        return "failed"
    label = outcome.label
    numbers = {
        "status": "done",
        "energy": float(label.energy),
        "forces": pack_array(label.forces),
        "stress": None if label.stress is None else pack_array(label.stress),
        "seconds": label.walltime_s,
        "engine": label.engine,
        "version": label.version,
        "details": dict(label.details),
        **_story(outcome),
    }
    if not outcome.altered:
        store_once(database, _document(subject.key, subject, **numbers))
        settle(database, subject, enters)
        return "labelled"
    real = Subject(subject.campaign, subject.structure_hash, altered_hash, subject.kind, subject.atoms)
    changes = {"altered": dict(outcome.altered), "flags": ["altered"]}
    store_once(database, _document(real.key, real, **numbers, **changes))
    _point(database, subject, real.key, changes, label.engine, enters)
    return "altered"


def _story(outcome: LabelOutcome) -> dict[str, Any]:
    return {
        "attempts": outcome.attempts,
        "history": list(outcome.history),
        "custodian": _custodian(outcome.custodian),
    }


def _custodian(entries: Sequence[dict[str, Any]]) -> str:
    """Return custodian's record as text; of a very long one the first and the last steps."""
    text = json.dumps(list(entries), default=str) if entries else ""
    if len(text) <= CUSTODIAN_LIMIT:
        return text
    left_out = {"left out": f"steps between the first and the last, of {len(entries)}"}
    text = json.dumps([entries[0], left_out, entries[-1]], default=str)
    return text if len(text) <= CUSTODIAN_LIMIT else json.dumps([left_out])


def _files(files: dict[str, str]) -> list[dict[str, str]]:
    """Return the ends of files, cut to a common size where they are too much for the database."""
    if not files:
        return []
    share = FILES_LIMIT // len(files)
    return [{"name": name, "text": text[-share:]} for name, text in sorted(files.items())]


def _document(key: str, subject: Subject, **fields: Any) -> dict[str, Any]:
    return LabelDocument(
        id=key,
        structure_hash=subject.structure_hash,
        settings_hash=subject.settings_hash,
        kind=subject.kind,
        atoms=pack_atoms(subject.atoms),
        campaign=subject.campaign,
        **fields,
    ).to_bson()


def store_once(database: Database[Any], document: dict[str, Any]) -> None:
    """Insert a label, or replace a failed one of an earlier version, in one step each: it is never gone in between."""
    key = document["_id"]
    if database.labels.replace_one({"_id": key, "status": "failed"}, document).matched_count == 0:
        fields = {name: value for name, value in document.items() if name != "_id"}
        database.labels.update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True)


def settle(database: Database[Any], subject: Subject, enters: int) -> None:
    """Let the shared label count for the campaign instead of its own failure, from a generation on."""
    own = own_label_id(subject.key, subject.campaign)
    if enters:
        change = {"$set": {"status": "late", "enters": enters, "retry_in": None}}
        database.labels.update_one({"_id": own, "status": "failed"}, change)
    else:
        database.labels.delete_one({"_id": own, "status": {"$ne": "late"}})


def _point(
    database: Database[Any], subject: Subject, target: str, changes: dict[str, Any], engine: str, enters: int
) -> None:
    own = own_label_id(subject.key, subject.campaign)
    pointer = _document(
        own, subject, status="altered", target=target, engine=engine, enters=enters, **changes
    )
    database.labels.replace_one({"_id": own}, pointer, upsert=True)


def adopt_shared(database: Database[Any], subject: Subject, *, enters: int = 0) -> bool:
    """Let a label that another campaign made meanwhile count instead of an own failure; return whether there is one.

    `enters` is that of `save_outcome`.
    """
    if database.labels.find_one({"_id": subject.key, "status": "done"}, {"_id": 1}) is None:
        return False
    settle(database, subject, enters)
    return True


def adopt_altered(database: Database[Any], subject: Subject, *, enters: int = 0) -> bool:
    """Take over a label at altered settings that another campaign has for the same key; return whether there is one.

    Only for campaigns that allow the recovery to change the energy. `enters` is that of `save_outcome`.
    """
    found = database.labels.find_one(
        {
            "structure_hash": subject.structure_hash,
            "settings_hash": subject.settings_hash,
            "status": "altered",
        },
        sort=[("_id", 1)],
    )
    if found is None or database.labels.find_one({"_id": found["target"]}, {"_id": 1}) is None:
        return False
    changes = {"altered": found["altered"], "flags": found["flags"]}
    _point(database, subject, found["target"], changes, found["engine"], enters)
    return True


def ask_again(database: Database[Any], key: str, campaign: str, generation: int) -> bool:
    """Have a failed label of a campaign tried again by the reference tasks of a generation.

    Until then it stays failed: a fit that starts meanwhile does not find it undecided.

    Parameters
    ----------
    key
        Of the shared label.

    Returns
    -------
    bool
        Whether the campaign has a failed label there.
    """
    own = own_label_id(key, campaign)
    # earlier versions kept the failure under the shared key
    old = database.labels.find_one({"_id": key, "status": "failed", "campaign": campaign})
    if old is not None:
        database.labels.replace_one({"_id": own}, {**old, "_id": own}, upsert=True)
        database.labels.delete_one({"_id": key, "status": "failed", "campaign": campaign})
    done = database.labels.update_one({"_id": own, "status": "failed"}, {"$set": {"retry_in": generation}})
    return bool(done.matched_count)


def labels_of(database: Database[Any], keys: Sequence[str], campaign: str) -> dict[str, StoredLabel]:
    """Return the labels that exist among these keys as a campaign sees them, done or failed, by key."""
    unique = list(dict.fromkeys(keys))
    own = {own_label_id(key, campaign): key for key in unique}
    documents = _documents(database, [*unique, *own])
    mine = {key: documents[name] for name, key in own.items() if name in documents}
    targets = _documents(
        database, [d["target"] for d in mine.values() if d["status"] == "altered" and d["target"]]
    )
    found = {}
    for key in unique:
        shared, special = documents.get(key), mine.get(key)
        if special is None:
            if shared is not None and (shared["status"] == "done" or shared["campaign"] == campaign):
                found[key] = _stored(shared)
        elif special["status"] == "failed":
            found[key] = _stored(special)
        elif special["status"] == "altered" and special["target"] in targets:
            found[key] = _stored({**targets[special["target"]], **_of_pointer(special)})
        elif special["status"] == "late" and shared is not None:
            found[key] = _stored({**shared, "enters": special["enters"]})
    return found


def _of_pointer(pointer: dict[str, Any]) -> dict[str, Any]:
    return {name: pointer[name] for name in ("_id", "altered", "flags", "enters")}


def _documents(database: Database[Any], keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    return {d["_id"]: d for d in database.labels.find({"_id": {"$in": wanted}})}


def _stored(document: dict[str, Any]) -> StoredLabel:
    # documents of earlier versions lack some of the fields
    return StoredLabel(
        id=document["_id"],
        status=document["status"],
        reason=document["reason"],
        kind=document["kind"],
        structure=document["atoms"],
        energy=float("nan") if document["energy"] is None else document["energy"],
        forces=None if document["forces"] is None else unpack_array(document["forces"]),
        stress=None if document["stress"] is None else unpack_array(document["stress"]),
        seconds=document["seconds"],
        campaign=document["campaign"],
        fault=document.get("fault", ""),
        attempts=document.get("attempts", 1),
        history=tuple(document.get("history", ())),
        files=tuple(document.get("files", ())),
        flags=tuple(document.get("flags", ())),
        altered=document.get("altered", {}),
        engine=document.get("engine", ""),
        version=document.get("version", ""),
        details=document.get("details", {}),
        origin=document.get("origin", {}),
        enters=document.get("enters", 0),
        retry_in=document.get("retry_in"),
    )


def done_keys(database: Database[Any], keys: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Return which keys have a label for their campaign, without reading any label; `keys` is by campaign."""
    own = {own_label_id(key, campaign): (campaign, key) for campaign, all_ in keys.items() for key in all_}
    shared = {key for all_ in keys.values() for key in all_}
    if not shared:
        return {campaign: set() for campaign in keys}
    status = {
        found["_id"]: found["status"]
        for found in database.labels.find({"_id": {"$in": [*own, *shared]}}, {"status": 1})
    }
    done: dict[str, set[str]] = {campaign: set() for campaign in keys}
    for mine, (campaign, key) in own.items():
        said = status.get(mine)
        if said == "altered" or (said != "failed" and status.get(key) == "done"):
            done[campaign].add(key)
    return done


def count_done(database: Database[Any], keys: Collection[str], campaign: str) -> int:
    """Return how many of these keys have a label for a campaign, without reading any."""
    return len(done_keys(database, {campaign: keys})[campaign])
