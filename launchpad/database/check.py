"""Is everything that is stored whole? Asked by `gapfactory db check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import GapFactoryError
from launchpad.database.campaigns import campaign_of
from launchpad.database.indexes import COLLECTIONS
from launchpad.database.packing import unpack_array
from launchpad.database.potentials import damaged_files

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["check_database"]


def check_database(database: Database[Any]) -> list[str]:
    """Return what is wrong, one line per finding; an empty list when everything is whole."""
    return [
        *_indexes(database),
        *_campaigns(database),
        *_selections(database),
        *_arrays(database),
        *_pointers(database),
        *_files(database),
        *_tombstones(database),
    ]


def _indexes(database: Database[Any]) -> list[str]:
    found = []
    present = set(database.list_collection_names())
    for name, indexes in COLLECTIONS.items():
        if name not in present:
            continue
        keys = {
            tuple(key for key, _ in index["key"]) for index in database[name].index_information().values()
        }
        found += [
            f"{name}: the index on {', '.join(index)} is missing" for index in indexes if index not in keys
        ]
    return found


def _campaigns(database: Database[Any]) -> list[str]:
    found = []
    for record in database.campaigns.find():
        try:
            campaign_of(record)
        except GapFactoryError as error:
            found.append(f"campaign {record['_id']!r}: its settings cannot be read by this version: {error}")
    return found


def _selections(database: Database[Any]) -> list[str]:
    found = []
    for selection in database.selections.find({}, {"train": 1, "test": 1, "noise": 1}):
        wanted = {*selection["train"], *selection["test"], *selection["noise"]}
        stored = {d["_id"] for d in database.structures.find({"_id": {"$in": sorted(wanted)}}, {"_id": 1})}
        if wanted - stored:
            found.append(
                f"selection {selection['_id']!r}: {len(wanted - stored)} chosen structures are not stored"
            )
    return found


def _arrays(database: Database[Any]) -> list[str]:
    found = []
    for label in database.labels.find({"status": "done"}, {"forces": 1, "atoms": 1}):
        try:
            if unpack_array(label["forces"]).shape != unpack_array(label["atoms"]["positions"]).shape:
                found.append(f"label {label['_id']!r}: forces and positions differ in shape")
        except GapFactoryError as error:
            found.append(f"label {label['_id']!r}: {error}")
    return found


def _pointers(database: Database[Any]) -> list[str]:
    """Find campaigns whose label is said to be somewhere where it is not."""
    found = []
    for own in database.labels.find({"status": {"$in": ["altered", "late"]}}, {"target": 1, "status": 1}):
        target = own["target"] if own["status"] == "altered" else own["_id"].rpartition("/")[0]
        if database.labels.find_one({"_id": target, "status": "done"}, {"_id": 1}) is None:
            found.append(f"label {own['_id']!r}: the label {target!r} that it points to is missing")
    return found


def _files(database: Database[Any]) -> list[str]:
    return [
        f"potential {potential['_id']!r}: file {name!r} is missing or damaged"
        for potential in database.potentials.find({}, {"files": 1, "pruned": 1})
        for name in damaged_files(database, potential)
    ]


def _tombstones(database: Database[Any]) -> list[str]:
    """Find what lost fields in a removal that nobody recorded, or whose record says that it was brought back."""
    known = {d["_id"]: d for d in database.removals.find({}, {"restored": 1, "state": 1})}
    found = []
    for name in ("relaxations", "structures", "launches", "labels", "potentials", "queue_journal"):
        for removal in database[name].distinct("pruned.in"):
            if removal not in known:
                found.append(
                    f"{name}: documents say that they were pruned in {removal!r}, which is not recorded"
                )
            elif known[removal].get("restored"):
                found.append(
                    f"{name}: documents of removal {removal!r} were not brought back; restore it again"
                )
    found += [
        f"removal {key!r} was cut short: 'gapfactory db prune --apply' completes it"
        for key, record in known.items()
        if record["state"] == "begun"
    ]
    return found
