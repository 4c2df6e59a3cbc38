"""Batched relaxation: the same minima as ASE's optimiser step by step, and no cell knows of its neighbours."""

from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.neighborlist import neighbor_list
from ase.optimize.precon import Exp, PreconLBFGS
from ase.spacegroup.symmetrize import prep_symmetry, symmetrize_rank1, symmetrize_rank2
from ase.units import GPa
from scipy.linalg import expm, expm_frechet

from gapfactory.errors import PotentialError, RelaxationError
from gapfactory.potentials.gap.calculator import GapCalculator
from gapfactory.potentials.gap.model import GapModel, empty_term, with_points
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon
from gapfactory.search import RelaxSettings, relax, relax_batch
from gapfactory.search._batch_lbfgs import closest_pair, exponential, symmetrise
from gapfactory.search.batch import relax_each
from gapfactory.search.evaluator import EngineEvaluator, Evaluation, OneByOne, Refusal, batch_evaluator

ARRAYS = ("positions", "cells", "energies", "enthalpies", "max_forces", "cell_forces", "steps")


def random_cells(symbol, volume, separation, sizes, seed):
    """Return cells with random atoms that were pushed apart to the separation (Å)."""
    rng = np.random.default_rng(seed)
    cells = []
    for n in sizes:
        for _ in range(50):
            box = np.eye(3) + 0.15 * rng.normal(size=(3, 3))
            box *= (n * volume / abs(np.linalg.det(box))) ** (1 / 3)
            atoms = Atoms(f"{symbol}{n}", scaled_positions=rng.random((n, 3)), cell=box, pbc=True)
            for _ in range(60):
                first, length, vector = neighbor_list("idD", atoms, separation)
                if len(length) == 0:
                    break
                push = 0.5 * (1.05 * separation - length) / length
                np.add.at(atoms.positions, first, -push[:, None] * vector)
            if len(length) == 0:
                cells.append(atoms)
                break
    assert len(cells) == len(sizes)
    return cells


def silicon(sizes=(2, 3, 4, 2, 5, 3, 4), seed=3):
    return random_cells("Si", 19.0, 1.9, sizes, seed)


class AsePath(PreconLBFGS):
    """ASE's optimiser on ASE's filter; ours are only the stopping rule and the rule to skip what curves downwards."""

    def __init__(self, atoms, calculator, pressure_GPa, settings):
        self.moving = atoms.copy()
        self.moving.calc = calculator
        precon = None
        if settings.preconditioner == "exponential":
            nearest = (np.sqrt(2.0) * atoms.get_volume() / len(atoms)) ** (1 / 3)
            precon = Exp(r_cut=2.0 * nearest, r_NN=nearest, mu=settings.initial_hessian / 12, mu_c=1.0)
        self.pressure, self.settings = pressure_GPa * GPa, settings
        super().__init__(
            FrechetCellFilter(self.moving, scalar_pressure=self.pressure),
            logfile=None,
            maxstep=settings.max_step,
            precon=precon,
        )

    def gradient_converged(self, gradient):
        virial = self.moving.get_volume() * (self.moving.get_stress(voigt=False) + self.pressure * np.eye(3))
        return (
            np.linalg.norm(self.moving.get_forces(), axis=1).max() < self.settings.force_threshold
            and np.linalg.norm(virial, axis=1).max() / len(self.moving) < self.settings.cell_force_threshold
        )

    def update(self, r, f, r0, f0):
        if self._just_reset_hessian or np.vdot(f0 - f, r - r0) > 0.0:
            super().update(r, f, r0, f0)

    def log(self, gradient):
        pass

    def enthalpy(self):
        return self.moving.get_potential_energy() + self.pressure * self.moving.get_volume()


@pytest.mark.parametrize(
    ("symbol", "volume", "separation", "calculator", "preconditioner"),
    [
        ("Si", 19.0, 1.9, StillingerWeberSilicon(), "none"),
        ("Si", 19.0, 1.9, StillingerWeberSilicon(), "exponential"),
        ("Ti", 17.0, 2.3, SecondMomentTitanium(), "none"),
        ("Cu", 12.0, 2.0, EMT(), "none"),
    ],
)
def test_same_steps_to_the_same_minima_as_ase(symbol, volume, separation, calculator, preconditioner):
    settings = RelaxSettings(preconditioner=preconditioner, thinning_ratio=1.0)
    sizes = (2, 3, 4, 5, 6, 3, 4, 2) if preconditioner == "none" else (3, 4)
    cells = random_cells(symbol, volume, separation, sizes, 7)
    pressures = [0.3 * k for k in range(len(cells))]
    paths = relax_batch(cells, pressures, OneByOne(calculator), settings)
    for atoms, pressure, path in zip(cells, pressures, paths, strict=True):
        theirs = AsePath(atoms, calculator, pressure, settings)
        theirs.run(steps=settings.max_steps)
        assert path.status == "converged"
        assert abs(path.n_steps - theirs.nsteps) <= 2
        assert path.enthalpies[-1] == pytest.approx(theirs.enthalpy(), abs=1e-4)
        assert path.frame(-1).get_volume() == pytest.approx(theirs.moving.get_volume(), rel=1e-3)


