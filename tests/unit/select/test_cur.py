"""Leverage-score CUR: scores against dense decompositions, and what gets chosen."""

from __future__ import annotations

import numpy as np
import pytest

from gapfactory.errors import SelectionError
from gapfactory.select import SelectSettings, choose, cur, leverage_scores
from gapfactory.select import leverage as leverage_module

KERNEL = SelectSettings()
CENTRED = SelectSettings(centred=True)
VECTORS = SelectSettings(method="cur-vectors")
RANDOM = SelectSettings(method="random")
HIGHEST = SelectSettings(choice="highest")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def pool(n: int, d: int = 30, seed: int = 0) -> np.ndarray:
    """Vectors as like each other as real ones are: a common part and a tail of small differences."""
    rng = np.random.default_rng(seed)
    return unit(np.eye(d)[0] * 3 + rng.normal(size=(n, d)) * 0.7 ** np.arange(d))


def clusters(
    per_cluster: list[int], d: int = 40, spread: float = 0.01, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(per_cluster)), per_cluster)
    return unit(np.eye(d)[label] + spread * rng.normal(size=(len(label), d))), label


def dense_scores(vectors: np.ndarray, rank: int, *, centred: bool) -> np.ndarray:
    """Straight from the definition: SVD of the square kernel matrix."""
    matrix = (vectors @ vectors.T) ** 4
    if centred:
        matrix = matrix - matrix.mean(0) - matrix.mean(1)[:, None] + matrix.mean()
    _, _, right = np.linalg.svd(matrix)
    return (right[:rank] ** 2).sum(0) / rank


