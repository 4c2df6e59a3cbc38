"""Selectors on pools of any kind: sizes, no repeats, nothing that depends on order, cell or orientation."""

from __future__ import annotations

import numpy as np
import pytest
from gf_properties import few, fixed, random_cell, rotation, seeds, unit_rows
from hypothesis import given
from hypothesis import strategies as st

from gapfactory.descriptors.average_soap import average_soap
from gapfactory.descriptors.settings import SimilaritySettings
from gapfactory.errors import SelectionError
from gapfactory.potentials.gap.sigmas import SigmaSettings, adaptive_sigmas, crystal_sigmas, distance_to_hull
from gapfactory.potentials.gap.sparse import farthest_points, leverage_points, uniform_points
from gapfactory.seeds import stream
from gapfactory.select import SelectSettings, choose, flat_histogram, histogram_counts, leverage_scores
from gapfactory.select.histogram import draw, log_weights, relative_to_similar_volume
from gapfactory.select.initial import select_initial
from gapfactory.select.quota import share_out

methods = st.sampled_from(["cur-kernel", "cur-vectors", "random"])
energies = st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=40)
temperatures = st.sampled_from([0.01, 0.1, 0.3, float("inf")])
bins = st.sampled_from([1, 3, 10, "auto"])


def settings_of(
    method: str, choice: str = "sampled", *, centred: bool = False, **more: float
) -> SelectSettings:
    return SelectSettings(method=method, choice=choice, centred=centred, **more)  # type: ignore[arg-type]


# ---- CUR ---------------------------------------------------------------------------------------------------------


