"""Similarity maps of a generation and of a whole campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import NotFoundError, PotentialError
from launchpad.dashboard.works import Made, as_json
from launchpad.database.documents import generation_id, structure_id

if TYPE_CHECKING:
    from ase import Atoms
    from pymongo.database import Database

    from launchpad.dashboard.works import Tell

__all__ = ["draw_map"]

#: Structures read at once.
_BATCH: Final = 100
#: Energies count up to this quantile: a few exploded cells must not take all the colours.
_MOST_ENERGY: Final = 0.95
_CELL, _MINIMUM, _PATH, _END = "random cell", "minimum", "on the way to a minimum", "relaxation not converged"


@dataclass(frozen=True)
class _Member:
    """A structure to be mapped, what it is, and whether it was chosen for a label."""

    atoms: Atoms
    generation: int
    origin: str
    purpose: str


def draw_map(database: Database[Any], tell: Tell, campaign: str, generation: int | None, most: int) -> Made:
    """Map the structures of a generation or of all: those that were chosen, and a random part of the others.

    At most half of the points are chosen ones, the first choices of each generation; the others are drawn at random
    among the random cells of generation 0 and the ends of the relaxations of the later ones, as many from each.

    Parameters
    ----------
    generation
        None: the whole campaign.
    most
        Points.

    Returns
    -------
    Made
        ``points``: a list with ``id``, ``x``, ``y``, ``size``, ``composition``, ``generation``, ``origin``,
        ``purpose``, ``energy`` (by the newest potential, above the lowest of the map, eV/atom; None for all without
        one), ``volume`` (Å^3/atom) and ``coordination``; as facts their number, ``compositions``: how many there
        are, ``offered``: how many structures there are to draw from, ``energies_to``: what higher energies are shown
        as (eV/atom), and ``explained``: the share along each axis.

    Raises
    ------
    NotFoundError
        There are too few structures yet.
    """
    from gapfactory.analysis.similarity_map import similarity_map
    from gapfactory.structures import composition_of
    from launchpad.database.campaigns import campaign_of, require_campaign

    record = require_campaign(database, campaign)
    settings = campaign_of(record)
    generations = [generation] if generation is not None else list(range(record["generation"] + 1))
    share = max(most // len(generations), 2)
    found: dict[str, _Member] = {}
    for k, number in enumerate(generations):
        tell("reading the structures", k, len(generations))
        found |= _members(database, settings, number, share)
    ids = sorted(found)
    if len(ids) > most:
        # more generations than a map has room for: every other, third, ... structure
        ids = [ids[int(k * len(ids) / most)] for k in range(most)]
    if len(ids) < 3:
        of = f"generation {generation} of campaign" if generation is not None else "campaign"
        raise NotFoundError(f"{of} {campaign!r} has {len(ids)} structures yet; a map needs 3")
    tell(f"comparing {len(ids)} structures", 0, 0)
    made = similarity_map({campaign: [found[key].atoms for key in ids]})
    tell("energies by the newest potential", 0, 0)
    energies, top = _energies(database, campaign, [found[key].atoms for key in ids])
    points = []
    for key, (x, y), coordination, energy in zip(
        ids, made.coordinates.tolist(), made.coordination.tolist(), energies, strict=True
    ):
        member = found[key]
        points.append(
            {
                "id": key,
                "x": x,
                "y": y,
                "size": len(member.atoms),
                "composition": composition_of(member.atoms),
                "generation": member.generation,
                "origin": member.origin,
                "purpose": member.purpose,
                "energy": energy,
                "volume": float(member.atoms.get_volume() / len(member.atoms)),
                "coordination": coordination,
            }
        )
    facts = {
        "points": len(points),
        "compositions": len({point["composition"] for point in points}),
        "offered": sum(int(settings.cells_of(number)) for number in generations),
        "energies_to": top,
        "explained": made.explained.tolist(),
    }
    return Made({"points": as_json(points)}, facts)


def _members(database: Database[Any], settings: Any, generation: int, most: int) -> dict[str, _Member]:
    """Return at most so many structures of a generation by id."""
    import numpy as np

    from launchpad.database.packing import unpack_atoms
    from launchpad.database.results import frame_atoms

    name = generation_id(settings.name, generation)
    chosen = database.selections.find_one({"_id": name}, {"train": 1, "test": 1}) or {}
    purposes = dict.fromkeys(chosen.get("train", ())[: most // 4], "training")
    purposes |= dict.fromkeys(chosen.get("test", ())[: most // 4], "held-out")
    found: dict[str, _Member] = {}
    picks = list(database.structures.find({"_id": {"$in": list(purposes)}}, {"atoms": 1, "info": 1}))
    last = _last_frames(
        database, [pick["info"]["relaxation"] for pick in picks if "relaxation" in pick["info"]]
    )
    for pick in picks:
        info = pick["info"]
        origin = _CELL
        if "relaxation" in info:
            origin = _MINIMUM if info.get("frame") == last.get(info["relaxation"]) else _PATH
        found[pick["_id"]] = _Member(unpack_atoms(pick["atoms"]), generation, origin, purposes[pick["_id"]])
    number = int(settings.cells_of(generation))
    # the same structures whenever the map is drawn
    drawn = np.random.default_rng(generation).permutation(number)[: max(most - len(found), 0)]
    ids = [
        structure_id(settings.name, generation, "relaxation" if generation else "cell", int(k)) for k in drawn
    ]
    fields = dict.fromkeys(("numbers", "positions", "cells", "n_frames", "status"), 1)
    for start in range(0, len(ids), _BATCH):
        wanted = {"_id": {"$in": ids[start : start + _BATCH]}}
        if not generation:
            for document in database.structures.find(wanted, {"atoms": 1}):
                cell = _Member(unpack_atoms(document["atoms"]), 0, _CELL, "not chosen")
                found.setdefault(document["_id"], cell)
            continue
        for record in database.relaxations.find(wanted, fields):
            # a policy may have removed its frames
            if record["n_frames"] and record.get("positions"):
                origin = _MINIMUM if record["status"] == "converged" else _END
                atoms = frame_atoms(record, record["n_frames"] - 1)
                found[record["_id"]] = _Member(atoms, generation, origin, "not chosen")
    return found


def _last_frames(database: Database[Any], relaxations: list[str]) -> dict[str, int]:
    """Return the number of the last frame of each of these relaxations that has converged."""
    rows = database.relaxations.find(
        {"_id": {"$in": sorted(set(relaxations))}, "status": "converged"}, {"n_frames": 1}
    )
    return {row["_id"]: row["n_frames"] - 1 for row in rows}


def _energies(
    database: Database[Any], campaign: str, structures: list[Atoms]
) -> tuple[list[float | None], float | None]:
    """Return energies by the newest potential above the lowest (eV/atom), and what higher ones are given as."""
    import numpy as np

    from gapfactory.potentials import load_potential
    from launchpad.database.potentials import cached_potential, latest_potential

    record = latest_potential(database, campaign)
    if record is None:
        return [None] * len(structures), None
    calculator = load_potential(cached_potential(database, record))
    values = np.full(len(structures), np.inf)
    for k, atoms in enumerate(structures):
        work = atoms.copy()
        work.calc = calculator
        try:
            values[k] = work.get_potential_energy() / len(work)
        except PotentialError:
            continue  # it cannot be evaluated there: shown as high
    finite = values[np.isfinite(values)]
    if not finite.size:
        return [None] * len(structures), None
    above = values - finite.min()
    top = float(np.quantile(finite - finite.min(), _MOST_ENERGY))
    return [float(min(value, top)) for value in above], top
