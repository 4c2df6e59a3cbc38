"""The EDDP calculator: derivatives, symmetry, uncertainty, batches and refusals."""

from __future__ import annotations

import copy

import gf_eddp
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from gapfactory.errors import PotentialError
from gapfactory.potentials.eddp import Baseline, EddpCalculator, EddpSettings, Ensemble
from gapfactory.search import RelaxSettings, relax
from gapfactory.search.evaluator import Evaluation, Refusal, batch_evaluator

SYMBOLS = ("Mg", "O", "Si")


def ensemble(*symbols: str, core: float = 0.0, **more: float) -> Ensemble:
    vector = gf_eddp.features(*symbols, **({"cutoff": 4.3, "three_body": 3} | more))
    members = tuple(gf_eddp.network(vector, seed) for seed in range(3))
    return Ensemble(members, (0.5, 0.3, 0.2), Baseline(core, 2e-5))


@pytest.mark.parametrize("symbols", [("Si",), SYMBOLS])
@pytest.mark.parametrize("core", [0.0, 2.6])
def test_forces_and_stress_are_those_of_differences(symbols: tuple[str, ...], core: float) -> None:
    atoms = gf_eddp.skewed(*symbols)
    atoms.calc = EddpCalculator(ensemble(*symbols, core=core))
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(forces).max() > 0.05
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), atol=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)


def test_energy_is_that_of_the_full_vectors() -> None:
    """The engine folds the blocks of other species into constants; the networks themselves do not."""
    atoms, potential = gf_eddp.skewed(*SYMBOLS), ensemble(*SYMBOLS)
    vector = potential.features
    system = vector.system([atoms])
    expected = np.array(potential.parts) @ potential.member_energies(vector.full(system), system.offsets)
    atoms.calc = EddpCalculator(potential)
    assert atoms.get_potential_energy() == pytest.approx(float(expected[0]), abs=1e-11)
    assert atoms.get_potential_energies().sum() == pytest.approx(float(expected[0]), abs=1e-11)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_a_network_is_the_formula_of_its_docstring() -> None:
    member = gf_eddp.network(gf_eddp.features("Si", three_body=2), 5, hidden=(3, 2))
    full = np.random.default_rng(0).uniform(0, 3, (1, member.features.length))
    x, at = (full[0] - member.input_mean) / member.input_scale, 0
    for n_in, n_out in zip(member.sizes[:-1], member.sizes[1:], strict=True):
        matrix = member.weights[at : at + n_in * n_out].reshape(n_out, n_in, order="F")
        u = matrix @ x + member.weights[at + n_in * n_out : at + (n_in + 1) * n_out]
        x, at = 2 * np.tanh(u) + 1e-6 * u, at + (n_in + 1) * n_out
    expected = member.output_mean + member.output_scale * u[0]
    assert member.energies(full, np.array([0, 1]))[0] == pytest.approx(expected, abs=1e-13)


def test_invariances() -> None:
    potential = ensemble("Mg", "O", core=2.4)
    atoms = gf_eddp.skewed("Mg", "O")

    def result(structure: Atoms) -> tuple[float, np.ndarray, float]:
        structure.calc = EddpCalculator(potential)
        energy = structure.get_potential_energy() / len(structure)
        return energy, structure.get_forces(), structure.calc.results["uncertainty"]

    energy, forces, uncertainty = result(atoms)
    turned = atoms.copy()
    turned.positions += (11.0, -0.2, 0.7)
    turned.rotate(50, (3, 1, -2), rotate_cell=True)
    axes = np.linalg.solve(atoms.cell.array, turned.cell.array)
    order = [5, 3, 1, 0, 2, 4]
    wrapped = atoms.copy()
    wrapped.wrap()
    for structure, expected in (
        (turned, forces @ axes),
        (atoms[order], forces[order]),
        (atoms * (1, 2, 1), np.vstack([forces, forces])),
        (wrapped, forces),
    ):
        found = result(structure)
        assert found[0] == pytest.approx(energy, abs=1e-11)
        assert found[2] == pytest.approx(uncertainty, abs=1e-11)
        np.testing.assert_allclose(found[1], expected, atol=1e-10)


def test_energy_and_forces_are_smooth_as_neighbours_leave() -> None:
    potential = ensemble("Si")
    found = []
    for far in (4.3 - 1e-6, 4.3 + 1e-6):
        atoms = Atoms("Si3", positions=[(0, 0, 0), (2.2, 0, 0), (far, 0.0, 0.0)])
        atoms.calc = EddpCalculator(potential)
        found.append((atoms.get_potential_energy(), atoms.get_forces()))
    assert abs(found[0][0] - found[1][0]) < 1e-5
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)


def test_uncertainty_is_the_spread_of_the_members() -> None:
    potential = ensemble("Si")
    atoms = gf_eddp.skewed("Si")
    energies = []
    for member in potential.members:
        atoms.calc = EddpCalculator(Ensemble((member,), (1.0,)))
        energies.append(atoms.get_potential_energy() / 6)
        assert atoms.calc.results["uncertainty"] == 0.0
    atoms.calc = EddpCalculator(potential)
    assert atoms.get_potential_energy() / 6 == pytest.approx(np.dot(potential.parts, energies), abs=1e-12)
    assert atoms.calc.get_property("uncertainty", atoms) == pytest.approx(np.std(energies), abs=1e-12)
    assert "variances" not in atoms.calc.results
    variances = atoms.calc.get_property("variances", atoms)
    assert variances.shape == (6,)
    assert (variances > 0.0).all()
    assert np.sqrt(variances).mean() >= np.std(energies) - 1e-12


