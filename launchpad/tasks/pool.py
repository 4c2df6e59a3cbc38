"""What a generation may choose from: its cells, its relaxations and their frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError
from gapfactory.protocols.planner import recipe_of
from launchpad.database.documents import StructureDocument
from launchpad.database.packing import pack_atoms
from launchpad.database.results import frame_atoms, relaxations, save_structures, structure_documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from pymongo.database import Database

    from launchpad.tasks.base import TaskContext

__all__ = ["cells_of", "frame_id", "frames_of", "relaxations_of", "store_frames"]


def cells_of(context: TaskContext) -> list[dict[str, Any]]:
    """Return the cells of the generation, ordered by index.

    Raises
    ------
    NotFoundError
        Some are not stored.
    """
    wanted = recipe_of(context.campaign, context.generation).n_cells
    cells = structure_documents(context.database, context.campaign.name, context.generation, "cell")
    if len(cells) != wanted:
        msg = f"{wanted} cells should be stored, {len(cells)} are; rerun the build tasks"
        raise NotFoundError(msg)
    return cells


def relaxations_of(context: TaskContext, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Return these fields of the relaxations of the generation that may be labelled, ordered by index.

    Raises
    ------
    NotFoundError
        Some are not stored.
    """
    wanted = recipe_of(context.campaign, context.generation).n_labelled
    stored = relaxations(context.database, context.campaign.name, context.generation, fields=fields)
    found = [relaxation for relaxation in stored if relaxation["index"] < wanted]
    if len(found) != wanted:
        msg = f"{wanted} relaxations should be stored, {len(found)} are; rerun the relax tasks"
        raise NotFoundError(msg)
    return found


def frame_id(relaxation: str, frame: int) -> str:
    """Return the natural key of a frame of a relaxation."""
    return f"{relaxation}/frame/{frame:04d}"


def frames_of(database: Database[Any], ids: Sequence[str]) -> list[Atoms]:
    """Fetch frames by id, each trajectory once."""
    parents = sorted({key.split("/frame/")[0] for key in ids})
    stored: dict[str, dict[str, Any]] = {}
    for start in range(0, len(parents), 200):
        for document in database.relaxations.find(
            {"_id": {"$in": parents[start : start + 200]}}, {"numbers": 1, "positions": 1, "cells": 1}
        ):
            stored[document["_id"]] = document
    return [
        frame_atoms(stored[parent], int(frame)) for parent, frame in (key.split("/frame/") for key in ids)
    ]


def store_frames(context: TaskContext, ids: Sequence[str], more: Mapping[str, dict[str, Any]]) -> None:
    """Store chosen frames as structures; their ids are those of the frames they came from.

    Parameters
    ----------
    context
        Of the task.
    ids
        The frames in the order of choice.
    more
        What else is to be known of a frame, by id.
    """
    from gapfactory.structures import composition_of, structure_hash

    recipe = recipe_of(context.campaign, context.generation)
    documents = []
    for order, (key, atoms) in enumerate(zip(ids, frames_of(context.database, ids), strict=True)):
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
                info={
                    "relaxation": parent,
                    "frame": int(frame),
                    "component": recipe.cell_range(int(parent.rsplit("/", 1)[1])).component,
                    **more.get(key, {}),
                },
            )
        )
    save_structures(context.database, documents)
