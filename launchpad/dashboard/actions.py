"""What people do to tasks, campaigns and workers from the dashboard: looked at first, then done, and audited."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import InputError
from launchpad.database.audit import acting_for, audit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymongo.database import Database

    from launchpad.dashboard.auth.accounts import Account
    from launchpad.dashboard.groups import Group
    from launchpad.queue import Queue

__all__ = [
    "CAMPAIGN_ACTIONS",
    "LIMIT",
    "TASK_ACTIONS",
    "CampaignAction",
    "CampaignOutcome",
    "Outcome",
    "Preview",
    "TaskAction",
    "act_on_campaign",
    "act_on_tasks",
    "preview",
    "stop_workers",
    "task_action",
]

#: At most so many tasks are changed by one request.
LIMIT: Final = 500
#: One request begins no further task after this time (s): people wait for it.
PATIENCE_S: Final = 20.0
#: In which states a task is that an action has reached, though its workflow could not follow yet.
_REACHED: Final = {"pause": ("PAUSED",), "resume": ("READY", "WAITING")}
#: Priorities that may be given; the queue's own are 10 to 60.
LOWEST, HIGHEST = -1000, 1000


@dataclass(frozen=True)
class TaskAction:
    """Something that can be done to tasks.

    Attributes
    ----------
    name
        In forms.
    label
        On the button.
    states
        Tasks in these may be meant; others are left alone.
    event
        In the audit trail.
    consequence
        What will happen, for the question before it.
    done
        What has happened, after a number of tasks.
    """

    name: str
    label: str
    states: frozenset[str]
    event: str
    consequence: str
    done: str


TASK_ACTIONS: Final = {
    action.name: action
    for action in (
        TaskAction(
            "rerun",
            "Run again",
            frozenset({"FIZZLED", "COMPLETED"}),
            "task.rerun",
            "What is run again starts anew, with all that followed from it; the launches so far are kept as archived "
            "ones. A halted campaign goes on.",
            "run again",
        ),
        TaskAction(
            "pause",
            "Pause",
            frozenset({"WAITING", "READY"}),
            "task.paused",
            "What is paused does not start, and what depends on it waits, until somebody resumes it.",
            "paused",
        ),
        TaskAction(
            "resume",
            "Resume",
            frozenset({"PAUSED", "DEFUSED"}),
            "task.resumed",
            "What is resumed may start as soon as what it waits for is done.",
            "resumed",
        ),
        TaskAction(
            "cancel",
            "Cancel",
            frozenset({"WAITING", "READY", "FIZZLED", "PAUSED"}),
            "task.cancelled",
            "What is cancelled does not start, nor does what depends on it. Nothing stored is deleted, and it can be "
            "resumed.",
            "cancelled",
        ),
        TaskAction(
            "priority",
            "Set priority",
            frozenset({"WAITING", "READY", "PAUSED", "FIZZLED", "DEFUSED"}),
            "task.priority",
            "Among tasks that can start, those of higher priority start first.",
            "given another priority",
        ),
    )
}


@dataclass(frozen=True)
class Preview:
    """What an action would do.

    Attributes
    ----------
    meant
        Tasks that it applies to (rows of the table).
    left
        Number of the others by state.
    missing
        Ids that no task has.
    """

    meant: tuple[dict[str, Any], ...]
    left: dict[str, int]
    missing: tuple[int, ...]


@dataclass
class Outcome:
    """What an action did: every task that was asked for is in one of the lists.

    Attributes
    ----------
    done
        Ids of the tasks that it was done to.
    late
        Ids of those whose state does not allow it (any more).
    locked
        Ids of those whose workflow somebody else was changing all the time.
    missing
        Ids that no task has.
    reasons
        Why it was not done, by the id of each of the others.
    campaigns
        Halted campaigns that go on by it.
    """

    done: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    locked: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    campaigns: tuple[str, ...] = ()


def task_action(name: str) -> TaskAction:
    """Return an action by its name.

    Raises
    ------
    InputError
        There is none.
    """
    if name not in TASK_ACTIONS:
        raise InputError(f"action {name[:40]!r}: one of {', '.join(TASK_ACTIONS)}")
    return TASK_ACTIONS[name]


def checked_priority(text: str) -> int:
    """Return a priority that somebody typed.

    Raises
    ------
    InputError
        It is no whole number in the range.
    """
    try:
        value = int(text)
    except ValueError as error:
        raise InputError(f"priority {text[:40]!r} is no whole number") from error
    if not LOWEST <= value <= HIGHEST:
        raise InputError(f"priority {value} is not between {LOWEST} and {HIGHEST}")
    return value


def preview(database: Database[Any], action: TaskAction, ids: Sequence[int]) -> Preview:
    """Look at what an action would do.

    Raises
    ------
    InputError
        No task is named, or more than one request may change.
    """
    from launchpad.dashboard.queries.queue import task_rows

    _bounded(ids)
    rows = task_rows(database, ids)
    return Preview(
        tuple(row for row in rows if row["state"] in action.states),
        dict(Counter(row["state"] for row in rows if row["state"] not in action.states)),
        tuple(sorted(set(ids) - {row["fw_id"] for row in rows})),
    )


def _bounded(ids: Sequence[int]) -> None:
    if not ids:
        raise InputError("no task is chosen: tick some in the table, or take all that match the filter")
    if len(ids) > LIMIT:
        raise InputError(f"{len(ids)} tasks are chosen; one request changes at most {LIMIT}")


def act_on_tasks(
    group: Group,
    account: Account,
    action: TaskAction,
    ids: Sequence[int],
    *,
    priority: int | None = None,
    seen: Mapping[int, int] | None = None,
) -> Outcome:
    """Do it to every task that is in a state for it, and note in the audit trail what was done.

    Parameters
    ----------
    group
        Where.
    account
        Who asked; its role was checked.
    action
        From `task_action`.
    ids
        The tasks, at most `LIMIT`.
    priority
        For ``priority``.
    seen
        The last launch of each task (0: none) when whoever asked looked at it: one that was run again since is left
        alone, so that an order sent twice runs nothing twice. None: it does not matter.

    Raises
    ------
    InputError
        No task is named, too many are, or the priority is missing.
    """
    if action.name == "priority" and priority is None:
        raise InputError("a priority is needed: a whole number, larger ones first")
    _bounded(ids)
    outcome = Outcome()
    with group.queue() as queue, acting_for(account.name):
        try:
            if action.name == "rerun":
                # first of all: what runs again may fail again at once, and halts its campaign then
                outcome.campaigns = _go_on(queue, action, ids, seen)
            end = time.monotonic() + PATIENCE_S
            # what followed from a task runs again with it: the later ones first, so that each is found as it was
            for fw_id in sorted(set(ids), reverse=action.name == "rerun"):
                _one(queue, action, fw_id, outcome, priority, seen, end)
        finally:
            for found in (outcome.done, outcome.late, outcome.locked, outcome.missing):
                found.sort()
            if outcome.done:
                details: dict[str, Any] = {"tasks": outcome.done}
                if priority is not None:
                    details["priority"] = priority
                audit(queue.db, action.event, **details)
    return outcome


def _one(
    queue: Queue,
    action: TaskAction,
    fw_id: int,
    outcome: Outcome,
    priority: int | None,
    seen: Mapping[int, int] | None,
    end: float,
) -> None:
    """Do an action to one task, and put it where it belongs in the outcome."""
    from fireworks.core.launchpad import LockedWorkflowError

    from launchpad.queue.lock import NoWorkflowError

    changed = False
    reason = ""
    try:
        if time.monotonic() > end:
            outcome.locked.append(fw_id)
            outcome.reasons[fw_id] = "there was no time left for it: try again"
            return
        changed = _changed(queue, action, fw_id, priority, seen)
    except LockedWorkflowError:
        reason = "its workflow is busy: try again"
    except NoWorkflowError:
        reason = "it belongs to no workflow"
    state = queue.fireworks.find_one({"fw_id": fw_id}, {"state": 1})
    if state is None:
        outcome.missing.append(fw_id)
        outcome.reasons[fw_id] = "there is no such task"
    elif changed or (reason and state["state"] in _REACHED.get(action.name, ())):
        # the task itself comes first: its workflow, which was busy, follows it
        outcome.done.append(fw_id)
    elif reason:
        outcome.locked.append(fw_id)
        outcome.reasons[fw_id] = reason
    else:
        outcome.late.append(fw_id)
        changed_back = state["state"] in action.states
        outcome.reasons[fw_id] = (
            "it has changed meanwhile" if changed_back else f"it is {state['state'].lower()}"
        )


def _changed(
    queue: Queue, action: TaskAction, fw_id: int, priority: int | None, seen: Mapping[int, int] | None
) -> bool:
    """Do an action to one task; return whether its state still allowed it."""
    from launchpad.queue.lock import WorkflowLock
    from launchpad.queue.repair import rerun_locked

    allowed = {"fw_id": fw_id, "state": {"$in": sorted(action.states)}}
    if action.name == "priority":
        return bool(queue.fireworks.update_one(allowed, {"$set": {"spec._priority": priority}}).matched_count)
    if action.name == "rerun":
        if queue.fireworks.find_one(allowed, {"_id": 1}) is None:
            return False
        with WorkflowLock(queue, fw_id):
            # under the lock: of two who ask at the same time, one is late
            task = queue.fireworks.find_one(allowed, {"launches": 1})
            if task is None or not _as_seen(task, fw_id, seen):
                return False
            queue.fireworks.update_one({"fw_id": fw_id}, {"$unset": {"spec._recovery": ""}})
            rerun_locked(queue, fw_id)
        return True
    if queue.fireworks.find_one(allowed, {"_id": 1}) is None:
        return False
    if action.name == "resume":
        return queue.resume_fw(fw_id) is not None or queue.reignite_fw(fw_id) is not None
    change: Callable[[int], Any] = {"pause": queue.pause_fw, "cancel": queue.defuse_fw}[action.name]
    return change(fw_id) is not None


def last_launch(task: Mapping[str, Any]) -> int:
    """Return the number of a task's last launch that counts, 0 if there is none."""
    return max(task.get("launches") or (), default=0)


