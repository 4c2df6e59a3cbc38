"""Clusters and slabs: their groups, and the room that holds them.

A slab has the symmetry of one of the 80 layer groups: those settings of space groups whose operations neither mix z
with x and y nor shift it. A cluster has the symmetry of a point group about its middle, five-fold ones included.

Both are built in cells as all others, with their middle at the origin; what is not periodic has a period there that
is longer than anything reaches, and gets its box with the vacuum at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gapfactory._spglib import quiet_spglib
from gapfactory.build.symmetry import SymmetryGroup

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.build.body_settings import ConfinementSettings
    from gapfactory.build.sites import Site

__all__ = ["OPEN", "Room", "cluster_groups", "confined_groups", "draw_layer", "room_of", "slab_groups"]

_SAME = 1e-6
#: smallest angle (degrees) between the two vectors of a slab's cell, and largest ratio of their lengths, when drawn
_SHARPEST, _ASPECT = 35.0, 3.0
#: Å beyond the room, and how many times as long as the room a period is that stands for none
_FAR, _TIMES = 100.0, 4.0


@dataclass(frozen=True, eq=False)
class Room:
    """Where atoms may be: in an ellipsoid about the origin, of which a slab has one axis only.

    Parameters
    ----------
    half_axes
        (3,), Å; infinite along periodic directions.
    box
        Edges of the cell of the result along the other directions, vacuum included, (3,), Å; 0 along periodic ones.
    periodic
        Along which vectors of the cell the structure repeats, (3,).
    """

    half_axes: NDArray[np.float64]
    box: NDArray[np.float64]
    periodic: NDArray[np.bool_]

    @property
    def periods(self) -> NDArray[np.float64]:
        """The periods that stand for none while a structure is built, (3,), Å; 0 along periodic directions."""
        return np.where(self.periodic, 0.0, _FAR + 2 * _TIMES * self.half_axes)

    def point(self, rng: np.random.Generator, site: Site) -> NDArray[np.float64]:
        """Return a random point of a site within the room, in the basis of the group, (3,)."""
        if self.periodic.all():
            return np.asarray(site.origin + rng.random(site.dimension) @ site.directions)
        if self.periodic.any():
            point = site.origin + rng.random(site.dimension) @ site.directions
            height = self.half_axes[2] * (2 * rng.random() - 1) if site.directions[:, 2].any() else 0.0
            point[2] = height / self.periods[2]
            return np.asarray(point)
        if site.dimension == 0:
            return np.zeros(3)
        direction = rng.normal(size=site.dimension)
        direction *= rng.random() ** (1 / site.dimension) / np.linalg.norm(direction)
        return np.asarray(direction @ site.directions * self.half_axes / self.periods)


#: A crystal fills space.
OPEN = Room(np.full(3, np.inf), np.zeros(3), np.ones(3, dtype=bool))


def room_of(settings: ConfinementSettings | None, volume: float, n_atoms: int) -> Room:
    """Return the room of a structure whose atoms have this volume (Å^3)."""
    if settings is None:
        return OPEN
    if settings.kind == "slab":
        atom = (volume / n_atoms) ** (1 / 3)
        width = max(0.0, volume ** (1 / 3) - atom) if settings.width is None else settings.width
        # a flat layer is a slab too thin to matter: a half axis must not be zero
        half_axes = np.array([np.inf, np.inf, max(width / 2, 1e-9)])
        return Room(half_axes, np.array([0, 0, width + settings.vacuum]), np.array([True, True, False]))
    if settings.half_axes is not None:
        half_axes = np.array(settings.half_axes)
    elif settings.radius is not None:
        half_axes = np.full(3, settings.radius)
    elif settings.radius_per_root is not None:
        half_axes = np.full(3, settings.radius_per_root * n_atoms ** (1 / 3))
    else:
        half_axes = np.full(3, (3 * volume / (4 * np.pi)) ** (1 / 3))
    return Room(half_axes, 2 * half_axes + settings.vacuum, np.zeros(3, dtype=bool))


def confined_groups(settings: ConfinementSettings) -> dict[int, tuple[SymmetryGroup, ...]]:
    """Return the groups of a slab or cluster by order."""
    if settings.kind == "slab":
        return slab_groups(keep_sides=settings.keep_sides)
    return cluster_groups(diagonal_only=settings.half_axes is not None)


# --- slabs -----------------------------------------------------------------------------------------------------------


@cache
def _layer_groups() -> tuple[SymmetryGroup, ...]:
    """Return every setting of spglib's table that is a layer group with its layers normal to c, each once."""
    import spglib

    found: dict[bytes, SymmetryGroup] = {}
    for hall in range(1, 531):
        with quiet_spglib():
            kind = spglib.get_spacegroup_type(hall)
            database = spglib.get_symmetry_from_database(hall)
        if kind is None or database is None:
            raise AssertionError("every Hall number from 1 to 530 is in spglib's database")
        name = f"{kind.international_short} ({kind.choice})" if kind.choice else str(kind.international_short)
        group = _layered(name, int(kind.number), database["rotations"], database["translations"])
        if group is None:
            continue
        key = np.hstack([group.rotations.reshape(-1, 9), np.rint(24 * group.translations) % 24])
        found.setdefault(key[np.lexsort(key.T)].tobytes(), group)
    return tuple(found.values())


