"""Relax a range of random cells with the potential of the generation before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import explicit_serialize

from gapfactory.errors import NotFoundError, StateError
from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.database.documents import RelaxationDocument, structure_id
from launchpad.database.packing import pack_array, unpack_atoms
from launchpad.database.potentials import cached_potential, relaxing_potential
from launchpad.database.results import existing_indices, save_relaxation, structure_documents
from launchpad.tasks.base import CampaignTask, TaskContext

if TYPE_CHECKING:
    from gapfactory.search import Trajectory

__all__ = ["RelaxTask", "relaxation_document"]


@explicit_serialize
class RelaxTask(CampaignTask):
    """Relax the cells ``start <= i < stop`` of a generation, each under its own random pressure."""

    required_params: ClassVar[tuple[str, ...]] = (*CampaignTask.required_params, "start", "stop")

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Relax the cells that have no stored result yet, together; one cell's failure is recorded and harms no other.

        Each result is stored as soon as it is there, so a task that was killed goes on with the rest.
        """
        from gapfactory.potentials import load_potential
        from gapfactory.search import batch_evaluator, draw_pressure, relax_each

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
        # no task has cells of both kinds, see `plan_generation`
        after_fit = recipe.cell_range(start).after_fit
        record = relaxing_potential(context.database, campaign.name, generation, after_fit=after_fit)
        evaluate = batch_evaluator(
            load_potential(cached_potential(context.database, record)),
            uncertainty=settings.uncertainty_limit is not None,
        )
        counts = {"converged": 0, "unconverged": 0, "failed": 0}
        missing = [cell for cell in cells if cell["index"] not in done]
        for ended in relax_each(
            [unpack_atoms(cell["atoms"]) for cell in missing],
            [
                draw_pressure(
                    context.rng(Stage.PRESSURE, cell["index"]),
                    recipe.relax_of(recipe.cell_range(cell["index"])) or settings,
                )
                for cell in missing
            ],
            evaluate,
            settings,
        ):
            counts[ended.trajectory.status] += 1
            save_relaxation(
                context.database,
                relaxation_document(
                    campaign.name,
                    generation,
                    missing[ended.index]["index"],
                    missing[ended.index]["composition"],
                    ended.trajectory,
                    ended.seconds,
                ),
            )
        return counts


def relaxation_document(
    campaign: str, generation: int, index: int, composition: str, trajectory: Trajectory, seconds: float
) -> RelaxationDocument:
    """Pack a trajectory for the database."""
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
        seconds=round(seconds, 3),
    )