@fixed
@given(
    seeds,
    st.integers(1, 30),
    st.integers(1, 8),
    st.integers(0, 40),
    methods,
    st.sampled_from(["sampled", "highest"]),
)
def test_choices_are_as_many_as_can_be_and_all_different(seed, pool, d, n, method, choice):
    rng = np.random.default_rng(seed)
    rows = unit_rows(seed, pool, d)
    # some are there several times
    rows = np.vstack([rows, rows[rng.integers(0, pool, size=int(rng.integers(0, 6)))]])
    outside = rng.choice(len(rows), size=int(rng.integers(0, len(rows) // 2 + 1)), replace=False)
    found = choose(
        rows, n, settings=settings_of(method, choice), zeta=4, rng=np.random.default_rng(1), exclude=outside
    )
    chosen = found.indices
    different = {tuple(np.round(row, 9)) for row in rows} - {tuple(np.round(rows[k], 9)) for k in outside}
    assert len(chosen) == min(n, len(different))
    assert len({tuple(np.round(rows[k], 9)) for k in chosen}) == len(chosen)
    assert not set(chosen.tolist()) & set(outside.tolist())
    assert found.scores.sum() == pytest.approx(1.0)
    assert found.scores.min() >= 0.0
    assert len(found.scores) == len(rows)


@fixed
@given(
    seeds,
    st.integers(3, 25),
    st.integers(2, 8),
    st.sampled_from(["cur-kernel", "cur-vectors"]),
    st.booleans(),
)
def test_scores_follow_the_rows_and_know_no_axes(seed, pool, d, method, centred):
    """Rotating all vectors changes no kernel; another order of rows is the same order of scores."""
    rows, rng = unit_rows(seed, pool, d), np.random.default_rng(seed)
    ask = {"settings": settings_of(method, centred=centred), "zeta": 4}
    scores = leverage_scores(rows, 4, rng=np.random.default_rng(0), **ask)
    turned = leverage_scores(rows @ rotation(rng, d), 4, rng=np.random.default_rng(0), **ask)
    order = rng.permutation(pool)
    moved = leverage_scores(rows[order], 4, rng=np.random.default_rng(0), **ask)
    gap = _gap(rows, min(max(1, 4 // 2), pool - 1), method, centred=centred)
    if gap > 1e-6:  # else the leading vectors are not determined
        np.testing.assert_allclose(turned, scores, atol=1e-9 / gap)
        np.testing.assert_allclose(moved, scores[order], atol=1e-9 / gap)


def _gap(rows: np.ndarray, rank: int, method: str, *, centred: bool) -> float:
    """Return how far the eigenvalues at the rank are apart, in units of the largest."""
    matrix = (rows @ rows.T) ** (4 if method == "cur-kernel" else 1)
    if centred:
        middle = np.eye(len(rows)) - 1.0 / len(rows)
        matrix = middle @ matrix @ middle
    values = np.linalg.eigvalsh(matrix)[::-1]
    return float((values[rank - 1] - values[rank]) / values[0])


@fixed
@given(seeds, st.integers(2, 30), st.integers(1, 12), st.integers(0, 6))
def test_the_first_choice_depends_on_ids_and_not_on_their_order(seed, pool, n, held_out):
    rows, rng = unit_rows(seed, pool, 6), np.random.default_rng(seed)
    names = [f"cell-{k:03d}" for k in range(pool)]
    groups = [str(g) for g in rng.choice(["A", "AB"], size=pool)]
    settings = SelectSettings(labels_per_generation=n, held_out_per_generation=held_out, noise_cells=1)
    order = rng.permutation(pool)

    def picks(which: np.ndarray) -> list[tuple[str, str, int]]:
        report = select_initial(
            [names[k] for k in which],
            rows[which],
            settings=settings,
            zeta=4,
            streams=lambda decision: stream(3, 0, 0, decision),
            groups=[groups[k] for k in which],
        )
        return [(pick.id, pick.purpose, pick.order) for pick in report.picks]

    found = picks(np.arange(pool))
    assert picks(order) == found
    ids = [name for name, _, _ in found]
    assert len(set(ids)) == len(ids) <= min(pool, n + held_out)
    assert sum(purpose == "training" for _, purpose, _ in found) == min(n, pool)


# ---- flat histogram ----------------------------------------------------------------------------------------------


@fixed
@given(energies, bins)
def test_histograms_count_everything_once(values, number):
    counts, edges, member = histogram_counts(values, bins=number)
    assert counts.sum() == len(values) == len(member)
    assert (counts[member] > 0).all()
    inside = (edges[member] <= values) & (np.array(values) <= edges[member + 1])
    assert inside.all()


@fixed
@given(energies, st.integers(0, 60), temperatures, bins, seeds)
def test_flat_histograms_draw_as_many_as_there_are(values, n, kT, number, seed):
    found = flat_histogram(values, n, kT=kT, bins=number, rng=np.random.default_rng(seed))
    assert len(found) == min(n, len(values))
    assert np.array_equal(found, np.unique(found))
    again = flat_histogram(values, n, kT=kT, bins=number, rng=np.random.default_rng(seed))
    assert np.array_equal(found, again)


@fixed
@given(energies, temperatures, bins)
def test_weights_prefer_the_lower_of_two_in_one_bin(values, kT, number):
    weights = log_weights(values, kT=kT, bins=number)
    assert np.isfinite(weights).all()
    assert weights.max() <= 0.0
    _, _, member = histogram_counts(values, bins=number)
    array = np.array(values)
    for k in range(min(8, len(values))):
        others = member == member[k]
        assert (weights[others & (array > array[k])] <= weights[k]).all()


@fixed
@given(st.lists(st.floats(-700, 0), min_size=1, max_size=20), st.integers(0, 25), seeds)
def test_draws_are_without_replacement(weights, n, seed):
    found = draw(np.array(weights), n, np.random.default_rng(seed))
    assert len(set(found.tolist())) == len(found) == min(n, len(weights))


@fixed
@given(seeds, st.integers(1, 25), st.floats(0.001, 3.0))
def test_energies_above_those_of_similar_volume(seed, n, window):
    rng = np.random.default_rng(seed)
    energy, volume = rng.normal(size=n), rng.uniform(5.0, 9.0, n).round(2)
    found = relative_to_similar_volume(energy, volume, window=window)
    near = np.abs(volume[:, None] - volume[None, :]) < window
    expected = energy - np.where(near, energy[None, :], np.inf).min(axis=1)
    close = np.abs(np.abs(volume[:, None] - volume[None, :]) - window) < 1e-9
    sure = ~close.any(axis=1)  # at the window's edge rounding decides
    np.testing.assert_allclose(found[sure], expected[sure], atol=1e-12)
    order = rng.permutation(n)
    np.testing.assert_array_equal(
        relative_to_similar_volume(energy[order], volume[order], window=window), found[order]
    )


# ---- shares ------------------------------------------------------------------------------------------------------

groups = st.dictionaries(
    st.sampled_from("ABCDE"), st.tuples(st.floats(0, 1e6), st.integers(0, 50)), max_size=5
)


@fixed
@given(st.integers(0, 120), groups)
def test_shares_add_up_and_fit(total, given_groups):
    weights = {name: weight for name, (weight, _) in given_groups.items()}
    capacity = {name: room for name, (_, room) in given_groups.items()}
    shares = share_out(total, weights, capacity)
    assert set(shares) == set(capacity)
    assert all(0 <= shares[name] <= capacity[name] for name in capacity)
    open_room = sum(capacity[name] for name in capacity if weights[name] > 0)
    assert sum(shares.values()) == min(total, open_room)
    assert share_out(total, dict(reversed(weights.items())), dict(reversed(capacity.items()))) == shares
    if len(set(weights.values())) == 1 and len(set(capacity.values())) == 1 and sum(shares.values()):
        assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_shares_of_weights_that_are_none(weight):
    with pytest.raises(SelectionError, match="must be zero or positive"):
        share_out(3, {"A": weight}, {"A": 4})


# ---- sparse points -----------------------------------------------------------------------------------------------


@fixed
@given(seeds, st.integers(0, 60), st.integers(1, 25), st.floats(0.01, 1.5))
def test_farthest_points_are_apart_and_cover(seed, pool, n, spacing):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.0, 3.0, (pool, 3))
    found = farthest_points(values, n, spacing)
    assert len(found) <= min(n, pool)
    assert {tuple(row) for row in found} <= {tuple(row) for row in values}
    apart = np.linalg.norm(found[:, None] - found[None, :], axis=2)[np.triu_indices(len(found), 1)]
    assert (apart >= spacing).all()
    if len(found) < min(n, pool):  # it stopped because everything is near a chosen one
        assert np.linalg.norm(values[:, None] - found[None, :], axis=2).min(axis=1).max() < spacing
    np.testing.assert_array_equal(farthest_points(values[rng.permutation(pool)], n, spacing), found)


@fixed
@given(seeds, st.integers(0, 60), st.integers(1, 25))
def test_uniform_points_are_of_the_data_in_any_order(seed, pool, n):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.0, 3.0, (pool, 3))
    found = uniform_points(values, n)
    assert len(found) == min(n, pool)
    assert {tuple(row) for row in found} <= {tuple(row) for row in values}
    np.testing.assert_array_equal(uniform_points(values[rng.permutation(pool)], n), found)


@fixed
@given(seeds, st.integers(1, 40), st.integers(2, 8), st.integers(1, 45))
def test_leverage_points_are_sorted_and_no_twins(seed, pool, d, n):
    rng = np.random.default_rng(seed)
    rows = unit_rows(seed, pool, d)
    rows = np.vstack([rows, rows[rng.integers(0, pool, size=5)]])
    found = leverage_points(rows, n, np.random.default_rng(2), 1e-10)
    assert np.array_equal(found, np.unique(found))
    assert len(found) == min(n, len(np.unique(np.round(rows, 9), axis=0)))
    products = rows[found] @ rows[found].T
    assert (products[np.triu_indices(len(found), 1)] <= 1.0 - 1e-10).all()


# ---- expected errors ---------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 30), st.integers(0, 2))
def test_distances_to_the_hull(seed, n, species):
    """Never negative, zero somewhere, the same in any order, and blind to what is linear in volume and composition."""
    rng = np.random.default_rng(seed)
    volume, energy = rng.uniform(10.0, 20.0, n), rng.normal(size=n)
    mixed = rng.dirichlet(np.ones(species + 1), size=n)[:, 1:] if species else None
    found = distance_to_hull(volume, energy, mixed)
    assert found.min() == pytest.approx(0.0, abs=1e-7)
    assert (found >= 0.0).all()
    assert found[np.argmin(energy)] == pytest.approx(0.0, abs=1e-7)
    order = rng.permutation(n)
    moved = distance_to_hull(volume[order], energy[order], None if mixed is None else mixed[order])
    np.testing.assert_allclose(moved, found[order], atol=1e-7)
    tilted = energy + 0.3 * volume - 2.0 + (0.0 if mixed is None else mixed @ np.arange(1.0, species + 1.0))
    np.testing.assert_allclose(distance_to_hull(volume, tilted, mixed), found, atol=1e-6)
    raised = energy.copy()
    raised[np.argmax(found)] += 1.0
    assert (distance_to_hull(volume, raised, mixed) <= found + 1.0 + 1e-7).all()


@fixed
@given(st.floats(-1, 5), st.floats(-1, 5), st.integers(1, 300), st.sampled_from(["atoms", "program"]))
def test_errors_grow_with_the_distance_between_their_bounds(one, other, n, scaling):
    settings = SigmaSettings(scaling=scaling)
    low, high = (crystal_sigmas(x, n, settings) for x in sorted((one, other)))
    assert low.energy <= high.energy
    assert low.virial <= high.virial
    assert settings.force_low <= low.force <= high.force <= settings.force_high
    scale = n if scaling == "atoms" else (n / 16) ** 0.5
    assert settings.energy_low * scale <= low.energy * (1 + 1e-12)
    assert high.energy <= settings.energy_high * scale * (1 + 1e-12)


@fixed
@given(seeds, st.integers(1, 12))
def test_errors_by_magnitude_have_a_floor_and_follow_it(seed, n):
    rng = np.random.default_rng(seed)
    forces = rng.normal(size=(n, 3)) * 10.0 ** rng.integers(-4, 3)
    settings = SigmaSettings(rule="adaptive")
    found = adaptive_sigmas(forces, None, n, settings)
    rule = settings.adaptive
    assert found.force_components is not None
    np.testing.assert_array_equal(found.force_components >= rule.force_floor, True)
    np.testing.assert_allclose(
        found.force_components, np.maximum(rule.force_fraction * np.abs(forces), rule.force_floor)
    )
    doubled = adaptive_sigmas(2.0 * forces, None, n, settings)
    assert (doubled.force_components >= found.force_components).all()
    assert found.least <= found.force_components.min()


# ---- what is compared --------------------------------------------------------------------------------------------


@few
@given(seeds)
def test_vectors_of_a_structure_know_neither_its_cell_nor_its_orientation(seed):
    atoms, rng = random_cell(seed, most=3), np.random.default_rng(seed)
    settings = SimilaritySettings(n_max=4, l_max=3, cutoff=4.0, atom_sigma=0.5)
    turned, moved, shuffled = atoms.copy(), atoms.copy(), atoms[rng.permutation(len(atoms))]
    q = rotation(rng)
    turned.set_cell(atoms.cell.array @ q)
    turned.positions = atoms.positions @ q
    moved.positions += rng.normal(size=3)
    other = atoms.copy()
    other.set_cell(
        atoms.cell.array[[0, 1, 2]] + np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0]]) @ atoms.cell.array
    )
    supercell = atoms * (2, 1, 1)
    images = [atoms, turned, moved, shuffled, other, supercell]
    vectors = average_soap(images, species=(1, 5, 14, 22, 79), settings=settings)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-9)
    for vector in vectors[1:]:
        np.testing.assert_allclose(vector, vectors[0], atol=1e-8)