def test_a_cell_does_not_depend_on_its_batch_to_the_last_bit():
    cells = silicon()
    pressures = [0.1 * k for k in range(len(cells))]
    evaluate, settings = OneByOne(StillingerWeberSilicon()), RelaxSettings()
    together = relax_batch(cells, pressures, evaluate, settings)
    backwards = relax_batch(cells[::-1], pressures[::-1], evaluate, settings, width=3)[::-1]
    for atoms, pressure, one, other in zip(cells, pressures, together, backwards, strict=True):
        alone = relax(atoms, StillingerWeberSilicon(), pressure_GPa=pressure, settings=settings)
        assert alone.status == "converged"
        for found in (one, other):
            assert (found.status, found.reason) == (alone.status, alone.reason)
            assert (found.n_steps, found.n_evaluations) == (alone.n_steps, alone.n_evaluations)
            for name in ARRAYS:
                assert getattr(found, name).tobytes() == getattr(alone, name).tobytes(), name


def small_potential():
    """Return a calculator with a pair and a SOAP term that holds atoms together; it fits nothing."""
    ranges = "cutoff=4.5 cutoff_transition_width=1.0"
    pair = empty_term(f"distance_2b Z1=14 Z2=14 {ranges}", "covariance_type=ard_se theta_uniform=0.6", 1.0)
    soap = empty_term(
        f"soap n_max=4 l_max=3 atom_sigma=0.6 Z=14 n_species=1 species_Z={{14}} {ranges}",
        "covariance_type=dot_product zeta=4",
        1.0,
    )
    rng = np.random.default_rng(8)
    points = rng.normal(size=(7, soap.dimension))
    points /= np.linalg.norm(points, axis=1)[:, None]
    terms = (
        with_points(pair, np.array([[1.2], [1.8], [2.5]]), np.array([9.0, 3.0, -0.8])),
        with_points(soap, points, 0.05 * rng.normal(size=7)),
    )
    return GapCalculator(GapModel(terms, {14: -1.0}, None))


def test_the_compiled_engine_gives_the_same_bits_in_any_batch():
    cells, calculator, settings = silicon(), small_potential(), RelaxSettings(max_steps=60)
    pressures = [0.2] * len(cells)
    together = relax_batch(cells, pressures, calculator.evaluate_batch, settings)
    backwards = relax_batch(cells[::-1], pressures, calculator.evaluate_batch, settings, width=2)[::-1]
    for atoms, one, other in zip(cells, together, backwards, strict=True):
        assert one.status != "failed"
        assert one.n_steps > 3
        alone = relax(atoms, calculator, pressure_GPa=0.2, settings=settings)
        for name in ARRAYS:
            bits = getattr(one, name).tobytes()
            assert bits == getattr(other, name).tobytes() == getattr(alone, name).tobytes(), name


class Watched(OneByOne):
    """Notes the size of every call; `spoil(atoms, call)` may return an answer in place of the real one, or raise."""

    def __init__(self, spoil=lambda atoms, call: None):
        super().__init__(StillingerWeberSilicon())
        self.spoil, self.sizes = spoil, []

    def __call__(self, structures):
        self.sizes.append(len(structures))
        found = [self.spoil(atoms, len(self.sizes)) for atoms in structures]
        honest = super().__call__(structures)
        return [mine or theirs for mine, theirs in zip(found, honest, strict=True)]


class Compiled:
    """An engine as `EngineEvaluator` sees it, made of an ASE calculator; its zero of energy is moved by 3 eV/atom."""

    def evaluate(self, structures):
        found = OneByOne(StillingerWeberSilicon())(structures)
        ends = np.cumsum([0, *(len(atoms) for atoms in structures)])
        return SimpleNamespace(
            energies=np.array([f.energy + 3.0 * len(a) for f, a in zip(found, structures, strict=True)]),
            forces=np.concatenate([f.forces for f in found]),
            stresses=np.array([f.stress for f in found]),
            atoms_of=lambda k: slice(ends[k], ends[k + 1]),
        )


