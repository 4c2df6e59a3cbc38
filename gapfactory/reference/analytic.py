"""Two small analytic potentials that stand in for a quantum-mechanical code in tests and demonstrations.

Covalent silicon: Stillinger and Weber, Phys. Rev. B 31, 5262 (1985). A model metal of titanium's size: the
second-moment tight-binding form of Cleri and Rosato, Phys. Rev. B 48, 22 (1993), whose parameters are not checked
against that paper, so nothing about real titanium follows from it. Both are ASE calculators with energy,
forces and stress for any cell, small or skewed; they are written for clarity, not for production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["SecondMomentTitanium", "StillingerWeberSilicon"]

#: atoms of the largest cell whose pairs are found by looking at all
_SMALL = 24


def _pairs(
    atoms: Atoms, cutoff: float
) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.float64], NDArray[np.float64]]:
    """Return first and second atom, length (Å) and vector of every directed pair within the cutoff, first atoms sorted.

    As ``ase.neighborlist.neighbor_list("ijdD")``, which costs a process of a few labels half of its time to import; for
    small cells every image is looked at.
    """
    if len(atoms) > _SMALL:
        from ase.neighborlist import neighbor_list

        return neighbor_list("ijdD", atoms, cutoff)
    cell = atoms.cell.complete().array
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    inside = np.linalg.solve(cell.T, atoms.positions.T).T
    shifts = np.where(atoms.pbc, np.floor(inside), 0.0)
    home = atoms.positions - shifts @ cell
    # within the cell, two atoms are less than one cell apart along each vector
    reach = np.where(atoms.pbc, np.ceil(cutoff / heights), 0).astype(int)
    images = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in reach), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    apart = home[None, :, None] - home[:, None, None] + (images @ cell)[None, None]
    squares = (apart**2).sum(axis=-1)
    near = squares < cutoff**2
    own = np.flatnonzero(~images.any(axis=1))[0]
    near[np.arange(len(atoms)), np.arange(len(atoms)), own] = False
    first, second, _ = np.nonzero(near)
    vector = apart[near]
    return first, second, np.sqrt(squares[near]), vector


class _Analytic(Calculator):
    """Shared plumbing: one neighbour list, and forces and stress from pair vectors and their gradients."""

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]
    symbol: ClassVar[str]
    cutoff: ClassVar[float]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Calculate energy, forces and (with a three-dimensional cell) stress at once.

        Raises
        ------
        InputError
            An atom is of another species.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        structure: Any = self.atoms
        others = set(structure.get_chemical_symbols()) - {self.symbol}
        if others:
            raise InputError(
                f"{type(self).__name__} knows {self.symbol} only, not {', '.join(sorted(others))}: "
                "choose another reference calculator."
            )
        n = len(structure)
        first, second, length, vector = _pairs(structure, self.cutoff)
        energies, gradients = self._pair_gradients(n, first, second, length, vector)
        forces = np.zeros((n, 3))
        np.add.at(forces, first, gradients)
        np.add.at(forces, second, -gradients)
        energy = float(energies.sum())
        self.results = {"energy": energy, "free_energy": energy, "energies": energies, "forces": forces}
        if structure.cell.rank == 3:
            tensor = vector.T @ gradients / structure.get_volume()
            self.results["stress"] = (0.5 * (tensor + tensor.T)).ravel()[[0, 4, 8, 5, 2, 1]]

    def _pair_gradients(
        self,
        n: int,
        first: NDArray[np.int_],
        second: NDArray[np.int_],
        length: NDArray[np.float64],
        vector: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return energies per atom (n,) and dE/dvector of every directed pair (pairs, 3)."""
        raise NotImplementedError


