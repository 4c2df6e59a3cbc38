"""The Boltzmann-biased flat histogram against its analytic probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gapfactory.errors import SelectionError
from gapfactory.select import flat_histogram, histogram_counts
from gapfactory.select.histogram import draw, relative_to_similar_volume


def skewed(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 0.3, n) - 5.0


def inclusion(weights: np.ndarray, n: int) -> np.ndarray:
    """Exact probabilities that each of a few items is among n drawn in turn without replacement."""
    result = np.zeros(len(weights))

    def recurse(taken: tuple[int, ...], probability: float) -> None:
        if len(taken) == n:
            result[list(taken)] += probability
            return
        rest = [i for i in range(len(weights)) if i not in taken]
        total = weights[rest].sum()
        for i in rest:
            recurse((*taken, i), probability * weights[i] / total)

    recurse((), 1.0)
    return result


@pytest.mark.parametrize("bins", [1, 3, 10, "auto"])
def test_counts_are_numpys(bins: int | str) -> None:
    values = skewed(500)
    counts, edges, member = histogram_counts(values, bins=bins)  # type: ignore[arg-type]
    expected, expected_edges = np.histogram(values, bins=bins)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(edges, expected_edges)
    np.testing.assert_array_equal(np.bincount(member, minlength=len(counts)), expected)
    assert counts[member[values.argmax()]] == counts[-1]


@pytest.mark.parametrize("kT", [0.3, 0.1, math.inf])
def test_draws_follow_the_analytic_probabilities(kT: float) -> None:
    values = np.array([0.0, 0.02, 0.05, 0.31, 0.33, 0.34, 0.90, 1.0])
    counts, edges = np.histogram(values)
    member = np.minimum(((values - edges[0]) / (edges[1] - edges[0])).astype(int), 9)
    weights = np.exp(-(values - values.min()) / kT) / counts[member]
    rng = np.random.default_rng(1)
    draws = 20000
    hits = np.zeros(len(values))
    for _ in range(draws):
        hits[flat_histogram(values, 3, kT=kT, bins=10, rng=rng)] += 1
    expected = inclusion(weights, 3)
    error = np.sqrt(expected * (1 - expected) / draws)
    np.testing.assert_array_less(np.abs(hits / draws - expected), 5 * error + 1e-9)


def test_without_bias_bins_are_flat() -> None:
    values = skewed(20000)
    rng = np.random.default_rng(2)
    kept = flat_histogram(values, 400, kT=math.inf, bins=10, rng=rng)
    counts, _, member = histogram_counts(values, bins=10)
    chosen = np.bincount(member[kept], minlength=10)
    full = counts > 400
    assert counts[full].max() > 4 * counts[full].min()
    assert np.all(np.abs(chosen[full] - chosen[full].mean()) < 5 * np.sqrt(chosen[full].mean()))


def test_vanishing_temperature_takes_the_lowest() -> None:
    values = skewed(1000)
    kept = flat_histogram(values, 20, kT=1e-9, bins=10, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(kept, np.sort(np.argsort(values)[:20]))


def test_seeded_sorted_without_repeats() -> None:
    values = skewed(300)
    one, other = (flat_histogram(values, 50, kT=0.2, bins=10, rng=np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert len(set(one.tolist())) == 50
    assert np.all(np.diff(one) > 0)
    third = flat_histogram(values, 50, kT=0.2, bins=10, rng=np.random.default_rng(5))
    assert not np.array_equal(one, third)


def test_shifting_all_energies_changes_nothing() -> None:
    values = np.round(skewed(300), 3)
    one = flat_histogram(values, 50, kT=0.2, bins=10, rng=np.random.default_rng(4))
    np.testing.assert_array_equal(
        one, flat_histogram(values - 1024.0, 50, kT=0.2, bins=10, rng=np.random.default_rng(4))
    )


def test_small_and_degenerate_pools() -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(flat_histogram([1.0, 2.0], 5, kT=0.1, bins=10, rng=rng), [0, 1])
    assert flat_histogram([1.0, 2.0], 0, kT=0.1, bins=10, rng=rng).size == 0
    assert len(flat_histogram([3.0] * 7, 4, kT=0.1, bins=10, rng=rng)) == 4
    assert flat_histogram([3.0], 1, kT=0.1, bins="auto", rng=rng).tolist() == [0]


@pytest.mark.parametrize(
    ("values", "n", "kT", "text"),
    [
        ([], 1, 0.1, "at least one value"),
        ([1.0, np.nan], 1, 0.1, "value 1 is nan"),
        ([1.0, np.inf], 1, 0.1, "value 1 is inf"),
        ([1.0], -1, 0.1, "cannot draw -1"),
        ([1.0], 1, 0.0, "must be positive"),
        ([1.0], 1, -0.1, "must be positive"),
        ([1.0], 1, math.nan, "must be positive"),
    ],
)
def test_errors(values: list[float], n: int, kT: float, text: str) -> None:
    with pytest.raises(SelectionError, match=text):
        flat_histogram(values, n, kT=kT, bins=10, rng=np.random.default_rng(0))


def test_draw_order_is_successive_sampling() -> None:
    weights = np.array([0.6, 0.3, 0.1])
    rng = np.random.default_rng(6)
    firsts = np.bincount([draw(np.log(weights), 1, rng)[0] for _ in range(20000)], minlength=3) / 20000
    np.testing.assert_allclose(firsts, weights, atol=0.02)


def test_relative_to_similar_volume_against_all_pairs() -> None:
    rng = np.random.default_rng(7)
    energies, volumes = rng.normal(size=200), rng.uniform(10, 20, 200)
    volumes[50:60] = volumes[0]
    near = np.abs(volumes[:, None] - volumes[None, :]) < 0.25
    expected = [energies[i] - energies[near[i]].min() for i in range(200)]
    np.testing.assert_allclose(relative_to_similar_volume(energies, volumes, window=0.25), expected)