def _as_seen(task: Mapping[str, Any], fw_id: int, seen: Mapping[int, int] | None) -> bool:
    return seen is None or seen.get(fw_id) == last_launch(task)


def _go_on(
    queue: Queue, action: TaskAction, ids: Sequence[int], seen: Mapping[int, int] | None
) -> tuple[str, ...]:
    """Let the halted campaigns of tasks that run again go on; return their names."""
    from launchpad.database.campaigns import set_state
    from launchpad.states import CampaignState

    database = queue.db
    tasks = queue.fireworks.find(
        {"fw_id": {"$in": list(ids)}, "state": {"$in": sorted(action.states)}},
        {"fw_id": 1, "launches": 1, "spec.campaign": 1},
    )
    names = sorted(
        {
            str(task["spec"]["campaign"])
            for task in tasks
            if _as_seen(task, task["fw_id"], seen) and task.get("spec", {}).get("campaign")
        }
    )
    halted = [
        record["_id"]
        for record in database.campaigns.find(
            {"_id": {"$in": names}, "state": str(CampaignState.HALTED)}, {"_id": 1}
        )
    ]
    return tuple(
        name for name in halted if set_state(database, name, CampaignState.RUNNING, "a task runs again")
    )


@dataclass(frozen=True)
class CampaignAction:
    """Something that can be done to a campaign; fields as of `TaskAction`, `short` where there is little room."""

    name: str
    label: str
    short: str
    states: frozenset[str]
    consequence: str


