"""Crystals whose sites are occupied in part: from a CIF or a short record, in the cell that models are drawn in.

An average structure from diffraction gives each site a share of the atoms that sit there. `OccupiedCrystal` holds all
positions of one cell with those shares; `gapfactory.build.discrete` draws structures with whole atoms from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory._spglib import ask_spglib
from gapfactory.errors import InputError
from gapfactory.io.foreign import readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from ase.spacegroup import Spacegroup
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "OccupiedCrystal",
    "Setting",
    "Site",
    "crystal_from_sites",
    "partly_occupied",
    "read_occupied_crystal",
]

#: ``primitive``, ``conventional``; ``hexagonal`` is the conventional cell of a rhombohedral or hexagonal crystal
Setting = Literal["as-given", "primitive", "conventional", "hexagonal"]

#: Å; published coordinates are rounded to 4-5 digits of cells up to 25 Å
_SYMPREC = 0.02
#: fractional; positions of one orbit that agree to this are one position
_SAME_POSITION = 1e-3
#: Å; positions of one orbit that differ by less are one special position with a wrong digit
_NEARLY_SPECIAL = 0.1
#: occupations are printed to 2-3 digits: shares that sum to this much above 1 are rounded ones
_ROUNDING = 0.015
_CIF = "a CIF of a crystal"
#: atomic mass unit per Å^3 in g/cm^3
_DENSITY = 1.66053906660


@dataclass(frozen=True)
class Site:
    """One independent site.

    Parameters
    ----------
    label
        Its name in the publication.
    occupants
        (Chemical symbol, share) of each species on it; what is missing to 1 is empty.
    """

    label: str
    occupants: tuple[tuple[str, float], ...]

    @property
    def occupation(self) -> float:
        """Share of the site's positions that hold an atom."""
        return min(1.0, sum(share for _, share in self.occupants))

    @property
    def is_full(self) -> bool:
        """Whether every position holds an atom of the same species."""
        return len(self.occupants) == 1 and self.occupants[0][1] >= 1.0


@dataclass(frozen=True)
class OccupiedCrystal:
    """All positions of a cell, each belonging to a site.

    Parameters
    ----------
    cell
        (3, 3) lattice vectors in rows, Å.
    sites
        Independent sites.
    positions
        (n, 3) fractional, in [0, 1).
    site_of
        (n,) index of the site of each position.
    source
        Publication or file.
    """

    cell: NDArray[np.float64]
    sites: tuple[Site, ...]
    positions: NDArray[np.float64]
    site_of: NDArray[np.int64]
    source: str = ""

    def __post_init__(self) -> None:
        from ase.data import atomic_numbers

        labels = [site.label for site in self.sites]
        if not labels or len(set(labels)) != len(labels):
            raise InputError(f"sites {labels} must be at least one, each with a label of its own")
        _check_volume(self.cell)
        for site in self.sites:
            where = f"site {site.label}"
            if unknown := [s for s, _ in site.occupants if s not in atomic_numbers or s == "X"]:
                raise InputError(f"{where}: {unknown[0]!r} is no chemical symbol")
            if len({s for s, _ in site.occupants}) != len(site.occupants):
                raise InputError(f"{where}: a species is named twice; add its shares")
            shares = [share for _, share in site.occupants]
            if not shares or not all(0.0 < s <= 1.0 for s in shares) or sum(shares) > 1.0 + _ROUNDING:
                raise InputError(
                    f"{where}: occupations {shares} must be above 0 and sum to at most 1; leave out a species "
                    "that is not there"
                )

    @property
    def multiplicities(self) -> dict[str, int]:
        """Positions of each site in this cell."""
        counts = np.bincount(self.site_of, minlength=len(self.sites))
        return {site.label: int(n) for site, n in zip(self.sites, counts, strict=True)}

    @property
    def composition(self) -> dict[str, float]:
        """Mean number of atoms of each species in this cell."""
        found: dict[str, float] = {}
        for site, n in zip(self.sites, self.multiplicities.values(), strict=True):
            for symbol, share in site.occupants:
                found[symbol] = found.get(symbol, 0.0) + share * n
        return found

    @property
    def density(self) -> float:
        """Mean density in g/cm^3."""
        from ase.data import atomic_masses, atomic_numbers

        mass = sum(n * atomic_masses[atomic_numbers[s]] for s, n in self.composition.items())
        return float(mass / abs(np.linalg.det(self.cell)) * _DENSITY)

    def with_occupations(self, shares: Mapping[str, float | Mapping[str, float]]) -> OccupiedCrystal:
        """Return a copy with other occupations of the named sites.

        Parameters
        ----------
        shares
            Label -> share of the species that is there, or species -> share.

        Raises
        ------
        InputError
            A label is unknown, or a site of several species is given one number.
        """
        known = {site.label for site in self.sites}
        if unknown := sorted(set(shares) - known):
            raise InputError(f"no site {unknown[0]!r}; there are: {', '.join(sorted(known))}")
        return replace(self, sites=tuple(_with_share(s, shares.get(s.label)) for s in self.sites))

    def in_setting(self, setting: Setting) -> OccupiedCrystal:
        """Return the same crystal in another cell: spglib's, found for the sites and not only for the species.

        Raises
        ------
        InputError
            spglib finds no symmetry, or ``hexagonal`` is asked of another lattice.
        """
        if setting == "as-given":
            return self
        found = ask_spglib(
            "standardize_cell",
            (self.cell.tolist(), self.positions.tolist(), (self.site_of + 1).tolist()),
            to_primitive=setting == "primitive",
            no_idealize=True,
            symprec=_SYMPREC,
        )
        if found is None:
            raise InputError(
                f"no symmetry found in {self.source or 'the crystal'}; do two of its sites coincide?"
            )
        lattice, positions, numbers = (np.array(part) for part in found)
        if setting == "hexagonal" and not _is_hexagonal(lattice):
            raise InputError(
                "only rhombohedral and hexagonal crystals have a hexagonal cell; ask for 'conventional'"
            )
        return self._with_positions(lattice, positions, numbers - 1)

    def supercell(self, matrix: ArrayLike) -> OccupiedCrystal:
        """Return a supercell.

        Parameters
        ----------
        matrix
            Three integers, or (3, 3) integers: rows are the new lattice vectors in units of the old ones.

        Raises
        ------
        InputError
            The matrix is not of integers, or has no volume.
        """
        from ase import Atoms
        from ase.build import make_supercell

        rows = np.array(matrix, dtype=float)
        rows = np.diag(rows) if rows.shape == (3,) else rows
        if rows.shape != (3, 3) or not np.allclose(rows, np.rint(rows)) or np.linalg.det(rows) < 0.5:
            raise InputError(
                f"supercell {rows.tolist()}: give three positive integers, or 3 x 3 with positive determinant"
            )
        plain = Atoms(self.site_of + 1, cell=self.cell, scaled_positions=self.positions, pbc=True)
        made = make_supercell(plain, np.rint(rows).astype(int))
        return self._with_positions(made.cell.array, made.get_scaled_positions(), made.numbers - 1)

    def _with_positions(self, cell: ArrayLike, positions: ArrayLike, site_of: ArrayLike) -> OccupiedCrystal:
        """Return a copy in another cell, positions ordered by site."""
        order = np.argsort(site_of, kind="stable")
        return replace(
            self,
            cell=np.array(cell, dtype=float),
            positions=np.asarray(positions, dtype=float)[order] % 1.0,
            site_of=np.asarray(site_of, dtype=np.int64)[order],
        )