def _layered(
    name: str, number: int, rotations: NDArray[np.int_], translations: NDArray[np.float64]
) -> SymmetryGroup | None:
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
    return SymmetryGroup(
        "layer", name, number, np.array(parts[0]), np.array(parts[1]), np.array(parts[2]), primitive
    )


@lru_cache(maxsize=8)
def slab_groups(*, keep_sides: bool = False) -> dict[int, tuple[SymmetryGroup, ...]]:
    """Return the layer groups by order; `keep_sides`: only those that never turn the layer upside down."""
    result: dict[int, tuple[SymmetryGroup, ...]] = {}
    for group in _layer_groups():
        if not keep_sides or (group.rotations[:, 2, 2] > 0).all():
            result[group.order] = (*result.get(group.order, ()), group)
    return result


def draw_layer(
    rng: np.random.Generator, group: SymmetryGroup, volume: float, n_atoms: int, room: Room
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lattice of a slab (rows, Å) and T, with lattice = T @ (lattice of the group); c is along z.

    The area is that of the volume (Å^3) at a thickness of the width plus the size of one atom: flat layers have one.
    """
    area = volume / (2 * room.half_axes[2] + (volume / n_atoms) ** (1 / 3))
    ratio = _ASPECT ** rng.uniform(-1, 1)
    angle = np.radians(rng.uniform(_SHARPEST, 180 - _SHARPEST))
    metric = np.array([[ratio, np.cos(angle), 0], [np.cos(angle), 1 / ratio, 0], [0, 0, 1.0]])
    w = group.rotations
    lattice = np.linalg.cholesky(np.einsum("nji,jk,nkl->il", w, metric, w) / len(w))
    lattice[:2] *= np.sqrt(area / abs(np.linalg.det(lattice[:2, :2])))
    lattice[2] = [0, 0, room.periods[2]]
    reduced = _reduced_in_plane(lattice)
    return reduced, np.rint(reduced @ np.linalg.inv(lattice))


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


@cache
def cluster_groups(*, diagonal_only: bool = False) -> dict[int, tuple[SymmetryGroup, ...]]:
    """Return the point groups by order; `diagonal_only`: those that map each of the axes x, y and z on itself."""
    result: dict[int, tuple[SymmetryGroup, ...]] = {}
    for name, generators in _generators().items():
        matrices = _closure(generators)
        if diagonal_only and np.abs(matrices * (1 - np.eye(3))).max() > _SAME:
            continue
        group = SymmetryGroup("point", name, 0, matrices, np.zeros((len(matrices), 3)), matrices, np.eye(3))
        result[group.order] = (*result.get(group.order, ()), group)
    return result
