"""Three-body terms: `angle_3b`, and `distance_Nb` with order=3.

`angle_3b` has a centre and a descriptor that is symmetric in its two neighbours. The descriptor of `distance_Nb`
is the three distances; its kernel is averaged over permutations of equal atoms. Sparse points are entered in all
permutations, so both are one loop over points per triplet.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.potentials.gap.engine.term import SquaredExponentialEngine, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine.system import System
    from gapfactory.potentials.gap.model import TripletTerm

__all__ = ["TripletEngine"]


class TripletEngine(SquaredExponentialEngine["TripletTerm"]):
    """Energies, forces, virials, descriptors and covariances of one three-body term.

    QUIP gives the energy of an `angle_3b` triplet to its centre, a third of that of a `distance_Nb` triplet to
    each of its atoms.
    """

    def __init__(self, term: TripletTerm) -> None:
        super().__init__(term)
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

    def _pad(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values (M,) with zeros up to a multiple of eight."""
        return np.concatenate([values, np.zeros(self._padded - len(values))])

    def _kind(self) -> int:
        from gapfactory.potentials.gap.engine._triplet import ANGLE, CLOSED, COMPACT

        if self.term.kind == "angle_3b":
            return int(ANGLE)
        return int(COMPACT if self.term.compact_clusters else CLOSED)

    def _owners(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        return members[:, :1] if self.term.kind == "angle_3b" else members

    def _add(
        self,
        system: System,
        wanted: bool,
        energies: NDArray[np.float64],
        forces: NDArray[np.float64],
        virials: NDArray[np.float64],
    ) -> None:
        from gapfactory.potentials.gap.engine._triplet import add_triplets

        add_triplets(
            system.offsets, system.numbers, system.first, system.neighbour, system.vector, system.distance,
            self._kind(), self._numbers, self.cutoff, self.term.transition_width, self._orders, self._scale,
            self._points, self._weights, self._f0, wanted, energies, forces, virials,
        )  # fmt: skip

    def _describe(self, system: System) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Return values (D, 3), atoms (D, 3) and cutoff factors (D,) of every descriptor."""
        from gapfactory.potentials.gap.engine._triplet import describe_triplets

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

    def _rows(self, system: System, out: NDArray[np.float64]) -> None:
        from gapfactory.potentials.gap.engine._triplet_rows import add_triplet_rows

        term = self.term
        add_triplet_rows(
            system.offsets, system.numbers, system.first, system.neighbour, system.vector, system.distance,
            self._kind(), self._numbers, self.cutoff, term.transition_width, self._orders, self._scale,
            self._points, self._pad(term.delta**2 * term.sparse_cutoffs * self._norm),
            self._pad(term.f0**2 * term.sparse_cutoffs), out,
        )  # fmt: skip
