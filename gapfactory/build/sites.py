"""Special positions of a space group, found as fixed points of its operations.

A site is an affine subspace x = origin + sum_k u_k direction_k of the primitive cell, every generic point of
which has the same number of symmetry images, its multiplicity. An operation x -> R x + t + T, T a lattice
translation, has the fixed points (R - 1) x = -(t + T), which have a solution exactly when it has finite order
(no screw or glide residue). Intersecting these subspaces, and keeping one of each class of
symmetry-equivalent ones, gives the Wyckoff positions of the group (1731 in all 230 groups). A random point of
a site is exact and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.symmetry import SpaceGroup, space_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LOOSE", "Site", "choose", "fill", "fill_general", "fillings", "sites", "sites_of"]

_TRANSLATIONS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)
_WIDE_TRANSLATIONS = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)), dtype=float)
_SMALL_VECTORS = np.array(
    sorted((v for v in product(range(-3, 4), repeat=3) if any(v)), key=lambda v: (sum(c * c for c in v), v)),
    float,
)
#: ways to fill the sites with one species that are looked at, and draws of ways that fit together
_WAYS, _WAY_DRAWS = 5000, 100
#: parameters of a generic point: no small linear relation with integer coefficients
_GENERIC = np.array([0.1234567, 0.3141593, 0.7182818])
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Site:
    """One special (or the general) position of a space group.

    Parameters
    ----------
    multiplicity
        Number of atoms in the primitive cell.
    origin
        A point of the subspace, (3,), fractional.
    directions
        Rows: integer basis of the subspace, (d, 3), d = 0-3. u uniform in [0, 1)^d gives uniform points.
    """

    multiplicity: int
    origin: NDArray[np.float64]
    directions: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """Number of free parameters; a site without any can be occupied once."""
        return len(self.directions)


#: Where an atom without symmetry is: anywhere, and only the identity acts on it.
LOOSE = Site(1, np.zeros(3), np.eye(3))


def _primitive_basis(vectors: NDArray[np.float64], dimension: int) -> NDArray[np.float64]:
    """Return a basis (rows) of the lattice line or plane from its short integer vectors, shortest first."""
    if dimension == 0:
        return np.zeros((0, 3))
    first = vectors[0]
    if dimension == 1:
        return first[None, :]
    for second in vectors[1:]:
        if np.gcd.reduce(np.rint(np.cross(first, second)).astype(int)) == 1:
            return np.array([first, second])
    raise AssertionError("a lattice plane of a space group has a primitive basis of short vectors")


def _orbit_size(group: SpaceGroup, point: NDArray[np.float64]) -> int:
    images = group.rotations @ point + group.translations
    delta = images - images[0]
    same = np.abs(delta - np.rint(delta)).max(axis=1) < _TOLERANCE
    return group.order // int(same.sum())


def _generic_point(site: Site) -> NDArray[np.float64]:
    return site.origin + _GENERIC[: site.dimension] @ site.directions


def _equivalent(group: SpaceGroup, one: Site, other: Site) -> bool:
    """Whether an operation of the group, lattice translations included, maps `one` into `other`."""
    images = group.rotations @ _generic_point(one) + group.translations - other.origin
    images -= np.rint(images)
    if not other.dimension:
        return bool((np.abs(images).max(axis=1) < _TOLERANCE).any())
    flat = (images[:, None, :] + _WIDE_TRANSLATIONS).reshape(-1, 3)
    flat -= flat @ np.linalg.pinv(other.directions) @ other.directions
    return bool((np.abs(flat).max(axis=1) < _TOLERANCE).any())


def _subsites(group: SpaceGroup, parent: Site) -> list[Site]:
    """Return the subspaces of a site that one more operation leaves fixed (with repetitions)."""
    result = []
    inside = _SMALL_VECTORS[
        np.linalg.norm(
            _SMALL_VECTORS - _SMALL_VECTORS @ np.linalg.pinv(parent.directions) @ parent.directions, axis=1
        )
        < _TOLERANCE
    ]
    for k in range(1, group.order):
        matrix = (group.rotations[k] - np.eye(3)) @ parent.directions.T  # (3, d): acts on the parameters u
        dimension = parent.dimension - int(np.linalg.matrix_rank(matrix, tol=_TOLERANCE))
        if dimension == parent.dimension:
            continue
        moved = (group.rotations[k] - np.eye(3)) @ parent.origin + group.translations[k]
        targets = -(moved - np.rint(moved)) - _TRANSLATIONS  # (27, 3)
        parameters = targets @ np.linalg.pinv(matrix).T
        solved = np.abs(parameters @ matrix.T - targets).max(axis=1) < _TOLERANCE
        fixed = inside[np.abs(inside @ (group.rotations[k] - np.eye(3)).T).max(axis=1) < _TOLERANCE]
        directions = _primitive_basis(fixed, dimension)
        origins = (parent.origin + parameters[solved] @ parent.directions) % 1.0
        for origin in np.unique(origins.round(6), axis=0, return_index=True)[1]:
            site = Site(0, origins[origin], directions)
            result.append(Site(_orbit_size(group, _generic_point(site)), site.origin, directions))
    return result


@lru_cache(maxsize=230)
def sites(number: int) -> tuple[Site, ...]:
    """Return the positions of a space group in its standard setting, see `sites_of`.

    Parameters
    ----------
    number
        International number of the space group, 1-230.
    """
    return sites_of(space_group(number))


def sites_of(group: SpaceGroup) -> tuple[Site, ...]:
    """Return the positions of a group, general position first, each class of equivalent sites once."""
    found = [Site(group.order, np.zeros(3), np.eye(3))]
    for parent in found:  # grows while it is walked
        for site in _subsites(group, parent):
            alike = (s for s in found if (s.multiplicity, s.dimension) == (site.multiplicity, site.dimension))
            if not any(_equivalent(group, site, old) for old in alike):
                found.append(site)
    return tuple(found)


@lru_cache(maxsize=230)
def _uses(number: int) -> dict[int, int]:
    """Return multiplicity -> how often sites of it can be used, -1 for any number of times."""
    uses: dict[int, int] = {}
    for site in sites(number):
        before = uses.get(site.multiplicity, 0)
        uses[site.multiplicity] = -1 if site.dimension or before < 0 else before + 1
    return uses


@lru_cache(maxsize=65536)
def fill(number: int, counts: tuple[int, ...]) -> tuple[tuple[int, ...], ...] | None:
    """Return multiplicities that add up to the atoms of each species, or None when the group cannot.

    The largest multiplicities come first, so that general positions are preferred (AIRSS's rule). Sites
    without free parameters are used once.

    Parameters
    ----------
    number
        International number of the space group.
    counts
        Atoms of each species.
    """
    uses = _uses(number)
    sizes = sorted(uses, reverse=True)

    @cache
    def search(
        species: int, left: int, start: int, used: tuple[int, ...]
    ) -> tuple[tuple[int, int], ...] | None:
        """Return (species, multiplicity) of every remaining orbit, those of one species descending."""
        if left == 0:
            return () if species + 1 == len(counts) else search(species + 1, counts[species + 1], 0, used)
        for k in range(start, len(sizes)):
            if sizes[k] > left or used[k] == 0:
                continue
            rest = used if used[k] < 0 else (*used[:k], used[k] - 1, *used[k + 1 :])
            tail = search(species, left - sizes[k], k, rest)
            if tail is not None:
                return ((species, sizes[k]), *tail)
        return None

    found = search(0, counts[0], 0, tuple(uses[size] for size in sizes))
    if found is None:
        return None
    return tuple(tuple(size for which, size in found if which == k) for k in range(len(counts)))


def fill_general(number: int, counts: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return multiplicities of general positions only; what is left of each species is loose (multiplicity 0)."""
    order = space_group(number).order
    return tuple((order,) * (n // order) + (0,) * (n % order) for n in counts)


@lru_cache(maxsize=65536)
def _ways(number: int, count: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Return the ways to place atoms of one species on at most `most` sites, multiplicities descending."""
    uses = _uses(number)
    sizes = sorted(uses, reverse=True)
    found: list[tuple[int, ...]] = []

    def search(left: int, start: int, taken: tuple[int, ...]) -> None:
        if left == 0:
            found.append(taken)
            return
        for k in range(start, len(sizes)):
            size = sizes[k]
            # the rest cannot be larger than this one
            if len(found) >= _WAYS or size * (most - len(taken)) < left:
                return
            if size <= left and not 0 <= uses[size] <= taken.count(size):
                search(left - size, k, (*taken, size))

    search(count, 0, ())
    return tuple(found)


def fillings(
    rng: np.random.Generator, number: int, counts: tuple[int, ...], extra: int
) -> tuple[tuple[int, ...], ...] | None:
    """Draw multiplicities with up to `extra` more sites per species than `fill` needs; None where that has no answer.

    The number of sites of each species is drawn first, uniformly among those possible, then one of its ways.

    Parameters
    ----------
    rng
        Source of the draws; without `extra` nothing is drawn.
    number
        International number of the space group.
    counts
        Atoms of each species.
    extra
        Additional inequivalent sites of each species at most.
    """
    fewest = fill(number, counts)
    if fewest is None or not extra:
        return fewest
    uses = _uses(number)
    by_sites: list[list[list[tuple[int, ...]]]] = []
    for n, row in zip(counts, fewest, strict=True):
        ways = _ways(number, n, len(row) + extra)
        lengths = sorted({len(way) for way in ways})
        by_sites.append([[way for way in ways if len(way) == length] for length in lengths])
    for _ in range(_WAY_DRAWS):
        drawn = []
        for groups in by_sites:
            ways_of_length = groups[int(rng.integers(len(groups)))]
            drawn.append(ways_of_length[int(rng.integers(len(ways_of_length)))])
        together = [size for way in drawn for size in way]
        if all(uses[size] < 0 or together.count(size) <= uses[size] for size in set(together)):
            return tuple(drawn)
    return fewest


def choose(
    rng: np.random.Generator, number: int, multiplicities: Sequence[Sequence[int]]
) -> list[list[Site]]:
    """Draw a site for each wanted multiplicity uniformly; one without free parameters is used at most once.

    Parameters
    ----------
    rng
        Source of the draws.
    number
        International number of the space group.
    multiplicities
        Of each species, from `fill`, `fillings` or `fill_general`.
    """
    free = list(sites(number))
    result: list[list[Site]] = []
    for wanted in multiplicities:
        row: list[Site] = []
        for size in wanted:
            if size == 0:
                row.append(LOOSE)
                continue
            candidates = [k for k, s in enumerate(free) if s.multiplicity == size]
            pick = candidates[int(rng.integers(len(candidates)))]
            row.append(free[pick])
            if free[pick].dimension == 0:
                del free[pick]
        result.append(row)
    return result
