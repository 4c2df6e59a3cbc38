"""Self-test of a reference engine where it will be used: what is calculated.

Four questions: do forces and stress agree with finite differences of the energy; from which k-point density and cutoff
on are labels good enough; what does a label cost; does a calculation whose program is killed end in the same label.
Here is the plan, in `selfcheck_judge` what the labels say; both calculate nothing, `selfcheck_run` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory.errors import InputError
from gapfactory.reference.kpoints import kpoint_grid
from gapfactory.reference.settings import DftSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.build import BuildSettings
    from gapfactory.elements import Species
    from gapfactory.reference.settings import EngineSettings

__all__ = [
    "Batch",
    "CheckPlan",
    "DerivativePlan",
    "Ladder",
    "crystal_of",
    "plan_check",
]

#: levels of the k-point density, in points per 1/Å with 2 pi, and of the cutoff, as multiples of the settings' own
DENSITIES, QUICK_DENSITIES = (1.5, 2.0, 2.5, 3.0, 4.0), (1.5, 2.5, 3.0, 4.0)
CUTOFFS, QUICK_CUTOFFS = (0.7, 0.85, 1.0, 1.25, 1.6), (0.8, 1.0, 1.4)
#: the density at which the cutoff is varied: the error of one hardly depends on the other
_CUTOFF_DENSITY = 2.0
#: rattling of the cell whose derivatives are checked: standard deviation in Å, and of the strain's components
_RATTLE, _STRAIN = 0.05, 0.015
#: crystals of more atoms are too dear for finite differences, or for a ladder
_SMALL, _MEDIUM = 4, 12


@dataclass(frozen=True)
class Batch:
    """Structures that are labelled at the same settings; names are unique within a plan."""

    name: str
    settings: EngineSettings
    items: tuple[tuple[str, Atoms], ...]


@dataclass(frozen=True)
class DerivativePlan:
    """Finite differences of one element's rattled cell.

    Attributes
    ----------
    symbol
        The element.
    batch
        The cell itself, named ``base``, then pairs named ``force-K+``, ``force-K-``, ``stress-K+``, ``stress-K-``.
    directions
        Unit vectors by ``force-K`` (N, 3) and unit symmetric tensors by ``stress-K`` (3, 3).
    """

    symbol: str
    batch: Batch
    directions: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Ladder:
    """The same structures at rising levels of one setting; the highest is the reference.

    Attributes
    ----------
    key
        The setting.
    values, batches
        Of each level.
    current
        What the settings have.
    """

    key: Literal["kpoint_density", "cutoff_eV"]
    values: tuple[float, ...]
    batches: tuple[Batch, ...]
    current: float


@dataclass(frozen=True)
class CheckPlan:
    """Everything that is calculated.

    Attributes
    ----------
    settings
        Of the engine.
    symbols
        Elements.
    derivatives
        Per element.
    density, cutoff
        Ladders; None for an engine without such a setting.
    """

    settings: EngineSettings
    symbols: tuple[str, ...]
    derivatives: tuple[DerivativePlan, ...]
    density: Ladder | None
    cutoff: Ladder | None

    @property
    def n_labels(self) -> int:
        """Labels of all batches, without the drill."""
        ladders = [ladder for ladder in (self.density, self.cutoff) if ladder is not None]
        batches = [d.batch for d in self.derivatives] + [b for ladder in ladders for b in ladder.batches]
        return sum(len(batch.items) for batch in batches)


def plan_check(
    settings: EngineSettings,
    *,
    species: Mapping[str, Species],
    formulas: Sequence[Mapping[str, int]],
    build: BuildSettings,
    seed: int = 1,
    quick: bool = False,
    cells: int | None = None,
) -> CheckPlan:
    """Return what a self-test calculates; the same arguments give the same structures.

    Parameters
    ----------
    settings
        Of the engine.
    species
        By symbol.
    formulas
        Formula units of the campaign; the random cells are of the first.
    build
        How random cells are made; their size is set here.
    seed
        Of the random cells and displacements.
    quick
        Fewer levels, cells and directions.
    cells
        Random cells of the ladders; None: 4, or 2 when quick.

    Raises
    ------
    InputError
        There is no element.
    BuildError
        No random cell can be made with these settings.
    """
    symbols = tuple(sorted(species))
    if not symbols or not formulas:
        raise InputError("a self-test needs at least one element.")
    directions = 1 if quick else 2
    derivatives = tuple(
        _plan_derivatives(settings, symbol, species, build, seed, directions) for symbol in symbols
    )
    density = cutoff = None
    if isinstance(settings, DftSettings):
        items = _ladder_structures(species, formulas[0], build, seed, quick, cells)
        density = _density_ladder(settings, items, QUICK_DENSITIES if quick else DENSITIES)
        cutoff = _cutoff_ladder(settings, items, QUICK_CUTOFFS if quick else CUTOFFS, density.values)
    return CheckPlan(settings, symbols, derivatives, density, cutoff)


def crystal_of(symbol: str, most_atoms: int) -> Atoms | None:
    """Return a crystal of an element: its first named phase that is small enough, else ASE's, else None."""
    from ase.build import bulk

    from gapfactory.analysis.phases import named_phase, names_of_phases

    for name in names_of_phases(symbol, most_atoms=most_atoms):
        return named_phase(name).atoms
    try:
        found: Atoms = bulk(symbol)
    except (ValueError, RuntimeError, KeyError, NotImplementedError):
        # ASE has no reference state of one of the simple lattices for it
        return None
    return found if len(found) <= most_atoms else None


