"""Force constants by least squares from any displaced supercells of a crystal, non-diagonal ones among them.

Lloyd-Williams and Monserrat, Phys. Rev. B 92, 184301 (2015): small supercells, each commensurate with some wave vectors
of a grid, together hold what the large diagonal supercell of that grid does. Here every supercell is a piece of the
diagonal one, whose force constants are expanded in those that the space group allows (basis of symfc) and fitted to all
forces at once.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory._spglib import quiet_spglib
from gapfactory.analysis._phonopy import nearest_sites, new_phonopy
from gapfactory.analysis.force_constants import ForceConstants, checked_forces, coset_keys, site_rows
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray
    from phonopy import Phonopy

__all__ = ["fit_force_constants", "supercell_matrix"]

#: share of the largest singular value below which a combination of force constants counts as undetermined
_RANK = 1e-7
#: how far, in vectors of the crystal, a supercell may be from one without strain
_STRAIN = 1e-4
#: how deeply symfc's functions may call themselves; what it sets itself
_SYMFC_RECURSION = 100_000


def supercell_matrix(crystal: Atoms, cell: Atoms) -> NDArray[np.int64]:
    """Return the integers, shape (3, 3), whose rows give the vectors of a supercell in those of the crystal.

    Raises
    ------
    EvidenceError
        The cell is strained, or no supercell of the crystal at all.
    """
    ratio = cell.cell.array @ np.linalg.inv(crystal.cell.array)
    matrix = np.rint(ratio).astype(np.int64)
    if np.abs(ratio - matrix).max() > _STRAIN or len(cell) != len(crystal) * abs(
        round(np.linalg.det(matrix))
    ):
        raise EvidenceError(
            f"{cell.symbols!s} is no unstrained supercell of {crystal.symbols!s}; give cells of displaced atoms only"
        )
    return matrix


def fit_force_constants(
    crystal: Atoms,
    cells: Sequence[Atoms],
    forces: Sequence[ArrayLike],
    settings: PhononSettings | None = None,
) -> ForceConstants:
    """Return the force constants of the diagonal supercell of a grid that describe the forces on displaced cells best.

    Forces are minus force constants times displacements (paper, Eq. 5), so displacements have to be small: third-order
    terms cancel where each is given with both signs. The acoustic sum rule and the space group hold exactly.

    Parameters
    ----------
    crystal
        The primitive cell.
    cells
        Unstrained supercells with displaced atoms, in any order; each has to fit into the diagonal supercell.
    forces
        By cell: shape (atoms, 3), eV/Å.
    settings
        Grid and tolerance.

    Raises
    ------
    EvidenceError
        A cell is no unstrained supercell, or not commensurate with the grid; forces do not fit; the cells do not
        determine all force constants that symmetry allows.
    """
    settings = settings or PhononSettings()
    if not cells or len(cells) != len(forces):
        raise EvidenceError(f"{len(cells)} displaced cells and forces of {len(forces)}: give one for each")
    grid = np.diag(settings.grid).astype(np.int64)
    phonopy = new_phonopy(crystal, grid, settings.symmetry_tolerance)
    sites = site_rows(crystal, phonopy.supercell)
    basis = _basis(phonopy, settings.symmetry_tolerance)
    blocks, targets = [], []
    for k, (cell, wanted) in enumerate(zip(cells, forces, strict=True)):
        moved, pushed = _unfolded(
            crystal, grid, sites, cell, checked_forces(wanted, (len(cell), 3), f"cell {k}")
        )
        # rows: the translations of this cell, times the atoms of the crystal, times the axes
        blocks.append(-np.einsum("injab,tjb->tian", basis, moved).reshape(-1, basis.shape[1]))
        targets.append(pushed.ravel())
    design, target = np.concatenate(blocks), np.concatenate(targets)
    solution, _, rank, singular = np.linalg.lstsq(design, target, rcond=_RANK)
    if rank < basis.shape[1]:
        raise EvidenceError(
            f"{len(cells)} displaced cells determine {rank} of the {basis.shape[1]} independent force constants on the "
            f"grid {'x'.join(map(str, settings.grid))} (singular values from {singular[0]:.2g} to "
            f"{singular[-1]:.2g}); add supercells commensurate with the other wave vectors, or displacements"
        )
    values = np.einsum("injab,n->ijab", basis, solution)
    return ForceConstants(
        crystal=crystal.copy(),
        matrix=grid,
        sites=sites,
        values=values,
        drift=float(np.abs(values.sum(axis=1)).max()),
        residual=float(np.sqrt(np.mean((design @ solution - target) ** 2))),
        symmetry_tolerance=settings.symmetry_tolerance,
    )


def _basis(phonopy: Phonopy, symprec: float) -> NDArray[np.float64]:
    """Return the force constants that symmetry allows, shape (n, independent ones, N, 3, 3), orthonormal."""
    cell = phonopy.supercell
    with quiet_spglib(), _deep_recursion():
        from symfc import Symfc  # type: ignore[import-untyped]
        from symfc.utils.utils import SymfcAtoms  # type: ignore[import-untyped]

        found: Any = Symfc(
            SymfcAtoms(numbers=cell.numbers, scaled_positions=cell.scaled_positions, cell=cell.cell),
            symprec=symprec,
            log_level=0,
        )
        found.compute_basis_set(2)
    space = found.basis_set[2]
    vectors = space.compact_compression_matrix @ np.asarray(
        space.blocked_basis_set @ np.eye(space.basis_set.shape[1])
    )
    shaped = np.asarray(vectors).reshape(-1, len(cell.numbers), 3, 3, vectors.shape[1])
    return np.ascontiguousarray(np.moveaxis(shaped, -1, 1))


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Let functions call themselves as deeply as symfc wants it, and as before afterwards.

    symfc sets this for good when it is imported; then whatever recurses without end, on hostile JSON for one, crashes
    the process instead of raising RecursionError.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _SYMFC_RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _unfolded(
    crystal: Atoms,
    grid: NDArray[np.int64],
    sites: NDArray[np.int64],
    cell: Atoms,
    forces: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a displaced cell repeated through the diagonal supercell, seen from each of its primitive cells.

    Returns
    -------
    moved, pushed
        Shape (t, N, 3) in Å: displacements of the diagonal supercell's atoms, shifted by each of the t translations of
        the cell. Shape (t, n, 3) in eV/Å: forces on the atoms of the crystal there.
    """
    matrix = supercell_matrix(crystal, cell)
    tiles = grid @ np.linalg.inv(matrix)
    if np.abs(tiles - np.rint(tiles)).max() > 1e-6:
        raise EvidenceError(
            f"the supercell {matrix.tolist()} does not fit into the grid {np.diag(grid).tolist()}: "
            "give another grid, or leave it out"
        )
    basis, translations, away = nearest_sites(crystal, cell.positions, cell.numbers)
    rows = np.concatenate([basis[:, None], translations], axis=1)
    place = {key: k for k, key in enumerate(coset_keys(rows, matrix))}
    if len(place) != len(cell):
        raise EvidenceError(
            f"two atoms of {cell.symbols!s} are nearest to one site: displacements are too large"
        )
    moved, pushed = [], []
    for shift in translations[basis == 0]:
        there = sites.copy()
        there[:, 1:] += shift
        moved.append(away[[place[key] for key in coset_keys(there, matrix)]])
        first = np.array([[atom, *shift] for atom in range(len(crystal))])
        pushed.append(forces[[place[key] for key in coset_keys(first, matrix)]])
    return np.array(moved), np.array(pushed)
