"""Force constants of a crystal by finite displacements, and the frequencies that follow from them.

Kunc and Martin, Phys. Rev. Lett. 48, 406 (1982); Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022),
Eqs. 5 and 6. The displacements, the use of symmetry and the dynamical matrix are phonopy's. Long-range electrostatic
fields of polar crystals (splitting of longitudinal and transverse modes at Gamma) are not added.

    >>> planned = displacement_set(crystal, settings)                  # doctest: +SKIP
    >>> forces = [label(cell) for cell in planned.cells]               # any engine, now or later
    >>> constants = force_constants(planned, forces)                   # doctest: +SKIP
    >>> constants.frequencies([[0.5, 0.5, 0.0]])                       # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory._spglib import ask_spglib, quiet_spglib
from gapfactory.analysis._phonopy import ase_cell, new_phonopy, supercell_sites
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import ArrayLike, NDArray
    from phonopy import Phonopy

__all__ = [
    "DisplacementSet",
    "ForceConstants",
    "crystal_dict",
    "crystal_from_dict",
    "displacement_set",
    "force_constants",
    "forces_of",
    "oriented_primitive_cell",
]


def oriented_primitive_cell(atoms: Atoms, symprec: float = 1e-4) -> Atoms:
    """Return a primitive cell of a crystal that lies in space as the crystal does.

    A cell that is primitive already is returned as it is (a copy), so that its vectors and the order of its atoms stay.

    Raises
    ------
    EvidenceError
        spglib finds no symmetry, e.g. because two atoms coincide.
    """
    from ase import Atoms

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = ask_spglib("standardize_cell", cell, to_primitive=True, no_idealize=True, symprec=symprec)
    if found is None:
        raise EvidenceError(f"no symmetry found for {atoms.symbols!s}; do two atoms coincide?")
    lattice, positions, numbers = found
    if len(numbers) == len(atoms):
        plain = atoms.copy()
        plain.calc = None
        return plain
    return Atoms(numbers, cell=lattice, scaled_positions=positions, pbc=True)


@dataclass(frozen=True)
class DisplacementSet:
    """Supercells with one displaced atom each, from whose forces the force constants follow.

    Parameters
    ----------
    crystal
        The primitive cell.
    matrix
        Shape (3, 3): rows are the vectors of the supercell in those of the crystal.
    supercell
        The supercell at rest. Its forces are needed only where symmetry does not make them zero.
    cells
        The displaced supercells, to be labelled in any order and by any engine; atoms ordered as in `supercell`.
    displaced
        By cell: index of the displaced atom.
    displacements
        Shape (n, 3): by cell, in Å.
    symmetry_tolerance
        Within which symmetry was found, in Å.
    """

    crystal: Atoms
    matrix: NDArray[np.int64]
    supercell: Atoms
    cells: tuple[Atoms, ...]
    displaced: tuple[int, ...]
    displacements: NDArray[np.float64]
    symmetry_tolerance: float


def displacement_set(
    crystal: Atoms, settings: PhononSettings | None = None, *, matrix: ArrayLike | None = None
) -> DisplacementSet:
    """Return the smallest set of displaced supercells that symmetry allows; the same for the same crystal.

    Parameters
    ----------
    crystal
        A primitive cell (see `oriented_primitive_cell`), relaxed; not changed.
    settings
        Length of the displacements, and the grid.
    matrix
        Another supercell than the diagonal one of the grid, e.g. a non-diagonal one: integers, shape (3, 3); rows are
        its vectors in those of the crystal.

    Raises
    ------
    EvidenceError
        The matrix is not one of integers with a determinant other than zero, or phonopy refuses the crystal.
    """
    settings = settings or PhononSettings()
    wanted = np.diag(settings.grid) if matrix is None else np.asarray(matrix)
    whole = np.rint(wanted).astype(np.int64)
    if whole.shape != (3, 3) or np.abs(whole - wanted).max() > 1e-8 or round(np.linalg.det(whole)) == 0:
        raise EvidenceError(
            f"{wanted.tolist()} is no matrix of a supercell: give 3 x 3 integers, not singular"
        )
    phonopy = new_phonopy(crystal, whole, settings.symmetry_tolerance)
    with quiet_spglib():
        phonopy.generate_displacements(distance=settings.displacement)
    supercell = ase_cell(phonopy.supercell)
    dataset: Any = phonopy.dataset
    moves = [(int(d["number"]), np.asarray(d["displacement"], float)) for d in dataset["first_atoms"]]
    cells = []
    for atom, by in moves:
        cell = supercell.copy()
        cell.positions[atom] += by
        cells.append(cell)
    return DisplacementSet(
        crystal=crystal.copy(),
        matrix=whole,
        supercell=supercell,
        cells=tuple(cells),
        displaced=tuple(atom for atom, _ in moves),
        displacements=np.array([by for _, by in moves]),
        symmetry_tolerance=settings.symmetry_tolerance,
    )


@dataclass(frozen=True)
class ForceConstants:
    """Second derivatives of the energy with respect to the positions of atoms.

    Parameters
    ----------
    crystal
        The primitive cell, n atoms.
    matrix
        Shape (3, 3): rows are the vectors of the supercell in those of the crystal.
    sites
        Shape (N, 4): by atom of the supercell, the atom of the crystal and by how many of its vectors it is moved.
    values
        Shape (n, N, 3, 3), eV/Å^2: between each atom of the crystal and each of the supercell,
        d^2E / dr_ia dr_jb = -dF_ia / dr_jb, with all periodic images of j moved alike. Rows sum to zero.
    drift
        How far the forces break the acoustic sum rule, in eV/Å^2: the largest sum over j, or over all i, before these
        were made zero. Zero where the fit leaves no freedom to break it.
    residual
        Of constants fitted by least squares, root mean square of the forces that they do not describe, in eV/Å: noise,
        and what is not linear in the displacements; None for finite displacements.
    symmetry_tolerance
        Within which symmetry was found, in Å.
    """

    crystal: Atoms
    matrix: NDArray[np.int64]
    sites: NDArray[np.int64]
    values: NDArray[np.float64]
    drift: float
    residual: float | None = None
    symmetry_tolerance: float = 1e-4

    def phonopy(self) -> Phonopy:
        """Return phonopy's object with these force constants, for what is not offered here.

        Raises
        ------
        EvidenceError
            The force constants do not belong to the supercell.
        """
        phonopy = new_phonopy(self.crystal, self.matrix, self.symmetry_tolerance)
        theirs = site_rows(self.crystal, phonopy.supercell)
        if self.values.shape != (len(self.crystal), len(theirs), 3, 3) or len(self.sites) != len(theirs):
            raise EvidenceError(
                f"force constants of shape {self.values.shape} do not fit {len(self.crystal)} atoms and a "
                f"supercell of {len(theirs)}"
            )
        keys = coset_keys(self.sites, self.matrix)
        place = {key: k for k, key in enumerate(keys)}
        order = [place[key] for key in coset_keys(theirs, self.matrix)]
        # phonopy's rows are the atoms of its own primitive cell, which are those of the crystal in the same order
        phonopy.force_constants = np.ascontiguousarray(self.values[:, order])
        return phonopy

    def frequencies(self, wave_vectors: ArrayLike) -> NDArray[np.float64]:
        """Return the frequencies at wave vectors, in ascending order, imaginary ones as negative numbers.

        Parameters
        ----------
        wave_vectors
            Shape (m, 3), in units of the reciprocal vectors of the crystal (fractional, without 2 pi).

        Returns
        -------
        NDArray
            Shape (m, 3n), THz (not angular: sqrt(eigenvalue)/2 pi).
        """
        return _frequencies(self.phonopy(), wave_vectors)

    def gamma(self) -> NDArray[np.float64]:
        """Return the second derivatives for atoms that move alike in all cells, shape (n, 3, n, 3), in eV/Å^2."""
        n = len(self.crystal)
        out = np.zeros((n, 3, n, 3))
        for j, atom in enumerate(self.sites[:, 0]):
            out[:, :, atom, :] += self.values[:, j]
        flat = out.reshape(3 * n, 3 * n)
        return (0.5 * (flat + flat.T)).reshape(n, 3, n, 3)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return {
            "crystal": crystal_dict(self.crystal),
            "matrix": self.matrix.tolist(),
            "sites": self.sites.tolist(),
            "values_eV_per_A2": self.values.tolist(),
            "drift_eV_per_A2": self.drift,
            "residual_eV_per_A": self.residual,
            "symmetry_tolerance_A": self.symmetry_tolerance,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ForceConstants:
        """Return what `as_dict` wrote."""
        return cls(
            crystal=crystal_from_dict(data["crystal"]),
            matrix=np.array(data["matrix"], dtype=np.int64),
            sites=np.array(data["sites"], dtype=np.int64),
            values=np.array(data["values_eV_per_A2"], dtype=float),
            drift=float(data["drift_eV_per_A2"]),
            residual=None if data["residual_eV_per_A"] is None else float(data["residual_eV_per_A"]),
            symmetry_tolerance=float(data["symmetry_tolerance_A"]),
        )


def force_constants(
    planned: DisplacementSet, forces: Sequence[ArrayLike], *, at_rest: ArrayLike | None = None
) -> ForceConstants:
    """Return the force constants that follow from the forces on displaced supercells.

    Symmetry fills in what was not displaced; then the acoustic sum rule and the symmetry between two atoms are imposed.

    Parameters
    ----------
    planned
        What was displaced.
    forces
        By cell of `planned.cells`: shape (N, 3), eV/Å, atoms in the order of `planned.supercell`, whichever that is.
    at_rest
        Forces on `planned.supercell`, shape (N, 3), eV/Å, which are subtracted. Zero by symmetry in crystals without
        free coordinates, and in relaxed ones.

    Raises
    ------
    EvidenceError
        Forces are missing, of another shape, or not finite; the supercell is not that of the matrix.
    """
    phonopy = new_phonopy(planned.crystal, planned.matrix, planned.symmetry_tolerance)
    shape = (len(planned.supercell), 3)
    if len(forces) != len(planned.cells):
        raise EvidenceError(
            f"{len(planned.cells)} displaced cells, but forces of {len(forces)}; label them all"
        )
    rest = np.zeros(shape) if at_rest is None else checked_forces(at_rest, shape, "the supercell at rest")
    found = [checked_forces(f, shape, f"displaced cell {k}") for k, f in enumerate(forces)]
    order = _phonopys_order(planned, phonopy)
    place = np.argsort(order)
    phonopy.dataset = {
        "natom": shape[0],
        "first_atoms": [
            {"number": int(place[atom]), "displacement": by.tolist(), "forces": (f - rest)[order]}
            for atom, by, f in zip(planned.displaced, planned.displacements, found, strict=True)
        ],
    }
    with quiet_spglib():
        phonopy.produce_force_constants(calculate_full_force_constants=False)
        raw = np.array(phonopy.force_constants)
        phonopy.symmetrize_force_constants(level=3)
    return _collected(planned.crystal, planned.matrix, phonopy, raw, planned.symmetry_tolerance)


def forces_of(cells: Sequence[Atoms], calculator: Calculator) -> list[NDArray[np.float64]]:
    """Return the forces (eV/Å) of a calculator on cells, which are not changed."""
    found = []
    for cell in cells:
        work = cell.copy()
        work.calc = calculator
        found.append(np.array(work.get_forces(), dtype=float))
    return found


def _phonopys_order(planned: DisplacementSet, phonopy: Phonopy) -> NDArray[np.int64]:
    """Return which atom of the planned supercell each atom of phonopy's is; not the same where others planned it.

    Raises
    ------
    EvidenceError
        The supercell is not that of the matrix.
    """
    ours = coset_keys(site_rows(planned.crystal, planned.supercell), planned.matrix)
    theirs = coset_keys(site_rows(planned.crystal, phonopy.supercell), planned.matrix)
    place = {key: k for k, key in enumerate(ours)}
    if len(ours) != len(theirs) or set(ours) != set(theirs):
        raise EvidenceError(
            f"the planned supercell of {len(ours)} atoms is not {planned.matrix.tolist()} times the crystal"
        )
    return np.array([place[key] for key in theirs], dtype=np.int64)


def _collected(
    crystal: Atoms, matrix: NDArray[np.int64], phonopy: Phonopy, raw: NDArray[np.float64], symprec: float
) -> ForceConstants:
    """Return phonopy's compact force constants as ours, with the drift of the raw ones."""
    values: Any = phonopy.force_constants
    sites = site_rows(crystal, phonopy.supercell)
    # over all i for one j: by translation, over the atoms of the crystal and every image of j
    columns = [raw[:, sites[:, 0] == atom].sum(axis=(0, 1)) for atom in range(len(crystal))]
    return ForceConstants(
        crystal=crystal.copy(),
        matrix=np.array(matrix, dtype=np.int64),
        sites=sites,
        values=np.array(values, dtype=float),
        drift=float(max(np.abs(raw.sum(axis=1)).max(), np.abs(columns).max())),
        symmetry_tolerance=symprec,
    )


