"""Tall-skinny QR: a least-squares problem with any number of rows, kept as one small triangle.

Demmel, Grigori, Hoemmen and Langou (2012), SIAM J. Sci. Comput. 34, A206. Blocks of rows of [A | y] are folded into
an upper triangle R with R^T R = [A | y]^T [A | y]; two triangles merge into one. Only orthogonal transformations are
used, so no accuracy is lost to squaring the condition number as with normal equations. The order of all merges is
given by the order of the blocks, never by threads: the numbers are the same on every number of cores.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.solve._lapack import fold_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["Triangle", "fold", "merge", "reduce_in_order"]


@dataclass(frozen=True)
class Triangle:
    """All that least squares needs to know of the rows of [A | y].

    Attributes
    ----------
    r : (n + 1, n + 1)
        Upper triangle, column-major; the last column belongs to y. Rows may have either sign.
    rows
        How many rows it stands for.
    """

    r: NDArray[np.float64]
    rows: int

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return len(self.r) - 1

    @classmethod
    def empty(cls, n: int) -> Triangle:
        """Return the triangle of no rows and n unknowns."""
        return cls(np.zeros((n + 1, n + 1), order="F"), 0)

    def leading(self, k: int, scale: NDArray[np.float64]) -> Triangle:
        """Return the triangle of the first k columns of A, each times its `scale` (k,), and y.

        It costs nothing: a triangle holds those of all its leading columns.
        """
        r = np.zeros((k + 1, k + 1), order="F")
        r[:k, :k] = self.r[:k, :k] * scale
        r[:k, k] = self.r[:k, -1]
        r[k, k] = np.linalg.norm(self.r[k:, -1])
        return Triangle(r, self.rows)


def fold(triangle: Triangle, blocks: Iterable[NDArray[np.float64]]) -> Triangle:
    """Return the triangle with more rows.

    Parameters
    ----------
    triangle
        So far; left as it is.
    blocks
        (m, n + 1) rows of [A | y] each, column-major; they are overwritten.

    Raises
    ------
    FitError
        If a block has another number of columns or holds a value that is not finite.
    """
    r = triangle.r.copy(order="F")
    count = triangle.rows
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != len(r):
            msg = f"a block of shape {block.shape} does not fit a least-squares problem of {len(r)} columns"
            raise FitError(msg)
        # One pass over memory: a sum is finite only if all its terms are.
        if not np.isfinite(block.sum()):
            msg = f"a block of {block.shape[0]} rows of the linear system holds values that are not finite"
            raise FitError(msg)
        count += block.shape[0]
        fold_below(r, np.asfortranarray(block))
    return Triangle(r, count)


def merge(upper: Triangle, lower: Triangle) -> Triangle:
    """Return the triangle of the rows of both; a tenth of the work of folding as many rows as columns.

    Raises
    ------
    FitError
        If they belong to different numbers of unknowns.
    """
    if upper.n != lower.n:
        msg = f"triangles of {upper.n} and {lower.n} unknowns cannot be merged: they belong to different fits"
        raise FitError(msg)
    r = upper.r.copy(order="F")
    fold_below(r, lower.r.copy(order="F"), triangular=len(r))
    return Triangle(r, upper.rows + lower.rows)


def reduce_in_order(leaves: Sequence[Callable[[], Triangle]], n: int, *, threads: int = 1) -> Triangle:
    """Compute triangles on several threads and merge them by a tree that depends on their number only.

    At most 2 x threads + log2(leaves) triangles exist at a time.

    Parameters
    ----------
    leaves
        Each returns the triangle of some rows; called once each, on any thread.
    n
        Number of unknowns.
    threads
        How many are computed at the same time.
    """
    stack: list[tuple[int, Triangle]] = []

    def add(leaf: Triangle) -> None:
        # As in a binary counter: equal subtrees merge as soon as both exist.
        level, joined = 0, leaf
        while stack and stack[-1][0] == level:
            joined = merge(stack.pop()[1], joined)
            level += 1
        stack.append((level, joined))

    if threads <= 1:
        for leaf in leaves:
            add(leaf())
    else:
        waiting: deque[Future[Triangle]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                for leaf in leaves:
                    waiting.append(pool.submit(leaf))
                    if len(waiting) > threads:
                        add(waiting.popleft().result())
                while waiting:
                    add(waiting.popleft().result())
            finally:
                for future in waiting:
                    future.cancel()
    if not stack:
        return Triangle.empty(n)
    total = stack.pop()[1]
    while stack:
        total = merge(stack.pop()[1], total)
    return total
