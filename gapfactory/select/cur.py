"""Leverage-score CUR: choose the structures that span the pool.

Mahoney and Drineas, PNAS 106, 697 (2009), as used by Bernstein et al., npj Comput. Mater. 5, 99 (2019).
The rank of the decomposition is half the number chosen, as in the published program (the paper gives none).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import SelectionError
from gapfactory.select.histogram import draw
from gapfactory.select.leverage import kernel_leverage, vector_leverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.random import Generator
    from numpy.typing import ArrayLike, NDArray

    from gapfactory.select.settings import SelectSettings

__all__ = ["CurChoice", "choose", "cur", "leverage_scores"]

# Rows compared with all others at a time, in one product of matrices.
_BLOCK = 128


@dataclass(frozen=True)
class CurChoice:
    """What was chosen and why.

    Parameters
    ----------
    indices
        (m,) chosen rows in the order of choice, m <= n.
    scores
        (N,) leverage scores, sum one (uniform for the random control).
    rank
        Leading vectors used; 0 for the random control.
    duplicates
        Rows passed over because they equal a chosen or excluded one.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    rank: int
    duplicates: int


def _unit_rows(vectors: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        msg = f"CUR needs a table of vectors, one row for each structure, not shape {array.shape}"
        raise SelectionError(msg)
    norms = np.linalg.norm(array, axis=1)
    if not np.all(np.abs(norms - 1.0) < 1e-6):
        bad = int(np.flatnonzero(~(np.abs(norms - 1.0) < 1e-6))[0])
        msg = f"vector {bad} has norm {norms[bad]}, not 1: normalise the vectors, leave out those not finite"
        raise SelectionError(msg)
    # null columns (odd degrees of an element) cost time and change nothing
    return np.ascontiguousarray(array[:, np.any(array != 0.0, axis=0)])


def _scores(
    vectors: NDArray[np.float64], n: int, settings: SelectSettings, zeta: int, rng: Generator, cores: int
) -> tuple[NDArray[np.float64], int]:
    total = len(vectors)
    if settings.method == "random" or total < 2:
        return np.full(total, 1.0 / total), 0
    rank = min(max(1, n // 2), total - 1)
    if settings.method == "cur-vectors":
        rank = min(rank, vectors.shape[1])
        return vector_leverage(vectors, rank=rank, centred=settings.centred), rank
    scores = kernel_leverage(
        vectors,
        zeta=zeta,
        rank=rank,
        centred=settings.centred,
        rng=rng,
        memory_gb=settings.kernel_memory_GB,
        cores=cores,
    )
    return scores, rank


def leverage_scores(
    vectors: ArrayLike, n: int, *, settings: SelectSettings, zeta: int, rng: Generator, cores: int = 1
) -> NDArray[np.float64]:
    """Return the leverage scores (N,) by which n of the vectors (N, d) would be chosen; they sum to one."""
    return _scores(_unit_rows(vectors), n, settings, zeta, rng, cores)[0]


def choose(
    vectors: ArrayLike,
    n: int,
    *,
    settings: SelectSettings,
    zeta: int,
    rng: Generator,
    exclude: Sequence[int] | NDArray[np.int64] = (),
    cores: int = 1,
) -> CurChoice:
    """Choose n of the structures for diversity.

    Parameters
    ----------
    vectors : (N, d)
        Unit vectors in an order that does not depend on chance (by id).
    n
        How many to choose. Fewer come back when the pool, without what is excluded and without exact
        duplicates, holds fewer.
    settings
        Method, centring, sampling.
    zeta
        Exponent of the kernel (Eq. 4).
    rng
        The stream of this decision.
    exclude
        Rows that must not be chosen. They still count in the decomposition, and their duplicates are not
        chosen either (a held-out structure never equals a training one).
    cores
        Threads; results do not depend on it.

    Raises
    ------
    SelectionError
        If n is negative, the vectors are not unit rows, or the kernel does not fit in memory.
    """
    if n < 0:
        msg = f"cannot choose {n} structures; ask for zero or more"
        raise SelectionError(msg)
    rows = _unit_rows(vectors)
    scores, rank = _scores(rows, n, settings, zeta, rng, cores)
    if settings.choice == "sampled" or settings.method == "random":
        with np.errstate(divide="ignore"):
            order = draw(np.log(np.maximum(scores, 0.0)), len(rows), rng)
    else:
        order = np.argsort(-scores, kind="stable")
    taken = np.zeros(len(rows), dtype=np.bool_)
    outside = np.unique(np.asarray(exclude, dtype=np.int64))
    if outside.size and (outside[0] < 0 or outside[-1] >= len(rows)):
        msg = f"exclude names rows {outside[0]}..{outside[-1]}, but there are only {len(rows)}"
        raise SelectionError(msg)
    taken[outside] = True
    for _, equal in _equal_rows(rows, outside, settings.duplicate_distance):
        taken[equal] = True
    chosen: list[int] = []
    for index, equal in _equal_rows(rows, order[: len(order) if n else 0], settings.duplicate_distance):
        if not taken[index]:
            chosen.append(index)
            taken[index] = True
            taken[equal] = True
        if len(chosen) == n:
            break
    duplicates = int(taken.sum()) - len(chosen) - len(outside)
    return CurChoice(np.asarray(chosen, dtype=np.int64), scores, rank, duplicates)


def _equal_rows(
    rows: NDArray[np.float64], order: NDArray[np.int64], distance: float
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each row of the order with the rows no further than `distance` from it."""
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        # 1 - x.y = |x - y|^2 / 2 cannot resolve small distances: it only finds the candidates
        candidates = rows[block] @ rows.T > 1.0 - max(distance**2, 1e-12)
        for index, near in zip(block, candidates, strict=True):
            close = np.flatnonzero(near)
            if len(close) > 1:
                close = close[np.linalg.norm(rows[close] - rows[index], axis=1) <= distance]
            yield int(index), close


def cur(
    vectors: ArrayLike,
    n: int,
    *,
    settings: SelectSettings,
    zeta: int,
    rng: Generator,
    exclude: Sequence[int] | NDArray[np.int64] = (),
    cores: int = 1,
) -> NDArray[np.int64]:
    """Return the rows that :func:`choose` chooses, in the order of choice."""
    return choose(vectors, n, settings=settings, zeta=zeta, rng=rng, exclude=exclude, cores=cores).indices
