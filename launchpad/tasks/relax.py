"""Relax a range of random cells with the potential of the generation before, or search hot."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import explicit_serialize

from gapfactory.errors import NotFoundError, StateError
from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.database.anneals import checkpoints, forget_anneals, save_checkpoint
from launchpad.database.documents import RelaxationDocument, structure_id
from launchpad.database.packing import pack_array, unpack_atoms
from launchpad.database.potentials import cached_potential, relaxing_potential
from launchpad.database.results import existing_indices, save_relaxation, structure_documents
from launchpad.given_potential import search_calculator
from launchpad.tasks.base import CampaignTask, TaskContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.search import Trajectory
    from gapfactory.search.anneal_search import SearchJob

__all__ = ["RelaxTask", "relaxation_document"]


@explicit_serialize
class RelaxTask(CampaignTask):
    """Relax the cells ``start <= i < stop`` of a generation, each under its own random pressure; or search hot."""

    required_params: ClassVar[tuple[str, ...]] = (*CampaignTask.required_params, "start", "stop")

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Relax the cells that have no stored result yet, together; one cell's failure is recorded and harms no other.

        Those of a hot search are annealed and relaxed again. Each result is stored as soon as it is there, and where an
        anneal stands every so often, so a task that was killed goes on with the rest, anywhere.
        """
        from gapfactory.search import batch_evaluator, search_each

        campaign, generation = context.campaign, context.generation
        start, stop = self["start"], self["stop"]
        recipe = recipe_of(campaign, generation)
        settings = recipe.relax
        if settings is None:
            msg = f"generation {generation} relaxes no cells"
            raise StateError(msg)
        done = existing_indices(context.database, "relaxations", campaign.name, generation, start, stop)
        cells = structure_documents(context.database, campaign.name, generation, "cell", start, stop)
        if len(cells) != stop - start:
            msg = (
                f"cells {start} to {stop - 1} of generation {generation} should be stored, {len(cells)} "
                "are; rerun their build task"
            )
            raise NotFoundError(msg)
        evaluate = batch_evaluator(
            _calculator(context, recipe, start),
            uncertainty=settings.uncertainty_limit is not None,
        )
        counts = {"converged": 0, "unconverged": 0, "failed": 0}
        missing = [cell for cell in cells if cell["index"] not in done]
        for ended in search_each(_jobs(context, recipe, missing, start, stop), evaluate):
            counts[ended.trajectory.status] += 1
            cell = missing[ended.index]
            save_relaxation(
                context.database,
                relaxation_document(
                    campaign.name,
                    generation,
                    cell["index"],
                    cell["composition"],
                    ended.trajectory,
                    ended.seconds,
                ),
            )
            if ended.trajectory.anneal is not None:
                forget_anneals(context.database, campaign.name, generation, cell["index"])
        return counts


def _jobs(
    context: TaskContext, recipe: GenerationRecipe, cells: list[dict[str, Any]], start: int, stop: int
) -> Iterator[SearchJob]:
    """Yield what is to be done with each cell."""
    from gapfactory.search import draw_pressure
    from gapfactory.search.anneal_search import SearchJob

    name, generation = context.campaign.name, context.generation
    known = checkpoints(context.database, name, generation, start, stop)
    for cell in cells:
        index = cell["index"]
        settings = recipe.relax_of(recipe.cell_range(index))
        if settings is None:
            msg = f"generation {generation} relaxes no cells"
            raise StateError(msg)
        yield SearchJob(
            unpack_atoms(cell["atoms"]),
            draw_pressure(context.rng(Stage.PRESSURE, index), settings),
            settings,
            seed=int(context.rng(Stage.ANNEAL, index).integers(2**63)),
            checkpoint=known.get(index),
            save=partial(save_checkpoint, context.database, name, generation, index),
        )


def _calculator(context: TaskContext, recipe: GenerationRecipe, start: int) -> Any:
    """Return the potential that relaxes the cells of the task that begins with this one."""
    from gapfactory.potentials import load_potential

    if not recipe.fits:
        return search_calculator(context.database, context.campaign)
    # no task has cells of both kinds, see `plan_generation`
    after_fit = recipe.cell_range(start).after_fit
    record = relaxing_potential(
        context.database, context.campaign.name, context.generation, after_fit=after_fit
    )
    return load_potential(cached_potential(context.database, record))


def relaxation_document(
    campaign: str,
    generation: int,
    index: int,
    composition: str,
    trajectory: Trajectory,
    seconds: float,
    *,
    start: str = "",
) -> RelaxationDocument:
    """Pack a trajectory for the database; `start`: the structure that it began with, where that is no random cell."""
    import numpy as np

    frames, atoms = trajectory.positions.shape[:2]
    has_end = frames > 0 and bool(np.isfinite(trajectory.energies[-1]))
    return RelaxationDocument(
        id=structure_id(campaign, generation, "relaxation", index),
        campaign=campaign,
        generation=generation,
        index=index,
        composition=composition,
        status=trajectory.status,
        reason=trajectory.reason,
        pressure_gpa=trajectory.pressure_GPa,
        n_steps=trajectory.n_steps,
        n_frames=frames,
        numbers=pack_array(trajectory.numbers, "i4"),
        steps=pack_array(trajectory.steps, "i8"),
        positions=pack_array(trajectory.positions),
        cells=pack_array(trajectory.cells),
        energies=pack_array(trajectory.energies),
        enthalpies=pack_array(trajectory.enthalpies),
        max_forces=pack_array(trajectory.max_forces),
        final_energy_per_atom=float(trajectory.energies[-1] / atoms) if has_end else None,
        final_volume_per_atom=float(abs(np.linalg.det(trajectory.cells[-1])) / atoms) if has_end else None,
        left_known_space=trajectory.left_known_space,
        uncertainty=trajectory.uncertainty,
        anneal=None if trajectory.anneal is None else asdict(trajectory.anneal),
        start=start,
        n_evaluations=trajectory.n_evaluations,
        seconds=round(seconds, 3),
    )
