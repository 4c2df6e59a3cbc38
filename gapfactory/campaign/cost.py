"""What a campaign will cost, before anything runs: tasks, labels, core-hours and peak memory.

The rates were measured on one core of a 2-core x86-64 machine (docs/reference/benchmarks.md); a campaign that has run
states its own in the report. Treat the hours as right within a factor of two or three.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gapfactory.campaign import sizes
from gapfactory.campaign.fit_cost import fit_basis, fit_costs, stability_seconds
from gapfactory.campaign.generation_rows import GenerationRow, generation_rows
from gapfactory.campaign.label_cost import count_atom_labels, curve_calls, label_basis, label_seconds
from gapfactory.campaign.search_cost import evaluation_seconds, labelled_cells, load_seconds, relaxation_costs
from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import generations_of, plan_generation, recipe_of
from gapfactory.protocols.recipe import builds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.campaign.model import Campaign
    from gapfactory.protocols.plan import PlannedTask
    from gapfactory.protocols.recipe import GenerationRecipe

__all__ = ["CostEstimate", "CostRow", "estimate"]

#: Seconds to make one random cell.
BUILD_S = 0.002
#: Seconds per atom to describe a structure for the selection.
DESCRIBE_S = 0.0001
#: Seconds of a task on the queue, of storing one relaxation, of starting a child process for labels.
TASK_S, STORE_S, CHILD_S = 0.1, 0.002, 0.5
#: Seconds that ASE takes for one evaluation.
CALL_S = 4e-4
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


def estimate(campaign: Campaign) -> CostEstimate:
    """Estimate tasks, labels, core-hours and memory of a campaign that uses its whole budget."""
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
    atom_labels = count_atom_labels(campaign)
    chosen = [cells for recipe in recipes for cells in sizes.labelled(campaign, recipe)]
    phases = [
        sizes.Cells(
            len(campaign.evidence.curves.volume_factors), len(atoms), float(atoms.get_volume()) / len(atoms)
        )
        for atoms in (campaign.phase_of(name).atoms for name in (campaign.phase_names() if fitted else ()))
    ]
    curves = len(phases) * len(campaign.evidence.curves.volume_factors)
    every, atoms = sizes.mean(chosen), sizes.mean(labelled_cells(campaign, recipes)).atoms
    per_atom, load = (
        evaluation_seconds(campaign, campaign.potential_settings, every.volume),
        load_seconds(campaign),
    )
    relaxing, evaluations = relaxation_costs(campaign, recipes)
    single = label_seconds(campaign, sizes.mean(sizes.labelled(campaign, recipes[0])))
    labelling = sum(
        c.n * label_seconds(campaign, c, recipe.generation)
        for recipe in recipes
        for c in (*sizes.labelled(campaign, recipe), *sizes.reference_relaxations(campaign, recipe))
    )
    labelling += sum(curve_calls(c) * label_seconds(campaign, c) for c in phases)
    beside = [*sizes.evidence(campaign), *sizes.relaxed(campaign)]
    labelling += sum(c.n * label_seconds(campaign, c) for c in beside)
    train_s, fit_s, fit_gb = fit_costs(campaign, fitted)
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
            label_basis(campaign, recipes),
        ),
        *_trained(campaign, fitted, tasks[TaskKind.TRAIN], train_s / hour),
        CostRow(
            "fit",
            tasks[TaskKind.FIT],
            len(fitted),
            fit_s / hour,
            fit_basis(campaign) if fitted else "a search fits nothing",
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
                    + sum(curve_calls(c) * (CALL_S + c.atoms * per_atom) for c in phases)
                )
                + stability_seconds(campaign, len(fitted), per_atom)
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


def _trained(
    campaign: Campaign, recipes: Sequence[GenerationRecipe], tasks: int, core_hours: float
) -> tuple[CostRow, ...]:
    """Return the row of the networks, where there are any."""
    if campaign.potential == "gap" or not recipes:
        return ()
    networks = len(recipes) * campaign.eddp.ensemble.members
    basis = f"{3600 * core_hours / networks:.2g} s a network on average"
    return (CostRow("train", tasks, networks, core_hours, basis),)


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
        found.append(
            "there is no crystal to judge by (evidence.phases, evidence.known); the verdict rests on held-out "
            "structures alone"
        )
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
