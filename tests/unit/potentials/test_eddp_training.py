"""Training of EDDPs: least squares, derivatives, splits, weights of ensembles, and a fit to silicon."""

from __future__ import annotations

from dataclasses import replace

import gf_eddp
import numpy as np
import pytest
from ase import Atoms
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import spearmanr

from gapfactory.errors import FitError
from gapfactory.potentials.eddp import (
    Baseline,
    EddpCalculator,
    EddpSettings,
    Ensemble,
    Features,
    TrainingSet,
    combine,
    energy_errors,
    prepare,
    split_structures,
    train_network,
)
from gapfactory.potentials.eddp.embedding import Shape
from gapfactory.potentials.eddp.least_squares import cost, levenberg_marquardt
from gapfactory.potentials.eddp.problem import TrainingProblem
from gapfactory.potentials.eddp.settings import (
    EnsembleSettings,
    FeatureSettings,
    NetworkSettings,
    TrainingSettings,
)
from gapfactory.potentials.gap.data import LabelledStructure


def linear(rows: int = 60, unknowns: int = 7, noise: float = 0.1):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(rows, unknowns)) * np.logspace(0, 3, unknowns)
    target = matrix @ rng.normal(size=unknowns) + noise * rng.standard_t(2, size=rows)
    return matrix, target, lambda w, wanted: (matrix @ w - target, matrix)


def test_the_least_squares_solution_of_a_linear_problem_is_reached() -> None:
    matrix, target, residuals = linear()
    expected = np.linalg.lstsq(matrix, target, rcond=None)[0]
    found = levenberg_marquardt(residuals, np.zeros(7), TrainingSettings())
    assert found.reason == "converged"
    np.testing.assert_allclose(found.parameters, expected, rtol=1e-7)


def test_a_curved_valley_is_followed_to_its_end() -> None:
    def rosenbrock(w, wanted):
        return np.array([10 * (w[1] - w[0] ** 2), 1 - w[0]]), np.array([[-20 * w[0], 10.0], [-1.0, 0.0]])

    found = levenberg_marquardt(rosenbrock, np.array([-1.2, 1.0]), TrainingSettings())
    np.testing.assert_allclose(found.parameters, [1.0, 1.0], atol=1e-8)


@pytest.mark.parametrize("norm", [1.0, 1.25, 2.0])
def test_other_norms_reach_the_minimum_of_their_cost(norm: float) -> None:
    floor = 0.05
    values = np.array([-0.7, 0.02, 1.3])
    integrals = [quad(lambda x: x * (x + floor) ** (norm - 2), 0, abs(v))[0] for v in values]
    assert cost(values, norm, floor) == pytest.approx(sum(integrals), rel=1e-9)
    matrix, target, residuals = linear()
    settings = TrainingSettings(norm=norm, norm_floor=floor)
    found = levenberg_marquardt(residuals, np.zeros(7), settings)
    scale = np.logspace(0, 3, 7)
    peer = minimize(
        lambda w: cost(matrix @ (w / scale) - target, norm, floor), found.parameters * scale, tol=1e-12
    )
    assert found.cost <= peer.fun * (1 + 1e-9)
    plain = np.linalg.lstsq(matrix, target, rcond=None)[0]
    assert np.allclose(found.parameters, plain, rtol=1e-6) == (norm == 2.0)


def test_training_stops_early_and_returns_the_best() -> None:
    """What is watched is lowest half way along the path to the least-squares solution."""
    matrix, target, residuals = linear()
    end = np.linalg.lstsq(matrix, target, rcond=None)[0]
    path: list[np.ndarray] = []

    def watch(w: np.ndarray) -> float:
        path.append(w.copy())
        return abs(float(np.linalg.norm(w - end)) - 0.5 * float(np.linalg.norm(end)))

    found = levenberg_marquardt(residuals, np.zeros(7), TrainingSettings(patience=3, damping=1e3), watch)
    values = [watch(w) for w in list(path)]
    assert found.reason == "patience"
    assert found.best_step == int(np.argmin(values)) > 0
    assert found.steps == found.best_step + 3
    assert np.array_equal(found.parameters, path[found.best_step])


