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
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gapfactory.build.symmetry import SymmetryGroup

__all__ = ["LOOSE", "Allowed", "Site", "choose", "fill", "fill_general", "fillings", "sites"]

_TRANSLATIONS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)
_WIDE_TRANSLATIONS = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)), dtype=float)
_SMALL_VECTORS = np.array(
    sorted((v for v in product(range(-3, 4), repeat=3) if any(v)), key=lambda v: (sum(c * c for c in v), v)),
    float,
)
#: ways to fill the sites with one species that are looked at, and draws of ways that fit together
_WAYS, _WAY_DRAWS = 5000, 100
#: draws of sites for bodies of several kinds, some of which may want the same one
_CHOICES = 20
#: parameters of a generic point: no small linear relation with integer coefficients
_GENERIC = np.array([0.1234567, 0.3141593, 0.7182818])
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Site:
    """One special (or the general) position of a space group.

    Parameters
    ----------
    multiplicity
        Number of bodies on it in the primitive cell.
    origin
        A point of the subspace, (3,), in the basis of the group.
    directions
        Rows: basis of the subspace, (d, 3), d = 0-3: integer, so that u uniform in [0, 1)^d gives uniform points; of a
        point group orthonormal.
    stabiliser
        Numbers of the operations that leave each of its points in place.
    """

    multiplicity: int
    origin: NDArray[np.float64]
    directions: NDArray[np.float64]
    stabiliser: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """Number of free parameters; a site without any can be occupied once."""
        return len(self.directions)


#: Where an atom without symmetry is: anywhere, and only the identity acts on it.
LOOSE = Site(1, np.zeros(3), np.eye(3), (0,))

#: Numbers of the sites of a group on which each kind of body fits; None: on all of them.
Allowed = tuple[frozenset[int] | None, ...]


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


