"""Design matrix and solution: rows against numbers worked out by hand, the solution against its definition."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from numpy.testing import assert_allclose, assert_array_equal

from gapfactory.errors import FitError
from gapfactory.potentials.gap.data import LabelledStructure
from gapfactory.potentials.gap.model import PairTerm, SoapTerm, TripletTerm, empty_term, with_points
from gapfactory.potentials.gap.sigmas import Sigmas
from gapfactory.potentials.gap.solve import design as design_module
from gapfactory.potentials.gap.solve.blocks import TriangleStore, block_key
from gapfactory.potentials.gap.solve.covariance import prior_factor, sparse_covariance
from gapfactory.potentials.gap.solve.design import Design, groups, targets_of
from gapfactory.potentials.gap.solve.native import assemble, solve

if TYPE_CHECKING:
    from pathlib import Path

Array = Any
E0 = {"Si": -1.5}
CUTOFF = 4.0


class Pairs:
    """Stands in for a compiled term: sum over ordered pairs of delta^2 exp(-(d - x)^2 / 2 theta^2) (1 - d/c)^2."""

    def __init__(self, term: Any) -> None:
        self.term = term

    def rows(self, system: Any, out: Array) -> None:
        term = self.term
        x = term.points[:, 0]
        for c in range(system.n_cells):
            a, b = system.offsets[c : c + 2]
            start = 7 * c + 3 * a
            for i in range(a, b):
                for p in range(system.first[i], system.first[i + 1]):
                    d, r, j = system.distance[p], system.vector[p], system.neighbour[p]
                    if d >= term.cutoff:
                        continue
                    g = term.delta**2 * np.exp(-0.5 * ((d - x) / term.theta) ** 2)
                    f, df = (1 - d / term.cutoff) ** 2, -2 / term.cutoff * (1 - d / term.cutoff)
                    slope = g * df - g * f * (d - x) / term.theta**2
                    out[start] += g * f
                    for k in range(3):
                        out[start + 1 + 3 * (j - a) + k] -= slope * r[k] / d
                        out[start + 1 + 3 * (i - a) + k] += slope * r[k] / d
                    for row, (k, q) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
                        out[start + 1 + 3 * (b - a) + row] -= slope * r[k] * r[q] / d


def pair_term(n: int = 12, delta: float = 1.0, theta: float = 0.5) -> Any:
    term = empty_term(
        f"distance_2b Z1=14 Z2=14 cutoff={CUTOFF} cutoff_transition_width=1.0",
        f"covariance_type=ard_se theta_uniform={theta}",
        delta,
    )
    return with_points(term, np.linspace(1.8, CUTOFF, n)[:, None], np.zeros(n))


def cells(n: int = 6) -> list[Atoms]:
    rng = np.random.default_rng(3)
    found = []
    for k in range(n):
        atoms = bulk("Si", cubic=k % 3 == 0)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        found.append(atoms)
    return found


def labelled(terms: list[Any], alphas: Array) -> list[LabelledStructure]:
    """Return structures whose labels are those of given coefficients."""
    data = [LabelledStructure("a-free", Atoms("Si"), E0["Si"], np.zeros((1, 3)), None, "isolated")]
    dimer = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]])
    for k, atoms in enumerate([dimer, *cells()]):
        system = _system([atoms])
        matrix = np.concatenate([_rows(t, system) for t in terms], axis=1)
        values = matrix @ alphas
        n = len(atoms)
        energy = values[0] + n * E0["Si"]
        stress = -values[1 + 3 * n :] / atoms.get_volume() if k else None
        kind: Any = "crystal" if k else "dimer"
        forces = None if k == 4 else values[1 : 1 + 3 * n].reshape(n, 3)
        data.append(LabelledStructure(f"b-{k}", atoms, energy, forces, None if k == 5 else stress, kind))
    return data


def _system(structures: list[Atoms]) -> Any:
    from gapfactory.potentials.gap.engine.system import build_system

    return build_system(structures, CUTOFF)


def _rows(term: Any, system: Any) -> Array:
    out = np.zeros((7 * system.n_cells + 3 * system.n_atoms, term.n_sparse))
    Pairs(term).rows(system, out)
    return out


def sigmas_of(data: list[LabelledStructure]) -> dict[str, Sigmas]:
    return {
        item.id: Sigmas(1e-3 * (1 + k), 0.02 * (1 + k), 0.1 * (1 + k), 0.0) for k, item in enumerate(data)
    }


@pytest.fixture(scope="module")
def problem() -> tuple[list[Any], list[LabelledStructure], dict[str, Sigmas], Design]:
    terms = [pair_term(12, 0.7), pair_term(7, 0.3, theta=0.2)]
    alphas = np.random.default_rng(0).normal(size=19)
    data = labelled(terms, alphas)
    return terms, data, sigmas_of(data), Design(terms, E0, engine_of=Pairs)


def dense(problem: Any) -> Array:
    _, data, sigmas, design = problem
    return np.concatenate(list(design.blocks(data, sigmas)))


# ------------------------------------------------------------------------------------------- rows


def test_rows_are_the_labels_over_their_errors_and_nothing_else() -> None:
    atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]], cell=[5, 6, 7], pbc=True)
    forces = np.arange(6.0).reshape(2, 3)
    stress = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) / atoms.get_volume()
    items = [
        LabelledStructure("free", Atoms("Si"), -1.5, np.zeros((1, 3)), None, "isolated"),
        LabelledStructure("cell", atoms, 7.0, forces, stress),
        LabelledStructure("only energy", atoms, 8.0, None, None),
    ]
    sigmas = {
        "free": Sigmas(0.5, 1, 1, 0),
        "cell": Sigmas(0.25, 0.1, 4.0, 0),
        "only energy": Sigmas(2, 1, 1, 0),
    }
    found = targets_of(items, sigmas, E0)
    cell = [7.0 + 3.0, 0, 1, 2, 3, 4, 5, -1, -2, -3, -4, -5, -6]
    assert_allclose(found.values, [0.0] + [0] * 9 + cell + [11.0] + [0] * 12, atol=1e-14)
    weights = [4.0] + [10] * 6 + [0.25] * 6
    assert_allclose(found.weights, [2.0] + [0] * 9 + weights + [0.5] + [0] * 12)


def test_the_system_has_one_row_per_target(problem: Any) -> None:
    from gapfactory.potentials.gap.trainfile import expected_targets

    data = problem[1]
    assert len(dense(problem)) == sum(expected_targets(data).values())


def test_labels_of_known_coefficients_lie_in_the_span_of_the_columns(problem: Any) -> None:
    # Wrong by a sign, a component or a structure, some target would not be reproduced.
    alphas = np.random.default_rng(0).normal(size=19)
    rows = dense(problem)
    assert_allclose(rows[:, :-1] @ alphas, rows[:, -1], atol=1e-9)


@pytest.mark.parametrize("sigma", [Sigmas(0.0, 1, 1, 0), Sigmas(1, -1, 1, 0), None])
def test_an_error_that_is_not_positive_is_refused(problem: Any, sigma: Any) -> None:
    data = problem[1]
    sigmas = {item.id: sigma for item in data if sigma is not None}
    with pytest.raises(FitError, match="must be positive"):
        targets_of(data, sigmas, E0)


def test_groups_cover_everything_in_order_and_full_ones_do_not_change() -> None:
    sizes = list(np.random.default_rng(0).integers(1, 20, 300))
    found = groups(sizes, 500)
    assert [k for part in found for k in range(300)[part]] == list(range(300))
    assert all(sum(7 + 3 * n for n in sizes[part]) >= 500 for part in found[:-1])
    longer = groups([*sizes, *sizes], 500)
    assert longer[: len(found) - 1] == found[:-1]
    assert groups([], 500) == []


# --------------------------------------------------------------------------------------- solution


def dense_solution(rows: Array, covariance: Array, jitter: float) -> Array:
    """Return (K_MM + jitter + K^T K)^-1 K^T y with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        exact = np.vectorize(Decimal, otypes=[object])
        k, y = exact(rows[:, :-1]), exact(rows[:, -1])
        left = exact(covariance) + Decimal(jitter) * exact(np.eye(len(covariance))) + k.T @ k
        right = k.T @ y
        n = len(right)
        for i in range(n):
            for j in range(i + 1, n):
                ratio = left[j, i] / left[i, i]
                left[j] -= ratio * left[i]
                right[j] -= ratio * right[i]
        for i in range(n - 1, -1, -1):
            right[i] = (right[i] - left[i, i + 1 :] @ right[i + 1 :]) / left[i, i]
        return right.astype(float)


