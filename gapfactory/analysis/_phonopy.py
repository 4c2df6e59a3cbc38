"""How gapfactory speaks to phonopy: cells, supercells and force constants, in Å, eV and THz."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory._spglib import quiet_spglib
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

__all__ = ["ase_cell", "nearest_sites", "new_phonopy", "supercell_sites"]

#: Å within which an atom of phonopy's supercell has to lie on a site of the crystal
_ON_SITE = 1e-3


def new_phonopy(crystal: Atoms, matrix: NDArray[np.int64], symprec: float) -> Phonopy:
    """Return phonopy's object for a crystal whose cell is taken as the primitive one.

    Parameters
    ----------
    crystal
        Cell, species, positions and masses; not changed.
    matrix
        Shape (3, 3): its rows are the vectors of the supercell in those of the crystal.
    symprec
        In Å.

    Raises
    ------
    EvidenceError
        The cell is not a primitive one, or phonopy finds no symmetry in it.
    """
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=crystal.get_chemical_symbols(),
        cell=crystal.cell.array,
        scaled_positions=crystal.get_scaled_positions(wrap=False),
        masses=crystal.get_masses(),
    )
    try:
        with quiet_spglib():
            # a non-diagonal supercell has fewer operations than the crystal: phonopy's word on it is no news
            warnings.filterwarnings("ignore", message=".*Point group symmetries", category=UserWarning)
            return Phonopy(
                # phonopy's supercell vectors are the columns of its matrix
                cell,
                supercell_matrix=np.asarray(matrix, dtype=np.int64).T,
                primitive_matrix=np.eye(3),
                symprec=symprec,
                log_level=0,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise EvidenceError(
            f"phonopy makes no supercell {np.asarray(matrix).tolist()} of {crystal.symbols!s}: {error}; "
            "do two atoms coincide?"
        ) from error


def ase_cell(cell: PhonopyAtoms) -> Atoms:
    """Return a cell of phonopy as periodic `ase.Atoms`, atoms in the same order."""
    from ase import Atoms

    return Atoms(
        symbols=list(cell.symbols), cell=cell.cell, positions=cell.positions, masses=cell.masses, pbc=True
    )


def supercell_sites(crystal: Atoms, cell: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which site of the crystal each atom of an undistorted supercell is on.

    Returns
    -------
    basis, translations
        Shape (N,): the atom of the crystal; shape (N, 3): how many vectors of the crystal it is moved by.

    Raises
    ------
    EvidenceError
        An atom is not on a site.
    """
    basis, translations, away = nearest_sites(crystal, cell.positions, np.asarray(cell.numbers))
    if np.linalg.norm(away, axis=1).max() > _ON_SITE:
        raise EvidenceError(f"the supercell of {crystal.symbols!s} has atoms that are not on its sites")
    return basis, translations


def nearest_sites(
    crystal: Atoms, positions: NDArray[np.float64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return for each position the nearest site of its species, with the way from there to it.

    Returns
    -------
    basis, translations, away
        Shapes (N,), (N, 3) and (N, 3); the last in Å.

    Raises
    ------
    EvidenceError
        The crystal has no atom of a species.
    """
    lattice = crystal.cell.array
    inverse = np.linalg.inv(lattice)
    fractional = (positions[:, None, :] - crystal.positions[None, :, :]) @ inverse
    shifts = np.rint(fractional)
    away = (fractional - shifts) @ lattice
    distance = np.linalg.norm(away, axis=2)
    distance[numbers[:, None] != crystal.numbers[None, :]] = np.inf
    basis = np.argmin(distance, axis=1)
    rows = np.arange(len(positions))
    if not np.isfinite(distance[rows, basis]).all():
        raise EvidenceError(f"the supercell has species that {crystal.symbols!s} has not")
    return basis.astype(np.int64), shifts[rows, basis].astype(np.int64), away[rows, basis]