@pytest.fixture(scope="module")
def silicon() -> tuple[TrainingSet, list[LabelledStructure]]:
    data, parents = gf_eddp.silicon(parents=160, copies=2)
    vector = Features.from_settings(FeatureSettings(cutoff=4.5), ["Si"])
    return prepare(data, vector, TrainingSettings(), parents=parents), data


def oxide(embedding: int, force_weight: float) -> tuple[TrainingSet, EddpSettings]:
    """Return a few cells of three species with forces from a random network."""
    settings = EddpSettings(
        features=FeatureSettings(cutoff=4.0, two_body=3, three_body=2),
        network=NetworkSettings(hidden=(4, 3), embedding=embedding),
        training=TrainingSettings(force_weight=force_weight, split="plain"),
    )
    vector = Features.from_settings(settings.features, ["Mg", "O", "Si"])
    calculator = EddpCalculator(Ensemble((gf_eddp.network(vector, 0),), (1.0,)))
    data = []
    for seed in range(5):
        atoms = gf_eddp.skewed("Mg", "O", "Si", seed=seed)[: 4 + seed % 3]
        atoms.calc = calculator
        data.append(
            LabelledStructure(f"s{seed}", atoms, atoms.get_potential_energy(), atoms.get_forces(), None)
        )
    return prepare(data, vector, settings.training), settings


@pytest.mark.parametrize("embedding", [0, 2])
@pytest.mark.parametrize("force_weight", [0.0, 0.4])
def test_derivatives_by_weights_are_those_of_differences(embedding: int, force_weight: float) -> None:
    data, settings = oxide(embedding, force_weight)
    split = split_structures(data.ids, settings.training, np.random.default_rng(0))
    problem = TrainingProblem(data, split, settings)
    start = problem.shape.start(np.random.default_rng(1))
    values, rows = problem.residuals(start, True)
    assert len(values) == (3 if force_weight == 0.0 else 3 + 3 * data.counts[split.train].sum())
    step = 1e-6
    for column in range(0, len(start), 3):
        moved = np.zeros(len(start))
        moved[column] = step
        sides = [problem.residuals(start + sign * moved, False)[0] for sign in (1, -1)]
        np.testing.assert_allclose(rows[:, column], (sides[0] - sides[1]) / (2 * step), atol=2e-7, rtol=1e-5)


@pytest.mark.parametrize("embedding", [0, 2])
def test_trained_forces_are_those_of_the_calculator(embedding: int) -> None:
    """The residuals of the weights that a calculator is made of are its errors."""
    data, settings = oxide(embedding, 0.4)
    split = split_structures(data.ids, settings.training, np.random.default_rng(0))
    problem = TrainingProblem(data, split, settings)
    start = problem.shape.start(np.random.default_rng(1))
    network = problem.network(start)
    calculator = EddpCalculator(Ensemble((network,), (1.0,)))
    energies, forces = [], []
    for c in split.train:
        seed = int(data.ids[c][1:])
        atoms = gf_eddp.skewed("Mg", "O", "Si", seed=seed)[: 4 + seed % 3]
        atoms.calc = calculator
        energies.append((atoms.get_potential_energy() - data.energies[c]) / len(atoms) ** 0.5)
        forces.append(0.4 * (atoms.get_forces() - data.forces[c]).ravel())
    expected = np.concatenate([energies, *forces]) / network.output_scale
    np.testing.assert_allclose(problem.residuals(start, False)[0], expected, rtol=1e-9, atol=1e-9)


def test_an_embedding_has_fewer_unknowns() -> None:
    vector = gf_eddp.features("Mg", "O", "Si", "Al")
    sizes = []
    for embedding in (0, 2):
        settings = EddpSettings(network=NetworkSettings(embedding=embedding))
        shape = Shape.of(vector, settings.network)
        start = shape.start(np.random.default_rng(0))
        weights = shape.weights(start)
        assert len(weights) == (vector.length + 1) * 5 + 6
        sizes.append(len(start))
    assert sizes == [(4 + 16 * 5 + 40 * 25 + 1) * 5 + 6, 20 + 16 * 2 + 10 * 5 + 40 * 2 + 50 * 5 + 5 + 6]


