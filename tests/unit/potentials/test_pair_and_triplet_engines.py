"""Two- and three-body terms and core potentials against their definitions, written out plainly."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from numba import njit

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.core import GlueType, PairCurve, PairTable
from gapfactory.potentials.gap.engine._exp import LOWEST, exp
from gapfactory.potentials.gap.engine._simd import LANES, load, store
from gapfactory.potentials.gap.engine.baseline import BaselineEngine
from gapfactory.potentials.gap.engine.pair import SPLINE_ERROR, PairEngine, pair_spline
from gapfactory.potentials.gap.engine.system import build_system
from gapfactory.potentials.gap.engine.triplet import TripletEngine
from gapfactory.potentials.gap.model import PairTerm, TripletTerm, empty_term, with_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine.system import System

AnyTerm = PairTerm | TripletTerm
RNG_POINTS = {1: (1.2, 4.2), 3: (1.5, 5.5)}

#: name, descriptor, offset f0: every kind of term, one and two elements
TERMS = {
    "2b": ("distance_2b Z1=14 Z2=14 cutoff=4.5 cutoff_transition_width=1.0", 0.0),
    "2b-mixed": ("distance_2b Z1=14 Z2=8 cutoff=4.5 cutoff_transition_width=4.5", 0.3),
    "nb2": ("distance_Nb order=2 Z={8 14} cutoff=4.5 cutoff_transition_width=0.7", 0.0),
    "3b": ("angle_3b Z=14 Z1=14 Z2=14 cutoff=3.4 cutoff_transition_width=0.9", 0.2),
    "3b-mixed": ("angle_3b Z=8 Z1=8 Z2=14 cutoff=3.4 cutoff_transition_width=0.9", 0.0),
    "nb3": ("distance_Nb order=3 Z={14 14 14} cutoff=3.4 cutoff_transition_width=0.9", 0.2),
    "nb3-mixed": ("distance_Nb order=3 Z={8 14 14} cutoff=3.4 cutoff_transition_width=0.9", 0.0),
    "nb3-closed": (
        "distance_Nb order=3 Z={14 14 14} cutoff=3.4 cutoff_transition_width=0.9 compact_clusters=F",
        0.2,
    ),
    "nb3-closed-mixed": (
        "distance_Nb order=3 Z={8 14 14} cutoff=3.4 cutoff_transition_width=0.9 compact_clusters=F",
        0.0,
    ),
}


def make(name: str, count: int = 11) -> AnyTerm:
    """Return a term with random sparse points."""
    rng = np.random.default_rng(len(name))
    text, f0 = TERMS[name]
    empty = empty_term(text, "covariance_type=ard_se theta_uniform=0.8", 1.3, f0=f0)
    assert isinstance(empty, PairTerm | TripletTerm)
    points = rng.uniform(*RNG_POINTS[empty.dimension], (count, empty.dimension))
    found = with_points(empty, points, rng.normal(size=count), rng.uniform(0.3, 1.0, count))
    if isinstance(found, TripletTerm) and found.kind == "angle_3b":
        found = replace(found, theta=np.array([0.9, 1.4, 0.7]))
    return found


def engine_of(term: AnyTerm) -> PairEngine | TripletEngine:
    return PairEngine(term) if isinstance(term, PairTerm) else TripletEngine(term)


def frames() -> list[Atoms]:
    """Return a strained crystal of two elements, a cell thinner than the cutoff, a slab, a cluster, an atom."""
    rng = np.random.default_rng(5)
    crystal = bulk("Si", cubic=True)
    crystal.numbers = rng.choice([8, 14], 8)
    crystal.set_cell(
        crystal.cell.array @ (0.95 * np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True
    )
    crystal.rattle(0.15, seed=2)
    small = bulk("Si", a=4.6)
    small.rattle(0.1, seed=3)
    slab = crystal.copy()
    slab.pbc = (True, False, True)
    cluster = Atoms("SiOSi2O", positions=rng.uniform(0.0, 3.5, (5, 3)))
    return [crystal, small, slab, cluster, Atoms("Si")]


def evaluate(
    engine: PairEngine | TripletEngine | BaselineEngine, system: System
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    energies, forces = np.zeros(system.n_atoms), np.zeros((system.n_atoms, 3))
    virials = np.zeros((system.n_cells, 3, 3))
    engine.add(system, energies, forces, virials)
    return energies, forces, virials


def fall(r: float, term: AnyTerm) -> float:
    if r >= term.cutoff:
        return 0.0
    if r <= term.cutoff - term.transition_width:
        return 1.0
    return 0.5 * (math.cos(math.pi * (r - term.cutoff + term.transition_width) / term.transition_width) + 1.0)


def kernel_sum(x: NDArray[np.float64], term: AnyTerm) -> float:
    """Return the sum over sparse points of the normalised kernel, from its definition."""

    def bare(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return sum(
            math.exp(-0.5 * float(np.sum(((a[list(order)] - b) / term.theta) ** 2)))
            for order in term.permutations
        )

    total = 0.0
    for point, alpha, factor in zip(term.points, term.alphas, term.sparse_cutoffs, strict=True):
        k = bare(point, x)
        if len(term.permutations) > 1:
            k /= math.sqrt(bare(point, point) * bare(x, x))
        total += alpha * factor * (term.delta**2 * k + term.f0**2)
    return total


def plain_energy(atoms: Atoms, term: AnyTerm) -> float:
    """Return a term's energy of atoms without periodic directions, by loops over atoms as QUIP documents them."""
    n = len(atoms)
    distance = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=2)
    z = atoms.numbers
    total = 0.0
    if isinstance(term, PairTerm):
        for i, j in permutations(range(n), 2):
            if sorted((z[i], z[j])) == sorted(term.numbers):
                total += kernel_sum(distance[i, j, None], term) * fall(distance[i, j], term)
        return total
    if term.kind == "angle_3b":
        for i, j, k in permutations(range(n), 3):
            if z[i] == term.numbers[0] and sorted((z[j], z[k])) == sorted(term.numbers[1:]):
                a, b, c = distance[i, j], distance[i, k], distance[j, k]
                x = np.array([a + b, (a - b) ** 2, c])
                total += kernel_sum(x, term) * fall(a, term) * fall(b, term)
        return total
    for cluster in combinations(range(n), 3):
        if sorted(z[list(cluster)]) != list(term.numbers):
            continue
        if term.compact_clusters:
            for i in cluster:
                j, k = sorted((m for m in cluster if m != i), key=lambda m: (z[m], m))
                x = np.array([distance[i, j], distance[i, k], distance[j, k]])
                total += kernel_sum(x, term) * fall(x[0], term) * fall(x[1], term)
        else:
            i, j, k = sorted(cluster, key=lambda m: (z[m], m))
            x = np.array([distance[i, j], distance[i, k], distance[j, k]])
            a, b, c = (fall(r, term) for r in x)
            total += kernel_sum(x, term) * (a * b + a * c + b * c - 2.0 * a * b * c)
    return total


