"""What goes into a cell: number of atoms, volume, minimum separations.

Defaults: Bernstein et al., npj Comput. Mater. 5, 99 (2019), Methods, "Iterative generation of reference data".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory.errors import BuildError, InputError

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
    "draw_separations",
    "minimum_separations",
    "volume_interval",
    "volume_per_atom",
]

VolumeRange = Literal["narrow", "wide", "given"]

#: volume in Å^3 of 1 atomic mass unit at 1 g/cm3: CODATA 2018, 1.66053906660e-24 g
_A3_PER_AMU = 1.66053906660
#: draws of a stochastic composition before its number of species is called impossible
_COMPOSITIONS = 1000


@dataclass(frozen=True)
class Contents:
    """What one random cell will hold.

    Parameters
    ----------
    species, counts
        The species, by symbol, and how many atoms of each, those of units included.
    volume
        Volume of the cell in Å^3.
    volume_range
        Which range the volume was drawn from; "given" for one in absolute units that is not varied.
    """

    species: tuple[Species, ...]
    counts: tuple[int, ...]
    volume: float
    volume_range: VolumeRange

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell."""
        return sum(self.counts)


def volume_interval(
    species: Sequence[Species], counts: Sequence[int], settings: BuildSettings, *, formula_units: int = 1
) -> tuple[float, float]:
    """Return lowest and highest mean volume per atom in Å^3; equal where a single value is asked for.

    Raises
    ------
    InputError
        No atoms, or not one count per species.
    """
    if len(species) != len(counts) or sum(counts) <= 0 or min(counts) < 0:
        raise InputError(
            f"{len(species)} species with counts {list(counts)}: give one non-negative count per species"
        )
    n_atoms = sum(counts)
    given = settings.volume
    if settings.shape.cell is not None:
        from ase.cell import Cell

        fixed = float(np.linalg.det(Cell.new(settings.shape.cell).array)) / n_atoms
        return fixed, fixed
    if given.per_atom:
        return given.per_atom
    if given.per_formula_unit:
        low, high = given.per_formula_unit
        return low * formula_units / n_atoms, high * formula_units / n_atoms
    if given.density_g_cm3:
        from ase.data import atomic_masses

        mass = sum(n * atomic_masses[s.number] for s, n in zip(species, counts, strict=True)) / n_atoms
        low, high = given.density_g_cm3
        return float(mass * _A3_PER_AMU / high), float(mass * _A3_PER_AMU / low)
    factor = {"covalent": settings.volume_in_r3_covalent, "metallic": settings.volume_in_r3_metallic}
    total = sum(n * factor[s.bonding] * s.radius**3 for s, n in zip(species, counts, strict=True))
    return total / n_atoms, total / n_atoms


def volume_per_atom(species: Sequence[Species], counts: Sequence[int], settings: BuildSettings) -> float:
    """Return the mean volume per atom of a formula unit in Å^3.

    That is 14.5 r^3 (covalent) or 5.5 r^3 (metallic) over the atoms where `settings.volume` says nothing, and the
    middle of a range.

    Raises
    ------
    InputError
        No atoms, or not one count per species.
    """
    low, high = volume_interval(species, counts, settings)
    return low if low == high else 0.5 * (low + high)


def _separation_ranges(species: Sequence[Species], settings: BuildSettings) -> NDArray[np.float64]:
    """Return the range of the minimum separation of each pair, (n, n, 2), Å."""
    r = np.array([s.radius for s in species])
    of_radii = np.asarray(settings.minimum_separation_in_r * 0.5 * (r[:, None] + r[None, :]))
    ranges = np.stack([of_radii, of_radii], axis=2)
    given = settings.separations
    if given.value:
        ranges[:] = given.value
    for i, one in enumerate(species):
        for j, other in enumerate(species):
            name = "-".join(sorted((one.symbol, other.symbol)))
            if name in given.pairs:
                ranges[i, j] = given.pairs[name]
    return ranges


def minimum_separations(species: Sequence[Species], settings: BuildSettings) -> NDArray[np.float64]:
    """Return the minimum separation of each pair, shape (n, n), Å.

    That is 1.8 times the mean of the two r where `settings.separations` says nothing, and the lower end of a range.
    """
    return np.ascontiguousarray(_separation_ranges(species, settings)[:, :, 0])


