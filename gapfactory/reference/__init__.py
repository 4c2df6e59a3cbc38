"""Reference calculations: real codes or stand-ins behind one interface, in a supervised process.

Importing this package is cheap: its modules load when something of them is used. What only reads results
(the dashboard) has no need of the engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

#: Where each name is defined.
_HOMES = {
    "AseSettings": "engines.ase_calculator",
    "CurvePoint": "runner",
    "DftSettings": "settings",
    "EngineInfo": "base",
    "EngineSettings": "settings",
    "GpawSettings": "engines.gpaw",
    "Label": "base",
    "LabelNoise": "noise",
    "LabelOutcome": "base",
    "ReferenceSettings": "engines.registry",
    "calculator_of": "engines.registry",
    "check_engine": "engines.registry",
    "data_hashes": "engines.registry",
    "energy_volume_reference": "runner",
    "engine_classes": "engines.registry",
    "has_calculator": "engines.registry",
    "kind_of": "base",
    "kpoint_grid": "kpoints",
    "kspacing_to_density": "kpoints",
    "label_noise": "noise",
    "label_structures": "runner",
    "make_engine": "engines.registry",
    "parse_settings": "engines.registry",
    "primitive_grid": "kpoints",
    "relax_phase_reference": "runner",
    "relax_structures": "runner",
    "settings_hash": "settings",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"gapfactory.reference.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
