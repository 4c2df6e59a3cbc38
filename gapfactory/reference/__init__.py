"""Reference calculations: real codes or stand-ins behind one interface, in a supervised process."""

from __future__ import annotations

from gapfactory.reference.base import EngineInfo, Label, LabelOutcome, kind_of
from gapfactory.reference.engines.ase_calculator import AseSettings
from gapfactory.reference.engines.gpaw import GpawSettings
from gapfactory.reference.engines.registry import (
    ReferenceSettings,
    check_engine,
    data_hashes,
    engine_classes,
    make_engine,
    parse_settings,
)
from gapfactory.reference.kpoints import kpoint_grid, kspacing_to_density
from gapfactory.reference.noise import LabelNoise, label_noise
from gapfactory.reference.runner import (
    CurvePoint,
    energy_volume_reference,
    label_structures,
    relax_phase_reference,
)
from gapfactory.reference.settings import DftSettings, EngineSettings, settings_hash

__all__ = [
    "AseSettings",
    "CurvePoint",
    "DftSettings",
    "EngineInfo",
    "EngineSettings",
    "GpawSettings",
    "Label",
    "LabelNoise",
    "LabelOutcome",
    "ReferenceSettings",
    "check_engine",
    "data_hashes",
    "energy_volume_reference",
    "engine_classes",
    "kind_of",
    "kpoint_grid",
    "kspacing_to_density",
    "label_noise",
    "label_structures",
    "make_engine",
    "parse_settings",
    "relax_phase_reference",
    "settings_hash",
]
