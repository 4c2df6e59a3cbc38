"""Conversions that modules need which do not load ASE."""

from __future__ import annotations

from typing import Final

__all__ = ["EV_PER_GPA_A3"]

#: eV of one GPa Å^3: `ase.units.GPa` to the bit, so that enthalpies are those of the relaxations.
EV_PER_GPA_A3: Final = 1.0 / 160.21766208
