"""Tall-skinny QR: the same solution as dense least squares, the same bits on any number of threads."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from gapfactory.errors import FitError
from gapfactory.potentials.gap.solve._lapack import fold_below
from gapfactory.potentials.gap.solve.tsqr import Triangle, fold, merge, reduce_in_order

Array = Any


def system(m: int, n: int, condition: float = 1e3, seed: int = 0) -> Array:
    """Return [A | y] with the given condition number of A."""
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.normal(size=(m, n)))
    v, _ = np.linalg.qr(rng.normal(size=(n, n)))
    a = u * np.geomspace(1.0, 1.0 / condition, n) @ v.T
    return np.column_stack([a, a @ rng.normal(size=n) + 0.01 * rng.normal(size=m)])


def blocks(rows: Array, size: int) -> list[Array]:
    return [rows[k : k + size].copy(order="F") for k in range(0, len(rows), size)]


def triangle(rows: Array) -> Triangle:
    return fold(Triangle.empty(rows.shape[1] - 1), [rows.copy(order="F")])


def solution(t: Triangle) -> Array:
    return np.linalg.solve(t.r[:-1, :-1], t.r[:-1, -1])


@given(
    st.integers(1, 40),
    st.integers(1, 150),
    st.integers(1, 60),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=60)
def test_a_triangle_has_the_products_of_its_rows(n: int, m: int, size: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(m, n + 1))
    t = fold(Triangle.empty(n), blocks(rows, size))
    assert t.rows == m
    assert_array_equal(np.tril(t.r, -1), 0.0)
    assert_allclose(t.r.T @ t.r, rows.T @ rows, atol=1e-11 * max(m, n))


def test_least_squares_of_an_ill_conditioned_system_is_as_good_as_dense_qr() -> None:
    # Normal equations would keep no digit at this condition number.
    rows = system(3000, 150, condition=1e9)
    found = solution(fold(Triangle.empty(150), blocks(rows, 256)))
    a, y = rows[:, :-1], rows[:, -1]
    best = np.linalg.lstsq(a, y, rcond=None)[0]
    assert_allclose(a @ found, a @ best, atol=1e-9)
    assert np.linalg.norm(a @ found - y) <= (1 + 1e-10) * np.linalg.norm(a @ best - y)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(a.T @ a)


@pytest.mark.parametrize("sizes", [(70, 30), (10, 200), (0, 50), (3, 5)])
def test_merging_is_folding_the_rows_of_both(sizes: tuple[int, int]) -> None:
    rows = system(sum(sizes) + 40, 40)[: sum(sizes)]
    upper = fold(Triangle.empty(40), blocks(rows[: sizes[0]], 16))
    lower = fold(Triangle.empty(40), blocks(rows[sizes[0] :], 16))
    kept = upper.r.copy(), lower.r.copy()
    both = merge(upper, lower)
    assert both.rows == sum(sizes)
    assert_allclose(both.r.T @ both.r, rows.T @ rows, atol=1e-13)
    assert_array_equal(upper.r, kept[0])  # neither is used up
    assert_array_equal(lower.r, kept[1])


def test_the_bits_do_not_depend_on_threads_or_on_who_is_slow() -> None:
    rows = system(2000, 60)
    parts = blocks(rows, 150)
    names = set()

    def leaf(k: int, wait: float) -> Triangle:
        names.add(threading.current_thread().name)
        time.sleep(wait)
        return triangle(parts[k])

    rng = np.random.default_rng(1)
    found = []
    for threads in (1, 2, 3, 8):
        waits = rng.uniform(0, 0.01, len(parts))
        leaves = [partial(leaf, k, w) for k, w in enumerate(waits)]
        found.append(reduce_in_order(leaves, 60, threads=threads))
    assert len(names) > 2  # there were other threads
    for other in found[1:]:
        assert_array_equal(other.r, found[0].r)
    assert found[0].rows == 2000
    assert_allclose(found[0].r.T @ found[0].r, rows.T @ rows, atol=1e-12)


def test_few_triangles_exist_at_a_time() -> None:
    alive, most = 0, 0
    lock = threading.Lock()

    def leaf(k: int) -> Triangle:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        if k == 0:
            time.sleep(0.2)  # the first is late: the others must not pile up behind it
            with lock:
                most_then.append(alive)
        return triangle(np.ones((4, 3)) * k)

    most_then: list[int] = []
    reduce_in_order([partial(leaf, k) for k in range(40)], 2, threads=2)
    assert most_then[0] <= 4


def test_an_error_in_a_leaf_comes_through() -> None:
    def bad() -> Triangle:
        msg = "a structure is broken"
        raise FitError(msg)

    with pytest.raises(FitError, match="is broken"):
        reduce_in_order([bad, *[lambda: Triangle.empty(3)] * 20], 3, threads=2)


def test_leading_columns_and_their_scale_cost_no_pass_over_the_rows() -> None:
    rows = system(500, 30)
    scale = np.repeat([0.25, 9.0], [8, 4])
    found = triangle(rows).leading(12, scale)
    a, y = rows[:, :12] * scale, rows[:, -1]
    best, rest, *_ = np.linalg.lstsq(a, y, rcond=None)
    assert found.n == 12
    assert found.rows == 500
    assert_allclose(solution(found), best, rtol=1e-9)
    assert found.r[12, 12] ** 2 == pytest.approx(float(rest[0]), rel=1e-10)


def test_nothing_is_a_triangle_of_zeros() -> None:
    t = reduce_in_order([], 5)
    assert t.rows == 0
    assert_array_equal(t.r, 0.0)
    assert_array_equal(fold(t, [np.empty((0, 6), order="F")]).r, 0.0)


def test_rows_that_are_not_numbers_or_do_not_fit_are_refused() -> None:
    rows = system(20, 5)
    rows[7, 2] = np.nan
    with pytest.raises(FitError, match="not finite"):
        fold(Triangle.empty(5), [rows])
    with pytest.raises(FitError, match="does not fit"):
        fold(Triangle.empty(6), [system(20, 5)])
    with pytest.raises(FitError, match="5 and 6 unknowns"):
        merge(Triangle.empty(5), Triangle.empty(6))


@pytest.mark.parametrize(
    ("upper", "rows", "triangular"),
    [
        (np.zeros((4, 4)), np.zeros((3, 4), order="F"), 0),
        (np.zeros((4, 4), order="F"), np.zeros((3, 4)), 0),
        (np.zeros((4, 4), order="F"), np.zeros((3, 5), order="F"), 0),
        (np.zeros((4, 4), order="F", dtype=np.float32), np.zeros((3, 4), order="F"), 0),
        (np.zeros((4, 4), order="F"), np.zeros((3, 4), order="F"), 4),
        (np.zeros((5, 4), order="F"), np.zeros((3, 4), order="F"), 0),
    ],
)
def test_lapack_never_sees_memory_it_would_misread(upper: Array, rows: Array, triangular: int) -> None:
    with pytest.raises(ValueError, match=r"must be|triangular"):
        fold_below(upper, rows, triangular)


def test_other_threads_run_during_a_fold() -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 801))
    beats = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal beats
        while not done.is_set():
            beats += 1
            time.sleep(1e-4)

    t, block = np.zeros((801, 801), order="F"), np.asfortranarray(rows)
    thread = threading.Thread(target=tick)
    thread.start()
    before = beats
    fold_below(t, block)
    during = beats - before
    done.set()
    thread.join()
    assert during > 5
