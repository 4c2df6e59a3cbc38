"""What a search has found: ranked, chosen for the next stage, relaxed by the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.analysis.stage_ranking import Calculated, chosen, table
from gapfactory.errors import EvidenceError, NotFoundError, StateError
from gapfactory.protocols.planner import recipe_of
from gapfactory.protocols.search import rank_pressure
from launchpad.database.campaigns import set_state
from launchpad.database.dataset import pick_items, with_labels
from launchpad.database.documents import SelectionDocument, StructureDocument, generation_id
from launchpad.database.packing import pack_atoms, unpack_array
from launchpad.database.results import (
    frame_atoms,
    in_unknown_space,
    relaxations,
    require_selection,
    save_selection,
    save_structures,
)
from launchpad.diagnostics import diagnostic_searches
from launchpad.queries import relaxation_counts
from launchpad.states import CampaignState
from launchpad.tasks.pool import frame_id, frames_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.select import SelectionReport
    from launchpad.tasks.base import TaskContext

#: Å, within which a structure repeats itself: well below what a calculation can tell.
_SYMPREC = 1e-3

__all__ = ["failed_relaxations", "measure_ranking", "ranking_of", "smallest_cell", "take_ranked"]


def ranking_of(database: Database[Any], campaign: str, generation: int) -> dict[str, Any]:
    """Return the table of an assessed generation of a search.

    Raises
    ------
    NotFoundError
        It is not assessed yet.
    """
    stored = database.metrics.find_one({"_id": generation_id(campaign, generation)}, {"evidence.ranking": 1})
    if stored is None:
        msg = (
            f"generation {generation} of campaign {campaign!r} is not ranked yet; 'gapfactory campaign status "
            f"{campaign}' shows how far it is"
        )
        raise NotFoundError(msg)
    return dict(stored["evidence"]["ranking"])


def take_ranked(context: TaskContext, recipe: GenerationRecipe) -> SelectionReport:
    """Choose what a stage calculates from the table of the stage before, and store structures that are not stored."""
    from gapfactory.select import Pick, SelectionReport

    campaign, database, generation = context.campaign, context.database, recipe.generation
    stage = campaign.search_settings.ranking[generation - 1]
    before = ranking_of(database, campaign.name, generation - 1)["rows"]
    rows = chosen(before, within_eV=stage.within_eV, most=stage.most)
    ids = [row["id"] for row in rows]
    _store_frames(context, ids)
    picks = tuple(
        Pick(row["id"], "training", row["composition"], order, 0.0, row["enthalpy_eV_per_atom"])
        for order, row in enumerate(rows)
    )
    within = sum(row["above_eV_per_atom"] <= stage.within_eV for row in before)
    notes = (f"{within - len(ids)} more are within {stage.within_eV:g} eV/atom",) if within > len(ids) else ()
    return SelectionReport(picks, (), (), {"distinct": len(before), "within": within}, notes)


def _store_frames(context: TaskContext, ids: Sequence[str]) -> None:
    from gapfactory.structures import composition_of, structure_hash

    campaign, database = context.campaign, context.database
    stored = {d["_id"] for d in database.structures.find({"_id": {"$in": list(ids)}}, {"_id": 1})}
    new = [(order, key) for order, key in enumerate(ids) if key not in stored]
    search = recipe_of(campaign, 0)
    documents = []
    for (order, key), frame_of_search in zip(new, frames_of(database, [key for _, key in new]), strict=True):
        atoms = smallest_cell(frame_of_search)
        parent, frame = key.split("/frame/")
        of, index = _place(parent)
        component = {"component": search.cell_range(index).component} if of == 0 else {}
        documents.append(
            StructureDocument(
                id=key,
                campaign=campaign.name,
                generation=context.generation,
                stage="frame",
                index=order,
                composition=composition_of(atoms),
                hash=structure_hash(atoms),
                atoms=pack_atoms(atoms),
                info={"relaxation": parent, "frame": int(frame), **component},
            )
        )
    save_structures(database, documents)


def smallest_cell(atoms: Atoms) -> Atoms:
    """Return a primitive cell: symmetric searches make multiples of one, and a reference pays for each copy."""
    from gapfactory.analysis.force_constants import oriented_primitive_cell

    try:
        return oriented_primitive_cell(atoms, symprec=_SYMPREC)
    except EvidenceError:  # no symmetry is found, so no smaller cell
        return atoms


def _place(relaxation: str) -> tuple[int, int]:
    """Return generation and index of a relaxation by its key."""
    _, generation, _, index = relaxation.rsplit("/", 3)
    return int(generation.removeprefix("g")), int(index)


def measure_ranking(context: TaskContext) -> dict[str, Any]:
    """Return what is known of a search after one of its generations, as the evidence of its assessment.

    Raises
    ------
    StateError
        Nothing is left to be ranked, or too much of a stage failed: the campaign is halted.
    """
    campaign, database, generation = context.campaign, context.database, context.generation
    settings = campaign.search_settings
    recipe = recipe_of(campaign, generation)
    before = {} if generation == 0 else _before(database, campaign, generation)
    found, failed = _candidates(database, campaign, recipe, before)
    _require_some(context, len(found), failed)
    last = generation == len(settings.ranking)
    following = None if last else settings.ranking[generation]
    pressure = rank_pressure(campaign, generation)
    most = max(settings.listed, 0 if following is None else following.most)
    rows = table(found, pressure_GPa=pressure, most=most, same=settings.same)
    for row in rows:
        row["before_eV_per_atom"] = before.get(row["start"] or row["id"], {}).get("above_eV_per_atom")
    if generation == 0:
        _store_nothing(context, found, failed)
    ranking = {
        "title": recipe.title,
        "pressure_GPa": pressure,
        "considered": len(found),
        "failed": failed,
        "rows": rows,
    }
    searches = diagnostic_searches(database, campaign, generation)
    return {**_NO_POTENTIAL, "headline": _headline(rows), "ranking": ranking, "searches": searches}


#: What assessments say of a potential, where there is none of the campaign's own.
_NO_POTENTIAL: dict[str, Any] = {
    "errors": [],
    "held_out": 0,
    "held_out_errors": [],
    "unusable": [],
    "phases": {},
    "scatter": None,
    "noise": None,
    "window": {"n": 0, "energy_rmse_eV": None},
    "levels": None,
    "energies": {},
    "crystals": {},
    "measured": {},
}


def _headline(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the lowest structure of each composition in words."""
    lowest = {
        f"lowest {row['composition']}": f"{row['space_group'] or 'no space group'}, {row['atoms']} atoms, "
        f"{row['enthalpy_eV_per_atom']:.4f} eV/atom, met {row['encounters']} times"
        for row in rows
        if row["above_eV_per_atom"] == 0.0
    }
    return {"distinct structures": len(rows), **lowest}


