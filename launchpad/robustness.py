"""Rounds of robustness: the crystal that runs of molecular dynamics begin with, and the frames that are labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError, NotFoundError, StateError
from launchpad.database.documents import StructureDocument, structure_id
from launchpad.database.packing import pack_atoms, unpack_array, unpack_atoms
from launchpad.tasks.pool import frame_id, frames_of, relaxations_of, store_frames

if TYPE_CHECKING:
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import CellRange, GenerationRecipe
    from gapfactory.select import SelectionReport
    from gapfactory.select.report import Purpose
    from launchpad.tasks.base import TaskContext

__all__ = ["start_document", "starting_crystal", "take_dynamics"]


def starting_crystal(database: Database[Any], campaign: Campaign, generation: int) -> dict[str, Any]:
    """Return the most stable crystal that the reference knows at its volume of lowest energy, as plain data.

    It is kept with the assessment of a generation, where the cells of the next round find it.
    """
    from launchpad.assessment import reference_curve
    from launchpad.stability import most_stable

    try:
        crystal, name, energy, is_phase = most_stable(database, campaign, generation)
    except EvidenceError as error:
        return {"name": "", "reason": str(error)}
    crystal = crystal.copy()
    crystal.calc = None
    curve = reference_curve(database, campaign, name) if is_phase else None
    if curve is not None and len(curve.energies):
        volume = float(curve.volumes[int(np.argmin(curve.energies))]) * len(crystal)
        crystal.set_cell(
            crystal.cell.array * (volume / crystal.get_volume()) ** (1.0 / 3.0), scale_atoms=True
        )
    return {"name": name, "energy_per_atom": energy, "atoms": pack_atoms(crystal)}


def _crystal_before(database: Database[Any], campaign: str, generation: int) -> dict[str, Any]:
    """Return what `starting_crystal` found in the last assessment before a generation.

    Raises
    ------
    NotFoundError
        There is none to begin with.
    """
    stored = database.metrics.find_one(
        {"campaign": campaign, "generation": {"$lt": generation}},
        {"generation": 1, "evidence.start": 1},
        sort=[("generation", -1)],
    )
    found: dict[str, Any] = ((stored or {}).get("evidence") or {}).get("start") or {}
    if not found.get("name"):
        why = found.get("reason", "no assessment before it has one")
        msg = f"generation {generation} has no crystal to run molecular dynamics of: {why}"
        raise NotFoundError(msg)
    return found


def start_document(
    context: TaskContext, part: CellRange, index: int, rng: np.random.Generator
) -> StructureDocument:
    """Return the cell that run number `index` of a round begins with.

    Raises
    ------
    NotFoundError
        No crystal is known to make it of.
    StateError
        The range makes random cells.
    """
    from gapfactory.build.starts import starting_cell
    from gapfactory.structures import composition_of, structure_hash

    if part.made_of is None:
        msg = f"component {part.component!r} makes random cells, not cells of a crystal"
        raise StateError(msg)
    campaign, generation = context.campaign, context.generation
    known = _crystal_before(context.database, campaign.name, generation)
    crystal = unpack_atoms(known["atoms"])
    atoms = starting_cell(crystal, part.made_of, index - part.start, rng)
    return StructureDocument(
        id=structure_id(campaign.name, generation, "cell", index),
        campaign=campaign.name,
        generation=generation,
        stage="cell",
        index=index,
        composition=composition_of(atoms),
        hash=structure_hash(atoms),
        atoms=pack_atoms(atoms),
        info={"component": part.component, "crystal": known["name"]},
    )


def take_dynamics(context: TaskContext, recipe: GenerationRecipe) -> SelectionReport:
    """Choose frames of the runs: up to half where runs failed or left known space, the others by leverage."""
    from gapfactory.descriptors import average_soap
    from gapfactory.seeds import Stage
    from gapfactory.select import SelectionReport
    from gapfactory.select.labels import PER_GROUP, Pool, choose_labels, shortfall

    campaign = context.campaign
    fields = ("status", "n_frames", "energies", "numbers", "left_known_space", "_id")
    urgent: list[tuple[str, float, str]] = []
    others: list[tuple[str, float, str]] = []
    runs = list(relaxations_of(context, fields))
    for run in runs:
        values = unpack_array(run["energies"]) / len(unpack_array(run["numbers"]))
        rows = [(frame_id(run["_id"], k), float(values[k]), run["_id"]) for k in range(run["n_frames"])]
        stopped = run["status"] == "failed" or run.get("left_known_space", False)
        if stopped and rows:
            urgent.append(rows.pop())
        others += rows
    half = min(len(urgent), -(-recipe.train // 2))
    picks, stages, notes = [], [], []
    wanted: tuple[tuple[list[tuple[str, float, str]], dict[Purpose, int]], ...] = (
        (urgent, {"training": half, "held-out": 0}),
        (others, {"training": recipe.train - half, "held-out": recipe.test}),
    )
    for number, (pool, sizes) in enumerate(wanted):
        kept = sorted(row for row in pool if np.isfinite(row[1]))
        if not kept:
            continue
        ids = [row[0] for row in kept]
        vectors = average_soap(
            frames_of(context.database, ids), species=campaign.numbers, settings=campaign.similarity
        )
        found, done, said = choose_labels(
            Pool(ids, np.array([row[1] for row in kept]), [row[2] for row in kept]),
            ids,
            vectors,
            group=("stopped", "on the way")[number],
            sizes=sizes,
            settings=campaign.select,
            zeta=campaign.similarity.zeta,
            streams=lambda k: context.rng(Stage.SELECT, k),
            base=number * PER_GROUP,
            cores=1,
        )
        picks += found
        stages += done
        notes += said
    counts = {
        "runs": len(runs),
        "failed": sum(run["status"] == "failed" for run in runs),
        "left known space": sum(bool(run.get("left_known_space")) for run in runs),
        "frames": len(urgent) + len(others),
    }
    report = SelectionReport(tuple(picks), (), tuple(stages), counts, tuple(notes + shortfall(stages)))
    stopped_at = {row[0] for row in urgent}
    store_frames(
        context,
        report.ids(),
        {key: {"run": "stopped" if key in stopped_at else "on the way"} for key in report.ids()},
    )
    return report