@pytest.mark.parametrize("name", TERMS)
def test_energy_is_the_documented_sum(name: str) -> None:
    term = make(name)
    rng = np.random.default_rng(1)
    for _ in range(3):
        atoms = Atoms(rng.choice([8, 14], 7), positions=rng.uniform(0.0, 3.0, (7, 3)))
        atoms.numbers[:4] = (14, 14, 8, 8)
        energies, _, _ = evaluate(engine_of(term), build_system([atoms], 5.0))
        wanted = plain_energy(atoms, term)
        assert abs(wanted) > 1e-3
        assert energies.sum() == pytest.approx(wanted, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", TERMS)
def test_forces_and_virials_are_derivatives(name: str) -> None:
    engine = engine_of(make(name))
    structures = frames()
    system = build_system(structures, 5.0)
    _, forces, virials = evaluate(engine, system)
    assert np.abs(forces).max() > 1e-2
    step = 1e-4

    def energy(atoms: Atoms) -> float:
        energies = np.zeros(len(atoms))
        engine.add(build_system([atoms], 5.0), energies, None, None)
        return float(energies.sum())

    def slope(change: Callable[[Atoms, float], None], atoms: Atoms) -> float:
        values = []
        for h in (-2 * step, -step, step, 2 * step):
            moved = atoms.copy()
            change(moved, h)
            values.append(energy(moved))
        return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)

    for c, atoms in enumerate(structures):
        for i, k in ((0, 0), (len(atoms) - 1, 1), (len(atoms) // 2, 2)):

            def shift(moved: Atoms, h: float, i: int = i, k: int = k) -> None:
                moved.positions[i, k] += h

            assert forces[system.offsets[c] + i, k] == pytest.approx(-slope(shift, atoms), abs=1e-7)
        for a, b in ((0, 0), (1, 2), (2, 1)):

            def strain(moved: Atoms, h: float, a: int = a, b: int = b) -> None:
                deform = np.eye(3)
                deform[a, b] += h
                positions = moved.positions @ deform
                moved.set_cell(moved.cell.array @ deform)
                moved.positions = positions

            assert virials[c, a, b] == pytest.approx(-slope(strain, atoms), abs=1e-6)
    assert np.allclose(virials, virials.transpose(0, 2, 1), rtol=0.0, atol=1e-10)
    for c in range(system.n_cells):
        assert np.abs(forces[system.offsets[c] : system.offsets[c + 1]].sum(axis=0)).max() < 1e-10


@pytest.mark.parametrize("name", TERMS)
def test_covariances_times_coefficients_are_the_results(name: str) -> None:
    term = make(name)
    engine = engine_of(term)
    system = build_system(frames(), 5.0)
    energies, forces, virials = evaluate(engine, system)
    out = np.full((7 * system.n_cells + 3 * system.n_atoms, term.n_sparse), 0.25)
    engine.rows(system, out)
    found = (out - 0.25) @ term.alphas
    pair = isinstance(term, PairTerm)
    for c in range(system.n_cells):
        atoms = slice(system.offsets[c], system.offsets[c + 1])
        row = 7 * c + 3 * system.offsets[c]
        voigt = virials[c][(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
        wanted = np.concatenate([[energies[atoms].sum()], forces[atoms].ravel(), voigt])
        # two-body energies come from a spline, good to 1e-12 eV and 1e-9 eV/Å for a pair
        assert np.allclose(found[row : row + len(wanted)], wanted, rtol=1e-10, atol=1e-8 if pair else 1e-10)


@pytest.mark.parametrize("name", TERMS)
def test_descriptors_rebuild_the_energy(name: str) -> None:
    term = make(name)
    system = build_system(frames(), 5.0)
    found = engine_of(term).descriptors(system)
    total = sum(kernel_sum(x, term) * factor for x, factor in zip(found.values, found.cutoff, strict=True))
    energies, _, _ = evaluate(engine_of(term), system)
    assert total == pytest.approx(energies.sum(), rel=1e-11, abs=1e-11)
    first = term.numbers[:1] if isinstance(term, TripletTerm) and term.kind == "angle_3b" else term.numbers
    assert set(system.numbers[found.centre]) <= set(first)
    # a term without sparse points describes all the same
    bare = engine_of(with_points(term, term.points[:0], term.alphas[:0]))
    assert np.array_equal(bare.descriptors(system).values, found.values)
    assert not np.any(evaluate(bare, system)[1])
    bare.rows(system, np.empty((7 * system.n_cells + 3 * system.n_atoms, 0)))


@pytest.mark.parametrize("name", TERMS)
def test_a_structure_does_not_see_its_batch_and_invariances_hold(name: str) -> None:
    engine = copy.deepcopy(engine_of(make(name)))
    structures = frames()
    system = build_system(structures, 5.0)
    energies, forces, virials = evaluate(engine, system)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for c, atoms in enumerate(structures):
        rows = slice(system.offsets[c], system.offsets[c + 1])
        alone = evaluate(engine, build_system([atoms], 5.0))
        assert np.array_equal(alone[0], energies[rows])
        assert np.array_equal(alone[1], forces[rows])
        assert np.array_equal(alone[2][0], virials[c])
        order = rng.permutation(len(atoms))
        changed = atoms[order]
        changed.positions += rng.normal(size=3) * 3.0
        if changed.pbc.all():
            changed.positions += rng.integers(-2, 3, (len(atoms), 3)) @ changed.cell.array
        changed.set_cell(changed.cell.array @ turn)
        changed.positions = changed.positions @ turn
        other = evaluate(engine, build_system([changed], 5.0))
        assert np.allclose(other[0], energies[rows][order], rtol=0.0, atol=1e-10)
        assert np.allclose(other[1], forces[rows][order] @ turn, rtol=0.0, atol=1e-9)
        assert np.allclose(other[2][0], turn.T @ virials[c] @ turn, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", TERMS)
def test_a_list_with_a_longer_cutoff_changes_nothing(name: str) -> None:
    term = make(name)
    short, long = (evaluate(engine_of(term), build_system(frames(), r)) for r in (term.cutoff, 7.0))
    for a, b in zip(short, long, strict=True):
        assert np.allclose(a, b, rtol=0.0, atol=1e-13)


def test_supercells_multiply() -> None:
    atoms = frames()[0]
    for name in TERMS:
        engine = engine_of(make(name))
        one = evaluate(engine, build_system([atoms], 5.0))
        many = evaluate(engine, build_system([atoms * (1, 2, 3)], 5.0))
        assert np.allclose(many[0].reshape(6, -1), one[0], rtol=0.0, atol=1e-11)
        assert np.allclose(many[2], 6.0 * one[2], rtol=0.0, atol=1e-10)


@pytest.mark.parametrize(
    ("theta", "width", "size"), [(0.8, 1.0, 1.0), (0.3, 5.0, 1e3), (2.0, 0.3, 1e6), (0.8, 7.0, 1.0)]
)
def test_spline_is_the_sum_over_sparse_points(theta: float, width: float, size: float) -> None:
    """Coefficients as large and alternating as those of a fit; against sums in extended precision."""
    rng = np.random.default_rng(3)
    term = replace(make("2b", 20), theta=theta, transition_width=width, f0=0.1)
    term = replace(term, alphas=size * (-1.0) ** np.arange(20) + rng.normal(size=20))
    spline = pair_spline(term)
    assert spline.error <= SPLINE_ERROR
    distances = np.sort(rng.uniform(0.4, term.cutoff, 400))
    atoms = [Atoms("Si2", positions=[[0, 0, 0], [0, 0, r]]) for r in distances]
    energies, forces, _ = evaluate(PairEngine(term), build_system(atoms, 5.0))
    wide = np.longdouble(1.0)
    r = distances * wide
    d = (term.points[:, 0] * wide - r[:, None]) / theta
    weights = term.alphas * wide * term.sparse_cutoffs
    k = wide * term.delta**2 * np.exp(-0.5 * d**2)
    value, slope = (k + wide * term.f0**2) @ weights, (k * d / theta) @ weights
    phase = 4.0 * np.arctan(wide) / width * (r - term.cutoff + width)
    inside = r > term.cutoff - width
    factor = np.where(inside, 0.5 * (np.cos(phase) + 1.0), 1.0)
    drop = np.where(inside, -2.0 * np.arctan(wide) / width * np.sin(phase), 0.0)
    # 1e-11 eV is promised; what rounding of the result itself leaves comes on top
    assert np.abs(energies[::2] - value * factor).max() <= 1e-11 + 1e-14 * float(np.abs(value).max())
    wanted = 2.0 * (slope * factor + value * drop)
    assert np.abs(forces[::2, 2] - wanted).max() <= 1e-9 + 1e-12 * float(np.abs(wanted).max())


def test_exponential_is_within_two_units_in_the_last_place() -> None:
    @njit
    def run(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        for k in range(0, len(x), LANES):
            store(out, k, exp(load(x, k)))

    rng = np.random.default_rng(0)
    x = np.concatenate([-(rng.uniform(0.0, 1.0, 40000) ** 3) * 707.9, rng.uniform(-1e-3, 1e-3, 4000)])
    out = np.empty_like(x)
    run(x, out)
    exact = np.exp(x.astype(np.longdouble))
    assert np.abs((out - exact) / np.spacing(exact.astype(np.float64))).max() <= 2.0
    ends = np.array([0.0, -1e-300, LOWEST, -1e4, -1e300, -np.inf, 1.0, 5.0])
    out = np.empty(8)
    run(ends, out)
    assert np.all(out[:2] == 1.0)
    assert np.all(out[2:6] == out[2])
    assert out[2] == pytest.approx(math.exp(LOWEST), rel=1e-15)


def table() -> PairTable:
    r = np.array([1.0, 1.4, 2.1, 2.2, 3.0])
    curves = (
        PairCurve((14, 14), r, 5.0 * (3.0 - r) ** 2, -20.0, 0.0),
        PairCurve((8, 14), r + 0.5, np.array([3.0, 1.0, -0.2, -0.1, 0.0]), 1e30, 1e30),
    )
    nothing = np.array([[0.0, 0.0], [1.0, 0.0]])
    types = tuple(GlueType(z, nothing, (0.0, 0.0), True, nothing, (0.0, 0.0)) for z in (8, 14))
    return PairTable(curves, types)


def test_core_potential_is_a_cubic_spline() -> None:
    engine = copy.deepcopy(BaselineEngine(table()))
    first, second = table().curves

    def energy(numbers: list[int], r: float) -> tuple[float, float]:
        atoms = Atoms(numbers, positions=[[0, 0, 0], [0, r, 0]])
        energies, forces, virials = evaluate(engine, build_system([atoms], 5.0))
        assert energies[0] == energies[1]
        assert virials[0, 1, 1] == pytest.approx(forces[1, 1] * r)
        return float(energies.sum()), float(forces[1, 1])

    for curve in (first, second):
        for r, value in zip(curve.r, curve.energy, strict=True):
            assert energy(list(curve.numbers), r)[0] == pytest.approx(value, abs=1e-12)
        for r in np.linspace(0.5, curve.r[-1] - 1e-3, 40):
            low, high = energy(list(curve.numbers), r - 1e-5)[0], energy(list(curve.numbers), r + 1e-5)[0]
            assert energy(list(curve.numbers), r)[1] == pytest.approx((low - high) / 2e-5, abs=1e-5)
        assert energy(list(curve.numbers), curve.r[-1] + 1e-9) == (0.0, 0.0)
    # below the first knot a straight line
    assert energy([14, 14], 0.7)[0] == pytest.approx(first.energy[0] + 20.0 * 0.3, abs=1e-12)
    assert energy([14, 14], 0.7)[1] == pytest.approx(20.0)
    # no curve, no energy
    assert energy([8, 8], 1.2) == (0.0, 0.0)
    assert energy([14, 32], 1.2) == (0.0, 0.0)
    a, b = (evaluate(engine, build_system([frames()[0] * n], 5.0)) for n in ((1, 1, 1), (2, 1, 1)))
    assert b[0].sum() == pytest.approx(2.0 * a[0].sum())


def test_lists_and_arrays_that_do_not_fit_are_refused() -> None:
    short = build_system(frames(), 2.0)
    for name in ("2b", "3b"):
        engine = engine_of(make(name))
        with pytest.raises(PotentialError, match=r"ends at 2\.0 Å"):
            evaluate(engine, short)
        with pytest.raises(PotentialError, match=r"ends at 2\.0 Å"):
            engine.descriptors(short)
        system = build_system(frames(), 5.0)
        with pytest.raises(PotentialError, match="shape"):
            engine.rows(system, np.zeros((3, 11)))
    with pytest.raises(PotentialError, match="core potential reaches 3"):
        evaluate(BaselineEngine(table()), short)
    with pytest.raises(PotentialError, match="too short"):
        pair_spline(replace(make("2b"), theta=1e-6))


@pytest.mark.parametrize("name", ["2b", "3b", "nb3"])
def test_variance_is_small_where_the_points_are(name: str) -> None:
    """At a sparse point itself the variance is what the regularisation leaves."""
    term = replace(make(name), sparse_cutoffs=np.ones(11))
    engine = engine_of(term)
    regularisation = 1e-3
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 1.9, 0.4]])
    atoms = Atoms("Si2" if name == "2b" else "Si3", positions=positions[: 2 if name == "2b" else 3])
    system = build_system([atoms], 5.0)
    values = engine.descriptors(system).values
    known = {"2b": values[:1], "3b": values[::2], "nb3": values[:1]}[name]
    here = engine_of(replace(term, points=np.concatenate([known, term.points[len(known) :]])))
    far = engine_of(replace(term, points=term.points + 50.0))
    found = []
    for which in (here, far):
        variances = np.zeros(len(atoms))
        which.add(system, np.zeros(len(atoms)), None, None, variances, regularisation=regularisation)
        found.append(variances.sum())
    cutoffs = engine.descriptors(system).cutoff
    prior = term.delta**2 + term.f0**2 + regularisation**2
    assert found[1] == pytest.approx(
        (cutoffs**2).sum() * (prior - (term.f0**2 > 0) * found_f0(far, term)), rel=1e-6
    )
    assert 0.0 < found[0] < 1e-4 * found[1]


def found_f0(engine: PairEngine | TripletEngine, term: AnyTerm) -> float:
    """Return what a constant kernel f0^2 between far points explains: f0^4 u^T (K + s^2)^-1 u."""
    from gapfactory.potentials.gap.engine._variance import Variance

    covariance = Variance(engine.term, 1e-3).kernels(engine.term.points)
    covariance[np.diag_indices_from(covariance)] += 1e-6
    ones = np.full(term.n_sparse, term.f0**2)
    return float(ones @ np.linalg.solve(covariance, ones))


def test_coefficients_that_overflow_are_refused() -> None:
    term = empty_term(
        "distance_2b Z1=14 Z2=14 cutoff=5 cutoff_transition_width=1",
        "covariance_type=ard_se theta_uniform=0.5",
        1.0,
    )
    with pytest.raises(PotentialError, match="overflow"):
        PairEngine(with_points(term, np.array([[2.0], [3.0]]), np.array([1e308, 1.0])))