@pytest.mark.parametrize("jitter", [1e-8, 1e-4])
def test_the_solution_is_that_of_the_normal_equations_in_extended_precision(
    problem: Any, jitter: float
) -> None:
    terms, data, sigmas, design = problem
    solved, diagnostics = solve(assemble(design, data, sigmas), terms, jitter)
    rows = dense(problem)
    k = np.zeros((19, 19))
    k[:12, :12], k[12:, 12:] = sparse_covariance(terms[0]), sparse_covariance(terms[1])
    best = dense_solution(rows, k, jitter)
    found = np.concatenate([t.alphas for t in solved])
    assert_allclose(rows[:, :-1] @ found, rows[:, :-1] @ best, atol=1e-7 * np.abs(rows[:, -1]).max())
    assert_allclose(found, best, rtol=1e-4, atol=1e-5 * np.abs(best).max())
    assert diagnostics.rows == len(rows)
    misfit = rows[:, :-1] @ best - rows[:, -1]
    assert diagnostics.residual == pytest.approx(float(np.sqrt(np.mean(misfit**2))), rel=1e-4)
    gram = rows[:, :-1].T @ rows[:, :-1]
    effective = np.trace(np.linalg.solve(gram + k + jitter * np.eye(19), gram))
    assert diagnostics.effective_parameters == pytest.approx(float(effective), rel=1e-4)


