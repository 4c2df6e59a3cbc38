"""Random cells with symmetry, in the manner of AIRSS's buildcell.

C. J. Pickard and R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011); used by Bernstein et al., npj
Comput. Mater. 5, 99 (2019). Own implementation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.lattice import draw_lattice, obeyed
from gapfactory.build.objects import atom, random_rotation
from gapfactory.build.sites import LOOSE, choose, fill, fill_general, fillings
from gapfactory.build.symmetry import SpaceGroup, candidates, space_group
from gapfactory.build.volumes import Contents, VolumeRange, draw_contents, draw_separations
from gapfactory.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.build.objects import Unit
    from gapfactory.build.settings import BuildSettings
    from gapfactory.build.sites import Site
    from gapfactory.elements import Species

__all__ = ["BuiltCell", "build_cell"]

#: fraction of a displacement that is made at once (buildcell's PUSHSTEP)
_PUSH_STEP = 0.25
#: lattices drawn for one attempt before its space group is given up: small cells meet their own images
_LATTICES = 20
#: fractional distance below which two images of a point are one atom
_SAME_POINT = 1e-6
#: draws of a point on a site before concluding that something is wrong (a non-generic one has no measure)
_POINTS = 10
#: the same where points are kept within limits
_POINTS_WITHIN = 1000
#: a contact at exactly the wanted distance counts as met
_ROUNDING = 1e-9
#: packing fraction of the densest arrangement of equal spheres, pi / sqrt(18)
_DENSEST = np.pi / np.sqrt(18)


@dataclass(frozen=True)
class BuiltCell:
    """A random cell and how it was made.

    Parameters
    ----------
    atoms
        The cell: periodic, Minkowski-reduced unless its shape is given, positions inside it; atoms sorted by species,
        those of units before them.
    volume_range
        Which range the volume was drawn from.
    space_group
        International number of the group whose operations were imposed (the cell may have more symmetry; with
        `symmetry.positions: general` single atoms need not obey it).
    symmetry_operations
        Order of its point group.
    shortest_ratio
        Smallest distance over minimum separation, over all pairs and periodic images.
    attempts
        Attempts used, at least 1.
    rotations, translations
        The operations imposed, x -> R x + t on fractional coordinates (columns) of the cell, (g, 3, 3) and (g, 3).
    group
        Symbol of the group: Hermann-Mauguin, of a cluster Schoenflies (then `space_group` is 0). Cells of free atoms in
        three periodic directions leave it empty.
    bodies
        Number of the body that each atom belongs to; empty where every atom is placed by itself.
    """

    atoms: Atoms
    volume_range: VolumeRange
    space_group: int
    symmetry_operations: int
    shortest_ratio: float
    attempts: int
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    group: str = ""
    bodies: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """One cell's contents as objects to be placed: units first, then the free atoms of each species.

    Parameters
    ----------
    contents
        Species, counts and volume.
    objects, counts
        Each kind of object and how many of it.
    symbols
        Of every atom, in the order in which they are placed.
    separations
        Minimum separation of every pair of atoms, (n, n), Å.
    """

    contents: Contents
    objects: tuple[Unit, ...]
    counts: tuple[int, ...]
    symbols: tuple[str, ...]
    separations: NDArray[np.float64]


def _plan(contents: Contents, separations: NDArray[np.float64]) -> _Plan:
    objects = (*contents.units, *(atom(s.symbol) for s in contents.species))
    counts = (*contents.unit_counts, *contents.free_counts)
    symbols = tuple(
        s for unit, n in zip(objects, counts, strict=True) for _ in range(n) for s in unit.symbols
    )
    known = [s.symbol for s in contents.species]
    kinds = np.array([known.index(s) for s in symbols])
    return _Plan(contents, objects, counts, symbols, np.ascontiguousarray(separations[np.ix_(kinds, kinds)]))


@lru_cache(maxsize=4096)
def _feasible(
    classes: tuple[tuple[int, ...], ...], counts: tuple[int, ...], units: int, general: bool
) -> tuple[tuple[int, ...], ...]:
    """Return the classes of groups, each with those left that can hold the objects.

    The first `units` kinds are units, which go on general positions; free atoms go anywhere, or in the case `general`
    as far as possible there.
    """

    def holds(number: int) -> bool:
        order = space_group(number).order
        whole = not any(n % order for n in counts[:units])
        return whole and (general or fill(number, counts[units:]) is not None)

    kept = (tuple(number for number in groups if holds(number)) for groups in classes)
    return tuple(groups for groups in kept if groups)


def build_cell(
    rng: np.random.Generator,
    *,
    composition: Mapping[str, int],
    species: Mapping[str, Species],
    generation: int,
    settings: BuildSettings,
) -> BuiltCell:
    """Build one random cell.

    Number of atoms, volume and number of symmetry operations are drawn first and kept (the latter for the
    first half of the attempts), so that a rejected attempt does not distort their distributions. Each attempt
    draws a space group with that many operations that can hold the atoms, a lattice that obeys it, and
    positions, as general as the numbers of atoms allow; overlapping atoms are then pushed apart with the
    symmetry kept.

    Parameters
    ----------
    rng
        Source of every draw; one stream per cell (`gapfactory.seeds.stream`) makes cells independent.
    composition
        Reduced formula unit, e.g. ``{"Ti": 1, "O": 2}``.
    species
        The species by symbol.
    generation
        0 for the initial generation, which has wide volumes too.
    settings
        Sizes, symmetry, volumes, separations.

    Raises
    ------
    InputError
        The composition does not fit the number of atoms, see `gapfactory.build.volumes.atom_counts`.
    BuildError
        No cell within `settings.tries` attempts; the text says what stood in the way and what to change.
    """
    if settings.start is not None:
        from gapfactory.build.shaken import build_shaken

        return build_shaken(rng, species=species, settings=settings)
    if settings.units or settings.confinement is not None:
        from gapfactory.build.bodies import build_of_bodies

        return build_of_bodies(
            rng, composition=composition, species=species, generation=generation, settings=settings
        )
    contents = draw_contents(
        rng, composition=composition, species=species, generation=generation, settings=settings
    )
    separations = draw_separations(rng, contents.species, settings)
    _check_packing(contents, separations, settings)
    plan = _plan(contents, separations)
    classes = obeyed(candidates(settings), settings.shape)
    general = settings.symmetry.positions == "general"
    feasible = _feasible(classes, plan.counts, len(contents.units), general)
    if not feasible:
        raise BuildError(_no_group(contents, settings, any_group=bool(classes)))
    best = 0.0
    groups = feasible[int(rng.integers(len(feasible)))]
    for attempt in range(1, settings.tries + 1):
        if attempt > settings.tries // 2 and attempt > 1:
            groups = feasible[int(rng.integers(len(feasible)))]
        group = space_group(groups[int(rng.integers(len(groups)))])
        allowed = min(settings.slack, settings.slack_start + settings.slack_step * (attempt - 1))
        wanted = 1.0 - allowed - _ROUNDING
        tried = _attempt(rng, plan, group, wanted, settings)
        best = max(best, tried.ratio)
        if tried.ratio >= wanted:
            return BuiltCell(
                atoms=_atoms(plan, tried.lattice, tried.fractional),
                volume_range=contents.volume_range,
                space_group=group.number,
                symmetry_operations=group.order,
                shortest_ratio=tried.ratio,
                attempts=attempt,
                rotations=tried.rotations,
                translations=tried.translations,
            )
    raise BuildError(_reason(contents, separations, settings, best))


@dataclass(frozen=True)
class _Tried:
    """The smallest distance over minimum separation that an attempt reached, and what it made.

    The arrays are lattice (3, 3), coordinates (n, 3) and operations (g, 3, 3) and (g, 3).
    """

    ratio: float
    lattice: NDArray[np.float64]
    fractional: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    rotations: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3, 3)))
    translations: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))


def _attempt(
    rng: np.random.Generator, plan: _Plan, group: SpaceGroup, wanted: float, settings: BuildSettings
) -> _Tried:
    """Draw lattice and positions and push the atoms apart; a ratio below `wanted` is a failure."""
    from gapfactory.build import _kernels

    largest_own = float(np.diag(plan.separations).max())
    lattice, transformation, own_ratio = np.eye(3), np.eye(3), 0.0
    for _ in range(_LATTICES):
        drawn = draw_lattice(rng, group, plan.contents.volume, settings)
        if drawn is None:  # the group does not go with the conditions on the cell
            break
        lattice, transformation = drawn
        own_ratio = float(_kernels.shortest_lattice_vector(lattice)) / largest_own
        if own_ratio >= wanted:
            break
    if own_ratio < wanted:
        return _Tried(own_ratio, lattice)
    # operations and sites in the basis of the lattice: x_old = T^T x_new
    forward = transformation.T
    back = np.rint(np.linalg.inv(forward))
    rotations = back @ group.rotations @ forward
    translations = group.translations @ back.T
    limits = half_axes(plan.contents, settings)
    placed = _place(rng, group, _draw_sites(rng, group, plan, settings), plan, lattice, back, limits)
    if placed is None:
        return _Tried(0.0, lattice)
    fractional, _, _ = _kernels.push(
        lattice,
        np.linalg.inv(lattice),
        rotations,
        np.linalg.inv(rotations),
        translations,
        placed.points,
        placed.members,
        placed.orders,
        placed.bodies,
        placed.instances,
        limits,
        plan.separations,
        _PUSH_STEP,
        settings.push_stall,
    )
    ratio = float(_kernels.shortest_ratio(lattice, fractional, placed.instances, plan.separations))
    return _Tried(ratio, lattice, fractional, rotations, translations % 1.0)


def half_axes(contents: Contents, settings: BuildSettings) -> NDArray[np.float64]:
    """Return the half axes, (3,), Å, of the ellipsoid about the origin that holds all objects; infinite: no limit."""
    return np.full(3, np.inf)


def _draw_sites(
    rng: np.random.Generator, group: SpaceGroup, plan: _Plan, settings: BuildSettings
) -> list[list[Site]]:
    """Return a site for every orbit of every kind of object."""
    units = len(plan.contents.units)
    free = plan.counts[units:]
    if settings.symmetry.positions == "general":
        multiplicities: tuple[tuple[int, ...], ...] | None = fill_general(group.number, free)
    else:
        multiplicities = fillings(rng, group.number, free, settings.symmetry.extra_sites)
    if multiplicities is None:
        raise AssertionError("only feasible groups are drawn")
    of_units = fill_general(group.number, plan.counts[:units])
    return choose(rng, group.number, (*of_units, *multiplicities))


@dataclass(frozen=True)
class _Placed:
    """What `_kernels.push` moves; see there."""

    points: NDArray[np.float64]
    members: NDArray[np.int64]
    orders: NDArray[np.int64]
    bodies: NDArray[np.int64]
    instances: NDArray[np.int64]


def _place(
    rng: np.random.Generator,
    group: SpaceGroup,
    chosen: list[list[Site]],
    plan: _Plan,
    lattice: NDArray[np.float64],
    back: NDArray[np.float64],
    limits: NDArray[np.float64],
) -> _Placed | None:
    """Return a random point for each orbit of atoms and the atom each operation puts it on.

    None where no point of a site is within the limits, or a unit does not fit its site.
    """
    points: list[NDArray[np.float64]] = []
    members: list[NDArray[np.int64]] = []
    orders: list[int] = []
    bodies: list[int] = []
    instances = np.arange(len(plan.symbols))
    first_atom = 0
    inverse = None
    for unit, row in zip(plan.objects, chosen, strict=True):
        for site in row:
            point = _point(rng, group, site, lattice, back, limits)
            if point is None:
                return None
            centre, index = point
            if unit.size == 1:
                points.append(centre)
                members.append(first_atom + index)
                orders.append(1 if site is LOOSE else group.order)
                bodies.append(len(bodies))
            else:
                if inverse is None:
                    inverse = np.linalg.inv(lattice)
                inside = unit.positions @ random_rotation(rng).T @ inverse
                body = len(bodies)
                for k in range(unit.size):
                    points.append(centre + inside[k])
                    members.append(first_atom + index * unit.size + k)
                    orders.append(group.order)
                    bodies.append(body if unit.rigid else body + k)
                if unit.rigid:
                    for copy in range(site.multiplicity):
                        start = first_atom + copy * unit.size
                        instances[start : start + unit.size] = start
            first_atom += site.multiplicity * unit.size
    return _Placed(np.array(points), np.array(members), np.array(orders), np.array(bodies), instances)


def _point(
    rng: np.random.Generator,
    group: SpaceGroup,
    site: Site,
    lattice: NDArray[np.float64],
    back: NDArray[np.float64],
    limits: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Return a generic point of a site, in the basis of the lattice, and the number of its image for each operation."""
    free = bool(np.isinf(limits).all())
    for _ in range(_POINTS if free else _POINTS_WITHIN):
        point = site.origin + rng.random(site.dimension) @ site.directions
        if not free:  # the image nearest the origin along each axis
            within = (point @ back.T - np.rint(point @ back.T)) @ lattice
            if ((within / limits) ** 2).sum() > 1.0:
                continue
            point = point - np.rint(point @ back.T) @ np.linalg.inv(back.T)
        if site is LOOSE:
            return point @ back.T, np.zeros(group.order, dtype=np.int64)
        index = _orbit_index(group.rotations @ point + group.translations)
        if index.max() + 1 == site.multiplicity:
            return point @ back.T, index
    if free:
        raise AssertionError(f"a site of multiplicity {site.multiplicity} has generic points")
    return None


