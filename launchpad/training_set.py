"""What a campaign's potentials are trained on and where its relaxations ended, for report and dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gapfactory.origins import origin_in_words
from gapfactory.units import EV_PER_GPA_A3

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

    from gapfactory.report import TrainingPoint
    from launchpad.database.dataset import Item, LabelledItem

__all__ = [
    "final_enthalpies",
    "last_frames",
    "origin_of",
    "parents_in",
    "training_points",
]

#: Enthalpies are shown of so many generations: they may be a hundred thousand each.
_GENERATIONS: Final = 6


def training_points(
    database: Database[Any],
    labelled: Mapping[int, Sequence[LabelledItem]],
    potential: Mapping[str, Any] | None,
    measured: Mapping[str, Any] | None,
) -> tuple[TrainingPoint, ...]:
    """Return the labelled picks with the errors of the newest potential.

    Parameters
    ----------
    database
        For where the picked frames lie in their trajectories.
    labelled
        Picks with labels by generation.
    potential
        The newest one, or None; has the errors on what it was trained on.
    measured
        The newest assessment, or None; has the errors on held-out structures.
    """
    from gapfactory.report import TrainingPoint

    entries = [(g, e) for g, group in sorted(labelled.items()) for e in group]
    last = last_frames(database, [e.item for _, e in entries])
    residuals = dict((potential or {}).get("report", {}).get("residuals", {}))
    trained_on = set((potential or {}).get("trained_on", ()))
    held_out = ((measured or {}).get("evidence") or {}).get("held_out_errors") or ()
    residuals |= {key: (energy, forces) for key, energy, forces in held_out}
    components = {entry.item.info.get("component") for _, entry in entries}
    found = []
    for generation, entry in entries:
        item, label = entry.item, entry.label
        if label is None or label.status != "done":
            continue
        n = len(item.atoms)
        energy_error, force_error = residuals.get(item.id, (None, None))
        found.append(
            TrainingPoint(
                id=item.id,
                generation=generation,
                origin=origin_in_words(origin_of(item, last)),
                held_out=item.role == "test" and item.id not in trained_on,
                volume=float(item.atoms.get_volume()) / n,
                energy=label.energy / n,
                energy_error=energy_error,
                force_error=force_error,
                component=str(item.info.get("component") or "") if len(components) > 1 else "",
            )
        )
    return tuple(found)


def last_frames(database: Database[Any], items: Sequence[Item]) -> dict[str, int]:
    """Return the number of the last frame of each converged relaxation that a structure was taken from."""
    wanted = sorted({item.info["relaxation"] for item in items if "relaxation" in item.info})
    if not wanted:
        return {}
    rows = database.relaxations.find({"_id": {"$in": wanted}, "status": "converged"}, {"n_frames": 1})
    return {row["_id"]: row["n_frames"] - 1 for row in rows}


def origin_of(item: Item, last: Mapping[str, int]) -> str:
    """Return what a chosen structure is, as stored metrics name it.

    ``data``, which came with its label; ``cell`` as it was made; ``crystal``; ``displaced``, of vibrations; a snapshot,
    ``step N`` or ``end``; ``shaken`` out of an end; or what a funnel took of a relaxation: its ``minimum`` or a
    ``frame`` on the way.

    Parameters
    ----------
    item
        The structure.
    last
        As `last_frames` returns it.
    """
    if item.given:
        return "data"
    if item.info.get("crystal"):
        return "crystal"
    if item.info.get("parent"):
        return "displaced"
    if item.info.get("snapshot") is not None:
        return str(item.info["snapshot"])
    relaxation = item.info.get("relaxation")
    if relaxation is None:
        return "cell"
    return "minimum" if item.info.get("frame") == last.get(relaxation) else "frame"


def parents_in(items: Sequence[Item]) -> dict[str, str]:
    """Return by id what structures are relatives of: frames and shaken copies of one relaxation, of one known crystal.

    A structure without relatives is not named.
    """
    found = {}
    for item in items:
        info = item.info
        if info.get("crystal"):
            found[item.id] = f"crystal {info['crystal']} {info.get('model', 0)}"
        elif info.get("parent"):
            found[item.id] = f"vibrations {info['parent']}"
        elif info.get("relaxation"):
            found[item.id] = str(info["relaxation"])
    return found


def final_enthalpies(database: Database[Any], campaign: str) -> dict[int, list[float]]:
    """Return the enthalpy per atom (eV) where each relaxation ended, by generation; of the last generations only.

    Failed relaxations have none.
    """
    newest = database.relaxations.find_one(
        {"campaign": campaign}, {"generation": 1}, sort=[("generation", -1)]
    )
    if newest is None:
        return {}
    found: dict[int, list[float]] = {}
    for row in database.relaxations.find(
        {
            "campaign": campaign,
            "generation": {"$gt": newest["generation"] - _GENERATIONS},
            "status": {"$ne": "failed"},
        },
        {"generation": 1, "pressure_gpa": 1, "final_energy_per_atom": 1, "final_volume_per_atom": 1},
    ).sort([("generation", 1), ("index", 1)]):
        energy, volume = row["final_energy_per_atom"], row["final_volume_per_atom"]
        if energy is not None and volume is not None:
            enthalpy = energy + row["pressure_gpa"] * volume * EV_PER_GPA_A3
            found.setdefault(row["generation"], []).append(enthalpy)
    return found