def test_other_scales_and_fewer_terms_need_no_pass_over_the_data(problem: Any) -> None:
    terms, data, sigmas, design = problem
    whole = assemble(design, data, sigmas)
    again = [replace(terms[0], delta=0.11), replace(terms[1], delta=2.0)]
    expected, _ = solve(assemble(Design(again, E0, engine_of=Pairs), data, sigmas), again, 1e-8)
    found, _ = solve(whole, again, 1e-8, row_deltas=[0.7, 0.3])
    rows = [_rows(t, _system(cells())) for t in again]
    for a, b in zip(found, expected, strict=True):
        assert a.delta == b.delta
    predicted = [sum(r @ t.alphas for r, t in zip(rows, some, strict=True)) for some in (found, expected)]
    assert_allclose(*predicted, atol=1e-7)
    one, diagnostics = solve(whole, again[:1], 1e-8, row_deltas=[0.7])
    alone, _ = solve(assemble(Design(again[:1], E0, engine_of=Pairs), data, sigmas), again[:1], 1e-8)
    assert_allclose(rows[0] @ one[0].alphas, rows[0] @ alone[0].alphas, atol=1e-7)
    assert diagnostics.unknowns == 12


def test_a_term_with_an_offset_cannot_be_scaled(problem: Any) -> None:
    terms, data, sigmas, design = problem
    whole = assemble(design, data, sigmas)
    offset = [replace(terms[0], f0=0.5), terms[1]]
    solve(whole, offset, 1e-8, row_deltas=[0.7, 0.9])
    with pytest.raises(FitError, match="offset f0"):
        solve(whole, offset, 1e-8, row_deltas=[0.8, 0.3])


