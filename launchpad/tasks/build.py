"""Make a range of random cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import explicit_serialize

from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.database.documents import StructureDocument, structure_id
from launchpad.database.packing import pack_atoms
from launchpad.database.results import existing_indices, save_structures
from launchpad.robustness import start_document
from launchpad.separations import measured_before
from launchpad.tasks.base import CampaignTask, TaskContext

if TYPE_CHECKING:
    from numpy.random import Generator

    from gapfactory.campaign import Campaign

__all__ = ["BuildTask", "draw_composition"]

#: Cells per write: a killed task loses at most this many.
BATCH = 200


def draw_composition(campaign: Campaign, rng: Generator) -> dict[str, int]:
    """Draw one formula unit by the campaign's weights; a campaign with a single formula draws nothing."""
    formulas = campaign.formulas
    if len(formulas) == 1:
        return formulas[0][0]
    return formulas[int(rng.choice(len(formulas), p=[weight for _, weight in formulas]))][0]


@explicit_serialize
class BuildTask(CampaignTask):
    """Make the random cells ``start <= i < stop`` of a generation, each from its own random stream."""

    required_params: ClassVar[tuple[str, ...]] = (*CampaignTask.required_params, "start", "stop")

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Make the cells that are missing."""
        from gapfactory.build import build_cell, measured_settings
        from gapfactory.structures import composition_of, structure_hash

        campaign, generation = context.campaign, context.generation
        start, stop = self["start"], self["stop"]
        recipe = recipe_of(campaign, generation)
        done = existing_indices(
            context.database, "structures", campaign.name, generation, start, stop, stage="cell"
        )
        auto = any(part.build.separations.auto for part in recipe.cells)
        measured = measured_before(context.database, campaign.name, generation) if auto else {}
        batch: list[StructureDocument] = []
        for index in range(start, stop):
            if index in done:
                continue
            rng, mine = context.rng(Stage.CELL, index), recipe.cell_range(index)
            if mine.made_of is not None:
                batch.append(start_document(context, mine, index, rng))
                continue
            found = measured.get(mine.component)
            cell = build_cell(
                rng,
                composition=draw_composition(campaign, rng),
                species=campaign.species_table,
                generation=generation,
                settings=measured_settings(mine.build, found.values if found else None),
            )
            batch.append(
                StructureDocument(
                    id=structure_id(campaign.name, generation, "cell", index),
                    campaign=campaign.name,
                    generation=generation,
                    stage="cell",
                    index=index,
                    composition=composition_of(cell.atoms),
                    hash=structure_hash(cell.atoms),
                    atoms=pack_atoms(cell.atoms),
                    info={
                        "volume_range": cell.volume_range,
                        "space_group": cell.space_group,
                        "shortest_ratio": cell.shortest_ratio,
                        "attempts": cell.attempts,
                        "component": mine.component,
                        # absent where the stated separations hold
                        **({"separations_of": found.generation} if found else {}),
                    },
                )
            )
            if len(batch) == BATCH:
                save_structures(context.database, batch)
                batch = []
        save_structures(context.database, batch)
        said = {"separations": "measured" if measured else "as stated"} if auto else {}
        return {"built": stop - start - len(done), **said}
