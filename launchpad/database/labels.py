"""Labels: reference energies, forces and stresses, keyed by structure and settings, shared by all campaigns."""

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

__all__ = ["StoredLabel", "curve_of", "labels_of", "save_curve", "save_failed_label", "save_label"]


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
    """Store a label. The first one of a key stays: two workers that labelled the same structure agree on one."""
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
    key = document.pop("_id")
    database.labels.delete_one({"_id": key, "status": "failed"})
    database.labels.update_one({"_id": key}, {"$setOnInsert": document}, upsert=True)


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
    """Quarantine a structure that cannot be labelled, with its reason."""
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
    key = document.pop("_id")
    database.labels.update_one({"_id": key}, {"$setOnInsert": document}, upsert=True)


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
        )
    return found


def save_curve(database: Database[Any], document: CurveDocument) -> None:
    """Store the reference's energy-volume curve of a named phase."""
    fields = document.to_bson()
    database.curves.replace_one({"_id": fields["_id"]}, fields, upsert=True)


def curve_of(database: Database[Any], key: str) -> dict[str, Any] | None:
    """Return a stored curve, or None."""
    found = database.curves.find_one({"_id": key})
    return None if found is None else dict(found)
