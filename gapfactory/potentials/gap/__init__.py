"""Gaussian approximation potentials: settings, fit, checks and calculator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory._lazy import lazy_names

if TYPE_CHECKING:
    from gapfactory.potentials.gap.backends import check_backend
    from gapfactory.potentials.gap.calculator import GapCalculator, load_potential
    from gapfactory.potentials.gap.check import validate_potential
    from gapfactory.potentials.gap.data import GapFit, LabelledStructure, StageFit, TrainErrors
    from gapfactory.potentials.gap.files import potential_digest, write_manifest
    from gapfactory.potentials.gap.fit import fit_gap
    from gapfactory.potentials.gap.memory import MemoryEstimate, estimate_memory
    from gapfactory.potentials.gap.presets import allen_2022
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.potentials.gap.sigmas import SigmaSettings, distance_to_hull

__all__ = [
    "GapCalculator",
    "GapFit",
    "GapSettings",
    "LabelledStructure",
    "MemoryEstimate",
    "SigmaSettings",
    "StageFit",
    "TrainErrors",
    "allen_2022",
    "check_backend",
    "distance_to_hull",
    "estimate_memory",
    "fit_gap",
    "load_potential",
    "potential_digest",
    "validate_potential",
    "write_manifest",
]

__getattr__ = lazy_names(
    __name__,
    {
        "backends": ("check_backend",),
        "calculator": ("GapCalculator", "load_potential"),
        "check": ("validate_potential",),
        "data": ("GapFit", "LabelledStructure", "StageFit", "TrainErrors"),
        "files": ("potential_digest", "write_manifest"),
        "fit": ("fit_gap",),
        "memory": ("MemoryEstimate", "estimate_memory"),
        "presets": ("allen_2022",),
        "settings": ("GapSettings",),
        "sigmas": ("SigmaSettings", "distance_to_hull"),
    },
)