def _frequencies(phonopy: Phonopy, wave_vectors: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(wave_vectors, dtype=float).reshape(-1, 3)
    found: Any = phonopy.run_qpoints(points).frequencies
    return np.sort(np.array(found, dtype=float), axis=1)


def checked_forces(forces: ArrayLike, shape: tuple[int, int], name: str) -> NDArray[np.float64]:
    array = np.array(forces, dtype=float)
    if array.shape != shape or not np.isfinite(array).all():
        raise EvidenceError(
            f"{name}: expected finite forces of shape {shape}, got {array.shape}, finite or not"
        )
    return array


def site_rows(crystal: Atoms, supercell: Any) -> NDArray[np.int64]:
    """Return atom of the crystal and translation of every atom of a supercell, shape (N, 4)."""
    basis, translations = supercell_sites(crystal, supercell)
    return np.concatenate([basis[:, None], translations], axis=1)


def coset_keys(sites: NDArray[np.int64], matrix: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """Return names of sites that are equal when a vector of the supercell leads from one to the other.

    A translation T is one of the supercell where T times the inverse of the matrix is whole; times the determinant, in
    integers, that is where T times the adjugate is a multiple of the determinant.
    """
    determinant = round(np.linalg.det(matrix))
    adjugate = np.rint(np.linalg.inv(matrix) * determinant).astype(np.int64)
    reduced = np.mod(sites[:, 1:] @ adjugate, abs(determinant))
    return [(int(atom), *map(int, row)) for atom, row in zip(sites[:, 0], reduced, strict=True)]


def crystal_dict(atoms: Atoms) -> dict[str, Any]:
    """Return a periodic crystal as plain JSON data with the units in the keys; `crystal_from_dict` reads it."""
    return {
        "numbers": atoms.numbers.tolist(),
        "cell_A": atoms.cell.array.tolist(),
        "positions_A": atoms.positions.tolist(),
        "masses_u": atoms.get_masses().tolist(),
    }


def crystal_from_dict(data: Mapping[str, Any]) -> Atoms:
    """Return what `crystal_dict` wrote."""
    from ase import Atoms

    return Atoms(
        numbers=data["numbers"],
        cell=data["cell_A"],
        positions=data["positions_A"],
        masses=data["masses_u"],
        pbc=True,
    )
