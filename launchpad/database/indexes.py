"""The indexes of our collections, made at start; making them again costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["COLLECTIONS", "ensure_indexes", "index_collection"]

_TASK_FILTERS = ((), ("spec.campaign",), ("spec.generation",), ("spec.campaign", "spec.generation"))

#: Collection -> compound indexes, each a tuple of ascending keys.
COLLECTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "campaigns": (("state",), ("created",)),
    "structures": (
        ("campaign", "generation", "stage", "index"),
        ("campaign", "generation", "stage", "composition", "_id"),
        ("hash",),
    ),
    "relaxations": (
        ("campaign", "generation", "index"),
        ("campaign", "generation", "status"),
        ("campaign", "generation", "status", "composition", "_id"),
        ("campaign", "generation", "status", "composition", "final_energy_per_atom", "_id"),
    ),
    "anneals": (("campaign", "generation", "index"),),
    # each filter of the table with each of its orders: purpose and label are named or spread
    "dashboard_rows": tuple(
        ("campaign", *one, "purpose", "label", order, "_id")
        for order in ("rank", "energy", "force")
        for one in ((), ("generation",), ("fault",), ("composition",))
    ),
    "dashboard_results": (("asked",),),
    "selections": (("campaign", "generation"),),
    "labels": (
        ("structure_hash",),
        ("status",),
        ("campaign", "status", "fault"),
        ("campaign", "status", "attempts"),
    ),
    "label_claims": (("token",),),
    "curves": (("campaign",),),
    "curve_points": (("curve",), ("campaign", "status")),
    "networks": (("campaign", "generation", "index"),),
    "potentials": (("campaign", "generation"), ("digest",)),
    "metrics": (("campaign", "generation"),),
    "vibrations": (("campaign", "parent"),),
    "notices": (("state", "target", "due"), ("key",)),
    # each filter of the table of tasks in the order of their numbers: state and kind are named or spread
    "fireworks": (
        *((*one, "state", "spec._category", "fw_id") for one in _TASK_FILTERS),
        ("name", "_id"),
        # which ready task is so the longest
        ("state", "updated_on"),
    ),
}


def ensure_indexes(database: Database[Any]) -> None:
    """Create every index that is missing; an empty database is given the version of this program."""
    from launchpad.database.migrations import mark_new

    mark_new(database)
    for name in COLLECTIONS:
        index_collection(database, name)


def index_collection(database: Database[Any], name: str) -> None:
    """Create the indexes of one collection that are missing."""
    for keys in COLLECTIONS[name]:
        database[name].create_index([(key, 1) for key in keys])
