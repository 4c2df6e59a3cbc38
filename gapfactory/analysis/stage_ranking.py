"""The tables of a search and of the stages that rank what it has found, and what the next stage takes from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.analysis.ranking import Candidate, rank_structures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.analysis.ranking import RankSettings

__all__ = ["Calculated", "chosen", "table"]


@dataclass(frozen=True)
class Calculated:
    """A structure with an energy.

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

    def candidate(self, pressure_GPa: float) -> Candidate:
        """Return it as one of a ranking at a pressure."""
        from ase.units import GPa

        volume = float(self.atoms.get_volume()) / len(self.atoms)
        return Candidate(
            name=self.id,
            numbers=self.atoms.numbers,
            enthalpy=self.energy + pressure_GPa * GPa * volume,
            volume=volume,
            atoms=self.atoms,
            pressure=pressure_GPa,
            copies=self.encounters,
        )


def table(
    found: Sequence[Calculated], *, pressure_GPa: float, most: int, same: RankSettings | None = None
) -> list[dict[str, Any]]:
    """Return the lowest distinct structures of each composition as plain data, compositions by name.

    Parameters
    ----------
    found
        In any order; the result does not depend on it.
    pressure_GPa
        Pressure of the enthalpies that are compared.
    most
        Distinct structures of each composition at the most.
    same
        When two are one structure; the lowest stands for all.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in (one.candidate(pressure_GPa) for one in found):
        groups.setdefault(candidate.formula, []).append(candidate)
    known = {one.id: one for one in found}
    rows = []
    for composition, group in sorted(groups.items()):
        for entry in rank_structures(group, same, top=most).entries:
            lowest = entry.structure
            one = known[lowest.name]
            rows.append(
                {
                    "id": one.id,
                    "start": one.start,
                    "composition": composition,
                    "atoms": len(one.atoms),
                    "space_group": f"{entry.symbol} ({entry.number})" if entry.number else "",
                    "energy_eV_per_atom": one.energy,
                    "enthalpy_eV_per_atom": lowest.enthalpy,
                    "above_eV_per_atom": entry.relative,
                    "volume_A3_per_atom": lowest.volume,
                    "encounters": entry.copies,
                    "status": one.status,
                }
            )
    return rows


def chosen(rows: Sequence[dict[str, Any]], *, within_eV: float, most: int) -> list[dict[str, Any]]:
    """Return the rows of a table that the next stage takes: lowest first, of each composition in turn.

    Parameters
    ----------
    rows
        From `table`.
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
