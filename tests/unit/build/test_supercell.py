"""Supercells: about the wanted number of atoms, nearly cubic, the same crystal."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from gapfactory.analysis.phases import named_phases
from gapfactory.build.supercell import nearly_cubic_supercell
from gapfactory.errors import InputError

CRYSTALS = {p.name: p.atoms for e in ("B", "C", "Si", "Ti") for p in named_phases(e) if len(p.atoms) <= 64}
CRYSTALS |= {"fcc": bulk("Cu"), "bcc": bulk("Fe"), "conventional": bulk("Si", cubic=True)}


@pytest.mark.parametrize("name", CRYSTALS)
def test_size_shape_and_contents(name):
    atoms = CRYSTALS[name]
    found = nearly_cubic_supercell(atoms, 64)
    assert 46 <= len(found) <= 80
    assert len(found) % len(atoms) == 0
    assert found.get_volume() / len(found) == pytest.approx(atoms.get_volume() / len(atoms))
    lengths, angles = found.cell.lengths(), found.cell.angles()
    assert lengths.max() / lengths.min() < 1.35
    assert np.abs(angles - 90).max() < 20
    cutoff = 1.5 * (atoms.get_volume() / len(atoms)) ** (1 / 3)
    per_atom = len(neighbor_list("i", atoms, cutoff)) / len(atoms)
    assert len(neighbor_list("i", found, cutoff)) / len(found) == pytest.approx(per_atom)
    assert np.linalg.det(found.cell) > 0


def test_diamond_gives_the_cube_of_64_atoms():
    found = nearly_cubic_supercell(bulk("Si", a=5.43), 64)
    assert len(found) == 64
    np.testing.assert_allclose(found.cell.cellpar(), [10.86] * 3 + [90] * 3, atol=1e-8)


def test_a_large_cell_stays_as_it_is():
    atoms = bulk("Si", cubic=True) * (2, 2, 3)
    found = nearly_cubic_supercell(atoms, 64)
    assert found is not atoms
    assert len(found) == 96


def test_a_needle_is_repeated_sideways():
    atoms = Atoms("Si20", positions=[[0, 0, 2.4 * k] for k in range(20)], cell=[2.5, 2.5, 48.0], pbc=True)
    found = nearly_cubic_supercell(atoms, 64)
    assert 40 <= len(found) <= 80


def test_what_has_no_supercell_is_refused():
    with pytest.raises(InputError, match="not periodic in three directions"):
        nearly_cubic_supercell(molecule("H2O"), 64)
    with pytest.raises(InputError, match="at least one atom"):
        nearly_cubic_supercell(bulk("Si"), 0)
