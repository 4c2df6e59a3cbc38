"""The core potential of a fit: one cubic spline for each pair of elements, as QUIP's Glue evaluates it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.potentials.gap.engine.term import check_reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.core import PairCurve, PairTable
    from gapfactory.potentials.gap.engine.system import System

__all__ = ["BaselineEngine"]


def _cubic(curve: PairCurve) -> NDArray[np.float64]:
    """Return the polynomials (n, 4) in r - knot, constant first; the last row is never used."""
    from scipy.interpolate import CubicSpline

    # QUIP's convention: an end slope above 0.99e30 asks for zero second derivative
    ends = tuple(
        (2, 0.0) if slope > 0.99e30 else (1, slope) for slope in (curve.slope_first, curve.slope_last)
    )
    spline = CubicSpline(curve.r, curve.energy, bc_type=ends)
    rows = np.zeros((len(curve.r), 4))
    rows[:-1] = spline.c[::-1].T
    return rows


class BaselineEngine:
    """Energies, forces and virials of a table of pair energies. Thread-safe; pickles as its table."""

    def __init__(self, table: PairTable) -> None:
        self.table = table
        self._numbers = tuple(sorted({number for curve in table.curves for number in curve.numbers}))
        channel = {number: k for k, number in enumerate(self._numbers)}
        self._start = np.full((len(channel), len(channel), 2), -1, dtype=np.int64)
        knots: list[NDArray[np.float64]] = []
        cubic: list[NDArray[np.float64]] = []
        used = 0
        for curve in table.curves:
            a, b = (channel[number] for number in curve.numbers)
            self._start[a, b] = self._start[b, a] = (used, used + len(curve.r) - 1)
            used += len(curve.r)
            knots.append(curve.r)
            cubic.append(_cubic(curve))
        self._knots = np.concatenate([np.empty(0), *knots])
        self._cubic = np.concatenate([np.empty((0, 4)), *cubic])

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild the splines from the table."""
        return (BaselineEngine, (self.table,))

    @property
    def cutoff(self) -> float:
        """Range, Å."""
        return self.table.cutoff

    def add(
        self,
        system: System,
        energies: NDArray[np.float64],
        forces: NDArray[np.float64] | None,
        virials: NDArray[np.float64] | None,
        variances: NDArray[np.float64] | None = None,
    ) -> None:
        """Add the core potential's energies and what follows from them, in place.

        Parameters
        ----------
        system
            Cells with neighbours to at least the table's range. Elements that are not in it have none.
        energies : (N,)
            Local energies, eV: half of each pair's.
        forces : (N, 3)
            eV/Å; None together with virials if not wanted.
        virials : (S, 3, 3)
            Minus the derivative by strain, eV.
        variances : (N,)
            Left as they are: a fixed potential has no variance.

        Raises
        ------
        PotentialError
            If the neighbour list is too short.
        """
        from gapfactory.potentials.gap.engine._pair import add_splines

        check_reach(system, self.cutoff, "the core potential")
        channels = np.full(system.n_atoms, -1, dtype=np.int64)
        for k, number in enumerate(self._numbers):
            channels[system.numbers == number] = k
        wanted = forces is not None and virials is not None
        if forces is None or virials is None:
            forces, virials = np.empty((0, 3)), np.empty((0, 3, 3))
        add_splines(
            system.offsets, channels, system.first, system.neighbour, system.vector, system.distance,
            self._start, self._knots, self._cubic, wanted, energies, forces, virials,
        )  # fmt: skip