def test_batches_have_the_bits_of_single_calls() -> None:
    structures = [gf_eddp.skewed("Si", seed=seed) * (1 + seed % 2, 1, 1) for seed in range(4)]
    calculator = EddpCalculator(ensemble("Si"))
    together = batch_evaluator(calculator, uncertainty=True)(structures)
    for atoms, answer in zip(structures, together, strict=True):
        assert isinstance(answer, Evaluation)
        (alone,) = calculator.evaluate_batch_with_uncertainty([atoms])
        assert isinstance(alone, Evaluation)
        assert (alone.energy, alone.uncertainty) == (answer.energy, answer.uncertainty)
        assert np.array_equal(alone.forces, answer.forces)
        assert np.array_equal(alone.stress, answer.stress)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == answer.energy
        spread = calculator.get_property("uncertainty", atoms)
        assert answer.uncertainty == pytest.approx(spread, rel=1e-12)


def test_the_relaxer_goes_downhill_and_hears_of_uncertainty() -> None:
    atoms = gf_eddp.skewed("Si")
    calculator = EddpCalculator(ensemble("Si"))
    path = relax(
        atoms,
        calculator,
        pressure_GPa=0.0,
        settings=RelaxSettings(max_steps=4, max_uncertainty=0.99),
    )
    assert path.n_evaluations >= 4
    assert path.enthalpies[-1] < path.enthalpies[0] - 0.01


def test_neighbours_are_kept_while_atoms_move() -> None:
    potential = ensemble("Si")
    atoms = gf_eddp.skewed("Si")
    atoms.calc = EddpCalculator(potential)
    for step in range(5):
        atoms.positions[0] += 0.05
        anew = atoms.copy()
        anew.calc = EddpCalculator(potential)
        assert atoms.get_potential_energy() == anew.get_potential_energy(), step
        assert np.array_equal(atoms.get_forces(), anew.get_forces())
    assert atoms.calc._system.searches < 5


def test_the_core_is_its_formula() -> None:
    single = Ensemble((gf_eddp.network(gf_eddp.features("Si", cutoff=3.0), 0),), (1.0,))
    with_core = Ensemble(single.members, single.parts, Baseline(2.0, 0.3))
    for r, repulsion in ((2.1, 0.0), (1.5, 2 * 0.3 * (2 * (2.0 / 1.5 - 1)) ** 12)):
        atoms = Atoms("Si2", positions=[(0, 0, 0), (r, 0, 0)])
        energies = []
        for potential in (single, with_core):
            atoms.calc = EddpCalculator(potential)
            energies.append(atoms.get_potential_energy())
        assert energies[1] - energies[0] == pytest.approx(repulsion, abs=1e-12)


def test_the_energies_of_species_are_added() -> None:
    settings = EddpSettings.model_validate({"core": {"radius": 2.2, "strength": 0.1}})
    plain = ensemble("Mg", "O")
    energies = {"O": -430.5, "Mg": -1700.25, "H": 0.0}
    baseline = Baseline.from_settings(settings.core, plain.features, energies)
    assert baseline == Baseline(2.2, 0.1, (-1700.25, -430.5))
    potential = Ensemble(plain.members, plain.parts, Baseline(origins=baseline.origins))
    atoms = gf_eddp.skewed("Mg", "O")
    before = EddpCalculator(plain).get_potential_energy(atoms)
    calculator = EddpCalculator(potential, limit=100.0)
    assert calculator.get_potential_energy(atoms) - before == pytest.approx(3 * (-1700.25 - 430.5), abs=1e-9)
    assert isinstance(calculator.evaluate_batch([atoms])[0], Evaluation)
    with pytest.raises(PotentialError, match="no energy of a free atom of O"):
        Baseline.from_settings(settings.core, plain.features, {"Mg": 0.0})
    with pytest.raises(PotentialError, match="one finite energy for each of Mg, O"):
        Ensemble(plain.members, plain.parts, Baseline(origins=(1.0,)))
    with pytest.raises(PotentialError, match="farther than the features"):
        Ensemble(plain.members, plain.parts, Baseline(radius=5.0))


def test_copies_and_refusals() -> None:
    atoms = gf_eddp.skewed("Si")
    atoms.calc = EddpCalculator(ensemble("Si"))
    twin = copy.deepcopy(atoms.calc)
    assert isinstance(twin, EddpCalculator)
    assert twin.get_potential_energy(atoms.copy()) == atoms.get_potential_energy()
    with pytest.raises(PotentialError, match="atom of C"):
        atoms.calc.get_potential_energy(Atoms("C"))
    cluster = Atoms("Si2", positions=[(0, 0, 0), (2.2, 0, 0)])
    with pytest.raises(PropertyNotImplementedError):
        atoms.calc.get_property("stress", cluster)
    strict = EddpCalculator(ensemble("Si"), limit=1e-6)
    with pytest.raises(PotentialError, match="from the mean of the training energies"):
        strict.get_potential_energy(atoms)
    assert isinstance(strict.evaluate_batch([atoms])[0], Refusal)


def test_an_ensemble_must_fit_together() -> None:
    one, other = gf_eddp.network(gf_eddp.features("Si"), 0), gf_eddp.network(gf_eddp.features("Si"), 1, (5,))
    with pytest.raises(PotentialError, match="network 1 has other features or layers"):
        Ensemble((one, other), (0.5, 0.5))
    with pytest.raises(PotentialError, match="add up to 1"):
        Ensemble((one,), (0.9,))
