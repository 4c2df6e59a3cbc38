"""Isolated atoms and dimers in vacuum."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.build.settings import DimerSettings
    from gapfactory.elements import Species

__all__ = ["bond_lengths", "dimers", "isolated_atoms"]


def isolated_atoms(species: Sequence[Species], box: float) -> list[Atoms]:
    """Return one atom of each species in the middle of a non-periodic cubic box.

    Parameters
    ----------
    species
        The species, in the order of the result.
    box
        Edge of the box in Å; at least the largest cutoff of the potential.

    Raises
    ------
    InputError
        The box is not a positive length.
    """
    from ase import Atoms

    if not (np.isfinite(box) and box > 0):
        raise InputError(f"box = {box} Å: give a positive edge, at least the largest cutoff of the potential")
    return [Atoms(s.symbol, positions=[[box / 2] * 3], cell=[box] * 3, pbc=False) for s in species]


def bond_lengths(first: Species, second: Species, settings: DimerSettings) -> np.ndarray:
    """Return the bond lengths of one pair in Å, ascending, shape (settings.bond_lengths,)."""
    r = 0.5 * (first.radius + second.radius)
    return np.linspace(settings.shortest_in_r * r, settings.longest_in_r * r, settings.bond_lengths)


def dimers(species: Sequence[Species], settings: DimerSettings, largest_cutoff: float) -> list[Atoms]:
    """Return dimers of every pair of species over the range of bond lengths.

    Each is centred, along x, in a non-periodic cubic box of edge largest cutoff + bond length, so that
    periodic images do not meet even in a code that is always periodic. Pairs follow the order of `species`,
    bond lengths ascend within a pair.

    Parameters
    ----------
    species
        The species; like pairs are included.
    settings
        Number and range of bond lengths.
    largest_cutoff
        Largest cutoff of the potential in Å.

    Raises
    ------
    InputError
        The cutoff is not a positive length.
    """
    from ase import Atoms

    if not (np.isfinite(largest_cutoff) and largest_cutoff > 0):
        raise InputError(f"largest_cutoff = {largest_cutoff} Å: give the largest cutoff of the potential")
    result = []
    for first, second in combinations_with_replacement(species, 2):
        for bond in bond_lengths(first, second, settings):
            edge = largest_cutoff + bond
            centre = np.full(3, edge / 2)
            half = np.array([bond / 2, 0.0, 0.0])
            atoms = Atoms([first.symbol, second.symbol], positions=[centre - half, centre + half], pbc=False)
            atoms.cell[:] = np.eye(3) * edge
            result.append(atoms)
    return result
