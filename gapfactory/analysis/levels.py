"""The same structures labelled at two levels: how far energies and forces move."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

    from gapfactory.reference.base import Label

__all__ = ["LevelComparison", "LevelRow", "compare_levels"]


@dataclass(frozen=True)
class LevelRow:
    """One structure at both levels: energies in eV/atom, root mean square of the force differences in eV/Å."""

    id: str
    first: float
    second: float
    aligned_difference: float
    force_rms: float


@dataclass(frozen=True)
class LevelComparison:
    """Differences of labels at a second level from those at a first.

    Attributes
    ----------
    n_structures
        Structures with both labels.
    energy_rms_meV
        Root mean square of the energy differences, in meV per atom. Between codes or functionals it is mostly the
        constant energy of the atoms, which no potential is concerned with.
    shifts_eV
        Energy per atom of each species by which the second level differs (least squares over all structures).
    aligned_rms_meV, aligned_max_meV
        Root mean square and largest of the differences that are left when the shifts are taken out, in meV per atom.
    force_rms, force_max
        Root mean square and largest of the differences of force components, in eV/Å.
    rows
        By structure, in the order of their ids.
    """

    n_structures: int
    energy_rms_meV: float
    shifts_eV: dict[str, float]
    aligned_rms_meV: float
    aligned_max_meV: float
    force_rms: float
    force_max: float
    rows: tuple[LevelRow, ...]

    def sentence(self) -> str:
        """Return the comparison in words."""
        return (
            f"{self.n_structures} structures at both levels: energies differ by {self.aligned_rms_meV:.3g} meV/atom "
            f"RMS without constants per species ({self.energy_rms_meV:.3g} with; largest {self.aligned_max_meV:.3g}), "
            f"forces by {self.force_rms:.3g} eV/Å RMS (largest {self.force_max:.3g})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LevelComparison:
        """Return the comparison that `as_dict` wrote."""
        return cls(**{**data, "rows": tuple(LevelRow(**row) for row in data["rows"])})


def compare_levels(
    structures: Mapping[str, Atoms], first: Mapping[str, Label], second: Mapping[str, Label]
) -> LevelComparison:
    """Compare labels of the same structures; only ids with both labels count.

    Parameters
    ----------
    structures
        By id.
    first, second
        Labels by id.

    Raises
    ------
    EvidenceError
        No structure has both labels.
    """
    ids = sorted(set(structures) & set(first) & set(second))
    if not ids:
        raise EvidenceError("no structure has a label at both levels")
    symbols = sorted({symbol for name in ids for symbol in structures[name].get_chemical_symbols()})
    counts = np.array(
        [[structures[name].get_chemical_symbols().count(symbol) for symbol in symbols] for name in ids],
        dtype=float,
    )
    sizes = counts.sum(axis=1)
    energies = np.array([[first[name].energy, second[name].energy] for name in ids]) / sizes[:, None]
    differences = energies[:, 1] - energies[:, 0]
    # of a fixed stoichiometry only the sum of the shifts is known: the smallest ones are given
    shifts = np.linalg.lstsq(counts / sizes[:, None], differences, rcond=None)[0]
    aligned = differences - counts @ shifts / sizes
    forces = [np.asarray(second[name].forces) - np.asarray(first[name].forces) for name in ids]
    every = np.concatenate([f.ravel() for f in forces])
    rows = tuple(
        LevelRow(name, float(pair[0]), float(pair[1]), float(left), float(np.sqrt(np.mean(f**2))))
        for name, pair, left, f in zip(ids, energies, aligned, forces, strict=True)
    )
    return LevelComparison(
        n_structures=len(ids),
        energy_rms_meV=float(1000 * np.sqrt(np.mean(differences**2))),
        shifts_eV=dict(zip(symbols, map(float, shifts), strict=True)),
        aligned_rms_meV=float(1000 * np.sqrt(np.mean(aligned**2))),
        aligned_max_meV=float(1000 * np.abs(aligned).max()),
        force_rms=float(np.sqrt(np.mean(every**2))),
        force_max=float(np.abs(every).max()),
        rows=rows,
    )
