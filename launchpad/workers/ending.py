"""How a launch ends: its result is stored, or its Firework gets another try after a pause."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fireworks.core.firework import FWAction

from launchpad.logs import event
from launchpad.queue.completion import failure

if TYPE_CHECKING:
    from launchpad.queue.launchpad import Queue
    from launchpad.workers.rocket import Outcome

__all__ = ["postpone", "store_result"]

logger = logging.getLogger("launchpad.workers")


def store_result(queue: Queue, fw_id: int, launch_id: int, outcome: Outcome) -> None:
    """Store the result of a task that succeeded or failed; one that cannot be stored is a failure.

    Raises
    ------
    pymongo.errors.PyMongoError
        The database is away and the queue has no spool.
    """
    try:
        queue.complete_launch(launch_id, outcome.action, "FIZZLED" if outcome.failed else "COMPLETED")
    except Exception as error:
        if queue.database_lost(error):
            raise
        # the result itself cannot be stored (not a document, too large, a workflow that cannot be changed so)
        message = f"its result could not be stored: {type(error).__name__}: {error}"
        logger.exception(
            "Firework %d: %s", fw_id, message, extra=event("result.refused", fw_id=fw_id, launch_id=launch_id)
        )
        queue.complete_launch(launch_id, FWAction(stored_data=failure(message), exit=True), "FIZZLED")


def postpone(queue: Queue, fw_id: int, launch_id: int, outcome: Outcome) -> None:
    """Give a task that met a fault of the infrastructure its next try after a pause, within its bound."""
    delays = queue.settings.transient_delays_s
    if outcome.times:
        # counted, and bounded, by the task against what is to blame in it
        delay = delays[min(outcome.times, len(delays)) - 1] if delays else 0.0
        queue.hand_back(launch_id, outcome.message, kind="counted", delay_s=delay)
        return
    known = queue.retries.find_one({"_id": fw_id}) or {}
    used = 0 if known.get("exhausted") else len(known.get("transient", []))
    delay = delays[used] if used < len(delays) else 0.0
    queue.hand_back(launch_id, outcome.message, kind="transient", delay_s=delay)