def test_an_engine_answers_as_its_calculator_and_refuses_what_it_does_not_know():
    cells = silicon()
    honest = OneByOne(StillingerWeberSilicon())(cells)
    per_atom = [abs(f.energy) / len(a) for f, a in zip(honest, cells, strict=True)]
    limit = sorted(per_atom)[-2]
    for atoms, size, expected, found in zip(
        cells, per_atom, honest, EngineEvaluator(Compiled(), {14: 3.0}, limit)(cells), strict=True
    ):
        if size > limit:
            assert f"of {atoms.symbols} is" in found.reason
            assert f"beyond {limit:g}" in found.reason
        else:
            assert found.energy == pytest.approx(expected.energy + 3.0 * len(atoms))
            np.testing.assert_array_equal(found.forces, expected.forces)
            np.testing.assert_array_equal(found.stress, expected.stress)
    assert max(per_atom) > limit


def test_a_calculator_that_evaluates_batches_is_asked_for_them():
    own = Watched()
    calculator = SimpleNamespace(evaluate_batch=own)
    path = relax(silicon()[0], calculator, pressure_GPa=0.0, settings=RelaxSettings(max_steps=2))
    assert own.sizes == [1] * path.n_evaluations
    assert isinstance(batch_evaluator(StillingerWeberSilicon()), OneByOne)


def test_finished_cells_make_room_and_are_yielded_at_once():
    cells = silicon()
    watched = Watched()
    ended = []
    for done in relax_each(cells, [0.0] * len(cells), watched, RelaxSettings(), width=3):
        ended.append((done.index, len(watched.sizes)))
        assert done.seconds > 0.0
    assert sorted(index for index, _ in ended) == list(range(len(cells)))
    assert max(watched.sizes) == 3
    assert watched.sizes[: ended[-4][1]] == [3] * ended[-4][1]
    assert ended[0][1] < len(watched.sizes)


def refuse(atoms, call):
    return Refusal("PotentialError: too far out") if len(atoms) == 4 and call > 3 else None


def not_finite(atoms, call):
    if len(atoms) == 4 and call > 3:
        return Evaluation(np.nan, np.zeros((4, 3)), np.zeros(6))
    return None


def raises(atoms, call):
    if len(atoms) == 4 and call > 3:
        raise PotentialError("too far out")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (refuse, "PotentialError: too far out"),
        (raises, "PotentialError: too far out"),
        (not_finite, "energy is not finite"),
    ],
)
def test_a_cell_that_fails_touches_no_other(spoil, reason):
    cells = silicon()
    pressures = [0.2] * len(cells)
    good = relax_batch(cells, pressures, Watched(), RelaxSettings())
    spoilt = relax_batch(cells, pressures, Watched(spoil), RelaxSettings())
    for atoms, one, other in zip(cells, good, spoilt, strict=True):
        if len(atoms) == 4:
            assert (other.status, other.reason, len(other)) == ("failed", reason, 3)
            assert other.enthalpies.tobytes() == one.enthalpies[:3].tobytes()
        else:
            for name in ARRAYS:
                assert getattr(other, name).tobytes() == getattr(one, name).tobytes(), name


def test_guards_stop_one_cell_before_the_first_call():
    cells = silicon()
    cells[2].positions[1] = cells[2].positions[0] + [0.3, 0.0, 0.0]
    watched = Watched()
    paths = relax_batch(cells, [0.0] * len(cells), watched, RelaxSettings(max_steps=1))
    assert [path.status for path in paths].count("failed") == 1
    assert "0.30 Å apart" in paths[2].reason
    assert (len(paths[2]), paths[2].n_evaluations) == (0, 0)
    assert watched.sizes[0] == len(cells) - 1


def test_a_line_search_without_a_way_down_ends():
    # forces point uphill: no trial is ever lower
    def answer(atoms, call):
        return Evaluation(float(call), np.ones((len(atoms), 3)), np.zeros(6))

    (path,) = relax_batch([bulk("Si")], [0.0], Watched(answer), RelaxSettings())
    assert path.status == "unconverged"
    assert "no lower enthalpy" in path.reason
    assert path.n_evaluations < 80