def _random_cell(
    species: Mapping[str, Species],
    formula: Mapping[str, int],
    build: BuildSettings,
    low: int,
    high: int,
    rng: np.random.Generator,
) -> Atoms:
    from gapfactory.build import build_cell

    unit = sum(formula.values())
    sizes = {"atoms_min": min(max(low, unit), max(high, unit)), "atoms_max": max(high, unit)}
    small = type(build)(**(build.model_dump() | sizes))
    return build_cell(rng, composition=formula, species=species, generation=1, settings=small).atoms


def _plan_derivatives(
    settings: EngineSettings,
    symbol: str,
    species: Mapping[str, Species],
    build: BuildSettings,
    seed: int,
    n_directions: int,
) -> DerivativePlan:
    rng = np.random.default_rng([seed, species[symbol].number, 1])
    base = crystal_of(symbol, _SMALL)
    if base is None:
        base = _random_cell(species, {symbol: 1}, build, 2, _SMALL, rng)
    if len(base) == 1:
        # one atom per cell feels no force
        base = base.repeat((1, 1, 2))
    base.calc = None
    base.set_cell(base.cell.array @ (np.eye(3) + _symmetric(rng, _STRAIN)), scale_atoms=True)
    base.positions += rng.normal(scale=_RATTLE, size=base.positions.shape)
    if isinstance(settings, DftSettings) and settings.kpoint_grid is None:
        # the grid must not change with the strain
        settings = settings.model_copy(update={"kpoint_grid": kpoint_grid(base, settings.kpoint_density)})
    items = [("base", base)]
    directions: dict[str, NDArray[np.float64]] = {}
    for k in range(1, n_directions + 1):
        move = rng.normal(size=base.positions.shape)
        # a rigid translation costs nothing
        move -= move.mean(axis=0)
        directions[f"force-{k}"] = move / np.linalg.norm(move)
        strain = _symmetric(rng, 1.0)
        directions[f"stress-{k}"] = strain / np.linalg.norm(strain)
    for name, direction in directions.items():
        for sign, word in ((1, "+"), (-1, "-")):
            moved = base.copy()
            if name.startswith("force"):
                moved.positions += sign * settings.force_step * direction
            else:
                moved.set_cell(
                    base.cell.array @ (np.eye(3) + sign * settings.strain_step * direction), scale_atoms=True
                )
            items.append((f"{name}{word}", moved))
    return DerivativePlan(symbol, Batch(f"derivatives-{symbol}", settings, tuple(items)), directions)


def _symmetric(rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    raw = rng.normal(scale=scale, size=(3, 3))
    return np.asarray(0.5 * (raw + raw.T), dtype=float)


def _ladder_structures(
    species: Mapping[str, Species],
    formula: Mapping[str, int],
    build: BuildSettings,
    seed: int,
    quick: bool,
    cells: int | None,
) -> tuple[tuple[str, Atoms], ...]:
    # the smallest cells of a campaign have the coarsest grids
    low = min(max(build.atoms_min, 2), 6)
    high = min(max(low, 4 if quick else 8), max(build.atoms_max, low))
    number = cells or (2 if quick else 4)
    found = [
        (
            f"cell-{k}",
            _random_cell(species, formula, build, low, high, np.random.default_rng([seed, 0, 2, k])),
        )
        for k in range(1, number + 1)
    ]
    for symbol in sorted(species):
        crystal = crystal_of(symbol, _SMALL if quick else _MEDIUM)
        if crystal is not None:
            found.append((f"{symbol}-crystal", crystal))
    return tuple(found)


def _density_ladder(
    settings: DftSettings, items: tuple[tuple[str, Atoms], ...], densities: Sequence[float]
) -> Ladder:
    current = settings.kpoint_density
    values = tuple(sorted({*densities, current}))
    batches = tuple(
        Batch(
            f"density-{value:g}",
            settings.model_copy(update={"kpoint_density": value, "kpoint_grid": None}),
            items,
        )
        for value in values
    )
    return Ladder("kpoint_density", values, batches, current)


def _cutoff_ladder(
    settings: DftSettings,
    items: tuple[tuple[str, Atoms], ...],
    factors: Sequence[float],
    densities: Sequence[float],
) -> Ladder:
    current = settings.cutoff_eV
    # a density of the other ladder: what is the same is calculated once
    density = min(densities, key=lambda value: abs(value - _CUTOFF_DENSITY))
    values = tuple(
        sorted({10.0 * round(current * factor / 10.0) for factor in factors if factor != 1} | {current})
    )
    batches = tuple(
        Batch(
            f"cutoff-{value:g}",
            settings.model_copy(update={"cutoff_eV": value, "kpoint_density": density, "kpoint_grid": None}),
            items,
        )
        for value in values
    )
    return Ladder("cutoff_eV", values, batches, current)
