"""Training sets as extended XYZ, with the key names that QUIP, ASE and the field use.

The virial is written as nine numbers in one row. A 3x3 array in `Atoms.info` would be written as JSON, which
``gap_fit`` silently reads as "no virials"; nine flat numbers are what it understands. All numbers are
written to the last bit, so an exported structure is the structure that was labelled.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import GapFactoryError, InputError
from gapfactory.io.foreign import finite_structure, read_extended_xyz, readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ENERGY_KEY",
    "FORCES_KEY",
    "VIRIAL_KEY",
    "LabelledFrame",
    "frame_text",
    "read_training_set",
    "whole_file",
    "write_training_set",
]

ENERGY_KEY = "REF_energy"
FORCES_KEY = "REF_forces"
VIRIAL_KEY = "REF_virial"
CONFIG_TYPE_KEY = "config_type"
ID_KEY = "gapfactory_id"

_RESERVED = frozenset({FORCES_KEY, VIRIAL_KEY, "Lattice", "Properties", "pbc"})
#: what can stand in the file without quotes or escapes in every reader
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/+-]*")

#: ASE's Voigt order
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class LabelledFrame:
    """One labelled structure.

    Parameters
    ----------
    id
        Identity in the campaign, one word.
    atoms
        Species, positions, cell, periodicity; its calculator, info and arrays are not written.
    energy
        Total energy, eV.
    forces
        Shape (N, 3), eV/Å, or None.
    stress
        Shape (6,), eV/Å^3, ASE's sign and Voigt order, or None; written as virial = -volume x stress.
    config_type
        What the structure is, one word, e.g. ``"crystal"``.
    info
        More plain values to write along (numbers, one-word texts, flat arrays), e.g. generation or sigmas.
    """

    id: str
    atoms: Atoms
    energy: float
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    config_type: str = "crystal"
    info: tuple[tuple[str, Any], ...] = ()


def _to_virial(stress: NDArray[np.float64], volume: float) -> NDArray[np.float64]:
    """Return the virial (9,), row by row, eV."""
    matrix = np.empty((3, 3))
    for value, (i, j) in zip(stress, _VOIGT, strict=True):
        matrix[i, j] = matrix[j, i] = -volume * value
    return matrix.ravel()


def _to_stress(virial: NDArray[np.float64], volume: float) -> NDArray[np.float64]:
    matrix = np.asarray(virial, dtype=float).reshape(3, 3)
    return np.array([-0.5 * (matrix[i, j] + matrix[j, i]) / volume for i, j in _VOIGT])


def _value(where: str, key: str, value: Any) -> str:
    """Return a value as extended XYZ text; numbers to the last bit."""
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return repr(float(value))
    if isinstance(value, str):
        if not _WORD.fullmatch(value):
            raise InputError(
                f"{where}: {key} {value!r} must be one word of letters, digits and _.:/+- to be written"
            )
        return value
    if np.ndim(value) == 1:
        return '"' + " ".join(_value(where, key, v) for v in np.asarray(value).tolist()) + '"'
    raise InputError(f"{where}: {key!r} has {np.ndim(value)} dimensions; write it flat")


def _block(frame: LabelledFrame) -> str:
    """Return one structure as the lines of the file."""
    where = f"structure {frame.id}"
    atoms = frame.atoms
    forces = None
    if not np.isfinite(frame.energy):
        raise InputError(f"{where}: energy {frame.energy} is not a number; leave it out of the set")
    items: dict[str, Any] = {
        ID_KEY: frame.id,
        CONFIG_TYPE_KEY: frame.config_type,
        ENERGY_KEY: float(frame.energy),
    }
    if frame.forces is not None:
        forces = np.asarray(frame.forces, dtype=float)
        if forces.shape != (len(atoms), 3) or not np.isfinite(forces).all():
            raise InputError(f"{where}: forces of shape {forces.shape} must be finite ({len(atoms)}, 3)")
    if frame.stress is not None:
        stress = np.asarray(frame.stress, dtype=float)
        if stress.shape != (6,) or not np.isfinite(stress).all():
            raise InputError(f"{where}: stress of shape {stress.shape} must be finite (6,)")
        if not atoms.pbc.all():
            raise InputError(f"{where}: a stress needs a cell that is periodic in three directions")
        items[VIRIAL_KEY] = _to_virial(stress, float(atoms.get_volume()))
    for key, value in frame.info:
        if key in items or key in _RESERVED or not _WORD.fullmatch(key):
            raise InputError(f"{where}: the key {key!r} is taken or not one word")
        items[key] = value
    return frame_text(
        where, atoms.get_chemical_symbols(), atoms.positions, atoms.cell.array, atoms.pbc, items, forces
    )


def frame_text(
    where: str,
    symbols: Sequence[str],
    positions: ArrayLike,
    cell: ArrayLike,
    pbc: Iterable[bool],
    items: Mapping[str, Any],
    forces: ArrayLike | None = None,
    forces_key: str = FORCES_KEY,
) -> str:
    """Return one structure as the lines of a file, numbers to the last bit.

    Parameters
    ----------
    where
        What it is, for messages.
    symbols, positions, cell, pbc
        Shapes (N,), (N, 3) in Å, (3, 3) in Å, (3,).
    items
        Keys and plain values of the second line.
    forces
        Shape (N, 3), eV/Å, by the reference.
    forces_key
        What their column is called.

    Raises
    ------
    InputError
        A value cannot be written.
    """
    columns = [np.asarray(positions, dtype=float)]
    properties = "species:S:1:pos:R:3"
    if forces is not None:
        columns.append(np.asarray(forces, dtype=float))
        properties += f":{forces_key}:R:3"
    lattice = " ".join(repr(float(x)) for x in np.asarray(cell).ravel())
    periodic = " ".join("T" if p else "F" for p in pbc)
    comment = " ".join(
        (
            f'Lattice="{lattice}"',
            f"Properties={properties}",
            *(f"{key}={_value(where, key, value)}" for key, value in items.items()),
            f'pbc="{periodic}"',
        )
    )
    rows = (
        f"{symbol} {' '.join(repr(float(x)) for x in row)}"
        for symbol, row in zip(symbols, np.hstack(columns), strict=True)
    )
    return "\n".join((str(len(symbols)), comment, *rows, ""))


def whole_file(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_training_set(path: Path, frames: Iterable[LabelledFrame]) -> int:
    """Write a training set, sorted by id, and return the number of structures.

    The file appears whole or not at all. An index that QUIP may have left beside an older file of this name
    is removed: QUIP would trust it and read only as many structures as the old file had.

    Raises
    ------
    InputError
        No structures, an id given twice, or a label that is not finite or of the wrong shape.
    """
    ordered = sorted(frames, key=lambda f: f.id)
    if not ordered:
        raise InputError("a training set without structures cannot be written")
    ids = [f.id for f in ordered]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"structure {twice!r} is given twice")
    blocks = [_block(f) for f in ordered]
    whole_file(path, "".join(blocks))
    path.with_name(path.name + ".idx").unlink(missing_ok=True)
    return len(blocks)


def read_training_set(path: Path) -> list[LabelledFrame]:
    """Read a training set with the keys of `write_training_set`, in the order of the file.

    Raises
    ------
    InputError
        The file is not extended XYZ, or a structure has no reference energy, or a number that is not finite.
    """
    frames = []
    with readable(path, "extended XYZ"), path.open(encoding="utf-8") as stream:
        images = read_extended_xyz(stream, path)
    for number, atoms in enumerate(images):
        where = f"{path}: structure {number}"
        info = dict(atoms.info)
        if ENERGY_KEY not in info:
            raise InputError(f"{where} has no {ENERGY_KEY}; is this a labelled set?")
        virial = info.pop(VIRIAL_KEY, None)
        forces = atoms.arrays.get(FORCES_KEY)
        try:
            frame = LabelledFrame(
                id=str(info.pop(ID_KEY, number)),
                atoms=finite_structure(_bare(atoms), where),
                energy=float(info.pop(ENERGY_KEY)),
                forces=None if forces is None else np.array(forces, dtype=float),
                stress=None if virial is None else _to_stress(virial, float(atoms.get_volume())),
                config_type=str(info.pop(CONFIG_TYPE_KEY, "crystal")),
                info=tuple(sorted(info.items())),
            )
        except GapFactoryError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: its labels are not numbers of the right shapes: {error}") from error
        _check_numbers(frame, where)
        frames.append(frame)
    return frames


def _check_numbers(frame: LabelledFrame, where: str) -> None:
    """Refuse labels that are not finite, or forces that are not of these atoms."""
    if frame.forces is not None and frame.forces.shape != (len(frame.atoms), 3):
        raise InputError(
            f"{where}: forces of shape {frame.forces.shape} are not those of {len(frame.atoms)} atoms"
        )
    for name, value in (("energy", frame.energy), ("forces", frame.forces), ("virial", frame.stress)):
        if value is not None and not np.isfinite(value).all():
            raise InputError(f"{where}: its {name} is not finite; leave the structure out of the set")


def _bare(atoms: Atoms) -> Atoms:
    from ase import Atoms as AseAtoms

    return AseAtoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
