"""The datum cost: its formulas, derivatives, symmetry, reference values, batches and refusals."""

from __future__ import annotations

import copy

import gf_eddp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.spacegroup import crystal

from gapfactory.analysis.phases import named_phase
from gapfactory.errors import InputError, PotentialError
from gapfactory.potentials.datum import CostSettings, DatumCalculator, DatumCost
from gapfactory.search import RelaxSettings, relax
from gapfactory.search.evaluator import Evaluation, batch_evaluator

SYMBOLS = ("Mg", "O", "Si")


def settings(**more: object) -> CostSettings:
    return CostSettings.model_validate({"features": {"two_body": 6, "three_body": 3, "cutoff": 4.3}, **more})


def target(*symbols: str) -> Atoms:
    return gf_eddp.skewed(*symbols, seed=8)


def diamond_cost(**more: object) -> DatumCost:
    return DatumCost.from_targets([bulk("C", "diamond", a=3.567)], CostSettings.model_validate(more))


def per_atom(cost: DatumCost, atoms: Atoms) -> float:
    atoms = atoms.copy()
    atoms.calc = DatumCalculator(cost)
    return float(atoms.get_potential_energy() / len(atoms))


def hexagonal(a: float, c: float, *sites: tuple[float, float, float]) -> Atoms:
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]]
    return Atoms(f"C{len(sites)}", scaled_positions=sites, cell=cell, pbc=True)


# ---- the formulas ----------------------------------------------------------------------------------------------------


def by_loops(atoms: Atoms, targets: list[Atoms], chosen: CostSettings) -> list[float]:
    """Return Eqs. 1 to 3 as they are written, on full vectors, every atom of every target counted."""
    symbols = sorted({s for t in targets for s in t.get_chemical_symbols()})
    vector = gf_eddp.Features.from_settings(chosen.features, symbols)
    mine = vector.full(vector.system([atoms]))
    theirs = np.vstack([vector.full(vector.system([t])) for t in targets])
    found = []
    for f in mine:
        c = [np.log(chosen.beta / vector.length**2 * np.dot(f - t, f - t) + 1) for t in theirs]
        soft = -np.log(sum(np.exp(-chosen.alpha * x) for x in c) / len(c)) / chosen.alpha
        found.append(min(c) if chosen.minimum == "hard" else soft)
    return found


@pytest.mark.parametrize("minimum", ["soft", "hard"])
@pytest.mark.parametrize("symbols", [("Si",), SYMBOLS])
def test_cost_is_that_of_the_equations(symbols: tuple[str, ...], minimum: str) -> None:
    chosen = settings(minimum=minimum, alpha=3.0, beta=40.0)
    # repeated cells: the same environments twice and four times
    targets = [target(*symbols) * (2, 1, 1), gf_eddp.skewed(*symbols, seed=9) * (1, 2, 2)]
    cost = DatumCost.from_targets(targets, chosen)
    assert len(cost.environments) == 12
    assert cost.n_targets == 36
    atoms = gf_eddp.skewed(*symbols)
    atoms.calc = DatumCalculator(cost)
    expected = by_loops(atoms, targets, chosen)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected, atol=1e-10)
    assert atoms.get_potential_energy() == pytest.approx(sum(expected), abs=1e-10)


def test_the_full_vector_of_carbon_has_the_33_features_of_the_paper() -> None:
    assert diamond_cost().features.length == 33


def test_soft_minimum_hardens_with_alpha() -> None:
    atoms, targets = gf_eddp.skewed("Si"), [target("Si")]
    hard = per_atom(DatumCost.from_targets(targets, settings(minimum="hard")), atoms)
    costs = [
        per_atom(DatumCost.from_targets(targets, settings(alpha=a)), atoms) for a in (1.0, 10.0, 1e3, 1e5)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > hard + 0.1
    # six environments: at most ln(6) / alpha
    assert hard <= costs[-1] < hard + np.log(6) / 1e5 + 1e-9


def test_environments_far_away_and_alpha_large_give_finite_numbers() -> None:
    cost = DatumCost.from_targets([target("Si")], settings(alpha=1e6, beta=1e9))
    atom = Atoms("Si", cell=np.eye(3) * 30, pbc=True)
    atom.calc = DatumCalculator(cost)
    assert 5.0 < atom.get_potential_energy() < 40.0
    assert np.abs(atom.get_forces()).max() == 0.0


# ---- derivatives and symmetry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("minimum", ["soft", "hard"])
@pytest.mark.parametrize("symbols", [("Si",), SYMBOLS])
def test_forces_and_stress_are_those_of_differences(symbols: tuple[str, ...], minimum: str) -> None:
    atoms = gf_eddp.skewed(*symbols)
    atoms.calc = DatumCalculator(DatumCost.from_targets([target(*symbols)], settings(minimum=minimum)))
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(forces).max() > 0.05
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-5), atol=2e-6)
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-6), atol=2e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)


