"""Three-body terms: `angle_3b`, and `distance_Nb` with order=3.

`angle_3b` has a centre and a descriptor that is symmetric in its two neighbours. The descriptor of `distance_Nb`
is the three distances; its kernel is averaged over permutations of equal atoms. Sparse points are entered in all
permutations, so both are one loop over points per triplet.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.potentials.gap.engine.descriptors import Descriptors
from gapfactory.potentials.gap.engine.pair import check_reach, check_rows, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine._variance import Variance
    from gapfactory.potentials.gap.engine.system import System
    from gapfactory.potentials.gap.model import TripletTerm

__all__ = ["TripletEngine"]


class TripletEngine:
    """Energies, forces, virials, descriptors and covariances of one three-body term.

    QUIP gives the energy of an `angle_3b` triplet to its centre, a third of that of a `distance_Nb` triplet to
    each of its atoms. Thread-safe: calls share constants only. Pickles as its term.
    """

    def __init__(self, term: TripletTerm) -> None:
        self.term = term
        self._numbers = np.array(term.numbers, dtype=np.int64)
        self._orders = np.array(term.permutations, dtype=np.int64)
        self._scale = math.sqrt(0.5) / term.theta
        permuted = [term.points[:, order] * self._scale for order in self._orders]
        # compiled loops take eight points at a time
        self._padded = padded(term.n_sparse)
        points = np.zeros((3, len(permuted), self._padded))
        points[:, :, : term.n_sparse] = np.stack(permuted).transpose(2, 0, 1)
        self._points = points.ravel()
        # of the normalised kernel, the sparse points' half
        self._norm = np.ones(term.n_sparse)
        if len(permuted) > 1:
            own = [np.exp(-((order - permuted[0]) ** 2).sum(axis=1)) for order in permuted]
            self._norm = 1.0 / np.sqrt(np.sum(own, axis=0))
        weights = term.alphas * term.sparse_cutoffs
        self._f0 = float(weights.sum()) * term.f0**2
        self._weights = np.tile(self._pad(weights * term.delta**2 * self._norm), len(permuted))
        self._variance: Variance | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild the tables from the term."""
        return (TripletEngine, (self.term,))

    @property
    def cutoff(self) -> float:
        """Range, Å."""
        return self.term.cutoff

    @property
    def n_sparse(self) -> int:
        """Number of sparse points."""
        return self.term.n_sparse

    def _pad(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values (M,) with zeros up to a multiple of eight."""
        return np.concatenate([values, np.zeros(self._padded - len(values))])

    def _kind(self) -> int:
        from gapfactory.potentials.gap.engine._triplet import ANGLE, CLOSED, COMPACT

        if self.term.kind == "angle_3b":
            return int(ANGLE)
        return int(COMPACT if self.term.compact_clusters else CLOSED)

    def _check(self, system: System) -> None:
        check_reach(system, self.cutoff, f"{self.term.kind} {self.term.numbers}")

    def add(
        self,
        system: System,
        energies: NDArray[np.float64],
        forces: NDArray[np.float64] | None,
        virials: NDArray[np.float64] | None,
        variances: NDArray[np.float64] | None = None,
        *,
        regularisation: float = 0.001,
    ) -> None:
        """Add this term's energies and what follows from them, in place.

        Parameters
        ----------
        system
            Cells with neighbours to at least this term's cutoff.
        energies : (N,)
            Local energies, eV.
        forces : (N, 3)
            eV/Å; None together with virials if not wanted.
        virials : (S, 3, 3)
            Minus the derivative by strain, eV.
        variances : (N,)
            Predictive variances as QUIP's `local_gap_variance`, eV^2.
        regularisation
            QUIP's `gap_variance_regularisation`, eV.

        Raises
        ------
        PotentialError
            If the neighbour list is too short, or the sparse points' covariance is singular.
        """
        from gapfactory.potentials.gap.engine._triplet import add_triplets

        self._check(system)
        if self.n_sparse == 0:
            return
        wanted = forces is not None and virials is not None
        if forces is None or virials is None:
            forces, virials = np.empty((0, 3)), np.empty((0, 3, 3))
        add_triplets(
            system.offsets, system.numbers, system.first, system.neighbour, system.vector, system.distance,
            self._kind(), self._numbers, self.cutoff, self.term.transition_width, self._orders, self._scale,
            self._points, self._weights, self._f0, wanted, energies, forces, virials,
        )  # fmt: skip
        if variances is not None:
            from gapfactory.potentials.gap.engine._variance import Variance

            variance = self._variance
            if variance is None or variance.regularisation != regularisation:
                variance = self._variance = Variance(self.term, regularisation)
            values, members, factors = self._describe(system)
            if self.term.kind == "angle_3b":
                members = members[:, :1]
            variance.add(values, members, factors, variances)

    def _describe(self, system: System) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Return values (D, 3), atoms (D, 3) and cutoff factors (D,) of every descriptor."""
        from gapfactory.potentials.gap.engine._triplet import describe_triplets

        self._check(system)
        where = (
            system.offsets, system.numbers, system.first, system.neighbour, system.vector, system.distance,
            self._kind(), self._numbers, self.cutoff, self.term.transition_width,
        )  # fmt: skip
        count = describe_triplets(
            *where, False, np.empty((0, 3)), np.empty((0, 3), dtype=np.int64), np.empty(0)
        )
        values = np.empty((count, 3))
        members = np.empty((count, 3), dtype=np.int64)
        factors = np.empty(count)
        describe_triplets(*where, True, values, members, factors)
        return values, members, factors

    def descriptors(self, system: System) -> Descriptors:
        """Return every descriptor in QUIP's number: a triplet of `angle_3b` is listed twice.

        Raises
        ------
        PotentialError
            If the neighbour list is too short.
        """
        values, members, factors = self._describe(system)
        return Descriptors(values, np.ascontiguousarray(members[:, 0]), factors)

    def rows(self, system: System, out: NDArray[np.float64]) -> None:
        """Add the covariances of energies, forces and virials with every sparse point.

        Parameters
        ----------
        system
            Cells with neighbours.
        out : (R, M)
            A cell of n atoms has 1 + 3 n + 6 rows, from 7 c + 3 offsets[c] on: energy; forces x, y, z of each
            atom; virial xx, yy, zz, yz, xz, xy (minus the derivative by strain).

        Raises
        ------
        PotentialError
            If the neighbour list is too short or `out` has another shape.
        """
        from gapfactory.potentials.gap.engine._triplet_rows import add_triplet_rows

        term = self.term
        self._check(system)
        check_rows(system, self.n_sparse, out)
        if self.n_sparse == 0:
            return
        add_triplet_rows(
            system.offsets, system.numbers, system.first, system.neighbour, system.vector, system.distance,
            self._kind(), self._numbers, self.cutoff, term.transition_width, self._orders, self._scale,
            self._points, self._pad(term.delta**2 * term.sparse_cutoffs * self._norm),
            self._pad(term.f0**2 * term.sparse_cutoffs), out,
        )  # fmt: skip
