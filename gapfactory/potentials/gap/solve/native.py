"""Solves a sparse Gaussian-process fit: one pass over the data, then any number of scales and subsets of terms."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.data import Diagnostics
from gapfactory.potentials.gap.model import GapModel
from gapfactory.potentials.gap.solve._lapack import fold_below
from gapfactory.potentials.gap.solve.covariance import prior_factor
from gapfactory.potentials.gap.solve.design import Design
from gapfactory.potentials.gap.solve.tsqr import Triangle, reduce_in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.model import PairTable, Term
    from gapfactory.potentials.gap.sigmas import Sigmas
    from gapfactory.potentials.gap.solve.blocks import TriangleStore

__all__ = ["NativeFit", "assemble", "fit_native", "solve"]


@dataclass(frozen=True)
class NativeFit:
    """A solved fit.

    Attributes
    ----------
    model
        The potential.
    diagnostics
        See there.
    wall_s
        Seconds: `rows` for the pass over the data, `solve`.
    """

    model: GapModel
    diagnostics: Diagnostics
    wall_s: Mapping[str, float]


def assemble(
    design: Design,
    data: Sequence[LabelledStructure],
    sigmas: Mapping[str, Sigmas],
    *,
    threads: int = 1,
    store: TriangleStore | None = None,
) -> Triangle:
    """Return the triangle of all rows: the one pass over the data.

    Memory is a few times (sparse points)^2 numbers and one block per thread, whatever the amount of data. The
    numbers depend on the order of the data, not on `threads` nor on what `store` holds.

    Parameters
    ----------
    store
        Holds triangles of runs of structures, made earlier or by other workers, and takes new ones.

    Raises
    ------
    FitError
        If there are no data, or rows are not finite.
    InputError
        If a structure has no neighbour list (see `build_system`).
    """
    if not data:
        msg = "there are no labelled structures to fit"
        raise FitError(msg)

    def leaf(part: slice) -> Triangle:
        if store is None:
            return design.triangle(data[part], sigmas)
        return store.triangle(design, data[part], sigmas)

    return reduce_in_order([partial(leaf, part) for part in design.leaves(data)], design.n, threads=threads)


def _column_scale(terms: Sequence[Term], row_deltas: Sequence[float]) -> NDArray[np.float64]:
    parts = []
    for term, made_with in zip(terms, row_deltas, strict=True):
        if term.f0 != 0.0 and term.delta != made_with:
            msg = (
                f"rows made with delta = {made_with:g} eV cannot be scaled to {term.delta:g} eV, because the "
                f"term has an offset f0 = {term.f0:g} eV: make them with the delta that is wanted"
            )
            raise FitError(msg)
        parts.append(np.full(term.n_sparse, (term.delta / made_with) ** 2))
    return np.concatenate(parts)


def solve(
    triangle: Triangle,
    terms: Sequence[Term],
    jitter: float,
    *,
    row_deltas: Sequence[float] | None = None,
) -> tuple[tuple[Term, ...], Diagnostics]:
    """Return the terms with their coefficients.

    The coefficients alpha minimise |W (K alpha - y)|^2 + alpha^T (K_MM + jitter) alpha, by QR of [W K; U] with
    U^T U = K_MM + jitter, as `gap_fit` does.

    Parameters
    ----------
    triangle
        Of the rows of `terms`, or of these and others that follow them, which are then left out.
    terms
        With sparse points and the wanted delta; their coefficients are ignored.
    jitter
        eV^2.
    row_deltas
        Scales that the rows were made with if they are not the terms' own: a column is proportional to delta^2,
        so one pass over the data serves every scale.

    Raises
    ------
    FitError
        If the covariance of the sparse points or the system is singular.
    """
    from scipy.linalg import solve_triangular
    from scipy.linalg.lapack import dtrcon

    scale = _column_scale(terms, [term.delta for term in terms] if row_deltas is None else row_deltas)
    data = triangle.leading(len(scale), scale)
    n = data.n
    prior = prior_factor(terms, jitter)
    whole = data.r.copy(order="F")
    below = np.zeros((n, n + 1), order="F")
    below[:, :n] = prior
    fold_below(whole, below, triangular=n)
    upper = np.asfortranarray(whole[:n, :n])
    reciprocal, _ = dtrcon(upper)
    if not reciprocal > 0.0:
        msg = (
            f"the linear system of {n} sparse points is singular to working precision: take fewer of them or "
            f"raise gap.jitter above {jitter:g} eV^2"
        )
        raise FitError(msg)
    alphas = solve_triangular(upper, whole[:n, n])
    if not np.isfinite(alphas).all():
        msg = f"the coefficients of {n} sparse points are not finite: raise gap.jitter above {jitter:g} eV^2"
        raise FitError(msg)
    misfit = data.r[:n, :n] @ alphas - data.r[:n, n]
    # With data = hat . upper, the squared norm of `hat` is the trace of (data^T data) (upper^T upper)^-1.
    hat = solve_triangular(upper, data.r[:n, :n].T, trans="T")
    diagnostics = Diagnostics(
        rows=data.rows,
        unknowns=n,
        condition=1.0 / float(reciprocal),
        effective_parameters=float((hat**2).sum()),
        residual=float(np.sqrt((misfit @ misfit + data.r[n, n] ** 2) / max(1, data.rows))),
        prior=float(np.linalg.norm(prior @ alphas) / np.sqrt(n)),
    )
    starts = np.cumsum([0, *(term.n_sparse for term in terms)])
    solved = tuple(
        replace(term, alphas=alphas[a:b]) for term, (a, b) in zip(terms, pairwise(starts), strict=True)
    )
    return solved, diagnostics


def fit_native(
    terms: Sequence[Term],
    data: Sequence[LabelledStructure],
    sigmas: Mapping[str, Sigmas],
    *,
    e0: Mapping[str, float],
    jitter: float,
    baseline: PairTable | None = None,
    threads: int = 1,
    store: TriangleStore | None = None,
) -> NativeFit:
    """Fit the coefficients of given sparse points in one stage.

    Parameters
    ----------
    terms
        With sparse points and delta; their coefficients are ignored.
    data
        Labelled structures; their order decides the last digits.
    sigmas
        Absolute expected errors by id.
    e0
        Energy of the free atom by symbol, eV.
    jitter
        Added to the diagonal of the sparse covariance, eV^2.
    baseline
        Core potential to fit on top of.
    threads
        Threads; the numbers do not depend on it.
    store
        See `assemble`.

    Raises
    ------
    FitError
        If the data or the sparse points do not make a solvable system.
    """
    from ase.data import atomic_numbers

    begin = time.monotonic()
    triangle = assemble(Design(terms, e0, baseline), data, sigmas, threads=threads, store=store)
    middle = time.monotonic()
    solved, diagnostics = solve(triangle, terms, jitter)
    numbers = {atomic_numbers[symbol]: energy for symbol, energy in e0.items()}
    model = GapModel(terms=solved, e0=numbers, baseline=baseline)
    return NativeFit(model, diagnostics, {"rows": middle - begin, "solve": time.monotonic() - middle})
