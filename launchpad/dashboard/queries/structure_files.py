"""Structures as files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from launchpad.database.packing import unpack_array
from launchpad.database.results import frame_atoms

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.queries.structures import Subject

__all__ = ["text_of"]


def text_of(
    database: Database[Any], subject: Subject, kind: Literal["extxyz", "cif"], *, trajectory: bool = False
) -> str:
    """Return a structure as the text of a file.

    Extended XYZ has the label of the structure, if there is one, under the names that training sets have
    (``REF_energy``, ``REF_forces``); a trajectory has the energies (eV) of the potential.

    Parameters
    ----------
    trajectory
        All frames of its relaxation, extended XYZ only.
    """
    from ase.io import write

    if kind == "cif":
        stream = io.BytesIO()
        atoms = subject.atoms.copy()
        if atoms.cell.rank < 3:
            # a CIF has a cell: a box around what has none, or not in every direction
            atoms.center(vacuum=10.0, axis=[k for k in range(3) if not atoms.cell.array[k].any()])
        write(stream, atoms, format="cif")
        return stream.getvalue().decode()
    text = io.StringIO()
    if trajectory:
        write(text, _trajectory(database, subject), format="extxyz")
        return text.getvalue()
    write(text, [_labelled(database, subject)], format="extxyz")
    return text.getvalue()


def _labelled(database: Database[Any], subject: Subject) -> Any:
    from gapfactory.io.extxyz import ENERGY_KEY, FORCES_KEY
    from launchpad.dashboard.queries.structures import label_of

    atoms = subject.atoms.copy()
    atoms.info["gapfactory_id"] = subject.id
    label = label_of(database, subject)
    if label is not None and label.status == "done" and label.forces is not None:
        atoms.info[ENERGY_KEY] = label.energy
        atoms.arrays[FORCES_KEY] = label.forces
    return atoms


def _trajectory(database: Database[Any], subject: Subject) -> list[Any]:
    from gapfactory.errors import NotFoundError

    record = database.relaxations.find_one({"_id": subject.relaxation})
    if record is None or not record.get("positions"):
        raise NotFoundError(
            f"the frames of relaxation {subject.relaxation!r} are not in the database any more"
        )
    energies, steps = unpack_array(record["energies"]), unpack_array(record["steps"])
    found = []
    for k in range(record["n_frames"]):
        atoms = frame_atoms(record, k)
        atoms.info |= {
            "gapfactory_id": f"{record['_id']}/frame/{k:04d}",
            "step": int(steps[k]),
            "potential_energy": float(energies[k]),
        }
        found.append(atoms)
    return found
