"""Two-body terms: `distance_2b`, and `distance_Nb` with order=2.

A term is a function of one distance, so for energies and forces the sum over its sparse points, cutoff function
included, is tabulated once as a spline. The fit needs the points one by one (:meth:`PairEngine.rows`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.term import SquaredExponentialEngine, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine.system import System
    from gapfactory.potentials.gap.model import PairTerm

__all__ = ["PairEngine", "PairSpline", "pair_spline"]

#: largest difference between the spline and the sum over sparse points, eV, rounding apart
SPLINE_ERROR = 1e-12
_MOST_PIECES = 1_000_000


@dataclass(frozen=True)
class PairSpline:
    """Energy of an ordered pair as quintic polynomials.

    Attributes
    ----------
    turn
        Where the cutoff function begins to fall, Å: its second derivative jumps there, so a piece ends there.
    split
        Pieces below `turn`.
    per_length : (2,)
        Pieces per Å below and above.
    table : (pieces, 6)
        Coefficients on [0, 1], constant first, eV.
    error
        Bound of the difference to the function, eV, rounding apart.
    """

    turn: float
    split: int
    per_length: NDArray[np.float64]
    table: NDArray[np.float64]
    error: float


def _derivatives(
    r: NDArray[np.longdouble], term: PairTerm, weights: NDArray[np.float64], falling: bool
) -> NDArray[np.longdouble]:
    """Return value and two derivatives of the pair energy at distances (n,): (3, n).

    Coefficients of a fit are up to 1e6 times larger than their sum. In extended precision what is left of
    them is exact to double precision; rounding would otherwise show in the slopes of a fine table.
    """
    one = np.longdouble(1.0)
    theta = one * term.theta
    total = np.zeros((3, len(r)), dtype=np.longdouble)
    total[0] = (weights * one).sum() * (one * term.f0) ** 2
    for point, weight in zip(term.points[:, 0] * one, weights * one, strict=True):
        d = (point - r) / theta
        k = weight * (one * term.delta) ** 2 * np.exp(-0.5 * d * d)
        total += np.stack([k, k * d / theta, k * (d * d - 1.0) / theta**2])
    if not falling:
        return total
    width = one * term.transition_width
    rate = 4.0 * np.arctan(one) / width
    phase = rate * (r - one * term.cutoff + width)
    fall = 0.5 * np.stack([1.0 + np.cos(phase), -rate * np.sin(phase), -(rate**2) * np.cos(phase)])
    return np.stack(
        [
            total[0] * fall[0],
            total[1] * fall[0] + total[0] * fall[1],
            total[2] * fall[0] + 2.0 * total[1] * fall[1] + total[0] * fall[2],
        ]
    )


def _quintic(values: NDArray[np.longdouble], h: np.longdouble) -> NDArray[np.float64]:
    """Return the polynomials (n - 1, 6) through value and two derivatives (3, n) at the ends of each piece."""
    f, g, c = values[0], values[1] * h, values[2] * h * h
    rise = f[1:] - f[:-1]
    g0, g1, c0, c1 = g[:-1], g[1:], c[:-1], c[1:]
    coefficients = np.stack(
        [
            f[:-1],
            g0,
            0.5 * c0,
            10.0 * rise - 6.0 * g0 - 4.0 * g1 - 1.5 * c0 + 0.5 * c1,
            -15.0 * rise + 8.0 * g0 + 7.0 * g1 + 1.5 * c0 - c1,
            6.0 * rise - 3.0 * (g0 + g1) - 0.5 * (c0 - c1),
        ],
        axis=1,
    )
    return coefficients.astype(np.float64)


def pair_spline(term: PairTerm) -> PairSpline:
    """Tabulate the pair energy of a term.

    A quintic through value and two derivatives at both ends of a piece of length h is off by at most
    h^6 max|f^(6)| / 46080. The sixth derivative is bounded by Leibniz' rule with those of the Gaussians
    (|d^n exp(-x^2/2)| <= 1.09 sqrt(n!)) and of the cutoff function (half the n-th power of pi / width).

    Raises
    ------
    PotentialError
        If theta or the transition width are so short that the table would not fit.
    """
    weights = term.alphas * term.sparse_cutoffs
    size = float(np.abs(weights).sum()) * term.delta**2
    offset = abs(float(weights.sum())) * term.f0**2
    rate = math.pi / term.transition_width
    gaussian = [
        1.09 * math.sqrt(math.factorial(n)) / term.theta**n * size + (offset if n == 0 else 0.0)
        for n in range(7)
    ]
    steep = (
        gaussian[6],
        gaussian[6] + sum(math.comb(6, n) * gaussian[n] * 0.5 * rate ** (6 - n) for n in range(6)),
    )
    turn = max(0.0, term.cutoff - term.transition_width)
    ends = ((0.0, turn), (turn, term.cutoff))
    pieces: list[int] = []
    if not math.isfinite(max(steep)):
        msg = f"{term.kind} {term.numbers}: coefficients of {size:g} eV overflow; the file is damaged or the fit failed"
        raise PotentialError(msg)
    for (low, high), bound in zip(ends, steep, strict=True):
        h = (46080.0 * SPLINE_ERROR / max(bound, 1e-300)) ** (1.0 / 6.0)
        pieces.append(max(16, math.ceil((high - low) / h)) if high > low else 0)
    if sum(pieces) > _MOST_PIECES:
        msg = (
            f"{term.kind} {term.numbers}: theta = {term.theta} Å or cutoff_transition_width = "
            f"{term.transition_width} Å is too short for a cutoff of {term.cutoff} Å and coefficients of "
            f"{size:g} eV; evaluate with quippy"
        )
        raise PotentialError(msg)
    tables: list[NDArray[np.float64]] = []
    per_length = np.ones(2)
    error = 0.0
    for k, ((low, high), count) in enumerate(zip(ends, pieces, strict=True)):
        if count == 0:
            continue
        h = (np.longdouble(high) - np.longdouble(low)) / count
        per_length[k] = float(1.0 / h)
        knots = np.longdouble(low) + h * np.arange(count + 1)
        tables.append(_quintic(_derivatives(knots, term, weights, k == 1), h))
        error = max(error, float(h**6) * steep[k] / 46080.0)
    return PairSpline(turn, pieces[0], per_length, np.ascontiguousarray(np.concatenate(tables)), error)


class PairEngine(SquaredExponentialEngine["PairTerm"]):
    """Energies, forces, virials, descriptors and covariances of one two-body term.

    QUIP lists every pair from both sides and gives half of its energy to either atom.
    """

    def __init__(self, term: PairTerm) -> None:
        super().__init__(term)
        # distance_Nb with compact_clusters=F lists a pair once
        self._count = 1.0 if term.compact_clusters else 0.5
        self.spline = pair_spline(term)
        self._table = np.ascontiguousarray(self.spline.table * self._count)

    def _add(
        self,
        system: System,
        wanted: bool,
        energies: NDArray[np.float64],
        forces: NDArray[np.float64],
        virials: NDArray[np.float64],
    ) -> None:
        from gapfactory.potentials.gap.engine._pair import add_pairs

        spline = self.spline
        add_pairs(
            system.offsets, system.numbers, system.first, system.neighbour, system.vector, system.distance,
            *self.term.numbers, self.cutoff, spline.turn, spline.split, spline.per_length, self._table, wanted,
            energies, forces, virials,
        )  # fmt: skip

    def _describe(self, system: System) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Return distances (D, 1), both atoms (D, 2) and cutoff factors (D,) of every descriptor."""
        from gapfactory.potentials.gap.engine._pair import describe

        where = (
            system.numbers, system.first, system.neighbour, system.vector, system.distance, *self.term.numbers,
            self.cutoff, self.term.transition_width, self._count < 1.0,
        )  # fmt: skip
        count = describe(*where, False, np.empty((0, 1)), np.empty((0, 2), dtype=np.int64), np.empty(0))
        values = np.empty((count, 1))
        members = np.empty((count, 2), dtype=np.int64)
        factors = np.empty(count)
        describe(*where, True, values, members, factors)
        return values, members, factors

    def _rows(self, system: System, out: NDArray[np.float64]) -> None:
        from gapfactory.potentials.gap.engine._pair import add_rows

        term = self.term
        constants = np.zeros((3, padded(self.n_sparse)))
        constants[0, : self.n_sparse] = term.points[:, 0]
        constants[1, : self.n_sparse] = term.delta**2 * term.sparse_cutoffs
        constants[2, : self.n_sparse] = term.f0**2 * term.sparse_cutoffs
        add_rows(
            system.offsets, system.numbers, system.first, system.neighbour, system.vector, system.distance,
            *term.numbers, self.cutoff, term.transition_width, self._count,
            math.sqrt(0.5) / term.theta, constants[0], constants[1], constants[2], out,
        )  # fmt: skip
