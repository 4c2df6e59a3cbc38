"""Conversions are ASE's."""

from __future__ import annotations

from ase.units import GPa

from gapfactory.units import EV_PER_GPA_A3


def test_enthalpies_are_those_of_the_relaxer():
    assert GPa == EV_PER_GPA_A3
