"""Choose the structures that are worth a reference calculation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fireworks import explicit_serialize

from gapfactory.errors import NotFoundError
from gapfactory.protocols.de_novo import picks_of
from gapfactory.seeds import Stage
from launchpad.database.documents import SelectionDocument, StructureDocument, generation_id
from launchpad.database.packing import pack_atoms, unpack_array, unpack_atoms
from launchpad.database.results import (
    frame_atoms,
    relaxations,
    save_selection,
    save_structures,
    structure_documents,
)
from launchpad.tasks.base import CampaignTask, TaskContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.campaign import Campaign
    from gapfactory.select import SelectionReport, SelectSettings, TrajectorySummary

__all__ = ["SelectTask"]


@explicit_serialize
class SelectTask(CampaignTask):
    """Run the funnel of a generation and store the chosen structures."""

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Choose from the cells of generation 0, from the relaxations of later ones."""
        campaign, generation = context.campaign, context.generation
        key = generation_id(campaign.name, generation)
        if context.database.selections.find_one({"_id": key}, {"_id": 1}):
            return {"reused": 1}
        began = time.monotonic()
        report = _initial(context) if generation == 0 else _funnel(context)
        save_selection(
            context.database,
            SelectionDocument(
                id=key,
                campaign=campaign.name,
                generation=generation,
                train=report.ids("training"),
                test=report.ids("held-out"),
                noise=list(report.noise),
                report=report.to_json(),
                seconds=round(time.monotonic() - began, 3),
            ),
        )
        return {
            "train": len(report.ids("training")),
            "test": len(report.ids("held-out")),
            "notes": list(report.notes),
        }


def _settings(campaign: Campaign, generation: int) -> SelectSettings:
    """Return the selection settings with the sizes that this generation's share of the budget allows."""
    train, test = picks_of(campaign, generation)
    noise = campaign.select.noise_cells if generation == 0 else 0
    return campaign.select.model_copy(
        update={
            "labels_per_generation": train,
            "held_out_per_generation": test,
            "noise_cells": min(noise, train),
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
    cells = structure_documents(context.database, campaign.name, 0, "cell")
    if len(cells) != campaign.cells_of(0):
        msg = f"{campaign.cells_of(0)} cells should be stored, {len(cells)} are; rerun the build tasks"
        raise NotFoundError(msg)
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


def _frame_id(relaxation: str, frame: int) -> str:
    return f"{relaxation}/frame/{frame:04d}"


def _summary(relaxation: dict[str, Any]) -> TrajectorySummary:
    import numpy as np

    from gapfactory.select import TrajectorySummary

    atoms = len(unpack_array(relaxation["numbers"]))
    return TrajectorySummary(
        id=relaxation["_id"],
        group=relaxation["composition"],
        converged=relaxation["status"] == "converged",
        frames=tuple(_frame_id(relaxation["_id"], k) for k in range(relaxation["n_frames"])),
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
    summaries = [_summary(r) for r in relaxations(database, campaign.name, generation, fields=small)]
    if len(summaries) != campaign.cells_of(generation):
        msg = (
            f"{campaign.cells_of(generation)} relaxations should be stored, {len(summaries)} are; rerun "
            "the relax tasks"
        )
        raise NotFoundError(msg)

    def structures(ids: Sequence[str]) -> list[Atoms]:
        return _frames(context, ids)

    funnel = Funnel(
        _settings(campaign, generation), campaign.similarity, campaign.numbers, _weights(campaign)
    )
    report = funnel.run(
        summaries, structures, generation=generation, streams=lambda k: context.rng(Stage.SELECT, k)
    )
    return _store_frames(context, report)


def _frames(context: TaskContext, ids: Sequence[str]) -> list[Atoms]:
    """Fetch frames by id, each trajectory once."""
    parents = sorted({key.split("/frame/")[0] for key in ids})
    stored: dict[str, dict[str, Any]] = {}
    for start in range(0, len(parents), 200):
        for document in context.database.relaxations.find(
            {"_id": {"$in": parents[start : start + 200]}}, {"numbers": 1, "positions": 1, "cells": 1}
        ):
            stored[document["_id"]] = document
    return [
        frame_atoms(stored[parent], int(frame)) for parent, frame in (key.split("/frame/") for key in ids)
    ]


def _store_frames(context: TaskContext, report: SelectionReport) -> SelectionReport:
    """Store the chosen frames as structures; their ids are those of the frames they came from."""
    from gapfactory.structures import composition_of, structure_hash

    ids = report.ids()
    documents = []
    for order, (key, atoms) in enumerate(zip(ids, _frames(context, ids), strict=True)):
        parent, frame = key.split("/frame/")
        documents.append(
            StructureDocument(
                id=key,
                campaign=context.campaign.name,
                generation=context.generation,
                stage="frame",
                index=order,
                composition=composition_of(atoms),
                hash=structure_hash(atoms),
                atoms=pack_atoms(atoms),
                info={"relaxation": parent, "frame": int(frame)},
            )
        )
    save_structures(context.database, documents)
    return report
