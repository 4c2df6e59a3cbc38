"""Units: atoms that are placed by symmetry as one body; their own symmetry and how they fit a site.

A unit on a special position must be mapped onto itself by the operations that leave the position in place. Its own
point group P (all orthogonal matrices that permute its atoms) is found from its positions; the orientations Q with
Q^T S Q inside P, S being the site symmetry as orthogonal matrices, follow from aligning the axes of one or two
operations of S with those of operations of P of the same kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.body_settings import UnitSettings
from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gapfactory.elements import Species

__all__ = [
    "Unit",
    "atom",
    "orientations",
    "oriented",
    "random_rotation",
    "symmetrised",
    "unit_from_file",
    "unit_of",
]

#: positions of a unit that differ by less (Å) are the same under an operation
_TOLERANCE = 1e-3
#: orthogonal matrices that differ by less are the same
_SAME = 1e-4
_ICOSAHEDRON = re.compile(r"([A-Z][a-z]?)12")


@dataclass(frozen=True, eq=False)
class Unit:
    """Atoms that move as one.

    Parameters
    ----------
    name
        How messages call it.
    symbols
        Chemical symbols.
    positions
        (k, 3) Å, relative to the centre, which is put on a site.
    settings
        Flexibility, limits of rotation.
    """

    name: str
    symbols: tuple[str, ...]
    positions: NDArray[np.float64]
    settings: UnitSettings

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.symbols)

    @property
    def counts(self) -> dict[str, int]:
        """Atoms of each species."""
        return {symbol: self.symbols.count(symbol) for symbol in sorted(set(self.symbols))}

    @property
    def point_group(self) -> NDArray[np.float64]:
        """The orthogonal matrices that permute the atoms, (n, 3, 3); for linear units those of finite order found."""
        return _point_group(self.symbols, self.positions.tobytes())


@lru_cache(maxsize=128)
def atom(symbol: str) -> Unit:
    """Return the unit that is one atom."""
    return Unit(symbol, (symbol,), np.zeros((1, 3)), UnitSettings(name=symbol))


def unit_of(settings: UnitSettings, species: Mapping[str, Species]) -> Unit:
    """Return the unit that the settings describe, its centroid at the origin.

    Parameters
    ----------
    settings
        Name, or explicit atoms.
    species
        For the characteristic radius of an icosahedron's element.

    Raises
    ------
    InputError
        No such unit, or its species is not among `species`.
    """
    unit = _unit(settings, tuple((symbol, species[symbol].radius) for symbol in sorted(species)))
    missing = sorted(set(unit.symbols) - set(species))
    if missing:
        raise InputError(
            f"unit {settings.name!r} holds {', '.join(missing)}, which the composition does not: add it there"
        )
    return unit


@lru_cache(maxsize=64)
def _unit(settings: UnitSettings, radii: tuple[tuple[str, float], ...]) -> Unit:
    """Make a unit once: what fits it is kept with it."""
    species = dict(radii)
    if settings.symbols:
        symbols, positions = settings.symbols, np.array(settings.positions)
    elif (match := _ICOSAHEDRON.fullmatch(settings.name)) is not None and match[1] in species:
        symbols = (match[1],) * 12
        positions = settings.edge_in_r * species[match[1]] * _icosahedron()
    else:
        symbols, positions = _molecule(settings.name)
    positions = positions - positions.mean(axis=0)
    # coordinates of a file have few digits: made as symmetric as they look
    for _ in range(3):
        positions = symmetrised(positions, positions, _point_group(tuple(symbols), positions.tobytes()))
    return Unit(settings.name, tuple(symbols), positions, settings)


def unit_from_file(path: Path, **more: object) -> UnitSettings:
    """Return a unit whose atoms are those of a file that ASE reads; further settings by name.

    Raises
    ------
    InputError
        The file cannot be read as a structure.
    """
    from gapfactory.io.structures import read_atoms

    atoms = read_atoms(path, "molecule or fragment")
    values = {
        "name": path.stem,
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
    }
    return UnitSettings.model_validate(values | more)


def _icosahedron() -> NDArray[np.float64]:
    """Return the vertices of the regular icosahedron of edge 1, (12, 3)."""
    golden = (1 + 5**0.5) / 2
    corners = [(0.0, a / 2, b * golden / 2) for a in (1, -1) for b in (1, -1)]
    return np.array([np.roll(c, shift) for shift in range(3) for c in corners])


def _molecule(name: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    import difflib

    from ase.build import molecule
    from ase.collections import g2

    if name not in g2.names:
        near = difflib.get_close_matches(name, g2.names, n=3)
        raise InputError(
            f"there is no unit {name!r}: an icosahedron of an element of the composition (B12), one of ASE's "
            f"molecules{' (' + ', '.join(near) + '?)' if near else ' (CH4, H2O, ...)'}, or give symbols and positions"
        )
    atoms = molecule(name)
    return tuple(atoms.get_chemical_symbols()), np.array(atoms.positions)


@lru_cache(maxsize=256)
def _point_group(symbols: tuple[str, ...], packed: bytes) -> NDArray[np.float64]:
    """Return every orthogonal matrix that permutes the atoms (identity first).

    Three atoms (or two with the normal of their plane) that span space are mapped on all triples of equal species
    and mutual distances; what then permutes all atoms is an operation.
    """
    positions = np.frombuffer(packed).reshape(-1, 3)
    kinds = np.array([sorted(set(symbols)).index(s) for s in symbols])
    frame = _frame(positions)
    found = [np.eye(3)]
    if (
        len(frame) < 2
    ):  # one atom, or a linear unit: inversion and what keeps or turns the axis is not discrete
        candidates = [-np.eye(3)] if len(frame) else []
    else:
        base = _completed(positions[list(frame)])
        lengths = [np.linalg.norm(positions[i]) for i in frame]
        alike = [
            [
                j
                for j in range(len(kinds))
                if kinds[j] == kinds[i] and abs(np.linalg.norm(positions[j]) - r) < _TOLERANCE
            ]
            for i, r in zip(frame, lengths, strict=True)
        ]
        dot = positions[frame[0]] @ positions[frame[1]]
        candidates = []
        for first in alike[0]:
            for second in alike[1]:
                if abs(positions[first] @ positions[second] - dot) > _TOLERANCE * max(lengths):
                    continue
                image = _completed(positions[[first, second]])
                for hand in (1.0, -1.0):
                    matrix = (base.T @ np.diag([1.0, 1.0, hand]) @ image).T
                    candidates.append(matrix)
    for matrix in candidates:
        if any(np.abs(matrix - old).max() < _SAME for old in found):
            continue
        moved = positions @ matrix.T
        distance = np.linalg.norm(moved[:, None] - positions[None], axis=2)
        distance[kinds[:, None] != kinds[None]] = np.inf
        nearest = distance.argmin(axis=1)
        if distance.min(axis=1).max() < _TOLERANCE and len(set(nearest.tolist())) == len(kinds):
            found.append(matrix)
    return np.array(found)


def _frame(positions: NDArray[np.float64]) -> tuple[int, ...]:
    """Return one or two atoms that are not on one line with the centre (none: a single atom)."""
    lengths = np.linalg.norm(positions, axis=1)
    away = [int(i) for i in np.argsort(-lengths, kind="stable") if lengths[i] > 10 * _TOLERANCE]
    if not away:
        return ()
    for i in away[1:]:
        if np.linalg.norm(np.cross(positions[away[0]], positions[i])) > 0.05 * lengths[away[0]] * lengths[i]:
            return (away[0], i)
    return (away[0],)


def _completed(two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return orthonormal rows: along the first vector, in the plane of both, normal to it."""
    first = two[0] / np.linalg.norm(two[0])
    normal = np.cross(two[0], two[1])
    normal /= np.linalg.norm(normal)
    return np.array([first, np.cross(normal, first), normal])


