"""What a search has found, ranked: minima that are one structure are counted as encounters of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.analysis.matching import StructureMatcher
from gapfactory.structures import composition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.analysis.matching import MatchSettings

__all__ = ["EV_PER_GPA_A3", "Candidate", "Ranked", "chosen", "rank"]

EV_PER_GPA_A3: Final = 1.0 / 160.2176634
#: Å, for the space groups of tables: minima have atoms off their places by about a hundredth of an Å
_SYMMETRY_TOLERANCE: Final = 0.05


@dataclass(frozen=True)
class Candidate:
    """A structure that may be ranked.

    Attributes
    ----------
    id
        Its name.
    atoms
        Periodic.
    energy
        eV per atom.
    status
        How the calculation of its energy ended: ``converged``, ``unconverged`` or ``done``.
    encounters
        How often it was met before.
    start
        What it was before the present stage; empty if that is itself.
    """

    id: str
    atoms: Atoms
    energy: float
    status: str = "done"
    encounters: int = 1
    start: str = ""

    def enthalpy(self, pressure_GPa: float) -> float:
        """Return the enthalpy per atom in eV."""
        volume = float(self.atoms.get_volume()) / len(self.atoms)
        return self.energy + pressure_GPa * EV_PER_GPA_A3 * volume


@dataclass(frozen=True)
class Ranked:
    """A distinct structure at its place.

    Attributes
    ----------
    candidate
        The lowest of those that are this structure.
    composition
        Its group: enthalpies of two compositions cannot be compared.
    enthalpy
        eV per atom.
    above
        eV per atom above the lowest of its composition.
    encounters
        How often it was met.
    """

    candidate: Candidate
    composition: str
    enthalpy: float
    above: float
    encounters: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: a row of the table."""
        atoms = self.candidate.atoms
        return {
            "id": self.candidate.id,
            "start": self.candidate.start,
            "composition": self.composition,
            "atoms": len(atoms),
            "space_group": _space_group(atoms),
            "energy_eV_per_atom": self.candidate.energy,
            "enthalpy_eV_per_atom": self.enthalpy,
            "above_eV_per_atom": self.above,
            "volume_A3_per_atom": float(atoms.get_volume()) / len(atoms),
            "encounters": self.encounters,
            "status": self.candidate.status,
        }


def _space_group(atoms: Atoms) -> str:
    """Return symbol and number of the space group; empty where spglib finds none."""
    from gapfactory._spglib import ask_spglib

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = ask_spglib("get_symmetry_dataset", cell, symprec=_SYMMETRY_TOLERANCE)
    return "" if found is None else f"{found.international} ({found.number})"


def rank(
    candidates: Sequence[Candidate],
    *,
    pressure_GPa: float,
    most: int,
    within_eV: float | None = None,
    same: MatchSettings | None = None,
) -> list[Ranked]:
    """Return the lowest distinct structures of each composition, compositions by name.

    Parameters
    ----------
    candidates
        In any order; the result does not depend on it.
    pressure_GPa
        Pressure of the enthalpies that are compared.
    most
        Distinct structures of each composition at the most; encounters of these are counted among all candidates.
    within_eV
        Only those within this enthalpy per atom above the lowest of their composition.
    same
        When two are one structure.
    """
    groups: dict[str, list[tuple[float, Candidate]]] = {}
    for candidate in candidates:
        found = (candidate.enthalpy(pressure_GPa), candidate)
        groups.setdefault(composition_of(candidate.atoms), []).append(found)
    ranked: list[Ranked] = []
    for composition, group in sorted(groups.items()):
        left = sorted(group, key=lambda entry: (entry[0], entry[1].id))
        lowest, number = left[0][0], 0
        while left and number < most and (within_eV is None or left[0][0] - lowest <= within_eV):
            (enthalpy, first), *others = left
            matches = StructureMatcher([first.atoms], same).match([other.atoms for _, other in others])
            met = [other for (_, other), match in zip(others, matches, strict=True) if match is not None]
            left = [entry for entry, match in zip(others, matches, strict=True) if match is None]
            encounters = first.encounters + sum(other.encounters for other in met)
            ranked.append(Ranked(first, composition, enthalpy, enthalpy - lowest, encounters))
            number += 1
    return ranked


def chosen(rows: Sequence[dict[str, Any]], *, within_eV: float, most: int) -> list[dict[str, Any]]:
    """Return the rows of a table that the next stage takes: lowest first, of each composition in turn.

    Parameters
    ----------
    rows
        From `Ranked.as_dict`, those of each composition in the order of their enthalpies.
    within_eV
        Enthalpy per atom above the lowest of the composition.
    most
        In all.
    """
    place: dict[str, int] = {}
    ordered = []
    for row in rows:
        if row["above_eV_per_atom"] <= within_eV:
            place[row["composition"]] = place.get(row["composition"], -1) + 1
            ordered.append((place[row["composition"]], row["composition"], row))
    return [row for _, _, row in sorted(ordered, key=lambda entry: entry[:2])[:most]]
