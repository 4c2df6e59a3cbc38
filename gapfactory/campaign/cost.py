"""What a campaign will cost, before anything runs: tasks, labels, core-hours and peak memory.

The rates were measured on one core of a 2-core x86-64 machine (docs/reference/benchmarks.md); a campaign that has run
states its own in the report. Treat the hours as right within a factor of two or three.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import generations_of, plan_generation, recipe_of
from gapfactory.protocols.recipe import builds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.campaign.model import Campaign
    from gapfactory.protocols.plan import PlannedTask
    from gapfactory.protocols.recipe import GenerationRecipe

__all__ = ["CostEstimate", "CostRow", "GenerationRow", "estimate", "generation_rows"]

#: Seconds to make one random cell.
BUILD_S = 0.002
#: Seconds per atom to describe a structure for the selection.
DESCRIBE_S = 0.0001
#: Evaluations of a relaxation, and the seconds that its optimiser takes for one.
EVALUATIONS, STEP_S = 91, 6e-5
#: Seconds of a task on the queue, of storing one relaxation, of starting a child process for labels.
TASK_S, STORE_S, CHILD_S = 0.1, 0.002, 0.5
#: Seconds that ASE takes for one evaluation, and for a step of molecular dynamics that is watched.
CALL_S, DYNAMICS_S = 4e-4, 1e-3
#: Seconds of a plane-wave single point: per k-point, atom and (300 eV)^-1.5 of cutoff.
DFT_FIXED_S, DFT_POINT_S = 1.0, 0.04
#: Seconds of a single point by an analytic potential.
ANALYTIC_S = 0.02


@dataclass(frozen=True)
class CostRow:
    """One kind of work.

    Attributes
    ----------
    what
        The kind.
    tasks
        Tasks on the queue.
    items
        Cells, relaxations, labels or fits.
    core_hours
        Estimated.
    basis
        How.
    """

    what: str
    tasks: int
    items: int
    core_hours: float
    basis: str


@dataclass(frozen=True)
class GenerationRow:
    """What one generation, or several equal ones, do.

    Attributes
    ----------
    generations
        E.g. ``0`` or ``1-24``.
    title
        What they are for.
    cells
        Random cells of each, by component.
    relaxed
        Whether they are relaxed, and under which mean pressure.
    labels
        New labels of each, by what they are of.
    fit
        Which crystals are in the fit, and its SOAP settings.
    """

    generations: str
    title: str
    cells: dict[str, int]
    relaxed: str
    labels: dict[str, int]
    fit: str

    def words(self) -> list[str]:
        """Return the row as texts of a table."""
        cells, labels = (
            f"{sum(numbers.values())}: {', '.join(f'{n} {name}' for name, n in numbers.items())}"
            if numbers
            else ""
            for numbers in (self.cells, self.labels)
        )
        return [self.generations, self.title, cells, self.relaxed, labels, self.fit]


@dataclass(frozen=True)
class CostEstimate:
    """The plan of a whole campaign.

    Attributes
    ----------
    campaign
        Name.
    rows
        By kind of work.
    labels
        Labels of random-search structures, held-out ones included.
    label_budget
        As set.
    atom_labels
        Isolated atoms and dimers.
    generations
        What each generation does.
    fit_memory_gb, select_memory_gb
        Peak memory of the last fit and of a selection, GB.
    warnings
        What to think of before starting.
    """

    campaign: str
    rows: tuple[CostRow, ...]
    labels: int
    label_budget: int
    atom_labels: int
    generations: tuple[GenerationRow, ...]
    fit_memory_gb: float
    select_memory_gb: float
    warnings: tuple[str, ...]

    @property
    def core_hours(self) -> float:
        """All work together."""
        return sum(row.core_hours for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "core_hours": self.core_hours}


def generation_rows(campaign: Campaign) -> tuple[GenerationRow, ...]:
    """Return what the generations of a campaign do; equal ones that follow each other share a row."""
    found: list[tuple[int, int, GenerationRow]] = []
    for generation in range(generations_of(campaign)):
        row = _row(campaign, recipe_of(campaign, generation))
        if found and found[-1][2] == row:
            found[-1] = (found[-1][0], generation, row)
        else:
            found.append((generation, generation, row))
    return tuple(
        replace(row, generations=str(first) if first == last else f"{first}-{last}")
        for first, last, row in found
    )


def _row(campaign: Campaign, recipe: GenerationRecipe) -> GenerationRow:
    relax, soap = recipe.relax, recipe.gap.soap
    pressure = 0.0 if relax is None else relax.pressure_scale_GPa * relax.pressure_beta
    crystals = sum(campaign.crystals[name].count for name in recipe.crystals)
    labels: dict[str, int]
    if recipe.picks == "snapshots":
        labels = dict.fromkeys((*(f"step {step}" for step in recipe.early_steps), "end"), recipe.n_labelled)
    elif recipe.picks == "cells":
        labels = {"cell": recipe.n_cells}
    else:
        labels = {"training": recipe.train, "held-out": recipe.test}
    with_crystals = f"with {', '.join(recipe.trained_crystals)}; " if recipe.trained_crystals else ""
    return GenerationRow(
        generations="",
        title=recipe.title,
        cells={part.component: part.stop - part.start for part in recipe.cells},
        relaxed="" if relax is None else f"mean pressure {pressure:g} GPa" if pressure else "no pressure",
        labels={key: n for key, n in (*labels.items(), ("crystal", crystals)) if n},
        fit=f"{with_crystals}SOAP {soap.atom_sigma:g} Å {soap.n_max}/{soap.l_max}",
    )


def estimate(campaign: Campaign) -> CostEstimate:
    """Estimate tasks, labels, core-hours and memory of a campaign that uses its whole budget."""
    from gapfactory.potentials.gap.memory import evaluation_time, load_time

    recipes = [recipe_of(campaign, generation) for generation in range(generations_of(campaign))]
    generations, labels = len(recipes), sum(recipe.labels for recipe in recipes)
    trained: list[int] = []
    for recipe in recipes:
        late = sum(campaign.crystals[name].count for name in recipe.trained_crystals)
        early = sum(campaign.crystals[name].count for name in recipes[0].trained_crystals)
        trained.append(sum(r.train for r in recipes[: recipe.generation + 1]) + late - early)
    tasks: dict[TaskKind, int] = dict.fromkeys(TaskKind, 0)
    counted: dict[tuple[int, int, str, bool], list[PlannedTask]] = {}
    for recipe in recipes:
        shape = (recipe.n_cells, recipe.labels, recipe.picks, recipe.relax is None)
        if shape not in counted:
            counted[shape] = list(plan_generation(campaign, recipe.generation))
        for task in counted[shape]:
            tasks[task.kind] += 1
    atoms = _mean_atoms(recipes)
    initial = recipes[0].n_cells
    later = max((recipe.n_cells for recipe in recipes[1:]), default=0)
    relaxations = sum(recipe.n_cells for recipe in recipes if recipe.relax is not None)
    n_species = len(campaign.species_table)
    pairs = n_species * (n_species + 1) // 2
    atom_labels = n_species + campaign.dimers.bond_lengths * pairs
    curves = len(campaign.phase_names()) * len(campaign.evidence.curves.volume_factors)
    volume, elements = _mean_volume(campaign), tuple(campaign.species_table.values())
    evaluated = partial(evaluation_time, volume_per_atom=volume, species=elements, settings=campaign.gap)
    per_atom, load = evaluated(), load_time(elements, campaign.gap)
    relaxation = min(EVALUATIONS, campaign.relax.max_steps + 1) * (
        STEP_S + atoms * evaluated(uncertainty=campaign.relax.max_uncertainty is not None)
    )
    single, basis = _single_point(campaign, atoms)
    fit_s, fit_gb = _fits(campaign, recipes, trained, atoms)
    cells = initial + relaxations
    frames = 0.0
    if recipes[0].picks == "funnel":
        frames = campaign.select.frames_histogram_per_label * recipes[0].labels * (generations - 1)
    hour = 3600.0
    noise = campaign.select.noise_cells
    rows = (
        CostRow(
            "build", tasks[TaskKind.BUILD], cells, cells * BUILD_S / hour, f"{1000 * BUILD_S:g} ms a cell"
        ),
        CostRow(
            "relax",
            tasks[TaskKind.RELAX],
            relaxations,
            (relaxations * (relaxation + STORE_S) + tasks[TaskKind.RELAX] * load) / hour,
            f"{1000 * relaxation:.0f} ms a relaxation",
        ),
        CostRow(
            "select",
            tasks[TaskKind.SELECT],
            generations,
            (initial + 0.25 * relaxations + frames) * atoms * DESCRIBE_S / hour
            if recipes[0].picks == "funnel"
            else 0.0,
            f"{1000 * DESCRIBE_S:g} ms an atom",
        ),
        CostRow(
            "reference",
            tasks[TaskKind.REFERENCE],
            labels + atom_labels + noise + curves,
            (
                (labels + noise * 2.5 + curves) * single
                + atom_labels * min(single, 10.0)
                + tasks[TaskKind.REFERENCE] * CHILD_S
            )
            / hour,
            basis,
        ),
        CostRow(
            "fit",
            tasks[TaskKind.FIT],
            generations,
            fit_s / hour,
            "one pass over the data serves all stages"
            if campaign.gap.backend == "native"
            else "gap_fit's covariance loop, three staged fits",
        ),
        CostRow(
            "assess",
            tasks[TaskKind.ASSESS],
            generations,
            (
                generations * (2 * load + (labels + curves * 20) * (CALL_S + atoms * per_atom))
                + _stability(campaign, generations, per_atom)
            )
            / hour,
            "held-out structures, curves and molecular dynamics",
        ),
    )
    return CostEstimate(
        campaign=campaign.name,
        rows=tuple(replace(row, core_hours=row.core_hours + row.tasks * TASK_S / hour) for row in rows),
        labels=labels,
        label_budget=campaign.stop.label_budget,
        atom_labels=atom_labels,
        generations=generation_rows(campaign),
        fit_memory_gb=fit_gb,
        select_memory_gb=0.3 + min(max(initial, later), 10_000) ** 2 * 4e-9,
        warnings=_warnings(campaign, fit_gb),
    )


def _stability(campaign: Campaign, generations: int, per_atom: float) -> float:
    """Return the seconds of molecular dynamics, given those of an evaluation per atom."""
    from gapfactory.analysis.dynamics import default_timestep

    wanted = campaign.evidence.stability
    if not wanted.enabled:
        return 0.0
    from ase.data import atomic_masses

    timestep = wanted.timestep_fs or default_timestep(atomic_masses[list(campaign.numbers)])
    steps = 1000.0 * (wanted.duration_ps + wanted.nve_ps) / timestep
    runs = generations if wanted.when == "every" else 1
    return runs * steps * (DYNAMICS_S + wanted.n_atoms * per_atom)


def _mean_atoms(recipes: Sequence[GenerationRecipe]) -> float:
    """Return the atoms of a cell, over all components by their numbers of cells."""
    parts = [part for recipe in recipes for part in recipe.cells]
    cells = sum(part.stop - part.start for part in parts)
    if not cells:
        return 1.0
    atoms = ((part.stop - part.start) * (part.build.atoms_min + part.build.atoms_max) / 2 for part in parts)
    return sum(atoms) / cells


def _mean_volume(campaign: Campaign) -> float:
    from gapfactory.build import volume_per_atom

    table = campaign.species_table
    builds = [component.build for component in campaign.components.values()] or [campaign.build]
    return sum(
        weight * volume_per_atom([table[s] for s in formula], list(formula.values()), build) / len(builds)
        for formula, weight in campaign.formulas
        for build in builds
    )


def _single_point(campaign: Campaign, atoms: float) -> tuple[float, str]:
    from math import ceil, pi

    from gapfactory.reference import DftSettings, engine_classes

    reference = campaign.reference
    if not isinstance(reference, DftSettings):
        return ANALYTIC_S, f"{ANALYTIC_S:g} s a label (analytic)"
    engine = engine_classes()[reference.engine]
    edge = (_mean_volume(campaign) * atoms) ** (1 / 3)
    points = ceil(reference.kpoint_density * 2 * pi / edge) ** 3 / 2
    work = points * atoms * (reference.cutoff_eV / engine.cost_cutoff_eV) ** 1.5
    seconds = DFT_FIXED_S + DFT_POINT_S * engine.relative_cost * work
    return (
        seconds,
        f"{seconds:.1f} s a label: {atoms:.3g} atoms, {points:.0f} k-points, {reference.cutoff_eV:g} eV",
    )


def _fits(
    campaign: Campaign, recipes: Sequence[GenerationRecipe], trained: Sequence[int], atoms: float
) -> tuple[float, float]:
    """Return the seconds of all fits, given the labels of each, and the memory (GB) of the largest."""
    from gapfactory.potentials.gap import estimate_memory

    fits = [
        estimate_memory(
            n_structures=max(n, 1),
            atoms_per_structure=atoms,
            volume_per_atom=_mean_volume(campaign),
            species=tuple(campaign.species_table.values()),
            settings=recipe.gap,
        )
        for recipe, n in zip(recipes, trained, strict=True)
    ]
    return sum(fit.cpu_s for fit in fits), max(fit.peak_bytes for fit in fits) / 1e9


def _warnings(campaign: Campaign, fit_gb: float) -> tuple[str, ...]:
    found = []
    if fit_gb > 16:
        found.append(
            f"the last fit needs about {fit_gb:.0f} GB: send fit tasks to a large node, or lower "
            "gap.soap.n_sparse "
            "or stop.label_budget"
        )
    from gapfactory.reference import DftSettings

    reference = campaign.reference
    if (
        isinstance(reference, DftSettings)
        and reference.kpoint_grid is None
        and reference.kpoint_density < 2.5
    ):
        found.append(
            f"a k-point density of {reference.kpoint_density:g} leaves a label noise of tens of meV/atom "
            "for small "
            "cells; 2.5 or more is advised"
        )
    auto = [name for name, build in builds(campaign).items() if build.separations.auto]
    if auto:
        found.append(
            f"separations.auto ({', '.join(auto)}): generation 0 uses the stated separations and volume; each "
            "later one measures them on the lowest labelled structures of those before"
        )
    if campaign.phase_names() == ():
        found.append("there is no named phase to judge by; the verdict rests on held-out structures alone")
    if campaign.protocol == "de-novo-2019" and campaign.select.held_out_per_generation == 0:
        found.append(
            "no structures are held out: errors can only be stated for the training set and named phases"
        )
    return tuple(found)
