"""Drive a campaign with local workers and show how it goes until it ends or somebody presses Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from launchpad.states import CampaignState

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from gapfactory.campaign import Campaign
    from launchpad.database.location import Located
    from launchpad.stopping import Asked

__all__ = ["drive"]

#: Seconds between looks at the database.
INTERVAL = 1.0
#: Seconds without any change, running task or waiting work after which a person is needed.
STALLED_AFTER = 60.0
#: Looks in a row that find failed tasks and nothing that could still run, before a run ends.
LOOKS = 2


def drive(
    located: Located,
    data: Path | None,
    campaign: Campaign,
    workers: int | None = None,
    *,
    stop: Asked,
    quiet: bool = False,
) -> str:
    """Run local workers until the campaign ends, or somebody asks to stop; return its state.

    Asked to stop (Ctrl-C, SIGTERM), the workers are drained; what they cannot finish is put back on the queue. Asked
    again, they are ended at once.

    Returns
    -------
    str
        A state of the campaign that ends it (``halted`` also when a task failed and nothing else can run),
        ``stalled`` (nothing happens, nobody knows why) or ``interrupted`` (Ctrl-C).
    """
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database, scratch_directory
    from launchpad.workers import Supervisor
    from launchpad.workers.configuration import service_settings

    known = service_settings()
    number = workers or os.cpu_count() or 1
    ensure = None if located.kind == "given" else (lambda: locate_database(None, data).uri)
    database = open_database(located.uri)
    supervisor = Supervisor(
        located.uri,
        number,
        scratch=scratch_directory(located.data),
        ensure_database=ensure,
        worker_settings=known.worker,
        queue_settings=known.queue,
        settings=known.supervisor,
    )
    last_change, last_seen, dead_ends = time.monotonic(), None, 0
    with _Display(campaign, number, quiet) as display, contextlib.ExitStack() as ending:
        ending.callback(lambda: supervisor.stop(at_once=lambda: stop.again))
        if not stop.is_set():
            supervisor.start()
        while not stop.is_set():
            display.trouble(supervisor.tick().message)
            view = _look(database, campaign)
            if view is not None:
                display.update(view)
                state = CampaignState(view["state"])
                # a task that fails halts the campaign; what others are at, and can still do, goes on
                if state.ended and not (state is CampaignState.HALTED and view["active"]):
                    return str(state)
                # a failed task may be what the last running one waits for: look again before ending
                dead_ends = dead_ends + 1 if view["failed"] and not view["active"] else 0
                if dead_ends >= LOOKS:
                    return _halt(database, campaign.name, view["failed"])
                if view != last_seen or view["active"]:
                    last_seen, last_change = view, time.monotonic()
                elif time.monotonic() - last_change > STALLED_AFTER:
                    return "stalled"
            stop.wait(INTERVAL)
        display.note(
            "stopping: the workers finish or hand back what they are at; nothing is lost (Ctrl-C again: at once)"
        )
        return "interrupted"


def _halt(database: Any, name: str, failed: list[dict[str, Any]]) -> str:
    """Record that the campaign cannot go on when a failed task could not do so itself: it was killed or refused."""
    from launchpad.database.campaigns import set_state

    first = failed[0]
    set_state(
        database,
        name,
        CampaignState.HALTED,
        f"task {first['fw_id']} {first['name']} failed: {first['error']}",
    )
    return str(CampaignState.HALTED)


def _look(database: Any, campaign: Campaign) -> dict[str, Any] | None:
    """Return what to show, or None while the database does not answer (the supervisor restarts a local one)."""
    from pymongo.errors import PyMongoError

    from launchpad import queries, service

    try:
        view = service.status(database, campaign.name)
        # of all generations: the next one is on the queue before its first task makes it the present one; and in one
        # question: between several, one task ends and the next becomes ready, and neither is seen
        view["active"] = database.fireworks.count_documents(
            {"spec.campaign": campaign.name, "state": {"$in": ["RUNNING", "RESERVED", "READY"]}}
        )
        view["failed"] = queries.failed_tasks(database, campaign.name)
        view["postponed"] = queries.postponed_tasks(database, campaign.name)
    except PyMongoError:
        return None
    counts: dict[str, int] = {}
    for states in view["tasks"].values():
        for state, number in states.items():
            counts[state] = counts.get(state, 0) + number
    view["counts"] = counts
    view.pop("updated")
    return view


class _Display:
    """Progress bars on a terminal, a line per change elsewhere."""

    def __init__(self, campaign: Campaign, workers: int, quiet: bool) -> None:
        self.campaign, self.workers, self.quiet = campaign, workers, quiet
        self.progress: Progress | None = None
        self.bars: dict[str, TaskID] = {}
        self.last_line = ""
        self.last_trouble = ""
        self.seen_assessments = 0
        self.seen_failures: set[int] = set()
        self.seen_postponed: dict[int, str] = {}

    def __enter__(self) -> _Display:
        import sys

        if not self.quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self.progress = Progress(
                TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            )
            self.bars = {
                "labels": self.progress.add_task("labels", total=self.campaign.stop.label_budget),
                "tasks": self.progress.add_task("tasks of generation 0", total=None),
            }
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def note(self, text: str) -> None:
        """Print one line without disturbing the bars."""
        if self.quiet:
            return
        if self.progress is not None:
            self.progress.console.print(text, markup=False, highlight=False)
        else:
            from launchpad.cli.output import say

            say(text)

    def trouble(self, message: str) -> None:
        """Say once what is wrong with the database or the workers, and once when it is over."""
        if message != self.last_trouble:
            self.last_trouble = message
            self.note(message or "the trouble is over: going on")

    def update(self, view: dict[str, Any]) -> None:
        """Show the present state."""
        for task in view["failed"]:
            if task["fw_id"] not in self.seen_failures:
                self.seen_failures.add(task["fw_id"])
                self.note(f"failed: task {task['fw_id']} {task['name']}: {task['error']}")
        for task in view["postponed"]:
            if self.seen_postponed.get(task["fw_id"]) != task["reason"]:
                self.seen_postponed[task["fw_id"]] = task["reason"]
                self.note(f"task {task['fw_id']} {task['name']} is tried again: {task['reason']}")
        for entry in view["assessments"][self.seen_assessments :]:
            facts = ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
                for k, v in entry.items()
                if v is not None and k not in {"generation", "decision", "reason"}
            )
            self.note(f"generation {entry['generation']}: {facts}; {entry['decision']}: {entry['reason']}")
        self.seen_assessments = len(view["assessments"])
        counts, done = view["counts"], view["counts"].get("COMPLETED", 0)
        total = sum(counts.values())
        relaxed = sum(view["relaxations"].values())
        doing = ", ".join(
            f"{kind} {states.get('RUNNING', 0)} running"
            for kind, states in view["tasks"].items()
            if states.get("RUNNING")
        )
        if self.progress is not None:
            self.progress.update(self.bars["labels"], completed=view["labels"])
            self.progress.update(
                self.bars["tasks"],
                completed=done,
                total=total,
                description=f"generation {view['generation']} {doing}"[:34],
            )
            return
        line = f"generation {view['generation']}: {done}/{total} tasks, {view['labels']} labels"
        if view["relaxations_planned"]:
            line += f", {relaxed}/{view['relaxations_planned']} relaxed"
        if counts.get("FIZZLED"):
            line += f", {counts['FIZZLED']} FAILED"
        if line != self.last_line:
            self.last_line = line
            self.note(f"[{time.strftime('%H:%M:%S')}] {line}")