class StillingerWeberSilicon(_Analytic):
    """Silicon of Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), Eqs. 2.3-2.7.

    Epsilon is 50 kcal/mol and sigma 2.0951 Å, so that diamond has exactly -2 epsilon per atom = -4.3364 eV at
    a = 5.431 Å; other phases are only as good as a three-body form of short range can be.
    """

    symbol = "Si"
    _EPSILON = 2.16826
    _SIGMA = 2.0951
    _A, _B, _P = 7.049556277, 0.6022245584, 4
    _REACH = 1.80
    _LAMBDA, _GAMMA = 21.0, 1.20
    cutoff = _REACH * _SIGMA

    def _pair_gradients(
        self,
        n: int,
        first: NDArray[np.int_],
        second: NDArray[np.int_],
        length: NDArray[np.float64],
        vector: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # the terms vanish with all derivatives at the cutoff; a hair before it the exponentials underflow to
        # zero
        r = np.minimum(length / self._SIGMA, self._REACH - 1e-6)
        gap = 1.0 / (r - self._REACH)
        decay = np.exp(gap)
        repulsion = self._B * r**-self._P
        pair = self._A * (repulsion - 1.0) * decay
        slope = self._A * decay * (-self._P * repulsion / r - (repulsion - 1.0) * gap**2)
        # every bond is listed twice: half of its energy to each end
        energies = np.bincount(first, 0.5 * pair, minlength=n).astype(float)
        radial = 0.5 * slope
        unit = vector / length[:, None]
        gradients = np.zeros_like(vector)

        a, b = _pairs_around(first, n)
        cosine = np.einsum("ij,ij->i", unit[a], unit[b])
        weight_a, weight_b = (np.exp(self._GAMMA * gap[x]) for x in (a, b))
        offset = cosine + 1.0 / 3.0
        angular = self._LAMBDA * weight_a * weight_b * offset**2
        energies += np.bincount(first[a], angular, minlength=n)
        by_cosine = 2.0 * self._LAMBDA * weight_a * weight_b * offset
        for x, y in ((a, b), (b, a)):
            np.add.at(radial, x, -angular * self._GAMMA * gap[x] ** 2)
            turn = (by_cosine / length[x])[:, None] * (unit[y] - cosine[:, None] * unit[x])
            np.add.at(gradients, x, turn)
        gradients += (radial / self._SIGMA)[:, None] * unit
        return self._EPSILON * energies, self._EPSILON * gradients


def _pairs_around(first: NDArray[np.int_], n: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return indices a < b of every two directed pairs that start at the same atom; `first` is sorted."""
    counts = np.bincount(first, minlength=n)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    blocks = [
        np.stack(np.triu_indices(count, k=1)) + start for count, start in zip(counts, starts, strict=True)
    ]
    joined = np.concatenate(blocks, axis=1) if blocks else np.zeros((2, 0), dtype=int)
    return joined[0], joined[1]


class SecondMomentTitanium(_Analytic):
    """A model metal of titanium's size in the second-moment approximation (form: Cleri and Rosato, 1993).

    The parameters could not be checked against the paper: take it as a metal with known ground state, not as
    titanium. E_i = sum_j A exp(-p (r/r0 - 1)) - sqrt(sum_j xi^2 exp(-2 q (r/r0 - 1))). Random cells need a
    smooth cutoff, so the sums are multiplied by a polynomial that falls from one to zero between `_TAPER` and `cutoff`
    with two continuous derivatives; its range is chosen so that hcp is the ground state (-4.845 eV, a = 2.916 Å), then
    fcc (+6 meV), bcc (+17), omega (+59).
    """

    symbol = "Ti"
    _A, _XI, _P, _Q = 0.1519, 1.8112, 8.620, 2.390
    _R0 = 2.951
    _TAPER = 5.6
    cutoff = 6.8

    def _pair_gradients(
        self,
        n: int,
        first: NDArray[np.int_],
        second: NDArray[np.int_],
        length: NDArray[np.float64],
        vector: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = np.clip((length - self._TAPER) / (self.cutoff - self._TAPER), 0.0, 1.0)
        taper = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
        taper_slope = -30.0 * x**2 * (1.0 - x) ** 2 / (self.cutoff - self._TAPER)
        stretch = length / self._R0 - 1.0
        repulsion = self._A * np.exp(-self._P * stretch)
        hopping = self._XI**2 * np.exp(-2.0 * self._Q * stretch)
        # squared, so that its root is smooth even for a single neighbour at the cutoff
        moment = np.bincount(first, hopping * taper**2, minlength=n)
        band = np.sqrt(moment)
        energies = np.bincount(first, repulsion * taper, minlength=n).astype(float) - band
        inverse: NDArray[np.float64] = np.divide(0.5, band, out=np.zeros_like(band), where=band > 0)
        slope = repulsion * (taper_slope - self._P / self._R0 * taper)
        slope -= inverse[first] * hopping * taper * (2.0 * taper_slope - 2.0 * self._Q / self._R0 * taper)
        return energies, (slope / length)[:, None] * vector
