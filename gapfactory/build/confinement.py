"""Clusters and slabs: their groups, and the boxes that hold them.

A slab has the symmetry of one of the 80 layer groups: those settings of space groups whose operations neither mix z
with x and y nor shift it. A cluster has the symmetry of a point group about its middle, five-fold ones included.
"""

from __future__ import annotations

from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from gapfactory._spglib import quiet_spglib
from gapfactory.build.placing import Place, Setting, Symmetry, cartesian, places_of
from gapfactory.build.sites import sites_of
from gapfactory.build.symmetry import SpaceGroup

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.build.body_settings import ConfinementSettings

__all__ = ["cluster_setting", "cluster_symmetries", "slab_setting", "slab_symmetries"]

_SAME = 1e-6
#: smallest angle (degrees) between the two vectors of a slab's cell, and largest ratio of their lengths, when drawn
_SHARPEST, _ASPECT = 35.0, 3.0


# --- slabs -----------------------------------------------------------------------------------------------------------


@cache
def _layer_groups() -> tuple[Symmetry, ...]:
    """Return every setting of spglib's table that is a layer group with its layers normal to c, each once."""
    import spglib

    found: dict[bytes, Symmetry] = {}
    for hall in range(1, 531):
        with quiet_spglib():
            kind = spglib.get_spacegroup_type(hall)
            database = spglib.get_symmetry_from_database(hall)
        if kind is None or database is None:
            raise AssertionError("every Hall number from 1 to 530 is in spglib's database")
        group = _layered(int(kind.number), database["rotations"], database["translations"])
        if group is None:
            continue
        key = np.hstack([group.rotations.reshape(-1, 9), np.rint(24 * group.translations) % 24])
        key = key[np.lexsort(key.T)]
        w = group.rotations
        lattice = np.linalg.cholesky(np.einsum("nji,njk->ik", w, w) / len(w))
        name = f"{kind.international_short} ({kind.choice})" if kind.choice else str(kind.international_short)
        matrices = cartesian(group, lattice)
        found.setdefault(
            key.tobytes(), Symmetry(name, group.number, matrices, partial(_layer_places, group), group)
        )
    return tuple(found.values())


def _layer_places(group: SpaceGroup) -> tuple[Place, ...]:
    """Return the places in the layer at z = 0; those half-way between layers do not exist."""
    return places_of(
        group,
        [site for site in sites_of(group) if site.directions[:, 2].any() or abs(site.origin[2]) < _SAME],
    )


def _layered(
    number: int, rotations: NDArray[np.int_], translations: NDArray[np.float64]
) -> SpaceGroup | None:
    """Return the group on its primitive cell, or None where an operation mixes or shifts z."""
    if rotations[:, 2, :2].any() or rotations[:, :2, 2].any():
        return None
    if (np.abs(translations[:, 2] - np.rint(translations[:, 2])) > _SAME).any():
        return None
    pure = translations[(rotations == np.eye(3, dtype=int)).all(axis=(1, 2))]
    # rows: primitive vectors; the only centring left is that of the C face
    primitive = np.eye(3) if len(pure) == 1 else np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1.0]])
    inverse = np.linalg.inv(primitive.T)
    seen: dict[bytes, tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]] = {}
    for rotation, translation in zip(rotations, translations, strict=True):
        reduced = np.rint(inverse @ rotation @ primitive.T).astype(np.int64)
        shift = (np.rint(24 * (inverse @ translation)) / 24) % 1.0
        seen.setdefault(reduced.tobytes(), (reduced, shift, np.asarray(rotation, dtype=np.int64)))
    parts = list(zip(*seen.values(), strict=True))
    return SpaceGroup(number, np.array(parts[0]), np.array(parts[1]), np.array(parts[2]), primitive)


