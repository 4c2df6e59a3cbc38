"""Settings of phonons: displacements, grids, paths."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gapfactory.settings import Settings

__all__ = ["PhononSettings"]

Grid = tuple[int, int, int]


class PhononSettings(Settings):
    """How phonons are worked out, by potential and reference alike; defaults of Allen and Bartók (2022), section 3."""

    grid: Grid = (4, 4, 4)
    """Grid of wave vectors at which phonons are exact: the diagonal supercell of the primitive cell."""
    supercells: Literal["non-diagonal", "diagonal"] = "non-diagonal"
    """In which supercells atoms are displaced: in small `non-diagonal` ones, which together hold the same vibrations as
    the `diagonal` one (Lloyd-Williams and Monserrat 2015), or in that."""
    displacement: float = Field(default=0.05, gt=0, le=0.2)
    """Length of the displacements of single atoms, in Å."""
    compare_mesh: Grid = (8, 8, 8)
    """Gamma-centred mesh over which potential and reference are compared."""
    dos_mesh: Grid = (40, 40, 40)
    """Gamma-centred mesh of the density of states."""
    dos_points: int = Field(default=201, ge=11)
    """Frequencies at which the density of states is given."""
    path_density: float = Field(default=30.0, gt=0)
    """Points of the path in reciprocal space, per 1/Å (with 2 pi)."""
    imaginary_from: float = Field(default=0.1, ge=0)
    """A mode counts as imaginary below minus this frequency, in THz: noise of forces moves the acoustic modes at
    Gamma and near it by as much."""
    symmetry_tolerance: float = Field(default=1e-4, gt=0)
    """Distance within which an operation counts as a symmetry of the crystal, in Å."""

    @field_validator("grid", "compare_mesh", "dos_mesh")
    @classmethod
    def _positive(cls, value: Grid) -> Grid:
        if min(value) < 1:
            msg = f"a grid needs at least one point along each axis, not {list(value)}; give e.g. [4, 4, 4]"
            raise ValueError(msg)
        return value