def _before(database: Database[Any], campaign: Campaign, generation: int) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in ranking_of(database, campaign.name, generation - 1)["rows"]}


def _candidates(
    database: Database[Any], campaign: Campaign, recipe: GenerationRecipe, before: dict[str, dict[str, Any]]
) -> tuple[list[Calculated], int]:
    """Return what may be ranked after a generation, and how many calculations failed.

    Raises
    ------
    StateError
        Something is not calculated yet.
    """
    if recipe.picks == "ranked" and not recipe.reference_relaxations:
        return _labelled(database, campaign, recipe.generation, before)
    starts: dict[int, str] = {}
    if recipe.picks == "ranked":
        starts = dict(enumerate(require_selection(database, campaign.name, recipe.generation)["train"]))
    wanted = len(starts) if starts else recipe.n_labelled
    found, failed, there = [], 0, 0
    fields = (
        "status", "n_frames", "numbers", "positions", "cells", "energies", "left_known_space", "uncertainty", "_id",
    )  # fmt: skip
    limit = None if recipe.relax is None else recipe.relax.uncertainty_limit
    for row in relaxations(database, campaign.name, recipe.generation, fields=fields):
        if row["index"] >= wanted:
            continue
        there += 1
        energy = float(unpack_array(row["energies"])[-1]) if row["n_frames"] else float("nan")
        if row["status"] == "failed" or in_unknown_space(row, limit) or energy != energy:
            failed += 1
            continue
        frame = row["n_frames"] - 1
        atoms, start = frame_atoms(row, frame), starts.get(row["index"], "")
        met = before.get(start, {}).get("encounters", 1)
        key = frame_id(row["_id"], frame)
        found.append(Calculated(key, atoms, energy / len(atoms), row["status"], met, start))
    if there != wanted:
        msg = (
            f"{wanted} relaxations of generation {recipe.generation} should be stored, {there} are; 'gapfactory "
            f"campaign resume {campaign.name}' runs their tasks again"
        )
        raise StateError(msg)
    return found, failed


