"""Random structures of units and atoms: crystals, slabs and clusters, with symmetry.

The same steps as for free atoms (`gapfactory.build.cells`): contents, group, lattice, places, pushing; here what
is placed and pushed are bodies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.build.body_settings import UnitSettings
from gapfactory.build.confinement import cluster_setting, cluster_symmetries, slab_setting, slab_symmetries
from gapfactory.build.lattice import obeyed
from gapfactory.build.placing import Place, Setting, Symmetry, arrange, crystal_setting, crystal_symmetry
from gapfactory.build.symmetry import candidates
from gapfactory.build.units import Unit, oriented, unit_of
from gapfactory.build.volumes import draw_contents, draw_separations
from gapfactory.errors import BuildError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.build.cells import BuiltCell
    from gapfactory.build.settings import BuildSettings
    from gapfactory.build.volumes import Contents
    from gapfactory.elements import Species

__all__ = ["Bodies", "bodies_of", "build_of_bodies"]

_PUSH_STEP = 0.25
#: a contact at exactly the wanted distance counts as met
_ROUNDING = 1e-9
#: contacts wider than this, in units of the minimum separation, are not measured
_WIDEST = 2.0
#: atoms (Å) that are outside their confinement by less are inside
_ON_THE_WALL = 1e-6


@dataclass(frozen=True, eq=False)
class Bodies:
    """Orbits of bodies on a setting, ready to be pushed.

    Parameters
    ----------
    setting
        Lattice, operations, confinement.
    owner, by, members
        Orbit and operation of each body, (b,), and the body on which each operation puts that of an orbit, (o, g).
    centres, offsets, sizes, kinds
        Of one body of each orbit: centre, (o, 3), atoms relative to it, (o, k, 3), their number, (o,), and species,
        (o, k).
    movable
        Whether an orbit is pushed, (o,): 1.0 or 0.0.
    """

    setting: Setting
    owner: NDArray[np.int64]
    by: NDArray[np.int64]
    members: NDArray[np.int64]
    centres: NDArray[np.float64]
    offsets: NDArray[np.float64]
    sizes: NDArray[np.int64]
    kinds: NDArray[np.int64]
    movable: NDArray[np.float64]

    def _arrays(self) -> tuple[Any, ...]:
        """Return what the kernels take, in one memory layout, so that each is compiled once."""
        s = self.setting
        places = (
            s.lattice,
            np.linalg.inv(s.lattice),
            s.periodic,
            s.operations,
            s.translations,
            self.owner,
            self.by,
        )
        return tuple(np.ascontiguousarray(array) for array in places)

    def pushed(self, separations: NDArray[np.float64], stall: int) -> Bodies:
        """Return the bodies pushed apart and into their confinement."""
        from gapfactory.build import _rigid

        push: Any = _rigid.push_bodies
        centres, offsets, _ = push(
            *self._arrays(),
            self.members,
            self.centres,
            self.offsets,
            self.sizes,
            self.kinds,
            separations,
            self.movable,
            self.setting.half_axes,
            _PUSH_STEP,
            stall,
        )
        return replace(self, centres=centres, offsets=offsets)

    def ratio(self, separations: NDArray[np.float64]) -> float:
        """Return the smallest distance over minimum separation between atoms of different bodies, at most 2.

        0 where an atom is outside the confinement.
        """
        from gapfactory.build import _rigid

        if np.isfinite(self.setting.half_axes).any():
            spare = np.empty(3)
            for atom in self.expanded()[0]:
                if _rigid.outside(self.setting.half_axes, atom, spare) > _ON_THE_WALL:
                    return 0.0
        ratio: Any = _rigid.body_ratio
        return float(
            ratio(
                *self._arrays(),
                self.centres,
                self.offsets,
                self.sizes,
                self.kinds,
                separations,
                self.movable,
                _WIDEST,
            )
        )

    def expanded(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Return positions, (n, 3), species and body of every atom; bodies are whole, their centres in the cell."""
        s = self.setting
        inverse = np.linalg.inv(s.lattice)
        positions, kinds, which = [], [], []
        for b, (o, g) in enumerate(zip(self.owner, self.by, strict=True)):
            centre = s.operations[g] @ self.centres[o] + s.translations[g]
            turns = np.floor(centre @ inverse + 1e-12)
            turns[~s.periodic] = 0.0
            size = int(self.sizes[o])
            positions.append(centre - turns @ s.lattice + self.offsets[o, :size] @ s.operations[g].T)
            kinds.append(self.kinds[o, :size])
            which.append(np.full(size, b))
        return np.concatenate(positions), np.concatenate(kinds), np.concatenate(which)


