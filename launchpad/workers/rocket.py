"""Runs the tasks of one checked-out Firework, with FireWorks' rules for what a task returns."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fireworks.core.firework import FWAction
from fireworks.core.rocket import Rocket as FireworksRocket
from fireworks.utilities.dict_mods import apply_mod

from launchpad.retry import TransientFault, is_transient, raised

if TYPE_CHECKING:
    from pathlib import Path

    from fireworks.core.firework import Firework

__all__ = ["HandBack", "Outcome", "Rocket"]


class HandBack(BaseException):
    """Raised inside a task to end it without a result: its worker must stop, another one will run it."""


@dataclass(frozen=True)
class Outcome:
    """How the tasks ended.

    Parameters
    ----------
    action
        What to store and to change in the workflow.
    failed
        Whether a task raised.
    transient
        Whether what it raised is a fault of the infrastructure.
    message
        The error in one line, empty if none.
    times
        How often the fault happened, where the task counts that itself; see `launchpad.retry.TransientFault`.
    ends_worker
        The worker is of no more use for such tasks.
    """

    action: FWAction
    failed: bool = False
    transient: bool = False
    message: str = ""
    times: int = 0
    ends_worker: bool = False


class Rocket(FireworksRocket):
    """FireWorks' Rocket for a Firework that was checked out, built and allowed before.

    It honours what `launchpad.queue.guard` lets through: several tasks, ``_fw_env``, ``_pass_job_info``,
    ``_add_launchpad_and_fw_id``, ``_add_fworker``, ``_preserve_fworker``, and actions of every kind.
    """

    def execute(self, firework: Firework, directory: Path) -> Outcome:
        """Run the tasks in the current directory.

        Parameters
        ----------
        firework
            The Firework.
        directory
            The launch directory, already the current one.

        Raises
        ------
        HandBack
            The worker was told to stop and the task's grace time is over.
        """
        stored: dict[str, Any] = {}
        updates: dict[str, Any] = {}
        mods: list[dict[str, Any]] = []
        spec = dict(firework.spec)
        spec["_fw_env"] = self.fworker.env
        action = FWAction()
        for task in firework.tasks:
            if spec.get("_add_launchpad_and_fw_id"):
                task.fw_id = firework.fw_id
                task.launchpad = self.launchpad
            if spec.get("_add_fworker"):
                task.fworker = self.fworker
            try:
                action = task.run_task(spec) or FWAction()
            except BaseException as error:
                # compiled code that was interrupted makes a SystemError of it
                if raised(error, HandBack):
                    raise HandBack from error
                return self._failure(task, error, firework, spec, directory)
            stored.update(action.stored_data)
            updates.update(action.update_spec)
            mods.extend(action.mod_spec)
            spec.update(action.update_spec)
            for mod in action.mod_spec:
                apply_mod(mod, spec)
            if action.skip_remaining_tasks:
                break
        action.stored_data, action.update_spec, action.mod_spec = stored, updates, mods
        return Outcome(self.decorate_fwaction(action, spec, firework, str(directory)))

    def _failure(
        self, task: Any, error: BaseException, firework: Firework, spec: dict[str, Any], directory: Path
    ) -> Outcome:
        text = "".join(traceback.format_exception(error))
        message = f"{type(error).__name__}: {error}".strip()
        stored = {
            "_message": message,
            # not a dictionary with the name: that would be taken for a serialized task when it is read back
            "_task": str(task.fw_name),
            "_exception": {
                "_stacktrace": text,
                "_details": {"class": type(error).__name__, "message": str(error)},
            },
        }
        action = self.decorate_fwaction(
            FWAction(stored_data=stored, exit=True), spec, firework, str(directory)
        )
        fault = raised(error, TransientFault)
        return Outcome(
            action,
            failed=True,
            transient=is_transient(error),
            message=message,
            times=fault.times if fault else 0,
            ends_worker=fault.ends_worker if fault else False,
        )
