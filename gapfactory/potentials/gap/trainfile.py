"""The training file of one fit: extended XYZ with every digit, flattened virials and absolute errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.potentials.gap.sparse import atoms_for_quip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.sigmas import Sigmas

__all__ = ["ENERGY", "FORCES", "VIRIAL", "expected_targets", "has_forces", "virial_of", "write_training_file"]

ENERGY, FORCES, VIRIAL = "ref_energy", "ref_forces", "ref_virial"
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def virial_of(item: LabelledStructure) -> np.ndarray | None:
    """Return the symmetric (3, 3) virial in eV (-volume x ASE stress), or None for what is not a crystal."""
    if item.stress is None or item.kind != "crystal":
        return None
    virial = np.empty((3, 3))
    for value, (i, j) in zip(item.stress, _VOIGT, strict=True):
        virial[i, j] = virial[j, i] = -float(value) * item.atoms.get_volume()
    return virial


def expected_targets(data: Sequence[LabelledStructure]) -> dict[str, int]:
    """Return how many energies, force components and virial components the program must find in the file.

    Virials are written as nine numbers and counted as the six that are independent.
    """
    return {
        "energies": len(data),
        "forces": sum(3 * len(item.atoms) for item in data if has_forces(item)),
        "virials": sum(6 for item in data if virial_of(item) is not None),
    }


def has_forces(item: LabelledStructure) -> bool:
    """Return whether the forces of a structure are targets; those on a free atom are zero whatever the terms."""
    return item.forces is not None and item.kind != "isolated"


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{float(x):.16e}" for x in np.ravel(values))


def write_training_file(
    path: Path, data: Sequence[LabelledStructure], sigmas: Mapping[str, Sigmas], cutoff: float
) -> None:
    """Write the training file.

    Virials are written as nine plain numbers in one value: as a nested array QUIP reads none of them,
    without a word. Errors are absolute; a quantity that is not known is left out, with its error.
    """
    with path.open("w", encoding="ascii") as file:
        for item in data:
            atoms = atoms_for_quip(item.atoms, cutoff)
            sigma = sigmas[item.id]
            with_forces = has_forces(item)
            virial = virial_of(item)
            columns = "species:S:1:pos:R:3" + (f":{FORCES}:R:3" if with_forces else "")
            comment = [
                f'Lattice="{_numbers(atoms.cell.array)}"',
                f"Properties={columns}",
                f"{ENERGY}={item.energy:.16e}",
                f"energy_sigma={sigma.energy:.16e}",
                f"config_type={item.kind}",
                'pbc="{} {} {}"'.format(*("T" if p else "F" for p in atoms.pbc)),
            ]
            if with_forces:
                comment.append(f"force_sigma={sigma.force:.16e}")
            if virial is not None:
                comment += [f'{VIRIAL}="{_numbers(virial)}"', f"virial_sigma={sigma.virial:.16e}"]
            file.write(f"{len(atoms)}\n{' '.join(comment)}\n")
            rows = (
                atoms.positions
                if item.forces is None or not with_forces
                else np.hstack([atoms.positions, item.forces])
            )
            for symbol, row in zip(atoms.get_chemical_symbols(), rows, strict=True):
                file.write(f"{symbol} {_numbers(row)}\n")
