"""Relaxation against independent oracles: ASE's own filter, scipy's minimiser, and the guards one by one."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa

from gapfactory.errors import PotentialError, RelaxationError
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon
from gapfactory.search import RelaxSettings, draw_pressure, relax
from gapfactory.search.descent import Minimisation, _Landscape
from gapfactory.search.evaluator import OneByOne


def rattled(n=2, seed=1, amplitude=0.15):
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True, a=5.6) if n == 8 else bulk("Si", a=5.6)
    atoms.set_cell(atoms.cell.array + 0.2 * rng.normal(size=(3, 3)), scale_atoms=True)
    atoms.positions += amplitude * rng.normal(size=(len(atoms), 3))
    return atoms


class Spy(StillingerWeberSilicon):
    """Counts calls and notes what was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        self.asked.append((tuple(sorted(properties)), atoms.positions.tobytes(), atoms.cell.array.tobytes()))
        super().calculate(atoms, properties, system_changes)


class Scripted(Calculator):
    """Answers what the test wants: `answer(atoms, call)` returns results."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.results = self.answer(self.atoms, self.calls)


def results(atoms, energy=0.0, force=0.0, stress=0.0):
    forces = np.zeros((len(atoms), 3))
    forces[0, 0], forces[-1, 0] = force, -force
    return {"energy": energy, "forces": forces, "stress": np.array([stress] * 3 + [0.0] * 3)}


def landscape_of(atoms, *, pressure, fixed_volume=False):
    """Return a function from variables to the point there."""
    task = Minimisation(atoms, pressure / GPa, RelaxSettings(), 0, 1.0, None, fixed_volume)
    landscape, evaluate = _Landscape(task), OneByOne(StillingerWeberSilicon())

    def at(variables):
        asking = landscape.at(variables)
        with pytest.raises(StopIteration) as end:
            asking.send(evaluate([next(asking)])[0])
        return end.value.value

    return at


@pytest.mark.parametrize("fixed_volume", [False, True])
def test_variables_and_gradient_equal_ase_frechet_filter(fixed_volume):
    theirs = rattled(8)
    theirs.calc = StillingerWeberSilicon()
    oracle = FrechetCellFilter(theirs, scalar_pressure=0.1, constant_volume=fixed_volume)
    at = landscape_of(rattled(8), pressure=0.1, fixed_volume=fixed_volume)
    rng = np.random.default_rng(2)
    # ASE takes the logarithm of N times the deformation
    variables = oracle.get_positions()
    shift = np.concatenate([np.zeros((8, 3)), 8 * np.log(8) * np.eye(3)])
    for _ in range(3):
        step = 0.1 * rng.normal(size=(11, 3))
        if fixed_volume:
            step[-3:] -= np.eye(3) * np.trace(step[-3:]) / 3
        variables = variables + step
        oracle.set_positions(variables)
        point = at(variables - shift)
        np.testing.assert_allclose(point.positions, theirs.positions, atol=1e-11)
        np.testing.assert_allclose(point.cell, theirs.cell.array, atol=1e-11)
        assert point.enthalpy == pytest.approx(oracle.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(-point.gradient, oracle.get_forces(), atol=1e-9, rtol=1e-9)


def test_gradient_is_the_numerical_derivative_of_the_enthalpy():
    atoms = rattled(8)
    at = landscape_of(atoms, pressure=0.05)
    x, h = np.concatenate([atoms.positions, np.zeros((3, 3))]) + 0.1, 1e-5
    gradient = at(x).gradient
    for row, column in ((0, 0), (5, 2), (8, 0), (9, 2), (10, 1)):
        moved = [x.copy(), x.copy()]
        moved[0][row, column] += h
        moved[1][row, column] -= h
        slope = (at(moved[0]).enthalpy - at(moved[1]).enthalpy) / (2 * h)
        assert slope == pytest.approx(gradient[row, column], abs=2e-5)


def test_reaches_the_minimum_that_ase_bfgs_finds():
    atoms = rattled(2, amplitude=0.05)
    path = relax(atoms, StillingerWeberSilicon(), pressure_GPa=1.0, settings=RelaxSettings())
    assert path.status == "converged"
    check = atoms.copy()
    check.calc = StillingerWeberSilicon()
    BFGS(FrechetCellFilter(check, scalar_pressure=1.0 * GPa), logfile=None).run(fmax=1e-3, steps=300)
    expected = check.get_potential_energy() + 1.0 * GPa * check.get_volume()
    assert path.enthalpies[-1] == pytest.approx(expected, abs=2e-4)
    last = path.frame(-1)
    last.calc = StillingerWeberSilicon()
    assert np.linalg.norm(last.get_forces(), axis=1).max() < 0.01
    pressure = -np.trace(last.get_stress(voigt=False)) / 3 / GPa
    assert pressure == pytest.approx(1.0, abs=0.1)
    assert path.energies[-1] == last.get_potential_energy()
    assert path.enthalpies[-1] == path.energies[-1] + 1.0 * GPa * last.get_volume()


def test_one_call_per_structure_with_everything_asked_at_once():
    spy = Spy()
    path = relax(rattled(8), spy, pressure_GPa=0.2, settings=RelaxSettings(max_steps=30))
    assert {asked for asked, _, _ in spy.asked} == {("energy", "forces", "stress")}
    assert len({tuple(rest) for rest in spy.asked}) == len(spy.asked) == path.n_evaluations
    assert path.n_evaluations <= 1.6 * (path.n_steps + 1)


def test_same_input_same_bits():
    runs = [
        relax(rattled(8), StillingerWeberSilicon(), pressure_GPa=0.3, settings=RelaxSettings())
        for _ in range(2)
    ]
    for name in ("positions", "cells", "energies", "enthalpies", "max_forces", "cell_forces", "steps"):
        assert getattr(runs[0], name).tobytes() == getattr(runs[1], name).tobytes(), name


def test_input_is_left_alone_and_frame_zero_is_the_input():
    atoms = rattled(8)
    before = atoms.copy()
    path = relax(atoms, StillingerWeberSilicon(), pressure_GPa=0.1, settings=RelaxSettings(max_steps=3))
    assert atoms == before
    assert atoms.calc is None
    assert path.positions[0].tobytes() == before.positions.tobytes()
    assert path.cells[0].tobytes() == before.cell.array.tobytes()
    assert path.status == "unconverged"
    assert "3 steps" in path.reason.replace("3 of at most 3 steps", "3 steps")


def test_thinning_keeps_the_first_steps_and_the_last():
    full = relax(
        rattled(8), StillingerWeberSilicon(), pressure_GPa=0.1, settings=RelaxSettings(thinning_ratio=1.0)
    )
    thin = relax(
        rattled(8), StillingerWeberSilicon(), pressure_GPa=0.1, settings=RelaxSettings(keep_first_steps=4)
    )
    assert full.steps.tolist() == list(range(full.n_steps + 1))
    assert thin.steps[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert thin.steps[-1] == thin.n_steps == full.n_steps
    assert len(thin) < len(full)
    gaps = np.diff(thin.steps[5:-1])
    assert (gaps[1:] >= gaps[:-1]).all()
    np.testing.assert_array_equal(thin.positions, full.positions[thin.steps])


def test_enthalpy_never_rises_by_more_than_rounding():
    path = relax(
        rattled(8), StillingerWeberSilicon(), pressure_GPa=5.0, settings=RelaxSettings(thinning_ratio=1.0)
    )
    assert (np.diff(path.enthalpies) < 1e-9).all()


def test_symmetry_is_kept_on_request_only():
    import spglib

    atoms = bulk("Si", cubic=True, a=5.9)
    atoms.positions[:4] += [0.0, 0.0, 0.05]
    group = spglib.get_spacegroup(
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4
    )
    path = relax(
        atoms,
        StillingerWeberSilicon(),
        pressure_GPa=0.0,
        settings=RelaxSettings(keep_symmetry=True, max_steps=5),
    )
    last = path.frame(-1)
    kept = spglib.get_spacegroup((last.cell.array, last.get_scaled_positions(), last.numbers), symprec=1e-4)
    assert kept == group
    assert path.n_steps == 5 or path.status == "converged"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a, k: results(a, energy=np.nan), "energy is not finite"),
        (lambda a, k: results(a, force=np.inf), "forces is not finite"),
        (lambda a, k: results(a, energy=a.get_volume(), stress=1.0), "volume collapsed"),
        (lambda a, k: results(a, energy=-a.get_volume(), stress=-1.0), "cell exploded"),
    ],
)
def test_guards_end_in_failed_with_the_reason(answer, words):
    atoms = bulk("Si")
    path = relax(atoms, Scripted(answer), pressure_GPa=0.0, settings=RelaxSettings(closest_approach=0.0))
    assert path.status == "failed"
    assert words in path.reason
    assert np.isfinite(path.energies).all()
    assert len(path.positions) == len(path.cells) == len(path.steps)


def test_sound_frames_before_a_failure_are_kept():
    def answer(atoms, call):
        return results(atoms, energy=-float(call), force=1.0) if call < 5 else results(atoms, energy=np.nan)

    path = relax(bulk("Si"), Scripted(answer), pressure_GPa=0.0, settings=RelaxSettings())
    assert path.status == "failed"
    assert len(path) >= 2
    assert np.isfinite(path.energies).all()


def test_a_structure_the_potential_refuses_is_a_failed_relaxation():
    def answer(atoms, call):
        if call < 4:
            return results(atoms, energy=-float(call), force=1.0)
        raise PotentialError("the energy of Si2 is 1e+06 eV/atom from the free atoms")

    path = relax(bulk("Si"), Scripted(answer), pressure_GPa=0.0, settings=RelaxSettings())
    assert path.status == "failed"
    assert path.reason == "PotentialError: the energy of Si2 is 1e+06 eV/atom from the free atoms"
    assert len(path) >= 2


def test_failure_at_the_first_call_leaves_no_frame():
    path = relax(
        bulk("Si"),
        Scripted(lambda a, k: results(a, energy=np.nan)),
        pressure_GPa=0.0,
        settings=RelaxSettings(),
    )
    assert (path.status, len(path)) == ("failed", 0)
    assert path.positions.shape == (0, 2, 3)
    assert path.cells.shape == (0, 3, 3)


def test_atoms_on_top_of_each_other():
    atoms = bulk("Si", cubic=True)
    atoms.positions[1] = atoms.positions[0] + [0.3, 0, 0]
    path = relax(atoms, StillingerWeberSilicon(), pressure_GPa=0.0, settings=RelaxSettings())
    assert path.status == "failed"
    assert "0.30 Å apart" in path.reason


@pytest.mark.parametrize("skew", [0.0, 0.9])
def test_close_images_are_found_in_small_and_skewed_cells(skew):
    # two atoms close only through the periodic boundary
    cell = np.array([[6.0, 0, 0], [6.0 * skew, 6.0, 0], [0, 6.0 * skew, 6.0]])
    atoms = Atoms("Si2", scaled_positions=[[0.02, 0.5, 0.97], [0.98, 0.5, 0.03]], cell=cell, pbc=True)
    true = atoms.get_distance(0, 1, mic=True)
    assert true < 0.8
    path = relax(atoms, StillingerWeberSilicon(), pressure_GPa=0.0, settings=RelaxSettings())
    assert f"{true:.2f} Å apart" in path.reason
    thin = Atoms("Si", cell=np.diag([0.5, 8.0, 8.0]), pbc=True)
    assert (
        "0.50 Å apart"
        in relax(thin, StillingerWeberSilicon(), pressure_GPa=0.0, settings=RelaxSettings()).reason
    )


def test_a_calculator_that_raises_is_a_failed_relaxation():
    def answer(atoms, call):
        raise RuntimeError("neighbour list overflow")

    path = relax(bulk("Si"), Scripted(answer), pressure_GPa=0.0, settings=RelaxSettings())
    assert path.status == "failed"
    assert path.reason == "RuntimeError: neighbour list overflow"


def test_inconsistent_forces_end_and_do_not_hang():
    rng = np.random.default_rng(0)

    def answer(atoms, call):
        return {
            "energy": 0.0,
            "forces": rng.normal(size=(len(atoms), 3)),
            "stress": rng.normal(size=6) * 0.01,
        }

    path = relax(bulk("Si"), Scripted(answer), pressure_GPa=0.0, settings=RelaxSettings(max_steps=40))
    assert path.status != "converged"


def test_what_cannot_start_is_an_error():
    settings = RelaxSettings()
    with pytest.raises(RelaxationError, match="periodic in three"):
        relax(
            Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2]]),
            StillingerWeberSilicon(),
            pressure_GPa=0,
            settings=settings,
        )
    with pytest.raises(RelaxationError, match="no volume"):
        relax(
            Atoms("Si", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True),
            Spy(),
            pressure_GPa=0,
            settings=settings,
        )
    with pytest.raises(RelaxationError, match="at least one atom"):
        relax(Atoms(cell=[3, 3, 3], pbc=True), Spy(), pressure_GPa=0, settings=settings)
    no_stress = Scripted(lambda a, k: {"energy": 0.0, "forces": np.zeros((2, 3))})
    with pytest.raises(RelaxationError, match="no stress"):
        relax(bulk("Si"), no_stress, pressure_GPa=0, settings=settings)
    wrong = Scripted(lambda a, k: {"energy": 0.0, "forces": np.zeros((5, 3)), "stress": np.zeros(6)})
    with pytest.raises(RelaxationError, match=r"\(5, 3\)"):
        relax(bulk("Si"), wrong, pressure_GPa=0, settings=settings)


def test_pressure_follows_equation_5():
    settings = RelaxSettings()
    rng = np.random.default_rng(3)
    drawn = np.array([draw_pressure(rng, settings) for _ in range(4000)])
    assert (drawn >= 0).all()
    # exponential of mean beta p0 = 0.2 GPa: mean, median and variance
    assert drawn.mean() == pytest.approx(0.2, rel=0.05)
    assert np.median(drawn) == pytest.approx(0.2 * np.log(2), rel=0.05)
    assert drawn.std() == pytest.approx(0.2, rel=0.08)
    assert len(np.unique(drawn)) == 4000


@pytest.mark.parametrize("preconditioner", ["none", "exponential"])
def test_metal_converges_with_either_preconditioner(preconditioner):
    rng = np.random.default_rng(4)
    atoms = bulk("Ti", cubic=False) * (2, 1, 1)
    atoms.positions += 0.2 * rng.normal(size=atoms.positions.shape)
    settings = RelaxSettings(preconditioner=preconditioner)
    path = relax(atoms, SecondMomentTitanium(), pressure_GPa=0.2, settings=settings)
    assert path.status == "converged"
    assert path.energies[-1] / 4 < -4.82