def _with_share(site: Site, share: float | Mapping[str, float] | None) -> Site:
    if share is None:
        return site
    if isinstance(share, Mapping):
        return replace(site, occupants=tuple((s, float(v)) for s, v in share.items()))
    if len(site.occupants) != 1:
        raise InputError(f"site {site.label} holds {dict(site.occupants)}: give a share for each species")
    return replace(site, occupants=((site.occupants[0][0], float(share)),))


def _check_volume(cell: NDArray[np.float64]) -> None:
    if not np.isfinite(cell).all() or abs(float(np.linalg.det(cell))) < 1e-6:
        raise InputError(f"cell {cell.tolist()} has no volume; give a, b, c in Å and angles in degrees")


def _is_hexagonal(lattice: NDArray[np.float64]) -> bool:
    a, b, c = lattice
    la, lb, lc = (float(np.linalg.norm(v)) for v in lattice)
    return (
        abs(la - lb) < _SYMPREC
        and abs(float(a @ b) / (la * lb) + 0.5) < 1e-3
        and max(abs(float(a @ c)) / (la * lc), abs(float(b @ c)) / (lb * lc)) < 1e-3
    )


def crystal_from_sites(
    space_group: int,
    cell: Sequence[float],
    sites: Sequence[tuple[str, str | Mapping[str, float], Sequence[float]]],
    *,
    setting: int = 1,
    source: str = "",
) -> OccupiedCrystal:
    """Return a crystal from its independent sites, in the conventional cell.

    Parameters
    ----------
    space_group
        International Tables number.
    cell
        a, b, c in Å; alpha, beta, gamma in degrees.
    sites
        (label, symbol or {symbol: share}, fractional coordinates) of each site.
    setting
        Origin choice, as `ase.spacegroup` counts it.
    source
        Publication.

    Raises
    ------
    InputError
        The record contradicts itself: coinciding sites, or occupations above 1.
    """
    from ase.geometry import cellpar_to_cell
    from ase.spacegroup import Spacegroup

    group = Spacegroup(space_group, setting)
    records = [
        (
            Site(
                label,
                ((what, 1.0),) if isinstance(what, str) else tuple((s, float(v)) for s, v in what.items()),
            ),
            np.array(point, dtype=float),
        )
        for label, what, point in sites
    ]
    return _expanded(group, np.array(cellpar_to_cell(cell), dtype=float), records, source)


