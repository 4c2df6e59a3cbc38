"""Distorted known crystals: scaled in volume, strained, atoms displaced.

They teach a potential the surroundings of phases that are known already ("+C" of Deringer, Pickard, Csanyi, Phys. Rev.
Lett. 120, 156001 (2018)), or test it there. The paper says "distorted unit cells" and gives no sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from gapfactory.errors import BuildError, InputError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["DistortedCrystal", "DistortedSettings", "distorted_crystal"]


class DistortedSettings(Settings):
    """Sizes of distortions. The papers state none; each default says where it comes from."""

    volume_low: float = Field(default=0.85, gt=0)
    """Smallest volume relative to the crystal's. With `volume_high`: the volumes that the energy-volume curves of
    evidence use (0.90 to 1.10), and half as much again, so that the ends of the curves lie inside the data."""
    volume_high: float = Field(default=1.15, gt=0)
    """Largest volume relative to the crystal's."""
    strain: float = Field(default=0.03, ge=0, lt=0.3)
    """Components of the symmetric strain, its change of volume taken out, are drawn uniformly within +- this. 0.03: a
    shear stress of 12 GPa at a shear modulus of 200 GPa, some way beyond the elastic constants of a hard solid."""
    keep_volume: bool = True
    """Whether the strain's change of volume is taken out. If not, the volume changes by the strain beside the factor
    drawn from `volume_low` to `volume_high`, as in the cells L (1 + strain) of Allen and Bartók 2022."""
    displacement: float = Field(default=0.05, ge=0)
    """Standard deviation of each coordinate's displacement in Å. 0.05: the zero-point motion of boron atoms at a Debye
    temperature of 1300 K, and the displacement of Allen et al. 2022 for force constants."""
    nearest: float = Field(default=0.8, gt=0, le=1)
    """No two atoms come nearer than this times the crystal's shortest distance."""
    tries: int = Field(default=100, ge=1)
    """Attempts at one structure before it is given up."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.volume_low > self.volume_high:
            raise ValueError(
                f"volume_low = {self.volume_low} is above volume_high = {self.volume_high}: exchange them"
            )
        return self


@dataclass(frozen=True)
class DistortedCrystal:
    """A distorted crystal and what was done to it.

    Parameters
    ----------
    atoms
        Periodic, without calculator.
    volume_factor
        Its volume relative to the crystal's.
    strain
        (3, 3) symmetric; without change of volume to first order where the settings keep the volume.
    displacement
        Root mean square displacement of the atoms in Å, from their places in the strained cell.
    """

    atoms: Atoms
    volume_factor: float
    strain: NDArray[np.float64]
    displacement: float


def distorted_crystal(
    crystal: Atoms, rng: np.random.Generator, settings: DistortedSettings | None = None
) -> DistortedCrystal:
    """Return one distorted copy: volume, shape and positions changed at random.

    Parameters
    ----------
    crystal
        Periodic structure, e.g. `gapfactory.analysis.phases.NamedPhase.atoms`; not changed.
    rng
        Source of all randomness; one stream for each structure (`gapfactory.seeds.stream`).
    settings
        Sizes.

    Raises
    ------
    InputError
        The crystal is not periodic in three directions.
    BuildError
        Every attempt brought two atoms too near to each other.
    """
    from ase import Atoms

    settings = settings or DistortedSettings()
    if not all(crystal.pbc) or crystal.cell.rank != 3 or not len(crystal):
        raise InputError(f"{crystal.symbols!s} is not periodic in three directions: it cannot be strained")
    limit = settings.nearest * _shortest(crystal)
    for _ in range(settings.tries):
        factor = float(rng.uniform(settings.volume_low, settings.volume_high))
        strain = _symmetric(rng.uniform(-settings.strain, settings.strain, size=6))
        if settings.keep_volume:
            strain -= np.eye(3) * np.trace(strain) / 3.0
        moves = rng.normal(scale=1.0, size=(len(crystal), 3)) * settings.displacement
        # the atoms as a whole do not move
        moves -= moves.mean(axis=0)
        deformation = np.eye(3) + strain
        own = float(np.linalg.det(deformation))
        deformation *= (factor / own if settings.keep_volume else factor) ** (1.0 / 3.0)
        atoms = Atoms(crystal.numbers, positions=crystal.positions, cell=crystal.cell, pbc=True)
        atoms.set_cell(crystal.cell.array @ deformation, scale_atoms=True)
        atoms.positions += moves
        # compression alone may bring atoms nearer than the limit; it is the displacements that are judged
        if _shortest(atoms) >= min(limit, limit * factor ** (1.0 / 3.0)):
            volume = factor if settings.keep_volume else factor * own
            return DistortedCrystal(atoms, volume, strain, float(np.sqrt((moves**2).sum(axis=1).mean())))
    raise BuildError(
        f"{settings.tries} distortions of {crystal.symbols!s} all brought two atoms nearer than {limit:.2f} Å; lower "
        "displacement or strain"
    )


def _symmetric(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric (3, 3) matrix of six components."""
    xx, yy, zz, yz, xz, xy = values
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _shortest(atoms: Atoms) -> float:
    from ase.neighborlist import neighbor_list

    cutoff = 1.3 * (atoms.get_volume() / len(atoms)) ** (1.0 / 3.0)
    while not len(distances := neighbor_list("d", atoms, cutoff)):
        cutoff *= 1.5
    return float(distances.min())