def test_grouping_keeps_copies_on_one_side() -> None:
    rng = np.random.default_rng(2)
    parents = [f"p{k}" for k in rng.integers(0, 60, size=600)]
    for kind, mixed in (("parent", False), ("plain", True)):
        split = split_structures(parents, TrainingSettings(split=kind), np.random.default_rng(0))
        sets = [split.train, split.validation, split.test]
        assert sorted(np.concatenate(sets).tolist()) == list(range(600))
        for chosen, share in zip(sets, (480, 60, 60), strict=True):
            assert abs(len(chosen) - share) <= 12
        sides = [{parents[c] for c in chosen} for chosen in sets]
        assert bool(sides[0] & sides[2]) is mixed
        assert bool(sides[0] & sides[1]) is mixed
        again = split_structures(parents, TrainingSettings(split=kind), np.random.default_rng(0))
        other = split_structures(parents, TrainingSettings(split=kind), np.random.default_rng(1))
        assert np.array_equal(again.test, split.test)
        assert not np.array_equal(other.test, split.test)
    with pytest.raises(FitError, match="2 families"):
        split_structures(["a", "a", "b"], TrainingSettings(), np.random.default_rng(0))


def test_a_seed_gives_the_same_bits(silicon: tuple[TrainingSet, list[LabelledStructure]]) -> None:
    data, labels = silicon
    settings = EddpSettings(training=TrainingSettings(max_steps=15))
    split = split_structures(data.parents, settings.training, np.random.default_rng(0))
    first = train_network(data, split, settings, np.random.default_rng(9))
    again = prepare(
        labels[::-1], data.features, settings.training, parents=dict(zip(data.ids, data.parents, strict=True))
    )
    second = train_network(again, split, settings, np.random.default_rng(9))
    assert first.network == second.network
    assert first.errors == second.errors
    assert train_network(data, split, settings, np.random.default_rng(8)).network != first.network


def test_silicon_is_learned(silicon: tuple[TrainingSet, list[LabelledStructure]]) -> None:
    """Distorted crystals of four kinds, copies kept together: MAE below 30 meV/atom where energies spread 0.59 eV."""
    data, labels = silicon
    settings = EddpSettings(training=TrainingSettings(max_steps=400))
    split = split_structures(data.parents, settings.training, np.random.default_rng(0))
    trained = [train_network(data, split, settings, np.random.default_rng(seed)) for seed in range(6)]
    found = combine([item.network for item in trained], data, split, settings.ensemble)
    assert (data.energies / data.counts).std() > 0.5
    errors = found.errors["test"]
    assert errors.n_structures == len(split.test) > 30
    assert errors.mae < 0.03
    assert errors.spearman > 0.99
    assert errors.mae < 0.9 * np.median([item.errors["test"].mae for item in trained])
    assert errors.mae < 3.0 * found.errors["train"].mae
    calculator = EddpCalculator(found.ensemble)
    by_id = {item.id: item for item in labels}
    ours = np.array([calculator.get_potential_energy(by_id[data.ids[c]].atoms) for c in split.test])
    theirs = np.array([by_id[data.ids[c]].energy for c in split.test])
    assert np.abs((ours - theirs) / data.counts[split.test]).mean() == pytest.approx(errors.mae, rel=1e-9)


def test_forces_in_training_make_better_forces(silicon: tuple[TrainingSet, list[LabelledStructure]]) -> None:
    _, labels = silicon
    errors = []
    for weight in (0.0, 0.2):
        settings = EddpSettings(training=TrainingSettings(force_weight=weight, max_steps=30))
        vector = Features.from_settings(FeatureSettings(cutoff=4.0), ["Si"])
        data = prepare(labels[:80], vector, settings.training)
        split = split_structures(data.parents, settings.training, np.random.default_rng(0))
        network = train_network(data, split, settings, np.random.default_rng(1)).network
        calculator = EddpCalculator(Ensemble((network,), (1.0,)))
        errors.append(
            np.sqrt(
                np.mean([np.mean((calculator.get_forces(i.atoms) - i.forces) ** 2) for i in labels[240:]])
            )
        )
    assert errors[1] < 0.7 * errors[0]


