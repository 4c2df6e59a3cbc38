"""Random crystals, slabs and clusters of atoms and units, with symmetry, in the manner of AIRSS's buildcell.

C. J. Pickard and R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011); used by Bernstein et al., npj
Comput. Mater. 5, 99 (2019). Own implementation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.confinement import confined_groups, room_of
from gapfactory.build.lattice import obeyed
from gapfactory.build.placing import allowed_sites, draw_basis, place, setting_of
from gapfactory.build.sites import choose, fill, fill_general, fillings
from gapfactory.build.symmetry import candidates, space_group
from gapfactory.build.units import Unit, atom, unit_of
from gapfactory.build.volumes import Contents, VolumeRange, draw_contents, draw_separations
from gapfactory.errors import BuildError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.build.confinement import Room
    from gapfactory.build.placing import Bodies
    from gapfactory.build.settings import BuildSettings
    from gapfactory.build.sites import Allowed
    from gapfactory.build.symmetry import SymmetryGroup
    from gapfactory.elements import Species

__all__ = ["BuiltCell", "build_cell", "formula_of", "formula_unit"]

#: lattices drawn for one attempt before its space group is given up: small cells meet their own images
_LATTICES = 20
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
        The cell: Minkowski-reduced unless its shape is given, positions inside it (of units their centres); atoms
        sorted by species.
    volume_range
        Which range the volume was drawn from.
    space_group
        International number of the group whose operations were imposed (the cell may have more symmetry; with
        `symmetry.positions: general` single atoms need not obey it).
    symmetry_operations
        Order of its point group.
    shortest_ratio
        Smallest distance over minimum separation, over all pairs and periodic images but those within a unit; at most 2
        in slabs and clusters.
    attempts
        Attempts used, at least 1.
    rotations, translations
        The operations imposed, x -> R x + t on fractional coordinates (columns) of the cell, (g, 3, 3) and (g, 3).
    group
        Symbol of the group: Hermann-Mauguin, of a cluster Schoenflies (then `space_group` is 0).
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
    group: str
    bodies: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """One cell's contents as bodies to be placed: units first, then the free atoms of each species.

    Parameters
    ----------
    contents
        Species, counts and volume.
    units, counts
        Each kind of body and how many of it.
    kinds
        Species of every atom, in the order in which they are placed, (n,).
    separations
        Minimum separation of every pair of atoms, (n, n), Å.
    room
        Confinement.
    """

    contents: Contents
    units: tuple[Unit, ...]
    counts: tuple[int, ...]
    kinds: NDArray[np.int64]
    separations: NDArray[np.float64]
    room: Room

    @property
    def words(self) -> str:
        """What is placed, for messages."""
        if all(unit.size == 1 for unit in self.units):
            return _formula(self.contents)
        return " + ".join(f"{n} {unit.name}" for unit, n in zip(self.units, self.counts, strict=True) if n)


def _plan(
    contents: Contents, bodies: Sequence[tuple[Unit, int]], separations: NDArray[np.float64], room: Room
) -> _Plan:
    known = [s.symbol for s in contents.species]
    kinds = np.array([known.index(s) for unit, n in bodies for _ in range(n) for s in unit.symbols])
    pairs = np.ascontiguousarray(separations[np.ix_(kinds, kinds)])
    return _Plan(contents, tuple(u for u, _ in bodies), tuple(n for _, n in bodies), kinds, pairs, room)


def formula_unit(composition: Mapping[str, int], units: Sequence[Unit]) -> Mapping[str, int]:
    """Return the composition, scaled to the size of a unit that stands for it.

    A unit that is as large as several formula units, and of which as many are wanted as the atoms allow, takes the
    place of the formula unit: cells then hold whole units only (B12 in boron: 36 and 48 atoms between 36 and 48).
    """
    if len(units) == 1 and units[0].settings.count is None and set(units[0].counts) == set(composition):
        counts = units[0].counts
        if len({counts[s] / n for s, n in composition.items()}) == 1:
            return counts
    return composition


def formula_of(
    composition: Mapping[str, int], species: Mapping[str, Species], settings: BuildSettings
) -> Mapping[str, int]:
    """Return the formula unit that numbers of atoms and volumes per formula unit are about, see `formula_unit`.

    Raises
    ------
    InputError
        A unit is unknown, or holds a species that is not among `species`.
    """
    return formula_unit(composition, [unit_of(unit, species) for unit in settings.units])


def _bodies(
    contents: Contents, composition: Mapping[str, int], units: Sequence[Unit]
) -> list[tuple[Unit, int]]:
    """Return units and free atoms of a content, with the number of each.

    Raises
    ------
    InputError
        The units hold more atoms of a species than there are, or two kinds of units are without a number.
    """
    left = {s.symbol: n for s, n in zip(contents.species, contents.counts, strict=True)}
    formulas = contents.n_atoms // sum(composition.values())
    result: list[tuple[Unit, int]] = []
    open_numbers = [unit for unit in units if unit.settings.count is None]
    if len(open_numbers) > 1:
        raise InputError(
            f"units {' and '.join(u.name for u in open_numbers)} have no `count`: give it for all but one of them"
        )
    for unit in sorted(units, key=lambda unit: unit.settings.count is None):
        own = unit.counts
        most = min(left.get(s, 0) // n for s, n in own.items())
        number = most if unit.settings.count is None else unit.settings.count * formulas
        if number > most or number == 0:
            raise InputError(
                f"{max(number, 1)} units {unit.name} do not fit into {_formula(contents)}: change `count`, the "
                "composition or the numbers of atoms"
            )
        for symbol, n in own.items():
            left[symbol] -= number * n
        result.append((unit, number))
    free = [(atom(symbol), number) for symbol, number in left.items() if number]
    return result + free


def _classes(settings: BuildSettings) -> tuple[tuple[SymmetryGroup, ...], ...]:
    """Return the groups that the settings allow, in classes as `gapfactory.build.symmetry.candidates`.

    Raises
    ------
    InputError
        Words that have no meaning for slabs or clusters.
    """
    confinement, wanted = settings.confinement, settings.symmetry
    if confinement is None:
        return _space_groups(obeyed(candidates(settings), settings.shape))
    if settings.shape.cell is not None or settings.shape.cellcon is not None:
        raise InputError("shape.cell and shape.cellcon are for crystals: leave them out with `confinement`")
    orders = wanted.operations or range(
        settings.symmetry_operations_min, settings.symmetry_operations_max + 1
    )
    every = confined_groups(confinement)
    chosen = wanted.model_dump(exclude_defaults=True).keys() - {"operations", "positions", "extra_sites"}
    if chosen and confinement.kind == "cluster":
        raise InputError(
            f"{', '.join(sorted(chosen))} choose among space groups: a cluster has a point group, choose it by "
            "`operations`"
        )
    if chosen:
        allowed = {number for groups in candidates(settings) for number in groups}
        every = {n: tuple(g for g in groups if g.number in allowed) for n, groups in every.items()}
    return tuple(every[order] for order in orders if every.get(order))


@lru_cache(maxsize=64)
def _space_groups(classes: tuple[tuple[int, ...], ...]) -> tuple[tuple[SymmetryGroup, ...], ...]:
    return tuple(tuple(map(space_group, numbers)) for numbers in classes)


def _allowed(group: SymmetryGroup, units: Sequence[Unit]) -> Allowed:
    return tuple(allowed_sites(group, unit) for unit in units)


@lru_cache(maxsize=4096)
def _feasible(
    classes: tuple[tuple[SymmetryGroup, ...], ...],
    units: tuple[Unit, ...],
    counts: tuple[int, ...],
    general: bool,
) -> tuple[tuple[SymmetryGroup, ...], ...]:
    """Return the classes of groups, each with those left that can hold the bodies.

    In the case `general` units go on general positions, free atoms as far as possible.
    """

    def holds(group: SymmetryGroup) -> bool:
        if general:
            return not any(n % group.order for unit, n in zip(units, counts, strict=True) if unit.size > 1)
        return fill(group, counts, _allowed(group, units)) is not None

    kept = (tuple(group for group in groups if holds(group)) for groups in classes)
    return tuple(groups for groups in kept if groups)


def build_cell(
    rng: np.random.Generator,
    *,
    composition: Mapping[str, int],
    species: Mapping[str, Species],
    generation: int,
    settings: BuildSettings,
) -> BuiltCell:
    """Build one random structure.

    Number of atoms, volume and number of symmetry operations are drawn first and kept (the latter for the
    first half of the attempts), so that a rejected attempt does not distort their distributions. Each attempt
    draws a group with that many operations that can hold the atoms and units, a lattice that obeys it, and
    positions, as general as their numbers allow; overlapping atoms are then pushed apart with the
    symmetry kept, units as bodies.

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
        Sizes, symmetry, volumes, separations, units, confinement.

    Raises
    ------
    InputError
        The composition does not fit the number of atoms, see `gapfactory.build.volumes.atom_counts`, or the units.
    BuildError
        No cell within `settings.tries` attempts; the text says what stood in the way and what to change.
    """
    if settings.start is not None:
        from gapfactory.build.shaken import build_shaken

        return build_shaken(rng, species=species, settings=settings)
    units = tuple(unit_of(unit, species) for unit in settings.units)
    contents = draw_contents(
        rng,
        composition=formula_unit(composition, units),
        species=species,
        generation=generation,
        settings=settings,
    )
    separations = draw_separations(rng, contents.species, settings)
    room = room_of(settings.confinement, contents.volume, contents.n_atoms)
    plan = _plan(contents, _bodies(contents, composition, units), separations, room)
    _check_packing(plan, separations, settings)
    classes = _classes(settings)
    feasible = _feasible(classes, plan.units, plan.counts, settings.symmetry.positions == "general")
    if not feasible:
        raise BuildError(_no_group(plan, settings, any_group=bool(classes)))
    best = 0.0
    groups = feasible[int(rng.integers(len(feasible)))]
    for attempt in range(1, settings.tries + 1):
        if attempt > settings.tries // 2 and attempt > 1:
            groups = feasible[int(rng.integers(len(feasible)))]
        group = groups[int(rng.integers(len(groups)))]
        allowed = min(settings.slack, settings.slack_start + settings.slack_step * (attempt - 1))
        wanted = 1.0 - allowed - _ROUNDING
        tried = _attempt(rng, plan, group, wanted, settings)
        best = max(best, tried.ratio)
        if tried.ratio >= wanted and tried.bodies is not None:
            return _built(plan, group, tried.bodies, tried.fractional, tried.ratio, attempt)
    raise BuildError(_reason(plan, separations, settings, best))


@dataclass(frozen=True)
class _Tried:
    """The smallest distance over minimum separation that an attempt reached, and what it made."""

    ratio: float
    bodies: Bodies | None = None
    fractional: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))


def _attempt(
    rng: np.random.Generator, plan: _Plan, group: SymmetryGroup, wanted: float, settings: BuildSettings
) -> _Tried:
    """Draw lattice and positions and push the atoms apart; a ratio below `wanted` is a failure."""
    from gapfactory.build import _kernels

    contents = plan.contents
    largest_own = float(np.diag(plan.separations).max())
    lattice, transformation, own_ratio = np.eye(3), np.eye(3), 0.0
    for _ in range(_LATTICES):
        drawn = draw_basis(rng, group, contents.volume, contents.n_atoms, plan.room, settings)
        if drawn is None:  # the group does not go with the conditions on the cell
            break
        lattice, transformation = drawn
        own_ratio = float(_kernels.shortest_lattice_vector(lattice)) / largest_own
        if own_ratio >= wanted:
            break
    if own_ratio < wanted:
        return _Tried(own_ratio)
    setting, back = setting_of(group, lattice, transformation, plan.room)
    allowed = _allowed(group, plan.units)
    if settings.symmetry.positions == "general":
        sizes: tuple[tuple[int, ...], ...] | None = fill_general(group, plan.counts)
    else:
        sizes = fillings(rng, group, plan.counts, settings.symmetry.extra_sites, allowed)
    if sizes is None:
        raise AssertionError("only feasible groups are drawn")
    chosen = choose(rng, group, sizes, allowed)
    bodies = None if chosen is None else place(rng, group, chosen, plan.units, setting, back)
    if bodies is None:
        return _Tried(0.0)
    fractional = bodies.pushed(plan.separations, settings.push_stall)
    return _Tried(bodies.ratio(fractional, plan.separations), bodies, fractional)


def _built(
    plan: _Plan,
    group: SymmetryGroup,
    bodies: Bodies,
    fractional: NDArray[np.float64],
    ratio: float,
    attempt: int,
) -> BuiltCell:
    from ase import Atoms

    setting, room = bodies.setting, plan.room
    positions, cell, translations = bodies.whole(fractional), setting.lattice, setting.translations
    if not room.periodic.all():
        # the box has the vacuum, and the middle of the structure in its own
        cell = np.where(room.periodic[:, None], cell, np.diag(room.box))
        positions = positions + room.box / 2
        middle = np.where(room.periodic, 0.0, 0.5)
        translations = translations + middle - setting.rotations @ middle
    by_species = np.argsort(plan.kinds, kind="stable")
    numbers = np.array([s.number for s in plan.contents.species])[plan.kinds]
    with_units = any(unit.size > 1 for unit in plan.units)
    return BuiltCell(
        atoms=Atoms(
            numbers=numbers[by_species], cell=cell, positions=positions[by_species], pbc=room.periodic
        ),
        volume_range=plan.contents.volume_range,
        space_group=group.number,
        symmetry_operations=group.order,
        shortest_ratio=ratio,
        attempts=attempt,
        rotations=setting.rotations,
        translations=np.where(room.periodic, translations % 1.0, translations),
        group=group.name,
        bodies=tuple(int(b) for b in bodies.copies[by_species]) if with_units else (),
    )


def _formula(contents: Contents) -> str:
    return "".join(f"{s.symbol}{n}" for s, n in zip(contents.species, contents.counts, strict=True))


def _check_packing(plan: _Plan, separations: NDArray[np.float64], settings: BuildSettings) -> None:
    """Refuse what no arrangement of equal spheres can meet; mixtures and units are left to the attempts."""
    contents = plan.contents
    if len(contents.species) > 1 or settings.units or settings.confinement:
        return
    diameter = separations[0, 0] * (1.0 - settings.slack)
    if contents.n_atoms * np.pi / 6 * diameter**3 > _DENSEST * contents.volume:
        raise BuildError(_reason(plan, separations, settings, None))


def _no_group(plan: _Plan, settings: BuildSettings, *, any_group: bool) -> str:
    """Return why no group is left, and what to change."""
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
    kind = (
        {"slab": "layer", "cluster": "point"}[settings.confinement.kind] if settings.confinement else "space"
    )
    return f"no {kind} group with {asked} holds {plan.words}: {remedy} or change the atom counts"


def _reason(
    plan: _Plan, separations: NDArray[np.float64], settings: BuildSettings, best: float | None
) -> str:
    """Return why no cell was built, and what to change."""
    contents = plan.contents
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
    if settings.confinement is not None:
        at += f" within the {settings.confinement.kind}"
        volume = f"enlarge the {settings.confinement.kind}, {volume}"
    separation = "lower `separations`" if in_angstrom else "lower minimum_separation_in_r"
    if settings.shape.cellcon is not None and best == 0.0:
        return (
            f"shape.cellcon = {list(settings.shape.cellcon)} does not go with the symmetry asked for at {at}, in "
            f"{settings.tries} attempts; free some of it, or widen `symmetry`"
        )
    return (
        f"minimum separation {span} ({rule}) cannot be met by {plan.words} at {at} ({how}); {volume}, or "
        f"{separation}, or raise slack"
    )
