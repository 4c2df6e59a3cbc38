"""Cells that molecular dynamics begins with: sizes, vacancies, surfaces, and that crystals survive being cut."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from gapfactory.build.distorted import DistortedSettings
from gapfactory.build.starts import StartSettings, slab, starting_cell
from gapfactory.errors import InputError

STILL = DistortedSettings(volume_low=1.0, volume_high=1.0, strain=0.0, displacement=0.0)


def test_vacancies_leave_all_other_atoms_where_they_were() -> None:
    silicon = bulk("Si")
    whole = starting_cell(silicon, StartSettings(distortion=STILL), 0, np.random.default_rng(0))
    wanted = StartSettings(vacancies=2, distortion=STILL)
    found = starting_cell(silicon, wanted, 0, np.random.default_rng(0))
    assert len(whole) == 32
    assert len(found) == 30
    assert np.allclose(found.cell, whole.cell)
    apart = [np.linalg.norm(whole.positions - place, axis=1).min() for place in found.positions]
    assert max(apart) < 1e-9
    # a neighbour of a vacancy has three bonds
    assert set(np.bincount(neighbor_list("i", found, 2.5), minlength=30)) <= {2, 3, 4}
    assert len(neighbor_list("i", found, 2.5)) < 4 * 30
    others = [starting_cell(silicon, wanted, 0, np.random.default_rng(k)) for k in range(5)]
    assert len({str(np.round(cell.positions, 6).tolist()) for cell in others}) > 1


@pytest.mark.parametrize("element", ["Si", "Cu", "Fe", "Ti"])
@pytest.mark.parametrize("plane", [(1, 0, 0), (1, 1, 0), (1, 1, 1)])
def test_slabs_have_the_bulk_inside_and_vacuum_outside(element: str, plane: tuple[int, int, int]) -> None:
    crystal = bulk(element)
    found = slab(crystal, plane, 40, 9.0)
    assert all(found.pbc)
    assert 20 <= len(found) <= 80
    heights = np.sort(found.positions[:, 2])
    assert np.isclose(found.cell[2, 2] - (heights[-1] - heights[0]), 9.0)
    assert heights[-1] - heights[0] > 4.5
    assert np.allclose(found.cell[2, :2], 0.0)
    nearest = neighbor_list("d", crystal, 4.0).min()
    length = neighbor_list("d", found, 4.0)
    assert np.isclose(length.min(), nearest)
    # as many neighbours as in the crystal within, fewer at the surface, none gained by the cut
    inside = np.bincount(neighbor_list("i", found, 1.05 * nearest), minlength=len(found))
    assert inside.max() == np.bincount(neighbor_list("i", crystal, 1.05 * nearest)).max()
    assert inside.min() < inside.max()


def test_surfaces_are_taken_in_turn_whatever_cell_the_crystal_is_given_in() -> None:
    wanted = StartSettings(vacuum=8.0, distortion=STILL)
    primitive, cubic = bulk("Si"), bulk("Si", cubic=True)
    areas = []
    for number in range(4):
        cells = [starting_cell(c, wanted, number, np.random.default_rng(0)) for c in (primitive, cubic)]
        assert len(cells[0]) == len(cells[1])
        assert np.allclose(cells[0].cell.cellpar(), cells[1].cell.cellpar(), atol=1e-6)
        areas.append(round(float(np.linalg.det(cells[0].cell[:2, :2])), 6))
    assert len(set(areas)) == 3
    assert areas[3] == areas[0]


def test_what_cannot_be_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="a quarter at the most"):
        StartSettings(atoms=8, vacancies=3)
    with pytest.raises(ValueError, match="no surface"):
        StartSettings(planes=((0, 0, 0),))
    molecule = bulk("Si")
    molecule.pbc = False
    with pytest.raises(InputError, match="no surface"):
        slab(molecule, (1, 0, 0), 32, 8.0)
    # the crystal itself has three atoms, and a cell of about four is that one
    three = bulk("Cu").repeat((3, 1, 1))
    with pytest.raises(InputError, match="ask for more atoms"):
        starting_cell(three, StartSettings(atoms=4, vacancies=1), 0, np.random.default_rng(0))
