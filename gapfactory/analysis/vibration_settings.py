"""Settings of the vibrations and elasticity of crystals: when a potential is good enough, and studies beside it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gapfactory.build.single_displacements import SingleDisplacementSettings
from gapfactory.settings import Settings

__all__ = ["StudySettings", "VibrationLimits"]


class VibrationLimits(Settings):
    """What a potential has to reach against its reference (Allen and Bartók 2022, section 4)."""

    phonon_rmse_THz: float = Field(default=0.5, gt=0)
    """Largest root mean square difference of the frequencies on the mesh of comparison, THz."""
    elastic_percent: float = Field(default=6.0, gt=0)
    """Largest error of an elastic constant or modulus, in percent of the reference."""


class StudySettings(Settings):
    """Further potentials from the same labels, for the comparisons of Allen and Bartók (2022); none by default."""

    primitives: bool = False
    """One fitted to strained primitive cells alone (Fig. 1)."""
    diagonal: bool = False
    """One fitted to diagonal supercells with one displaced atom, and one to as many frames of non-diagonal supercells
    as cost the same (Fig. 3). The diagonal supercells are labelled for it."""
    single: SingleDisplacementSettings = SingleDisplacementSettings()
    """The diagonal supercells and the displacement."""
    static: bool = False
    """One fitted with the same expected error for all components of forces, and one for all of virials, instead of the
    adaptive ones (Figs. 7 and 8)."""
    static_force: float = Field(default=0.01, gt=0)
    """That of forces, eV/Å. The paper gives none; this is its adaptive one where a force is 1 eV/Å."""
    static_virial: float = Field(default=0.01, gt=0)
    """That of the virial of a cell, eV (section 4)."""
    learning: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Numbers of frames; for each, two potentials are fitted to a random subset of that size, one with sparse points of
    its own environments and one with those of all frames (Fig. 4). The smaller subsets lie within the larger."""
