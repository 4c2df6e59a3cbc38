"""Dynamics of anneals: averages that are known, symmetry, restarts, guards."""

from dataclasses import fields

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixSymmetry
from ase.units import GPa, kB
from gf_harmonic import Einstein, ElasticBox, Springs

from gapfactory._spglib import space_group_number
from gapfactory.errors import RelaxationError
from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.search import AnnealSettings, RelaxSettings
from gapfactory.search.anneal import anneal, find_temperature
from gapfactory.search.anneal_steps import FreeMotion
from gapfactory.search.descent import operations
from gapfactory.search.evaluator import Evaluation, OneByOne, Refusal


def relax_settings(closest_approach=0.0, **wanted):
    return RelaxSettings(closest_approach=closest_approach, anneal=AnnealSettings(**wanted))


def drive(machine, evaluate):
    """Run a state machine to its end."""
    answer = None
    while True:
        try:
            answer = evaluate([machine.send(answer)])[0]
        except StopIteration as end:
            return end.value


def run(atoms, evaluate, settings, *, seed=5, pressure=0.0, **more):
    return drive(anneal(atoms, settings, seed=seed, pressure_GPa=pressure, **more), evaluate)


def sampled(atoms, evaluate, settings, **more):
    """Return the anneal and its states after the first tenth."""
    states = []
    done = run(atoms, evaluate, settings, save=states.append, **more)
    return done, states[len(states) // 10 :]


def mean_and_error(values, blocks=20):
    """Return the mean over the rows and its standard error, from means of blocks longer than the memory."""
    usable = len(values) // blocks * blocks
    means = np.asarray(values)[:usable].reshape(blocks, -1, *np.shape(values)[1:]).mean(axis=1)
    return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(blocks)


def six_atoms():
    rng = np.random.default_rng(2)
    return Atoms("Si4C2", positions=rng.random((6, 3)) * 8, cell=10 * np.eye(3), pbc=True)


def test_every_mode_of_a_harmonic_crystal_has_its_share() -> None:
    """Equipartition, mode by mode: kT/2 of kinetic and of potential energy; none in the motion of the whole."""
    atoms = six_atoms()
    springs = Springs(atoms.positions.copy())
    wanted = relax_settings(
        temperature_K=400, time_ps=40, timestep_fs=2, friction_per_ps=20, cell="fixed", checkpoint_steps=5
    )
    done, states = sampled(atoms, springs, wanted)
    root = np.repeat(np.sqrt(atoms.get_masses()), 3)
    curvature, modes = np.linalg.eigh(springs.matrix / np.outer(root, root))
    assert (curvature[:3] < 1e-9).all()
    moved = np.array([((s.positions - atoms.positions).ravel() * root) @ modes for s in states])
    speed = np.array([(s.velocities.ravel() * root) @ modes for s in states])
    assert np.abs(moved[:, :3]).max() < 1e-9
    assert np.abs(speed[:, :3]).max() < 1e-9
    half = 0.5 * kB * 400
    for energies in (0.5 * curvature[3:] * moved[:, 3:] ** 2, 0.5 * speed[:, 3:] ** 2):
        found, error = mean_and_error(energies)
        assert (error < 0.15 * half).all()
        # of 15 modes one may be off by a little more than three standard errors
        assert (np.abs(found - half) < 3.5 * error).all()
        assert np.sum(np.abs(found - half) < 3 * error) >= 14
        total, error = mean_and_error(energies.sum(axis=1))
        assert abs(total - 15 * half) < 3 * error
    assert done.facts.degrees == 15
    # what the thermostat gave is taken out of it
    assert abs(done.facts.drift_meV) < 0.1 * 1000 * kB * 400
    assert done.facts.kinetic_K == pytest.approx(400, rel=0.03)


@pytest.mark.parametrize(("pressure", "k"), [(0.0, 0.8), (3.0, 0.8), (0.0, 3.0)])
def test_the_volume_of_a_variable_cell_has_the_distribution_of_the_ensemble(pressure, k) -> None:
    """V^N exp(-(U + p V) / kT) dV of N = 3 atoms without forces, by quadrature."""
    kelvin, cell = 1000.0, np.diag([4.0, 4.5, 5.0])
    atoms = Atoms("Si3", positions=np.eye(3), cell=cell, pbc=True)
    evaluate, volume = ElasticBox(cell, k, 2.0), float(np.linalg.det(cell))
    settings = RelaxSettings(
        closest_approach=0.0,
        min_volume_fraction=0.01,
        max_volume_fraction=100.0,
        anneal=AnnealSettings(
            temperature_K=kelvin,
            time_ps=100,
            timestep_fs=5,
            cell_time_ps=0.05,
            bulk_modulus_GPa=k / volume / GPa,
            checkpoint_steps=5,
        ),
    )
    _, states = sampled(atoms, evaluate, settings, pressure=pressure)
    x = np.linspace(np.log(0.02), np.log(50), 20001)
    v = volume * np.exp(x)
    weight = np.exp(-(0.5 * k * x**2 + pressure * GPa * v) / (kB * kelvin) + (3 + 1) * x)
    expected = [(weight * x).sum() / weight.sum(), (weight * x**2).sum() / weight.sum()]
    logs = np.log([abs(np.linalg.det(s.cell)) / volume for s in states])
    found, error = mean_and_error(np.column_stack([logs, logs**2]))
    assert (error < 0.1 * np.sqrt(expected[1])).all()
    assert (np.abs(found - expected) < 3 * error).all()


def zincblende_like():
    """Return eight silicon atoms, off the sites of diamond in a way that keeps some operations."""
    atoms = bulk("Si", cubic=True)
    atoms.positions[:, 2] += 0.15 * np.sin(2 * np.pi * atoms.get_scaled_positions()[:, 2] + 0.3)
    atoms.cell[2, 2] *= 1.05
    return atoms


def test_without_friction_the_energy_stays_and_its_error_is_of_second_order() -> None:
    atoms, evaluate = zincblende_like(), OneByOne(StillingerWeberSilicon())
    spread = []
    for timestep in (2.0, 1.0):
        energies = []
        settings = relax_settings(
            temperature_K=600, time_ps=0.6, timestep_fs=timestep, friction_per_ps=0, cell="fixed",
            checkpoint_steps=1,
        )  # fmt: skip
        masses = atoms.get_masses()[:, None]

        def look(state, energies=energies, masses=masses):
            (found,) = evaluate([Atoms(atoms.numbers, state.positions, cell=state.cell, pbc=True)])
            energies.append(found.energy + 0.5 * float((masses * state.velocities**2).sum()))

        done = run(atoms, evaluate, settings, save=look)
        energies = 1000 * np.array(energies) / len(atoms)
        spread.append(energies.std())
        # neither a drift: the end is where the start was, within the ripples
        assert abs(done.facts.drift_meV) < 6 * spread[-1] + 1e-9
        assert abs(np.polyfit(np.arange(len(energies)), energies, 1)[0]) * len(energies) < 4 * spread[-1]
    assert spread[0] < 2.0
    assert 3.0 < spread[0] / spread[1] < 5.0


def test_the_projector_is_that_of_the_group() -> None:
    """Orthogonal, its rank counted, and on forces the same as ASE's average."""
    atoms = zincblende_like()
    made = atoms.copy()
    group = operations(made, 0.01)
    assert len(group[0]) > 4
    free = FreeMotion(made, made.get_masses(), group)
    matrix = np.array([free.vectors(row.reshape(-1, 3)).ravel() for row in np.eye(24)])
    assert np.allclose(matrix, matrix.T, atol=1e-12)
    assert np.allclose(matrix @ matrix, matrix, atol=1e-12)
    assert free.rank == np.linalg.matrix_rank(matrix, tol=1e-9) == round(np.trace(matrix))
    assert 0 < free.rank < 21
    forces = np.random.default_rng(0).normal(size=(8, 3))
    expected = forces.copy()
    FixSymmetry(made, symprec=0.01).adjust_forces(made, expected)
    assert np.allclose(free.forces(forces, np.zeros(6))[0], expected, atol=1e-12)
    assert FreeMotion(made, made.get_masses(), None).rank == 21
    # what rounding has made of a moved crystal is mended
    rng = np.random.default_rng(3)
    moved = made.positions + free.vectors(rng.normal(size=(8, 3)) * 0.1)
    strain = np.eye(3) + free.strain(0.02 * (lambda s: s + s.T)(rng.normal(size=(3, 3))))
    exact = Atoms(made.numbers, moved @ strain, cell=made.cell.array @ strain, pbc=True)
    group = space_group_number(made, 1e-5)
    assert space_group_number(exact, 1e-5) == group != 1
    rough = (
        exact.positions + 1e-3 * rng.normal(size=(8, 3)),
        exact.cell.array + 1e-3 * rng.normal(size=(3, 3)),
    )
    assert space_group_number(Atoms(made.numbers, rough[0], cell=rough[1], pbc=True), 1e-5) == 1
    positions, cell = free.geometry(*rough)
    assert space_group_number(Atoms(made.numbers, positions, cell=cell, pbc=True), 1e-5) == group
    assert np.abs(positions - exact.positions).max() < 0.01


@pytest.mark.parametrize("cell", ["fixed", "variable"])
def test_symmetrised_dynamics_keep_the_group_and_its_temperature(cell) -> None:
    atoms, evaluate = zincblende_like(), OneByOne(StillingerWeberSilicon())
    group = space_group_number(atoms, 1e-4)
    wanted = {"temperature_K": 500, "time_ps": 1.2, "timestep_fs": 2, "friction_per_ps": 50, "cell": cell}
    wanted |= {"checkpoint_steps": 50, "reproject_steps": 20, "cell_time_ps": 0.1}

    def groups(keep):
        done, states = sampled(atoms, evaluate, relax_settings(keep_symmetry=keep, **wanted))
        cells = [Atoms(atoms.numbers, s.positions, cell=s.cell, pbc=True) for s in states]
        assert np.abs(states[-1].positions - atoms.positions).max() > 0.02
        return done, {space_group_number(one, 1e-4) for one in cells}, states

    done, kept, states = groups(True)
    assert kept == {group} != {1}
    _, lost, _ = groups(False)
    assert lost == {1}
    # by 3 N - 3 degrees of freedom it would seem many times colder
    assert done.facts.degrees < 10
    assert done.facts.kinetic_K == pytest.approx(500, rel=0.35)
    assert (np.ptp([s.cell for s in states], axis=0).max() > 1e-3) == (cell == "variable")


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b, field.name


@pytest.mark.parametrize("keep", [False, True])
def test_an_anneal_that_goes_on_ends_in_the_same_bits(keep) -> None:
    atoms, evaluate = zincblende_like(), OneByOne(StillingerWeberSilicon())
    settings = relax_settings(
        temperature_K=900,
        time_ps=0.2,
        timestep_fs=2,
        checkpoint_steps=30,
        keep_symmetry=keep,
        reproject_steps=7,
    )
    states = []
    whole = run(atoms, evaluate, settings, pressure=2.0, save=states.append)
    assert [s.step for s in states] == [0, 30, 60, 90]
    assert len(whole.path) == 10
    for state in states:
        again = run(atoms, OneByOne(StillingerWeberSilicon()), settings, pressure=2.0, state=state)
        same(again.path, whole.path)
        assert again.facts == whole.facts
    other = run(atoms, evaluate, settings, pressure=2.0, seed=6)
    assert not np.array_equal(other.path.positions, whole.path.positions)


def test_what_goes_wrong_is_a_recorded_failure() -> None:
    atoms = six_atoms()
    springs = Springs(atoms.positions.copy())

    def after(steps, bad):
        def evaluate(structures):
            found = springs(structures)
            return [bad(found[0])] if springs.calls > steps + 1 else found

        springs.calls = 0
        return evaluate

    settings = relax_settings(temperature_K=400, time_ps=0.05, frames=50, cell="fixed")
    for bad, said in (
        (lambda _: Refusal("PotentialError: too far"), "PotentialError: too far"),
        (lambda e: Evaluation(np.nan, e.forces, e.stress), "energy is not finite"),
        (lambda e: Evaluation(e.energy, e.forces * np.inf, e.stress), "forces is not finite"),
    ):
        done = run(atoms, after(20, bad), settings)
        assert (done.path.status, done.path.reason) == ("failed", f"anneal, step 21: {said}")
        assert list(done.path.steps) == list(range(1, 21))
        assert done.facts.drift_meV is None
    crash = relax_settings(temperature_K=40000, time_ps=1, cell="fixed", closest_approach=0.5)
    soft = Springs(atoms.positions.copy(), strength=0.1)
    assert " Å apart (guard 0.5" in run(atoms, soft, crash).path.reason
    burst = relax_settings(temperature_K=400, time_ps=5)
    inside = -0.1 * np.array([1, 1, 1, 0, 0, 0.0])
    gone = run(atoms, lambda _: [Evaluation(0.0, np.zeros((6, 3)), inside)], burst)
    assert "times its volume (guard 4.0)" in gone.path.reason
    with pytest.raises(RelaxationError, match="no temperature"):
        run(atoms, springs, relax_settings(time_ps=1))


def test_the_scan_finds_the_hottest_run_in_which_atoms_sit_on_sites() -> None:
    """Of independent springs the Lindemann ratio is sqrt(3 kT / k) / d."""
    atoms = bulk("Cu", cubic=True) * 2
    strength, nearest = 4.0, 3.61 / np.sqrt(2)
    settings = relax_settings(
        timestep_fs=4, friction_per_ps=20, scan={"time_ps": 6, "lowest_K": 500, "ratio": 1.5}
    )
    kelvin, ladder, spent = drive(
        find_temperature(atoms, settings, seed=1), Einstein(atoms.positions.copy(), strength)
    )
    expected = np.sqrt(3 * kB * np.array(settings.anneal.ladder) / strength) / nearest
    steps = settings.anneal.scan_steps + 1
    assert np.allclose(ladder, expected[: len(ladder)], rtol=0.05)
    below = int((expected <= 0.15).sum())
    assert 1 < below < len(expected)
    assert kelvin == settings.anneal.ladder[below - 1]
    assert (len(ladder), spent) == (below + 1, steps * (below + 1))
    soft = find_temperature(atoms, settings, seed=1)
    assert drive(soft, Einstein(atoms.positions.copy(), 0.1)) == (
        500.0,
        (pytest.approx(0.39, rel=0.3),),
        steps,
    )
    refused = drive(find_temperature(atoms, settings, seed=1), lambda _: [Refusal("no")])
    assert refused == (500.0, (np.inf,), 1)


def test_an_atom_alone_has_nothing_to_do() -> None:
    atoms, settings = bulk("Si", "fcc", a=3.9), relax_settings(cell="fixed", time_ps=1)
    evaluate = OneByOne(StillingerWeberSilicon())
    assert drive(find_temperature(atoms, settings, seed=1), evaluate) == (300.0, (), 0)
    done = run(atoms, evaluate, settings, temperature=(300.0, (), 0))
    assert (len(done.path), done.facts.n_steps, done.facts.n_evaluations, done.facts.kinetic_K) == (
        0,
        0,
        1,
        0,
    )
