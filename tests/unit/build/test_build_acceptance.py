"""Many cells of 6-24 atoms with 1-8 operations, every one checked independently, and the time they take.

The same for 10 000 cells: `python tests/benchmarks/bench_build.py --check`.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import spglib
from ase.neighborlist import neighbor_list

from gapfactory._spglib import quiet_spglib
from gapfactory.build import BuildSettings, BuiltCell, build_cell
from gapfactory.elements import species
from gapfactory.seeds import Stage, stream

CELLS = 300
#: 30 s for 10 000 cells on two cores
SECONDS_PER_CELL = 6e-3
SEPARATION = 1.5
LOW, HIGH = 6.5, 9.0
#: AIRSS's own setting in hand-made searches of boron: volume from a range, separation in Å, little slack
BORON = BuildSettings(
    volume={"per_atom": [LOW, HIGH]},
    separations={"value": SEPARATION},
    symmetry={"operations": "1-8"},
    slack=0.02,
)


def build(index: int) -> BuiltCell:
    return build_cell(
        stream(3, 0, Stage.CELL, index),
        composition={"B": 1},
        species={"B": species("B")},
        generation=0,
        settings=BORON,
    )


@pytest.fixture(scope="module")
def cells() -> list[BuiltCell]:
    return [build(i) for i in range(CELLS)]


def test_separations_volume_and_composition(cells: list[BuiltCell]) -> None:
    sizes = set()
    for cell in cells:
        atoms = cell.atoms
        assert set(atoms.get_chemical_symbols()) == {"B"}
        assert 6 <= len(atoms) <= 24
        sizes.add(len(atoms))
        assert LOW <= atoms.get_volume() / len(atoms) <= HIGH
        distances = neighbor_list("d", atoms, 1.3 * SEPARATION)
        nearest = distances.min() if len(distances) else np.inf
        assert nearest >= 0.98 * SEPARATION - 1e-6
        assert min(nearest, 1.3 * SEPARATION) / SEPARATION == pytest.approx(
            min(cell.shortest_ratio, 1.3), abs=1e-6
        )
    assert sizes == set(range(6, 25))


def test_symmetry_asked_for_is_found(cells: list[BuiltCell]) -> None:
    for cell in cells:
        data = (cell.atoms.cell.array, cell.atoms.get_scaled_positions(), cell.atoms.numbers)
        with quiet_spglib():
            found = spglib.get_symmetry(data, symprec=1e-3)
        assert found is not None
        assert 1 <= cell.symmetry_operations <= 8
        assert len(cell.rotations) == cell.symmetry_operations
        for rotation, shift in zip(cell.rotations, cell.translations, strict=True):
            same = (found["rotations"] == np.rint(rotation)).all(axis=(1, 2))
            assert same.any()
            delta = found["translations"][same] - shift
            delta -= np.rint(delta)
            assert np.linalg.norm(delta @ cell.atoms.cell.array, axis=1).min() < 2e-3
    orders = [c.symmetry_operations for c in cells]
    assert all(abs(orders.count(n) / CELLS - 1 / 6) < 0.08 for n in (1, 2, 3, 4, 6, 8))


def test_time_per_cell(cells: list[BuiltCell]) -> None:
    """CPU seconds with everything loaded (by the other cells), of one core."""
    assert len(cells) == CELLS
    began = time.process_time()
    for index in range(CELLS, CELLS + 150):
        build(index)
    assert (time.process_time() - began) / 150 < SECONDS_PER_CELL
