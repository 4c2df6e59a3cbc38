"""What every task of a campaign shares: its database, its campaign, and errors that say whose fault it was."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import FiretaskBase, FWAction

from launchpad.database.campaigns import campaign_of, mark_running, require_campaign, set_state
from launchpad.database.connection import durable
from launchpad.retry import is_transient
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from numpy.random import Generator
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.seeds import Stage
    from launchpad.queue import Queue

__all__ = ["CampaignTask", "TaskContext"]


@dataclass(frozen=True)
class TaskContext:
    """What a task works with.

    Attributes
    ----------
    queue
        The queue that handed the task out.
    campaign
        The resolved campaign.
    generation
        The generation this task belongs to.
    workdir
        The launch directory: scratch of this attempt alone.
    """

    queue: Queue
    campaign: Campaign
    generation: int
    workdir: Path

    @cached_property
    def database(self) -> Database[Any]:
        """The database, with durable writes."""
        return durable(self.queue.db)

    def rng(self, stage: Stage, index: int = 0, *, generation: int | None = None) -> Generator:
        """Return the random stream of one decision."""
        from gapfactory.seeds import stream

        return stream(self.campaign.seed, self.generation if generation is None else generation, stage, index)


class CampaignTask(FiretaskBase):
    """Base of the Firetasks: load the campaign, do nothing when it was cancelled, run, report the time.

    A task of a cancelled campaign ends without work and keeps its children from starting; `service.resume` runs it
    again. A task that fails halts the campaign, whoever runs it.
    """

    required_params: ClassVar[tuple[str, ...]] = ("campaign", "generation")

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Run the task as FireWorks asks."""
        started = time.monotonic()
        queue = self.launchpad
        record = require_campaign(durable(queue.db), self["campaign"])
        if record["state"] == CampaignState.CANCELLED:
            return FWAction(stored_data={"cancelled": True, "seconds": 0.0}, defuse_children=True)
        context = TaskContext(queue, campaign_of(record), self["generation"], Path.cwd())
        mark_running(context.database, context.campaign.name, context.generation)
        try:
            summary = self.work(context)
        except Exception as error:
            if not is_transient(error):
                self._halt(context, error)
            raise
        return FWAction(stored_data={**summary, "seconds": round(time.monotonic() - started, 3)})

    def _halt(self, context: TaskContext, error: Exception) -> None:
        """Record why the campaign cannot go on; a reason that is there already stays."""
        from pymongo.errors import PyMongoError

        # should the database be lost now, the error of the task is still what its launch records
        with suppress(PyMongoError):
            task = context.database.fireworks.find_one({"fw_id": self.fw_id}, {"name": 1}) or {}
            set_state(
                context.database,
                context.campaign.name,
                CampaignState.HALTED,
                f"task {self.fw_id} {task.get('name', '')} failed: {type(error).__name__}: {error}",
            )

    @abstractmethod
    def work(self, context: TaskContext) -> dict[str, Any]:
        """Do the work; return a small JSON summary for people."""
