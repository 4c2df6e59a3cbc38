"""The choice of the 2018 protocol: every cell, or snapshots of every relaxation, and distorted crystals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.campaign.crystals import crystals_of
from gapfactory.seeds import Stage
from launchpad.database.documents import StructureDocument, structure_id
from launchpad.database.packing import pack_atoms, unpack_array
from launchpad.database.results import save_structures
from launchpad.tasks.pool import cells_of, frame_id, relaxations_of, store_frames

if TYPE_CHECKING:
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.select import SelectionReport
    from launchpad.tasks.base import TaskContext

__all__ = ["take_all"]


def take_all(context: TaskContext, recipe: GenerationRecipe) -> SelectionReport:
    """Choose every cell or snapshot of the generation, and make its distorted crystals.

    Crystals in the training set of this generation are training picks, the others are held out until they join.
    """
    from gapfactory.select import Pick, SelectionReport
    from gapfactory.select.labels import noise_picks

    found, counts, notes = _cells(context) if recipe.relax is None else _snapshots(context, recipe)
    crystals = _store_crystals(context, recipe)
    training = [*found, *(c for c in crystals if c[2] in recipe.trained_crystals)]
    later = [c for c in crystals if c[2] not in recipe.trained_crystals]
    # no leverage: nothing was left out
    picks = [Pick(key, "training", group, order, 0.0) for order, (key, group, _) in enumerate(training)]
    picks += [Pick(key, "held-out", group, order, 0.0) for order, (key, group, _) in enumerate(later)]
    plain = {key for key, _, _ in found}
    settings = context.campaign.select.model_copy(update={"noise_cells": recipe.noise})
    noise = noise_picks(
        [pick for pick in picks if pick.id in plain], settings, lambda k: context.rng(Stage.SELECT, k)
    )
    return SelectionReport(tuple(picks), noise, (), counts | {"crystals": len(crystals)}, notes)


#: Key, composition and, of a crystal, the name of its group.
_Found = tuple[str, str, str]


def _cells(context: TaskContext) -> tuple[list[_Found], dict[str, int], tuple[str, ...]]:
    found = [(cell["_id"], cell["composition"], "") for cell in cells_of(context)]
    return found, {"cells": len(found)}, ()


def _snapshots(
    context: TaskContext, recipe: GenerationRecipe
) -> tuple[list[_Found], dict[str, int], tuple[str, ...]]:
    """Store and return the snapshots of the generation; a relaxation that failed gives those that it came to."""
    found: list[_Found] = []
    more: dict[str, dict[str, Any]] = {}
    counts = {"relaxations": 0, "converged": 0, "failed": 0, "ends": 0}
    for relaxation in relaxations_of(context, ("composition", "status", "steps", "_id")):
        counts["relaxations"] += 1
        status = relaxation["status"]
        if status in counts:
            counts[status] += 1
        steps = unpack_array(relaxation["steps"]).tolist()
        for frame, snapshot in snapshots(steps, status, recipe.early_steps):
            key = frame_id(relaxation["_id"], frame)
            found.append((key, relaxation["composition"], ""))
            more[key] = {"step": steps[frame], "snapshot": snapshot}
            counts["ends"] += snapshot == "end"
    store_frames(context, [key for key, _, _ in found], more)
    least = recipe.n_labelled * (len(recipe.early_steps) + 1) - len(found)
    notes = (f"{least} snapshots fewer than planned: relaxations failed or ended early",) if least else ()
    return found, counts, notes


def snapshots(steps: list[int], status: str, early: tuple[int, ...]) -> list[tuple[int, str]]:
    """Return the frames of a relaxation that are taken, each with its name.

    Parameters
    ----------
    steps
        Optimiser step of each kept frame, ascending.
    status
        How the relaxation ended. One that failed has no end worth a label.
    early
        Optimiser steps after which a structure is taken. The end is taken once: a relaxation that ended at or before
        such a step has no early structure there.
    """
    end = None if status == "failed" or not steps else len(steps) - 1
    found = [
        (steps.index(step), f"step {step}") for step in early if step in steps and steps.index(step) != end
    ]
    return found if end is None else [*found, (end, "end")]


def _store_crystals(context: TaskContext, recipe: GenerationRecipe) -> list[_Found]:
    """Store and return the distorted crystals of the generation, group by group."""
    from gapfactory.build.distorted import distorted_crystal
    from gapfactory.structures import composition_of, structure_hash

    if not recipe.crystals:
        return []
    campaign = context.campaign
    documents: list[StructureDocument] = []
    for name in recipe.crystals:
        group, whole = campaign.crystals[name], crystals_of(campaign, name)
        # which one it is of: the phase, or its number among those of the file
        phase = None if group.phase is None else campaign.crystal_phase(name)
        for number in range(group.count):
            index, model = len(documents), number % len(whole)
            rng = context.rng(Stage.CRYSTAL, index)
            atoms = distorted_crystal(whole[model], rng, group.distortion).atoms
            documents.append(
                StructureDocument(
                    id=structure_id(campaign.name, context.generation, "distorted", index),
                    campaign=campaign.name,
                    generation=context.generation,
                    stage="distorted",
                    index=index,
                    composition=composition_of(atoms),
                    hash=structure_hash(atoms),
                    atoms=pack_atoms(atoms),
                    info={"crystal": name, "number": number}
                    | ({"model": model} if phase is None else {"phase": phase}),
                )
            )
    save_structures(context.database, documents)
    return [(document.id, document.composition, document.info["crystal"]) for document in documents]
