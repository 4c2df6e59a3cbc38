"""What the engines of all terms share: their contract, its checks, and variances of squared-exponential kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.descriptors import Descriptors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine._variance import Variance
    from gapfactory.potentials.gap.engine.system import System
    from gapfactory.potentials.gap.model import PairTerm, SoapTerm, TripletTerm

__all__ = ["SquaredExponentialEngine", "TermEngine", "check_reach", "padded"]

AnyTerm = TypeVar("AnyTerm", bound="PairTerm | TripletTerm | SoapTerm")
ExponentialTerm = TypeVar("ExponentialTerm", bound="PairTerm | TripletTerm")


def padded(count: int) -> int:
    """Return the number rounded up to what compiled loops take at a time."""
    return -(-count // 8) * 8


def check_reach(system: System, cutoff: float, what: str) -> None:
    """Refuse a neighbour list that ends before something does that needs it."""
    if system.cutoff < cutoff:
        msg = (
            f"the neighbour list ends at {system.cutoff} Å but {what} reaches {cutoff} Å; build it with the "
            "largest cutoff of the potential"
        )
        raise PotentialError(msg)


class TermEngine(ABC, Generic[AnyTerm]):
    """Energies, forces, virials, descriptors and covariances of one term.

    Thread-safe: calls share constants only. Pickles as its term: tables are made anew in milliseconds.
    """

    def __init__(self, term: AnyTerm) -> None:
        self.term = term

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild the tables from the term."""
        return (type(self), (self.term,))

    @property
    def cutoff(self) -> float:
        """Range, Å."""
        return self.term.cutoff

    @property
    def n_sparse(self) -> int:
        """Number of sparse points."""
        return self.term.n_sparse

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
            If the neighbour list is too short, an atom has no density (SOAP), or the sparse points' covariance is
            singular.
        """
        check_reach(system, self.cutoff, self._name)
        if self.n_sparse == 0:
            return
        wanted = forces is not None and virials is not None
        if forces is None or virials is None:
            forces, virials = np.empty((0, 3)), np.empty((0, 3, 3))
        self._add(system, wanted, energies, forces, virials)
        if variances is not None:
            self._add_variances(system, variances, regularisation)

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
            If the neighbour list is too short, an atom has no density (SOAP), or `out` has another shape.
        """
        check_reach(system, self.cutoff, self._name)
        shape = (7 * system.n_cells + 3 * system.n_atoms, self.n_sparse)
        if out.shape != shape:
            msg = f"out has the shape {out.shape}, the covariances of this batch need {shape}"
            raise PotentialError(msg)
        if self.n_sparse > 0:
            self._rows(system, out)

    @abstractmethod
    def descriptors(self, system: System) -> Descriptors:
        """Return every instance of the descriptor, as often as QUIP lists it.

        Raises
        ------
        PotentialError
            If the neighbour list is too short, or an atom has no density (SOAP).
        """

    @property
    @abstractmethod
    def _name(self) -> str:
        """What messages call the term."""

    @abstractmethod
    def _add(
        self,
        system: System,
        wanted: bool,
        energies: NDArray[np.float64],
        forces: NDArray[np.float64],
        virials: NDArray[np.float64],
    ) -> None:
        """Add energies and, if wanted, forces and virials; there is at least one sparse point."""

    @abstractmethod
    def _add_variances(self, system: System, variances: NDArray[np.float64], regularisation: float) -> None:
        """Add predictive variances."""

    @abstractmethod
    def _rows(self, system: System, out: NDArray[np.float64]) -> None:
        """Add covariances; there is at least one sparse point and `out` has its shape."""


class SquaredExponentialEngine(TermEngine[ExponentialTerm]):
    """A term whose kernel is squared-exponential in a few distances: pairs and triplets."""

    _variance: Variance | None = None

    @property
    def _name(self) -> str:
        return f"{self.term.kind} {self.term.numbers}"

    @abstractmethod
    def _describe(self, system: System) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Return values (D, d), atoms (D, n) and cutoff factors (D,) of every descriptor."""

    def _owners(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the atoms (D, n) that a descriptor's energy is shared between."""
        return members

    def descriptors(self, system: System) -> Descriptors:
        """Return every descriptor in QUIP's number; see `TermEngine.descriptors`."""
        check_reach(system, self.cutoff, self._name)
        values, members, factors = self._describe(system)
        return Descriptors(values, np.ascontiguousarray(members[:, 0]), factors)

    def _add_variances(self, system: System, variances: NDArray[np.float64], regularisation: float) -> None:
        from gapfactory.potentials.gap.engine._variance import Variance

        variance = self._variance
        if variance is None or variance.regularisation != regularisation:
            variance = self._variance = Variance(self.term, regularisation)
        values, members, factors = self._describe(system)
        variance.add(values, self._owners(members), factors, variances)
