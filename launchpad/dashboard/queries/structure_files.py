"""Structures as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gapfactory.errors import NotFoundError
from gapfactory.io.extxyz import ENERGY_KEY, ID_KEY, frame_text
from launchpad.dashboard.queries.crystal import Crystal
from launchpad.dashboard.queries.structures import label_of
from launchpad.database.packing import unpack_array

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.queries.structures import Subject

__all__ = ["text_of"]

#: Empty space around what has no cell (Å): a CIF has one.
_VACUUM = 10.0


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

    Raises
    ------
    NotFoundError
        The relaxation was removed.
    """
    if kind == "cif":
        return _cif(subject.crystal, subject.id)
    if trajectory:
        return _trajectory(database, subject)
    label = label_of(database, subject)
    if label is None or label.status != "done":
        return _extxyz(subject.crystal, subject.id, {})
    return _extxyz(subject.crystal, subject.id, {ENERGY_KEY: float(label.energy)}, label.forces)


def _extxyz(crystal: Crystal, name: str, items: dict[str, Any], forces: Any = None) -> str:
    return frame_text(
        name, crystal.symbols, crystal.positions, crystal.cell, crystal.pbc, {ID_KEY: name, **items}, forces
    )


def _trajectory(database: Database[Any], subject: Subject) -> str:
    record = database.relaxations.find_one({"_id": subject.relaxation})
    if record is None or not record.get("positions"):
        raise NotFoundError(
            f"the frames of relaxation {subject.relaxation!r} are not in the database any more"
        )
    energies, steps = unpack_array(record["energies"]), unpack_array(record["steps"])
    return "".join(
        _extxyz(
            Crystal.frame(record, k),
            f"{record['_id']}/frame/{k:04d}",
            {"step": int(steps[k]), "potential_energy": float(energies[k])},
        )
        for k in range(record["n_frames"])
    )


def _cif(crystal: Crystal, name: str) -> str:
    """Return all atoms of a cell without symmetry, as every reader takes them."""
    if not crystal.volume:
        # a CIF has a cell: a box around what has none, or not in every direction
        low, high = crystal.positions.min(axis=0), crystal.positions.max(axis=0)
        empty = [k for k in range(3) if not crystal.cell[k].any()]
        box, move = crystal.cell.copy(), np.zeros(3)
        for k in empty:
            box[k, k] = high[k] - low[k] + 2 * _VACUUM
            move[k] = _VACUUM - low[k]
        crystal = Crystal(crystal.numbers, crystal.positions + move, box, crystal.pbc)
    lengths = crystal.lengths_and_angles
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    fractions = crystal.positions @ np.linalg.inv(crystal.cell)
    lines = [
        f"data_{''.join(c if c.isalnum() else '_' for c in name)}",
        *(f"_cell_{key} {value:.10f}" for key, value in zip(names, lengths, strict=True)),
        "_space_group_name_H-M_alt 'P 1'",
        "loop_",
        "_space_group_symop_operation_xyz",
        "'x, y, z'",
        "loop_",
        "_atom_site_label",
        "_atom_site_type_symbol",
        "_atom_site_fract_x",
        "_atom_site_fract_y",
        "_atom_site_fract_z",
        *(
            f"{symbol}{number} {symbol} {x:.10f} {y:.10f} {z:.10f}"
            for number, (symbol, (x, y, z)) in enumerate(zip(crystal.symbols, fractions, strict=True), 1)
        ),
    ]
    return "\n".join(lines) + "\n"