@lru_cache(maxsize=8)
def slab_symmetries(*, keep_sides: bool = False) -> dict[int, tuple[Symmetry, ...]]:
    """Return the layer groups by order; `keep_sides`: only those that never turn the layer upside down."""
    result: dict[int, tuple[Symmetry, ...]] = {}
    for symmetry in _layer_groups():
        if not keep_sides or (symmetry.matrices[:, 2, 2] > 0).all():
            result[symmetry.order] = (*result.get(symmetry.order, ()), symmetry)
    return result


def slab_setting(
    rng: np.random.Generator, symmetry: Symmetry, volume: float, n_atoms: int, settings: ConfinementSettings
) -> Setting:
    """Draw the cell of a slab: c along z, of the length width + vacuum; the middle of the slab is at z = 0.

    The area is that of the volume (Å^3) at a thickness of the width plus the size of one atom: flat layers have one.
    """
    group = symmetry.group
    if group is None:
        raise AssertionError("a slab has a layer group")
    atom = (volume / n_atoms) ** (1 / 3)
    width = max(0.0, volume ** (1 / 3) - atom) if settings.width is None else settings.width
    area = volume / (width + atom)
    ratio = _ASPECT ** rng.uniform(-1, 1)
    angle = np.radians(rng.uniform(_SHARPEST, 180 - _SHARPEST))
    metric = np.array([[ratio, np.cos(angle), 0], [np.cos(angle), 1 / ratio, 0], [0, 0, 1.0]])
    w = group.rotations
    metric = np.einsum("nji,jk,nkl->il", w, metric, w) / len(w)
    lattice = np.linalg.cholesky(metric)
    lattice[:2] *= np.sqrt(area / abs(np.linalg.det(lattice[:2, :2])))
    lattice[2] = [0, 0, width + settings.vacuum]

    def draw(rng: np.random.Generator, place: Place) -> NDArray[np.float64]:
        point = (place.origin + rng.random(place.dimension) @ place.directions) @ lattice
        height = width * (rng.random() - 0.5)
        point[2] = height if place.directions[:, 2].any() else 0.0
        return np.asarray(point)

    # a flat layer is a slab too thin to matter: a half axis must not be zero
    half_axes = np.array([np.inf, np.inf, max(width / 2, 1e-9)])
    return Setting(
        _reduced_in_plane(lattice),
        np.array([True, True, False]),
        cartesian(group, lattice),
        group.translations @ lattice,
        half_axes,
        draw,
    )