def random_rotation(rng: np.random.Generator, largest: float | None = None) -> NDArray[np.float64]:
    """Return a rotation matrix: uniform over all (`largest` None), or about a random axis by up to `largest` degrees.

    The angle is uniform in the volume of rotations, i.e. small turns are not favoured.
    """
    if largest is None:
        q = rng.normal(size=4)
        q /= np.linalg.norm(q)
        w, x, y, z = q
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    return _about(axis, np.radians(largest) * rng.random() ** (1 / 3))


def _about(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _axis(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the axis of a rotation, or of the rotation part of an improper one; none for +1 and -1.

    Its sign is that of a turn by less than 180 degrees.
    """
    proper = matrix * np.sign(np.linalg.det(matrix))
    if np.trace(proper) > 3 - _SAME:
        return None
    skew = np.array([proper[2, 1] - proper[1, 2], proper[0, 2] - proper[2, 0], proper[1, 0] - proper[0, 1]])
    if np.linalg.norm(skew) > _SAME:
        return np.asarray(skew / np.linalg.norm(skew))
    column = (proper + np.eye(3))[:, int(np.argmax(np.diag(proper)))]
    return np.asarray(column / np.linalg.norm(column))


def orientations(
    unit: Unit, site_symmetry: NDArray[np.float64], *, first_only: bool = False
) -> list[tuple[NDArray[np.float64], NDArray[np.float64] | None]]:
    """Return how a unit can be turned to have the symmetry of a site.

    Parameters
    ----------
    unit
        The unit.
    site_symmetry
        Orthogonal matrices of the operations that leave the site in place, (s, 3, 3).
    first_only
        Stop at the first one: whether the unit fits.

    Returns
    -------
    list
        Pairs (Q, axis): rotation matrix, and the axis about which the unit may be turned further by any angle (None:
        none; a zero vector: it may be turned about any axis). Empty: the unit has not that symmetry.
    """
    group = unit.point_group
    if len(site_symmetry) > len(group) and len(unit.symbols) > 1:
        return []
    axes = [(m, axis) for m in site_symmetry if (axis := _axis(m)) is not None]
    if len(unit.symbols) == 1 or not axes:
        every: list[tuple[NDArray[np.float64], NDArray[np.float64] | None]] = [(np.eye(3), np.zeros(3))]
        return every if len(unit.symbols) == 1 or _inside(site_symmetry, group) else []
    own = [(m, axis) for m in group if (axis := _axis(m)) is not None]
    main, main_axis = axes[0]
    other = next(((m, a) for m, a in axes[1:] if abs(a @ main_axis) < 1 - _SAME), None)
    found: list[tuple[NDArray[np.float64], NDArray[np.float64] | None]] = []
    for u, u_axis in own:
        if not _same_kind(u, main):
            continue
        for sign in (1.0, -1.0):
            seconds: list[NDArray[np.float64] | None] = [None]
            if other is not None:
                seconds = [v for m, a in own if _same_kind(m, other[0]) for v in (a, -a)]
            for second in seconds:
                if second is None or other is None:
                    turn = _aligning(sign * u_axis, main_axis)
                elif abs(sign * u_axis @ second - main_axis @ other[1]) < _SAME * 10:
                    turn = _completed(np.array([main_axis, other[1]])).T @ _completed(
                        np.array([sign * u_axis, second])
                    )
                else:
                    continue
                if _inside(np.einsum("ji,njk,kl->nil", turn, site_symmetry, turn), group):
                    found.append((turn, main_axis if other is None else None))
                    if first_only:
                        return found
    return found


def _same_kind(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return abs(np.trace(one) - np.trace(other)) < _SAME * 10 and np.linalg.det(one) * np.linalg.det(other) > 0


def _inside(matrices: NDArray[np.float64], group: NDArray[np.float64]) -> bool:
    difference = np.abs(matrices[:, None] - group[None]).max(axis=(2, 3)).min(axis=1)
    return bool(difference.max() < 10 * _SAME)


def _aligning(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a rotation that turns one unit vector into another."""
    axis = np.cross(start, end)
    sine, cosine = float(np.linalg.norm(axis)), float(start @ end)
    if sine > 1e-9:
        return _about(axis / sine, float(np.arctan2(sine, cosine)))
    if cosine > 0:
        return np.eye(3)
    normal = np.cross(start, np.eye(3)[int(np.argmin(np.abs(start)))])
    return _about(normal / np.linalg.norm(normal), np.pi)


def symmetrised(
    values: NDArray[np.float64], positions: NDArray[np.float64], operations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return vectors on the atoms, (k, 3), averaged over orthogonal matrices that permute the atoms' positions."""
    total = np.zeros_like(values)
    for matrix in operations:
        moved = positions @ matrix.T
        nearest = np.linalg.norm(positions[:, None] - moved[None], axis=2).argmin(axis=1)
        total += values[nearest] @ matrix.T
    return total / len(operations)


def oriented(
    rng: np.random.Generator, unit: Unit, site_symmetry: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the atoms of a unit turned at random such that it has the symmetry of its site, (k, 3), or None.

    Every orientation that fits is equally likely. Atoms of a flexible unit are displaced, symmetry kept.
    """
    settings = unit.settings
    hand = -1.0 if settings.flip and rng.random() < 0.5 else 1.0
    if len(unit.symbols) == 1:
        return unit.positions.copy()
    if len(site_symmetry) == 1:
        result = hand * unit.positions @ random_rotation(rng, settings.rotation_max).T
    else:
        fitting = _orientations(unit, np.round(site_symmetry, 9).tobytes())
        if not fitting:
            return None
        turn, axis = fitting[int(rng.integers(len(fitting)))]
        if axis is not None:
            turn = (_about(axis, 2 * np.pi * rng.random()) if axis.any() else random_rotation(rng)) @ turn
        result = hand * unit.positions @ turn.T
    if settings.amplitude > 0:
        directions = rng.normal(size=result.shape)
        directions *= (rng.random(len(result)) ** (1 / 3) / np.linalg.norm(directions, axis=1))[:, None]
        displaced = result + symmetrised(settings.amplitude * directions, result, site_symmetry)
        return np.asarray(displaced)
    return np.asarray(symmetrised(result, result, site_symmetry))


@lru_cache(maxsize=4096)
def _orientations(
    unit: Unit, packed: bytes
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64] | None], ...]:
    return tuple(orientations(unit, np.frombuffer(packed).reshape(-1, 3, 3)))
