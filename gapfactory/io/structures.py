"""Structures that a person gives in a file: extended XYZ or CIF, with or without reference energies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import InputError
from gapfactory.io.extxyz import CONFIG_TYPE_KEY, ENERGY_KEY, ID_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["GivenStructure", "read_atoms", "read_structures"]

#: Column of an extended XYZ file that holds the occupation of each atom's site.
OCCUPANCY_KEY = "occupancy"


@dataclass(frozen=True)
class GivenStructure:
    """One structure of a file.

    Parameters
    ----------
    id
        ``gapfactory_id`` or ``name`` of the file, else its number, from 1.
    atoms
        Species, positions, cell, periodicity; nothing else.
    group
        ``phase`` or ``config_type`` of the file, e.g. the name of a phase; empty where it has neither.
    energy
        ``REF_energy``, eV, or None.
    partial
        Shape (N,): whether the atom sits on a site that is partially occupied, by a column ``occupancy`` of an
        extended XYZ file; None where there is none.
    """

    id: str
    atoms: Atoms
    group: str
    energy: float | None
    partial: NDArray[np.bool_] | None


def read_structures(path: Path) -> list[GivenStructure]:
    """Read the structures of a file, in its order.

    Raises
    ------
    InputError
        There is no such file, it is neither extended XYZ (``.xyz``, ``.extxyz``) nor CIF (``.cif``), it cannot be read,
        or holds no structure; two structures have one name.
    """
    from ase.io.cif import read_cif
    from ase.io.extxyz import XYZError, read_xyz

    if path.suffix not in {".xyz", ".extxyz", ".cif"}:
        raise InputError(f"{path}: structures are read from .xyz, .extxyz and .cif files")
    try:
        with path.open(encoding="utf-8") as stream:
            images = list(
                read_cif(stream, slice(None)) if path.suffix == ".cif" else read_xyz(stream, slice(None))
            )
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except (OSError, XYZError, ValueError, KeyError, IndexError, AssertionError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    found = [_given(number, atoms) for number, atoms in enumerate(images, 1)]
    names = [s.id for s in found]
    if not found:
        raise InputError(f"{path} holds no structure")
    if len(set(names)) != len(names):
        raise InputError(
            f"{path}: two structures are called {next(n for n in names if names.count(n) > 1)!r}"
        )
    return found


def _given(number: int, atoms: Atoms) -> GivenStructure:
    from ase import Atoms as AseAtoms

    info: dict[str, Any] = atoms.info
    energy = info.get(ENERGY_KEY)
    occupancy = atoms.arrays.get(OCCUPANCY_KEY)
    return GivenStructure(
        id=str(info.get(ID_KEY, info.get("name", number))),
        atoms=AseAtoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
        group=str(info.get("phase", info.get(CONFIG_TYPE_KEY, ""))),
        energy=None if energy is None else float(energy),
        partial=None if occupancy is None else np.asarray(occupancy, dtype=float) < 1.0 - 1e-6,
    )


def read_atoms(path: Path, what: str) -> Atoms:
    """Return the one structure of a file of any kind that ASE reads.

    Parameters
    ----------
    path
        The file.
    what
        What it should hold, for the message.

    Raises
    ------
    InputError
        The file cannot be read as a structure, or holds no atoms.
    """
    from ase import Atoms as AseAtoms
    from ase.io import read
    from ase.io.formats import UnknownFileTypeError

    try:
        atoms = read(path)
    except (OSError, UnknownFileTypeError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a structure: {error}") from error
    if not isinstance(atoms, AseAtoms) or not len(atoms):
        raise InputError(f"{path} holds no atoms: give a file with one {what}")
    return atoms