def _reduced_in_plane(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lattice with its two vectors in the plane as short as they can be (Gauss), right-handed."""
    a, b = lattice[0], lattice[1]
    while True:
        if a @ a > b @ b:
            a, b = b, a
        turns = np.rint((a @ b) / (a @ a))
        if turns == 0 or not (b - turns * a) @ (b - turns * a) < (b @ b) * (1 - 1e-12):
            break
        b = b - turns * a
    if a[0] * b[1] - a[1] * b[0] < 0:
        b = -b
    return np.array([a, b, lattice[2]])


# --- clusters --------------------------------------------------------------------------------------------------------


def _turn(n: int) -> NDArray[np.float64]:
    c, s = np.cos(2 * np.pi / n), np.sin(2 * np.pi / n)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _generators() -> dict[str, list[NDArray[np.float64]]]:
    """Return generators of the point groups by Schoenflies symbol; the main axis is z."""
    over, beside = np.diag([1.0, 1, -1]), np.diag([1.0, -1, 1])
    side, inversion = np.diag([1.0, -1, -1]), -np.eye(3)
    cubic = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])
    golden = (1 + 5**0.5) / 2
    axis = np.array([0, 1, golden]) / np.hypot(1, golden)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = 2 * np.pi / 5
    five = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    result: dict[str, list[NDArray[np.float64]]] = {"C1": [], "Ci": [inversion], "Cs": [over]}
    for n in range(2, 7):
        result[f"C{n}"] = [_turn(n)]
        result[f"C{n}v"] = [_turn(n), beside]
        result[f"C{n}h"] = [_turn(n), over]
        result[f"D{n}"] = [_turn(n), side]
        result[f"D{n}h"] = [_turn(n), side, over]
        result[f"D{n}d"] = [_turn(2 * n) @ over, side]
        result[f"S{2 * n}"] = [_turn(2 * n) @ over]
    half = np.diag([-1.0, -1, 1])
    result |= {
        "T": [cubic, half],
        "Td": [cubic, _turn(4) @ over],
        "Th": [cubic, half, inversion],
        "O": [cubic, _turn(4)],
        "Oh": [cubic, _turn(4), inversion],
        "I": [cubic, half, five],
        "Ih": [cubic, half, five, inversion],
    }
    return result


def _closure(generators: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    found = [np.eye(3)]
    for known in found:  # grows while it is walked
        for generator in generators:
            new = generator @ known
            if all(np.abs(new - old).max() > _SAME for old in found):
                found.append(new)
    return np.array(found)


def _cluster_places(matrices: NDArray[np.float64]) -> tuple[Place, ...]:
    """Return the subspaces that operations leave in place, each class of equivalent ones once, as `Place`s."""
    found = [np.eye(3)]  # projectors
    for parent in found:
        for matrix in matrices[1:]:
            # points of the parent's subspace that the operation leaves in place
            values, vectors = np.linalg.eigh(
                (np.eye(3) - parent) + parent @ (matrix - np.eye(3)).T @ (matrix - np.eye(3)) @ parent
            )
            basis = vectors[:, np.abs(values) < _SAME]
            new = basis @ basis.T
            images = matrices @ new @ matrices.transpose(0, 2, 1)
            if all(np.abs(images - old).max(axis=(1, 2)).min() > _SAME for old in found):
                found.append(new)
    result = []
    for projector in found:
        stays = np.abs(matrices @ projector - projector).max(axis=(1, 2)) < _SAME
        stabiliser = tuple(int(k) for k in np.flatnonzero(stays))
        values, vectors = np.linalg.eigh(projector)
        result.append(
            Place(
                len(matrices) // len(stabiliser), stabiliser, np.zeros(3), vectors[:, values > 0.5].T.copy()
            )
        )
    return tuple(result)


@cache
def cluster_symmetries(*, diagonal_only: bool = False) -> dict[int, tuple[Symmetry, ...]]:
    """Return the point groups by order; `diagonal_only`: those that map each of the axes x, y and z on itself."""
    result: dict[int, tuple[Symmetry, ...]] = {}
    for name, generators in _generators().items():
        matrices = _closure(generators)
        if diagonal_only and np.abs(matrices * (1 - np.eye(3))).max() > _SAME:
            continue
        symmetry = Symmetry(name, 0, matrices, partial(_cluster_places, matrices))
        result[symmetry.order] = (*result.get(symmetry.order, ()), symmetry)
    return result


def cluster_setting(
    rng: np.random.Generator, symmetry: Symmetry, volume: float, n_atoms: int, settings: ConfinementSettings
) -> Setting:
    """Return the box of a cluster: a cube of the largest diameter + vacuum; the middle of the cluster is the origin."""
    del rng
    if settings.half_axes is not None:
        half_axes = np.array(settings.half_axes)
    elif settings.radius is not None:
        half_axes = np.full(3, settings.radius)
    elif settings.radius_per_root is not None:
        half_axes = np.full(3, settings.radius_per_root * n_atoms ** (1 / 3))
    else:
        half_axes = np.full(3, (3 * volume / (4 * np.pi)) ** (1 / 3))

    def draw(rng: np.random.Generator, place: Place) -> NDArray[np.float64]:
        d = place.dimension
        if d == 0:
            return np.zeros(3)
        direction = rng.normal(size=d)
        direction *= rng.random() ** (1 / d) / np.linalg.norm(direction)
        return np.asarray(direction @ place.directions * half_axes)

    edges = 2 * half_axes + settings.vacuum
    return Setting(
        np.diag(edges if settings.half_axes is not None else np.full(3, edges.max())),
        np.zeros(3, dtype=bool),
        symmetry.matrices,
        np.zeros((symmetry.order, 3)),
        half_axes,
        draw,
    )