def test_species_of_another_centre_has_the_gradient_of_its_own_vector() -> None:
    """Atoms of O in a target of Mg only next to the O: no environment of their own is near."""
    chosen = settings(beta=1e4)
    lonely = Atoms("MgO", positions=[(0, 0, 0), (0, 0, 9.0)], cell=np.eye(3) * 18, pbc=True)
    atoms = gf_eddp.skewed("Mg", "O")
    atoms.calc = DatumCalculator(DatumCost.from_targets([lonely, gf_eddp.skewed("Mg", seed=1)], chosen))
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=2e-6)


def test_invariances() -> None:
    cost = DatumCost.from_targets([target("Mg", "O")], settings())
    atoms = gf_eddp.skewed("Mg", "O")

    def result(structure: Atoms) -> tuple[float, np.ndarray]:
        structure.calc = DatumCalculator(cost)
        return structure.get_potential_energy() / len(structure), structure.get_forces()

    energy, forces = result(atoms)
    turned = atoms.copy()
    turned.positions += (11.0, -0.2, 0.7)
    turned.rotate(50, (3, 1, -2), rotate_cell=True)
    axes = np.linalg.solve(atoms.cell.array, turned.cell.array)
    order = [5, 3, 1, 0, 2, 4]
    for structure, expected in (
        (turned, forces @ axes),
        (atoms[order], forces[order]),
        (atoms * (1, 2, 1), np.vstack([forces, forces])),
    ):
        found = result(structure)
        assert found[0] == pytest.approx(energy, abs=1e-11)
        np.testing.assert_allclose(found[1], expected, atol=1e-10)


# ---- what the cost is for --------------------------------------------------------------------------------------------


def test_a_single_environment_costs_nothing_and_every_distortion_something() -> None:
    cost = diamond_cost()
    conventional = bulk("C", "diamond", a=3.567, cubic=True)
    assert per_atom(cost, conventional) == pytest.approx(0.0, abs=1e-12)
    assert len(cost.environments) == 1
    rng = np.random.default_rng(4)
    for amplitude in (0.003, 0.03, 0.2):
        for _ in range(10):
            shaken = conventional.copy()
            shaken.positions += rng.uniform(-amplitude, amplitude, shaken.positions.shape)
            strain = rng.uniform(-amplitude, amplitude, (3, 3)) / 4
            shaken.set_cell(shaken.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
            assert per_atom(cost, shaken) > 1e-7


def test_many_environments_have_a_minimum_at_their_crystal_when_alpha_is_large() -> None:
    boron = named_phase("B-alpha-B12").atoms
    chosen = CostSettings.model_validate({"alpha": 100.0, "features": {"two_body": 16, "three_body": 4}})
    cost = DatumCost.from_targets([boron], chosen)
    assert len(cost.environments) == 2
    at_home = per_atom(cost, boron)
    # each atom has its own environment and one of half the weight elsewhere: ln 2 / alpha
    assert at_home == pytest.approx(np.log(2) / 100.0, abs=1e-9)
    rng = np.random.default_rng(0)
    for _ in range(5):
        shaken = boron.copy()
        shaken.positions += rng.uniform(-0.05, 0.05, shaken.positions.shape)
        assert per_atom(cost, shaken) > at_home + 1e-4


def pyrope() -> Atoms:
    """Return Mg3Al2(SiO4)3 of Gibbs and Smith, Am. Mineral. 50, 2023 (1965), in its primitive cell of 80 atoms."""
    sites = [(0.125, 0.0, 0.25), (0.0, 0.0, 0.0), (0.375, 0.0, 0.25), (0.0329, 0.0502, 0.6534)]
    return crystal(
        ["Mg", "Al", "Si", "O"], sites, spacegroup=230, cellpar=[11.459] * 3 + [90] * 3, primitive_cell=True
    )


def test_garnet_has_four_environments_and_costs_what_their_numbers_say() -> None:
    atoms = pyrope()
    assert len(atoms) == 80
    silicon = atoms.symbols == "Si"
    distances = atoms.get_all_distances(mic=True)[np.ix_(silicon, atoms.symbols == "O")]
    assert np.sort(distances[0])[3] == pytest.approx(1.635, abs=0.005)
    garnet = {"alpha": 100.0, "beta": 10.0, "features": {"three_body": 0, "cutoff": 5.0}}
    cost = DatumCost.from_targets([atoms], CostSettings.model_validate(garnet))
    assert sorted(cost.counts) == [8, 12, 12, 48]
    # another species' environment is too far to count: each atom has its own, n of 80, as the only near one
    expected = sum(n * np.log(80 / n) / 100.0 for n in (8, 12, 12, 48))
    assert per_atom(cost, atoms) * 80 == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "expected"), [(0.2, (0.016, 3.27, 3.94, 4.26)), (1.0, (0.18, 5.80, 6.35, 6.51))]
)
def test_costs_of_known_structures(scale: float, expected: tuple[float, ...]) -> None:
    """Figures of an independent prototype with 16 and 4 polynomials, beta 100; lonsdaleite depends on its c/a most."""
    cost = diamond_cost(features={"two_body": 16, "three_body": 4, "three_body_scale": scale})
    third = 1 / 3
    layers = [(third, 2 * third, z / 16) for z in (1, 7)] + [(2 * third, third, z / 16) for z in (9, 15)]
    lonsdaleite = hexagonal(2.52, 4.12, *layers)
    graphite = hexagonal(
        2.46, 6.7, (0, 0, 0.25), (third, 2 * third, 0.25), (0, 0, 0.75), (2 * third, third, 0.75)
    )
    others = (bulk("C", "sc", a=1.8), bulk("C", "fcc", a=(4 * 5.67) ** third))
    found = [per_atom(cost, atoms) for atoms in (lonsdaleite, graphite, *others)]
    np.testing.assert_allclose(found[1:], expected[1:], atol=0.01)
    assert found[0] == pytest.approx(expected[0], abs=0.05 if scale == 1.0 else 0.002)


