"""What goes into a cell: number of atoms, volume, minimum separations.

Bernstein et al., npj Comput. Mater. 5, 99 (2019), Methods, "Iterative generation of reference data".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.build.settings import BuildSettings
    from gapfactory.elements import Species

__all__ = [
    "Contents",
    "VolumeRange",
    "atom_counts",
    "draw_contents",
    "minimum_separations",
    "volume_per_atom",
]

VolumeRange = Literal["narrow", "wide"]


@dataclass(frozen=True)
class Contents:
    """What one random cell will hold.

    Parameters
    ----------
    species, counts
        The species, by symbol, and how many atoms of each.
    volume
        Volume of the cell in Å^3.
    volume_range
        Which range the volume was drawn from.
    """

    species: tuple[Species, ...]
    counts: tuple[int, ...]
    volume: float
    volume_range: VolumeRange

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell."""
        return sum(self.counts)


def volume_per_atom(species: Sequence[Species], counts: Sequence[int], settings: BuildSettings) -> float:
    """Return the mean volume per atom in Å^3: 14.5 r^3 (covalent) or 5.5 r^3 (metallic) over the atoms.

    Raises
    ------
    InputError
        No atoms, or not one count per species.
    """
    if len(species) != len(counts) or sum(counts) <= 0 or min(counts) < 0:
        raise InputError(
            f"{len(species)} species with counts {list(counts)}: give one non-negative count per species"
        )
    factor = {"covalent": settings.volume_in_r3_covalent, "metallic": settings.volume_in_r3_metallic}
    total = sum(n * factor[s.bonding] * s.radius**3 for s, n in zip(species, counts, strict=True))
    return total / sum(counts)


def minimum_separations(species: Sequence[Species], settings: BuildSettings) -> NDArray[np.float64]:
    """Return the minimum separation of each pair, shape (n, n), Å: 1.8 times the mean of the two r."""
    r = np.array([s.radius for s in species])
    return np.asarray(settings.minimum_separation_in_r * 0.5 * (r[:, None] + r[None, :]))


def atom_counts(composition: Mapping[str, int], settings: BuildSettings) -> list[int]:
    """Return the possible numbers of atoms in a cell: multiples of the formula unit within the range.

    Raises
    ------
    InputError
        The composition is empty or has a count below 1, or no multiple of it is within the range.
    """
    if not composition or min(composition.values()) < 1:
        raise InputError(
            f"composition {dict(composition)}: give at least one species, with counts of 1 or more"
        )
    unit = sum(composition.values())
    counts = [n for n in range(settings.atoms_min, settings.atoms_max + 1) if n % unit == 0]
    if not counts:
        raise InputError(
            f"no multiple of the formula unit ({unit} atoms) lies between atoms_min = {settings.atoms_min} "
            f"and atoms_max = {settings.atoms_max}: widen that range"
        )
    return counts


def draw_contents(
    rng: np.random.Generator,
    *,
    composition: Mapping[str, int],
    species: Mapping[str, Species],
    generation: int,
    settings: BuildSettings,
) -> Contents:
    """Draw number of atoms and volume of one cell.

    Generation 0 is half wide; wide cells have even numbers of atoms; 20 % of the narrow ones have odd
    numbers. Where the formula unit or the range allows one parity only, that one is used.

    Raises
    ------
    InputError
        See `atom_counts`; or a species of the composition is missing from `species`.
    """
    allowed = atom_counts(composition, settings)
    missing = sorted(set(composition) - set(species))
    if missing:
        raise InputError(f"no species given for {', '.join(missing)}: add them to `species`")
    # always the same number of draws, so that the stream does not shift between settings
    u_range, u_parity, u_number, u_volume = rng.random(4)
    wide = generation == 0 and u_range < settings.initial_wide_fraction
    odd = not wide and u_parity < settings.odd_fraction
    of_parity = [n for n in allowed if n % 2 == int(odd)] or allowed
    n_atoms = of_parity[int(u_number * len(of_parity))]
    symbols = sorted(composition)
    units = n_atoms // sum(composition.values())
    chosen = tuple(species[s] for s in symbols)
    counts = tuple(units * composition[s] for s in symbols)
    spread = settings.wide_volume_spread if wide else settings.narrow_volume_spread
    mean = volume_per_atom(chosen, counts, settings)
    return Contents(
        species=chosen,
        counts=counts,
        volume=n_atoms * mean * (1 + spread * (2 * u_volume - 1)),
        volume_range="wide" if wide else "narrow",
    )
