"""Random cells with symmetry, dimers and isolated atoms; supercells and frames that hold a crystal's vibrations."""

from __future__ import annotations

from gapfactory.build.cells import BuiltCell, build_cell
from gapfactory.build.clusters import bond_lengths, dimers, isolated_atoms
from gapfactory.build.measure import Measured, best_structures, measure, measured_settings
from gapfactory.build.settings import BuildSettings, DimerSettings
from gapfactory.build.units import Unit
from gapfactory.build.volumes import atom_counts, minimum_separations, volume_per_atom

__all__ = [
    "BuildSettings",
    "BuiltCell",
    "DimerSettings",
    "Measured",
    "Unit",
    "atom_counts",
    "best_structures",
    "bond_lengths",
    "build_cell",
    "dimers",
    "isolated_atoms",
    "measure",
    "measured_settings",
    "minimum_separations",
    "volume_per_atom",
]
