"""The reference calculates the smallest cell of what a search has found, and nothing else than that."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.reference.analytic import StillingerWeberSilicon
from launchpad.ranking import smallest_cell


def energy_per_atom(atoms: Atoms) -> float:
    atoms = atoms.copy()
    atoms.calc = StillingerWeberSilicon()
    return float(atoms.get_potential_energy()) / len(atoms)


@pytest.mark.parametrize("seed", range(5))
def test_a_multiple_of_a_cell_becomes_one_of_it(seed) -> None:
    rng = np.random.default_rng(seed)
    one = bulk("Si")
    one.rattle(0.2, rng=rng)
    one.set_cell(one.cell.array @ (np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3))), scale_atoms=True)
    matrix = [2, 1, 3] if seed % 2 else [2, 2, 1]
    many = one * matrix
    many = many[rng.permutation(len(many))]
    many.positions += rng.normal(0, 1e-5, many.positions.shape)  # as relaxations leave them
    found = smallest_cell(many)
    assert len(found) == 2
    assert found.get_volume() / 2 == pytest.approx(many.get_volume() / len(many), rel=1e-4)
    assert energy_per_atom(found) == pytest.approx(energy_per_atom(many), abs=1e-3)


def test_what_does_not_repeat_itself_stays_as_it_is() -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, rng=np.random.default_rng(0))
    found = smallest_cell(atoms)
    assert np.array_equal(found.positions, atoms.positions)
    assert np.array_equal(found.cell.array, atoms.cell.array)


def test_atoms_that_coincide_are_left_to_the_reference() -> None:
    atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1e-6]], cell=[4, 4, 4], pbc=True)
    assert smallest_cell(atoms) is atoms
