"""Bodies - atoms, and units of several - placed on the sites of a group, ready to be pushed apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.confinement import draw_layer
from gapfactory.build.lattice import draw_lattice
from gapfactory.build.sites import LOOSE, sites
from gapfactory.build.symmetry import on_lattice
from gapfactory.build.units import orientations, oriented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapfactory.build.confinement import Room
    from gapfactory.build.settings import BuildSettings
    from gapfactory.build.sites import Site
    from gapfactory.build.symmetry import SymmetryGroup
    from gapfactory.build.units import Unit

__all__ = ["Bodies", "Setting", "allowed_sites", "draw_basis", "place", "setting_of"]

#: fraction of a displacement that is made at once (buildcell's PUSHSTEP)
_PUSH_STEP = 0.25
#: fractional distance below which two images of a point are one atom
_SAME_POINT = 1e-6
#: draws of a point on a site before concluding that something is wrong (a non-generic one has no measure)
_POINTS = 10
#: atoms (Å) that are outside their confinement by less are inside
_ON_THE_WALL = 1e-6
#: where a structure is not periodic, contacts wider than this, in units of the minimum separation, are not told
_WIDEST = 2.0


@dataclass(frozen=True, eq=False)
class Setting:
    """A group on a lattice.

    Parameters
    ----------
    lattice
        Rows, (3, 3), Å. Along directions that are not periodic the period is longer than anything reaches.
    rotations, translations
        Operations x -> R x + t on fractional coordinates, (g, 3, 3) and (g, 3).
    room
        Confinement, and along which vectors the structure repeats.
    """

    lattice: NDArray[np.float64]
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    room: Room


def draw_basis(
    rng: np.random.Generator,
    group: SymmetryGroup,
    volume: float,
    n_atoms: int,
    room: Room,
    settings: BuildSettings,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return a lattice (rows, Å) and T, with lattice = T @ (lattice of the group); None where there is none."""
    if group.kind == "space":
        return draw_lattice(rng, group, volume, settings)
    if group.kind == "layer":
        return draw_layer(rng, group, volume, n_atoms, room)
    return np.diag(room.periods), np.eye(3)


def setting_of(
    group: SymmetryGroup, lattice: NDArray[np.float64], transformation: NDArray[np.float64], room: Room
) -> tuple[Setting, NDArray[np.float64]]:
    """Return the group on a lattice, and the matrix that takes coordinates of the group to fractional ones."""
    # x_old = T^T x_new
    forward = transformation.T
    back = np.rint(np.linalg.inv(forward))
    return Setting(lattice, back @ group.rotations @ forward, group.translations @ back.T, room), back


@lru_cache(maxsize=65536)
def allowed_sites(group: SymmetryGroup, unit: Unit) -> frozenset[int] | None:
    """Return the numbers of the sites that a unit fits: whose site symmetry it has; None: all."""
    if unit.size == 1:
        return None
    found = set()
    for number, site in enumerate(sites(group)):
        if len(site.stabiliser) == 1 or (
            unit.settings.rotation_max is None
            and orientations(unit, group.orthogonal[list(site.stabiliser)], first_only=True)
        ):
            found.add(number)
    return frozenset(found)


