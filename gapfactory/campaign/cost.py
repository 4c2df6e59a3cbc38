"""What a campaign will cost, before anything runs: tasks, labels, core-hours and peak memory.

The rates were measured on one core of a 2-core x86-64 machine (docs/reference/benchmarks.md); a campaign that has run
states its own in the report. Treat the hours as right within a factor of two or three.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gapfactory.campaign import sizes
from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import generations_of, plan_generation, recipe_of
from gapfactory.protocols.recipe import builds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.campaign.model import Campaign
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.protocols.plan import PlannedTask
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.search.settings import AnnealSettings

__all__ = [
    "CostEstimate",
    "CostRow",
    "GenerationRow",
    "anneal_evaluations",
    "estimate",
    "generation_rows",
    "label_seconds",
]

#: Seconds to make one random cell.
BUILD_S = 0.002
#: Seconds per atom to describe a structure for the selection.
DESCRIBE_S = 0.0001
#: Evaluations of a relaxation, and the seconds that its optimiser takes for one.
EVALUATIONS, STEP_S = 91, 6e-5
#: Seconds that a step of an anneal takes beside its evaluation.
ANNEAL_STEP_S = 2e-4
#: Seconds of a task on the queue, of storing one relaxation, of starting a child process for labels.
TASK_S, STORE_S, CHILD_S = 0.1, 0.002, 0.5
#: Seconds that ASE takes for one evaluation, and for a step of molecular dynamics that is watched.
CALL_S, DYNAMICS_S = 4e-4, 1e-3
#: Seconds of a plane-wave single point: for itself, per k-point, and per k-point, atom, Å^3 of the cell and
#: (300 eV)^-1.5 of cutoff; from so many atoms on, orthogonal bands cost more than their Fourier transforms.
DFT_FIXED_S, DFT_POINT_S, DFT_WORK_S, DFT_BANDS = 1.0, 0.05, 7e-5, 60.0
#: Seconds to read an EDDP.
EDDP_LOAD_S = 0.2
#: Seconds of a single point by an analytic potential, and per atom in this process.
ANALYTIC_S, ANALYTIC_ATOM_S = 0.02, 3e-4
#: Seconds to look for a structure among those that are found.
MATCH_S = 0.02


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
        Whether they are relaxed, and under which mean pressure; by component where they differ.
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
    crystals = sum(campaign.crystals[name].count for name in recipe.crystals)
    labels: dict[str, int]
    if recipe.picks == "snapshots":
        labels = dict.fromkeys((*(f"step {step}" for step in recipe.early_steps), "end"), recipe.n_labelled)
    elif recipe.picks == "ends":
        best = min(campaign.chain.best, recipe.n_labelled)
        labels = {"end": best * campaign.chain.label_ends, "shaken copy": best * campaign.chain.copies}
    elif recipe.picks == "cells":
        labels = {"cell": recipe.n_cells}
    elif recipe.picks == "frames":
        labels = {"displaced cell": recipe.train, "held-out": recipe.test}
    elif recipe.picks == "ranked":
        labels = {"single point": recipe.train, "relaxation": recipe.reference_relaxations}
    else:
        labels = {"training": recipe.train, "held-out": recipe.test}
    with_crystals = f"with {', '.join(recipe.trained_crystals)}; " if recipe.trained_crystals else ""
    return GenerationRow(
        generations="",
        title=recipe.title,
        cells={part.component: part.stop - part.start for part in recipe.cells},
        relaxed=_pressures(recipe),
        labels={key: n for key, n in (*labels.items(), ("crystal", crystals)) if n},
        fit=with_crystals + _fitted(recipe.potential) if recipe.fits else "",
    )


def _fitted(settings: GapSettings | EddpSettings) -> str:
    """Say in a few words which potential is fitted."""
    from gapfactory.potentials.eddp.settings import EddpSettings

    if isinstance(settings, EddpSettings):
        hidden = "x".join(map(str, settings.network.hidden))
        return f"EDDP {settings.ensemble.members} networks of {hidden}, {settings.features.cutoff:g} Å"
    soap = settings.soap
    return f"SOAP {soap.atom_sigma:g} Å {soap.n_max}/{soap.l_max}"


def _pressures(recipe: GenerationRecipe) -> str:
    """Say under which mean pressure the cells of a generation are relaxed; by component where they differ."""
    found: dict[str, list[str]] = {}
    for part in recipe.cells:
        relax = recipe.relax_of(part)
        if relax is not None:
            mean = relax.mean_pressure
            words = f"mean pressure {mean:g} GPa" if mean else "no pressure"
            words += ", fixed cell" if relax.cell == "fixed" else ""
            words += _annealed(relax.anneal)
            found.setdefault(words, []).append(part.component)
    if len(found) < 2:
        return next(iter(found), "")
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in found.items())


def _curve_calls(phase: sizes.Cells) -> float:
    """Return the evaluations that relaxing a phase at all its volumes takes (20 each for alpha-B12 by DFT)."""
    # symmetry leaves the smallest cells hardly anything to relax
    return phase.n * (20 if phase.atoms > 2 else 4)


def estimate(campaign: Campaign) -> CostEstimate:
    """Estimate tasks, labels, core-hours and memory of a campaign that uses its whole budget."""
    from gapfactory.analysis.phases import named_phase

    recipes = [recipe_of(campaign, generation) for generation in range(generations_of(campaign))]
    generations, labels = len(recipes), sum(recipe.labels for recipe in recipes)
    tasks: dict[TaskKind, int] = dict.fromkeys(TaskKind, 0)
    counted: dict[tuple[object, ...], list[PlannedTask]] = {}
    for recipe in recipes:
        chosen_from = (recipe.n_cells, recipe.n_before_fit, recipe.picks, recipe.relax is None)
        shape = (*chosen_from, recipe.labels, recipe.reference_relaxations)
        if shape not in counted:
            counted[shape] = list(plan_generation(campaign, recipe.generation))
        for task in counted[shape]:
            tasks[task.kind] += 1
    # what diagnostic searches relax is not chosen from
    pool = [recipe.n_labelled for recipe in recipes]
    relaxations = sum(recipe.n_cells for recipe in recipes if recipe.relax is not None)
    fitted = [recipe for recipe in recipes if recipe.fits]
    atom_labels = _atom_labels(campaign)
    chosen = [cells for recipe in recipes for cells in sizes.labelled(campaign, recipe)]
    phases = [
        sizes.Cells(
            len(campaign.evidence.curves.volume_factors), len(atoms), float(atoms.get_volume()) / len(atoms)
        )
        for atoms in (named_phase(name).atoms for name in (campaign.phase_names() if fitted else ()))
    ]
    curves = len(phases) * len(campaign.evidence.curves.volume_factors)
    every, atoms = sizes.mean(chosen), sizes.mean(_pool(campaign, recipes)).atoms
    per_atom, load = _evaluation_s(campaign, campaign.potential_settings, every.volume), _load_s(campaign)
    relaxing, evaluations = _relaxations(campaign, recipes)
    single = label_seconds(campaign, sizes.mean(sizes.labelled(campaign, recipes[0])))
    labelling = sum(
        c.n * label_seconds(campaign, c, recipe.generation)
        for recipe in recipes
        for c in (*sizes.labelled(campaign, recipe), *sizes.reference_relaxations(campaign, recipe))
    )
    labelling += sum(_curve_calls(c) * label_seconds(campaign, c) for c in phases)
    beside = [*sizes.evidence(campaign), *sizes.relaxed(campaign)]
    labelling += sum(c.n * label_seconds(campaign, c) for c in beside)
    train_s, fit_s, fit_gb = _fits(campaign, fitted)
    cells = sum(recipe.n_cells for recipe in recipes)
    ranked = sum(recipe.reference_relaxations for recipe in recipes)
    crystals = sum(c.n * c.atoms for name in campaign.crystals for c in sizes.crystal(campaign, name))
    frames = 0.0
    if recipes[0].picks == "funnel":
        frames = campaign.select.frames_histogram_per_label * recipes[0].labels * (generations - 1)
    hour = 3600.0
    noise = sum(recipe.noise for recipe in recipes)
    rows = (
        CostRow(
            "build", tasks[TaskKind.BUILD], cells, cells * BUILD_S / hour, f"{1000 * BUILD_S:g} ms a cell"
        ),
        CostRow(
            "relax",
            tasks[TaskKind.RELAX],
            relaxations,
            (relaxing + relaxations * STORE_S + tasks[TaskKind.RELAX] * load) / hour,
            f"{1000 * relaxing / max(relaxations, 1):.0f} ms a relaxation, {evaluations:.3g} evaluations in all",
        ),
        CostRow(
            "select",
            tasks[TaskKind.SELECT],
            tasks[TaskKind.SELECT],
            (pool[0] + 0.25 * sum(pool[1:]) + frames) * atoms * DESCRIBE_S / hour
            if recipes[0].picks == "funnel"
            else 0.0,
            f"{1000 * DESCRIBE_S:g} ms an atom",
        ),
        CostRow(
            "reference",
            tasks[TaskKind.REFERENCE],
            labels + ranked + atom_labels + noise + curves + round(sum(c.n for c in beside)),
            (
                labelling
                + noise * 2.5 * single
                + atom_labels * min(single, 10.0)
                + tasks[TaskKind.REFERENCE] * CHILD_S
            )
            / hour,
            _basis(campaign, chosen),
        ),
        *_trained(campaign, recipes, tasks[TaskKind.TRAIN], train_s / hour),
        CostRow(
            "fit",
            tasks[TaskKind.FIT],
            len(fitted),
            fit_s / hour,
            _fit_basis(campaign) if fitted else "a search fits nothing",
        ),
        CostRow(
            "assess",
            tasks[TaskKind.ASSESS],
            generations,
            (
                len(fitted)
                * (
                    2 * load
                    + labels * (CALL_S + every.atoms * per_atom)
                    + crystals * per_atom
                    + sum(_curve_calls(c) * (CALL_S + c.atoms * per_atom) for c in phases)
                )
                + _stability(campaign, len(fitted), per_atom)
                + (generations - len(fitted)) * max(pool) * MATCH_S
            )
            / hour,
            "held-out structures, curves and molecular dynamics" if fitted else "ranking of what is found",
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
        select_memory_gb=0.3 + min(max(pool), 10_000) ** 2 * 4e-9,
        warnings=_warnings(campaign, fit_gb),
    )


def _atom_labels(campaign: Campaign) -> int:
    """Return the free atoms and dimers that are labelled."""
    if not campaign.labels_atoms:
        return 0
    n_species = len(campaign.species_table)
    pairs = n_species * (n_species + 1) // 2
    return n_species + (campaign.dimers.bond_lengths * pairs if campaign.potential == "gap" else 0)


def _trained(
    campaign: Campaign, recipes: Sequence[GenerationRecipe], tasks: int, core_hours: float
) -> tuple[CostRow, ...]:
    """Return the row of the networks, where there are any."""
    if campaign.potential == "gap":
        return ()
    networks = len(recipes) * campaign.eddp.ensemble.members
    basis = f"{3600 * core_hours / networks:.2g} s a network on average"
    return (CostRow("train", tasks, networks, core_hours, basis),)


def _fit_basis(campaign: Campaign) -> str:
    if campaign.potential == "eddp":
        return "features and energies of all structures"
    if campaign.gap.backend == "native":
        return "one pass over the data serves all stages"
    return "gap_fit's covariance loop, three staged fits"


def _evaluation_s(
    campaign: Campaign, settings: GapSettings | EddpSettings, volume: float, *, uncertainty: bool = False
) -> float:
    """Return the seconds per atom of one evaluation of a potential at this volume per atom (Å^3)."""
    from gapfactory.potentials.eddp.cost import evaluation_time as eddp_time
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.memory import evaluation_time

    elements = tuple(campaign.species_table.values())
    if isinstance(settings, EddpSettings):
        once = eddp_time(settings, n_species=len(elements), volume_per_atom=volume)
        # the spread comes from a pass without derivatives
        return once * (1.4 if uncertainty else 1.0)
    return evaluation_time(
        volume_per_atom=volume, species=elements, settings=settings, uncertainty=uncertainty
    )


def _load_s(campaign: Campaign) -> float:
    from gapfactory.potentials.gap.memory import load_time

    if campaign.potential == "eddp":
        return EDDP_LOAD_S
    return load_time(tuple(campaign.species_table.values()), campaign.gap)


def _stability(campaign: Campaign, generations: int, per_atom: float) -> float:
    """Return the seconds of molecular dynamics, given those of an evaluation per atom."""
    from gapfactory.analysis.dynamics import default_timestep

    wanted = campaign.evidence.stability
    if not wanted.enabled or not generations:
        return 0.0
    from ase.data import atomic_masses

    timestep = wanted.timestep_fs or default_timestep(atomic_masses[list(campaign.numbers)])
    steps = 1000.0 * (wanted.duration_ps + wanted.nve_ps) / timestep
    runs = generations if wanted.when == "every" else 1
    return runs * steps * (DYNAMICS_S + wanted.n_atoms * per_atom)


def _pool(campaign: Campaign, recipes: Sequence[GenerationRecipe]) -> list[sizes.Cells]:
    """Return the random cells of all generations whose structures may be labelled."""
    return [
        cells
        for recipe in recipes
        for part in recipe.cells
        if part.labelled
        for cells in sizes.built(campaign, part.build, part.stop - part.start)
    ]


def _relaxations(campaign: Campaign, recipes: Sequence[GenerationRecipe]) -> tuple[float, float]:
    """Return the seconds of all relaxations, anneals included, and their evaluations of the potential."""
    by_reference = campaign.search is not None and campaign.search.potential == "reference"
    found = calls = 0.0
    for recipe in recipes:
        for part in recipe.cells:
            relax = recipe.relax_of(part)
            if relax is None:
                continue
            cells = sizes.mean(sizes.built(campaign, part.build, part.stop - part.start))
            per_atom = ANALYTIC_ATOM_S
            if not by_reference:
                per_atom = _evaluation_s(
                    campaign,
                    recipe.potential if part.after_fit else campaign.potential_settings,
                    cells.volume,
                    uncertainty=relax.uncertainty_limit is not None,
                )
            relaxing = min(EVALUATIONS, relax.max_steps + 1) * (1 if relax.anneal is None else 2)
            annealing = 0 if relax.anneal is None else anneal_evaluations(relax.anneal)
            found += cells.n * (
                relaxing * STEP_S
                + annealing * ANNEAL_STEP_S
                + (relaxing + annealing) * cells.atoms * per_atom
            )
            calls += cells.n * (relaxing + annealing)
    return found, calls


def anneal_evaluations(anneal: AnnealSettings) -> int:
    """Return the evaluations of one anneal, at most: a scan of the mobility may end before its hottest run."""
    scan = 0 if anneal.temperature_K is not None else len(anneal.ladder) * (anneal.scan_steps + 1)
    return scan + anneal.n_steps + 1


def _annealed(anneal: AnnealSettings | None) -> str:
    """Say how cells are annealed, or nothing."""
    if anneal is None:
        return ""
    kelvin = "a temperature by mobility" if anneal.temperature_K is None else f"{anneal.temperature_K:g} K"
    return f", annealed {anneal.time_ps:g} ps at {kelvin}"


def label_seconds(campaign: Campaign, cells: sizes.Cells, generation: int = 0) -> float:
    """Return the seconds of one single point of a cell of this size, at the level of a generation."""
    from math import ceil, pi, prod

    from gapfactory.reference import DftSettings, engine_classes

    reference = campaign.reference_in(generation)
    if not isinstance(reference, DftSettings):
        return ANALYTIC_S
    engine = engine_classes()[reference.engine]
    volume = cells.volume * cells.atoms
    along = ceil(reference.kpoint_density * 2 * pi / volume ** (1 / 3))
    # time reversal leaves half of them
    points = max(1.0, prod(reference.kpoint_grid or (along,) * 3) / 2)
    waves = volume * (reference.cutoff_eV / engine.cost_cutoff_eV) ** 1.5
    work = DFT_WORK_S * waves * cells.atoms * (1 + cells.atoms / DFT_BANDS)
    return DFT_FIXED_S + engine.relative_cost * points * (DFT_POINT_S + work)


def _basis(campaign: Campaign, chosen: Sequence[sizes.Cells]) -> str:
    """Say what a label costs, on average and of the largest cells."""
    from gapfactory.reference import DftSettings

    reference = campaign.reference
    if not chosen:
        return "single points and relaxations by the reference"
    if not isinstance(reference, DftSettings):
        return f"{ANALYTIC_S:g} s a label (analytic)"
    every, largest = sizes.mean(chosen), max(chosen, key=lambda c: c.atoms)
    seconds = sum(c.n * label_seconds(campaign, c) for c in chosen) / max(every.n, 1.0)
    most, grid = label_seconds(campaign, largest), reference.kpoint_grid
    points = f"{reference.kpoint_density:g} k-points per 1/Å" if grid is None else f"{grid} k-points"
    return (
        f"{seconds:.3g} s a label of {every.atoms:.3g} atoms on average, {most:.3g} s one of {largest.atoms:g}; "
        f"{reference.cutoff_eV:g} eV, {points}"
    )


def _fits(campaign: Campaign, recipes: Sequence[GenerationRecipe]) -> tuple[float, float, float]:
    """Return the seconds of all trainings and of all fits, those of studies included, and the memory (GB) of one."""
    from gapfactory.analysis.vibration_study import study_variants
    from gapfactory.potentials.eddp.cost import Workload, training_memory, training_time
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap import estimate_memory

    fits = []
    train_s, fit_s, gigabytes = 0.0, 0.0, 0.0
    for number, recipe in enumerate(recipes, 1):
        data = sizes.mean(sizes.trained(campaign, recipes[:number], recipe))
        if isinstance(recipe.potential, EddpSettings):
            size = Workload(len(campaign.species_table), data.n, data.n * data.atoms)
            train_s += recipe.potential.ensemble.members * training_time(recipe.potential, size)
            fit_s += size.atoms * _evaluation_s(campaign, recipe.potential, data.volume)
            gigabytes = max(gigabytes, training_memory(recipe.potential, size) / 1e9)
            continue
        fits.append(
            estimate_memory(
                n_structures=max(round(data.n), 1),
                atoms_per_structure=data.atoms,
                volume_per_atom=data.volume,
                species=tuple(campaign.species_table.values()),
                settings=recipe.potential,
            )
        )
    if not fits:
        return train_s, fit_s, gigabytes
    # a study fits to what the last generation is fitted to, or to a part of it
    studies = 0 if campaign.vibrations is None else len(study_variants(campaign.vibrations.studies))
    fit_s += sum(fit.cpu_s for fit in fits) + studies * fits[-1].cpu_s
    return train_s, fit_s, max(fit.peak_bytes for fit in fits) / 1e9


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
    if campaign.search is not None:
        return tuple(found)
    if campaign.phase_names() == () and campaign.vibrations is None:
        found.append("there is no named phase to judge by; the verdict rests on held-out structures alone")
    if campaign.vibrations is not None and campaign.vibrations.minima:
        found.append(
            "how many cells tell the phonons and elastic constants of vibrations.minima is not known before: they are "
            "not counted here, and of the frames as many as there may be"
        )
    if campaign.protocol == "de-novo-2019" and campaign.select.held_out_per_generation == 0:
        found.append(
            "no structures are held out: errors can only be stated for the training set and named phases"
        )
    return tuple(found)
