"""Similarity maps of generations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError
from launchpad.dashboard.works import Made, as_json
from launchpad.database.documents import structure_id

if TYPE_CHECKING:
    from ase import Atoms
    from pymongo.database import Database

    from launchpad.dashboard.works import Tell

__all__ = ["draw_map"]


def draw_map(database: Database[Any], tell: Tell, campaign: str, generation: int, most: int) -> Made:
    """Map the structures of a generation: all that were chosen, and a random part of the others.

    Parameters
    ----------
    most
        Points; half of them at most are chosen ones.

    Returns
    -------
    Made
        ``points``: a list with ``id``, ``x``, ``y``, ``size``, ``purpose``, ``energy`` and ``volume`` (eV, Å^3 per
        atom) and ``coordination``; as facts their number, ``offered``: how many structures the generation has, and
        ``explained``: the share along each axis.

    Raises
    ------
    NotFoundError
        The generation has too few structures yet.
    """
    from gapfactory.analysis.similarity_map import similarity_map
    from launchpad.database.campaigns import campaign_of, require_campaign

    settings = campaign_of(require_campaign(database, campaign))
    chosen = (
        database.selections.find_one({"_id": f"{campaign}/g{generation:03d}"}, {"train": 1, "test": 1}) or {}
    )
    purposes = dict.fromkeys(chosen.get("train", ())[: most // 4], "training")
    purposes |= dict.fromkeys(chosen.get("test", ())[: most // 4], "held-out")
    tell("reading the structures", 0, 0)
    found = _members(database, settings, generation, list(purposes), most)
    if len(found) < 3:
        raise NotFoundError(
            f"generation {generation} of campaign {campaign!r} has {len(found)} structures yet; a map needs 3"
        )
    ids = sorted(found)
    tell(f"comparing {len(ids)} structures", 0, 0)
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
    facts = {
        "points": len(points),
        "offered": int(settings.cells_of(generation)),
        "explained": made.explained.tolist(),
    }
    return Made({"points": as_json(points)}, facts)


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
