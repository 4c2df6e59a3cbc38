"""Cells that molecular dynamics begins with: bulk, bulk with vacancies, slabs with free surfaces, all distorted."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from gapfactory._spglib import ask_spglib
from gapfactory.build.distorted import DistortedSettings, distorted_crystal
from gapfactory.build.supercell import nearly_cubic_supercell
from gapfactory.errors import InputError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from typing import Self

    from ase import Atoms

__all__ = ["StartSettings", "slab", "starting_cell"]

#: Å that a slab is thick at least, half a gap at each surface included: its middle is like the bulk
_THINNEST = 7.0


class StartSettings(Settings):
    """One kind of cell that molecular dynamics begins with."""

    cells: int = Field(default=4, ge=1)
    """Runs in every round."""
    atoms: int = Field(default=32, ge=4, le=500)
    """Atoms of the supercell or slab, about."""
    vacancies: int = Field(default=0, ge=0)
    """Atoms that are taken out, drawn at random."""
    vacuum: float = Field(default=0.0, ge=0)
    """Width of the vacuum between slabs in Å; 0: bulk."""
    planes: tuple[tuple[int, int, int], ...] = Field(default=((1, 0, 0), (1, 1, 0), (1, 1, 1)), min_length=1)
    """With `vacuum`: Miller indices of the surfaces in the conventional cell, which the runs take in turn."""
    temperature_factor: float = Field(default=0.8, gt=0)
    """Temperature in units of the melting point (`evidence.stability.melting_point_K`)."""
    distortion: DistortedSettings = DistortedSettings(volume_low=0.9, volume_high=1.1)
    """How volume, shape and positions are changed before the run."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.vacancies > self.atoms // 4:
            msg = f"{self.vacancies} vacancies in {self.atoms} atoms: take out a quarter at the most, or raise atoms"
            raise ValueError(msg)
        if (0, 0, 0) in self.planes:
            msg = "planes has (0, 0, 0), which is no surface: leave it out"
            raise ValueError(msg)
        return self


def starting_cell(crystal: Atoms, settings: StartSettings, number: int, rng: np.random.Generator) -> Atoms:
    """Return the cell that run `number` of this kind begins with, periodic in three directions.

    Parameters
    ----------
    crystal
        At rest; not changed.
    settings
        Which kind.
    number
        0 for the first of the round: tells the surface.
    rng
        Draws vacancies and distortion.

    Raises
    ------
    InputError
        The crystal is not periodic in three directions, or has fewer atoms than are to be taken out.
    BuildError
        It cannot be distorted that far.
    """
    if settings.vacuum > 0:
        cell = slab(crystal, settings.planes[number % len(settings.planes)], settings.atoms, settings.vacuum)
    else:
        cell = nearly_cubic_supercell(crystal, settings.atoms)
    if settings.vacancies:
        if settings.vacancies > len(cell) // 4:
            raise InputError(
                f"{settings.vacancies} vacancies in a cell of {len(cell)} atoms: ask for more atoms, or fewer vacancies"
            )
        out = rng.choice(len(cell), size=settings.vacancies, replace=False)
        del cell[sorted(out.tolist())]
    return distorted_crystal(cell, rng, settings.distortion).atoms


def slab(crystal: Atoms, plane: tuple[int, int, int], n_atoms: int, vacuum: float) -> Atoms:
    """Return a slab of about `n_atoms` atoms, some 7 Å thick at least, between vacuum; periodic in three directions.

    Parameters
    ----------
    crystal
        Periodic in three directions; not changed.
    plane
        Miller indices in its conventional cell.
    n_atoms
        Wanted number of atoms.
    vacuum
        Å between one slab and the next.

    Raises
    ------
    InputError
        The crystal is not periodic in three directions.
    """
    from ase.build import surface

    if not all(crystal.pbc) or crystal.cell.rank != 3:
        raise InputError(f"{crystal.symbols!s} is not periodic in three directions: it has no surface")
    whole, indices = _conventional(crystal), np.array(plane)
    # cut where planes of atoms are farthest apart: between the double layers of diamond (111), not within them
    places = np.sort(whole.get_scaled_positions() @ indices % 1.0)
    gaps = np.diff(places, append=places[0] + 1.0)
    widest = int(np.argmax(gaps > gaps.max() - 1e-6))
    middle = places[widest] + 0.5 * gaps[widest]
    whole.set_scaled_positions(whole.get_scaled_positions() - middle * indices / (indices @ indices))
    height = float(surface(whole, plane, 1, periodic=True).cell[2, 2])
    # `surface` puts the vacuum on both sides
    found: Any = surface(whole, plane, ceil(_THINNEST / height), vacuum=0.5 * vacuum, periodic=True)
    while 1.5 * len(found) < n_atoms:
        lengths = found.cell.lengths()
        found = found.repeat((2, 1, 1) if lengths[0] <= lengths[1] else (1, 2, 1))
    return found


def _conventional(crystal: Atoms) -> Atoms:
    """Return the conventional cell; the crystal as it is where its symmetry is not found."""
    from ase import Atoms

    given = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    found = ask_spglib("standardize_cell", given, to_primitive=False, no_idealize=False, symprec=1e-3)
    if found is None:
        return crystal.copy()
    cell, positions, numbers = found
    return Atoms(numbers=numbers, scaled_positions=positions, cell=cell, pbc=True)
