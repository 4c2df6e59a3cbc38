"""What a task of each kind may write: checked at the site before it is done, and near the database before anything is.

A site is trusted with its task, not with the database. A statement that is not exactly of the form in which the task
writes, or that concerns another campaign, generation, range or structure, is refused, and the whole result with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import recipe_of
from launchpad.database.documents import (
    CurveDocument,
    LabelDocument,
    NetworkDocument,
    PotentialDocument,
    RelaxationDocument,
    SelectionDocument,
    StructureDocument,
    generation_id,
    own_label_id,
    structure_id,
)
from launchpad.database.networks import network_id
from launchpad.database.packing import unpack_atoms
from launchpad.database.potentials import BUCKET
from launchpad.reference_relaxations import hand_back_name
from launchpad.remote.archive import BundleError
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from gapfactory.campaign import Campaign
    from launchpad.remote.slices import Need

__all__ = ["LOCAL", "Permit", "permit_for"]

#: Collections that concern the site alone: claims of labels are made near the database, when the bundle is; where an
#: anneal stands is kept at the site while it is under way.
LOCAL = frozenset({"anneals", "label_claims"})

_OPEN = {str(CampaignState.SUBMITTED), str(CampaignState.RUNNING)}
_FRAME = re.compile(r"/relaxation/\d{6,}/frame/\d{4,}")
_DISTORTED = re.compile(r"/(distorted|displaced|evidence|diagonal)/\d{6,}")
_CHOSEN = frozenset({"frame", "distorted", "displaced", "evidence", "diagonal"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Largest reason of a campaign that is halted (characters).
_LONGEST_REASON = 50_000

Statement = dict[str, Any]


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Why a statement is not what its task writes."""


def _must(condition: object, why: str) -> None:
    if not condition:
        raise _Refused(why)


@dataclass(frozen=True)
class Permit:
    """What one task may write.

    Attributes
    ----------
    kind, campaign, generation
        Of the task.
    task
        Its parameters.
    labels
        Of the structures that it labels, by the key of the label: settings hash, kind, k-points of its own,
        and whether it is a noise cell.
    curve
        Key of the curve that it computes, or nothing.
    """

    kind: TaskKind
    campaign: Campaign
    generation: int
    task: Mapping[str, Any]
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    curve: str = ""

    def document(self) -> dict[str, Any]:
        """Return what is not in the task and the campaign, as plain data."""
        return {"labels": [{"key": key, **value} for key, value in self.labels.items()], "curve": self.curve}

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], firework: Mapping[str, Any], campaign: Campaign
    ) -> Permit:
        """Return the permit of `document`."""
        task = firework["spec"]["_tasks"][0]
        labels = {
            entry["key"]: {k: v for k, v in entry.items() if k != "key"} for entry in document["labels"]
        }
        kind = TaskKind(firework["spec"]["_category"])
        return cls(kind, campaign, task["generation"], task, labels, document["curve"])

    def check(self, statement: Statement) -> None:
        """Refuse a statement that the task must not write.

        Raises
        ------
        BundleError
            Naming the collection and what is wrong.
        """
        collection, action = str(statement.get("c")), str(statement.get("o"))
        rule = _RULES[self.kind].get((collection, action))
        try:
            _must(rule is not None, f"a {self.kind} task does not write this")
            assert rule is not None  # noqa: S101 - `_must` has seen to it
            rule(self, statement)
        except (_Refused, ValueError, KeyError, TypeError, AttributeError, LookupError) as error:
            msg = (
                f"{action} in {collection} is not what the {self.kind} task of campaign {self.campaign.name!r}, "
                f"generation {self.generation}, writes ({error}); nothing of it is stored"
            )
            raise BundleError(msg) from error

    def own(self, key: str) -> str:
        """Return the key of what the campaign alone has to say about a label."""
        return own_label_id(key, self.campaign.name)

    def label_of(self, own: object) -> str:
        """Return the key of the shared label of an own record."""
        key, _, campaign = str(own).rpartition("/")
        _must(key in self.labels and campaign == self.campaign.name, f"label {own!r} is not of this task")
        return key


