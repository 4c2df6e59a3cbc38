"""What may go: the graph of references between our documents, read from what nobody points to any more.

========================================  ====================================================================
what                                      is needed by
========================================  ====================================================================
frames of a relaxation                    the selection of its generation, until that is stored; the chosen frames
                                          are then structures of their own; those of the newest search, until crystals
                                          are taken from its minima for vibrations. Energies, enthalpies and numbers of
                                          relaxations, which the report draws, stay
frames of a relaxation of a diagnostic    the assessment of its generation, which counts what was found; crystals of its
search                                    minima for vibrations. No selection: they are not labelled
atoms of a cell                           its relaxation, and the selection of its generation, until both are stored;
                                          afterwards by every selection, of any campaign, that names it
structures that were chosen, labels,      training sets, held-out sets, reports, exports, other campaigns: never here
curves and their points, selections
files of a potential                      the relaxations of the next generation and the assessments of its own and the
                                          next; the newest is the result
stored data of a launch                   `why`, while its task is FIZZLED; `resume` and the report need two numbers of
                                          it, which stay
ends of files of failed labels            people who mend the cause, until the campaign is done or cancelled
task ids under a generation's key         nobody once the campaign has ended; the key itself stays for ever
========================================  ====================================================================

A campaign that is done is never taken up again; every other one is, from any state, by `resume`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError
from gapfactory.protocols.kinds import kind_of_protocol
from launchpad.database.documents import generation_id
from launchpad.database.results import frame_atoms
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from pymongo.database import Database

__all__ = ["COLLECTIONS", "Portion", "beyond_the_best", "portions_of", "released"]

#: Kind of a policy -> collection.
COLLECTIONS = {
    "trajectories": "relaxations",
    "searches": "relaxations",
    "cells": "structures",
    "launches": "launches",
    "label_files": "labels",
    "potentials": "potentials",
    "journal": "queue_journal",
}
#: An unfinished campaign needs the potential that its relaxations use, and the one before for the assessment.
KEEP_UNFINISHED = 2
#: Ids in one query.
CHUNK = 1000

#: The frames themselves. What else a relaxation has is small, and the report draws it.
_FRAMES = ("positions", "cells")
#: What the report, `resume` and FireWorks read of a launch that has ended.
_LAUNCH_STAYS = ("seconds", "cancelled", "halted")


@dataclass(frozen=True)
class Portion:
    """Documents of one kind of one campaign that may go.

    Attributes
    ----------
    campaign, kind
        Whose and what.
    ids
        Of the documents, in order.
    """

    campaign: str
    kind: str
    ids: tuple[Any, ...]


def portions_of(
    database: Database[Any], record: dict[str, Any], kinds: Iterable[str], *, newest: int, keep: int | None
) -> Iterator[Portion]:
    """Yield what may go of a campaign.

    Parameters
    ----------
    database, record
        The campaign.
    kinds
        What to look for.
    newest
        So many potentials stay.
    keep
        Of trajectories, cells and potentials so many generations stay, the newest; none: 0.
    """
    name, state = record["_id"], CampaignState(record["state"])
    selected = sorted(
        s["generation"] for s in database.selections.find({"campaign": name}, {"generation": 1})
    )
    old = [g for g in selected if keep is None or g <= record["generation"] - keep]
    for kind in kinds:
        if kind == "trajectories":
            minima = _search_of_minima(database, name, selected)
            # what a search has found stays until the next stage has chosen from it, and after the last one for good
            ranked = _is_ranked(database, name)
            searched = [g for g in old if (g + 1 in selected if ranked else g and g != minima)]
            query: dict[str, Any] = {"campaign": name, "generation": {"$in": searched}}
            ids = _ids(database, kind, query)
        elif kind == "cells":
            chosen = _chosen(database, name)
            query = {"campaign": name, "generation": {"$in": old}, "stage": "cell"}
            ids = [key for key in _ids(database, kind, query) if key not in chosen]
        elif kind == "potentials":
            ids = _potentials(database, record, newest, keep)
        elif state not in (CampaignState.DONE, CampaignState.CANCELLED):
            continue
        elif kind == "launches":
            ids = _launches(database, name)
        elif kind == "label_files":
            query = {"campaign": name, "status": "failed"}
            kept = {"$or": [{"files.0": {"$exists": True}}, {"custodian": {"$nin": ["", None]}}]}
            ids = _ids(database, kind, {**query, **kept})
        else:
            keys = [f"add:{generation_id(name, g)}" for g in range(record["generation"] + 1)]
            ids = _ids(database, kind, {"_id": {"$in": keys}, "kind": "added", "ids": {"$ne": {}}})
        if ids:
            yield Portion(name, kind, tuple(ids))


def beyond_the_best(
    database: Database[Any], record: dict[str, Any], within: float, assessed_before: datetime
) -> Portion | None:
    """Return the relaxations of diagnostic searches that lie higher than what a policy keeps; None: there are none.

    Those that failed are among them: they have no end.

    Parameters
    ----------
    database, record
        The campaign.
    within
        eV/atom above the lowest of its composition, in one search of one generation.
    assessed_before
        Only generations whose assessment was stored before: it has counted what was found.
    """
    from gapfactory.protocols.planner import recipe_of
    from launchpad.database.campaigns import campaign_of
    from launchpad.searches import low_ones, searches_in

    name = record["_id"]
    query = {"campaign": name, "created": {"$lte": assessed_before}}
    assessed = sorted(m["generation"] for m in database.metrics.find(query, {"generation": 1}))
    if not assessed:
        return None
    campaign = campaign_of(database.campaigns.find_one({"_id": name}) or record)
    selected = (s["generation"] for s in database.selections.find({"campaign": name}, {"generation": 1}))
    minima = _search_of_minima(database, name, selected)
    high: list[Any] = []
    for generation in (g for g in assessed if g != minima):
        for part in recipe_of(campaign, generation).cells:
            of = {"campaign": name, "generation": generation, "index": {"$gte": part.start, "$lt": part.stop}}
            if part.labelled or not (stored := _ids(database, "searches", of)):
                continue
            try:
                searches = searches_in(
                    lambda: database,
                    f"{name}/{part.component}@{generation}",
                    unconverged=True,
                    within=0.0,
                )
            except NotFoundError:
                searches = []  # all failed
            kept = {one.name for search in searches for one in low_ones(search.found, within)}
            high += [key for key in stored if key not in kept]
    return Portion(name, "searches", tuple(sorted(high))) if high else None


def _ids(database: Database[Any], kind: str, query: dict[str, Any]) -> list[Any]:
    left = {**query, "pruned": {"$exists": False}}
    return [d["_id"] for d in database[COLLECTIONS[kind]].find(left, {"_id": 1}).sort("_id", 1)]


def _is_ranked(database: Database[Any], name: str) -> bool:
    """Return whether the stages of a campaign choose from what the one before has found."""
    record = database.campaigns.find_one({"_id": name}, {"settings.protocol": 1})
    return record is not None and kind_of_protocol(record["settings"]).ranks


def _search_of_minima(database: Database[Any], name: str, selected: Iterable[int]) -> int | None:
    """Return the newest search while minima of it are still to be taken for vibrations; any may be the last one."""
    fields = ("protocol", "schedule.generations", "vibrations.minima")
    record = database.campaigns.find_one({"_id": name}, {f"settings.{field}": 1 for field in fields})
    settings = {} if record is None else record["settings"]
    wanted = (settings.get("vibrations") or {}).get("minima")
    if not wanted or kind_of_protocol(settings).generations(settings) - 1 in selected:
        return None
    newest = database.relaxations.find_one({"campaign": name}, {"generation": 1}, sort=[("generation", -1)])
    return None if newest is None else int(newest["generation"])


def _chosen(database: Database[Any], name: str) -> set[str]:
    """Return the structures of a campaign that a selection of any campaign names."""
    own = f"{name}/"
    return {
        key
        for selection in database.selections.find({}, {"train": 1, "test": 1, "noise": 1})
        for key in (*selection["train"], *selection["test"], *selection.get("noise", ()))
        if key.startswith(own)
    }


def _potentials(database: Database[Any], record: dict[str, Any], newest: int, keep: int | None) -> list[str]:
    done = record["state"] == CampaignState.DONE
    stay = max(newest, 1 if done else KEEP_UNFINISHED, keep or 0)
    fitted = database.potentials.find({"campaign": record["_id"]}, {"generation": 1, "pruned": 1})
    ordered = sorted(fitted, key=lambda potential: -potential["generation"])
    return sorted(potential["_id"] for potential in ordered[stay:] if "pruned" not in potential)


def _launches(database: Database[Any], name: str) -> list[Any]:
    """Return the launches whose stored data nobody reads any more."""
    found: list[Any] = []
    tasks = list(
        database.fireworks.find({"spec.campaign": name}, {"state": 1, "launches": 1, "archived_launches": 1})
    )
    ids = [
        launch
        for task in tasks
        for launch in (
            *(task["launches"] if task["state"] == "COMPLETED" else ()),
            *task.get("archived_launches", ()),
        )
    ]
    for start in range(0, len(ids), CHUNK):
        query = {
            "launch_id": {"$in": ids[start : start + CHUNK]},
            "state": {"$in": ["COMPLETED", "FIZZLED"]},
            "requeue.pending": {"$ne": True},
            "pruned": {"$exists": False},
        }
        fields = {"action.stored_data": 1, "trackers": 1}
        found += [d["_id"] for d in database.launches.find(query, fields) if released("launches", d)[0]]
    return sorted(found, key=str)


def released(kind: str, document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which fields of a document go, by dotted name, and what is left in their places.

    A field without an entry in the second is removed.
    """
    if kind == "trajectories":
        return {name: document[name] for name in _FRAMES if name in document}, {}
    if kind == "searches":
        return {name: document[name] for name in _FRAMES if name in document}, {
            "space_group": _group(document)
        }
    if kind == "cells":
        return ({"atoms": document["atoms"]} if "atoms" in document else {}), {}
    if kind == "label_files":
        kept = {name: document[name] for name in ("files", "custodian") if document.get(name)}
        return kept, {"files": [], "custodian": ""}
    if kind == "journal":
        return {"ids": document["ids"]}, {"ids": {}}
    if kind == "potentials":
        return {}, {}
    gone: dict[str, Any] = {}
    left: dict[str, Any] = {}
    stored = (document.get("action") or {}).get("stored_data") or {}
    if set(stored) - set(_LAUNCH_STAYS):
        gone["action.stored_data"] = stored
        left["action.stored_data"] = {name: stored[name] for name in _LAUNCH_STAYS if name in stored}
    if document.get("trackers"):
        gone["trackers"], left["trackers"] = document["trackers"], []
    return gone, left


def _group(document: dict[str, Any]) -> int | None:
    """Return the number of the space group in which a relaxation ended, with the tolerance of a ranking."""
    from gapfactory._spglib import space_group_number
    from gapfactory.analysis.ranking import RankSettings

    if document["final_volume_per_atom"] is None or not document.get("positions"):
        return None
    return space_group_number(frame_atoms(document, -1), RankSettings().symprec)
