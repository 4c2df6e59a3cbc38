"""Diagonal supercells with one displaced atom: the classical set for force constants, for comparison.

J. George et al., J. Chem. Phys. 153, 044104 (2020) teach a potential with them; C. Allen and A. P. Bartók, Mach.
Learn.: Sci. Technol. 3, 045031 (2022), Fig. 3, compare non-diagonal supercells of equal cost with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from gapfactory._spglib import symmetry_operations
from gapfactory.errors import InputError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["SingleDisplacementSettings", "single_displacements"]


class SingleDisplacementSettings(Settings):
    """The diagonal supercell and the displacement in it."""

    divisions: tuple[int, int, int] = (4, 4, 4)
    """Primitive cells along each vector: the grid of q-points that the supercell holds."""
    distance: float = Field(default=0.05, gt=0)
    """Displacement in Å. 0.05: Allen and Bartók 2022, section 3.1, for the force constants of the reference."""
    symprec: float = Field(default=1e-3, gt=0)
    """Tolerance of the crystal's symmetry in Å."""


def single_displacements(
    crystal: Atoms, settings: SingleDisplacementSettings | None = None
) -> tuple[Atoms, ...]:
    """Return diagonal supercells in each of which one atom is displaced along a Cartesian axis.

    One atom of each symmetry-equivalent set is displaced, along as few of x, y, z as determine its force constants:
    an axis is left out if the operations that keep the atom make it from the ones before. Opposite displacements are
    not added.

    Parameters
    ----------
    crystal
        Periodic structure, best primitive; not changed.
    settings
        Supercell and displacement.

    Raises
    ------
    InputError
        The divisions are not positive, or the crystal is not periodic in three directions.
    """
    settings = settings or SingleDisplacementSettings()
    repeats = np.array(settings.divisions)
    if (repeats < 1).any():
        raise InputError(f"divisions {settings.divisions}: give three whole numbers of at least 1")
    rotations, translations = symmetry_operations(crystal, settings.symprec)
    # W x stays a vector of the supercell for each vector x of it
    turned = rotations * repeats[None, None, :]
    kept = (turned % repeats[None, :, None] == 0).all(axis=(1, 2))
    rotations, translations = rotations[kept], translations[kept]
    images = _permutations(crystal, rotations, translations)
    cell = crystal.cell.array
    # rows: x = f L, f' = f W^T, hence x' = x L^-1 W^T L
    cartesian = np.linalg.inv(cell) @ rotations.transpose(0, 2, 1) @ cell
    bare = crystal.copy()
    bare.calc = None
    perfect = bare.repeat(settings.divisions)
    found = []
    for atom in np.unique(images.min(axis=0)).tolist():
        site = cartesian[images[:, atom] == atom]
        spanned = np.empty((0, 3))
        for axis in np.eye(3):
            larger = np.vstack([spanned, axis @ site])
            if _rank(larger) > _rank(spanned):
                moved = perfect.copy()
                moved.positions[atom] += settings.distance * axis
                found.append(moved)
                spanned = larger
    return tuple(found)


def _rank(rows: NDArray[np.float64]) -> int:
    return int(np.linalg.matrix_rank(rows, tol=1e-3)) if len(rows) else 0


def _permutations(
    crystal: Atoms, rotations: NDArray[np.int64], translations: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return (g, n): operation k moves atom i to the place of atom `permutations[k, i]`, up to a lattice vector."""
    points = crystal.get_scaled_positions()
    permutations = np.empty((len(rotations), len(points)), dtype=np.int64)
    for k, (rotation, translation) in enumerate(zip(rotations, translations, strict=True)):
        difference = (points @ rotation.T + translation)[:, None, :] - points[None, :, :]
        difference -= np.rint(difference)
        permutations[k] = np.argmin(((difference @ crystal.cell.array) ** 2).sum(axis=2), axis=1)
    return permutations
