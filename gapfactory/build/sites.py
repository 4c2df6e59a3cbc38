"""Special positions of a space group, found as fixed points of its operations.

A site is an affine subspace x = origin + sum_k u_k direction_k of the primitive cell, every generic point of which has
the same number of symmetry images (its multiplicity). A subset of operations S = (R, t + T), T a lattice translation, has
the fixed points (R - 1) x = -(t + T); that system has a solution exactly when the affine group generated has finite
order (no screw or glide residue). Sites are listed once per class of symmetry-equivalent ones, so they are the
group's Wyckoff positions; a random point of a site is exact and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.symmetry import SpaceGroup, space_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Site", "fill", "sites"]

_TRANSLATIONS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)
_WIDE_TRANSLATIONS = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)), dtype=float)
_SMALL_VECTORS = np.array(
    sorted((v for v in product(range(-3, 4), repeat=3) if any(v)), key=lambda v: (sum(c * c for c in v), v)),
    float,
)
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


def _null_directions(matrix: NDArray[np.float64], dimension: int) -> NDArray[np.float64]:
    """Return a primitive integer basis (rows) of the null space of an integer matrix."""
    if dimension == 3:
        return np.eye(3)
    inside = _SMALL_VECTORS[np.abs(_SMALL_VECTORS @ matrix.T).max(axis=1) < _TOLERANCE]
    first = inside[0]  # the shortest: coprime components
    if dimension == 1:
        return first[None, :]
    for second in inside[1:]:
        cross = np.rint(np.cross(first, second)).astype(int)
        if np.gcd.reduce(cross) == 1:
            return np.array([first, second])
    raise AssertionError("a lattice plane has a primitive basis of short vectors")


def _fixed_points(rotations: NDArray[np.float64], shifts: NDArray[np.float64]) -> Site | None:
    """Return the common fixed points of affine operations (m, 3, 3), (m, 3); multiplicity not yet known (0)."""
    matrix = (rotations - np.eye(3)).reshape(-1, 3)
    target = -shifts.reshape(-1)
    origin, _, rank, _ = np.linalg.lstsq(matrix, target, rcond=1e-8)
    if np.abs(matrix @ origin - target).max() > _TOLERANCE:
        return None
    if rank == 3:
        return Site(0, origin, np.zeros((0, 3)))
    return Site(0, origin, _null_directions(matrix, 3 - int(rank)))


def _orbit_size(group: SpaceGroup, point: NDArray[np.float64]) -> int:
    images = group.rotations @ point + group.translations
    delta = images - images[0]
    same = np.abs(delta - np.rint(delta)).max(axis=1) < _TOLERANCE
    return group.order // int(same.sum())


def _equivalent(group: SpaceGroup, one: Site, other: Site) -> bool:
    """Whether some operation of the group (with lattice translations) maps a generic point of `one` into `other`."""
    point = one.origin + _GENERIC[: one.dimension] @ one.directions
    images = group.rotations @ point + group.translations - other.origin
    images = (images - np.rint(images))[:, None, :] + _WIDE_TRANSLATIONS[None, :, :]
    flat = images.reshape(-1, 3)
    if other.dimension:
        basis = other.directions.T
        flat = flat - flat @ np.linalg.pinv(basis).T @ basis.T
    return bool((np.abs(flat).max(axis=1) < _TOLERANCE).any())


@lru_cache(maxsize=230)
def sites(number: int) -> tuple[Site, ...]:
    """Return the positions of a space group, general position first, each class of equivalent sites once."""
    group = space_group(number)
    general = Site(group.order, np.zeros(3), np.eye(3))
    found = [general]
    # each found site remembers the operations that define it; intersect with one more operation at a time
    frontier: list[tuple[Site, NDArray[np.float64], NDArray[np.float64]]] = [
        (general, np.zeros((0, 3, 3)), np.zeros((0, 3)))
    ]
    while frontier:
        parent, rotations, shifts = frontier.pop(0)
        for k in range(1, group.order):
            for extra in _TRANSLATIONS:
                more_rotations = np.concatenate([rotations, group.rotations[k : k + 1].astype(float)])
                more_shifts = np.concatenate([shifts, (group.translations[k] + extra)[None, :]])
                site = _fixed_points(more_rotations, more_shifts)
                if site is None or site.dimension >= parent.dimension:
                    continue
                point = site.origin + _GENERIC[: site.dimension] @ site.directions
                site = Site(_orbit_size(group, point), site.origin, site.directions)
                if any(
                    old.multiplicity == site.multiplicity
                    and old.dimension == site.dimension
                    and _equivalent(group, site, old)
                    for old in found
                ):
                    continue
                found.append(site)
                frontier.append((site, more_rotations, more_shifts))
    return tuple(found)


@lru_cache(maxsize=65536)
def fill(number: int, counts: tuple[int, ...]) -> tuple[tuple[int, ...], ...] | None:
    """Return multiplicities that add up to the atoms of each species, or None when the group cannot hold them.

    The largest multiplicities first, so that general positions are preferred (AIRSS's rule). Sites without free
    parameters are used once.

    Parameters
    ----------
    number
        Space group.
    counts
        Atoms of each species.
    """
    available: dict[int, int] = {}  # multiplicity -> how often it can be used
    for site in sites(number):
        uses = 1 if site.dimension == 0 else 10**6
        available[site.multiplicity] = available.get(site.multiplicity, 0) + uses
    sizes = sorted(available, reverse=True)

    def search(species: int, left: int, start: int, chosen: list[list[int]]) -> bool:
        if left == 0:
            if species + 1 == len(counts):
                return True
            chosen.append([])
            if search(species + 1, counts[species + 1], 0, chosen):
                return True
            chosen.pop()
            return False
        for k in range(start, len(sizes)):
            size = sizes[k]
            if size <= left and available[size]:
                available[size] -= 1
                chosen[species].append(size)
                if search(species, left - size, k, chosen):
                    return True
                chosen[species].pop()
                available[size] += 1
        return False

    chosen: list[list[int]] = [[]]
    return tuple(tuple(c) for c in chosen) if search(0, counts[0], 0, chosen) else None


def choose(
    rng: np.random.Generator, number: int, multiplicities: Sequence[Sequence[int]]
) -> list[list[Site]]:
    """Draw, uniformly, a site of each wanted multiplicity; sites without free parameters at most once.

    `multiplicities` comes from `fill`. Sites with free parameters are preferred only by their number.
    """
    free = list(sites(number))
    result: list[list[Site]] = []
    for wanted in multiplicities:
        row: list[Site] = []
        for size in wanted:
            candidates = [k for k, s in enumerate(free) if s.multiplicity == size]
            pick = candidates[int(rng.integers(len(candidates)))]
            row.append(free[pick])
            if free[pick].dimension == 0:
                del free[pick]
        result.append(row)
    return result