CAMPAIGN_ACTIONS: Final = {
    action.name: action
    for action in (
        CampaignAction(
            "cancel",
            "Cancel",
            "Cancel",
            frozenset({"submitted", "running", "halted"}),
            "Nothing new starts; what runs is let finish. Nothing stored is deleted, and the campaign can be resumed.",
        ),
        CampaignAction(
            "resume",
            "Resume",
            "Resume",
            frozenset({"halted", "cancelled", "running"}),
            "Its failed and cancelled tasks run again, and it goes on where it stopped.",
        ),
        CampaignAction(
            "retry",
            "Label quarantined structures again",
            "Retry labels",
            frozenset({"halted", "cancelled", "running"}),
            "Structures that could not be labelled are tried again where a fit will still use them, and it goes on.",
        ),
    )
}


@dataclass(frozen=True)
class CampaignOutcome:
    """What was done to a campaign.

    Attributes
    ----------
    action, campaign
        What, to which.
    tasks
        Tasks that will not start, or that run again.
    labels
        Labels that are tried again.
    """

    action: str
    campaign: str
    tasks: int
    labels: int = 0

    @property
    def text(self) -> str:
        """For people."""
        if self.action == "cancel":
            return f"Campaign {self.campaign} is cancelled; {self.tasks} tasks will not start."
        return f"Campaign {self.campaign} goes on; {self.tasks} tasks run again, {self.labels} labels are tried again."


def act_on_campaign(
    group: Group,
    account: Account,
    action: str,
    name: str,
    *,
    labels: Sequence[str] = (),
    fault: str | None = None,
) -> CampaignOutcome:
    """Cancel, resume or retry a campaign.

    Parameters
    ----------
    labels, fault
        Of a retry: only these structures, only those that ended with this fault.

    Raises
    ------
    InputError
        There is no such action.
    NotFoundError, StateError
        There is no such campaign, or its state does not allow it.
    """
    from launchpad import service

    if action not in CAMPAIGN_ACTIONS:
        raise InputError(f"action {action[:40]!r}: one of {', '.join(CAMPAIGN_ACTIONS)}")
    with group.queue() as queue, acting_for(account.name):
        if action == "cancel":
            return CampaignOutcome(action, name, service.cancel(queue, name))
        if action == "resume":
            numbers = service.resume(queue, name)
        else:
            numbers = service.retry(queue, name, labels=labels, fault=fault)
        return CampaignOutcome(action, name, numbers["rerun"], numbers["labels_forgotten"])


def stop_workers(group: Group, account: Account, ids: Sequence[str]) -> int:
    """Ask workers to finish their task and stop; return how many were asked.

    Raises
    ------
    InputError
        None is named, or too many.
    """
    from launchpad.workers.background import request_stop

    if not ids or len(ids) > LIMIT:
        raise InputError(f"{len(ids)} workers are chosen: choose 1 to {LIMIT}")
    with acting_for(account.name):
        number = request_stop(group.database, everywhere=True, ids=ids)
        audit(group.database, "worker.stopped", workers=sorted(ids), asked=number)
    return number
