"""The notice of spglib is silenced without harm to others; both its ways to say that it failed are understood."""

from __future__ import annotations

import threading
import warnings

import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory._spglib import quiet_spglib, space_group_number, symmetry_operations
from gapfactory.analysis.force_constants import oriented_primitive_cell
from gapfactory.errors import EvidenceError, InputError


def test_silence_within_silence() -> None:
    """What is called within it may itself call spglib; the filters are those of before afterwards."""
    before = list(warnings.filters)

    def nested() -> None:
        with quiet_spglib(), quiet_spglib():
            pass

    thread = threading.Thread(target=nested, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert list(warnings.filters) == before


@pytest.mark.parametrize("old", ["0", "1"], ids=["exception", "none"])
def test_failures_whatever_the_switch(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """phonopy turns the switch for the whole process when it is imported."""
    monkeypatch.setenv("SPGLIB_OLD_ERROR_HANDLING", old)
    coincident = Atoms("Si2", positions=[[0, 0, 0]] * 2, cell=[3, 3, 3], pbc=True)
    with pytest.raises(InputError, match="do two atoms coincide"):
        symmetry_operations(coincident, 1e-3)
    with pytest.raises(EvidenceError, match="do two atoms coincide"):
        oriented_primitive_cell(coincident)
    assert space_group_number(coincident, 1e-3) is None
    assert space_group_number(bulk("Si"), 1e-3) == 227