def partly_occupied(path: str | PathLike[str]) -> list[str]:
    """Return the labels of the atoms of a CIF that are not there always, in all of its structures.

    Raises
    ------
    InputError
        The file is no CIF.
    """
    from ase.io.cif import parse_cif

    found: list[str] = []
    with readable(str(path), _CIF), Path(path).open(encoding="utf-8", errors="replace") as file:
        for block in parse_cif(file):
            if block.has_structure():
                shares = block.get("_atom_site_occupancy")
                if shares is None:  # where a CIF gives none, every atom is there always
                    continue
                labels = block.get("_atom_site_label") or [f"atom {k + 1}" for k in range(len(shares))]
                found += [
                    str(label) for label, share in zip(labels, shares, strict=True) if _number(share) < 1.0
                ]
    return found


def read_occupied_crystal(path: str | PathLike[str]) -> OccupiedCrystal:
    """Read the first structure of a CIF with its site occupations, in the cell of the file.

    Atoms of a file at the same coordinates are one site of several species.

    Raises
    ------
    InputError
        The file holds no structure, a coordinate is missing, or the structure contradicts itself.
    """
    from ase.io.cif import parse_cif

    with readable(str(path), _CIF), Path(path).open(encoding="utf-8", errors="replace") as file:
        block = next((b for b in parse_cif(file) if b.has_structure()), None)
        if block is None:
            raise InputError(f"{path}: no structure in this CIF (cell, symbols and coordinates are needed)")
        independent = block.get_unsymmetrized_structure()
        coordinates = np.array(independent.get_scaled_positions(wrap=False), dtype=float, ndmin=2)
        symbols = independent.get_chemical_symbols()
        group = block.get_spacegroup(subtrans_included=True)
        cell = np.array(independent.cell.array, dtype=float)
    if not symbols:
        raise InputError(f"{path}: no atoms in this CIF (symbols and coordinates are needed)")
    if coordinates.shape != (len(symbols), 3) or not np.isfinite(coordinates).all():
        raise InputError(f"{path}: every atom needs three fractional coordinates; '?' and '.' are none")
    labels = [
        str(v) for v in (block.get("_atom_site_label") or [f"{s}{i + 1}" for i, s in enumerate(symbols)])
    ]
    shares = [_number(v) for v in (block.get("_atom_site_occupancy") or [1.0] * len(symbols))]
    merged: list[tuple[list[str], dict[str, float], NDArray[np.float64]]] = []
    for label, symbol, share, point in zip(labels, symbols, shares, coordinates, strict=True):
        for names, occupants, first in merged:
            if np.all(np.abs((point - first) - np.rint(point - first)) < _SAME_POSITION):
                names.append(label)
                occupants[symbol] = occupants.get(symbol, 0.0) + share
                break
        else:
            merged.append(([label], {symbol: share}, point))
    records = [(Site("/".join(names), tuple(held.items())), point) for names, held, point in merged]
    return _expanded(group, cell, records, str(path))


def _number(value: object) -> float:
    """Return a CIF's occupation; what the file leaves open ('?', '.') is 1 by the CIF dictionary."""
    try:
        found = float(str(value))
    except ValueError:
        return 1.0
    return found if math.isfinite(found) else 1.0


def _expanded(
    group: Spacegroup, cell: NDArray[np.float64], records: list[tuple[Site, NDArray[np.float64]]], source: str
) -> OccupiedCrystal:
    """Apply the space group to each site; refuse sites that fall on each other."""
    _check_volume(cell)
    positions: list[NDArray[np.float64]] = []
    site_of: list[NDArray[np.int64]] = []
    order = len(group.get_symop())
    for index, (site, point) in enumerate(records):
        orbit, _ = group.equivalent_sites([point], symprec=_SAME_POSITION)
        apart = orbit[:, None, :] - orbit[None, 1:, :]
        apart = np.linalg.norm((apart - np.rint(apart)) @ cell, axis=2)[
            np.triu_indices(len(orbit), 0, len(orbit) - 1)
        ]
        if order % len(orbit) or (len(apart) and apart.min() < _NEARLY_SPECIAL):
            raise InputError(
                f"site {site.label} at {point.round(5).tolist()} expands to {len(orbit)} positions, some nearly on "
                "each other: it is near a special position but not on it; correct the coordinate"
            )
        for other, seen in zip(records, positions, strict=False):
            difference = orbit[0] - seen
            if np.any(np.all(np.abs(difference - np.rint(difference)) < _SAME_POSITION, axis=1)):
                raise InputError(
                    f"sites {other[0].label} and {site.label} are the same by symmetry; keep one of them"
                )
        positions.append(orbit % 1.0)
        site_of.append(np.full(len(orbit), index))
    return OccupiedCrystal(
        cell, tuple(site for site, _ in records), np.concatenate(positions), np.concatenate(site_of), source
    )