def test_misuse_is_an_error():
    cells, settings = [bulk("Si")], RelaxSettings()
    evaluate = Watched()
    with pytest.raises(RelaxationError, match="1 structures and 2 pressures"):
        relax_batch(cells, [0.0, 1.0], evaluate, settings)
    with pytest.raises(RelaxationError, match="width 0"):
        relax_batch(cells, [0.0], evaluate, settings, width=0)
    with pytest.raises(RelaxationError, match="0 answers for 1"):
        relax_batch(cells, [0.0], lambda structures: [], settings)
    with pytest.raises(RelaxationError, match=r"\(3, 3\).*expected \(2, 3\)"):
        relax_batch(cells, [0.0], lambda s: [Evaluation(0.0, np.zeros((3, 3)), np.zeros(6))], settings)
    with pytest.raises(RelaxationError, match="periodic in three"):
        relax_batch([Atoms("Si")], [0.0], evaluate, settings)
    assert relax_batch([], [], evaluate, settings) == []


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.1, 0.5, 3.0, 12.0])
def test_exponential_and_its_derivative_equal_scipy(size):
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, along = size * rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
        value, derivative = np.empty((3, 3)), np.empty((3, 3))
        exponential(a, along, value, derivative, True)
        expected, expected_derivative = expm_frechet(a, along)
        # every squaring doubles what rounding left
        limit = 1e-14 * (1.0 + 10.0 * size)
        np.testing.assert_allclose(value, expm(a), rtol=0, atol=limit * np.abs(expected).max())
        np.testing.assert_allclose(
            derivative, expected_derivative, rtol=0, atol=limit * np.abs(expected_derivative).max()
        )
        again = np.empty((3, 3))
        exponential(a, along, again, derivative, False)
        assert again.tobytes() == value.tobytes()


def test_exponential_of_what_is_not_finite_ends():
    value, derivative = np.empty((3, 3)), np.empty((3, 3))
    exponential(np.full((3, 3), np.inf), np.eye(3), value, derivative, True)
    assert np.isnan(value).all()
    assert np.isnan(derivative).all()


def test_closest_pair_equals_ase_in_skewed_and_thin_cells():
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(30):
        n = int(rng.integers(1, 6))
        cell = np.diag([6.0, 6.0, 6.0]) * rng.uniform(0.3, 1.0, 3) + rng.normal(size=(3, 3))
        atoms = Atoms(f"Si{n}", scaled_positions=3 * rng.random((n, 3)) - 1, cell=cell, pbc=True)
        reach = rng.uniform(0.2, 0.9, n)
        expected = neighbor_list("d", atoms, list(reach))
        found = closest_pair(atoms.positions, atoms.cell.array, reach)
        seen.add(len(expected) > 0)
        if len(expected):
            assert found == pytest.approx(expected.min(), abs=1e-10)
        else:
            assert np.isinf(found)
    assert seen == {True, False}


@pytest.mark.parametrize(
    "atoms", [bulk("Ti"), bulk("Si", cubic=True), bulk("Si")], ids=["hcp", "cubic", "fcc"]
)
def test_average_over_the_group_equals_ase(atoms):
    rotations, translations, images = prep_symmetry(atoms, symprec=1e-4)
    cell, inverse = atoms.cell.array, np.linalg.inv(atoms.cell.array)
    rng = np.random.default_rng(5)
    forces, full = rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))
    full += full.T
    cartesian = np.array([cell.T @ r @ inverse.T for r in rotations])
    mean, stress = symmetrise(cartesian, np.array(images), forces, full.ravel()[[0, 4, 8, 5, 2, 1]])
    np.testing.assert_allclose(
        mean, symmetrize_rank1(cell, inverse, forces, rotations, translations, images), atol=1e-13
    )
    expected = symmetrize_rank2(cell, inverse, full, rotations).ravel()[[0, 4, 8, 5, 2, 1]]
    np.testing.assert_allclose(stress, expected, atol=1e-13)


def test_kept_symmetry_lasts_to_the_end_of_a_long_way():
    import spglib

    # beta-tin stretched along its axis: a rotation of the cell or one lost operation lets it fall into diamond
    cell = [[-2.6, 2.6, 1.1], [2.6, -2.6, 1.1], [2.6, 2.6, -1.1]]
    atoms = Atoms("Si2", scaled_positions=[[0, 0, 0], [0.75, 0.25, 0.5]], cell=cell, pbc=True)
    settings = RelaxSettings(keep_symmetry=True)
    (path,) = relax_batch([atoms], [8.0], OneByOne(StillingerWeberSilicon()), settings)
    assert path.status == "converged"
    assert path.n_steps >= 5
    assert abs(path.frame(-1).get_volume() / atoms.get_volume() - 1.0) > 0.1
    last = path.frame(-1)
    groups = [
        spglib.get_spacegroup((a.cell.array, a.get_scaled_positions(), a.numbers), symprec=1e-5)
        for a in (atoms, last)
    ]
    assert groups == ["I4_1/amd (141)"] * 2
