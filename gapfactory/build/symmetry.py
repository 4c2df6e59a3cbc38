"""The 230 space groups as operations of the primitive cell, from spglib's database.

Centring is divided out, so that the number of operations is the order of the point group: this is what "1-8
symmetry operations" counts in AIRSS and in Bernstein et al. 2019.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from gapfactory._spglib import quiet_spglib
from gapfactory.build.settings import CrystalSystem

_T = TypeVar("_T")

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.build.settings import BuildSettings, SymmetrySettings

__all__ = [
    "SymmetryGroup",
    "candidates",
    "crystal_system",
    "groups_by_order",
    "is_symmorphic",
    "on_lattice",
    "space_group",
]

#: Rows: primitive vectors in units of the conventional ones, by centring letter (R: hexagonal axes, obverse).
_PRIMITIVE: dict[str, tuple[tuple[float, float, float], ...]] = {
    "P": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "A": ((1, 0, 0), (0, 1 / 2, -1 / 2), (0, 1 / 2, 1 / 2)),
    "C": ((1 / 2, 1 / 2, 0), (-1 / 2, 1 / 2, 0), (0, 0, 1)),
    "I": ((-1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (1 / 2, 1 / 2, -1 / 2)),
    "F": ((0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0)),
    "R": ((2 / 3, 1 / 3, 1 / 3), (-1 / 3, 1 / 3, 1 / 3), (-1 / 3, -2 / 3, 1 / 3)),
}

#: Orders of the point groups and the space-group numbers that have them (ranges inclusive).
_BY_ORDER: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((1, 1),),
    2: ((2, 9),),
    3: ((143, 146),),
    4: ((10, 46), (75, 82)),
    6: ((147, 161), (168, 174)),
    8: ((47, 74), (83, 122)),
    12: ((162, 167), (175, 190), (195, 199)),
    16: ((123, 142),),
    24: ((191, 194), (200, 220)),
    48: ((221, 230),),
}

#: Last space group of each crystal system.
_LAST_OF_SYSTEM: dict[CrystalSystem, int] = dict(
    zip(get_args(CrystalSystem), (2, 15, 74, 142, 167, 194, 230), strict=True)
)
#: International short symbols without screw axes and glide planes: centring letter, then the point group.
_SYMMORPHIC = re.compile(r"[PABCIFR][-0-9/m]+")


@dataclass(frozen=True, eq=False)
class SymmetryGroup:
    """Operations x -> R x + t on coordinates (columns) in the basis of the group, identity first.

    Parameters
    ----------
    kind
        ``space``; ``layer`` (nothing mixes or shifts z) or ``point`` (about the origin), see
        `gapfactory.build.confinement`.
    name
        Hermann-Mauguin symbol, of a point group Schoenflies'.
    number
        International number of the space group, 1-230; 0 for a point group.
    rotations, translations
        Shapes (n, 3, 3) and (n, 3). In the basis of the primitive cell, integer and in [0, 1); of a point group
        orthogonal, and 0.
    conventional_rotations
        The same rotations in the conventional basis, (n, 3, 3), integer: they constrain the lattice.
    primitive
        Rows: primitive vectors in units of the conventional ones, (3, 3).
    """

    kind: Literal["space", "layer", "point"]
    name: str
    number: int
    rotations: NDArray[Any]
    translations: NDArray[np.float64]
    conventional_rotations: NDArray[Any]
    primitive: NDArray[np.float64]

    @property
    def order(self) -> int:
        """Number of operations, i.e. order of the point group."""
        return len(self.rotations)

    @cached_property
    def orthogonal(self) -> NDArray[np.float64]:
        """The rotations as orthogonal matrices on some lattice that has them, (n, 3, 3)."""
        w = self.conventional_rotations
        metric = np.einsum("nji,njk->ik", w, w) / len(w)
        return on_lattice(self.rotations, self.primitive @ np.linalg.cholesky(metric))


def on_lattice(rotations: NDArray[Any], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations of fractional coordinates, (n, 3, 3), as Cartesian ones on a lattice (rows) that has them."""
    return np.asarray(lattice.T @ rotations @ np.linalg.inv(lattice.T))


def groups_by_order(order: int) -> tuple[int, ...]:
    """Return the numbers of the space groups whose point group has this order (empty when there are none)."""
    return tuple(n for low, high in _BY_ORDER.get(order, ()) for n in range(low, high + 1))


