"""What each kind of task reads: the slice of the database that travels in its bundle.

A slice that forgot something would give another result without a word: a label that exists would be computed again, a
selection would be made from fewer cells. Therefore a slice is also a promise about questions. The site answers a query
only where it lies within a filter of the slice, so that "nothing found" means "nothing is there"; any other query
fails, and the task with it (`launchpad.remote.recording`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gapfactory.protocols.plan import TaskKind
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.dataset import (
    all_items,
    atom_items,
    data_items,
    label_key,
    noise_items,
    pick_items,
    store_atoms,
    vibration_items,
)
from launchpad.database.documents import generation_id, own_label_id
from launchpad.database.potentials import BUCKET, relaxing_potential
from launchpad.database.privileges import SHARES
from launchpad.database.results import require_selection
from launchpad.database.sharing import accepted_groups
from launchpad.ranking import ranking_of
from launchpad.reference_relaxations import hand_back_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import Item

__all__ = ["SENDABLE", "Need", "Slice", "needed_by", "prefix", "within"]

#: Kinds of task that can be sent to a site. The assessment decides and submits the next generation: it stays near the
#: database.
SENDABLE: tuple[str, ...] = tuple(str(kind) for kind in TaskKind if kind is not TaskKind.ASSESS)

Filter = dict[str, Any]


@dataclass(frozen=True)
class Slice:
    """Documents of one collection, and the questions that they answer.

    Attributes
    ----------
    collection
        Its name.
    filters
        What the first one matches is sent. A query is answered if it lies within any of them: the others tell of the
        same documents, or of a part of them, in another way.
    fields
        Only these, ``_id`` and what the filters name; None: whole documents.
    group
        Of another group's database, its name; empty for one's own.
    """

    collection: str
    filters: tuple[Filter, ...]
    fields: tuple[str, ...] | None = None
    group: str = ""

    @property
    def member(self) -> str:
        """Name of the member of a bundle that holds its documents."""
        return f"group/{self.group}/{self.collection}" if self.group else f"data/{self.collection}"

    @property
    def sent(self) -> tuple[str, ...] | None:
        """The fields that are sent, ascending; None: all."""
        if self.fields is None:
            return None
        return tuple(sorted({"_id", *self.fields, *(name for names in self.filters for name in names)}))

    def answers(
        self, query: Mapping[str, Any], projection: Mapping[str, Any] | None, sort: Iterable[str] = ()
    ) -> bool:
        """Return whether a query has the same result on the slice as on the whole database."""
        sent = self.sent
        if sent is not None and not {*query, *_wanted(projection), *sort} <= set(sent):
            return False
        return any(within(query, allowed) for allowed in self.filters)

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        fields = None if self.fields is None else list(self.fields)
        filters = list(self.filters)
        return {"collection": self.collection, "filters": filters, "fields": fields, "group": self.group}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Slice:
        """Return the slice of `document`."""
        fields = document["fields"]
        shown = None if fields is None else tuple(fields)
        return cls(document["collection"], tuple(document["filters"]), shown, document["group"])


def _wanted(projection: Mapping[str, Any] | None) -> Iterable[str]:
    """Return the fields that a query returns; ``*`` for those that it leaves open."""
    shown = {name: value for name, value in (projection or {}).items() if name != "_id"}
    if not shown:
        return ["_id"] if projection else ["*"]
    return shown if all(value in (1, True) for value in shown.values()) else ["*"]


def prefix(text: str) -> Filter:
    """Return the condition "begins with this text", as a range (of text in the order of its bytes)."""
    return {"$gte": text, "$lt": text[:-1] + chr(ord(text[-1]) + 1)}


def within(query: Mapping[str, Any], allowed: Filter) -> bool:
    """Return whether everything that a query matches is matched by a filter of equalities, ``$in`` and ranges.

    Only what is evident counts: the query restricts each field of the filter at its top level, at least as much.
    """
    return all(name in query and _inside(query[name], condition) for name, condition in allowed.items())


def _inside(asked: Any, allowed: Any) -> bool:
    values = _values(asked)
    if isinstance(allowed, dict) and "$in" in allowed:
        return values is not None and set(values) <= set(allowed["$in"])
    if not isinstance(allowed, dict):
        return values is not None and all(value == allowed for value in values)
    if not {"$lt"} <= set(allowed) <= {"$gte", "$lt"}:
        return False
    if values is None:
        return (
            isinstance(asked, dict)
            and set(allowed) <= set(asked)
            and all(type(asked[end]) is type(limit) for end, limit in allowed.items())
            and bool(asked["$lt"] <= allowed["$lt"])
            and ("$gte" not in allowed or bool(asked["$gte"] >= allowed["$gte"]))
        )
    return all(
        type(value) is type(allowed["$lt"])
        and value < allowed["$lt"]
        and ("$gte" not in allowed or allowed["$gte"] <= value)
        for value in values
    )


def _values(asked: Any) -> list[Any] | None:
    """Return the only values that a condition lets pass, or None where it is no such list of numbers and texts."""
    values = [asked]
    if isinstance(asked, dict):
        if set(asked) == {"$in"}:
            values = list(asked["$in"])
        elif set(asked) == {"$eq"}:
            values = [asked["$eq"]]
    return values if all(isinstance(value, str | int | float) for value in values) else None


@dataclass(frozen=True)
class Need:
    """What a task needs at a site.

    Attributes
    ----------
    slices
        What it reads.
    items
        The structures that it labels, or takes over labels of.
    claims
        What it will compute, by the keys under which claims are made.
    curve
        Key of the energy-volume curve that it computes.
    """

    slices: tuple[Slice, ...]
    items: tuple[Item, ...] = ()
    claims: tuple[str, ...] = ()
    curve: str = ""


def needed_by(database: Database[Any], firework: Mapping[str, Any]) -> Need:
    """Return what a task reads; structures that it would store before anything else are stored.

    Parameters
    ----------
    database
        With durable writes.
    firework
        Its document.

    Raises
    ------
    BundleError
        It is no task that can be sent.
    NotFoundError, StateError
        What it needs is not there, as the task itself would say.
    """
    task = firework["spec"]["_tasks"][0]
    kind = TaskKind(firework["spec"]["_category"])
    record = require_campaign(database, task["campaign"])
    campaign = campaign_of(record)
    need = _NEEDS[kind](database, campaign, task)
    always = (
        Slice("campaigns", ({"_id": campaign.name},)),
        Slice("fireworks", ({"fw_id": firework["fw_id"]},)),
    )
    return Need((*always, *need.slices), need.items, need.claims, need.curve)


def _range(campaign: Campaign, task: Mapping[str, Any]) -> Filter:
    return {
        "campaign": campaign.name,
        "generation": task["generation"],
        "index": {"$gte": task["start"], "$lt": task["stop"]},
    }


def _build(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    from gapfactory.protocols.planner import recipe_of

    generation = task["generation"]
    cells = Slice("structures", ({**_range(campaign, task), "stage": "cell"},), ("index",))
    parts = recipe_of(campaign, generation).cells
    fields = tuple(
        f"evidence.{name}"
        for name, wanted in (
            ("measured", any(part.build.separations.auto for part in parts)),
            ("start", any(part.made_of is not None for part in parts)),
        )
        if wanted
    )
    if not fields:
        return Need((cells,))
    # the task asks for the newest assessment before, which has what was measured
    earlier = {"campaign": campaign.name, "generation": {"$lt": generation}}
    newest = database.metrics.find_one(earlier, {"_id": 1}, sort=[("generation", -1)])
    asked: tuple[Filter, ...] = (earlier,) if newest is None else ({"_id": newest["_id"]}, earlier)
    return Need((cells, Slice("metrics", asked, ("generation", *fields))))


def _relax(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    from gapfactory.protocols.planner import recipe_of

    generation, recipe = task["generation"], recipe_of(campaign, task["generation"])
    cells = (
        Slice("structures", ({**_range(campaign, task), "stage": "cell"},)),
        Slice("relaxations", (_range(campaign, task),), ("index",)),
        Slice("anneals", (_range(campaign, task),)),
    )
    if not recipe.fits:
        if campaign.search_settings.potential == "reference":
            return Need(cells)
        given = generation_id(campaign.name, 0)
        return Need((*cells, Slice("potentials", ({"_id": given},)), *_files_of(database, given)))
    after_fit = recipe.cell_range(task["start"]).after_fit
    before = relaxing_potential(database, campaign.name, generation, after_fit=after_fit)["_id"]
    asked: tuple[Filter, ...] = ({"_id": before},)
    if not after_fit and before != generation_id(campaign.name, generation - 1):
        # the generation before was left out: the task asks for its potential first, then for the newest
        earlier = {"campaign": campaign.name, "generation": {"$lt": generation}}
        asked = (*asked, {"_id": generation_id(campaign.name, generation - 1)}, earlier)
    return Need(
        (
            *cells,
            Slice("potentials", asked),
            *_files_of(database, before),
        )
    )


def _files_of(database: Database[Any], potential: str, *, more: tuple[Filter, ...] = ()) -> tuple[Slice, ...]:
    """Return the files of a potential; `more` are further questions about files that may be asked."""
    record = database.potentials.find_one({"_id": potential}, {"files": 1}) or {"files": []}
    hashes = sorted(entry["sha256"] for entry in record["files"])
    return (
        Slice(f"{BUCKET}.files", ({"_id": {"$in": hashes}}, *more)),
        Slice(f"{BUCKET}.chunks", ({"files_id": {"$in": hashes}}, *more)),
    )


def _select(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    from gapfactory.protocols.planner import recipe_of

    generation = task["generation"]
    key = generation_id(campaign.name, generation)
    of = {"campaign": campaign.name, "generation": generation}
    slices = [Slice("selections", ({"_id": key},), ())]
    recipe = recipe_of(campaign, generation)
    if recipe.picks == "frames":
        slices.append(Slice("structures", ({**of, "stage": "parent"},)))
    elif recipe.picks == "ranked":
        slices += _ranked(database, campaign, generation)
    elif recipe.relax is None:
        slices.append(Slice("structures", ({**of, "stage": "cell"},)))
    else:
        fields = (
            "composition", "status", "n_frames", "numbers", "enthalpies", "energies", "cells", "left_known_space",
            "positions", "steps", "index", "final_energy_per_atom", "final_volume_per_atom", "uncertainty",
        )  # fmt: skip
        slices.append(Slice("relaxations", (of, {"_id": prefix(f"{key}/relaxation/")}), fields))
    return Need(tuple(slices))


def _train(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    """Return what networks are trained on, and those of the range that are there."""
    return Need((*_training(database, campaign, task), Slice("networks", (_range(campaign, task),))))


def _ranked(database: Database[Any], campaign: Campaign, generation: int) -> list[Slice]:
    """Return the table that a stage of a search chooses from, and the structures that may be chosen."""
    table = generation_id(campaign.name, generation - 1)
    ids = [row["id"] for row in ranking_of(database, campaign.name, generation - 1)["rows"]]
    relaxed = sorted({key.split("/frame/")[0] for key in ids if "/frame/" in key})
    return [
        Slice("metrics", ({"_id": table},), ("evidence.ranking",)),
        Slice("structures", ({"_id": {"$in": ids}},), ()),
        Slice("relaxations", ({"_id": {"$in": relaxed}},), ("numbers", "positions", "cells")),
    ]


def _fit(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    key = generation_id(campaign.name, task["generation"])
    # frames for sparse points only
    of = {"campaign": campaign.name, "generation": task["generation"], "stage": "displaced"}
    networks = {"campaign": campaign.name, "generation": task["generation"]}
    return Need(
        (
            Slice("structures", (of,)),
            Slice("networks", (networks,)),
            Slice("potentials", ({"_id": key},), ("files", "pruned")),
            # a file is stored under the hash of its content: whether it is there already changes nothing
            *_files_of(database, key, more=({},)),
            *_training(database, campaign, task),
        )
    )


def _training(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> tuple[Slice, ...]:
    """Return the labelled structures that the potential of a generation is trained on."""
    items = list(atom_items(database, campaign))
    for earlier in range(task["generation"] + 1):
        items += pick_items(database, campaign, earlier)
    items += noise_items(database, campaign)
    items += data_items(database, campaign, task["generation"])
    given = {"campaign": campaign.name, "generation": task["generation"], "stage": "data"}
    return (
        Slice("structures", (given,)),
        *_chosen(campaign, items, range(task["generation"] + 1)),
        Slice("structures", ({"campaign": campaign.name, "generation": 0, "stage": "isolated"},)),
        Slice("structures", ({"campaign": campaign.name, "generation": 0, "stage": "dimer"},)),
        _labels(database, campaign, items),
    )


def _chosen(campaign: Campaign, items: Sequence[Item], generations: Iterable[int]) -> tuple[Slice, ...]:
    """Return selections, and the structures of these items."""
    keys = [generation_id(campaign.name, generation) for generation in generations]
    slices = [Slice("structures", ({"_id": {"$in": sorted({item.id for item in items})}},))]
    if keys:
        filters: tuple[Filter, ...] = ({"_id": {"$in": keys}},)
        if keys[0] == generation_id(campaign.name, 0):
            filters = (*filters, {"campaign": campaign.name, "generation": 0})
        slices.append(Slice("selections", filters))
    return tuple(slices)


def _labels(database: Database[Any], campaign: Campaign, items: Sequence[Item]) -> Slice:
    """Return the labels of items as a campaign sees them, those at altered settings included."""
    keys = {label_key(campaign, item) for item in items}
    own = {own_label_id(key, campaign.name) for key in keys}
    targets = {
        found["target"]
        for found in database.labels.find({"_id": {"$in": sorted(own)}, "status": "altered"}, {"target": 1})
    }
    return Slice("labels", ({"_id": {"$in": sorted(keys | own | targets)}},))


def _reference(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    if task["what"] == "phase":
        return _phase(campaign, task["phase"])
    if task["what"] == "parent":
        return _parent(database, campaign, task)
    if task["what"] == "relaxations":
        return _relaxations(database, campaign, task)
    generation = task["generation"]
    slices: list[Slice] = []
    if task["what"] == "atoms":
        # what the task does first; then its labels can be named
        store_atoms(database, campaign)
        items = atom_items(database, campaign)
        slices += [
            Slice("structures", ({"campaign": campaign.name, "generation": 0, "stage": stage},))
            for stage in ("isolated", "dimer")
        ]
    elif task["what"] == "noise":
        items = noise_items(database, campaign)
        slices += _chosen(campaign, items, [0])
    elif task["what"] == "data":
        items = data_items(database, campaign, generation)
        slices.append(
            Slice("structures", ({"campaign": campaign.name, "generation": generation, "stage": "data"},))
        )
    elif task["what"] in {"vibrations", "diagonal"}:
        stage: Literal["evidence", "diagonal"] = "evidence" if task["what"] == "vibrations" else "diagonal"
        items = vibration_items(database, campaign, stage, task.get("parent"))
        of = {"campaign": campaign.name, "generation": generation, "stage": stage}
        slices.append(Slice("structures", (of,)))
    else:
        picks = pick_items(database, campaign, generation)
        items = [item for item in picks if not item.given][task["start"] : task["stop"]]
        slices += _chosen(campaign, picks, [generation])
        if task["start"] == 0:
            late, more = _late(database, campaign, generation)
            items += late
            slices += more
    return _labelling(database, campaign, generation, tuple(items), slices)


def _relaxations(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    """Return what is read to relax a range of what a stage of a search has chosen."""
    from gapfactory.reference import settings_hash

    generation = task["generation"]
    key = generation_id(campaign.name, generation)
    ids = require_selection(database, campaign.name, generation)["train"][task["start"] : task["stop"]]
    names = [hand_back_name(campaign.name, generation, k) for k in range(task["start"], task["stop"])]
    level = settings_hash(campaign.reference_in(generation), "crystal")
    return Need(
        (
            Slice("selections", ({"_id": key},)),
            Slice("structures", ({"_id": {"$in": sorted(ids)}},)),
            Slice("relaxations", (_range(campaign, task),), ("index",)),
            Slice("label_hand_backs", ({"_id": {"$in": names}},)),
            *_data_sets(campaign, [level], generation),
        )
    )


def _late(database: Database[Any], campaign: Campaign, generation: int) -> tuple[list[Item], list[Slice]]:
    """Return what earlier generations could not label and is tried again, and all that is read to find it."""
    from launchpad.labelling import late_items

    asked = {"campaign": campaign.name, "status": "failed", "retry_in": generation}
    slices = [Slice("labels", (asked,))]
    if database.labels.find_one(asked, {"_id": 1}) is None:
        return [], slices
    everything = all_items(database, campaign)
    generations = sorted({item.generation for item in everything} | {generation})
    slices += [
        *_chosen(campaign, everything, generations),
        Slice("selections", ({"campaign": campaign.name},), ("generation",)),
        *(
            Slice("structures", ({"campaign": campaign.name, "generation": 0, "stage": stage},))
            for stage in ("isolated", "dimer")
        ),
        _labels(database, campaign, [item for item in everything if item.generation < generation]),
    ]
    return late_items(database, campaign, generation), slices


def _labelling(
    database: Database[Any],
    campaign: Campaign,
    generation: int,
    items: tuple[Item, ...],
    slices: Iterable[Slice],
) -> Need:
    from gapfactory.reference import settings_hash
    from launchpad.database.dataset import settings_of, with_labels

    hashes = sorted({item.hash for item in items})
    keys = [label_key(campaign, item) for item in items]
    wanted = tuple(
        dict.fromkeys(
            key
            for key, entry in zip(keys, with_labels(database, campaign, items), strict=True)
            if entry.label is None or entry.label.wanted_in(generation)
        )
    )
    own = sorted({own_label_id(key, campaign.name) for key in keys})
    levels = sorted({settings_hash(settings_of(campaign, item), item.kind) for item in items})
    return Need(
        (
            *slices,
            # labels of the same structures at altered settings, of any campaign, may be taken over
            Slice("labels", ({"structure_hash": {"$in": hashes}},)),
            _labels(database, campaign, items),
            Slice("label_hand_backs", ({"_id": {"$in": own}},)),
            *_data_sets(campaign, levels, generation),
            *_of_other_groups(database, wanted, levels),
        ),
        items,
        wanted,
    )


def _of_other_groups(
    database: Database[Any], keys: Sequence[str], levels: Iterable[str]
) -> tuple[Slice, ...]:
    """Return labels of other groups that may be taken over, and what is known of their data sets."""
    slices = [Slice(SHARES, ({"direction": "from"},), ("group",))]
    for group in accepted_groups(database) if keys else []:
        slices.append(Slice("labels", ({"_id": {"$in": sorted(keys)}},), group=group))
        slices += [
            Slice("label_data", ({"_id": prefix(f"level/{level}/")},), group=group) for level in levels
        ]
    return tuple(slices)


def _data_sets(campaign: Campaign, levels: Iterable[str], generation: int = 0) -> tuple[Slice, ...]:
    scopes = [
        *(f"level/{level}/" for level in levels),
        f"campaign/{campaign.name}/{campaign.reference_in(generation).engine}/",
    ]
    return tuple(Slice("label_data", ({"_id": prefix(scope)},)) for scope in scopes)


def _phase(campaign: Campaign, phase: str) -> Need:
    from gapfactory.reference import settings_hash
    from launchpad.tasks.reference import curve_key

    key = curve_key(campaign, phase)
    return Need(
        (
            Slice("curves", ({"_id": key},)),
            Slice("curve_points", ({"curve": key},)),
            Slice("label_hand_backs", ({"_id": prefix(f"curve/{key}/")},)),
            *_data_sets(campaign, [settings_hash(campaign.reference, "crystal")]),
        ),
        claims=(f"curve/{key}",),
        curve=key,
    )


def _parent(database: Database[Any], campaign: Campaign, task: Mapping[str, Any]) -> Need:
    """Return what is read to relax a crystal whose vibrations are learnt."""
    generation, name = task["generation"], task["parent"]
    key = generation_id(campaign.name, generation)
    slices = [
        Slice("structures", ({"_id": prefix(f"{key}/parent/")},)),
        Slice("label_hand_backs", ({"_id": f"parent/{campaign.name}/{name}"},)),
        Slice("label_data", ({"_id": prefix("level/")}, {"_id": prefix(f"campaign/{campaign.name}/")})),
    ]
    if name not in campaign.vibration_settings.parents:
        earlier = {"campaign": campaign.name, "generation": {"$lt": generation}}
        newest = database.relaxations.find_one(earlier, {"generation": 1}, sort=[("generation", -1)])
        if newest is not None:
            of = {"campaign": campaign.name, "generation": newest["generation"]}
            within = {"_id": prefix(f"{generation_id(campaign.name, newest['generation'])}/relaxation/")}
            slices.append(Slice("relaxations", (of, earlier, within)))
    return Need(tuple(slices))


_NEEDS: dict[TaskKind, Callable[[Database[Any], Campaign, Mapping[str, Any]], Need]] = {
    TaskKind.BUILD: _build,
    TaskKind.RELAX: _relax,
    TaskKind.SELECT: _select,
    TaskKind.TRAIN: _train,
    TaskKind.FIT: _fit,
    TaskKind.REFERENCE: _reference,
}
