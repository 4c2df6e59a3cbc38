"""Phonons straight from phonopy and an ASE calculator, without any of our own code between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator
    from numpy.typing import ArrayLike, NDArray


def frequencies(
    crystal: Atoms,
    calculator: Calculator,
    grid: tuple[int, int, int],
    wave_vectors: ArrayLike,
    *,
    displacement: float,
) -> NDArray[np.float64]:
    """Return frequencies (Q, 3 N) in THz by finite displacements in the diagonal supercell of a primitive cell."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=crystal.get_chemical_symbols(),
        cell=crystal.cell.array,
        scaled_positions=crystal.get_scaled_positions(),
        masses=crystal.get_masses(),
    )
    phonopy = Phonopy(cell, np.diag(grid), primitive_matrix=np.eye(3), log_level=0)
    phonopy.generate_displacements(distance=displacement)
    forces = []
    for displaced in phonopy.supercells_with_displacements or ():
        atoms = Atoms(
            symbols=list(displaced.symbols), cell=displaced.cell, positions=displaced.positions, pbc=True
        )
        atoms.calc = calculator
        forces.append(atoms.get_forces())
    phonopy.forces = forces
    phonopy.produce_force_constants()
    phonopy.symmetrize_force_constants()
    return np.asarray(phonopy.run_qpoints(np.asarray(wave_vectors, dtype=float)).frequencies)
