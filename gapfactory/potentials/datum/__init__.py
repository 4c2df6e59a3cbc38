"""Datum-derived structures: the distance of every atom's surroundings from those in target crystals, as a potential."""

from gapfactory.potentials.datum.calculator import DatumCalculator
from gapfactory.potentials.datum.cost import DatumCost
from gapfactory.potentials.datum.settings import CostSettings

__all__ = ["CostSettings", "DatumCalculator", "DatumCost"]