def draw_separations(
    rng: np.random.Generator, species: Sequence[Species], settings: BuildSettings
) -> NDArray[np.float64]:
    """Return the minimum separation of each pair for one cell, shape (n, n), Å; ranges are drawn from."""
    low, high = np.moveaxis(_separation_ranges(species, settings), 2, 0)
    if (low == high).all():
        return np.ascontiguousarray(low)
    upper = np.triu(rng.random(low.shape))
    return np.asarray(low + (high - low) * (upper + np.triu(upper, k=1).T))


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
    if settings.contents.formula_units is not None:
        return [unit * n for n in settings.contents.formula_units]
    if settings.contents.composition != "formula":
        return list(range(settings.atoms_min, settings.atoms_max + 1))
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
    numbers. Where the formula unit or the range allows one parity only, that one is used. A volume that is given as a
    range or exact is neither.

    Raises
    ------
    InputError
        See `atom_counts`; or a species of the composition is missing from `species`.
    BuildError
        No stochastic composition has the number of species asked for.
    """
    allowed = atom_counts(composition, settings)
    missing = sorted(set(composition) - set(species))
    if missing:
        raise InputError(f"no species given for {', '.join(missing)}: add them to `species`")
    # always the same number of draws, so that the stream does not shift between settings
    u_range, u_parity, u_number, u_volume = rng.random(4)
    given = settings.volume
    target = given.per_atom or given.per_formula_unit or given.density_g_cm3
    as_given = (
        settings.shape.cell is not None or given.exact or (target is not None and target[0] < target[1])
    )
    wide = not as_given and generation == 0 and u_range < settings.initial_wide_fraction
    odd = not wide and u_parity < settings.odd_fraction
    of_parity = [n for n in allowed if n % 2 == int(odd)] or allowed
    n_atoms = of_parity[int(u_number * len(of_parity))]
    symbols = sorted(composition)
    units = n_atoms // sum(composition.values())
    if settings.contents.composition == "formula":
        drawn = [units * composition[s] for s in symbols]
    else:
        drawn = _stochastic(rng, n_atoms, [composition[s] for s in symbols], symbols, settings)
    chosen = tuple(species[s] for s, n in zip(symbols, drawn, strict=True) if n)
    counts = tuple(n for n in drawn if n)
    low, high = volume_interval(chosen, counts, settings, formula_units=units)
    if as_given:
        volume = n_atoms * (low + (high - low) * u_volume)
    else:
        spread = settings.wide_volume_spread if wide else settings.narrow_volume_spread
        volume = n_atoms * low * (1 + spread * (2 * u_volume - 1))
    volume_range: VolumeRange = "given" if as_given else "wide" if wide else "narrow"
    return Contents(species=chosen, counts=counts, volume=volume, volume_range=volume_range)


def _stochastic(
    rng: np.random.Generator,
    n_atoms: int,
    formula: Sequence[int],
    symbols: Sequence[str],
    settings: BuildSettings,
) -> list[int]:
    """Return atoms of each species for a stochastic composition; all of them may be of one species."""
    wanted = settings.contents
    weights = np.array(
        [wanted.weights.get(s, 0.0) for s in symbols] if wanted.weights else formula, dtype=float
    )
    if not weights.sum() or set(wanted.weights) - set(symbols):
        raise InputError(
            f"contents.weights names {', '.join(sorted(wanted.weights))}, the composition has "
            f"{', '.join(symbols)}: give weights of its species"
        )
    for _ in range(_COMPOSITIONS):
        if wanted.composition == "random":
            cuts = np.sort(rng.integers(0, n_atoms + 1, size=len(symbols) - 1))
            counts = np.diff(np.concatenate(([0], cuts, [n_atoms])))
        else:
            counts = rng.multinomial(n_atoms, weights / weights.sum())
        if wanted.species_present is None or int((counts > 0).sum()) in wanted.species_present:
            return [int(n) for n in counts]
    raise BuildError(
        f"contents.species_present = {list(wanted.species_present or ())}: none of {_COMPOSITIONS} compositions of "
        f"{n_atoms} atoms of {', '.join(symbols)} has so many species; change species_present or the atom counts"
    )
