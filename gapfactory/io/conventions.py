"""Data sets as other programs want them: keys of MACE, GAP and NequIP, a database of ASE, OPTIMADE's JSON lines.

Each program has its own names, its own quantity (stress or virial) and its own word for a free atom. A wrong name is
mostly read as "no label" without a message, which is why these are written from one table and read back in the tests
by each program's own rule.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gapfactory.errors import InputError
from gapfactory.io.extxyz import LabelledFrame, frame_text, whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["DATA_FORMATS", "write_data"]

#: OPTIMADE's version that the lines follow.
_OPTIMADE: Final = "1.2.0"


@dataclass(frozen=True)
class _Keys:
    """Names in extended XYZ.

    Parameters
    ----------
    energy, forces, stress
        Keys; forces are a column.
    virial
        The third is minus volume times the stress, eV.
    free_atom
        What `config_type` calls an isolated atom.
    """

    energy: str
    forces: str
    stress: str
    virial: bool
    free_atom: str


_KEYS: Final = {
    # mace.data.utils: KeySpecification's defaults; atoms of this name are taken for E0s
    "mace": _Keys("REF_energy", "REF_forces", "REF_stress", virial=False, free_atom="IsolatedAtom"),
    # what published GAP sets use, for gap_fit's *_parameter_name
    "gap": _Keys("dft_energy", "dft_forces", "dft_virial", virial=True, free_atom="isolated_atom"),
    # NequIP and Allegro take what ASE's reader makes a calculator of
    "nequip": _Keys("energy", "forces", "stress", virial=False, free_atom="isolated_atom"),
}
#: Format -> how its file's name ends.
DATA_FORMATS: Final = {**dict.fromkeys(_KEYS, ".xyz"), "ase": ".db", "optimade": ".jsonl"}


def write_data(path: Path, frames: Sequence[LabelledFrame], form: str) -> int:
    """Write labelled structures in another program's form, sorted by id; the file appears whole or not at all.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    frames
        The structures.
    form
        One of `DATA_FORMATS`.

    Returns
    -------
    int
        The number of structures.

    Raises
    ------
    InputError
        No structures, or no such form.
    """
    ordered = sorted(frames, key=lambda frame: frame.id)
    if not ordered:
        msg = f"there are no structures to write to {path}"
        raise InputError(msg)
    if form in _KEYS:
        whole_file(path, "".join(_block(frame, _KEYS[form]) for frame in ordered))
    elif form == "ase":
        _write_database(path, ordered)
    elif form == "optimade":
        header = {"x-optimade": {"meta": {"api_version": _OPTIMADE}}}
        lines = [header, *(_optimade_entry(frame) for frame in ordered)]
        whole_file(path, "".join(json.dumps(line) + "\n" for line in lines))
    else:
        msg = f"there is no form {form!r} of data; there are {', '.join(DATA_FORMATS)}"
        raise InputError(msg)
    return len(ordered)


def _config_type(frame: LabelledFrame, free_atom: str) -> str:
    return free_atom if frame.config_type == "isolated" else frame.config_type


def _block(frame: LabelledFrame, keys: _Keys) -> str:
    from ase.stress import voigt_6_to_full_3x3_stress

    atoms = frame.atoms
    items: dict[str, Any] = {
        "config_type": _config_type(frame, keys.free_atom),
        keys.energy: float(frame.energy),
        "gapfactory_id": frame.id,
    }
    if frame.stress is not None:
        factor = -float(atoms.get_volume()) if keys.virial else 1.0
        items[keys.stress] = factor * voigt_6_to_full_3x3_stress(frame.stress).ravel()
    return frame_text(
        f"structure {frame.id}",
        atoms.get_chemical_symbols(),
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        items,
        frame.forces,
        keys.forces,
    )


def _write_database(path: Path, frames: Sequence[LabelledFrame]) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db import connect

    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    unfinished.unlink(missing_ok=True)
    with connect(unfinished) as database:
        for frame in frames:
            atoms = frame.atoms.copy()
            known = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
            results = {name: value for name, value in known.items() if value is not None}
            atoms.calc = SinglePointCalculator(atoms, **results)
            database.write(atoms, config_type=frame.config_type, gapfactory_id=frame.id)
    unfinished.replace(path)


def _optimade_entry(frame: LabelledFrame) -> dict[str, Any]:
    """Return one structure as OPTIMADE's entry; labels are properties with our prefix."""
    from ase.stress import voigt_6_to_full_3x3_stress

    atoms = frame.atoms
    symbols = atoms.get_chemical_symbols()
    elements = sorted(set(symbols))
    counts = [symbols.count(element) for element in elements]
    divisor = int(np.gcd.reduce(counts))
    reduced = [count // divisor for count in counts]
    # the most frequent element is A, whatever it is
    anonymous = "".join(
        f"{chr(ord('A') + place)}{_number(count)}"
        for place, count in enumerate(sorted(reduced, reverse=True))
    )
    periodic = [int(p) for p in atoms.pbc]
    lattice = [[float(x) for x in row] if any(row) else [None] * 3 for row in atoms.cell.array]
    attributes = {
        "elements": elements,
        "nelements": len(elements),
        "elements_ratios": [count / len(symbols) for count in counts],
        "chemical_formula_descriptive": atoms.get_chemical_formula("hill"),
        "chemical_formula_reduced": "".join(
            f"{e}{_number(n)}" for e, n in zip(elements, reduced, strict=True)
        ),
        "chemical_formula_anonymous": anonymous,
        "dimension_types": periodic,
        "nperiodic_dimensions": sum(periodic),
        "lattice_vectors": lattice,
        "cartesian_site_positions": atoms.positions.tolist(),
        "nsites": len(symbols),
        "species": [{"name": e, "chemical_symbols": [e], "concentration": [1.0]} for e in elements],
        "species_at_sites": symbols,
        "structure_features": [],
        "last_modified": None,
        "_gapfactory_config_type": frame.config_type,
        "_gapfactory_energy": float(frame.energy),
        "_gapfactory_forces": None if frame.forces is None else np.asarray(frame.forces).tolist(),
        "_gapfactory_stress": None
        if frame.stress is None
        else voigt_6_to_full_3x3_stress(frame.stress).tolist(),
    }
    return {"type": "structures", "id": frame.id, "attributes": attributes}


def _number(count: int) -> str:
    return "" if count == 1 else str(count)
