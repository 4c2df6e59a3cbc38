"""Where bodies can sit: positions of a group with their site symmetry, and how a content is spread over them.

A `Symmetry` is a group before any lattice is drawn: a space group, a layer group, a point group. A `Setting` is the
group on a lattice, with operations as orthogonal matrices and vectors in Å: all that the pushing needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.lattice import draw_lattice
from gapfactory.build.sites import sites_of
from gapfactory.build.symmetry import group_symbol, space_group
from gapfactory.build.units import Unit, orientations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gapfactory.build.settings import BuildSettings
    from gapfactory.build.sites import Site
    from gapfactory.build.symmetry import SpaceGroup

__all__ = [
    "Place",
    "Setting",
    "Symmetry",
    "arrange",
    "cartesian",
    "crystal_setting",
    "crystal_symmetry",
    "places_of",
]

_SAME_POINT = 1e-6
#: parameters of a generic point: no small linear relation with integer coefficients
_GENERIC = np.array([0.1234567, 0.3141593, 0.7182818])


@dataclass(frozen=True, eq=False)
class Place:
    """A special (or the general) position.

    Parameters
    ----------
    multiplicity
        Bodies on it.
    stabiliser
        Numbers of the operations that leave each of its points in place.
    origin, directions
        Its points are origin + u @ directions, (3,), (d, 3): fractional in a crystal, Cartesian in a cluster.
    """

    multiplicity: int
    stabiliser: tuple[int, ...]
    origin: NDArray[np.float64]
    directions: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """Number of free parameters; a place without any holds one orbit."""
        return len(self.directions)


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A group and its places.

    Parameters
    ----------
    name
        Symbol for messages and results.
    number
        International number of the space group, 0 for a point group.
    matrices
        Its rotations as orthogonal matrices on some lattice that has them, (g, 3, 3).
    find_places
        Returns its places, general position first; called once.
    group
        The operations, None for a point group.
    """

    name: str
    number: int
    matrices: NDArray[np.float64]
    find_places: Callable[[], tuple[Place, ...]]
    group: SpaceGroup | None = None

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The general and the special positions."""
        return self.find_places()

    @property
    def order(self) -> int:
        """Number of operations."""
        return len(self.matrices)


@dataclass(frozen=True, eq=False)
class Setting:
    """A group on a lattice; Å.

    Parameters
    ----------
    lattice, periodic
        Rows, (3, 3), and along which of them the structure repeats, (3,).
    operations, translations
        x -> C x + t, (g, 3, 3) orthogonal, (g, 3).
    half_axes
        Of the ellipsoid that holds the atoms, (3,); infinite where nothing confines.
    draw
        Returns a random point of a place, Cartesian.
    """

    lattice: NDArray[np.float64]
    periodic: NDArray[np.bool_]
    operations: NDArray[np.float64]
    translations: NDArray[np.float64]
    half_axes: NDArray[np.float64]
    draw: Callable[[np.random.Generator, Place], NDArray[np.float64]]


def cartesian(group: SpaceGroup, lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotations of a group as orthogonal matrices on a lattice (rows) that has them, (g, 3, 3)."""
    return np.asarray(lattice.T @ group.rotations @ np.linalg.inv(lattice.T))


def places_of(group: SpaceGroup, found: Sequence[Site]) -> tuple[Place, ...]:
    """Return the sites of a group with their stabilisers."""
    result = []
    for site in found:
        generic = site.origin + _GENERIC[: site.dimension] @ site.directions
        moved = group.rotations @ generic + group.translations - generic
        fixed = np.abs(moved - np.rint(moved)).max(axis=1) < _SAME_POINT
        stabiliser = tuple(int(k) for k in np.flatnonzero(fixed))
        result.append(Place(site.multiplicity, stabiliser, site.origin, site.directions))
    return tuple(result)


@lru_cache(maxsize=230)
def crystal_symmetry(number: int) -> Symmetry:
    """Return a space group in its standard setting."""
    group = space_group(number)
    w = group.conventional_rotations
    metric = np.einsum("nji,njk->ik", w, w) / len(w)
    matrices = cartesian(group, group.primitive @ np.linalg.cholesky(metric))
    return Symmetry(group_symbol(number), number, matrices, lambda: places_of(group, sites_of(group)), group)


def crystal_setting(
    rng: np.random.Generator, symmetry: Symmetry, volume: float, settings: BuildSettings
) -> Setting | None:
    """Draw a lattice of this volume (Å^3) for a space group; None where `shape.cellcon` does not go with it."""
    group = symmetry.group
    if group is None:
        raise AssertionError("a crystal has a space group")
    drawn = draw_lattice(rng, group, volume, settings)
    if drawn is None:
        return None
    lattice, transformation = drawn
    of_group = np.linalg.inv(transformation) @ lattice

    def draw(rng: np.random.Generator, place: Place) -> NDArray[np.float64]:
        return np.asarray((place.origin + rng.random(place.dimension) @ place.directions) @ of_group)

    return Setting(
        lattice,
        np.ones(3, dtype=bool),
        cartesian(group, of_group),
        group.translations @ of_group,
        np.full(3, np.inf),
        draw,
    )


@lru_cache(maxsize=65536)
def _fits(symmetry: Symmetry, place: Place, unit: Unit) -> bool:
    if len(place.stabiliser) == 1 or len(unit.symbols) == 1:
        return True
    if unit.settings.rotation_max is not None:
        return False
    return bool(orientations(unit, symmetry.matrices[list(place.stabiliser)], first_only=True))


def arrange(
    rng: np.random.Generator,
    symmetry: Symmetry,
    bodies: Sequence[tuple[Unit, int]],
    *,
    general_only: bool = False,
) -> list[list[Place]] | None:
    """Draw places for a content, or return None where the group cannot hold it.

    The largest multiplicities come first, so that general positions are preferred (AIRSS's rule). A unit sits only
    where it has the site's symmetry; a place without free parameters is used once.

    Parameters
    ----------
    rng
        Source of the choice among places of equal multiplicity.
    symmetry
        The group.
    bodies
        Units, and how many of each.
    general_only
        Use the general position only.

    Returns
    -------
    list
        Of each kind of body, the places of its orbits.
    """
    places = symmetry.places[:1] if general_only else symmetry.places
    order = sorted(rng.permutation(len(places)).tolist(), key=lambda k: -places[k].multiplicity)
    allowed = [[k for k in order if _fits(symmetry, places[k], unit)] for unit, _ in bodies]
    dead: set[tuple[int, int, int, frozenset[int]]] = set()

    def search(which: int, left: int, start: int, used: frozenset[int]) -> list[list[Place]] | None:
        if left == 0:
            if which + 1 == len(bodies):
                return [[] for _ in bodies]
            return search(which + 1, bodies[which + 1][1], 0, used)
        state = (which, left, start, used)
        if state in dead:
            return None
        for position in range(start, len(allowed[which])):
            k = allowed[which][position]
            place = places[k]
            if place.multiplicity > left or k in used:
                continue
            point = place.dimension == 0
            rest = search(which, left - place.multiplicity, position, used | {k} if point else used)
            if rest is not None:
                rest[which].insert(0, place)
                return rest
        dead.add(state)
        return None

    return search(0, bodies[0][1], 0, frozenset())
