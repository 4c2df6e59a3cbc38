"""Choose the structures that are worth a reference calculation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fireworks import explicit_serialize

from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.database.documents import SelectionDocument, generation_id
from launchpad.database.packing import unpack_array, unpack_atoms
from launchpad.database.results import save_selection
from launchpad.own_data import chosen_data
from launchpad.ranking import take_ranked
from launchpad.robustness import take_dynamics
from launchpad.tasks.base import CampaignTask, TaskContext
from launchpad.tasks.ends import take_ends
from launchpad.tasks.frames import take_frames
from launchpad.tasks.pool import cells_of, frame_id, frames_of, relaxations_of, store_frames
from launchpad.tasks.snapshots import take_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.campaign import Campaign
    from gapfactory.select import SelectionReport, SelectSettings, TrajectorySummary

__all__ = ["SelectTask"]


@explicit_serialize
class SelectTask(CampaignTask):
    """Choose what a generation labels, by its recipe, and store the chosen structures."""

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Choose from the cells where none are relaxed, else from the relaxations."""
        campaign, generation = context.campaign, context.generation
        key = generation_id(campaign.name, generation)
        if context.database.selections.find_one({"_id": key}, {"_id": 1}):
            return {"reused": 1}
        from gapfactory.select import SelectionReport

        began = time.monotonic()
        recipe = recipe_of(campaign, generation)
        train, test = chosen_data(campaign, generation)
        if recipe.picks == "data":
            report = SelectionReport((), (), (), {}, ("nothing but the labels that the campaign is given",))
        elif recipe.picks == "frames":
            report = take_frames(context, recipe)
        elif recipe.picks == "ends":
            report = take_ends(context, recipe)
        elif recipe.picks == "dynamics":
            report = take_dynamics(context, recipe)
        elif recipe.picks == "ranked":
            report = take_ranked(context, recipe)
        elif recipe.picks != "funnel":
            report = take_all(context, recipe)
        else:
            report = _initial(context) if recipe.relax is None else _funnel(context)
        save_selection(
            context.database,
            SelectionDocument(
                id=key,
                campaign=campaign.name,
                generation=generation,
                train=[*report.ids("training"), *train],
                test=[*report.ids("held-out"), *test],
                noise=list(report.noise),
                report=report.to_json(),
                seconds=round(time.monotonic() - began, 3),
            ),
        )
        return {
            "train": len(report.ids("training")) + len(train),
            "test": len(report.ids("held-out")) + len(test),
            "notes": list(report.notes),
        }


def _settings(campaign: Campaign, generation: int) -> SelectSettings:
    """Return the selection settings with the sizes that this generation's share of the budget allows."""
    recipe = recipe_of(campaign, generation)
    return campaign.select.model_copy(
        update={
            "labels_per_generation": recipe.train,
            "held_out_per_generation": recipe.test,
            "noise_cells": min(recipe.noise, recipe.train),
        }
    )


def _weights(campaign: Campaign) -> dict[str, float] | None:
    """Return the share of each composition group in the labels, or None where the file gives one formula.

    Formulas of equal reduced formula, such as TiO2 and Ti2O4, are one group: their weights add up.
    """
    if len(campaign.formulas) == 1:
        return None
    from ase import Atoms

    from gapfactory.structures import composition_of

    weights: dict[str, float] = {}
    for formula, weight in campaign.formulas:
        group = composition_of(Atoms("".join(symbol * count for symbol, count in formula.items())))
        weights[group] = weights.get(group, 0.0) + weight
    return weights


def _initial(context: TaskContext) -> SelectionReport:
    from gapfactory.descriptors import average_soap
    from gapfactory.select import select_initial

    campaign = context.campaign
    cells = cells_of(context)
    vectors = average_soap(
        [unpack_atoms(cell["atoms"]) for cell in cells],
        species=campaign.numbers,
        settings=campaign.similarity,
    )
    return select_initial(
        [cell["_id"] for cell in cells],
        vectors,
        settings=_settings(campaign, 0),
        zeta=campaign.similarity.zeta,
        streams=lambda k: context.rng(Stage.SELECT, k),
        groups=[cell["composition"] for cell in cells],
        weights=_weights(campaign),
    )


def _summary(relaxation: dict[str, Any]) -> TrajectorySummary:
    import numpy as np

    from gapfactory.select import TrajectorySummary

    atoms = len(unpack_array(relaxation["numbers"]))
    return TrajectorySummary(
        id=relaxation["_id"],
        group=relaxation["composition"],
        converged=relaxation["status"] == "converged",
        frames=tuple(frame_id(relaxation["_id"], k) for k in range(relaxation["n_frames"])),
        enthalpies=unpack_array(relaxation["enthalpies"]) / atoms,
        energies=unpack_array(relaxation["energies"]) / atoms,
        volumes=np.abs(np.linalg.det(unpack_array(relaxation["cells"]))) / atoms,
        # relaxations of earlier versions do not say
        left_known_space=relaxation.get("left_known_space", False),
    )


def _funnel(context: TaskContext) -> SelectionReport:
    from gapfactory.select import Funnel

    campaign, generation, database = context.campaign, context.generation, context.database
    small = (
        "composition", "status", "n_frames", "numbers", "enthalpies", "energies", "cells", "left_known_space", "_id",
    )  # fmt: skip
    summaries = [_summary(r) for r in relaxations_of(context, small)]

    def structures(ids: Sequence[str]) -> list[Atoms]:
        return frames_of(database, ids)

    funnel = Funnel(
        _settings(campaign, generation), campaign.similarity, campaign.numbers, _weights(campaign)
    )
    report = funnel.run(
        summaries, structures, generation=generation, streams=lambda k: context.rng(Stage.SELECT, k)
    )
    store_frames(context, report.ids(), {})
    return report
