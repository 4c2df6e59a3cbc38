"""What a protocol's planner produces: tasks of one generation with their dependencies, and the decision at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

__all__ = ["Decision", "PlannedTask", "TaskKind", "chunks"]


class TaskKind(StrEnum):
    """The kinds of task; each is also the FireWorks category its workers ask for."""

    #: make random cells
    BUILD = "build"
    #: relax cells with the previous potential
    RELAX = "relax"
    #: choose the structures worth a reference calculation
    SELECT = "select"
    #: run the reference method
    REFERENCE = "reference"
    #: train a range of the networks of the next potential
    TRAIN = "train"
    #: fit and check the next potential
    FIT = "fit"
    #: measure it on evidence that it was not trained on, and decide
    ASSESS = "assess"


@dataclass(frozen=True)
class PlannedTask:
    """One task of a generation.

    Attributes
    ----------
    key
        Unique within the generation, e.g. ``relax-000200``.
    kind
        What it does.
    parameters
        Small JSON values: index ranges, names.
    parents
        Keys of the tasks that must be done before.
    """

    key: str
    kind: TaskKind
    parameters: dict[str, int | str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What the assessment of a generation decides.

    Attributes
    ----------
    action
        Whether the campaign goes on.
    reason
        Why, in words that go into the report.
    go_to
        With ``continue``: the generation that is next where that is not the following one; those in between are left
        out.
    """

    action: Literal["continue", "stop"]
    reason: str
    go_to: int | None = None


def chunks(total: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges ``start <= i < stop`` that cut `total` items into pieces of at most `size`.

    They depend on the data only, never on the number of workers.
    """
    return [(start, min(start + size, total)) for start in range(0, total, size)]
