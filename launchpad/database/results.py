"""Store and read what tasks produce. Every write is an upsert under a natural key, so repeating one harms nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError
from launchpad.database.documents import generation_id
from launchpad.database.packing import unpack_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ase import Atoms
    from pymongo.database import Database

    from launchpad.database.documents import (
        MetricsDocument,
        RelaxationDocument,
        SelectionDocument,
        StructureDocument,
    )

__all__ = [
    "existing_indices",
    "frame_atoms",
    "in_unknown_space",
    "metrics_of",
    "relaxations",
    "require_selection",
    "save_metrics",
    "save_relaxation",
    "save_selection",
    "save_structures",
    "structure_documents",
    "structures_by_id",
]


def _upsert(database: Database[Any], collection: str, document: dict[str, Any]) -> None:
    database[collection].replace_one({"_id": document["_id"]}, document, upsert=True)


def save_structures(database: Database[Any], documents: Iterable[StructureDocument]) -> None:
    """Store structures under their natural keys; those that are there already stay as they are."""
    from pymongo import UpdateOne

    operations = []
    for document in documents:
        fields = document.to_bson()
        key = fields.pop("_id")
        operations.append(UpdateOne({"_id": key}, {"$setOnInsert": fields}, upsert=True))
    if operations:
        database.structures.bulk_write(operations, ordered=False)


def existing_indices(
    database: Database[Any],
    collection: str,
    campaign: str,
    generation: int,
    start: int,
    stop: int,
    **equal: Any,
) -> set[int]:
    """Return which indices ``start <= i < stop`` are stored already."""
    query = {"campaign": campaign, "generation": generation, "index": {"$gte": start, "$lt": stop}, **equal}
    return {document["index"] for document in database[collection].find(query, {"index": 1})}


def structure_documents(
    database: Database[Any],
    campaign: str,
    generation: int,
    stage: str,
    start: int | None = None,
    stop: int | None = None,
) -> list[dict[str, Any]]:
    """Return the structures of one stage, ordered by index."""
    query: dict[str, Any] = {"campaign": campaign, "generation": generation, "stage": stage}
    if start is not None or stop is not None:
        query["index"] = {"$gte": start or 0, "$lt": stop if stop is not None else 2**31}
    return sorted(database.structures.find(query), key=lambda document: document["index"])


def structures_by_id(database: Database[Any], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the structure documents of these ids.

    Raises
    ------
    NotFoundError
        One of them is not stored.
    """
    found = {document["_id"]: document for document in database.structures.find({"_id": {"$in": list(ids)}})}
    missing = [key for key in ids if key not in found]
    if missing:
        msg = f"{len(missing)} structures are not in the database, the first is {missing[0]!r}"
        raise NotFoundError(msg)
    return found


def save_relaxation(database: Database[Any], document: RelaxationDocument) -> None:
    """Store one relaxation."""
    _upsert(database, "relaxations", document.to_bson())


def relaxations(
    database: Database[Any], campaign: str, generation: int, *, fields: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the relaxations of one generation, ordered by index.

    Parameters
    ----------
    database, campaign, generation
        Where to look.
    fields
        Only these fields, or all.
    """
    projection = dict.fromkeys((*fields, "index"), 1) if fields is not None else None
    cursor = database.relaxations.find({"campaign": campaign, "generation": generation}, projection)
    yield from cursor.sort("index", 1)


def frame_atoms(relaxation: dict[str, Any], frame: int) -> Atoms:
    """Return one frame of a stored trajectory."""
    from ase import Atoms

    return Atoms(
        numbers=unpack_array(relaxation["numbers"]),
        positions=unpack_array(relaxation["positions"])[frame],
        cell=unpack_array(relaxation["cells"])[frame],
        pbc=True,
    )


def in_unknown_space(relaxation: Mapping[str, Any], limit: float | None) -> bool:
    """Return whether a relaxation ended where its potential is less certain than it may be.

    One that begins in unknown space may go on there (`RelaxSettings.max_uncertainty`), and even converge: the
    structure is worth a label, but what the potential says of it is not believed.

    Parameters
    ----------
    relaxation
        With ``left_known_space`` and ``uncertainty``, which earlier versions did not store.
    limit
        `RelaxSettings.uncertainty_limit`.
    """
    uncertainty = relaxation.get("uncertainty")
    beyond = limit is not None and uncertainty is not None and uncertainty > limit
    return beyond or bool(relaxation.get("left_known_space"))


def save_selection(database: Database[Any], document: SelectionDocument) -> None:
    """Store what a generation's funnel chose."""
    _upsert(database, "selections", document.to_bson())


def require_selection(database: Database[Any], campaign: str, generation: int) -> dict[str, Any]:
    """Return what a generation's funnel chose.

    Raises
    ------
    NotFoundError
        Nothing has been selected yet.
    """
    document = database.selections.find_one({"_id": generation_id(campaign, generation)})
    if document is None:
        msg = f"campaign {campaign!r} has selected nothing in generation {generation} yet"
        raise NotFoundError(msg)
    return dict(document)


def save_metrics(database: Database[Any], document: MetricsDocument) -> None:
    """Store what an assessment measured."""
    _upsert(database, "metrics", document.to_bson())


def metrics_of(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return the assessments of a campaign, ordered by generation."""
    return list(database.metrics.find({"campaign": campaign}).sort("generation", 1))
