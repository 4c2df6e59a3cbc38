"""The conformance suite on the real CP2K, and what only CP2K has."""

import pytest
from engine_conformance import EngineConformance

from gapfactory.reference.engines.cp2k import Cp2kSettings

pytestmark = pytest.mark.cp2k

FAST = Cp2kSettings(
    cutoff_eV=1500.0,
    relative_cutoff_eV=300.0,
    basis="SZV-MOLOPT-SR-GTH",
    kpoint_grid=(2, 2, 2),
    precision=1e-8,
    vacuum_isolated=4.0,
    vacuum_dimer=4.0,
)


class TestCp2k(EngineConformance):
    settings = FAST