def build_of_bodies(
    rng: np.random.Generator,
    *,
    composition: Mapping[str, int],
    species: Mapping[str, Species],
    generation: int,
    settings: BuildSettings,
) -> BuiltCell:
    """Build one random structure of units and free atoms, confined or not; see `gapfactory.build.cells.build_cell`.

    A unit that is as large as several formula units, and of which as many are wanted as the atoms allow, takes the
    place of the formula unit: cells then hold whole units only (B12 in boron: 36 and 48 atoms between 36 and 48).

    Raises
    ------
    InputError
        Units that the composition cannot hold.
    BuildError
        No structure within `settings.tries` attempts.
    """
    units = tuple(unit_of(unit, species) for unit in settings.units)
    contents = draw_contents(
        rng,
        composition=_formula_unit(composition, units),
        species=species,
        generation=generation,
        settings=settings,
    )
    content = bodies_of(contents, composition, units)
    separations = np.ascontiguousarray(draw_separations(rng, contents.species, settings))
    general = settings.symmetry.positions == "general"
    feasible = [
        groups
        for every in _classes(settings)
        if (groups := [group for group in every if _holds(group, tuple(content), general)])
    ]
    what = " + ".join(f"{n} {unit.name}" for unit, n in content)
    if not feasible:
        raise BuildError(
            f"no group with {_asked(settings)} holds {what}: ask for fewer operations or change the numbers"
        )
    best = 0.0
    groups = feasible[int(rng.integers(len(feasible)))]
    for attempt in range(1, settings.tries + 1):
        if attempt > settings.tries // 2 and attempt > 1:
            groups = feasible[int(rng.integers(len(feasible)))]
        symmetry = groups[int(rng.integers(len(groups)))]
        allowed = min(settings.slack, settings.slack_start + settings.slack_step * (attempt - 1))
        wanted = 1.0 - allowed - _ROUNDING
        setting = _draw_setting(rng, symmetry, contents, settings)
        bodies = _placed(rng, symmetry, setting, content, contents, general) if setting is not None else None
        if bodies is None:
            continue
        bodies = bodies.pushed(separations, settings.push_stall)
        ratio = bodies.ratio(separations)
        best = max(best, ratio)
        if ratio >= wanted:
            return _built(bodies, contents, symmetry, ratio, attempt, settings)
    raise BuildError(
        f"minimum separations of {separations.min():.3f} to {separations.max():.3f} Å (slack {settings.slack}) cannot "
        f"be met by {what} at {contents.volume / contents.n_atoms:.3f} Å^3/atom"
        f"{' within the ' + settings.confinement.kind if settings.confinement else ''} (best of {settings.tries} "
        f"attempts: {best:.3f} of it); raise the volume or the room, lower the separations, or raise slack"
    )


def _formula_unit(composition: Mapping[str, int], units: Sequence[Unit]) -> Mapping[str, int]:
    """Return the composition, scaled to the size of a unit that stands for it."""
    if len(units) == 1 and units[0].settings.count is None and set(units[0].counts) == set(composition):
        counts = units[0].counts
        ratios = {counts[s] / n for s, n in composition.items()}
        if len(ratios) == 1:
            return counts
    return composition


