"""Local energies: how a potential shares the energy of a structure among its atoms.

The numbers of Deringer, Pickard and Csányi, Phys. Rev. Lett. 120, 156001 (2018), Fig. 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory._spglib import ask_spglib
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import NDArray

__all__ = ["LocalEnergies", "common_scale", "local_energies"]

#: Å within which atoms count as equivalent
_SYMPREC = 1e-2


@dataclass(frozen=True)
class LocalEnergies:
    """Local energies of one structure by one potential.

    Parameters
    ----------
    title
        Name of the structure.
    potential
        Name of the potential.
    atoms
        The structure, without a calculator.
    energies
        Shape (N,), eV: the local energy of each atom minus the energy of its free atom. Their sum is the energy of
        the structure minus that of its free atoms.
    sites
        Shape (N,): atoms with one number are equivalent by symmetry; counted from 0 in the order of first occurrence.
    """

    title: str
    potential: str
    atoms: Atoms
    energies: NDArray[np.float64]
    sites: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Energy of the structure relative to its free atoms, eV/atom."""
        return float(self.energies.mean())

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each atom, units in the names."""
        return [
            {
                "structure": self.title,
                "potential": self.potential,
                "atom": k,
                "element": symbol,
                "site": int(self.sites[k]),
                "local_energy_eV": float(self.energies[k]),
                "x_A": float(self.atoms.positions[k, 0]),
                "y_A": float(self.atoms.positions[k, 1]),
                "z_A": float(self.atoms.positions[k, 2]),
            }
            for k, symbol in enumerate(self.atoms.get_chemical_symbols())
        ]


def local_energies(title: str, potential: str, atoms: Atoms, calculator: Calculator) -> LocalEnergies:
    """Return the local energies of a structure by a potential.

    Parameters
    ----------
    title, potential
        Names of structure and potential.
    atoms
        Not changed.
    calculator
        Has ``energies``. The energies of free atoms are its attribute ``e0`` (eV by element), zero where it has none.

    Raises
    ------
    EvidenceError
        The calculator does not share its energy among atoms, or the shares do not add up to it.
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    work = atoms.copy()
    work.calc = calculator
    try:
        shares = np.array(work.get_potential_energies(), dtype=float)
    except (PropertyNotImplementedError, NotImplementedError) as error:
        raise EvidenceError(f"{potential} does not share its energy among atoms") from error
    total = float(work.get_potential_energy())
    if abs(shares.sum() - total) > 1e-6 * max(1.0, abs(total)):
        raise EvidenceError(
            f"{title}: the local energies by {potential} add up to {shares.sum():.6f} eV, its energy is {total:.6f} eV"
        )
    free = getattr(calculator, "e0", {})
    alone = np.array([float(free.get(symbol, 0.0)) for symbol in atoms.get_chemical_symbols()])
    plain = atoms.copy()
    plain.calc = None
    return LocalEnergies(title, potential, plain, shares - alone, _sites(plain))


def _sites(atoms: Atoms) -> NDArray[np.int64]:
    """Return which atoms are equivalent by symmetry; without a crystal, or where none is found, all differ."""
    if atoms.pbc.all():
        cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        dataset = ask_spglib("get_symmetry_dataset", cell, symprec=_SYMPREC)
        if dataset is not None:
            first = list(dict.fromkeys(int(k) for k in dataset.equivalent_atoms))
            return np.array([first.index(int(k)) for k in dataset.equivalent_atoms], dtype=np.int64)
    return np.arange(len(atoms), dtype=np.int64)


def common_scale(models: Sequence[LocalEnergies]) -> tuple[float, float]:
    """Return the lowest and highest local energy (eV) of several structures, for one scale of colours.

    Where all are equal, the scale is widened by 1 meV to each side.

    Raises
    ------
    EvidenceError
        There is no atom.
    """
    if not sum(len(m.energies) for m in models):
        raise EvidenceError("no local energies to compare")
    low = float(min(m.energies.min() for m in models if len(m.energies)))
    high = float(max(m.energies.max() for m in models if len(m.energies)))
    return (low, high) if high - low > 1e-9 else (low - 1e-3, high + 1e-3)
