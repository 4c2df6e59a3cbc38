"""Random cells with symmetry, in the manner of AIRSS's buildcell.

C. J. Pickard and R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011); used by Bernstein et al., npj
Comput. Mater. 5, 99 (2019). Own implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.lattice import random_lattice, reduce_lattice
from gapfactory.build.sites import choose, fill
from gapfactory.build.symmetry import SpaceGroup, groups_by_order, space_group
from gapfactory.build.volumes import Contents, VolumeRange, draw_contents, minimum_separations
from gapfactory.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from numpy.typing import NDArray

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
        The cell: periodic, Minkowski-reduced, positions inside it; atoms sorted by species.
    volume_range
        Which range the volume was drawn from.
    space_group
        International number of the group whose operations were imposed (the cell may have more symmetry).
    symmetry_operations
        Order of its point group.
    shortest_ratio
        Smallest distance over minimum separation, over all pairs and periodic images.
    attempts
        Attempts used, at least 1.
    """

    atoms: Atoms
    volume_range: VolumeRange
    space_group: int
    symmetry_operations: int
    shortest_ratio: float
    attempts: int


@lru_cache(maxsize=4096)
def _feasible(counts: tuple[int, ...], low: int, high: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Return (order, space groups) for every order that has a group which can hold the atoms."""
    result = []
    for order in range(low, high + 1):
        groups = tuple(g for g in groups_by_order(order) if fill(g, counts) is not None)
        if groups:
            result.append((order, groups))
    return tuple(result)


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
    contents = draw_contents(
        rng, composition=composition, species=species, generation=generation, settings=settings
    )
    separations = minimum_separations(contents.species, settings)
    _check_packing(contents, separations, settings)
    kinds = np.repeat(np.arange(len(contents.counts)), contents.counts)
    per_atom = np.ascontiguousarray(separations[np.ix_(kinds, kinds)])
    feasible = _feasible(contents.counts, settings.symmetry_operations_min, settings.symmetry_operations_max)
    if not feasible:
        raise BuildError(
            f"no space group with {settings.symmetry_operations_min} to {settings.symmetry_operations_max} "
            f"operations holds {_formula(contents)}: lower symmetry_operations_min or change the atom counts"
        )
    best = 0.0
    order, groups = feasible[int(rng.integers(len(feasible)))]
    for attempt in range(1, settings.tries + 1):
        if attempt > settings.tries // 2 and attempt > 1:
            order, groups = feasible[int(rng.integers(len(feasible)))]
        number = groups[int(rng.integers(len(groups)))]
        wanted = 1.0 - min(settings.slack, settings.slack_step * (attempt - 1)) - _ROUNDING
        lattice, fractional, ratio = _attempt(rng, contents, per_atom, space_group(number), wanted, settings)
        best = max(best, ratio)
        if ratio >= wanted:
            return BuiltCell(
                atoms=_atoms(contents, lattice, fractional),
                volume_range=contents.volume_range,
                space_group=number,
                symmetry_operations=order,
                shortest_ratio=ratio,
                attempts=attempt,
            )
    raise BuildError(_reason(contents, separations, settings, best))


def _attempt(
    rng: np.random.Generator,
    contents: Contents,
    per_atom: NDArray[np.float64],
    group: SpaceGroup,
    wanted: float,
    settings: BuildSettings,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return lattice, fractional coordinates and shortest ratio of one attempt (below `wanted`: failed)."""
    from gapfactory.build import _kernels

    largest_own = float(np.diag(per_atom).max())
    lattice, transformation, own_ratio = np.eye(3), np.eye(3), 0.0
    for _ in range(_LATTICES):
        lattice, transformation = reduce_lattice(random_lattice(rng, group, contents.volume))
        own_ratio = float(_kernels.shortest_lattice_vector(lattice)) / largest_own
        if own_ratio >= wanted:
            break
    if own_ratio < wanted:
        return lattice, np.zeros((contents.n_atoms, 3)), own_ratio
    multiplicities = fill(group.number, contents.counts)
    if multiplicities is None:
        raise AssertionError("only feasible groups are drawn")
    chosen = choose(rng, group.number, multiplicities)
    # operations and sites in the basis of the reduced lattice: x_old = T^T x_new
    forward = transformation.T
    back = np.rint(np.linalg.inv(forward))
    rotations = back @ group.rotations @ forward
    translations = group.translations @ back.T
    points, members = _place(rng, group, chosen)
    points = points @ back.T
    fractional, _, _ = _kernels.push(
        lattice,
        np.linalg.inv(lattice),
        rotations,
        np.linalg.inv(rotations),
        translations,
        points,
        members,
        per_atom,
        _PUSH_STEP,
        settings.push_stall,
    )
    return lattice, fractional, float(_kernels.shortest_ratio(lattice, fractional, per_atom))


def _place(
    rng: np.random.Generator, group: SpaceGroup, chosen: list[list[Site]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a random point per orbit, (o, 3), and the atom each operation puts it on, (o, g)."""
    points, members, first_atom = [], [], 0
    for row in chosen:
        for site in row:
            for _ in range(_POINTS):
                point = site.origin + rng.random(site.dimension) @ site.directions
                index = _orbit_index(group.rotations @ point + group.translations)
                if index.max() + 1 == site.multiplicity:
                    break
            else:
                raise AssertionError(f"a site of multiplicity {site.multiplicity} has generic points")
            points.append(point)
            members.append(first_atom + index)
            first_atom += site.multiplicity
    return np.array(points), np.array(members, dtype=np.int64)


def _orbit_index(images: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a number for each image (g, 3) of a point; those equal modulo translations share it."""
    delta = images[:, None, :] - images[None, :, :]
    same = np.abs(delta - np.rint(delta)).max(axis=2) < _SAME_POINT
    _, index = np.unique(same.argmax(axis=1), return_inverse=True)
    return np.asarray(index.reshape(-1), dtype=np.int64)


def _atoms(contents: Contents, lattice: NDArray[np.float64], fractional: NDArray[np.float64]) -> Atoms:
    from ase import Atoms

    numbers = np.repeat([s.number for s in contents.species], contents.counts)
    wrapped = fractional % 1.0
    wrapped[wrapped >= 1.0] = 0.0  # -1e-17 % 1.0 is 1.0
    return Atoms(numbers=numbers, cell=lattice, positions=wrapped @ lattice, pbc=True)


def _formula(contents: Contents) -> str:
    return "".join(f"{s.symbol}{n}" for s, n in zip(contents.species, contents.counts, strict=True))


def _check_packing(contents: Contents, separations: NDArray[np.float64], settings: BuildSettings) -> None:
    """Refuse what no arrangement of equal spheres can meet; mixtures are left to the attempts."""
    if len(contents.species) > 1:
        return
    diameter = separations[0, 0] * (1.0 - settings.slack)
    if contents.n_atoms * np.pi / 6 * diameter**3 > _DENSEST * contents.volume:
        raise BuildError(_reason(contents, separations, settings, None))


def _reason(
    contents: Contents, separations: NDArray[np.float64], settings: BuildSettings, best: float | None
) -> str:
    low, high = separations.min(), separations.max()
    span = f"{low:.3f} Å" if np.isclose(low, high) else f"{low:.3f} to {high:.3f} Å"
    how = (
        "closer than the densest packing of spheres"
        if best is None
        else f"best of {settings.tries} attempts: {best:.3f} of it"
    )
    at = f"{contents.volume / contents.n_atoms:.3f} Å^3/atom"
    return (
        f"minimum separation {span} ({settings.minimum_separation_in_r} r, slack {settings.slack}) cannot "
        f"be met by {_formula(contents)} at {at} ({how}); raise the volume (volume_in_r3_covalent, "
        "volume_in_r3_metallic), or lower minimum_separation_in_r, or raise slack"
    )
