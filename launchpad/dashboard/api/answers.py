"""What the API sends, and what it takes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from launchpad.dashboard.api.declare import Answer, Given

__all__ = [
    "Attempt",
    "Campaign",
    "CampaignDetail",
    "Campaigns",
    "Changed",
    "Generation",
    "Generations",
    "Label",
    "Metrics",
    "Queue",
    "RetryOrder",
    "Step",
    "Structure",
    "StructureDetail",
    "StructureQuery",
    "Structures",
    "Task",
    "TaskDetail",
    "TaskOrder",
    "TaskOutcome",
    "TaskStep",
    "Tasks",
    "Worker",
    "Workers",
]


def plain(value: Any) -> Any:
    """Return stored data as what JSON can say: no bytes, and what has no name in JSON as text."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


Plain = Annotated[dict[str, Any], BeforeValidator(plain)]
Moment = Annotated[str | None, BeforeValidator(lambda value: None if value is None else plain(value))]


class CampaignLine(Answer):
    """A campaign at a glance."""

    campaign: str
    state: str
    reason: str
    generation: int
    generations: int
    """As planned."""
    labels: int
    """Of the budget; in the list of campaigns as of the newest assessment."""
    label_budget: int
    created: str
    updated: str


class Campaign(CampaignLine):
    """Where a campaign stands."""

    tasks: dict[str, dict[str, int]]
    """Of the present generation: kind, state, number."""
    relaxations: dict[str, int]
    relaxations_planned: int


class Campaigns(Answer):
    """All campaigns of the group."""

    campaigns: list[CampaignLine]


class CampaignDetail(Campaign):
    """A campaign with its settings."""

    potential: Plain | None
    """Generation and digest of the newest fitted one."""
    settings: Plain
    versions: dict[str, str]


class Generation(Answer):
    """What the assessment of a generation found."""

    generation: int
    labels: int
    decision: str
    reason: str
    headline: Plain
    """Its most important errors (eV/atom, eV/Å) by name."""


class Generations(Answer):
    """The assessments of a campaign."""

    generations: list[Generation]


class Metrics(Answer):
    """Everything that was measured of one generation."""

    campaign: str
    generation: int
    labels: int
    decision: str
    reason: str
    evidence: Plain


class Structure(Answer):
    """A stored structure, without its atoms."""

    id: str
    campaign: str
    generation: int
    stage: str
    index: int
    composition: str
    hash: str


class Structures(Answer):
    """A page of structures."""

    structures: list[Structure]
    following: str | None
    """For ``after`` of the next page; null on the last one."""


class Step(Answer):
    """One step of a structure's history."""

    name: str
    text: str
    target: str | None
    """The structure that it leads to; null where that is this one."""
    task: int | None
    """The task that did it, where it is known."""


class Label(Answer):
    """What the reference said, as the structure's campaign sees it."""

    id: str
    status: str
    fault: str
    reason: str
    energy: float
    """Total (eV); null where there is none."""
    engine: str
    version: str
    attempts: int
    seconds: float


class StructureDetail(Answer):
    """A structure: stored as such, a relaxation's last frame, or another frame of it."""

    id: str
    campaign: str
    generation: int
    kind: str
    composition: str
    hash: str
    symbols: list[str]
    positions: list[list[float]]
    """Å."""
    cell: list[list[float]]
    """Å, one row per lattice vector."""
    pbc: list[bool]
    info: Plain
    """How it was made."""
    path: list[Step]
    """Cell, relaxation, selection, label, fits: in the order in which they happened."""
    label: Label | None
    fits: list[int]
    """Generations whose potential was fitted to it."""


class StructureQuery(Given):
    """Which structure."""

    id: str = Field(min_length=1, max_length=300)
    """As in the page of structures."""


class Task(Answer):
    """A task of the queue."""

    id: int
    name: str
    state: str
    kind: str | None
    campaign: str | None
    generation: int | None
    priority: int | None
    created: Moment
    updated: Moment


class Tasks(Answer):
    """A page of tasks."""

    tasks: list[Task]
    following: str | None
    """For ``after`` of the next page; null on the last one."""


class TaskStep(Answer):
    """What a task does."""

    name: str
    parameters: dict[str, str]


class Attempt(Answer):
    """One launch of a task."""

    launch_id: int
    state: str
    host: str
    worker: str
    archived: bool
    """Whether the task was run again since."""
    started: Moment
    ended: Moment
    seconds: float | None
    files: str
    """Where its files lie, for people."""
    error: str
    tail: str
    """End of the traceback of a failed one."""
    summary: Plain
    """What a completed one reports."""
    given_up: str
    """Why it was ended without a result, and what became of it."""


class TaskDetail(Task):
    """A task with its inputs and launches."""

    steps: list[TaskStep]
    needs: Plain
    """Of a worker: cores, memory."""
    attempts: list[Attempt]
    """The newest 50 launches, the newest first."""
    tries: dict[str, int]
    """Tries that ended by a fault of the machine, by kind."""
    exhausted: bool
    """Whether the bound of these was reached."""
    parents: list[int]
    children: list[int]


class Worker(Answer):
    """A process that works for the queue, or supervises those that do."""

    id: str
    host: str
    kind: str
    pid: int
    condition: str
    """``idle``, ``running``, ``draining`` and the like; ``silent``, ``dead``."""
    asked: bool
    """Whether it was asked to stop."""
    site: str
    """The batch job that it runs in."""
    categories: list[str]
    """Kinds of task that it works for; empty: all."""
    campaigns: list[str]
    cores: int | None
    memory_gb: float | None
    fw_id: int | None
    """The task that it is at."""
    task: str
    done: int
    failed: int
    per_hour: float | None
    started: float | None
    heartbeat: float | None
    """Seconds since the epoch."""


class Workers(Answer):
    """The workers of the group."""

    workers: list[Worker]


class Queue(Answer):
    """How many tasks of each kind are in each state."""

    counts: dict[str, dict[str, int]]


class RetryOrder(Given):
    """What to label again."""

    labels: list[Annotated[str, Field(max_length=300)]] = Field(default=[], max_length=1000)
    """Ids of structures; all by default."""
    fault: str | None = Field(default=None, max_length=100)
    """Only those that ended with this kind of fault."""


class TaskOrder(Given):
    """What to do to which tasks; those in a state that does not allow it are left alone."""

    action: Literal["rerun", "pause", "resume", "cancel", "priority"]
    ids: list[Annotated[int, Field(ge=0, lt=10**15)]] = Field(min_length=1, max_length=500)
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """For ``priority``: larger ones start first."""


class TaskOutcome(Answer):
    """What was done to tasks."""

    done: list[int]
    late: list[int]
    """Their state does not allow it (any more)."""
    locked: list[int]
    """Somebody else was changing their workflow all the time."""
    missing: list[int]
    """There are no such tasks."""
    reasons: dict[int, str]
    """Why it was not done, for each of the others."""
    campaigns: list[str]
    """Halted ones that go on by it."""


class Changed(Answer):
    """What an action did."""

    action: Literal["cancel", "resume", "retry"]
    campaign: str
    tasks: int
    """Tasks that were put on the queue again, or will not start."""
    labels: int
    """Labels that are tried again."""
