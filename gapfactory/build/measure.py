"""Separations and volume measured from structures: what AIRSS calls AUTO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from gapfactory.build.settings import BuildSettings

__all__ = ["Measured", "best_structures", "measure", "measured_settings"]


@dataclass(frozen=True)
class Measured:
    """What a few good structures say about separations and volume.

    Parameters
    ----------
    separations
        Shortest distance of each pair of species, e.g. ``{"B-O": 1.37}``, Å.
    volume_per_atom
        Mean over the structures, Å^3.
    """

    separations: Mapping[str, float]
    volume_per_atom: float


def measure(structures: Sequence[Atoms]) -> Measured:
    """Measure the shortest distance of each pair of species and the mean volume per atom.

    Parameters
    ----------
    structures
        Periodic structures; all periodic images count.

    Raises
    ------
    InputError
        There are no structures, or one is not periodic in three directions.
    """
    if not structures:
        raise InputError("there is no structure to measure: give at least one")
    shortest: dict[str, float] = {}
    for atoms in structures:
        if not all(atoms.pbc) or atoms.cell.rank != 3:
            raise InputError(
                f"{atoms.symbols!s} is not periodic in three directions: it has no volume to measure"
            )
        for name, distance in _shortest(atoms).items():
            shortest[name] = min(distance, shortest.get(name, np.inf))
    volume = float(np.mean([atoms.get_volume() / len(atoms) for atoms in structures]))
    return Measured(dict(sorted(shortest.items())), volume)


def _shortest(atoms: Atoms) -> dict[str, float]:
    """Return the shortest distance of each pair of species of one structure."""
    from ase.neighborlist import neighbor_list

    symbols = atoms.get_chemical_symbols()
    kinds = sorted(set(symbols))
    pairs = {f"{one}-{other}" for one in kinds for other in kinds if one <= other}
    found: dict[str, float] = {}
    # every atom meets every other one and its own image within the sum of the vectors of the cell
    enough = float(np.linalg.norm(atoms.cell.array, axis=1).sum())
    reach = 2.0 * (atoms.get_volume() / len(atoms)) ** (1 / 3)
    while set(found) != pairs:
        i, j, d = neighbor_list("ijd", atoms, reach)
        for k in np.argsort(d, kind="stable")[::-1]:
            one, other = sorted((symbols[i[k]], symbols[j[k]]))
            found[f"{one}-{other}"] = float(d[k])
        if reach > enough:
            break
        reach *= 1.5
    return found


def best_structures(
    structures: Sequence[tuple[str, Atoms, float]], number: int
) -> list[tuple[str, Atoms, float]]:
    """Return the structures that are lowest in energy per atom, `number` of each composition, ordered by id.

    Parameters
    ----------
    structures
        Id, structure, energy in eV. Those that are not periodic in three directions are left out: they have no volume.
    number
        How many of each composition (reduced formula); equal energies are ordered by id.
    """
    by_composition: dict[str, list[tuple[float, str, Atoms, float]]] = {}
    for key, atoms, energy in structures:
        if all(atoms.pbc):
            formula = atoms.symbols.formula.reduce()[0].format("hill")
            by_composition.setdefault(formula, []).append((energy / len(atoms), key, atoms, energy))
    best = []
    for group in by_composition.values():
        best += [entry[1:] for entry in sorted(group, key=lambda entry: entry[:2])[:number]]
    return sorted(best, key=lambda entry: entry[0])


def measured_settings(settings: BuildSettings, found: Measured | None) -> BuildSettings:
    """Return the settings with pairs and volume as measured; those without `separations.auto` unchanged.

    Pairs that were not measured keep their values. The volume is varied like any single value; a fixed cell keeps its
    own. Where nothing was measured nothing changes.
    """
    if not settings.separations.auto or found is None:
        return settings
    pairs = dict(settings.separations.pairs) | {name: (d, d) for name, d in found.separations.items()}
    changes: dict[str, object] = {"separations": settings.separations.model_copy(update={"pairs": pairs})}
    if settings.shape.cell is None:
        from gapfactory.build.settings import VolumeSettings

        changes["volume"] = VolumeSettings(per_atom=(found.volume_per_atom, found.volume_per_atom))
    return settings.model_copy(update=changes)
