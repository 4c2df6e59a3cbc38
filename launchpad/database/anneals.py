"""Where anneals stand: one document for each that is under way, exact to the last bit."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from launchpad.database.documents import AnnealDocument, structure_id
from launchpad.database.packing import pack_array, unpack_array

if TYPE_CHECKING:
    from pymongo.database import Database

    from gapfactory.search.anneal import AnnealState
    from gapfactory.search.anneal_search import Checkpoint
    from gapfactory.search.trajectory import Frame, Trajectory

__all__ = ["checkpoints", "forget_anneals", "save_checkpoint"]


def save_checkpoint(
    database: Database[Any], campaign: str, generation: int, index: int, checkpoint: Checkpoint
) -> None:
    """Store where an anneal stands; an earlier place is replaced."""
    document = AnnealDocument(
        id=structure_id(campaign, generation, "anneal", index),
        campaign=campaign,
        generation=generation,
        index=index,
        step=checkpoint.state.step,
        relaxed=_packed(checkpoint.relaxed),
        state=_packed(checkpoint.state),
    )
    database.anneals.replace_one({"_id": document.id}, document.to_bson(), upsert=True)


def checkpoints(
    database: Database[Any], campaign: str, generation: int, start: int, stop: int
) -> dict[int, Checkpoint]:
    """Return where the anneals of the cells ``start <= i < stop`` stand, by index."""
    from gapfactory.search.anneal import AnnealState
    from gapfactory.search.anneal_search import Checkpoint
    from gapfactory.search.trajectory import Trajectory

    return {
        document["index"]: Checkpoint(
            Trajectory(**_unpacked(document["relaxed"])),
            AnnealState(**_unpacked(document["state"])),
        )
        for document in database.anneals.find(
            {"campaign": campaign, "generation": generation, "index": {"$gte": start, "$lt": stop}}
        )
    }


def forget_anneals(database: Database[Any], campaign: str, generation: int, index: int | None = None) -> None:
    """Remove where the anneal of a cell stood, or of all cells of a generation: their relaxations are stored."""
    of = {} if index is None else {"index": index}
    database.anneals.delete_many({"campaign": campaign, "generation": generation, **of})


def _packed(value: Trajectory | AnnealState) -> dict[str, Any]:
    """Return the fields of a dataclass, arrays packed."""
    found: dict[str, Any] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if isinstance(content, np.ndarray):
            content = pack_array(content, "i8" if content.dtype.kind == "i" else "f8")
        elif field.name == "frames":
            content = [_packed_frame(frame) for frame in content]
        elif isinstance(content, tuple):
            content = list(content)
        found[field.name] = content
    return found


def _packed_frame(frame: Frame) -> dict[str, Any]:
    arrays = {"positions": pack_array(frame.positions), "cell": pack_array(frame.cell)}
    return {**frame._asdict(), **arrays}


def _unpacked(stored: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that `_packed` packed."""
    from gapfactory.search.trajectory import Frame

    found: dict[str, Any] = {}
    for name, content in stored.items():
        if name == "frames":
            found[name] = tuple(Frame(**_unpacked(frame)) for frame in content)
        elif isinstance(content, dict):
            found[name] = unpack_array(content)
        else:
            found[name] = tuple(content) if isinstance(content, list) else content
    return found
