"""Energy-volume curves of named phases by the reference, shared by all campaigns like labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.database.documents import CurveDocument

__all__ = [
    "CurvePointRecord",
    "curve_of",
    "curve_points",
    "forget_failed_curves",
    "save_curve",
    "save_curve_point",
]


@dataclass(frozen=True)
class CurvePointRecord:
    """One point of a reference curve: volume (Å^3/atom) and energy (eV/atom), or the reason why there is none."""

    volume: float
    energy: float | None
    reason: str
    seconds: float


def save_curve_point(database: Database[Any], key: str, campaign: str, point: CurvePointRecord) -> None:
    """Store a point of a curve that is being computed; a failed one counts for its campaign only.

    Parameters
    ----------
    key
        Of the curve.
    campaign
        The campaign that computed it.
    """
    name = f"{key}/{point.volume!r}"
    fields = {
        "curve": key,
        "campaign": campaign,
        "status": "failed" if point.energy is None else "done",
        "volume": point.volume,
        "energy": point.energy,
        "reason": point.reason,
        "seconds": point.seconds,
    }
    if point.energy is None:
        name = f"{name}/{campaign}"
    database.curve_points.update_one({"_id": name}, {"$setOnInsert": fields}, upsert=True)


def curve_points(database: Database[Any], key: str, campaign: str) -> dict[float, CurvePointRecord]:
    """Return the points of a curve by volume: those that anybody computed, and those that failed here."""
    found: dict[float, CurvePointRecord] = {}
    usable = {"curve": key, "$or": [{"status": "done"}, {"campaign": campaign}]}
    for document in database.curve_points.find(usable).sort("_id", 1):
        point = CurvePointRecord(
            volume=float(document["volume"]),
            energy=document["energy"],
            reason=document["reason"],
            seconds=document["seconds"],
        )
        if point.energy is not None or point.volume not in found:
            found[point.volume] = point
    return found


def forget_failed_curves(database: Database[Any], campaign: str) -> int:
    """Forget the curves without any good point that a campaign made, and the failed points of all its curves.

    Returns
    -------
    int
        Curves and points forgotten.
    """
    curves = database.curves.delete_many({"campaign": campaign, "volumes": []}).deleted_count
    points = database.curve_points.delete_many({"campaign": campaign, "status": "failed"}).deleted_count
    return int(curves + points)


def save_curve(database: Database[Any], document: CurveDocument) -> None:
    """Store the reference's energy-volume curve of a named phase."""
    fields = document.to_bson()
    database.curves.replace_one({"_id": fields["_id"]}, fields, upsert=True)


def curve_of(database: Database[Any], key: str) -> dict[str, Any] | None:
    """Return a stored curve, or None."""
    found = database.curves.find_one({"_id": key})
    return None if found is None else dict(found)