def _orbit_index(images: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a number for each image (g, 3) of a point; those equal modulo translations share it."""
    delta = images[:, None, :] - images[None, :, :]
    same = np.abs(delta - np.rint(delta)).max(axis=2) < _SAME_POINT
    _, index = np.unique(same.argmax(axis=1), return_inverse=True)
    return np.asarray(index.reshape(-1), dtype=np.int64)


def _atoms(plan: _Plan, lattice: NDArray[np.float64], fractional: NDArray[np.float64]) -> Atoms:
    from ase import Atoms

    wrapped = fractional % 1.0
    wrapped[wrapped >= 1.0] = 0.0  # -1e-17 % 1.0 is 1.0
    return Atoms(plan.symbols, cell=lattice, positions=wrapped @ lattice, pbc=True)


def _formula(contents: Contents) -> str:
    return "".join(f"{s.symbol}{n}" for s, n in zip(contents.species, contents.counts, strict=True))


def _check_packing(contents: Contents, separations: NDArray[np.float64], settings: BuildSettings) -> None:
    """Refuse what no arrangement of equal spheres can meet; mixtures and units are left to the attempts."""
    if len(contents.species) > 1 or contents.units:
        return
    diameter = separations[0, 0] * (1.0 - settings.slack)
    if contents.n_atoms * np.pi / 6 * diameter**3 > _DENSEST * contents.volume:
        raise BuildError(_reason(contents, separations, settings, None))


def _no_group(contents: Contents, settings: BuildSettings, *, any_group: bool) -> str:
    """Return why no space group is left, and what to change."""
    wanted = settings.symmetry.model_dump(exclude_defaults=True)
    if set(wanted) <= {"positions", "extra_sites"}:
        asked = f"{settings.symmetry_operations_min} to {settings.symmetry_operations_max} operations"
        remedy = "lower symmetry_operations_min"
    else:
        asked = ", ".join(f"{key}: {value}" for key, value in sorted(wanted.items()))
        remedy = "widen `symmetry`"
    if not any_group and settings.shape.cell is not None:
        cell = settings.shape.cell
        return (
            f"no space group with {asked} is obeyed by the fixed cell {cell}: {remedy} or change shape.cell"
        )
    return f"no space group with {asked} holds {_formula(contents)}: {remedy} or change the atom counts"


def _reason(
    contents: Contents, separations: NDArray[np.float64], settings: BuildSettings, best: float | None
) -> str:
    """Return why no cell was built, and what to change."""
    low, high = separations.min(), separations.max()
    span = f"{low:.3f} Å" if np.isclose(low, high) else f"{low:.3f} to {high:.3f} Å"
    how = (
        "closer than the densest packing of spheres"
        if best is None
        else f"best of {settings.tries} attempts: {best:.3f} of it"
    )
    at = f"{contents.volume / contents.n_atoms:.3f} Å^3/atom"
    given = settings.separations
    in_angstrom = bool(given.value or given.pairs)
    rule = (
        f"slack {settings.slack}"
        if in_angstrom
        else f"{settings.minimum_separation_in_r} r, slack {settings.slack}"
    )
    volume = (
        "enlarge shape.cell"
        if settings.shape.cell is not None
        else "raise the volume (`volume`)"
        if settings.volume.given
        else "raise the volume (volume_in_r3_covalent, volume_in_r3_metallic)"
    )
    separation = "lower `separations`" if in_angstrom else "lower minimum_separation_in_r"
    if settings.shape.cellcon is not None and best == 0.0:
        return (
            f"shape.cellcon = {list(settings.shape.cellcon)} does not go with the symmetry asked for at {at}, in "
            f"{settings.tries} attempts; free some of it, or widen `symmetry`"
        )
    return (
        f"minimum separation {span} ({rule}) cannot be met by {_formula(contents)} at {at} ({how}); {volume}, or "
        f"{separation}, or raise slack"
    )
