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

__all__ = [
    "ENERGY",
    "FORCES",
    "FORCE_SIGMAS",
    "VIRIAL",
    "VIRIAL_SIGMAS",
    "expected_targets",
    "has_forces",
    "virial_of",
    "virial_voigt",
    "write_training_file",
]

ENERGY, FORCES, VIRIAL = "ref_energy", "ref_forces", "ref_virial"
FORCE_SIGMAS, VIRIAL_SIGMAS = "force_component_sigma", "virial_component_sigma"
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def virial_voigt(item: LabelledStructure) -> np.ndarray | None:
    """Return the virial in eV (-volume x ASE stress), xx yy zz yz xz xy, or None for what is not a crystal."""
    if item.stress is None or item.kind != "crystal":
        return None
    return -np.asarray(item.stress, dtype=float) * item.atoms.get_volume()


def virial_of(item: LabelledStructure) -> np.ndarray | None:
    """Return the virial of `virial_voigt` as a symmetric (3, 3) matrix."""
    virial = virial_voigt(item)
    return None if virial is None else _symmetric(virial)


def _symmetric(voigt: np.ndarray) -> np.ndarray:
    """Return the (3, 3) matrix of xx yy zz yz xz xy."""
    matrix = np.empty((3, 3))
    for value, (i, j) in zip(voigt, _VOIGT, strict=True):
        matrix[i, j] = matrix[j, i] = float(value)
    return matrix


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
    without a word. Errors are absolute; a quantity that is not known is left out, with its error. Errors of single
    components are three more columns and nine more numbers; where they are, the program does not use those of the
    whole structure.
    """
    with path.open("w", encoding="ascii") as file:
        for item in data:
            atoms = atoms_for_quip(item.atoms, cutoff)
            sigma = sigmas[item.id]
            with_forces = has_forces(item)
            virial = virial_of(item)
            columns = "species:S:1:pos:R:3"
            rows = [atoms.positions]
            if item.forces is not None and with_forces:
                columns += f":{FORCES}:R:3"
                rows.append(item.forces)
                if sigma.force_components is not None:
                    columns += f":{FORCE_SIGMAS}:R:3"
                    rows.append(sigma.force_components)
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
                if sigma.virial_components is not None:
                    comment.append(f'{VIRIAL_SIGMAS}="{_numbers(_symmetric(sigma.virial_components))}"')
            file.write(f"{len(atoms)}\n{' '.join(comment)}\n")
            for symbol, row in zip(atoms.get_chemical_symbols(), np.hstack(rows), strict=True):
                file.write(f"{symbol} {_numbers(row)}\n")
