"""Datum-derived structures: the distance of every atom's surroundings from those in target crystals, as a potential."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory._lazy import lazy_names

if TYPE_CHECKING:
    from gapfactory.potentials.datum.calculator import DatumCalculator
    from gapfactory.potentials.datum.cost import DatumCost
    from gapfactory.potentials.datum.settings import CostSettings

__all__ = ["CostSettings", "DatumCalculator", "DatumCost"]

__getattr__ = lazy_names(
    __name__,
    {
        "calculator": ("DatumCalculator",),
        "cost": ("DatumCost",),
        "settings": ("CostSettings",),
    },
)