def permit_for(firework: Mapping[str, Any], campaign: Campaign, need: Need) -> Permit:
    """Return what a task may write that needs this."""
    from launchpad.database.dataset import grid_of, label_hash, label_key

    task = firework["spec"]["_tasks"][0]
    labels = {
        label_key(campaign, item): {
            "structure_hash": item.hash,
            "settings_hash": label_hash(campaign, item),
            "kind": item.kind,
            "noise": item.role == "noise",
            "kpoints": grid_of(campaign, item),
        }
        for item in need.items
    }
    kind = TaskKind(firework["spec"]["_category"])
    return Permit(kind, campaign, task["generation"], task, labels, need.curve)


# --- forms -----------------------------------------------------------------------------------------------------------


def _plain(statement: Statement, **expected: Any) -> None:
    """Check the options of an update or a delete."""
    for name, value in expected.items():
        _must(statement[name] == value, f"{name} is {statement[name]!r}")


def _stored_once(statement: Statement) -> dict[str, Any]:
    """Return the document of an upsert that leaves what is there."""
    _plain(statement, upsert=True, multi=False)
    query, change = statement["q"], statement["u"]
    _must(set(query) == {"_id"} and set(change) == {"$setOnInsert"}, "it could change what is there")
    fields = change["$setOnInsert"]
    _must("_id" not in fields, "its key is given twice")
    return {"_id": query["_id"], **fields}


def _replaced(statement: Statement, *, upsert: bool = True) -> dict[str, Any]:
    """Return the document of a replacement by its key; one that is no upsert has been asked what else it names."""
    _plain(statement, upsert=upsert, multi=False)
    # a condition such as $where would be a program that our server runs
    _must(not upsert or set(statement["q"]) == {"_id"}, "another query")
    document = statement["u"]
    _must(not any(name.startswith("$") for name in document), "it is no whole document")
    _must(document["_id"] == statement["q"]["_id"], "key and document differ")
    return dict(document)


def _valid(model: type[BaseModel], document: Mapping[str, Any], permit: Permit, key: str) -> None:
    """Check a document against its model, its campaign and its key."""
    found: Any = model.model_validate(document)
    _must(found.campaign == permit.campaign.name, f"campaign {found.campaign!r}")
    _must(found.id == key, f"key {found.id!r} where {key!r} belongs")


def _same_structure(document: Mapping[str, Any], expected: str) -> None:
    from gapfactory.structures import structure_hash

    _must(structure_hash(unpack_atoms(document["atoms"])) == expected, "its atoms are not those of its hash")


# --- rules -----------------------------------------------------------------------------------------------------------


def _campaign_state(permit: Permit, statement: Statement) -> None:
    """Check that work has begun, or that the task failed and halts its campaign; one that has ended stays as it is."""
    _plain(statement, upsert=False, multi=False)
    query, change = statement["q"], dict(statement["u"])
    _must(query["_id"] == permit.campaign.name, f"campaign {query['_id']!r}")
    _must(
        set(query) == {"_id", "state"}
        and set(query["state"]) == {"$in"}
        and set(query["state"]["$in"]) <= _OPEN,
        "it could change a campaign that has ended",
    )
    fields = change.pop("$set")
    if fields["state"] == str(CampaignState.RUNNING):
        _must(set(fields) == {"state", "updated"}, f"fields {sorted(fields)}")
        _must(change == {"$max": {"generation": permit.generation}}, "another generation")
        return
    _must(fields["state"] == str(CampaignState.HALTED), f"state {fields['state']!r}")
    _must(set(fields) == {"state", "reason", "updated", "since"} and not change, f"fields {sorted(fields)}")
    _must(isinstance(fields["reason"], str) and len(fields["reason"]) <= _LONGEST_REASON, "its reason")


def _structure(permit: Permit, statement: Statement) -> None:
    document = _stored_once(statement)
    name, generation, task = permit.campaign.name, permit.generation, permit.task
    stage, index = document["stage"], document["index"]
    key = structure_id(name, document["generation"], stage, index)
    if permit.kind is TaskKind.BUILD:
        _must(stage == "cell" and document["generation"] == generation, f"stage {stage!r}")
        _must(task["start"] <= index < task["stop"], f"index {index}")
    elif permit.kind is TaskKind.SELECT:
        _must(stage in _CHOSEN and document["generation"] == generation, f"stage {stage!r}")
        key = document["_id"]
        pattern = _FRAME if stage == "frame" else _DISTORTED
        # a stage of a ranking stores what earlier generations have relaxed
        first = 0 if recipe_of(permit.campaign, generation).picks == "ranked" else generation
        owners = [generation_id(name, earlier) for earlier in range(first, generation + 1)]
        own = next((owner for owner in owners if key.startswith(f"{owner}/")), None)
        _must(own is not None and pattern.fullmatch(key[len(own) :]), f"key {key!r}")
    elif task["what"] == "parent":
        _must(stage == "parent" and document["generation"] == generation, f"stage {stage!r}")
        names = permit.campaign.vibration_settings.names()
        _must(index == names.index(task["parent"]), f"index {index}")
    else:
        _must(task["what"] == "atoms" and stage in {"isolated", "dimer"}, f"stage {stage!r}")
        _must(document["generation"] == 0, "another generation")
    _valid(StructureDocument, document, permit, key)
    _same_structure(document, document["hash"])


