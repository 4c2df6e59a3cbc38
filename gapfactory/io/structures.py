"""Structures that a person gives in a file, or gets: extended XYZ, CIF (read only), AIRSS's SHELX ``.res``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gapfactory.errors import InputError
from gapfactory.io.extxyz import CONFIG_TYPE_KEY, ENERGY_KEY, ID_KEY
from gapfactory.io.foreign import finite_structure, read_extended_xyz, readable
from gapfactory.io.res import read_res, res_from_atoms, write_res

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "WRITTEN",
    "GivenStructure",
    "read_atoms",
    "read_structures",
    "require_writable",
    "write_structures",
]

#: Endings of the files that `write_structures` writes.
WRITTEN: Final = (".extxyz", ".xyz", ".res")

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
    """Read the structures of a file, in its order, or of a directory with ``.res`` files, by their names.

    A structure of AIRSS has no reference energy: its title has an enthalpy, and not the external pressure of it.

    Raises
    ------
    InputError
        There is no such file, it is not extended XYZ (``.xyz``, ``.extxyz``), CIF (``.cif``) or SHELX (``.res``), it
        cannot be read, or holds no structure; two structures have one name.
    """
    if path.suffix == ".res" or path.is_dir():
        found = [GivenStructure(s.name, s.atoms(), "", None, None) for s in read_res(path)]
    elif path.suffix in {".xyz", ".extxyz", ".cif"}:
        images = _images(path)
        with readable(path):
            found = [_given(number, atoms) for number, atoms in enumerate(images, 1)]
    else:
        raise InputError(f"{path}: structures are read from .xyz, .extxyz, .cif and .res files")
    names = [s.id for s in found]
    if not found:
        raise InputError(f"{path} holds no structure")
    if len(set(names)) != len(names):
        raise InputError(
            f"{path}: two structures are called {next(n for n in names if names.count(n) > 1)!r}"
        )
    return found


def _images(path: Path) -> list[Atoms]:
    from ase.io.cif import read_cif

    with readable(path), path.open(encoding="utf-8") as stream:
        images = (
            list(read_cif(stream, slice(None))) if path.suffix == ".cif" else read_extended_xyz(stream, path)
        )
        return [finite_structure(image, f"{path}: structure {k}") for k, image in enumerate(images, 1)]


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
    """Return the one structure of a file of any kind that ASE reads; ``.res`` as `gapfactory.io.res` does.

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

    if path.suffix == ".res":
        found = read_res(path)
        if len(found) > 1:
            raise InputError(f"{path} holds {len(found)} structures: give a file with one {what}")
        return found[0].atoms()
    atoms: Any
    if path.suffix in {".xyz", ".extxyz"}:
        with readable(path, "a structure"), path.open(encoding="utf-8") as stream:
            atoms = next(reversed(read_extended_xyz(stream, path)), None)
    else:
        with readable(path, "a structure"):
            atoms = read(path)
    if not isinstance(atoms, AseAtoms) or not len(atoms):
        raise InputError(f"{path} holds no atoms: give a file with one {what}")
    return finite_structure(atoms, str(path))


def require_writable(path: Path, option: str) -> None:
    """Refuse a file that `write_structures` could not write, before anything is computed.

    Raises
    ------
    InputError
        Its ending is none of `WRITTEN`, or its directory is not there; names the option that gave it.
    """
    if path.suffix not in WRITTEN:
        raise InputError(
            f"{option} {path}: structures are written as extended XYZ or SHELX; end the name in .extxyz or .res"
        )
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no directory {path.parent}; make it first")


def write_structures(path: Path, structures: Sequence[tuple[str, Atoms, Mapping[str, Any]]]) -> None:
    """Write structures into one file by its ending, or into a directory that exists: a ``.res`` file for each.

    Parameters
    ----------
    path
        File or directory.
    structures
        (name, structure, what is known of it): texts and numbers by one-word keys. In a ``.res`` file the title has
        ``pressure_GPa``, ``enthalpy_eV``, ``symmetry`` and ``copies``, and the rest stands in remarks, key and value.

    Raises
    ------
    InputError
        A structure has no cell, or two have one name, where that cannot be written.
    """
    if path.suffix == ".res" or path.is_dir():
        write_res(path, [_res(name, atoms, info) for name, atoms, info in structures])
        return
    from ase.io import write

    images = []
    for name, atoms, info in structures:
        image = atoms.copy()
        image.info = {"name": name, **{key: value for key, value in info.items() if value is not None}}
        images.append(image)
    write(path, images, format="extxyz")


def _res(name: str, atoms: Atoms, info: Mapping[str, Any]) -> Any:
    title = {"pressure_GPa", "enthalpy_eV", "symmetry", "copies"}
    return res_from_atoms(
        atoms,
        name,
        pressure=float(info.get("pressure_GPa") or 0.0),
        enthalpy=info.get("enthalpy_eV"),
        # as AIRSS writes it: P63/mmc
        symmetry=str(info.get("symmetry") or "").replace("_", "").replace(" ", ""),
        copies=int(info.get("copies") or 1),
        remarks=[f"{key} {value}" for key, value in info.items() if key not in title and value is not None],
    )
