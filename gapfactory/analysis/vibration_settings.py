"""Settings of the vibrations and elasticity of crystals: when a potential is good enough."""

from __future__ import annotations

from pydantic import Field

from gapfactory.settings import Settings

__all__ = ["VibrationLimits"]


class VibrationLimits(Settings):
    """What a potential has to reach against its reference (Allen and Bartók 2022, section 4)."""

    phonon_rmse_THz: float = Field(default=0.5, gt=0)
    """Largest root mean square difference of the frequencies on the mesh of comparison, THz."""
    elastic_percent: float = Field(default=6.0, gt=0)
    """Largest error of an elastic constant or modulus, in percent of the reference."""
