"""A generation's plan as one FireWorks workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.protocols.plan import TaskKind
from launchpad.database.documents import generation_id

if TYPE_CHECKING:
    from fireworks import Workflow

    from gapfactory.campaign import Campaign
    from gapfactory.protocols.plan import PlannedTask
    from launchpad.queue import Queue

__all__ = ["PRIORITY", "generation_workflow", "submit_generation"]

#: Among tasks that can start, those that others wait for longest go first.
PRIORITY = {
    TaskKind.ASSESS: 60,
    TaskKind.FIT: 50,
    TaskKind.TRAIN: 45,
    TaskKind.SELECT: 40,
    TaskKind.RELAX: 30,
    TaskKind.BUILD: 20,
    TaskKind.REFERENCE: 10,
}


def generation_workflow(campaign: Campaign, generation: int) -> Workflow:
    """Translate the plan of one generation; ids count from 1 until the queue gives its own."""
    from fireworks import Firework, Workflow

    from gapfactory.protocols.planner import plan_generation
    from launchpad.tasks import TASKS

    plan = plan_generation(campaign, generation)
    ids = {task.key: position for position, task in enumerate(plan, start=1)}
    fireworks = [
        Firework(
            TASKS[task.kind](campaign=campaign.name, generation=generation, **task.parameters),
            spec=_spec(campaign, generation, task),
            name=f"{campaign.name} g{generation:03d} {task.key}",
            fw_id=ids[task.key],
        )
        for task in plan
    ]
    links: dict[int, list[int]] = {ids[task.key]: [] for task in plan}
    for task in plan:
        for parent in task.parents:
            links[ids[parent]].append(ids[task.key])
    return Workflow(
        fireworks,
        links_dict=links,
        name=f"{campaign.name} g{generation:03d}",
        metadata={"campaign": campaign.name, "generation": generation},
    )


def _spec(campaign: Campaign, generation: int, task: PlannedTask) -> dict[str, Any]:
    # a study fits, whatever it is counted among
    kind = TaskKind.FIT if "study" in task.parameters else task.kind
    wanted = campaign.execution.resources.get(kind.value)
    needs = wanted.model_dump(exclude_none=True) if wanted else None
    return {
        "_category": str(task.kind),
        "_priority": PRIORITY[task.kind],
        "_add_launchpad_and_fw_id": True,
        "campaign": campaign.name,
        "generation": generation,
        **({"needs": needs} if needs else {}),
    }


def submit_generation(queue: Queue, campaign: Campaign, generation: int) -> tuple[int, ...]:
    """Put one generation on the queue, exactly once however often this is called or killed.

    Returns
    -------
    tuple of int
        The FireWorks ids, in the order of the plan.
    """
    return queue.submit_once(
        generation_workflow(campaign, generation), generation_id(campaign.name, generation)
    )
