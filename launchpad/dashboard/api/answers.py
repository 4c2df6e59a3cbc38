"""What the API sends, and what it takes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from launchpad.dashboard.api.declare import Answer, Given

__all__ = [
    "Campaign",
    "CampaignDetail",
    "Campaigns",
    "Changed",
    "Generation",
    "Generations",
    "Metrics",
    "Queue",
    "RetryOrder",
    "Structure",
    "StructureDetail",
    "StructureQuery",
    "Structures",
    "Task",
    "TaskDetail",
    "TaskOrder",
    "TaskOutcome",
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


class Campaign(Answer):
    """Where a campaign stands."""

    campaign: str
    state: str
    reason: str
    generation: int
    generations: int
    """As planned."""
    labels: int
    """Reference calculations that are done."""
    label_budget: int
    tasks: dict[str, dict[str, int]]
    """Of the present generation: kind, state, number."""
    relaxations: dict[str, int]
    relaxations_planned: int
    created: str
    updated: str


class Campaigns(Answer):
    """All campaigns of the group."""

    campaigns: list[Campaign]


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


class StructureDetail(Structure):
    """A stored structure."""

    symbols: list[str]
    positions: list[list[float]]
    """Å."""
    cell: list[list[float]]
    """Å, one row per lattice vector."""
    pbc: list[bool]
    info: Plain
    """How it was made."""


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


class TaskDetail(Task):
    """A task with its inputs and launches."""

    spec: Plain
    launches: list[Plain]
    """The newest 50: state, host, directory, times, and what a failed one said."""


class Worker(Answer):
    """A process that works for the queue, or supervises those that do."""

    id: str
    kind: str | None
    host: str | None
    pid: int | None
    state: str | None
    alive: bool | None
    """Null where it cannot be told."""
    age_s: float
    """Since it reported."""
    task: int | None
    done: int
    failed: int


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
