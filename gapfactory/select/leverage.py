"""Leverage scores of large kernel matrices, in little memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import SelectionError

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["kernel_leverage", "vector_leverage"]

# Up to here the eigenproblem is solved densely; above, by Lanczos on the stored upper half of the kernel.
_DENSE = 3000
# Rows of a block of the kernel: two blocks fit in a second-level cache. Fixed, so that sums never depend on
# cores.
_BLOCK = 384


class _KernelOperator:
    """The symmetric matrix (X X^T)^zeta as blocks of its upper half, multiplied without ever being whole."""

    def __init__(self, vectors: NDArray[np.float64], zeta: int, memory_gb: float, cores: int) -> None:
        n = len(vectors)
        needed = 4.0e-9 * n * (n + _BLOCK)  # half the matrix at eight bytes
        if needed <= memory_gb:
            self.dtype: Any = np.float64
        elif 0.5 * needed <= memory_gb:
            self.dtype = np.float32
        else:
            msg = (
                f"the kernel matrix of {n} structures needs {0.5 * needed:.1f} GB and kernel_memory_GB is "
                f"{memory_gb}; raise it, or give fewer structures to this step"
            )
            raise SelectionError(msg)
        self.n = n
        self.starts = list(range(0, n, _BLOCK))
        self.pool = ThreadPoolExecutor(max_workers=cores) if cores > 1 else None

        def row(start: int) -> list[NDArray[Any]]:
            left = vectors[start : start + _BLOCK]
            blocks: list[NDArray[Any]] = []
            for other in range(start, n, _BLOCK):
                block = left @ vectors[other : other + _BLOCK].T
                blocks.append(np.power(block, zeta, out=block).astype(self.dtype, copy=False))
            return blocks

        self.rows = list(self.pool.map(row, self.starts)) if self.pool else [row(s) for s in self.starts]

    def close(self) -> None:
        """Stop the threads."""
        if self.pool:
            self.pool.shutdown()

    def multiply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return K x for x (n,) or (n, m)."""
        given = np.asarray(x, dtype=np.float64)
        work = given.astype(self.dtype, copy=False)

        def row(index: int) -> tuple[int, NDArray[np.float64]]:
            # contributions of this block row to itself and, by symmetry, to all later rows
            start = self.starts[index]
            mine = work[start : start + _BLOCK]
            part = np.zeros((self.n - start, *given.shape[1:]))
            for block, other in zip(self.rows[index], self.starts[index:], strict=True):
                rows = slice(other - start, other - start + block.shape[1])
                part[: len(mine)] += block @ work[other : other + _BLOCK]
                if other != start:
                    part[rows] += block.T @ mine
            return start, part

        result = np.zeros_like(given)
        indices = range(len(self.starts))
        for start, part in self.pool.map(row, indices) if self.pool else map(row, indices):
            result[start:] += part
        return result


def kernel_leverage(
    vectors: NDArray[np.float64],
    *,
    zeta: int,
    rank: int,
    centred: bool,
    rng: Generator,
    memory_gb: float,
    cores: int,
) -> NDArray[np.float64]:
    """Return the leverage scores of the columns of the kernel matrix K = (X X^T)^zeta.

    K is symmetric and positive semidefinite, so its singular vectors are its eigenvectors. The score of
    column j is the mean over the `rank` leading vectors of their squared j-th element (Mahoney and Drineas,
    PNAS 106, 697, 2009).

    Parameters
    ----------
    vectors : (n, d)
        Unit vectors.
    zeta
        Exponent of the kernel.
    rank
        Number of leading vectors, 1 <= rank < n; capped at the numerical rank of K.
    centred
        Subtract row and column means of K first.
    rng
        Gives the start vector of the iteration on large matrices; converged scores do not depend on it.
    memory_gb
        Bound on the stored kernel, in GB.
    cores
        Threads; results do not depend on it.

    Returns
    -------
    (n,) array
        Scores that sum to one.

    Raises
    ------
    SelectionError
        If the kernel does not fit in memory or the iteration does not converge.
    """
    n = len(vectors)
    rounding = float(np.finfo(np.float64).eps)
    if n <= _DENSE:
        from scipy.linalg import eigh

        dense = np.power(vectors @ vectors.T, zeta)
        if centred:
            dense -= dense.mean(axis=0)
            dense -= dense.mean(axis=1)[:, None]
        values, leading = eigh(dense, subset_by_index=[n - rank, n - 1], overwrite_a=True, check_finite=False)
    else:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

        operator = _KernelOperator(vectors, zeta, memory_gb, cores)

        def multiply(x: NDArray[np.float64]) -> NDArray[np.float64]:
            if not centred:
                return operator.multiply(x)
            y = operator.multiply(x - x.mean(axis=0))
            return np.asarray(y - y.mean(axis=0))

        rounding = float(np.finfo(operator.dtype).eps)
        tolerance = 1e-10 if operator.dtype is np.float64 else 1e-6
        matrix = LinearOperator((n, n), matvec=multiply, rmatvec=multiply, matmat=multiply, dtype=np.float64)
        try:
            values, leading = eigsh(matrix, k=rank, which="LA", v0=rng.standard_normal(n), tol=tolerance)
        except ArpackNoConvergence as error:
            msg = f"the {rank} leading eigenvectors of {n} structures did not converge: choose fewer"
            raise SelectionError(msg) from error
        finally:
            operator.close()
    # in a pool of few different structures the last vectors belong to the null space, where they are arbitrary
    usable = values > values.max() * n * rounding
    return np.asarray((leading[:, usable] ** 2).sum(axis=1) / np.count_nonzero(usable))


def vector_leverage(vectors: NDArray[np.float64], *, rank: int, centred: bool) -> NDArray[np.float64]:
    """Return the leverage scores (n,) of the rows of the matrix of vectors (n, d), from its singular vectors.

    The paper's control: it neglects the exponent of the kernel. `rank` is capped at the numerical rank.
    """
    from scipy.linalg import svd

    matrix = vectors - vectors.mean(axis=0) if centred else vectors
    left, values, _ = svd(matrix, full_matrices=False, check_finite=False)
    usable = int(np.count_nonzero(values > values[0] * max(matrix.shape) * np.finfo(np.float64).eps))
    used = max(1, min(rank, usable))
    return np.asarray((left[:, :used] ** 2).sum(axis=1) / used)