def bodies_of(
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
            have = "".join(f"{s.symbol}{n}" for s, n in zip(contents.species, contents.counts, strict=True))
            raise InputError(
                f"{max(number, 1)} units {unit.name} do not fit into {have}: change `count`, the composition or "
                "the numbers of atoms"
            )
        for symbol, n in own.items():
            left[symbol] -= number * n
        result.append((unit, number))
    for symbol, number in left.items():
        if number:
            result.append((_atom(symbol), number))
    return result


@lru_cache(maxsize=128)
def _atom(symbol: str) -> Unit:
    return Unit(symbol, (symbol,), np.zeros((1, 3)), UnitSettings(name=symbol))


def _classes(settings: BuildSettings) -> tuple[tuple[Symmetry, ...], ...]:
    """Return the groups that the settings allow, in classes as `gapfactory.build.symmetry.candidates`.

    Raises
    ------
    InputError
        Words that have no meaning for units, clusters or slabs.
    """
    confinement, wanted = settings.confinement, settings.symmetry
    if wanted.extra_sites:
        raise InputError(
            "extra_sites is for free atoms in crystals: leave it out with `units` or `confinement`"
        )
    if confinement is None:
        classes = obeyed(candidates(settings), settings.shape)
        return tuple(tuple(map(crystal_symmetry, groups)) for groups in classes)
    if settings.shape.cell is not None or settings.shape.cellcon is not None:
        raise InputError("shape.cell and shape.cellcon are for crystals: leave them out with `confinement`")
    orders = wanted.operations or range(
        settings.symmetry_operations_min, settings.symmetry_operations_max + 1
    )
    chosen = wanted.model_dump(exclude_defaults=True).keys() - {"operations", "positions"}
    if confinement.kind == "slab":
        every = slab_symmetries(keep_sides=confinement.keep_sides)
        if chosen:
            allowed = {number for groups in candidates(settings) for number in groups}
            every = {n: tuple(s for s in groups if s.number in allowed) for n, groups in every.items()}
    else:
        if chosen:
            raise InputError(
                f"{', '.join(sorted(chosen))} choose among space groups: a cluster has a point group, choose it by "
                "`operations`"
            )
        every = cluster_symmetries(diagonal_only=confinement.half_axes is not None)
    return tuple(every[order] for order in orders if every.get(order))


def _asked(settings: BuildSettings) -> str:
    asked = settings.symmetry.model_dump(exclude_defaults=True)
    if asked:
        return ", ".join(f"{key}: {value}" for key, value in sorted(asked.items()))
    return f"{settings.symmetry_operations_min} to {settings.symmetry_operations_max} operations"


@lru_cache(maxsize=65536)
def _can_hold(
    symmetry: Symmetry, signature: tuple[tuple[tuple[str, ...], bytes, bool, int], ...], general: bool
) -> bool:
    content = []
    for symbols, positions, limited, number in signature:
        settings = UnitSettings(rotation_max=0.0 if limited else None)
        content.append((Unit("", symbols, np.frombuffer(positions).reshape(-1, 3), settings), number))
    return arrange(np.random.default_rng(0), symmetry, content, general_only=general) is not None


def _holds(symmetry: Symmetry, content: tuple[tuple[Unit, int], ...], general: bool) -> bool:
    return _can_hold(
        symmetry,
        tuple((u.symbols, u.positions.tobytes(), u.settings.rotation_max is not None, n) for u, n in content),
        general,
    )


def _draw_setting(
    rng: np.random.Generator, symmetry: Symmetry, contents: Contents, settings: BuildSettings
) -> Setting | None:
    confinement = settings.confinement
    if confinement is None:
        return crystal_setting(rng, symmetry, contents.volume, settings)
    draw = slab_setting if confinement.kind == "slab" else cluster_setting
    return draw(rng, symmetry, contents.volume, contents.n_atoms, confinement)


def _placed(
    rng: np.random.Generator,
    symmetry: Symmetry,
    setting: Setting,
    content: Sequence[tuple[Unit, int]],
    contents: Contents,
    general: bool,
) -> Bodies | None:
    """Return the content on random points of its places, units turned at random; None where two orbits coincide."""
    places = arrange(rng, symmetry, content, general_only=general)
    if places is None:
        raise AssertionError("only groups that hold the content are drawn")
    symbols = [s.symbol for s in contents.species]
    largest = max(len(unit.symbols) for unit, _ in content)
    owner: list[int] = []
    by: list[int] = []
    members: list[NDArray[np.int64]] = []
    centres: list[NDArray[np.float64]] = []
    offsets: list[NDArray[np.float64]] = []
    sizes: list[int] = []
    kinds: list[list[int]] = []
    for (unit, _), row in zip(content, places, strict=True):
        for place in row:
            atoms = oriented(rng, unit, setting.operations[list(place.stabiliser)])
            if atoms is None:
                return None
            centre = setting.draw(rng, place)
            images = _cosets(setting, place, centre)
            if images is None:
                return None
            members.append(images + len(owner))
            for image in range(place.multiplicity):
                owner.append(len(centres))
                by.append(int(np.flatnonzero(images == image)[0]))
            size = len(unit.symbols)
            centres.append(centre)
            sizes.append(size)
            offsets.append(np.vstack([atoms, np.zeros((largest - size, 3))]))
            kinds.append([*(symbols.index(s) for s in unit.symbols), *([0] * (largest - size))])
    return Bodies(
        setting,
        np.array(owner),
        np.array(by),
        np.array(members),
        np.array(centres),
        np.array(offsets),
        np.array(sizes),
        np.array(kinds),
        np.ones(len(centres)),
    )


def _cosets(setting: Setting, place: Place, centre: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return a number for the image of a point under each operation, (g,); equal images share it."""
    images = setting.operations @ centre + setting.translations
    difference = (images[:, None] - images[None]) @ np.linalg.inv(setting.lattice)
    difference[..., setting.periodic] -= np.rint(difference[..., setting.periodic])
    same = np.abs(difference @ setting.lattice).max(axis=2) < 1e-6
    _, index = np.unique(same.argmax(axis=1), return_inverse=True)
    index = np.asarray(index.reshape(-1), dtype=np.int64)
    # a point that happens to have more symmetry than its place: has no measure, and is drawn again
    return index if index.max() + 1 == place.multiplicity else None


def _built(
    bodies: Bodies,
    contents: Contents,
    symmetry: Symmetry,
    ratio: float,
    attempt: int,
    settings: BuildSettings,
) -> BuiltCell:
    from ase import Atoms

    from gapfactory.build.cells import BuiltCell

    positions, kinds, which = bodies.expanded()
    s = bodies.setting
    confinement = settings.confinement
    middle = np.zeros(3)
    if confinement is not None:
        middle = (s.lattice if confinement.kind == "cluster" else s.lattice[2:]).sum(axis=0) / 2
    positions = positions + middle
    inverse = np.linalg.inv(s.lattice)
    by_species = np.argsort(kinds, kind="stable")
    numbers = np.array([kind.number for kind in contents.species])[kinds]
    return BuiltCell(
        atoms=Atoms(
            numbers=numbers[by_species], cell=s.lattice, positions=positions[by_species], pbc=s.periodic
        ),
        volume_range=contents.volume_range,
        space_group=symmetry.number,
        symmetry_operations=symmetry.order,
        shortest_ratio=ratio,
        attempts=attempt,
        rotations=inverse.T @ s.operations @ s.lattice.T,
        translations=(s.translations + middle - s.operations @ middle) @ inverse,
        group=symmetry.name,
        bodies=tuple(int(b) for b in which[by_species]),
    )
