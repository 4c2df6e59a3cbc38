"""SOAP term of a potential, evaluated by the adjoint route.

With power spectra p of the atoms and sparse points q the energy is sum_m w_m (p . q_m)^zeta. Its derivative by p
is one more matrix product with the same points; that derivative is taken back to the expansion coefficients and
from there to the neighbours, so the gradient of the descriptor itself (d by 3 numbers per neighbour) is never
formed. The fit needs it (:meth:`SoapEngine.rows`), but summed over the images of a neighbour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.descriptors import Descriptors
from gapfactory.potentials.gap.engine.term import TermEngine, check_reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine._dot_product import SparsePoints
    from gapfactory.potentials.gap.engine._soap import Basis
    from gapfactory.potentials.gap.engine.system import System
    from gapfactory.potentials.gap.model import SoapTerm

__all__ = ["SoapEngine"]

# A block of sparse points stays in the second-level cache, next to the descriptors: doubles.
_CACHED = 32768
# Descriptors whose kernels with all sparse points are held at once for variances.
_VARIANCE_BLOCK = 256


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class SoapEngine(TermEngine["SoapTerm"]):
    """Energies, forces, virials, descriptors and covariances of one SOAP term.

    Thread-safe: calls share constants only. Pickles as its term.

    Parameters
    ----------
    term
        Any exponent above zero, normalised or not, any number of species.

    Raises
    ------
    PotentialError
        If the radial basis is not supported.
    """

    def __init__(self, term: SoapTerm) -> None:
        from gapfactory.descriptors._kernels import legendre_coefficients
        from gapfactory.potentials.gap.engine._soap import Basis
        from gapfactory.potentials.gap.engine.radial import radial_table

        super().__init__(term)
        table = radial_table(
            n_max=term.n_max,
            l_max=term.l_max,
            atom_sigma=term.atom_sigma,
            cutoff=term.cutoff,
            central_weight=term.central_weight,
            basis_error_exponent=term.basis_error_exponent,
        )
        start, up, back = legendre_coefficients(term.l_max)
        self._basis: Basis = Basis(
            n_max=term.n_max,
            l_max=term.l_max,
            n_pad=table.n_pad,
            n_species=len(term.species),
            cutoff=float(term.cutoff),
            width=float(term.transition_width),
            scale=table.scale,
            table=table.coefficients.ravel(),
            central=table.central,
            central_everywhere=bool(term.central_reference_all_species),
            start=start,
            up=up.ravel(),
            back=back.ravel(),
        )
        # The compiled order is (l, pair), QUIP's (pair, l) and a zero; seven places at the end stay free because
        # the power spectrum is written in steps of eight.
        n_l = term.l_max + 1
        n_pairs = (term.dimension - 1) // n_l
        self._order = (np.arange(n_pairs)[None, :] * n_l + np.arange(n_l)[:, None]).ravel()
        self._width = _round_up(len(self._order) + 7, 16)
        self._weights = term.alphas * term.delta**2 * term.sparse_cutoffs
        self._sparse, self._reduced = self._prepare()
        self._points: SparsePoints | None = None
        self._factor: tuple[float, NDArray[np.float64]] | None = None

    def _lay_out(
        self, points: NDArray[np.float64], weights: NDArray[np.float64], zeta: float
    ) -> SparsePoints:
        """Pad points (M, number of elements), in the compiled order, and their weights (M,)."""
        from gapfactory.potentials.gap.engine._dot_product import SparsePoints

        count = max(8, _round_up(len(points), 8))
        padded = np.zeros((count, self._width))
        padded[: len(points), : points.shape[1]] = points
        padded_weights = np.zeros(count)
        padded_weights[: len(weights)] = weights
        block = max(8, _CACHED // self._width // 8 * 8)
        return SparsePoints(padded.ravel(), padded_weights, count, self._width, block, float(zeta))

    def _prepare(self) -> tuple[SparsePoints, bool]:
        """Return as few points as the energy needs, and whether they are fewer than the term's.

        With zeta = 1 it is the dot product with the weighted sum of all points, with zeta = 2 a quadratic form,
        whose eigenvectors are at most d points with weights: the same function with less to do.
        """
        points = self.term.points[:, self._order]
        weights = self._weights
        if self.term.zeta == 1.0 and len(points) > 1:
            return self._lay_out((weights @ points)[None, :], np.ones(1), 1.0), True
        if self.term.zeta == 2.0 and len(points) > points.shape[1]:
            values, vectors = np.linalg.eigh(points.T @ (weights[:, None] * points))
            return self._lay_out(np.ascontiguousarray(vectors.T), values, 2.0), True
        return self._lay_out(points, weights, self.term.zeta), False

    def _all_points(self) -> SparsePoints:
        """Return the sparse points as they are, with weights delta^2 and the points' cutoffs."""
        if self._points is None:
            self._points = self._lay_out(
                self.term.points[:, self._order],
                self.term.delta**2 * self.term.sparse_cutoffs,
                self.term.zeta,
            )
        return self._points

    def _select(self, system: System) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the atoms that have a descriptor and the species index of every atom (-1: not seen)."""
        channels = np.full(len(system.numbers), -1, dtype=np.int64)
        for k, number in enumerate(self.term.species):
            channels[system.numbers == number] = k
        return np.flatnonzero(system.numbers == self.term.number).astype(np.int64), channels

    def _refuse(self, system: System, atom: int) -> None:
        cell = int(system.cell_of[atom])
        msg = (
            f"atom {atom - int(system.offsets[cell])} of structure {cell} has no neighbour within "
            f"{self.term.cutoff} Å and central_weight = {self.term.central_weight}, so its SOAP vector is null; "
            "use a positive central_weight"
        )
        raise PotentialError(msg)

    def _add(
        self,
        system: System,
        wanted: bool,
        energies: NDArray[np.float64],
        forces: NDArray[np.float64],
        virials: NDArray[np.float64],
    ) -> None:
        from gapfactory.potentials.gap.engine._soap import add_energies

        centres, channels = self._select(system)
        if len(centres) == 0:
            return
        bad = add_energies(
            centres, system.cell_of, system.first, system.neighbour, system.vector, system.distance, channels,
            self._basis, self.term.normalise, self._sparse, wanted, energies, forces, virials,
        )  # fmt: skip
        if bad >= 0:
            self._refuse(system, bad)

    def _describe(
        self, system: System, centres: NDArray[np.int64], channels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return descriptors (D, width) in the compiled order."""
        from gapfactory.potentials.gap.engine._soap import describe

        values = np.empty((len(centres), self._width))
        bad = describe(
            centres, system.first, system.neighbour, system.vector, system.distance, channels, self._basis,
            self.term.normalise, values,
        )  # fmt: skip
        if bad >= 0:
            self._refuse(system, int(centres[bad]))
        return values

    def descriptors(self, system: System) -> Descriptors:
        """Return the power spectrum of every centre; see `TermEngine.descriptors`."""
        check_reach(system, self.cutoff, self._name)
        centres, channels = self._select(system)
        values = np.zeros((len(centres), self.term.dimension))
        values[:, self._order] = self._describe(system, centres, channels)[:, : len(self._order)]
        return Descriptors(values, centres, np.ones(len(centres)))

    def _rows(self, system: System, out: NDArray[np.float64]) -> None:
        from gapfactory.potentials.gap.engine._soap_rows import add_rows

        centres, channels = self._select(system)
        if len(centres) == 0:
            return
        bad = add_rows(
            centres, system.cell_of, system.offsets, system.first, system.neighbour, system.vector,
            system.distance, channels, self._basis, self.term.normalise, self._all_points(), out,
        )  # fmt: skip
        if bad >= 0:
            self._refuse(system, bad)

    def _kernels(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return delta^2 (p . q)^zeta between rows of values (D, width), in the compiled order, and points."""
        points = self._all_points().points.reshape(-1, self._width)[: self.term.n_sparse]
        products = np.maximum(values @ points.T, 0.0)
        return np.asarray(self.term.delta**2 * products**self.term.zeta)

    @property
    def _name(self) -> str:
        return f"soap {self.term.number}"

    def _add_variances(self, system: System, variances: NDArray[np.float64], regularisation: float) -> None:
        """Add delta^2 + f0^2 + s^2 - k^T (K + f0^2 + s^2)^-1 k with the regularisation s."""
        from scipy.linalg import LinAlgError, cholesky, solve_triangular

        extra = self.term.f0**2
        if self._factor is None or self._factor[0] != regularisation:
            points = self._all_points().points.reshape(-1, self._width)[: self.term.n_sparse]
            covariance = self._kernels(points) + extra
            covariance[np.diag_indices_from(covariance)] += regularisation**2
            try:
                self._factor = (regularisation, cholesky(covariance, lower=True))
            except LinAlgError as error:
                msg = (
                    f"the covariance of {self.term.n_sparse} SOAP points is singular with a regularisation of "
                    f"{regularisation} eV; raise it"
                )
                raise PotentialError(msg) from error
        centres, channels = self._select(system)
        lower = self._factor[1]
        prior = self.term.delta**2 + extra + regularisation**2
        for begin in range(0, len(centres), _VARIANCE_BLOCK):
            chosen = centres[begin : begin + _VARIANCE_BLOCK]
            kernels = self._kernels(self._describe(system, chosen, channels)) * self.term.sparse_cutoffs
            reduced = solve_triangular(lower, kernels.T, lower=True)
            variances[chosen] += prior - (reduced**2).sum(axis=0)