@pytest.mark.parametrize("settings", [KERNEL, CENTRED], ids=["paper", "centred"])
@pytest.mark.parametrize("n", [2, 10, 41])
def test_scores_equal_svd_of_the_kernel(settings: SelectSettings, n: int) -> None:
    vectors = pool(120)
    scores = leverage_scores(vectors, n, settings=settings, zeta=4, rng=np.random.default_rng(0))
    expected = dense_scores(vectors, max(1, n // 2), centred=settings.centred)
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    assert scores.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("settings", [KERNEL, CENTRED], ids=["paper", "centred"])
@pytest.mark.parametrize("cores", [1, 2])
def test_lanczos_equals_dense(monkeypatch: pytest.MonkeyPatch, settings: SelectSettings, cores: int) -> None:
    vectors = pool(1000)
    dense = leverage_scores(vectors, 40, settings=settings, zeta=4, rng=np.random.default_rng(0))
    monkeypatch.setattr(leverage_module, "_DENSE", 10)
    monkeypatch.setattr(leverage_module, "_BLOCK", 300)
    arguments = {"settings": settings, "zeta": 4, "cores": cores}
    iterated = leverage_scores(vectors, 40, rng=np.random.default_rng(0), **arguments)  # type: ignore[arg-type]
    np.testing.assert_allclose(iterated, dense, atol=1e-9)
    again = leverage_scores(vectors, 40, rng=np.random.default_rng(0), **arguments)  # type: ignore[arg-type]
    np.testing.assert_array_equal(iterated, again)


def test_lanczos_does_not_depend_on_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leverage_module, "_DENSE", 10)
    vectors = pool(900)
    one, two = (
        leverage_scores(vectors, 30, settings=KERNEL, zeta=4, rng=np.random.default_rng(0), cores=c)
        for c in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_single_precision_kernel_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = pool(1000)
    dense = leverage_scores(vectors, 20, settings=KERNEL, zeta=4, rng=np.random.default_rng(0))
    monkeypatch.setattr(leverage_module, "_DENSE", 10)
    tight = SelectSettings(kernel_memory_GB=0.003)
    single = leverage_scores(vectors, 20, settings=tight, zeta=4, rng=np.random.default_rng(0))
    assert not np.array_equal(single, dense)
    np.testing.assert_allclose(single, dense, atol=1e-4 * dense.max())
    with pytest.raises(SelectionError, match=r"kernel_memory_GB is 0\.001"):
        choose(
            vectors, 20, settings=SelectSettings(kernel_memory_GB=0.001), zeta=4, rng=np.random.default_rng(0)
        )


def test_vector_scores_equal_svd_of_the_vectors() -> None:
    vectors = pool(60)
    left, _, _ = np.linalg.svd(vectors, full_matrices=False)
    scores = leverage_scores(vectors, 12, settings=VECTORS, zeta=4, rng=np.random.default_rng(0))
    np.testing.assert_allclose(scores, (left[:, :6] ** 2).sum(1) / 6, atol=1e-12)


def test_exponent_matters() -> None:
    """The control on vectors neglects it, and that is the difference the paper measured."""
    vectors = pool(80)
    one = leverage_scores(vectors, 20, settings=KERNEL, zeta=1, rng=np.random.default_rng(0))
    four = leverage_scores(vectors, 20, settings=KERNEL, zeta=4, rng=np.random.default_rng(0))
    control = leverage_scores(vectors, 20, settings=VECTORS, zeta=4, rng=np.random.default_rng(0))
    np.testing.assert_allclose(one, control, atol=1e-8)
    assert np.abs(four - control).max() > 1e-3


@pytest.mark.parametrize("choice", ["sampled", "highest"])
def test_planted_clusters_are_all_found(choice: str) -> None:
    """A pool of one large and seven small families: CUR finds the rare ones, a random choice does not."""
    sizes = [400, 6, 6, 6, 6, 6, 6, 6]
    vectors, label = clusters(sizes)
    settings = SelectSettings(choice=choice)  # type: ignore[arg-type]
    found = {"cur": 0.0, "random": 0.0}
    for seed in range(10):
        for name, s in (("cur", settings), ("random", RANDOM)):
            chosen = cur(vectors, 16, settings=s, zeta=4, rng=np.random.default_rng(seed))
            found[name] += len(set(label[chosen].tolist())) / 10
    assert found["cur"] > 6.5
    assert found["random"] < 4.0


def test_outliers_have_the_highest_scores() -> None:
    vectors, _ = clusters([200, 1, 1, 1])
    scores = leverage_scores(vectors, 8, settings=KERNEL, zeta=4, rng=np.random.default_rng(0))
    assert set(np.argsort(scores)[-3:].tolist()) == {200, 201, 202}
    chosen = cur(vectors, 8, settings=HIGHEST, zeta=4, rng=np.random.default_rng(0))
    assert set(chosen[:3].tolist()) == {200, 201, 202}


@pytest.mark.parametrize("settings", [KERNEL, HIGHEST, VECTORS, RANDOM, CENTRED])
def test_exclude_is_respected_and_draws_are_seeded(settings: SelectSettings) -> None:
    vectors = pool(60)
    first = cur(vectors, 20, settings=settings, zeta=4, rng=np.random.default_rng(3))
    again = cur(vectors, 20, settings=settings, zeta=4, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(first, again)
    assert len(set(first.tolist())) == 20
    second = cur(vectors, 20, settings=settings, zeta=4, rng=np.random.default_rng(3), exclude=first)
    assert not set(first.tolist()) & set(second.tolist())
    rest = cur(vectors, 60, settings=settings, zeta=4, rng=np.random.default_rng(3), exclude=first)
    assert sorted([*first, *rest]) == list(range(60))


def test_sampling_follows_the_scores() -> None:
    vectors = pool(12)
    scores = leverage_scores(vectors, 6, settings=KERNEL, zeta=4, rng=np.random.default_rng(0))
    rng = np.random.default_rng(9)
    firsts = [cur(vectors, 6, settings=KERNEL, zeta=4, rng=rng)[0] for _ in range(8000)]
    observed = np.bincount(firsts, minlength=12) / 8000
    np.testing.assert_array_less(np.abs(observed - scores), 5 * np.sqrt(scores * (1 - scores) / 8000) + 1e-9)


@pytest.mark.parametrize("settings", [KERNEL, HIGHEST, RANDOM])
def test_exact_duplicates_are_never_both_chosen(settings: SelectSettings) -> None:
    base = pool(15)
    noise = 1e-12 * np.random.default_rng(0).normal(size=base.shape)
    vectors = np.concatenate([base, base + noise, base])
    choice = choose(vectors, 40, settings=settings, zeta=4, rng=np.random.default_rng(1))
    assert sorted(choice.indices % 15) == list(range(15))
    assert choice.duplicates == 30
    training = cur(vectors, 5, settings=settings, zeta=4, rng=np.random.default_rng(1))
    held_out = cur(vectors, 40, settings=settings, zeta=4, rng=np.random.default_rng(2), exclude=training)
    assert not {int(i) % 15 for i in training} & {int(i) % 15 for i in held_out}
    # close, but not equal
    near = unit(np.concatenate([base, base + 1e-5 * np.random.default_rng(0).normal(size=base.shape)]))
    assert len(cur(near, 40, settings=settings, zeta=4, rng=np.random.default_rng(1))) == 30


@pytest.mark.parametrize("dense", [True, False])
def test_scores_of_a_pool_of_few_different_structures(
    monkeypatch: pytest.MonkeyPatch, *, dense: bool
) -> None:
    """Beyond the rank of the kernel there is nothing to score: copies share the score of their structure."""
    base = pool(8)
    if not dense:
        monkeypatch.setattr(leverage_module, "_DENSE", 10)
    scores = leverage_scores(
        np.tile(base, (50, 1)), 60, settings=KERNEL, zeta=4, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(scores, 1 / 400, atol=1e-9)
    chosen = cur(np.tile(base, (50, 1)), 60, settings=KERNEL, zeta=4, rng=np.random.default_rng(0))
    assert sorted(chosen % 8) == list(range(8))


def test_tiny_pools() -> None:
    assert cur([[1.0, 0.0]], 3, settings=KERNEL, zeta=4, rng=np.random.default_rng(0)).tolist() == [0]
    two = cur([[1.0, 0.0], [0.0, 1.0]], 5, settings=KERNEL, zeta=4, rng=np.random.default_rng(0))
    assert sorted(two.tolist()) == [0, 1]
    assert cur(pool(5), 0, settings=KERNEL, zeta=4, rng=np.random.default_rng(0)).size == 0


@pytest.mark.parametrize(
    ("vectors", "n", "exclude", "text"),
    [
        (np.zeros((0, 3)), 1, (), "one row for each structure"),
        (np.ones(3), 1, (), "one row for each structure"),
        (np.ones((2, 3)), 1, (), "vector 0 has norm"),
        (np.array([[1.0, 0.0], [np.nan, 0.0]]), 1, (), "vector 1 has norm nan"),
        (np.eye(3), -1, (), "cannot choose -1"),
        (np.eye(3), 1, (7,), "exclude names rows"),
    ],
)
def test_errors(vectors: np.ndarray, n: int, exclude: tuple[int, ...], text: str) -> None:
    with pytest.raises(SelectionError, match=text):
        cur(vectors, n, settings=KERNEL, zeta=4, rng=np.random.default_rng(0), exclude=exclude)