def _relaxation(permit: Permit, statement: Statement) -> None:
    _must(permit.kind is TaskKind.RELAX or permit.task["what"] == "relaxations", "it relaxes nothing")
    document = _replaced(statement)
    index = document["index"]
    _must(permit.task["start"] <= index < permit.task["stop"], f"index {index}")
    key = structure_id(permit.campaign.name, permit.generation, "relaxation", index)
    _must(document["generation"] == permit.generation, "another generation")
    _valid(RelaxationDocument, document, permit, key)


def _selection(permit: Permit, statement: Statement) -> None:
    document = _replaced(statement)
    key = generation_id(permit.campaign.name, permit.generation)
    _valid(SelectionDocument, document, permit, key)
    _must(document["generation"] == permit.generation, "another generation")
    chosen = [*document["train"], *document["test"], *document["noise"]]
    _must(all(name.startswith(f"{key}/") for name in chosen), "structures of another campaign")


def _network(permit: Permit, statement: Statement) -> None:
    document = _replaced(statement)
    index, task = document["index"], permit.task
    # a fit trains what was lost
    _must(permit.kind is TaskKind.FIT or task["start"] <= index < task["stop"], f"index {index}")
    _must(document["generation"] == permit.generation, "another generation")
    _valid(NetworkDocument, document, permit, network_id(permit.campaign.name, permit.generation, index))


def _potential(permit: Permit, statement: Statement) -> None:
    document = _replaced(statement)
    _valid(PotentialDocument, document, permit, generation_id(permit.campaign.name, permit.generation))
    _must(document["generation"] == permit.generation, "another generation")
    for entry in document["files"]:
        name = entry["name"]
        _must(_SHA256.fullmatch(entry["sha256"]), "a file without a hash")
        _must(name and name not in {".", ".."} and "/" not in name and "\0" not in name, f"file {name!r}")


def _file(_: Permit, statement: Statement) -> None:
    document = statement["d"]
    _must(_SHA256.fullmatch(document["_id"]), "a file without a hash")


def _file_in_use(_: Permit, statement: Statement) -> None:
    """Check the note that a file is in use; near the database it is made anew."""
    _plain(statement, upsert=False, multi=False)
    _must(
        set(statement["q"]) == {"_id"} and _SHA256.fullmatch(statement["q"]["_id"]), "a file without a hash"
    )
    _must(
        {name: set(value) for name, value in statement["u"].items()} == {"$set": {"stored"}}, "another change"
    )


def _chunk(_: Permit, statement: Statement) -> None:
    document = statement["d"]
    _must(_SHA256.fullmatch(document["files_id"]), "a file without a hash")
    _must(isinstance(document["n"], int) and isinstance(document["data"], bytes), "no piece of a file")


def _file_removed(_: Permit, statement: Statement) -> None:
    """Check the removal of a damaged file, before it is stored again; near the database that is decided anew."""
    (condition,) = statement["q"].values()
    _must(set(statement["q"]) <= {"_id", "files_id"}, "another query")
    _must(set(condition) == {"$eq"} and _SHA256.fullmatch(condition["$eq"]), "a file without a hash")


