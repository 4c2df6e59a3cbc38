"""FireWorks' states as they are used by our queue; campaigns have their own states in `launchpad.states`."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FireworkState"]


class FireworkState(StrEnum):
    """State of a Firework (a task of the queue), as `lpad get_fws` shows it."""

    #: some parent is not completed
    WAITING = "WAITING"
    #: a worker may take it
    READY = "READY"
    #: a worker is taking it, or it waits in a batch system's queue
    RESERVED = "RESERVED"
    #: a worker runs it, or it waits for its next try after a fault of the infrastructure
    RUNNING = "RUNNING"
    #: done, its result is stored
    COMPLETED = "COMPLETED"
    #: failed for good: a person (or `resume`) must run it again
    FIZZLED = "FIZZLED"
    #: a person paused it
    PAUSED = "PAUSED"
    #: a person, or another task, switched it off
    DEFUSED = "DEFUSED"
    #: put away together with its workflow
    ARCHIVED = "ARCHIVED"
