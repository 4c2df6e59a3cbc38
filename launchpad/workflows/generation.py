"""A generation's plan as one FireWorks workflow, submitted exactly once however often the submitter is killed.

FireWorks' own `add_wf` inserts the Fireworks before the workflow, so a kill in between leaves Fireworks without one.
Here the ids are reserved in a document of ours first; then the workflow is written, then the Fireworks, those that
can start at once last. Every write is an insert-if-missing, so a second submitter completes the first one's work and
changes nothing that is running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.protocols.plan import TaskKind
from launchpad.database.documents import generation_id, now

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
    TaskKind.SELECT: 40,
    TaskKind.RELAX: 30,
    TaskKind.BUILD: 20,
    TaskKind.REFERENCE: 10,
}


def generation_workflow(campaign: Campaign, generation: int, first_id: int) -> Workflow:
    """Translate the plan of one generation.

    Parameters
    ----------
    campaign, generation
        What to plan.
    first_id
        FireWorks id of the first task; the others follow.
    """
    from fireworks import Firework, Workflow

    from gapfactory.protocols.de_novo import plan_generation
    from launchpad.tasks import TASKS

    plan = plan_generation(campaign, generation)
    ids = {task.key: first_id + position for position, task in enumerate(plan)}
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
    return {
        "_category": str(task.kind),
        "_priority": PRIORITY[task.kind],
        "_add_launchpad_and_fw_id": True,
        "campaign": campaign.name,
        "generation": generation,
    }


def submit_generation(queue: Queue, campaign: Campaign, generation: int) -> list[int]:
    """Put one generation on the queue; doing it again changes nothing.

    Returns
    -------
    list of int
        The FireWorks ids, in the order of the plan.
    """
    from gapfactory.protocols.de_novo import plan_generation

    submissions = queue.db.submissions
    key = generation_id(campaign.name, generation)
    size = len(plan_generation(campaign, generation))
    record = submissions.find_one({"_id": key})
    if record is None:
        # the ids of a submitter that is killed right here are never used; FireWorks does not mind gaps
        first = queue.get_new_fw_id(quantity=size)
        submissions.update_one(
            {"_id": key},
            {
                "$setOnInsert": {
                    "campaign": campaign.name,
                    "generation": generation,
                    "first_id": first,
                    "size": size,
                    "done": False,
                    "created": now(),
                }
            },
            upsert=True,
        )
        record = submissions.find_one({"_id": key})
    ids = list(range(record["first_id"], record["first_id"] + record["size"]))
    if not record["done"]:
        _insert(queue, generation_workflow(campaign, generation, record["first_id"]), key)
        submissions.update_one({"_id": key}, {"$set": {"done": True}})
    return ids


def _insert(queue: Queue, workflow: Workflow, key: str) -> None:
    roots = set(workflow.root_fw_ids)
    for fw_id in roots:
        workflow.id_fw[fw_id].state = "READY"
        workflow.fw_states[fw_id] = "READY"
    # FireWorks finds workflows by their nodes and leaves _id alone: ours makes the insert unique
    queue.workflows.update_one({"_id": key}, {"$setOnInsert": workflow.to_db_dict()}, upsert=True)
    for fw in sorted(workflow.fws, key=lambda fw: fw.fw_id in roots):
        queue.fireworks.update_one({"fw_id": fw.fw_id}, {"$setOnInsert": fw.to_db_dict()}, upsert=True)
