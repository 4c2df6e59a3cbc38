"""Labels: reference energies, forces and stresses, keyed by structure and settings, shared by all campaigns.

Only success is shared. What failed may have failed for a limit on time or attempts, which is no part of the key:
it counts for the campaign that met it, and another campaign computes it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError
from launchpad.database.documents import CurveDocument, LabelDocument, label_id
from launchpad.database.packing import pack_array, pack_atoms, unpack_array, unpack_atoms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray
    from pymongo.database import Database

    from gapfactory.reference import Label

__all__ = [
    "CurvePointRecord",
    "StoredLabel",
    "curve_of",
    "curve_points",
    "forget_failed_curves",
    "labels_of",
    "save_curve",
    "save_curve_point",
    "save_failed_label",
    "save_label",
]


@dataclass(frozen=True)
class StoredLabel:
    """A label as read from the database (eV, eV/Å, eV/Å^3 in ASE's Voigt order)."""

    id: str
    status: str
    reason: str
    kind: str
    atoms: Atoms
    energy: float
    forces: NDArray[Any] | None
    stress: NDArray[Any] | None
    seconds: float
    #: the campaign that made it
    campaign: str = ""

    def counts_for(self, campaign: str) -> bool:
        """Return whether a campaign need not compute it (again): it is done, or failed in that campaign."""
        return self.status == "done" or self.campaign == campaign

    def as_label(self) -> Label:
        """Return it as the reference method gave it.

        Raises
        ------
        DatabaseError
            It failed: there is nothing to give.
        """
        from gapfactory.reference import Label

        if self.status != "done" or self.forces is None:
            msg = f"label {self.id!r} has no numbers: {self.reason}"
            raise DatabaseError(msg)
        return Label(
            energy=self.energy,
            forces=self.forces,
            stress=self.stress,
            walltime_s=self.seconds,
            engine="",
            version="",
            details={},
        )


def _document(
    campaign: str, structure_hash: str, settings_hash: str, kind: str, atoms: Atoms, **fields: Any
) -> dict[str, Any]:
    return LabelDocument(
        id=label_id(structure_hash, settings_hash),
        structure_hash=structure_hash,
        settings_hash=settings_hash,
        kind=kind,
        atoms=pack_atoms(atoms),
        campaign=campaign,
        **fields,
    ).to_bson()


def save_label(
    database: Database[Any],
    campaign: str,
    structure_hash: str,
    settings_hash: str,
    kind: str,
    atoms: Atoms,
    label: Label,
    attempts: int,
) -> None:
    """Store a label. The first one of a key stays: two workers that labelled the same structure agree on one.

    It takes the place of a failed one.
    """
    document = _document(
        campaign,
        structure_hash,
        settings_hash,
        kind,
        atoms,
        status="done",
        attempts=attempts,
        energy=float(label.energy),
        forces=pack_array(label.forces),
        stress=None if label.stress is None else pack_array(label.stress),
        seconds=label.walltime_s,
        engine=label.engine,
        version=label.version,
        details=dict(label.details),
    )
    _store(database, document)


def _store(database: Database[Any], document: dict[str, Any]) -> None:
    """Insert a label or replace a failed one, in one step each: a reader never finds it gone in between."""
    key = document["_id"]
    if database.labels.replace_one({"_id": key, "status": "failed"}, document).matched_count == 0:
        fields = {name: value for name, value in document.items() if name != "_id"}
        database.labels.update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True)


def save_failed_label(
    database: Database[Any],
    campaign: str,
    structure_hash: str,
    settings_hash: str,
    kind: str,
    atoms: Atoms,
    engine: str,
    reason: str,
    attempts: int,
) -> None:
    """Quarantine a structure that this campaign could not label, with its reason; a label that is done stays."""
    document = _document(
        campaign,
        structure_hash,
        settings_hash,
        kind,
        atoms,
        status="failed",
        reason=reason,
        attempts=attempts,
        engine=engine,
    )
    _store(database, document)


def labels_of(database: Database[Any], keys: Sequence[str]) -> dict[str, StoredLabel]:
    """Return the labels that exist among these keys, done or failed."""
    found = {}
    for document in database.labels.find({"_id": {"$in": list(keys)}}):
        found[document["_id"]] = StoredLabel(
            id=document["_id"],
            status=document["status"],
            reason=document["reason"],
            kind=document["kind"],
            atoms=unpack_atoms(document["atoms"]),
            energy=float("nan") if document["energy"] is None else document["energy"],
            forces=None if document["forces"] is None else unpack_array(document["forces"]),
            stress=None if document["stress"] is None else unpack_array(document["stress"]),
            seconds=document["seconds"],
            campaign=document["campaign"],
        )
    return found


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