def _labelled(
    database: Database[Any], campaign: Campaign, generation: int, before: dict[str, dict[str, Any]]
) -> tuple[list[Calculated], int]:
    found, failed = [], 0
    for entry in with_labels(database, campaign, pick_items(database, campaign, generation)):
        item, label = entry.item, entry.label
        if label is None:
            msg = (
                f"{item.id!r} has no label yet; 'gapfactory campaign resume {campaign.name}' runs its reference task "
                "again"
            )
            raise StateError(msg)
        if not label.usable_in(generation):
            failed += 1
            continue
        met = before.get(item.id, {}).get("encounters", 1)
        found.append(Calculated(item.id, item.atoms, label.energy / len(item.atoms), encounters=met))
    return found, failed


def _require_some(context: TaskContext, usable: int, failed: int) -> None:
    """Halt the campaign where nothing is left, or a stage of the ranking is below the quorum.

    Relaxations of random cells fail by their nature: of them one is enough.
    """
    campaign, generation = context.campaign, context.generation
    quorum = campaign.schedule.quorum if generation else 0.0
    if usable and usable >= quorum * (usable + failed) - 1e-9:
        return
    name = campaign.name
    what = f"{failed} of {usable + failed} calculations of generation {generation} failed"
    if generation == 0:
        remedy = "look at their reasons ('gapfactory campaign why') and at 'build' and 'relax'"
    else:
        remedy = (
            f"schedule.quorum is {quorum:g}. 'gapfactory campaign why {name}' lists them. Mend the cause, then "
            f"'gapfactory campaign retry {name} --run'; or accept fewer: lower schedule.quorum in the campaign file, "
            f"submit it again, then 'gapfactory campaign resume {name} --run'"
        )
    reason = f"{what}; {remedy}"
    set_state(context.database, name, CampaignState.HALTED, reason)
    raise StateError(reason)


def _store_nothing(context: TaskContext, found: Sequence[Calculated], failed: int) -> None:
    """Store that the search itself chooses nothing to be labelled, with what it had."""
    from gapfactory.select import SelectionReport

    counts = {"relaxations": len(found) + failed, "failed": failed}
    report = SelectionReport((), (), (), counts, ()).to_json()
    key, name = generation_id(context.campaign.name, 0), context.campaign.name
    save_selection(
        context.database,
        SelectionDocument(id=key, campaign=name, generation=0, train=[], test=[], report=report),
    )


def failed_relaxations(database: Database[Any], campaign: Campaign, *, most: int = 50) -> dict[str, Any]:
    """Return the relaxations of a search campaign that have not converged.

    Returns
    -------
    dict
        ``search``: how many of each status; ``listed``: ``id``, ``start``, ``status`` and ``reason`` of each; of the
        search only the first `most`.
    """
    if campaign.search is None:
        return {}
    query = {"campaign": campaign.name, "status": {"$ne": "converged"}}
    fields = {"status": 1, "reason": 1, "start": 1}
    counts = relaxation_counts(database, campaign.name, 0)
    counts.pop("converged", None)
    rows = [
        *database.relaxations.find({**query, "generation": 0}, fields).sort("index", 1).limit(most),
        *database.relaxations.find({**query, "generation": {"$gt": 0}}, fields).sort("_id", 1),
    ]
    listed = [
        {"id": row["_id"], "start": row.get("start", ""), "status": row["status"], "reason": row["reason"]}
        for row in rows
    ]
    return {"search": counts, "listed": listed}