def test_the_bits_do_not_depend_on_threads(problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(design_module, "BLOCK_ROWS", 30)
    terms, data, sigmas, design = problem
    assert len(design.leaves(data)) >= 3
    found = [assemble(design, data, sigmas, threads=n).r for n in (1, 2, 5)]
    assert_array_equal(found[0], found[1])
    assert_array_equal(found[0], found[2])
    assert solve(assemble(design, data, sigmas), terms, 1e-8)[1].rows == len(dense(problem))


def test_memory_does_not_grow_with_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(design_module, "BLOCK_ROWS", 100)

    class Noise(Pairs):
        def rows(self, system: Any, out: Array) -> None:
            out += np.random.default_rng(system.n_atoms).random(out.shape)

    design = Design([pair_term(150)], E0, engine_of=Noise)
    cell = bulk("Si", cubic=True)
    peaks = []
    for n in (60, 400):
        data = [LabelledStructure(f"{k}", cell, 0.0, np.zeros((8, 3)), np.zeros(6)) for k in range(n)]
        sigmas = {item.id: Sigmas(1.0, 1.0, 1.0, 0.0) for item in data}
        tracemalloc.start()
        found = assemble(design, data, sigmas, threads=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.rows == 31 * n
    triangle, rows = 8 * 151**2, 8 * 151 * 31 * 400
    assert peaks[1] < 2 * peaks[0]  # a few more triangles wait: their number grows with the logarithm
    assert peaks[1] < 25 * triangle < rows / 3


def test_no_data_and_rows_that_are_not_finite_are_refused(problem: Any) -> None:
    terms, data, sigmas, design = problem

    class Broken(Pairs):
        def rows(self, system: Any, out: Array) -> None:
            super().rows(system, out)
            out[0, 0] = np.inf

    with pytest.raises(FitError, match="no labelled structures"):
        assemble(design, [], sigmas)
    with pytest.raises(FitError, match="not finite"):
        assemble(Design(terms, E0, engine_of=Broken), data, sigmas)


# ------------------------------------------------------------------------------------- covariance


def test_the_covariance_of_pairs_by_hand() -> None:
    term = replace(pair_term(3, delta=2.0), f0=0.5, sparse_cutoffs=np.array([1.0, 0.5, 2.0]))
    x = term.points[:, 0]
    k = 4.0 * np.exp(-0.5 * ((x[0] - x[1]) / 0.5) ** 2) + 0.25
    found = sparse_covariance(term)
    assert found[0, 1] == pytest.approx(k * 0.5, rel=1e-14)
    assert found[2, 2] == pytest.approx(4.25 * 4.0, rel=1e-14)
    assert_array_equal(found, found.T)


def test_a_triplet_of_equal_atoms_is_the_same_in_every_order() -> None:
    term = empty_term(
        "distance_Nb order=3 cutoff=4.0 cutoff_transition_width=0.5 compact_clusters=T Z={{14 14 14}}".replace(
            "{{", "{"
        ).replace("}}", "}"),
        "covariance_type=ard_se theta_uniform=1.0",
        1.5,
    )
    assert isinstance(term, TripletTerm)
    points = np.array([[2.0, 2.5, 3.1], [3.1, 2.0, 2.5], [2.2, 2.2, 2.2]])
    found = sparse_covariance(with_points(term, points, np.zeros(3)))
    assert_allclose(np.diag(found), 2.25, rtol=1e-13)
    assert found[0, 1] == pytest.approx(2.25, rel=1e-13)
    assert found[0, 2] == pytest.approx(found[1, 2], rel=1e-13)
    assert found[0, 2] < 2.2


def test_soap_has_no_offset_and_jitter_is_added_at_the_end() -> None:
    term = empty_term(
        "soap l_max=1 n_max=2 atom_sigma=0.5 cutoff=4.0 Z=14 n_species=1 species_Z={14}",
        "covariance_type=dot_product zeta=4",
        0.3,
        f0=0.7,
    )
    assert isinstance(term, SoapTerm)
    points = np.random.default_rng(0).random((5, term.dimension))
    points /= np.linalg.norm(points, axis=1)[:, None]
    term = with_points(term, points, np.zeros(5))
    expected = 0.09 * (points @ points.T) ** 4
    assert_allclose(sparse_covariance(term), expected, rtol=1e-13)
    pair = pair_term(4)
    upper = prior_factor([pair, term], 1e-3)
    product = upper.T @ upper
    assert_allclose(product[4:, 4:], expected + 1e-3 * np.eye(5), rtol=1e-10)
    assert_array_equal(product[:4, 4:], 0.0)
    assert_allclose(product[:4, :4], sparse_covariance(pair) + 1e-3 * np.eye(4), rtol=1e-10)


def test_points_that_coincide_are_named() -> None:
    term = pair_term(3)
    twins = with_points(term, np.array([[2.0], [2.0], [3.0]]), np.zeros(3))
    with pytest.raises(FitError, match=r"distance_2b .*coincide.*gap\.jitter"):
        prior_factor([twins], 1e-300)


# ----------------------------------------------------------------------------------- stored blocks


def test_stored_triangles_are_used_again_and_give_the_same_bits(
    problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(design_module, "BLOCK_ROWS", 40)
    _, data, sigmas, design = problem
    plain = assemble(design, data, sigmas).r
    # Two workers make half of the runs each, a third merges them.
    leaves = design.leaves(data)
    workers = [TriangleStore(tmp_path / "store") for _ in range(3)]
    for k, part in enumerate(leaves):
        workers[k % 2].triangle(design, data[part], sigmas)
    found = assemble(design, data, sigmas, store=workers[2], threads=2).r
    assert_array_equal(found, plain)
    assert workers[2].found == len(leaves)
    assert workers[2].made == 0
    # More data at the end: the full runs are found, only the tail is made.
    more = [*data, replace(data[-1], id="c-new", energy=data[-1].energy + 0.1)]
    wider = sigmas | {"c-new": sigmas[data[-1].id]}
    late = TriangleStore(tmp_path / "store")
    assert_array_equal(assemble(design, more, wider, store=late).r, assemble(design, more, wider).r)
    assert late.found >= len(leaves) - 1
    assert late.made >= 1


def test_any_change_makes_another_key(problem: Any) -> None:
    terms, data, sigmas, design = problem
    items = data[1:3]
    base = block_key(design, items, sigmas)
    assert block_key(Design(terms, E0, engine_of=Pairs), items, sigmas) == base
    scaled = with_points(terms[1], terms[1].points + 1e-13, terms[1].alphas)
    moved = data[2].atoms.copy()
    moved.positions[0, 0] += 1e-13
    others = {
        block_key(Design([terms[0], scaled], E0, engine_of=Pairs), items, sigmas),
        block_key(Design([replace(terms[0], cutoff=3.9), terms[1]], E0, engine_of=Pairs), items, sigmas),
        block_key(Design(terms, {"Si": -1.6}, engine_of=Pairs), items, sigmas),
        block_key(design, [items[0], replace(items[1], energy=items[1].energy + 1e-12)], sigmas),
        block_key(design, [items[0], replace(items[1], forces=None)], sigmas),
        block_key(design, [items[0], replace(items[1], stress=None)], sigmas),
        block_key(design, [items[0], replace(items[1], atoms=moved)], sigmas),
        block_key(design, items[::-1], sigmas),
        block_key(design, items, sigmas | {items[0].id: Sigmas(1, 1, 1, 0)}),
    }
    assert len(others | {base}) == 10
    same = with_points(terms[0], terms[0].points, np.ones(12))
    assert block_key(Design([same, terms[1]], E0, engine_of=Pairs), items, sigmas) == base


@pytest.mark.parametrize("damage", ["short", "garbage", "other"])
def test_a_damaged_triangle_is_named_and_not_used(problem: Any, tmp_path: Path, damage: str) -> None:
    _, data, sigmas, design = problem
    store = TriangleStore(tmp_path)
    store.triangle(design, data[:3], sigmas)
    (path,) = tmp_path.glob("*.npz")
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "garbage":
        path.write_bytes(b"no archive")
    else:
        with path.open("wb") as file:
            np.savez(file, packed=np.zeros(10), rows=3)
    with pytest.raises(FitError, match="delete the file"):
        store.triangle(design, data[:3], sigmas)


def test_the_pair_term_of_these_tests_is_a_pair_term() -> None:
    assert isinstance(pair_term(), PairTerm)
