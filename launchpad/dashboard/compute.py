"""``python -m launchpad.dashboard.compute``: work out one thing that pages need; what, is read from standard input."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from gapfactory.errors import GapFactoryError, NotFoundError
from launchpad.dashboard.derived import COLLECTION, ROWS, finish
from launchpad.database.documents import now, structure_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms
    from pymongo.database import Database

    from launchpad.database.dataset import Item
    from launchpad.database.labels import StoredLabel

__all__ = ["draw_map", "values_of_atoms", "write_rows"]

#: Rows per write.
_BATCH = 1000


def main() -> None:
    """Do what standard input asks for; a failure that has a reason is a result as well."""
    from launchpad.database.connection import open_database
    from launchpad.database.indexes import ensure_indexes

    order = json.load(sys.stdin)
    os.nice(10)
    database = open_database(order["uri"])
    # a database of an earlier version has none of the table's
    ensure_indexes(database)
    works: dict[str, Callable[..., dict[str, Any]]] = {
        "rows": write_rows,
        "map": draw_map,
        "values": values_of_atoms,
    }
    try:
        found = works[order["kind"]](database, **order["arguments"])
    except GapFactoryError as error:
        fields = {"state": "failed", "reason": str(error), "since": now()}
        database[COLLECTION].update_one({"_id": order["id"]}, {"$set": fields})
        return
    finish(database, order["id"], found)


def write_rows(database: Database[Any], campaign: str) -> dict[str, Any]:
    """Write the rows of what a campaign chose to be labelled; what is labelled already stays as it is.

    Returns
    -------
    dict
        ``rows``: how many there are, ``changed``: how many were new or different.
    """
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.dataset import atom_items, pick_items

    settings = campaign_of(require_campaign(database, campaign))
    rows = database[ROWS]
    there = {row["_id"]: row["label"] for row in rows.find({"campaign": campaign}, {"label": 1})}
    settled = {key for key, label in there.items() if label in {"done", "altered"}}
    left = set(there)
    total = changed = 0
    chosen = [
        selection["generation"]
        for selection in database.selections.find({"campaign": campaign}, {"generation": 1}).sort(
            "generation", 1
        )
    ]
    for generation in [None, *chosen]:
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
    return {"rows": total, "changed": changed}


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
        "campaign": campaign,
        "generation": item.generation,
        # the order of choice, over all generations; atoms and dimers come before the first one
        "rank": (item.generation + (item.kind == "crystal")) * 1_000_000 + rank,
        "role": item.role,
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


def draw_map(database: Database[Any], campaign: str, generation: int, most: int) -> dict[str, Any]:
    """Map the structures of a generation: all that were chosen, and a random part of the others.

    Parameters
    ----------
    most
        Points; half of them at most are chosen ones.

    Returns
    -------
    dict
        ``points`` with ``id``, ``x``, ``y``, ``size``, ``purpose``, ``energy`` and ``volume`` (eV, Å^3 per atom) and
        ``coordination``; ``offered``: how many structures the generation has; ``explained``: share along each axis;
        ``whole``: whether the generation had made its choice.
    """
    from gapfactory.analysis.similarity_map import similarity_map
    from launchpad.database.campaigns import campaign_of, require_campaign

    settings = campaign_of(require_campaign(database, campaign))
    chosen = (
        database.selections.find_one({"_id": f"{campaign}/g{generation:03d}"}, {"train": 1, "test": 1}) or {}
    )
    purposes = dict.fromkeys(chosen.get("train", ())[: most // 4], "training")
    purposes |= dict.fromkeys(chosen.get("test", ())[: most // 4], "held-out")
    found = _members(database, settings, generation, list(purposes), most)
    if len(found) < 3:
        raise NotFoundError(
            f"generation {generation} of campaign {campaign!r} has {len(found)} structures yet; a map needs 3"
        )
    ids = sorted(found)
    made = similarity_map({campaign: [found[key][0] for key in ids]})
    points = []
    for key, (x, y), coordination in zip(
        ids, made.coordinates.tolist(), made.coordination.tolist(), strict=True
    ):
        atoms, energy = found[key]
        points.append(
            {
                "id": key,
                "x": x,
                "y": y,
                "size": len(atoms),
                "purpose": purposes.get(key, "not chosen"),
                "energy": energy,
                "volume": float(atoms.get_volume() / len(atoms)),
                "coordination": coordination,
            }
        )
    return {
        "points": points,
        "offered": int(settings.cells_of(generation)),
        # nothing is added to a generation once it has chosen
        "whole": bool(chosen),
        "explained": made.explained.tolist(),
    }


def _members(
    database: Database[Any], settings: Any, generation: int, chosen: list[str], most: int
) -> dict[str, tuple[Atoms, float | None]]:
    """Return structures and energies (eV/atom by the potential of the time, None for random cells) by id."""
    import numpy as np

    from launchpad.database.packing import unpack_array, unpack_atoms
    from launchpad.database.results import frame_atoms

    found: dict[str, tuple[Atoms, float | None]] = {}
    picks = {}
    if chosen and generation:
        record = database.selections.find_one(
            {"_id": f"{settings.name}/g{generation:03d}"}, {"report.picks": 1}
        )
        picks = {
            pick["id"]: pick["energy_eV"] for pick in (record or {"report": {}})["report"].get("picks", ())
        }
    for document in database.structures.find({"_id": {"$in": chosen}}, {"atoms": 1}):
        found[document["_id"]] = (unpack_atoms(document["atoms"]), picks.get(document["_id"]))
    number = int(settings.cells_of(generation))
    # the same structures whenever the map is drawn
    drawn = np.random.default_rng(generation).permutation(number)[: max(most - len(found), 0)]
    stage = "relaxation" if generation else "cell"
    ids = [structure_id(settings.name, generation, stage, int(index)) for index in drawn]
    for start in range(0, len(ids), 100):
        wanted = {"_id": {"$in": ids[start : start + 100]}}
        if not generation:
            for document in database.structures.find(wanted, {"atoms": 1}):
                found.setdefault(document["_id"], (unpack_atoms(document["atoms"]), None))
            continue
        fields = dict.fromkeys(("numbers", "positions", "cells", "n_frames", "energies"), 1)
        for record in database.relaxations.find(wanted, fields):
            if record["n_frames"]:
                atoms = frame_atoms(record, record["n_frames"] - 1)
                energy = float(unpack_array(record["energies"])[-1] / len(atoms))
                found[record["_id"]] = (atoms, energy if np.isfinite(energy) else None)
    return found


def values_of_atoms(database: Database[Any], key: str, generation: int) -> dict[str, Any]:
    """Return what a potential says of each atom of a structure.

    Returns
    -------
    dict
        ``local_energy`` (eV), ``force_error`` (eV/Å, length of the difference to the reference; None without a
        label) and a ``note`` that says by which potential.
    """
    import numpy as np

    from gapfactory.potentials.gap import load_potential
    from launchpad.dashboard.queries.structures import find, label_of
    from launchpad.database.potentials import cached_potential, require_potential

    subject = find(database, key)
    record = require_potential(database, subject.campaign, generation)
    atoms = subject.atoms
    atoms.calc = load_potential(cached_potential(database, record))
    local = [round(float(value), 6) for value in atoms.get_potential_energies()]
    note = f"by the potential of generation {generation}"
    label = label_of(database, subject)
    error = None
    if label is not None and label.status == "done" and label.forces is not None:
        difference = atoms.get_forces() - label.forces
        error = [round(float(value), 6) for value in np.linalg.norm(difference, axis=1)]
    else:
        note += "; no label, hence no force error"
    return {"local_energy": local, "force_error": error, "note": note}


if __name__ == "__main__":
    main()
