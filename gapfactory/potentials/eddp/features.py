"""Environment vectors of EDDPs: which features there are, and their values and derivatives for batches of structures.

With f(r) = 2 (1 - r / cutoff) inside the cutoff, an atom i has for each species X and exponent p_m

    F2[X, m] = sum over neighbours j of species X of f(r_ij)^p_m

and for each unordered pair of species XY, exponents p_m and q_o

    F3[XY, m, o] = scale * sum over pairs of neighbours j, k of species XY of f(r_ij)^p_m f(r_ik)^p_m f(r_jk)^q_o,

where r_jk must be within the cutoff too (Pickard, Phys. Rev. B 106, 014102 (2022); Salzbrenner et al., J. Chem. Phys.
159, 144801 (2023)). The *local* vector holds these, o fastest, then m, then species. The *full* vector is what
networks of the published file format take: a one for the atom's own species, then the two-body and then the
three-body features in blocks for each species of the centre, all but the atom's own being zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.elements import symbol_of
from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._arrays import ArrayData, as_array, check_positive
from gapfactory.potentials.gap.engine.system import build_system
from gapfactory.potentials.gap.engine.term import check_reach, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.settings import FeatureSettings
    from gapfactory.potentials.gap.engine.system import System

__all__ = ["Features", "geometric_series"]


def geometric_series(lowest: float, highest: float, count: int) -> NDArray[np.float64]:
    """Return exponents p_m = lowest (highest / lowest)^((m - 1) / (count - 1)), shape (count,)."""
    return np.geomspace(lowest, highest, count) if count > 1 else np.full(count, lowest)


@dataclass(frozen=True, eq=False)
class Features(ArrayData):
    """The environment vector of an EDDP.

    Attributes
    ----------
    symbols
        Species in the order of their blocks.
    cutoff
        Å.
    two_body : (M2,)
        Exponents of the two-body features.
    three_body : (M3,)
        Exponents p and q of the three-body features; empty for none.
    three_body_scale
        Factor of the three-body features.
    """

    symbols: tuple[str, ...]
    cutoff: float
    two_body: NDArray[np.float64]
    three_body: NDArray[np.float64]
    three_body_scale: float

    def __post_init__(self) -> None:
        as_array(self, "two_body", (None,))
        as_array(self, "three_body", (None,))
        check_positive(self, "cutoff", "three_body_scale")
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            msg = f"the species {self.symbols} must be at least one, each once"
            raise PotentialError(msg)
        if len(self.two_body) == 0:
            msg = "an EDDP needs at least one two-body exponent"
            raise PotentialError(msg)
        for exponents in (self.two_body, self.three_body):
            if (exponents < 1.0).any() or (exponents > 64.0).any():
                msg = f"the exponents {exponents.tolist()} must be between 1 and 64"
                raise PotentialError(msg)

    @classmethod
    def from_settings(cls, settings: FeatureSettings, symbols: Sequence[str]) -> Features:
        """Return the environment vector for species, sorted by name as in the published programs."""
        series = (settings.lowest_exponent, settings.highest_exponent)
        return cls(
            tuple(sorted(set(symbols))),
            settings.cutoff,
            geometric_series(*series, settings.two_body),
            geometric_series(*series, settings.three_body),
            settings.three_body_scale,
        )

    @property
    def n_species(self) -> int:
        """Number of species S."""
        return len(self.symbols)

    @property
    def n_pairs(self) -> int:
        """Number of unordered pairs of species."""
        return self.n_species * (self.n_species + 1) // 2

    @property
    def local_length(self) -> int:
        """Length L of the local vector."""
        return self.n_species * len(self.two_body) + self.n_pairs * len(self.three_body) ** 2

    @property
    def length(self) -> int:
        """Length D = S + S L of the full vector."""
        return self.n_species * (1 + self.local_length)

    def columns(self, kind: int) -> NDArray[np.int64]:
        """Return where the local vector of an atom of this species is in the full vector, shape (L,)."""
        two = self.n_species * len(self.two_body)
        three = self.local_length - two
        start = self.n_species
        return np.concatenate(
            [
                start + kind * two + np.arange(two),
                start + self.n_species * two + kind * three + np.arange(three),
            ]
        )

    def kinds(self, system: System) -> NDArray[np.int64]:
        """Return the index of each atom's species, shape (N,).

        Raises
        ------
        PotentialError
            If a structure has another species.
        """
        found = np.full(system.n_atoms, -1, dtype=np.int64)
        for number in np.unique(system.numbers).tolist():
            symbol = symbol_of(number)
            if symbol in self.symbols:
                found[system.numbers == number] = self.symbols.index(symbol)
                continue
            cell = int(system.cell_of[int(np.argmax(system.numbers == number))])
            msg = f"structure {cell} has an atom of {symbol}, but the potential knows {', '.join(self.symbols)} only"
            raise PotentialError(msg)
        return found

    def system(self, structures: Sequence[Atoms]) -> System:
        """Return structures with their neighbours."""
        return build_system(structures, self.cutoff)

    def local(self, system: System, kinds: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the local vectors, shape (N, L).

        Raises
        ------
        PotentialError
            If a species is unknown or the neighbour list is too short.
        """
        from gapfactory.potentials.eddp._feature_kernels import describe

        check_reach(system, self.cutoff, "the environment vector")
        kinds = self.kinds(system) if kinds is None else kinds
        two, three = self._empty(len(kinds))
        describe(
            kinds, system.first, system.neighbour, system.vector, system.distance, *self._constants,
            two.reshape(-1), three.reshape(-1),
        )  # fmt: skip
        n = len(self.three_body)
        near_first = three[..., :n].transpose(0, 1, 3, 2) * self.three_body_scale
        return np.concatenate(
            [two[..., : len(self.two_body)].reshape(len(kinds), -1), near_first.reshape(len(kinds), -1)],
            axis=1,
        )

    def full(self, system: System) -> NDArray[np.float64]:
        """Return the full vectors, shape (N, D); see `local`."""
        kinds = self.kinds(system)
        local = self.local(system, kinds)
        found = np.zeros((len(kinds), self.length))
        found[np.arange(len(kinds)), kinds] = 1.0
        for kind in range(self.n_species):
            here = np.flatnonzero(kinds == kind)
            found[np.ix_(here, self.columns(kind))] = local[here]
        return found

    def add_gradients(
        self,
        system: System,
        kinds: NDArray[np.int64],
        by_local: NDArray[np.float64],
        forces: NDArray[np.float64],
        virials: NDArray[np.float64],
    ) -> None:
        """Add the forces and virials of an energy that is a function of the local vectors, in place.

        Parameters
        ----------
        system, kinds
            As for `local`.
        by_local : (N, L)
            Derivative of the energy by each feature, eV.
        forces : (N, 3)
            eV/Å.
        virials : (S, 3, 3)
            Minus the derivative by strain, eV.
        """
        from gapfactory.potentials.eddp._feature_kernels import add_gradients

        two, three = self._empty(len(kinds))
        split = self.n_species * len(self.two_body)
        n = len(self.three_body)
        two[..., : len(self.two_body)] = by_local[:, :split].reshape(len(kinds), self.n_species, -1)
        far_first = by_local[:, split:].reshape(len(kinds), self.n_pairs, n, n).transpose(0, 1, 3, 2)
        three[..., :n] = far_first * self.three_body_scale
        add_gradients(
            kinds, system.cell_of, system.first, system.neighbour, system.vector, system.distance, *self._constants,
            two.reshape(-1), three.reshape(-1), forces, virials,
        )  # fmt: skip

    def jacobian(self, system: System) -> NDArray[np.float64]:
        """Return the derivatives of the local vectors by positions for one structure.

        Returns
        -------
        NDArray
            (N, N, 3, L): of atom i's vector by atom j's position, 1/Å.
        """
        from gapfactory.potentials.eddp._feature_kernels import jacobian

        if system.n_cells != 1:
            msg = f"derivatives of features are made for one structure at a time, not {system.n_cells}"
            raise PotentialError(msg)
        check_reach(system, self.cutoff, "the environment vector")
        kinds = self.kinds(system)
        found = np.zeros((len(kinds), len(kinds), 3, self.local_length))
        cutoff, table, p2, p3, q3, n_far = self._constants
        sizes = np.array([len(self.two_body), n_far, n_far], dtype=np.int64)
        jacobian(
            kinds, system.first, system.neighbour, system.vector, system.distance, cutoff, table, p2, p3, q3, sizes,
            self.three_body_scale, found,
        )  # fmt: skip
        return found

    @cached_property
    def _constants(
        self,
    ) -> tuple[float, NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int]:
        """Cutoff, table of pairs, padded exponents p2, p3, q3 and the number of q3, as compiled loops take them."""
        table = np.zeros((self.n_species, self.n_species), dtype=np.int64)
        upper = np.triu_indices(self.n_species)
        table[upper] = np.arange(self.n_pairs)
        table.T[upper] = np.arange(self.n_pairs)
        three = _padded(self.three_body)
        return float(self.cutoff), table, _padded(self.two_body), three, three, len(self.three_body)

    def _empty(self, n_atoms: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n = len(self.three_body)
        return (
            np.zeros((n_atoms, self.n_species, padded(len(self.two_body)))),
            np.zeros((n_atoms, self.n_pairs, n, padded(n))),
        )


def _padded(exponents: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.zeros(padded(len(exponents)))
    found[: len(exponents)] = exponents
    return found
