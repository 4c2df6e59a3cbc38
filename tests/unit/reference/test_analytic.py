"""The analytic potentials against QUIP, numerical derivatives and published numbers."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.neighborlist import neighbor_list

from gapfactory.errors import InputError
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon, _pairs

SW = (
    '<SW_params n_types="1" label="PRB_31_plus_H">'
    '<per_type_data type="1" atomic_num="14" />'
    '<per_pair_data atnum_i="14" atnum_j="14" AA="7.049556277" BB="0.6022245584" p="4" q="0" a="1.80" '
    'sigma="2.0951" eps="2.16826" />'
    '<per_triplet_data atnum_c="14" atnum_j="14" atnum_k="14" lambda="21.0" gamma="1.20" eps="2.16826" />'
    "</SW_params>"
)


def random_cell(symbol, volume, n=5, seed=3, shape=(4.0, 5.0, 6.0)):
    rng = np.random.default_rng(seed)
    cell = np.diag(shape) + 0.5 * rng.normal(size=(3, 3))
    cell *= (n * volume / abs(np.linalg.det(cell))) ** (1 / 3)
    return Atoms(f"{symbol}{n}", scaled_positions=rng.random((n, 3)), cell=cell, pbc=True)


@pytest.mark.gap
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_silicon_equals_quip(seed):
    quippy = pytest.importorskip("quippy.potential")
    ours, theirs = random_cell("Si", 19.0, seed=seed), random_cell("Si", 19.0, seed=seed)
    ours.calc = StillingerWeberSilicon()
    theirs.calc = quippy.Potential("IP SW", param_str=SW)
    assert ours.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=1e-5)
    np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), atol=1e-6)


@pytest.mark.parametrize(("symbol", "volume"), [("Si", 19.0), ("Ti", 17.0)])
@pytest.mark.parametrize("shape", [(4.0, 5.0, 6.0), (2.4, 5.0, 9.0)])
def test_forces_and_stress_are_derivatives(symbol, volume, shape):
    atoms = random_cell(symbol, volume, shape=shape)
    atoms.calc = StillingerWeberSilicon() if symbol == "Si" else SecondMomentTitanium()
    scale = np.abs(atoms.get_forces()).max()
    np.testing.assert_allclose(
        atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-6 * max(scale, 1.0)
    )
    np.testing.assert_allclose(
        atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-6), atol=1e-6 * max(scale, 1.0)
    )
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0.0, atol=1e-9 * max(scale, 1.0))


def test_silicon_diamond_is_minus_two_epsilon():
    atoms = bulk("Si", a=5.431)
    atoms.calc = StillingerWeberSilicon()
    assert atoms.get_potential_energy() / 2 == pytest.approx(-2 * 2.16826, abs=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), 0.0, atol=1e-4)


def test_the_model_metal_has_the_minimum_and_order_of_phases_that_its_docstring_states():
    # what the docstring says of the model metal, near the size and cohesion of titanium
    atoms = bulk("Ti", a=2.951, c=2.951 * 1.585)
    atoms.calc = SecondMomentTitanium()
    assert atoms.get_potential_energy() / 2 == pytest.approx(-4.845, abs=0.02)
    energies = {}
    for scale in (0.97, 1.0, 1.03):
        trial = bulk("Ti", a=2.951 * scale, c=2.951 * 1.585 * scale)
        trial.calc = SecondMomentTitanium()
        energies[scale] = trial.get_potential_energy()
    assert energies[1.0] < min(energies[0.97], energies[1.03])
    bcc = bulk("Ti", "bcc", a=3.26)
    bcc.calc = SecondMomentTitanium()
    assert bcc.get_potential_energy() > energies[1.0] / 2


@pytest.mark.parametrize("calculator", [StillingerWeberSilicon(), SecondMomentTitanium()])
def test_isolated_atom_has_no_energy_and_distant_atoms_do_not_interact(calculator):
    symbol = calculator.symbol
    atom = Atoms(symbol, cell=[12.0] * 3)
    atom.calc = calculator
    assert atom.get_potential_energy() == 0.0
    np.testing.assert_array_equal(atom.get_forces(), 0.0)
    pair = Atoms(f"{symbol}2", positions=[[0, 0, 0], [0, 0, calculator.cutoff + 1e-3]], cell=[20.0] * 3)
    pair.calc = calculator
    assert pair.get_potential_energy() == 0.0


def test_smooth_at_the_cutoff():
    for calculator in (StillingerWeberSilicon(), SecondMomentTitanium()):
        pair = Atoms(
            f"{calculator.symbol}2", positions=[[0, 0, 0], [0, 0, calculator.cutoff - 1e-4]], cell=[20.0] * 3
        )
        pair.calc = calculator
        assert abs(pair.get_potential_energy()) < 1e-7
        assert np.abs(pair.get_forces()).max() < 1e-4


def test_supercell_is_extensive():
    small = random_cell("Si", 19.0)
    large = small * (2, 1, 2)
    small.calc, large.calc = StillingerWeberSilicon(), StillingerWeberSilicon()
    assert large.get_potential_energy() == pytest.approx(4 * small.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(large.get_stress(), small.get_stress(), atol=1e-10)


def test_other_species_are_refused():
    atoms = bulk("Ge")
    atoms.calc = StillingerWeberSilicon()
    with pytest.raises(InputError, match="Ge"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
@pytest.mark.parametrize("n", [1, 2, 7, 24, 25])
def test_pairs_are_those_of_ase_in_cells_of_any_shape(n, pbc):
    for seed in range(6):
        atoms = random_cell(
            "Si", 12.0, n=n, seed=seed, shape=(1.5, 5.0, 12.0) if seed % 2 else (4.0, 5.0, 6.0)
        )
        # skewed, and atoms beyond the cell
        atoms.set_cell(
            atoms.cell.array @ np.array([[1, 0, 0], [0.9, 1, 0], [-0.7, 0.4, 1]]), scale_atoms=True
        )
        atoms.positions += np.random.default_rng(seed).normal(scale=4.0, size=(n, 3))
        atoms.pbc = pbc
        ours, theirs = _pairs(atoms, 3.9), neighbor_list("ijdD", atoms, 3.9)
        assert (np.diff(ours[0]) >= 0).all()
        # one and the same order, to compare
        order = [np.lexsort((*np.round(found[3], 6).T, found[1], found[0])) for found in (ours, theirs)]
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine[order[0]], other[order[1]], atol=1e-9)
    # two atoms on one spot are a pair, and no potential is to overlook it
    spot = Atoms("Si2", positions=np.zeros((2, 3)), cell=[5.0, 5.0, 5.0], pbc=pbc)
    assert sorted(zip(*_pairs(spot, 3.9)[:2], strict=True)) == [(0, 1), (1, 0)]
