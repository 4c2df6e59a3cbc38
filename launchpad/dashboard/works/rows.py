"""The rows of the table of chosen structures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.dashboard.derived import FORM, ROWS
from launchpad.dashboard.works import Made

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.works import Tell
    from launchpad.database.dataset import Item
    from launchpad.database.labels import StoredLabel

__all__ = ["write_rows"]

#: Rows per write.
_BATCH = 1000
#: What selections call it -> what people do.
_PURPOSES = {"train": "training", "test": "held-out"}


def write_rows(database: Database[Any], tell: Tell, campaign: str) -> Made:
    """Write the rows of what a campaign chose to be labelled; what is labelled already stays as it is.

    Returns
    -------
    Made
        No parts; ``rows``: how many there are, ``changed``: how many were new or different.
    """
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.dataset import atom_items, pick_items
    from launchpad.database.indexes import index_collection

    # a database of an earlier version has none of this table's
    index_collection(database, ROWS)
    settings = campaign_of(require_campaign(database, campaign))
    rows = database[ROWS]
    there = list(rows.find({"campaign": campaign}, {"label": 1, "form": 1}))
    settled = {row["_id"] for row in there if row["label"] in {"done", "altered"} and row.get("form") == FORM}
    left = {row["_id"] for row in there}
    total = changed = 0
    chosen = [
        selection["generation"]
        for selection in database.selections.find({"campaign": campaign}, {"generation": 1}).sort(
            "generation", 1
        )
    ]
    for number, generation in enumerate([None, *chosen]):
        tell("generations", number, len(chosen) + 1)
        if generation is None:
            items = atom_items(database, settings)
            left.difference_update(item.id for item in items)
        else:
            record = database.selections.find_one(
                {"_id": f"{campaign}/g{generation:03d}"}, {"train": 1, "test": 1}
            )
            ids = [*record["train"], *record["test"]] if record else []
            left.difference_update(ids)
            if settled.issuperset(ids):
                total += len(ids)
                continue
            items = pick_items(database, settings, generation)
        total += len(items)
        changed += _write(database, settings, list(enumerate(items)), settled)
    if left:
        # of a campaign of the same name that was removed
        rows.delete_many({"_id": {"$in": sorted(left)}})
    return Made(facts={"rows": total, "changed": changed})


def _write(database: Database[Any], settings: Any, items: list[tuple[int, Item]], settled: set[str]) -> int:
    from pymongo import ReplaceOne

    from launchpad.database.dataset import with_labels

    changed = 0
    wanted = [(rank, item) for rank, item in items if item.id not in settled]
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        entries = with_labels(database, settings, [item for _, item in part])
        operations = [
            ReplaceOne({"_id": item.id}, _row(settings.name, rank, entry.item, entry.label), upsert=True)
            for (rank, item), entry in zip(part, entries, strict=True)
        ]
        changed += len(operations)
        database[ROWS].bulk_write(operations, ordered=False)
    return changed


def _row(campaign: str, rank: int, item: Item, label: StoredLabel | None) -> dict[str, Any]:
    """Return the row of one structure: energy and volume per atom (eV, Å^3), its largest force (eV/Å)."""
    import numpy as np

    from gapfactory.structures import composition_of

    number = len(item.atoms)
    status = "waiting" if label is None else "altered" if label.altered else label.status
    row: dict[str, Any] = {
        "form": FORM,
        "campaign": campaign,
        "generation": item.generation,
        # the order of choice, over all generations; atoms and dimers come before the first one
        "rank": (item.generation + (item.kind == "crystal")) * 1_000_000 + rank,
        "purpose": _PURPOSES.get(item.role, item.role),
        "composition": composition_of(item.atoms),
        "atoms": number,
        "label": status,
        "fault": "" if label is None else label.fault,
        "energy": None,
        "force": None,
        "volume": float(item.atoms.get_volume() / number) if item.atoms.cell.rank == 3 else None,
    }
    if label is not None and label.status == "done":
        row["energy"] = float(label.energy / number)
        if label.forces is not None:
            row["force"] = float(np.linalg.norm(label.forces, axis=1).max(initial=0.0))
    return row