def candidates(settings: BuildSettings) -> tuple[tuple[int, ...], ...]:
    """Return the allowed space groups in classes: first a class is drawn, then a group of it.

    A class holds the groups with one number of operations, or, where groups are chosen by anything else, all groups.

    Parameters
    ----------
    settings
        Range of operations and symmetry; `symmetry.operations` takes the place of the range, and so do groups, point
        groups or crystal systems given without it.
    """
    return _classes(settings.symmetry, settings.symmetry_operations_min, settings.symmetry_operations_max)


@lru_cache(maxsize=64)
def _classes(wanted: SymmetrySettings, least: int, most: int) -> tuple[tuple[int, ...], ...]:
    by_kind = wanted.space_groups is not None or bool(wanted.point_groups or wanted.crystal_systems)
    if wanted.operations is not None:
        orders: tuple[int, ...] = wanted.operations
    elif by_kind:
        orders = tuple(_BY_ORDER)
    else:
        orders = tuple(range(least, most + 1))
    classes = [tuple(n for n in groups_by_order(order) if _allowed(n, wanted)) for order in orders]
    if by_kind:
        classes = [tuple(sorted(n for groups in classes for n in groups))]
    return tuple(groups for groups in classes if groups)


def _allowed(number: int, wanted: SymmetrySettings) -> bool:
    return (
        (wanted.space_groups is None or number in wanted.space_groups)
        and (wanted.crystal_systems is None or crystal_system(number) in wanted.crystal_systems)
        and (wanted.point_groups is None or _names()[number][1] in wanted.point_groups)
        and (not wanted.symmorphic or is_symmorphic(number))
    )


def crystal_system(number: int) -> CrystalSystem:
    """Return the crystal system of a space group."""
    return next(system for system, last in _LAST_OF_SYSTEM.items() if number <= last)


def is_symmorphic(number: int) -> bool:
    """Return whether a space group is one of the 73 without screw axes and glide planes."""
    return _SYMMORPHIC.fullmatch(_names()[number][0]) is not None


@lru_cache(maxsize=1)
def _names() -> dict[int, tuple[str, str]]:
    """Return space-group number -> international short symbol, symbol of the point group."""
    import spglib

    halls = _hall_numbers()
    with quiet_spglib():
        types = {number: _known(spglib.get_spacegroup_type(hall)) for number, hall in halls.items()}
    return {
        number: (kind.international_short, kind.pointgroup_international) for number, kind in types.items()
    }


def _known(entry: _T | None) -> _T:
    if entry is None:
        raise AssertionError("every Hall number from 1 to 530 is in spglib's database")
    return entry


@lru_cache(maxsize=1)
def _hall_numbers() -> dict[int, int]:
    """Return space-group number -> Hall number of spglib's first (standard) setting."""
    import spglib

    first: dict[int, int] = {}
    with quiet_spglib():
        for hall in range(1, 531):
            first.setdefault(int(_known(spglib.get_spacegroup_type(hall)).number), hall)
    return first


@lru_cache(maxsize=230)
def space_group(number: int) -> SymmetryGroup:
    """Return a space group in its standard setting, reduced to the primitive cell.

    Parameters
    ----------
    number
        International number, 1-230.
    """
    import spglib

    hall = _hall_numbers()[number]
    with quiet_spglib():
        database = _known(spglib.get_symmetry_from_database(hall))
        name = str(_known(spglib.get_spacegroup_type(hall)).international_short)
    primitive = np.array(_PRIMITIVE[name[0]], dtype=float)
    # fractional columns: x_conventional = P^T x_primitive
    to_conventional = primitive.T
    to_primitive = np.linalg.inv(to_conventional)
    rotations: list[NDArray[np.int64]] = []
    conventional: list[NDArray[np.int64]] = []
    translations: list[NDArray[np.float64]] = []
    seen: set[bytes] = set()
    for rotation, translation in zip(database["rotations"], database["translations"], strict=True):
        key = np.asarray(rotation, dtype=np.int8).tobytes()
        if key in seen:  # the same point operation with another centring translation
            continue
        seen.add(key)
        reduced = to_primitive @ rotation @ to_conventional
        rotations.append(np.rint(reduced).astype(np.int64))
        conventional.append(np.asarray(rotation, dtype=np.int64))
        # multiples of 1/24 in every primitive cell: remove the noise of the inverse
        shift = np.rint(24 * (to_primitive @ translation)) / 24
        translations.append(shift % 1.0)
    return SymmetryGroup(
        "space",
        name,
        number,
        np.array(rotations),
        np.array(translations),
        np.array(conventional),
        primitive,
    )
