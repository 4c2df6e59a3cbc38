"""The tasks of a generation by its recipe, and the decision at its end; the same planner for every protocol.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from gapfactory.protocols import boron, de_novo
from gapfactory.protocols.plan import Decision, PlannedTask, TaskKind, chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.learning import Evidence
    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe

__all__ = ["decide", "generations_of", "plan_generation", "recipe_of"]


class _Protocol(Protocol):
    """What the module of a protocol offers."""

    def recipe(self, campaign: Campaign, generation: int) -> GenerationRecipe: ...

    def generations(self, campaign: Campaign) -> int: ...

    def decide(self, campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision: ...


PROTOCOLS: Final[dict[str, _Protocol]] = {"de-novo-2019": de_novo, "boron-2018": boron}


def recipe_of(campaign: Campaign, generation: int) -> GenerationRecipe:
    """Return the recipe of one generation of a campaign, 0 for the first."""
    return PROTOCOLS[campaign.protocol].recipe(campaign, generation)


def generations_of(campaign: Campaign) -> int:
    """Return how many generations a campaign has that is not ended early."""
    return PROTOCOLS[campaign.protocol].generations(campaign)


def decide(campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision:
    """Decide at the end of a generation whether, and with which generation, the campaign goes on.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        The generation that was just assessed.
    history
        What every assessed generation was measured on, none of it in its training set.
    """
    return PROTOCOLS[campaign.protocol].decide(campaign, generation, history)


def plan_generation(campaign: Campaign, generation: int) -> tuple[PlannedTask, ...]:
    """Return the tasks of one generation, parents before children.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        0 for the first.
    """
    tasks: list[PlannedTask] = []

    def add(key: str, kind: TaskKind, parents: Sequence[str] = (), **parameters: int | str) -> str:
        tasks.append(PlannedTask(key, kind, dict(parameters), tuple(parents)))
        return key

    recipe, execution = recipe_of(campaign, generation), campaign.execution
    evidence: list[str] = []
    labelled: list[str] = []
    if generation == 0:
        labelled.append(add("reference-atoms", TaskKind.REFERENCE, what="atoms"))
        evidence += [
            add(f"reference-phase-{name}", TaskKind.REFERENCE, what="phase", phase=name)
            for name in campaign.phase_names()
        ]
    chosen: tuple[str, ...] = ()
    built = {
        start: add(f"build-{start:06d}", TaskKind.BUILD, start=start, stop=stop)
        for start, stop in chunks(recipe.n_cells, execution.build_chunk)
    }
    pool = list(built.values())

    def relaxations(first: int, stop: int, *parents: str) -> list[str]:
        size = execution.build_chunk
        return [
            add(
                f"relax-{first + a:06d}",
                TaskKind.RELAX,
                [*(built[k] for k in range((first + a) // size * size, first + b, size)), *parents],
                start=first + a,
                stop=first + b,
            )
            for a, b in chunks(stop - first, execution.relax_chunk)
        ]

    if recipe.relax is not None:
        pool = relaxations(0, recipe.n_before_fit)
        # what is only counted need not be waited for by the choice of what is labelled
        few = len(chunks(recipe.n_labelled, execution.relax_chunk))
        evidence += pool[few:]
        pool = pool[:few]
    if recipe.picks not in {"given", "none"}:
        chosen = (add("select", TaskKind.SELECT, pool),)
    labelled += [
        add(f"reference-{start:06d}", TaskKind.REFERENCE, chosen, what="picks", start=start, stop=stop)
        for start, stop in chunks(recipe.labels, execution.reference_chunk)
    ]
    if recipe.noise:
        # the noise of the labels bounds the errors that the fit may assume, so the fit waits for it
        labelled.append(add("reference-noise", TaskKind.REFERENCE, chosen, what="noise"))
    fit = add("fit", TaskKind.FIT, labelled)
    if recipe.relax is not None:
        evidence += relaxations(recipe.n_before_fit, recipe.n_cells, fit)
    add("assess", TaskKind.ASSESS, (fit, *evidence))
    return tuple(tasks)
