"""Predictive variance of squared-exponential terms, as QUIP defines it for `local_gap_variance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.model import PairTerm, TripletTerm

__all__ = ["Variance"]

# Descriptors at a time.
_BLOCK = 1024


class Variance:
    """Variance of a term's kernel expansion: prior minus what the sparse points explain.

    delta^2 + f0^2 + s^2 - k^T (K + s^2)^-1 k with the regularisation s, K the sparse points' covariance.

    Parameters
    ----------
    term
        Two- or three-body term.
    regularisation
        s, eV.

    Raises
    ------
    PotentialError
        If the covariance of the sparse points is singular to double precision.
    """

    def __init__(self, term: PairTerm | TripletTerm, regularisation: float) -> None:
        from scipy.linalg import LinAlgError, cholesky

        self.regularisation = regularisation
        self._term = term
        theta = np.broadcast_to(np.asarray(term.theta, dtype=np.float64), (term.dimension,))
        orders = np.array(term.permutations)
        #: (permutations, M, d), each permuted and divided by theta
        self._points = np.stack([term.points[:, order] for order in orders]) / theta
        self._theta = theta
        self._orders = orders
        self._own = np.ones(term.n_sparse)
        if len(orders) > 1:
            shift = self._points - (term.points / theta)[None]
            self._own = np.exp(-0.5 * (shift**2).sum(axis=2)).sum(axis=0)
        covariance = self.kernels(term.points) * term.sparse_cutoffs[:, None]
        # QUIP leaves f0 out of the cutoff factors here
        extra = term.f0**2 * (1.0 - term.sparse_cutoffs[:, None] * term.sparse_cutoffs[None, :])
        covariance = 0.5 * (covariance + covariance.T) + extra
        covariance[np.diag_indices_from(covariance)] += regularisation**2
        try:
            self._lower = cholesky(covariance, lower=True)
        except LinAlgError as error:
            msg = (
                f"the covariance of the {term.n_sparse} sparse points of {term.kind} {term.numbers} is singular "
                f"with a regularisation of {regularisation} eV; raise it"
            )
            raise PotentialError(msg) from error

    def kernels(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (delta^2 k + f0^2) f_sparse of descriptors (D, d) with the sparse points: (D, M)."""
        scaled = values / self._theta
        total = np.zeros((len(values), self._points.shape[1]))
        for points in self._points:
            total += np.exp(-0.5 * ((scaled[:, None, :] - points[None]) ** 2).sum(axis=2))
        if len(self._orders) > 1:
            own = np.zeros(len(values))
            for order in self._orders:
                own += np.exp(-0.5 * ((scaled[:, order] - scaled) ** 2).sum(axis=1))
            total /= np.sqrt(own[:, None] * self._own[None, :])
        return np.asarray((self._term.delta**2 * total + self._term.f0**2) * self._term.sparse_cutoffs)

    def add(
        self,
        values: NDArray[np.float64],
        members: NDArray[np.int64],
        factors: NDArray[np.float64],
        variances: NDArray[np.float64],
    ) -> None:
        """Add the variance of descriptors (D, d), times the cutoff factor squared, in equal parts to their atoms.

        `members` (D, n) are the atoms of each descriptor that share its energy; `variances` (N,) is in eV^2.
        Raises PotentialError if a variance is negative, which QUIP's covariance with f0 allows.
        """
        from scipy.linalg import solve_triangular

        prior = self._term.delta**2 + self._term.f0**2 + self.regularisation**2
        for begin in range(0, len(values), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            reduced = solve_triangular(self._lower, self.kernels(values[rows]).T, lower=True)
            variance = prior - (reduced**2).sum(axis=0)
            if variance.min() < -1e-9 * prior:
                msg = (
                    f"a negative variance of {variance.min():g} eV^2 is predicted by {self._term.kind} "
                    f"{self._term.numbers}: raise the regularisation ({self.regularisation} eV), or do not ask "
                    "for variances where f0 is not zero"
                )
                raise PotentialError(msg)
            share = variance * factors[rows] ** 2 / members.shape[1]
            for column in range(members.shape[1]):
                np.add.at(variances, members[rows, column], share)