def test_weights_of_an_ensemble_are_found(silicon: tuple[TrainingSet, list[LabelledStructure]]) -> None:
    data, _ = silicon
    networks = [gf_eddp.network(data.features, seed) for seed in range(4)]
    each = np.array([network.energies(data.full, data.offsets) for network in networks])
    known = replace(data, energies=0.3 * each[0] + 0.7 * each[2])
    split = split_structures(data.parents, TrainingSettings(), np.random.default_rng(0))
    bad = int(split.validation[4])
    known.energies[bad] += 50.0
    found = combine(
        networks, known, split, EnsembleSettings(outlier=1.5, least_weight=1e-6), Baseline(1.0, 1.0)
    )
    assert found.kept == (0, 2)
    assert found.ensemble.parts == pytest.approx((0.3, 0.7), abs=1e-6)
    assert found.outliers == (data.ids[bad],)
    assert found.ensemble.baseline == Baseline(1.0, 1.0)
    assert found.errors["test"].mae < 1e-6
    with pytest.raises(FitError, match=r"within 1e-09 eV/atom"):
        combine(networks[3:], known, split, EnsembleSettings(outlier=1e-9))
    with pytest.raises(FitError, match="no network"):
        combine([], known, split, EnsembleSettings())


def test_errors_are_per_atom() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, size=40)
    reference = rng.normal(size=40).round(1) * counts
    predicted = reference + 0.3 * rng.normal(size=40).round(1) * counts
    found = energy_errors(predicted, reference, counts)
    error = (predicted - reference) / counts
    assert (found.n_structures, found.mae) == (40, pytest.approx(np.abs(error).mean()))
    assert found.rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert found.spearman == pytest.approx(spearmanr(predicted / counts, reference / counts).statistic)


def test_what_is_trained_on() -> None:
    labels, _ = gf_eddp.silicon(parents=6, copies=1)
    vector = gf_eddp.features("Si", cutoff=4.0)
    far = replace(labels[0], id="far", energy=labels[0].energy + 12.0 * len(labels[0].atoms))
    alone = LabelledStructure("alone", Atoms("Si"), 0.0, None, None, "isolated")
    core = Baseline(2.6, 1e-3, (-4.3,))
    found = prepare([*labels, far, alone], vector, TrainingSettings(force_weight=1.0), baseline=core)
    assert found.discarded == ("alone", "far")
    assert found.ids == tuple(sorted(item.id for item in labels))
    potential = Ensemble((gf_eddp.network(vector, 0),), (1.0,), core)
    without = EddpCalculator(Ensemble(potential.members, (1.0,)))
    for c, item in enumerate(sorted(labels, key=lambda item: item.id)):
        both = EddpCalculator(potential)
        assert both.e0[14] == pytest.approx(potential.mean_energy - 4.3)
        repulsion = both.get_potential_energy(item.atoms) - without.get_potential_energy(item.atoms)
        pushed = both.get_forces(item.atoms) - without.get_forces(item.atoms)
        assert found.energies[c] == pytest.approx(item.energy - repulsion, abs=1e-9)
        np.testing.assert_allclose(found.forces[c], item.forces - pushed, atol=1e-9)
    with pytest.raises(FitError, match="more than once"):
        prepare([labels[0], labels[0]], vector, TrainingSettings())
    with pytest.raises(FitError, match="not finite"):
        prepare([replace(labels[0], energy=float("nan"))], vector, TrainingSettings())
    with pytest.raises(FitError, match="no structure is left"):
        prepare([alone], vector, TrainingSettings())
    with pytest.raises(ValueError, match="parts of 1"):
        TrainingSettings(fractions=(0.8, 0.1, 0.2))
