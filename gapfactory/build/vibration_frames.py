"""Frames that teach a potential the vibrations and the elasticity of a crystal.

C. Allen and A. P. Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), section 3.2: the crystal itself, its primitive
cell under random strain, and its non-diagonal supercells scaled, strained and with displaced atoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from gapfactory.build.distorted import DistortedSettings, distorted_crystal
from gapfactory.build.nondiagonal import NondiagonalSettings
from gapfactory.errors import InputError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.build.commensurate import Grid
    from gapfactory.build.nondiagonal import NondiagonalSet

__all__ = ["FrameSettings", "VibrationFrame", "frame_count", "vibration_frame"]


class FrameSettings(Settings):
    """How many frames of a crystal, and how far each is from it."""

    supercells: NondiagonalSettings = NondiagonalSettings()
    """Which vibrations the supercells hold."""
    primitives: int = Field(default=500, ge=0)
    """Primitive cells under random strain. The counts of energies and atoms in Table 2 of the paper are those of 500
    such cells (Mg and W; 458 for Al, 600 for Si) and `variants` of each supercell."""
    primitives_displaced: int = Field(default=0, ge=0)
    """How many of the primitive cells, the last ones, have displaced atoms as well. Strain alone does not tell how the
    atoms of a cell move against each other: in silicon, a potential without supercells needs some such cells for its
    elastic constants (docs/evidence/vibrations-analytic.md). With supercells none are needed; the paper's frames of Mg
    have none."""
    variants: int = Field(default=42, ge=0)
    """Frames of each supercell. 42: the same table (49 for Al)."""
    scales: tuple[float, ...] = Field(default=(1.0, 0.985, 1.015, 0.995, 1.005, 0.99, 1.01), min_length=1)
    """Factors of the supercells' vectors, taken in turn; the ends come early, so that few variants have them too. The
    paper gives none. Here: most of what a metal expands by from 0 K to its melting point, and as much compression."""
    strain: float = Field(default=0.01, ge=0, lt=0.3)
    """The six components of the symmetric strain are drawn uniformly within +- this (section 3.2)."""
    displacement: float = Field(default=0.10, ge=0)
    """Standard deviation of each coordinate's displacement in the supercells in Å (section 3.2). Not the 0.05 Å of the
    paper's force constants, which are a phonon calculation's."""
    nearest: float = Field(default=0.8, gt=0, le=1)
    """No two atoms come nearer than this times the crystal's shortest distance."""

    @model_validator(mode="after")
    def _displaced_are_among_them(self) -> Self:
        if self.primitives_displaced > self.primitives:
            msg = (
                f"primitives_displaced = {self.primitives_displaced} is more than primitives = {self.primitives}: they "
                "are some of these"
            )
            raise ValueError(msg)
        return self

    def distortion(self, scale: float, displacement: float) -> DistortedSettings:
        """Return the distortion of one frame whose vectors are scaled by `scale`."""
        return DistortedSettings(
            volume_low=scale**3,
            volume_high=scale**3,
            strain=self.strain,
            keep_volume=False,
            displacement=displacement,
            nearest=self.nearest,
        )


@dataclass(frozen=True)
class VibrationFrame:
    """One frame and where it comes from.

    Parameters
    ----------
    atoms
        Periodic, without calculator.
    kind
        The crystal as it is, a strained primitive cell, or a distorted supercell.
    cell
        Number of the supercell in its set; None for the other kinds.
    variant
        Number among the frames of the same kind and supercell.
    scale
        Factor of the vectors, before the strain.
    strain
        (3, 3) symmetric, or None for the crystal as it is.
    displacement
        Root mean square displacement of the atoms in Å.
    grid
        k-points along its vectors, those of the primitive cell's grid. None: the supercells were made without.
    """

    atoms: Atoms
    kind: Literal["crystal", "primitive", "supercell"]
    cell: int | None
    variant: int
    scale: float
    strain: NDArray[np.float64] | None
    displacement: float
    grid: Grid | None = None


def frame_count(supercells: NondiagonalSet, settings: FrameSettings) -> int:
    """Return the number of frames: the crystal, the strained primitive cells, all variants of all supercells."""
    return 1 + settings.primitives + settings.variants * len(supercells.cells)


def vibration_frame(
    crystal: Atoms,
    supercells: NondiagonalSet,
    number: int,
    rng: np.random.Generator,
    settings: FrameSettings | None = None,
) -> VibrationFrame:
    """Return one frame.

    Number 0 is the crystal; then come the strained primitive cells; then the supercells, all of them in the first
    variant, all in the second, and so on. Numbers from `frame_count` on are further variants: places for sparse
    points that need no label (section 4 and Fig. 4 of the paper).

    Parameters
    ----------
    crystal
        Relaxed primitive cell; not changed.
    supercells
        What `nondiagonal_cells` gives for it, with `kpoints` if all frames are to have the same k-points.
    number
        Which frame.
    rng
        Source of all randomness: `gapfactory.seeds.stream(seed, generation, Stage.SUPERCELL, number)`, the number
        counted through where several crystals share a generation.
    settings
        Counts and sizes.

    Raises
    ------
    InputError
        The number is negative, or the crystal is not periodic in three directions.
    BuildError
        Every attempt brought two atoms too near to each other.
    """
    settings = settings or FrameSettings()
    if number < 0:
        raise InputError(f"frame {number}: frames are counted from 0")
    if number == 0:
        perfect = crystal.copy()
        perfect.calc = None
        return VibrationFrame(perfect, "crystal", None, 0, 1.0, None, 0.0, supercells.kpoints)
    if number <= settings.primitives:
        moved = number > settings.primitives - settings.primitives_displaced
        found = distorted_crystal(
            crystal, rng, settings.distortion(1.0, settings.displacement if moved else 0.0)
        )
        return VibrationFrame(
            found.atoms,
            "primitive",
            None,
            number - 1,
            1.0,
            found.strain,
            found.displacement,
            supercells.kpoints,
        )
    variant, cell = divmod(number - 1 - settings.primitives, len(supercells.cells))
    # shifted from cell to cell: all scales appear in the first variants
    scale = settings.scales[(variant + cell) % len(settings.scales)]
    supercell = supercells.cells[cell]
    perfect = supercell.atoms(crystal)
    found = distorted_crystal(perfect, rng, settings.distortion(scale, settings.displacement))
    return VibrationFrame(
        found.atoms, "supercell", cell, variant, scale, found.strain, found.displacement, supercell.grid
    )