def _label_stored(permit: Permit, statement: Statement) -> None:
    """Check what becomes of a label, under its shared key or its campaign's own; see `launchpad.database.labels`."""
    key, change = statement["q"]["_id"], statement["u"]
    if "$set" in change:
        _plain(statement, upsert=False, multi=False)
        permit.label_of(key)
        _must(statement["q"] == {"_id": key, "status": "failed"} and set(change) == {"$set"}, "another query")
        late = change["$set"]
        _must(set(late) == {"status", "enters", "retry_in"}, f"fields {sorted(late)}")
        _must(
            late["status"] == "late" and late["retry_in"] is None and isinstance(late["enters"], int),
            "fields",
        )
        return
    if "$setOnInsert" in change:
        _shared_label(permit, _stored_once(statement))
    elif "status" in statement["q"]:
        _must(statement["q"] == {"_id": key, "status": "failed"}, "another query")
        _shared_label(permit, _replaced(statement, upsert=False))
    else:
        _must(set(statement["q"]) == {"_id"}, "another query")
        _own_label(permit, _replaced(statement))


def _shared_label(permit: Permit, document: dict[str, Any]) -> None:
    key = f"{document['structure_hash']}-{document['settings_hash']}"
    _valid(LabelDocument, document, permit, key)
    _must(document["status"] == "done", f"status {document['status']!r}")
    if document.get("altered"):
        found = next((k for k in permit.labels if _altered_key(permit, k, document["altered"]) == key), None)
    else:
        found = key if key in permit.labels else None
    _must(found is not None, f"label {key!r} is not of this task")
    assert found is not None  # noqa: S101 - `_must` has seen to it
    _must(document["kind"] == permit.labels[found]["kind"], f"kind {document['kind']!r}")
    _same_structure(document, document["structure_hash"])


def _own_label(permit: Permit, document: dict[str, Any]) -> None:
    key = permit.label_of(document["_id"])
    _valid(LabelDocument, document, permit, permit.own(key))
    expected = permit.labels[key]
    for name in ("structure_hash", "settings_hash", "kind"):
        _must(document[name] == expected[name], name)
    _must(document["status"] in {"failed", "altered"}, f"status {document['status']!r}")
    if document["status"] == "altered":
        _must(document["target"] == _altered_key(permit, key, document["altered"]), "another target")
    _same_structure(document, expected["structure_hash"])


def _altered_key(permit: Permit, key: str, altered: Mapping[str, Any]) -> str:
    """Return the key of a label of a structure at altered settings: nobody may choose it."""
    from gapfactory.reference import settings_hash

    reference, of = permit.campaign.reference_in(permit.generation), permit.labels[key]
    _must(getattr(reference, "allow_energy_changes", False), "the campaign allows no altered settings")
    if of.get("kpoints") is not None:
        reference = reference.with_grid(tuple(of["kpoints"]))
    settings = reference.with_higher_density() if of["noise"] else reference
    _must(altered and set(altered) <= set(type(settings).model_fields), f"settings {sorted(altered)}")
    changed = settings.model_copy(update=dict(altered))
    return f"{of['structure_hash']}-{settings_hash(changed, of['kind'])}"


def _label_deleted(permit: Permit, statement: Statement) -> None:
    _plain(statement, limit=1)
    permit.label_of(statement["q"]["_id"])
    _must(set(statement["q"]) <= {"_id", "status"}, "another query")
    _must(statement["q"]["status"] == {"$ne": "late"}, "another query")


def _counted(permit: Permit, key: object) -> None:
    """Check whose faults are counted: a structure's, or a point's of the curve."""
    if permit.task.get("what") == "parent":
        _must(key == f"parent/{permit.campaign.name}/{permit.task['parent']}", f"key {key!r}")
        return
    if permit.task.get("what") == "relaxations":
        own = range(permit.task["start"], permit.task["stop"])
        names = {hand_back_name(permit.campaign.name, permit.generation, index) for index in own}
        _must(key in names, f"key {key!r}")
        return
    of_curve = permit.curve and str(key).startswith(f"curve/{permit.curve}/")
    _must(str(key).endswith(f"/{permit.campaign.name}") if of_curve else permit.label_of(key), f"key {key!r}")


def _hand_back(permit: Permit, statement: Statement) -> None:
    _plain(statement, upsert=True, multi=False)
    _must(set(statement["q"]) == {"_id"}, "another query")
    _counted(permit, statement["q"]["_id"])
    shapes = {name: set(value) for name, value in statement["u"].items()}
    _must(shapes == {"$addToSet": {"met"}, "$push": {"lines"}, "$set": {"at"}}, "another change")
    texts = (statement["u"]["$addToSet"]["met"], statement["u"]["$push"]["lines"])
    _must(all(isinstance(text, str) and len(text) <= _LONGEST_REASON for text in texts), "no texts")


