"""Reading and writing training sets: the only place that knows key names such as ``REF_energy``."""

from __future__ import annotations

from gapfactory.io.extxyz import (
    ENERGY_KEY,
    FORCES_KEY,
    VIRIAL_KEY,
    LabelledFrame,
    read_training_set,
    write_training_set,
)

__all__ = [
    "ENERGY_KEY",
    "FORCES_KEY",
    "VIRIAL_KEY",
    "LabelledFrame",
    "read_training_set",
    "write_training_set",
]