def test_relaxing_a_shaken_crystal_leads_back_with_less_cost() -> None:
    cost = diamond_cost()
    atoms = bulk("C", "diamond", a=3.7) * (2, 1, 1)
    atoms.rattle(0.05, seed=2)
    done = relax(atoms, DatumCalculator(cost), pressure_GPa=0.0, settings=RelaxSettings(force_threshold=1e-3))
    assert done.energies[0] > 0.3
    assert done.status == "converged"
    assert done.energies[-1] < 1e-4


# ---- batches, copies, refusals ---------------------------------------------------------------------------------------


def test_a_structure_has_the_same_bits_in_any_company_and_after_copying() -> None:
    calculator = DatumCalculator(DatumCost.from_targets([target("Si")], settings()))
    structures = [gf_eddp.skewed("Si", seed=k) for k in range(5)] + [bulk("Si")]
    together = batch_evaluator(calculator)(structures)
    for atoms, answer in zip(structures, together, strict=True):
        for one in (calculator, copy.deepcopy(calculator), copy.copy(calculator)):
            (alone,) = one.evaluate_batch([atoms])
            assert isinstance(alone, Evaluation)
            assert isinstance(answer, Evaluation)
            assert alone.energy == answer.energy
            assert np.array_equal(alone.forces, answer.forces)
            assert np.array_equal(alone.stress, answer.stress)


def test_energies_alone_are_the_same() -> None:
    engine = DatumCalculator(DatumCost.from_targets([target("Si")], settings())).engine
    atoms = [gf_eddp.skewed("Si")]
    alone = engine.evaluate(atoms, gradients=False)
    assert alone.forces is None
    assert alone.energies[0] == engine.evaluate(atoms).energies[0]


def test_hashes_tell_targets_apart_and_not_their_setting() -> None:
    pair = target("Mg", "O")
    one, other = (DatumCost.from_targets([atoms], settings()).hashes() for atoms in (pair, pair[::-1]))
    assert set(one) == {"Mg", "O"}
    assert one == other
    moved = pair.copy()
    moved.positions[0, 0] += 0.001
    assert DatumCost.from_targets([moved], settings()).hashes()["Mg"] != one["Mg"]


def test_refusals() -> None:
    with pytest.raises(InputError, match="needs a target"):
        DatumCost.from_targets([], settings())
    calculator = DatumCalculator(DatumCost.from_targets([target("Si")], settings()))
    with pytest.raises(PotentialError, match="atom of C, but the potential knows Si only"):
        calculator.calculate(bulk("C"))
    with pytest.raises(PotentialError, match="no variance"):
        calculator.engine.evaluate([bulk("Si")], variances=True)
    system = calculator.engine.cost.features.system([bulk("Si")])
    short = type(system)(**{**vars(system), "cutoff": 3.0})
    with pytest.raises(PotentialError, match=r"3\.0"):
        calculator.engine.evaluate(short)
