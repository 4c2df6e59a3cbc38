"""ABINIT labels silicon; every fault ends in the same label or with its cause named."""

import pytest
from engine_conformance import EngineConformance

from gapfactory.reference.engines.abinit import AbinitSettings

pytestmark = pytest.mark.abinit


class TestAbinit(EngineConformance):
    settings = AbinitSettings(
        cutoff_eV=200.0, kpoint_grid=(2, 2, 2), vacuum_isolated=4.0, vacuum_dimer=3.5, max_iterations=60
    )
    result_files = ("run.abo",)
