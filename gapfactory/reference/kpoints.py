"""k-point grids: one definition for every code.

The density rho counts k-points per 1/Å of reciprocal lattice vector, *with* the factor 2 pi in the reciprocal
vectors::

    N_i = max(1, ceil(rho |b_i|)),   b_i . a_j = 2 pi delta_ij

Grids contain Gamma. Relations: VASP's KSPACING (1/Å, with 2 pi) is 1/rho; the spacing of CASTEP and of ASE's
Espresso writer (1/Å, without 2 pi) is 1/(2 pi rho); GPAW's ``density`` is rho.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

__all__ = ["kpoint_grid", "kspacing_to_density", "primitive_grid"]

# a lattice vector that is a rounding error too short must not add a k-point
_ROUNDING = 1e-6


def kpoint_grid(atoms: Atoms, density: float) -> tuple[int, int, int]:
    """Return the Gamma-centred grid of `atoms` for a linear density; 1 along directions without periodicity.

    Parameters
    ----------
    atoms
        Structure with a cell of non-zero volume if it is periodic.
    density
        k-points per 1/Å, 2 pi included (see the module).

    Raises
    ------
    InputError
        The density is not positive, or a periodic structure has a cell without volume.
    """
    if not density > 0:
        raise InputError(
            f"k-point density {density} is not positive: give k-points per 1/Å, for instance 2.5."
        )
    if not atoms.pbc.any():
        return (1, 1, 1)
    if atoms.cell.rank < 3:
        raise InputError(
            f"the cell {atoms.cell.array.tolist()} has no volume: a k-point grid needs three vectors."
        )
    lengths = 2.0 * np.pi * np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    sizes = [
        max(1, math.ceil(density * length - _ROUNDING)) if periodic else 1
        for length, periodic in zip(lengths, atoms.pbc, strict=True)
    ]
    return (sizes[0], sizes[1], sizes[2])


def kspacing_to_density(kspacing: float, *, includes_2pi: bool = True) -> float:
    """Return the density that gives the same grids as a k-spacing in 1/Å.

    Parameters
    ----------
    kspacing
        Largest distance of neighbouring k-points, in 1/Å.
    includes_2pi
        True for VASP's KSPACING (0.25 is a density of 4), False for CASTEP and ASE's Espresso writer.

    Raises
    ------
    InputError
        The spacing is not positive.
    """
    if not kspacing > 0:
        raise InputError(f"k-point spacing {kspacing} is not positive: give 1/Å, for instance 0.25.")
    return 1.0 / (kspacing if includes_2pi else 2.0 * np.pi * kspacing)


def primitive_grid(crystal: Atoms, density: float, divisions: Sequence[int]) -> tuple[int, int, int]:
    """Return the smallest k-grid of at least a density that is a multiple of a q-grid.

    The supercells that hold the q-points have the same k-points then (`gapfactory.build.commensurate`).

    Parameters
    ----------
    crystal
        Primitive cell.
    density
        k-points per 1/Å, 2 pi included (see the module).
    divisions
        N1, N2, N3 of the q-grid.

    Raises
    ------
    InputError
        As `kpoint_grid`; the divisions are not three positive numbers.
    """
    if len(divisions) != 3 or any(int(n) != n or n < 1 for n in divisions):
        raise InputError(f"q-grid {tuple(divisions)}: give three whole numbers of at least 1")
    first, second, third = (
        int(n) * -(-k // int(n)) for k, n in zip(kpoint_grid(crystal, density), divisions, strict=True)
    )
    return (first, second, third)