def _site(group: SymmetryGroup, origin: NDArray[np.float64], directions: NDArray[np.float64]) -> Site:
    """Return the site with this subspace."""
    point = origin + _GENERIC[: len(directions)] @ directions
    moved = group.rotations @ point + group.translations - point
    stays = np.flatnonzero(np.abs(moved - np.rint(moved)).max(axis=1) < _TOLERANCE)
    return Site(group.order // len(stays), origin, directions, tuple(int(k) for k in stays))


def _generic_point(site: Site) -> NDArray[np.float64]:
    return site.origin + _GENERIC[: site.dimension] @ site.directions


@cache
def _off(directions: bytes) -> NDArray[np.float64]:
    """Return the (3, 3) matrix that takes what lies along directions, rows as bytes, out of row vectors."""
    rows = np.frombuffer(directions).reshape(-1, 3)
    return np.eye(3) - np.linalg.pinv(rows) @ rows


@dataclass(frozen=True)
class _Fixed:
    """What a rotation leaves fixed of the vectors along some directions; the same in every group that has it.

    Attributes
    ----------
    matrix, inverse
        Of rotation minus identity on the (d,) parameters, (3, d), and its pseudo-inverse.
    directions
        Basis of the fixed vectors, rows.
    """

    matrix: NDArray[np.float64]
    inverse: NDArray[np.float64]
    directions: NDArray[np.float64]


@cache
def _fixed(rotation: bytes, directions: bytes) -> _Fixed | None:
    """Return what a rotation leaves fixed along directions, both as bytes; None where that is all of it."""
    turned = np.frombuffer(rotation).reshape(3, 3) - np.eye(3)
    rows = np.frombuffer(directions).reshape(-1, 3)
    matrix = turned @ rows.T  # acts on the parameters u
    dimension = len(rows) - int(np.linalg.matrix_rank(matrix, tol=_TOLERANCE))
    if dimension == len(rows):
        return None
    inside = _SMALL_VECTORS[np.linalg.norm(_SMALL_VECTORS @ _off(directions), axis=1) < _TOLERANCE]
    fixed = inside[np.abs(inside @ turned.T).max(axis=1) < _TOLERANCE]
    inverse: NDArray[np.float64] = np.asarray(np.linalg.pinv(matrix), dtype=np.float64)
    return _Fixed(matrix, inverse, _primitive_basis(fixed, dimension))


def _equivalent(group: SymmetryGroup, one: Site, other: Site) -> bool:
    """Whether an operation of the group, lattice translations included, maps `one` into `other`."""
    images = group.rotations @ _generic_point(one) + group.translations - other.origin
    images -= np.rint(images)
    if not other.dimension:
        return bool((np.abs(images).max(axis=1) < _TOLERANCE).any())
    flat = (images[:, None, :] + _WIDE_TRANSLATIONS).reshape(-1, 3)
    flat = flat @ _off(other.directions.tobytes())
    return bool((np.abs(flat).max(axis=1) < _TOLERANCE).any())


def _subspaces(
    group: SymmetryGroup, parent: Site
) -> Iterator[tuple[tuple[Any, ...], NDArray[np.float64], NDArray[np.float64]]]:
    """Return key, origin and directions of the subspaces of a site that one more operation leaves fixed.

    Those of one key are the same; others may be too.
    """
    along = parent.directions.tobytes()
    for k in range(1, group.order):
        rotation = np.asarray(group.rotations[k], dtype=float)
        fixed = _fixed(rotation.tobytes(), along)
        if fixed is None:
            continue
        moved = (rotation - np.eye(3)) @ parent.origin + group.translations[k]
        targets = -(moved - np.rint(moved)) - _TRANSLATIONS  # (27, 3)
        parameters = targets @ fixed.inverse.T
        solved = np.abs(parameters @ fixed.matrix.T - targets).max(axis=1) < _TOLERANCE
        origins = (parent.origin + parameters[solved] @ parent.directions) % 1.0
        first: dict[tuple[float, ...], int] = {}
        for number, key in enumerate(map(tuple, origins.round(6).tolist())):
            first.setdefault(key, number)
        basis = fixed.directions.tobytes()
        for key in sorted(first):
            yield (key, basis), origins[first[key]], fixed.directions


@lru_cache(maxsize=512)
def sites(group: SymmetryGroup) -> tuple[Site, ...]:
    """Return the positions of a group, general position first, each class of equivalent sites once.

    Those of a layer group are in the layer at z = 0: half-way between layers there is nothing.
    """
    if group.kind == "point":
        return _about_the_origin(group)
    found = [Site(group.order, np.zeros(3), np.eye(3), (0,))]
    seen = set()
    for parent in found:  # grows while it is walked
        for key, origin, directions in _subspaces(group, parent):
            if key in seen:
                continue
            seen.add(key)
            site = _site(group, origin, directions)
            alike = (s for s in found if (s.multiplicity, s.dimension) == (site.multiplicity, site.dimension))
            if not any(_equivalent(group, site, old) for old in alike):
                found.append(site)
    if group.kind == "layer":
        found = [s for s in found if s.directions[:, 2].any() or abs(s.origin[2]) < _TOLERANCE]
    return tuple(found)


def _about_the_origin(group: SymmetryGroup) -> tuple[Site, ...]:
    """Return the subspaces that operations of a point group leave in place."""
    matrices = group.rotations
    found = [np.eye(3)]  # projectors
    for parent in found:
        for matrix in matrices[1:]:
            # points of the parent's subspace that the operation leaves in place
            moved = (matrix - np.eye(3)) @ parent
            values, vectors = np.linalg.eigh((np.eye(3) - parent) + moved.T @ moved)
            basis = vectors[:, np.abs(values) < _TOLERANCE]
            new = basis @ basis.T
            images = matrices @ new @ matrices.transpose(0, 2, 1)
            if all(np.abs(images - old).max(axis=(1, 2)).min() > _TOLERANCE for old in found):
                found.append(new)
    result = []
    for projector in found:
        stays = np.flatnonzero(np.abs(matrices @ projector - projector).max(axis=(1, 2)) < _TOLERANCE)
        values, vectors = np.linalg.eigh(projector)
        directions = vectors[:, values > 0.5].T.copy()
        result.append(Site(group.order // len(stays), np.zeros(3), directions, tuple(int(k) for k in stays)))
    return tuple(result)


@lru_cache(maxsize=65536)
def _uses(group: SymmetryGroup, allowed: Allowed) -> dict[tuple[int, tuple[bool, ...]], int]:
    """Return how often sites of one multiplicity that take the same kinds can be used, -1 for any number of times."""
    uses: dict[tuple[int, tuple[bool, ...]], int] = {}
    for number, site in enumerate(sites(group)):
        alike = (site.multiplicity, tuple(where is None or number in where for where in allowed))
        before = uses.get(alike, 0)
        uses[alike] = -1 if site.dimension or before < 0 else before + 1
    return uses


def _anywhere(counts: Sequence[object], allowed: Allowed) -> Allowed:
    return allowed or (None,) * len(counts)


@lru_cache(maxsize=65536)
def fill(
    group: SymmetryGroup, counts: tuple[int, ...], allowed: Allowed = ()
) -> tuple[tuple[int, ...], ...] | None:
    """Return multiplicities that add up to the number of each kind of body, or None when the group cannot.

    The largest multiplicities come first, so that general positions are preferred (AIRSS's rule). Sites
    without free parameters are used once.

    Parameters
    ----------
    group
        The group.
    counts
        Number of each kind: atoms of a species, units.
    allowed
        Where each kind fits; empty: all of them everywhere.
    """
    uses = _uses(group, _anywhere(counts, allowed))
    classes = sorted(uses, reverse=True)

    @cache
    def search(kind: int, left: int, start: int, used: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
        """Return (kind, multiplicity) of every remaining orbit, those of one kind descending."""
        if left == 0:
            return () if kind + 1 == len(counts) else search(kind + 1, counts[kind + 1], 0, used)
        for k in range(start, len(classes)):
            size, takes = classes[k]
            if size > left or used[k] == 0 or not takes[kind]:
                continue
            rest = used if used[k] < 0 else (*used[:k], used[k] - 1, *used[k + 1 :])
            tail = search(kind, left - size, k, rest)
            if tail is not None:
                return ((kind, size), *tail)
        return None

    found = search(0, counts[0], 0, tuple(uses[one] for one in classes))
    if found is None:
        return None
    return tuple(tuple(size for which, size in found if which == k) for k in range(len(counts)))


def fill_general(group: SymmetryGroup, counts: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return multiplicities of general positions only; what is left of each kind is loose (multiplicity 0)."""
    return tuple((group.order,) * (n // group.order) + (0,) * (n % group.order) for n in counts)


@lru_cache(maxsize=65536)
def _ways(
    group: SymmetryGroup, count: int, most: int, where: frozenset[int] | None
) -> tuple[tuple[int, ...], ...]:
    """Return the ways to place bodies of one kind on at most `most` sites, multiplicities descending."""
    uses = {size: n for (size, takes), n in _uses(group, (where,)).items() if takes[0]}
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
    rng: np.random.Generator,
    group: SymmetryGroup,
    counts: tuple[int, ...],
    extra: int,
    allowed: Allowed = (),
) -> tuple[tuple[int, ...], ...] | None:
    """Draw multiplicities with up to `extra` more sites per kind than `fill` needs; None where that has no answer.

    The number of sites of each kind is drawn first, uniformly among those possible, then one of its ways.

    Parameters
    ----------
    rng
        Source of the draws; without `extra` nothing is drawn.
    group, counts, allowed
        As for `fill`.
    extra
        Additional inequivalent sites of each kind at most.
    """
    fewest = fill(group, counts, allowed)
    if fewest is None or not extra:
        return fewest
    uses = {size: n for (size, _), n in _uses(group, (None,)).items()}
    by_sites: list[list[list[tuple[int, ...]]]] = []
    for n, row, where in zip(counts, fewest, _anywhere(counts, allowed), strict=True):
        ways = _ways(group, n, len(row) + extra, where)
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
    rng: np.random.Generator,
    group: SymmetryGroup,
    multiplicities: Sequence[Sequence[int]],
    allowed: Allowed = (),
) -> list[list[Site]] | None:
    """Draw a site for each wanted multiplicity uniformly; one without free parameters is used at most once.

    None where a few draws found no way to share sites that several kinds of bodies want.

    Parameters
    ----------
    rng
        Source of the draws.
    group, allowed
        As for `fill`.
    multiplicities
        Of each kind, from `fill`, `fillings` or `fill_general`.
    """
    for _ in range(_CHOICES):
        chosen = _choice(rng, group, multiplicities, _anywhere(multiplicities, allowed))
        if chosen is not None:
            return chosen
    return None


def _choice(
    rng: np.random.Generator,
    group: SymmetryGroup,
    multiplicities: Sequence[Sequence[int]],
    allowed: Allowed,
) -> list[list[Site]] | None:
    every = sites(group)
    free = list(range(len(every)))
    result: list[list[Site]] = []
    for wanted, where in zip(multiplicities, allowed, strict=True):
        row: list[Site] = []
        for size in wanted:
            if size == 0:
                row.append(LOOSE)
                continue
            candidates = [k for k in free if every[k].multiplicity == size and (where is None or k in where)]
            if not candidates:
                return None
            pick = candidates[int(rng.integers(len(candidates)))]
            row.append(every[pick])
            if every[pick].dimension == 0:
                free.remove(pick)
        result.append(row)
    return result