def _hand_backs_forgotten(permit: Permit, statement: Statement) -> None:
    _must(set(statement["q"]) == {"_id"} and set(statement["q"]["_id"]) == {"$in"}, "another query")
    for key in statement["q"]["_id"]["$in"]:
        _counted(permit, key)


def _data_set(permit: Permit, statement: Statement) -> None:
    document = _stored_once(statement)
    reference = permit.campaign.reference_in(permit.generation)
    engine = reference.engine
    scope, _, symbol = document["_id"].rpartition("/")
    kind, _, value = scope.partition("/")
    if kind == "level":
        from gapfactory.reference import settings_hash

        levels = {entry["settings_hash"] for entry in permit.labels.values()}
        if permit.curve:
            levels.add(settings_hash(permit.campaign.reference, "crystal"))
        if permit.task.get("what") == "relaxations":
            levels.add(settings_hash(reference, "crystal"))
        _must(value in levels, f"level {value!r}")
    else:
        _must(scope == f"campaign/{permit.campaign.name}/{engine}", f"scope {scope!r}")
    _must(symbol in permit.campaign.species_table, f"species {symbol!r}")
    _must(set(document) == {"_id", "sha256", "engine", "campaign", "created"}, f"fields {sorted(document)}")
    _must(document["engine"] == engine and document["campaign"] == permit.campaign.name, "whose")
    _must(isinstance(document["sha256"], str), "no hash")


def _curve(permit: Permit, statement: Statement) -> None:
    from gapfactory.reference import settings_hash

    document = _replaced(statement)
    _must(permit.curve, "it computes no curve")
    _valid(CurveDocument, document, permit, permit.curve)
    _must(document["phase"] == permit.task["phase"], f"phase {document['phase']!r}")
    _must(document["settings_hash"] == settings_hash(permit.campaign.reference, "crystal"), "settings")


def _curve_point(permit: Permit, statement: Statement) -> None:
    document = _stored_once(statement)
    _must(permit.curve and document["curve"] == permit.curve, "another curve")
    _must(document["campaign"] == permit.campaign.name, f"campaign {document['campaign']!r}")
    names = {"_id", "curve", "campaign", "status", "volume", "energy", "reason", "seconds"}
    _must(set(document) == names, f"fields {sorted(document)}")
    key = f"{permit.curve}/{document['volume']!r}"
    done = document["energy"] is not None
    _must(document["_id"] == (key if done else f"{key}/{permit.campaign.name}"), f"key {document['_id']!r}")
    _must(document["status"] == ("done" if done else "failed"), f"status {document['status']!r}")
    _must(all(isinstance(document[name], float) for name in ("volume", "seconds")), "no numbers")


_STATE: dict[tuple[str, str], Callable[[Permit, Statement], None]] = {
    ("campaigns", "update"): _campaign_state
}
_RULES: dict[TaskKind, dict[tuple[str, str], Callable[[Permit, Statement], None]]] = {
    TaskKind.BUILD: {**_STATE, ("structures", "update"): _structure},
    TaskKind.RELAX: {**_STATE, ("relaxations", "update"): _relaxation},
    TaskKind.SELECT: {
        **_STATE,
        ("structures", "update"): _structure,
        ("selections", "update"): _selection,
    },
    TaskKind.TRAIN: {**_STATE, ("networks", "update"): _network},
    TaskKind.FIT: {
        **_STATE,
        ("networks", "update"): _network,
        ("potentials", "update"): _potential,
        (f"{BUCKET}.files", "insert"): _file,
        (f"{BUCKET}.files", "update"): _file_in_use,
        (f"{BUCKET}.chunks", "insert"): _chunk,
        (f"{BUCKET}.files", "delete"): _file_removed,
        (f"{BUCKET}.chunks", "delete"): _file_removed,
    },
    TaskKind.REFERENCE: {
        **_STATE,
        ("structures", "update"): _structure,
        ("relaxations", "update"): _relaxation,
        ("labels", "update"): _label_stored,
        ("labels", "delete"): _label_deleted,
        ("label_hand_backs", "update"): _hand_back,
        ("label_hand_backs", "delete"): _hand_backs_forgotten,
        ("label_data", "update"): _data_set,
        ("curves", "update"): _curve,
        ("curve_points", "update"): _curve_point,
    },
    TaskKind.ASSESS: {},
}