@dataclass(frozen=True, eq=False)
class Bodies:
    """Atoms and units on a setting. What is stored of a body is one point for each atom; its images follow.

    Parameters
    ----------
    setting
        Lattice, operations, room.
    points
        (o, 3), fractional.
    members
        Atom on which each operation puts each point, (o, g).
    translations
        Of the operations for each point, (o, g, 3), such that copies of a body are whole.
    orders
        Number of operations that act on each point, (o,).
    bodies
        Body of each point, (o,), ascending.
    instances
        First atom of the copy of a body that each atom belongs to, (n,).
    movable
        Whether each atom is pushed, (n,): 1.0 or 0.0.
    judged
        Whether each atom was placed anew, (n,): 1.0 or 0.0; contacts of two that were not are taken as given.
    """

    setting: Setting
    points: NDArray[np.float64]
    members: NDArray[np.int64]
    translations: NDArray[np.float64]
    orders: NDArray[np.int64]
    bodies: NDArray[np.int64]
    instances: NDArray[np.int64]
    movable: NDArray[np.float64]
    judged: NDArray[np.float64]

    @property
    def copies(self) -> NDArray[np.int64]:
        """Number of the copy of a body that each atom belongs to, from 0, (n,)."""
        if (self.instances == np.arange(len(self.instances))).all():
            return self.instances
        return np.unique(self.instances, return_inverse=True)[1]

    def pushed(self, separations: NDArray[np.float64], stall: int) -> NDArray[np.float64]:
        """Return the fractional coordinates of all atoms, (n, 3), pushed apart and into the room.

        Parameters
        ----------
        separations
            Minimum separation of every pair of atoms, (n, n), Å.
        stall
            Steps without progress that end the pushing.
        """
        from gapfactory.build import _kernels

        s = self.setting
        fractional, _, _ = _kernels.push(
            s.lattice,
            np.linalg.inv(s.lattice),
            s.rotations,
            np.linalg.inv(s.rotations),
            self.translations,
            self.points,
            self.members,
            self.orders,
            self.bodies,
            self.instances,
            self.movable,
            s.room.half_axes,
            separations,
            _PUSH_STEP,
            stall,
        )
        return np.asarray(fractional)

    def ratio(self, fractional: NDArray[np.float64], separations: NDArray[np.float64]) -> float:
        """Return the smallest distance over minimum separation; 0 where an atom is outside the room."""
        from gapfactory.build import _kernels

        s = self.setting
        if np.isfinite(s.room.half_axes).any():
            positions = fractional @ s.lattice
            reach = np.linalg.norm(positions / s.room.half_axes, axis=1)
            across = np.linalg.norm(positions[:, np.isfinite(s.room.half_axes)], axis=1)
            if (across * (1.0 - 1.0 / np.maximum(reach, 1.0))).max() > _ON_THE_WALL:
                return 0.0
        ratio = float(
            _kernels.shortest_ratio(s.lattice, fractional, self.instances, self.judged, separations)
        )
        return ratio if s.room.periodic.all() else min(ratio, _WIDEST)

    def whole(self, fractional: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Cartesian positions, (n, 3), of bodies that are whole and have their centres in the cell."""
        copy = self.copies
        centre = np.zeros((copy.max() + 1, 3))
        np.add.at(centre, copy, fractional)
        centre /= np.bincount(copy)[:, None]
        inside = centre % 1.0
        inside[inside >= 1.0] = 0.0  # -1e-17 % 1.0 is 1.0
        open_ = ~self.setting.room.periodic
        inside[:, open_] = centre[:, open_]
        return np.asarray((fractional - centre[copy] + inside[copy]) @ self.setting.lattice)


def place(
    rng: np.random.Generator,
    group: SymmetryGroup,
    chosen: Sequence[Sequence[Site]],
    units: Sequence[Unit],
    setting: Setting,
    back: NDArray[np.float64],
) -> Bodies | None:
    """Return bodies on random points of their sites, units turned at random such that they have the site's symmetry.

    Parameters
    ----------
    rng
        Source of the draws.
    group
        The group.
    chosen
        The sites of each kind of body.
    units
        What each kind is.
    setting, back
        As `setting_of` returns them.

    Returns
    -------
    Bodies or None
        None where a site has no room, or a unit does not fit it after all. Atoms are in the order of the kinds, copies
        of a unit one after the other.
    """
    points: list[NDArray[np.float64]] = []
    members: list[NDArray[np.int64]] = []
    translations: list[NDArray[np.float64]] = []
    orders: list[int] = []
    bodies: list[int] = []
    instances: list[NDArray[np.int64]] = []
    n_atoms = n_bodies = 0
    for unit, row in zip(units, chosen, strict=True):
        for site in row:
            point = _point(rng, group, site, setting, back)
            if point is None:
                return None
            centre, index = point
            if unit.size == 1:
                points.append(centre)
                members.append(n_atoms + index)
                translations.append(setting.translations)
                orders.append(1 if site is LOOSE else group.order)
                bodies.append(n_bodies)
                instances.append(np.arange(n_atoms, n_atoms + site.multiplicity))
            else:
                stabiliser = setting.rotations[list(site.stabiliser)]
                atoms = oriented(rng, unit, on_lattice(stabiliser, setting.lattice))
                if atoms is None:
                    return None
                inside = atoms @ np.linalg.inv(setting.lattice)
                shifts, which = _copies(setting, centre, inside, index)
                for k in range(unit.size):
                    points.append(centre + inside[k])
                    members.append(n_atoms + index * unit.size + which[:, k])
                    translations.append(shifts)
                    orders.append(group.order)
                    bodies.append(n_bodies)
                first = np.arange(n_atoms, n_atoms + site.multiplicity * unit.size, unit.size)
                instances.append(np.repeat(first, unit.size))
            n_bodies += 1
            n_atoms += site.multiplicity * unit.size
    return Bodies(
        setting,
        np.array(points),
        np.array(members),
        np.array(translations),
        np.array(orders),
        np.array(bodies),
        np.concatenate(instances),
        np.ones(n_atoms),
        np.ones(n_atoms),
    )


def _point(
    rng: np.random.Generator,
    group: SymmetryGroup,
    site: Site,
    setting: Setting,
    back: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Return a generic point of a site, fractional, and the number of its image for each operation.

    None where there is none: in a flat layer no point is beside the plane of a mirror that leaves the layer in place.
    """
    for _ in range(_POINTS):
        point = setting.room.point(rng, site)
        if site is LOOSE:
            return point @ back.T, np.zeros(group.order, dtype=np.int64)
        index = _orbit_index(group.rotations @ point + group.translations)
        if index.max() + 1 == site.multiplicity:
            return point @ back.T, index
    if setting.room.periodic.all():
        raise AssertionError(f"a site of multiplicity {site.multiplicity} has generic points")
    return None


def _orbit_index(images: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a number for each image (g, 3) of a point; those equal modulo translations share it."""
    delta = images[:, None, :] - images[None, :, :]
    same = np.abs(delta - np.rint(delta)).max(axis=2) < _SAME_POINT
    _, index = np.unique(same.argmax(axis=1), return_inverse=True)
    return np.asarray(index.reshape(-1), dtype=np.int64)


def _copies(
    setting: Setting,
    centre: NDArray[np.float64],
    inside: NDArray[np.float64],
    index: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return translations that make the copies of a unit whole, (g, 3), and which atom each becomes, (g, k).

    The first operation that makes a copy numbers its atoms; others may exchange them.
    """
    images = setting.rotations @ centre + setting.translations
    turned = np.einsum("gij,kj->gki", setting.rotations, inside)
    shifts = setting.translations.copy()
    which = np.tile(np.arange(len(inside)), (len(index), 1))
    for g, copy in enumerate(index):
        first = int(np.flatnonzero(index == copy)[0])
        if first != g:
            shifts[g] -= np.rint(images[g] - images[first])
            apart = (turned[g][:, None] - turned[first][None]) @ setting.lattice
            which[g] = np.linalg.norm(apart, axis=2).argmin(axis=1)
    return shifts, which
