"""Ranking of what searches found: lowest enthalpy first, equal structures united and counted, as AIRSS's tools show it.

Structures are sorted before any are compared. Two of one composition are compared only where enthalpy and volume per
atom are nearly the same; the similarity of averaged SOAP vectors and then a comparison of lattices and positions
(`gapfactory.analysis.matching`) decide. Where the geometry of one was not kept, equal space groups do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from gapfactory._spglib import space_group_number, space_group_of
from gapfactory.analysis.matching import (
    MatchSettings,
    Target,
    prepare_target,
    shape_vectors,
    strain_of_match,
)
from gapfactory.errors import InputError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["Candidate", "RankSettings", "Ranked", "Ranking", "rank_structures"]

#: Structures whose SOAP vectors are computed at once; changes speed, never results.
_CHUNK = 128


class RankSettings(Settings):
    """When two structures of a ranking are the same one.

    Relaxed structures come close to their minimum: tolerances are tighter than those of `MatchSettings` alone, which
    compares with ideal crystals. Measured on 1000 relaxed cells each of 8 and of 12 boron atoms by DFT.
    """

    enthalpy_tolerance: float = Field(default=0.01, ge=0)
    """Largest difference of the enthalpies, in eV/atom."""
    volume_tolerance: float = Field(default=0.02, ge=0, lt=1)
    """Largest relative difference of the volumes per atom."""
    match: MatchSettings = MatchSettings(least_similarity=0.998)
    """When lattices and positions agree, and how similar SOAP vectors must be to compare them."""
    symprec: float = Field(default=0.1, gt=0)
    """Tolerance with which spglib looks for the space group, in Å."""


@dataclass(frozen=True)
class Candidate:
    """One structure that a search found.

    Parameters
    ----------
    name
        Its key.
    numbers
        Atomic numbers (N,).
    enthalpy
        eV per atom.
    volume
        Å^3 per atom.
    atoms
        The structure, periodic in three directions, or None where its geometry was not kept.
    pressure
        GPa.
    copies
        How many times it was found.
    space_group
        International number where the geometry was not kept, or None.
    search
        Which search found it.
    """

    name: str
    numbers: NDArray[np.int64]
    enthalpy: float
    volume: float
    atoms: Atoms | None = None
    pressure: float = 0.0
    copies: int = 1
    space_group: int | None = None
    search: str = ""

    @cached_property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """Atomic number and number of atoms of each element in a formula unit, ascending."""
        found = Counter(self.numbers.tolist())
        return tuple((z, n // self.formula_units) for z, n in sorted(found.items()))

    @cached_property
    def formula_units(self) -> int:
        """How many formula units the cell holds."""
        return int(np.gcd.reduce(list(Counter(self.numbers.tolist()).values())))

    @property
    def formula(self) -> str:
        """The reduced formula, as `gapfactory.structures.composition_of` writes it."""
        from ase import Atoms

        from gapfactory.structures import composition_of

        return composition_of(Atoms(self.numbers))


@dataclass(frozen=True)
class Ranked:
    """One line of a ranking: the lowest of the structures that are the same.

    Parameters
    ----------
    structure
        It.
    relative
        Enthalpy above the lowest structure of its composition, eV/atom.
    above_hull
        Enthalpy above the convex hull of all compositions, eV/atom; None where there is one composition.
    copies
        How many times it was found, counting all of `members`.
    members
        Names of those that are the same, lowest first.
    symbol, number
        Space group by Hermann and Mauguin and its number; empty and None where spglib finds none.
    primitive_atoms
        Atoms in its primitive cell; None without geometry.
    """

    structure: Candidate
    relative: float
    above_hull: float | None
    copies: int
    members: tuple[str, ...]
    symbol: str = ""
    number: int | None = None
    primitive_atoms: int | None = None

    def row(self, place: int) -> dict[str, Any]:
        """Return plain numbers, units in the names; `place` is its number in the ranking."""
        s = self.structure
        return {
            "rank": place,
            "name": s.name,
            "formula": s.formula,
            "atoms": len(s.numbers),
            "formula_units": s.formula_units,
            "primitive_atoms": self.primitive_atoms,
            "pressure_GPa": s.pressure,
            "volume_A3_per_atom": s.volume,
            "enthalpy_eV_per_atom": s.enthalpy,
            "relative_eV_per_atom": self.relative,
            "above_hull_eV_per_atom": self.above_hull,
            "space_group": self.symbol,
            "space_group_number": self.number,
            "copies": self.copies,
            "search": s.search,
        }


@dataclass(frozen=True)
class Ranking:
    """What is shown of a search.

    Parameters
    ----------
    entries
        In order.
    considered, within
        Structures that were given, and those of them within the window.
    compositions
        How many there are.
    """

    entries: tuple[Ranked, ...]
    considered: int
    within: int
    compositions: int


def rank_structures(
    found: Sequence[Candidate],
    settings: RankSettings | None = None,
    *,
    within: float | None = None,
    top: int | None = None,
    unite: bool = True,
    best_per_composition: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Ranking:
    """Order structures by enthalpy and unite those that are the same.

    With one composition the order is that of the enthalpy per atom, with several that of the height above the convex
    hull of enthalpy over composition. Structures of equal enthalpy are ordered by name, so that the result depends on
    nothing but the set of structures. A structure is compared with the lowest of each group, not with every member.

    Parameters
    ----------
    found
        Any order.
    settings
        Tolerances.
    within
        Only structures so far above the lowest of their composition, or the hull, in eV/atom.
    top
        Only so many entries.
    unite
        Whether equal structures are one entry.
    best_per_composition
        Only the lowest entry of each composition.
    progress
        Called with how many structures were looked at, and of how many.

    Raises
    ------
    InputError
        There are no structures, an enthalpy is not a number, or a structure is not periodic in three directions.
    """
    settings = settings or RankSettings()
    _require_usable(found)
    best: dict[tuple[tuple[int, int], ...], float] = {}
    for one in found:
        best[one.counts] = min(best.get(one.counts, np.inf), one.enthalpy)
    hull = _above_hull(best) if len(best) > 1 else dict.fromkeys(best, 0.0)
    scored = sorted(
        ((one.enthalpy - best[one.counts] + hull[one.counts], one.name, k) for k, one in enumerate(found))
    )
    kept = [(found[k], height) for height, _, k in scored if within is None or height <= within]
    groups = _Groups(settings, [one for one, _ in kept])
    entries: list[_Group] = []
    shown: set[tuple[tuple[int, int], ...]] = set()
    for number, (one, height) in enumerate(kept, 1):
        full = top is not None and len(entries) >= top
        # a full list still counts those that are the same as its last ones
        if full and height > entries[-1].height + settings.enthalpy_tolerance:
            break
        group = groups.join(number - 1) if unite else None
        if group is None and not full and not (best_per_composition and one.counts in shown):
            shown.add(one.counts)
            entries.append(groups.begin(one, height))
        if progress is not None:
            progress(number, len(kept))
    several = len(best) > 1
    ranked = tuple(
        _described(
            Ranked(
                structure=group.lowest,
                relative=group.lowest.enthalpy - best[group.lowest.counts],
                above_hull=group.height if several else None,
                copies=sum(one.copies for one in group.members),
                members=tuple(one.name for one in group.members),
            ),
            settings.symprec,
        )
        for group in entries
    )
    return Ranking(ranked, len(found), len(kept), len(best))


def _require_usable(found: Sequence[Candidate]) -> None:
    if not found:
        raise InputError("there are no structures to rank")
    for one in found:
        if not np.isfinite(one.enthalpy) or not one.volume > 0:
            raise InputError(
                f"{one.name}: enthalpy {one.enthalpy} eV/atom, volume {one.volume} Å^3/atom: leave it out"
            )
        if one.atoms is not None and not (one.atoms.pbc.all() and one.atoms.cell.rank == 3):
            raise InputError(f"{one.name} is not periodic in three directions; only crystals are ranked")


def _described(entry: Ranked, symprec: float) -> Ranked:
    atoms = entry.structure.atoms
    if atoms is None:
        return replace(entry, number=entry.structure.space_group)
    group = space_group_of(atoms, symprec)
    if group is None:
        return entry
    return replace(entry, symbol=group.symbol, number=group.number, primitive_atoms=group.primitive_atoms)


def _above_hull(
    best: dict[tuple[tuple[int, int], ...], float],
) -> dict[tuple[tuple[int, int], ...], float]:
    """Return how far the lowest structure of each composition lies above the hull of all of them, in eV/atom.

    The hull at a composition is the lowest enthalpy of any mixture of the others that has it: a linear programme, which
    needs no elements at the corners, and holds in any number of dimensions.
    """
    from scipy.optimize import linprog

    elements = sorted({z for counts in best for z, _ in counts})
    fractions = np.zeros((len(best), len(elements)))
    for row, counts in enumerate(best):
        for z, n in counts:
            fractions[row, elements.index(z)] = n
    fractions /= fractions.sum(axis=1, keepdims=True)
    enthalpies = np.array(list(best.values()))
    zero = enthalpies.min()
    found = {}
    for row, counts in enumerate(best):
        result = linprog(
            enthalpies - zero, A_eq=fractions.T, b_eq=fractions[row], bounds=(0, None), method="highs"
        )
        # below it lies nothing; what is left is rounding
        above = enthalpies[row] - zero - float(result.fun)
        found[counts] = above if above > 1e-9 else 0.0
    return found


@dataclass
class _Group:
    lowest: Candidate
    height: float
    members: list[Candidate]
    vector: NDArray[np.float64] | None
    target: Target | None = None
    number: int | None = None


class _Groups:
    """Structures that are the same, found one after the other in the order of `rank_structures`."""

    def __init__(self, settings: RankSettings, order: Sequence[Candidate]) -> None:
        self.settings = settings
        self._order = order
        self._species = sorted({int(z) for one in order for z in one.numbers})
        #: of one composition ascending in enthalpy
        self._groups: dict[tuple[tuple[int, int], ...], list[_Group]] = {}
        self._vectors: dict[int, NDArray[np.float64]] = {}
        self._last: NDArray[np.float64] | None = None

    def join(self, place: int) -> _Group | None:
        """Put a structure to the group that it belongs to, and return that; None: it is like none before."""
        one = self._order[place]
        self._last = None if one.atoms is None else self._vector(place)
        tolerance = self.settings.enthalpy_tolerance
        near = takewhile(
            lambda group: one.enthalpy - group.lowest.enthalpy <= tolerance,
            reversed(self._groups.get(one.counts, [])),
        )
        low = 1.0 - self.settings.volume_tolerance
        alike = [g for g in reversed(list(near)) if low <= one.volume / g.lowest.volume <= 1.0 / low]
        # the most similar first: it is nearly always the one, and a comparison of positions takes longest
        for group in sorted(alike, key=lambda g: -self._similarity(g)):
            if self._same(group, one):
                group.members.append(one)
                return group
        return None

    def begin(self, one: Candidate, height: float) -> _Group:
        """Begin a group with the structure that was asked for last."""
        group = _Group(one, height, [one], self._last)
        self._groups.setdefault(one.counts, []).append(group)
        return group

    def _vector(self, place: int) -> NDArray[np.float64]:
        if place not in self._vectors:
            chunk = {
                k: atoms
                for k, one in enumerate(self._order[place : place + _CHUNK], place)
                if (atoms := one.atoms) is not None
            }
            vectors = shape_vectors(list(chunk.values()), self._species, self.settings.match)
            self._vectors = dict(zip(chunk, vectors, strict=True))
        return self._vectors[place]

    def _similarity(self, group: _Group) -> float:
        if group.vector is None or self._last is None:
            return 0.0
        return float(self._last @ group.vector)

    def _same(self, group: _Group, one: Candidate) -> bool:
        match = self.settings.match
        if group.lowest.atoms is None or one.atoms is None:
            if group.number is None:
                group.number = self._number(group.lowest)
            return group.number is not None and group.number == self._number(one)
        if self._similarity(group) < match.least_similarity:
            return False
        if group.target is None:
            group.target = prepare_target(group.lowest.atoms)
        if strain_of_match(one.atoms, group.target, match) is not None:
            return True
        # noise may hide a smaller cell in one of the two and not in the other
        own = prepare_target(one.atoms)
        other_size = len(own.atoms) != len(group.target.atoms)
        return other_size and strain_of_match(group.lowest.atoms, own, match) is not None

    def _number(self, one: Candidate) -> int | None:
        if one.atoms is None:
            return one.space_group
        return space_group_number(one.atoms, self.settings.symprec)
