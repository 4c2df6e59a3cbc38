"""Structures made from a given one: supercells, vacancies, permuted species, strained cells, displaced atoms and units.

The order of the steps is fixed: supercell, vacancies, permutation, strain, displacement, pushing, and a last
displacement that nothing mends. No symmetry is imposed.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.body_settings import AtomShake
from gapfactory.build.confinement import OPEN, Room
from gapfactory.build.lattice import draw_lattice, reduce_lattice
from gapfactory.build.placing import Bodies, Setting
from gapfactory.build.symmetry import space_group
from gapfactory.build.units import random_rotation
from gapfactory.build.volumes import draw_separations, volume_interval
from gapfactory.errors import BuildError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.build.body_settings import StartSettings
    from gapfactory.build.cells import BuiltCell
    from gapfactory.build.settings import BuildSettings
    from gapfactory.elements import Species

__all__ = ["build_shaken", "start_from_file", "supercell_shapes"]

_ROUNDING = 1e-9


def start_from_file(path: Path, **more: object) -> StartSettings:
    """Return a starting structure from a file that ASE reads; further settings by name.

    Raises
    ------
    InputError
        The file cannot be read as a structure.
    """
    from gapfactory.build.body_settings import StartSettings
    from gapfactory.io.structures import read_atoms

    atoms = read_atoms(path, "structure")
    values: dict[str, object] = {
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "periodic": atoms.pbc.tolist(),
    }
    if atoms.cell.rank == 3:
        values["cell"] = atoms.cell.array.tolist()
    return StartSettings.model_validate(values | more)


def supercell_shapes(size: int, *, flat: bool = False) -> list[NDArray[np.int64]]:
    """Return every sublattice of this index once, as an upper triangular matrix in Hermite normal form.

    Parameters
    ----------
    size
        Number of cells.
    flat
        Only those that keep the third vector.
    """
    found = []
    for a in (n for n in range(1, size + 1) if size % n == 0):
        for c in (n for n in range(1, size // a + 1) if (size // a) % n == 0):
            f = size // (a * c)
            if flat and f > 1:
                continue
            for b, d, e in product(range(c), range(f), range(f)):
                # entries above a diagonal element are smaller than it: one matrix for each sublattice
                found.append(np.array([[a, b, d], [0, c, e], [0, 0, f]], dtype=np.int64))
    return found


class _Draft:
    """The structure between two steps: symbols, positions, units and how each atom is moved."""

    def __init__(self, start: StartSettings) -> None:
        n = len(start.symbols)
        self.symbols = np.array(start.symbols, dtype=object)
        self.positions = np.array(start.positions, dtype=float).reshape(n, 3)
        self.cell = None if start.cell is None else np.array(start.cell, dtype=float)
        self.units = np.array(start.units or range(n), dtype=int)
        self.shakes = np.array(start.atoms or [AtomShake()] * n, dtype=object)

    def keep(self, index: Sequence[int] | NDArray[np.int64]) -> None:
        self.symbols, self.positions = self.symbols[index], self.positions[index]
        self.units, self.shakes = self.units[index], self.shakes[index]

    def repeat(self, matrix: NDArray[np.int64]) -> None:
        """Make the supercell whose vectors are the rows of an integer matrix times the cell; units stay whole."""
        if self.cell is None:
            raise AssertionError("checked by the settings")
        n, cells = len(self.symbols), abs(round(float(np.linalg.det(matrix))))
        reach = np.abs(matrix).sum(axis=0)
        grid = np.array(list(product(*(range(-int(r), int(r) + 1) for r in reach))))
        inside = grid @ np.linalg.inv(matrix.astype(float))
        shifts = grid[((inside > -1e-9) & (inside < 1 - 1e-9)).all(axis=1)]
        if len(shifts) != cells:
            raise AssertionError(f"{len(shifts)} cells in a supercell of {cells}")
        self.positions = (self.positions[None] + (shifts @ self.cell)[:, None]).reshape(-1, 3)
        self.units = (self.units[None] + (self.units.max() + 1) * np.arange(cells)[:, None]).reshape(-1)
        self.symbols, self.shakes = np.tile(self.symbols, cells), np.tile(self.shakes, cells)
        self.cell = matrix @ self.cell
        if len(self.symbols) != n * cells:
            raise AssertionError("every atom is repeated in every cell")


def build_shaken(
    rng: np.random.Generator, *, species: Mapping[str, Species], settings: BuildSettings
) -> BuiltCell:
    """Build one structure from the starting structure `settings.start`.

    Parameters
    ----------
    rng
        Source of every draw.
    species
        The species by symbol.
    settings
        The starting structure and how it is changed; separations, slack and tries.

    Raises
    ------
    InputError
        A species or a supercell that cannot be; more vacancies than atoms.
    BuildError
        No structure within `settings.tries` attempts has the minimum separations.
    """
    start = settings.start
    if start is None:
        raise InputError("no starting structure: set `start` of the build settings")
    missing = sorted(set(start.symbols) - set(species))
    if missing:
        raise InputError(
            f"no species given for {', '.join(missing)} of the starting structure: add them to the composition"
        )
    kinds = tuple(species[s] for s in sorted(set(start.symbols)))
    symbols = [kind.symbol for kind in kinds]
    separations = draw_separations(rng, kinds, settings)
    best = 0.0
    for attempt in range(1, settings.tries + 1):
        allowed = min(settings.slack, settings.slack_start + settings.slack_step * (attempt - 1))
        wanted = 1.0 - allowed - _ROUNDING
        draft = _Draft(start)
        _change(rng, draft, start)
        bodies, cell = _shaken(rng, draft, start, kinds, settings)
        species_of = np.array([symbols.index(symbol) for symbol in draft.symbols])
        pairs = np.ascontiguousarray(separations[np.ix_(species_of, species_of)])
        fractional = bodies.pushed(pairs, settings.push_stall) if start.pushed else bodies.points
        ratio = bodies.ratio(fractional, pairs)
        best = max(best, ratio)
        if ratio >= wanted:
            positions = bodies.whole(fractional)
            if start.break_amplitude > 0:
                positions = _displaced(rng, positions, draft, start.break_amplitude)
                ratio = bodies.ratio(positions @ np.linalg.inv(bodies.setting.lattice), pairs)
            atoms = _atoms(positions, cell, draft, start)
            return _built(atoms, bodies, draft, ratio, attempt)
    raise BuildError(
        f"minimum separations of {separations.min():.3f} to {separations.max():.3f} Å (slack {settings.slack}) cannot "
        f"be met by the shaken structure of {len(start.symbols)} atoms (best of {settings.tries} attempts: {best:.3f} "
        "of it); lower the separations, shake less, fix fewer atoms, or raise slack"
    )


def _change(rng: np.random.Generator, draft: _Draft, start: StartSettings) -> None:
    """Make supercell, vacancies, permutation."""
    if start.supercell is not None:
        matrix = np.array(start.supercell)
        if round(float(np.linalg.det(matrix))) == 0:
            raise InputError(f"supercell = {start.supercell} has no volume: give three independent rows")
        draft.repeat(matrix)
    elif start.supercell_size is not None:
        shapes = supercell_shapes(start.supercell_size, flat=not start.periodic[2])
        draft.repeat(shapes[int(rng.integers(len(shapes)))])
        if all(start.periodic) and draft.cell is not None:
            draft.cell, _ = reduce_lattice(draft.cell)
    for symbol, number in sorted(start.vacancies.items()):
        there = np.flatnonzero(draft.symbols == symbol)
        if number > len(there):
            raise InputError(
                f"{number} vacancies of {symbol}, of which there are {len(there)} atoms: ask for fewer"
            )
        gone = set(rng.choice(there, size=number, replace=False).tolist())
        draft.keep([i for i in range(len(draft.symbols)) if i not in gone])
    if start.permute:
        marked = [i for i, shake in enumerate(draft.shakes) if shake.permute] or list(
            range(len(draft.symbols))
        )
        part = np.sort(rng.permutation(marked)[: round(start.permuted_fraction * len(marked))])
        draft.symbols[part] = draft.symbols[rng.permutation(part)]


def _shaken(
    rng: np.random.Generator,
    draft: _Draft,
    start: StartSettings,
    kinds: tuple[Species, ...],
    settings: BuildSettings,
) -> tuple[Bodies, NDArray[np.float64]]:
    """Strain the cell and displace atoms and units; return them, and the cell of the result (rows, Å)."""
    periodic = np.array(start.periodic)
    new_cell = draft.cell is None and periodic.all()
    if draft.cell is not None:
        old, cell = draft.cell, _strained(rng, draft.cell, start.cell_amplitude)
    elif new_cell:
        if not all(shake.anywhere for shake in draft.shakes):
            raise InputError(
                "a starting structure without `cell` has positions of no meaning: mark its atoms `anywhere`"
            )
        counts = [int((draft.symbols == kind.symbol).sum()) for kind in kinds]
        low, high = volume_interval(kinds, counts, settings)
        volume = len(draft.symbols) * rng.uniform(low, high)
        if low == high and not settings.volume.exact:
            volume *= 1 + settings.narrow_volume_spread * rng.uniform(-1, 1)
        drawn = draw_lattice(rng, space_group(1), volume, settings)
        if drawn is None:
            raise BuildError("shape.cellcon cannot be met by a cell without symmetry: free some of it")
        old = cell = drawn[0]
    else:
        span = np.ptp(draft.positions, axis=0) + 20.0
        old = cell = np.diag(span)
    inverse = np.linalg.inv(old)
    groups = [np.flatnonzero(draft.units == unit) for unit in dict.fromkeys(draft.units.tolist())]
    moved, movable, judged = [], [], []
    for group in groups:
        shake: AtomShake = draft.shakes[group[0]]
        middle = draft.positions[group].mean(axis=0)
        atoms = draft.positions[group] - middle
        centre = middle @ inverse @ cell
        if not shake.fixed:
            if shake.anywhere:
                centre = rng.random(3) @ cell
            else:
                centre = centre + _displacement(rng, shake, start.position_amplitude)
            if len(group) > 1 and (shake.anywhere or shake.angle != 0):
                atoms = atoms @ random_rotation(rng, None if shake.anywhere else shake.angle).T
        moved.append(centre + atoms)
        pushed = not (shake.fixed or shake.no_move)
        turned = len(group) > 1 and shake.angle != 0
        anew = pushed or (not shake.fixed and (turned or _reach(shake, start.position_amplitude) > 0))
        movable += [float(pushed)] * len(group)
        judged += [float(anew)] * len(group)
    draft.keep(np.concatenate(groups))
    positions = np.concatenate(moved)
    setting = _without_symmetry(cell, periodic, positions)
    n = len(positions)
    return Bodies(
        setting,
        positions @ np.linalg.inv(setting.lattice),
        np.arange(n)[:, None],
        np.zeros((n, 1, 3)),
        np.ones(n, dtype=np.int64),
        np.repeat(np.arange(len(groups)), list(map(len, groups))),
        np.repeat([0, *np.cumsum(list(map(len, groups)))[:-1]], list(map(len, groups))),
        np.array(movable),
        np.array(judged),
    ), cell


def _reach(shake: AtomShake, default: float) -> float:
    """Return how far (Å) an atom may be displaced."""
    if shake.anywhere:
        return np.inf
    amplitude = default if shake.amplitude is None else shake.amplitude
    return max(amplitude, *(limit or 0.0 for limit in shake.box))


def _without_symmetry(
    cell: NDArray[np.float64], periodic: NDArray[np.bool_], positions: NDArray[np.float64]
) -> Setting:
    """Return the cell with vectors along which nothing repeats made longer than anything reaches."""
    lattice = cell.copy()
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    span = float(np.linalg.norm(np.ptp(positions, axis=0)))
    for k in np.flatnonzero(~periodic):
        lattice[k] *= (4 * span + 100.0) / heights[k]
    room = OPEN if periodic.all() else Room(OPEN.half_axes, OPEN.box, periodic)
    return Setting(lattice, np.eye(3)[None], np.zeros((1, 3)), room)


def _strained(rng: np.random.Generator, cell: NDArray[np.float64], amplitude: float) -> NDArray[np.float64]:
    """Return the cell under a random symmetric strain."""
    if amplitude == 0:
        return cell
    strain = np.diag(rng.uniform(-amplitude, amplitude, size=3))
    upper = rng.uniform(-amplitude / 2, amplitude / 2, size=3)
    strain[[0, 0, 1], [1, 2, 2]] = upper
    strain[[1, 2, 2], [0, 0, 1]] = upper
    return np.asarray(cell @ (np.eye(3) + strain))


def _displacement(rng: np.random.Generator, shake: AtomShake, default: float) -> NDArray[np.float64]:
    """Return a random vector: uniform in a shell, or along given axes uniform in a box."""
    amplitude = default if shake.amplitude is None else shake.amplitude
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    inner = min(shake.least, amplitude)
    radius = (inner**3 + rng.random() * (amplitude**3 - inner**3)) ** (1 / 3)
    result = radius * direction
    u = rng.uniform(-1, 1, size=3)
    for axis, limit in enumerate(shake.box):
        if limit is not None:
            result[axis] = limit * u[axis]
    return np.asarray(result)


def _displaced(
    rng: np.random.Generator, positions: NDArray[np.float64], draft: _Draft, amplitude: float
) -> NDArray[np.float64]:
    """Return the positions, all but those of fixed atoms moved once more, uniformly in a sphere."""
    fixed = np.array([shake.fixed for shake in draft.shakes])
    directions = rng.normal(size=positions.shape)
    directions *= (rng.random(len(positions)) ** (1 / 3) / np.linalg.norm(directions, axis=1))[:, None]
    return np.asarray(positions + amplitude * directions * ~fixed[:, None])


def _atoms(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    draft: _Draft,
    start: StartSettings,
) -> Atoms:
    """Return the structure, its atoms sorted by species, with those that are fixed marked."""
    from ase import Atoms
    from ase.constraints import FixAtoms

    fixed = np.array([shake.fixed for shake in draft.shakes])
    order = _by_species(draft)
    atoms = Atoms(list(draft.symbols[order]), cell=cell, positions=positions[order], pbc=start.periodic)
    if fixed.any():
        atoms.set_constraint(FixAtoms(mask=fixed[order]))
    return atoms


def _by_species(draft: _Draft) -> NDArray[np.int64]:
    return np.argsort(draft.symbols.astype(str), kind="stable")


def _built(atoms: Atoms, bodies: Bodies, draft: _Draft, ratio: float, attempt: int) -> BuiltCell:
    from gapfactory.build.cells import BuiltCell

    return BuiltCell(
        atoms=atoms,
        volume_range="narrow",
        space_group=1,
        symmetry_operations=1,
        shortest_ratio=ratio,
        attempts=attempt,
        rotations=np.eye(3)[None],
        translations=np.zeros((1, 3)),
        group="P1",
        bodies=tuple(int(b) for b in bodies.bodies[_by_species(draft)]),
    )
