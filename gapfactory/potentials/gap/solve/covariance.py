"""Covariance of the sparse points among themselves, and the factor that regularises the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.model import SoapTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapfactory.potentials.gap.model import PairTerm, Term, TripletTerm

__all__ = ["prior_factor", "sparse_covariance"]


def _squared_exponential(term: PairTerm | TripletTerm) -> NDArray[np.float64]:
    """Return the (M, M) kernel, 1 on the diagonal; summed over the orders of equal atoms and normalised."""
    scaled = term.points / term.theta
    kernel = np.zeros((len(scaled), len(scaled)))
    own = np.zeros(len(scaled))
    for order in term.permutations:
        other = scaled[:, list(order)]
        # Differences rather than a . b products: close points must keep their distance to the last digit.
        square = np.zeros_like(kernel)
        for k in range(scaled.shape[1]):
            square += (other[:, k, None] - scaled[None, :, k]) ** 2
        kernel += np.exp(-0.5 * square)
        own += np.exp(-0.5 * ((other - scaled) ** 2).sum(axis=1))
    kernel /= np.sqrt(own[:, None] * own[None, :])
    return kernel


def sparse_covariance(term: Term) -> NDArray[np.float64]:
    """Return the (M, M) covariance of the sparse points of a term in eV^2, without jitter.

    As in a prediction: delta^2 times the kernel, f0^2 for squared exponentials (QUIP leaves it out of
    dot-product kernels), times the cutoff factors of both points.
    """
    if isinstance(term, SoapTerm):
        covariance = term.delta**2 * (term.points @ term.points.T) ** term.zeta
    else:
        covariance = term.delta**2 * _squared_exponential(term) + term.f0**2
    covariance *= term.sparse_cutoffs[:, None] * term.sparse_cutoffs[None, :]
    return np.asarray(0.5 * (covariance + covariance.T))


def prior_factor(terms: Sequence[Term], jitter: float) -> NDArray[np.float64]:
    """Return the upper triangle U with U^T U = K + jitter x 1 over the sparse points of all terms.

    As `gap_fit` does, the jitter (eV^2) is added to the diagonal of the finished covariance, delta included,
    and points of different terms do not correlate.

    Raises
    ------
    FitError
        If the covariance of a term is not positive definite even so.
    """
    from scipy.linalg import cholesky

    n = sum(term.n_sparse for term in terms)
    factor = np.zeros((n, n), order="F")
    start = 0
    for term in terms:
        end = start + term.n_sparse
        covariance = sparse_covariance(term)
        covariance[np.diag_indices_from(covariance)] += jitter
        try:
            factor[start:end, start:end] = cholesky(covariance, lower=False, check_finite=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            msg = (
                f"the covariance of the {term.n_sparse} sparse points of {term.command.split(' covariance')[0]!r} "
                f"cannot be factorised ({error}): points coincide; take fewer of them or raise gap.jitter "
                f"above {jitter:g} eV^2"
            )
            raise FitError(msg) from None
        start = end
    return factor
