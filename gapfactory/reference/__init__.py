"""Reference calculations: real codes or stand-ins behind one interface, in a supervised process.

Importing this package is cheap: its modules load when something of them is used. What only reads results
(the dashboard) has no need of the engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory._lazy import lazy_names

if TYPE_CHECKING:
    from gapfactory.reference.base import EngineInfo, Label, LabelOutcome, kind_of
    from gapfactory.reference.engines.ase_calculator import AseSettings
    from gapfactory.reference.engines.gpaw import GpawSettings
    from gapfactory.reference.engines.registry import (
        ReferenceSettings,
        calculator_of,
        check_engine,
        data_hashes,
        engine_classes,
        has_calculator,
        make_engine,
        parse_settings,
    )
    from gapfactory.reference.kpoints import kpoint_grid, kspacing_to_density, primitive_grid
    from gapfactory.reference.noise import LabelNoise, label_noise
    from gapfactory.reference.runner import (
        CurvePoint,
        energy_volume_reference,
        label_structures,
        relax_phase_reference,
        relax_structures,
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
    "calculator_of",
    "check_engine",
    "data_hashes",
    "energy_volume_reference",
    "engine_classes",
    "has_calculator",
    "kind_of",
    "kpoint_grid",
    "kspacing_to_density",
    "label_noise",
    "label_structures",
    "make_engine",
    "parse_settings",
    "primitive_grid",
    "relax_phase_reference",
    "relax_structures",
    "settings_hash",
]

__getattr__ = lazy_names(
    __name__,
    {
        "base": ("EngineInfo", "Label", "LabelOutcome", "kind_of"),
        "engines.ase_calculator": ("AseSettings",),
        "engines.gpaw": ("GpawSettings",),
        "engines.registry": (
            "ReferenceSettings",
            "calculator_of",
            "check_engine",
            "data_hashes",
            "engine_classes",
            "has_calculator",
            "make_engine",
            "parse_settings",
        ),
        "kpoints": ("kpoint_grid", "kspacing_to_density", "primitive_grid"),
        "noise": ("LabelNoise", "label_noise"),
        "runner": (
            "CurvePoint",
            "energy_volume_reference",
            "label_structures",
            "relax_phase_reference",
            "relax_structures",
        ),
        "settings": ("DftSettings", "EngineSettings", "settings_hash"),
    },
)
