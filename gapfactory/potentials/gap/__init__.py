"""Gaussian approximation potentials: settings, fit, checks and calculator."""

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
