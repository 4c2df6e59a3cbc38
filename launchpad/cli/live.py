"""Drive a campaign with local workers and show how it goes until it ends or somebody presses Ctrl-C."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from launchpad.states import CampaignState

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from gapfactory.campaign import Campaign
    from launchpad.database.location import Located

__all__ = ["drive"]

#: Seconds between looks at the database.
INTERVAL = 1.0
#: Seconds without any change, running task or waiting work after which a person is needed.
STALLED_AFTER = 60.0


def drive(
    located: Located,
    data: Path | None,
    campaign: Campaign,
    workers: int | None = None,
    *,
    quiet: bool = False,
) -> str:
    """Run local workers until the campaign ends; return its state.

    Ctrl-C drains the workers; what they cannot finish is put back on the queue.
    """
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database, scratch_directory
    from launchpad.workers import Supervisor

    number = workers or os.cpu_count() or 1
    ensure = None if located.kind == "given" else (lambda: locate_database(None, data).uri)
    database = open_database(located.uri)
    supervisor = Supervisor(
        located.uri, number, scratch=scratch_directory(located.data), ensure_database=ensure
    )
    state, last_change, last_seen = "submitted", time.monotonic(), None
    with supervisor, _Display(campaign, number, quiet) as display:
        try:
            while True:
                supervisor.tick()
                view = _look(database, campaign)
                if view is not None:
                    display.update(view)
                    state = view["state"]
                    if CampaignState(state).ended:
                        return str(state)
                    if view != last_seen or view["active"]:
                        last_seen, last_change = view, time.monotonic()
                    elif time.monotonic() - last_change > STALLED_AFTER:
                        return "stalled"
                time.sleep(INTERVAL)
        except KeyboardInterrupt:
            display.note("stopping: the workers hand back what they are at; nothing is lost")
            return "interrupted"


def _look(database: Any, campaign: Campaign) -> dict[str, Any] | None:
    """Return what to show, or None while the database does not answer (the supervisor restarts a local one)."""
    from pymongo.errors import PyMongoError

    from launchpad import service

    try:
        view = service.status(database, campaign.name)
    except PyMongoError:
        return None
    counts: dict[str, int] = {}
    for states in view["tasks"].values():
        for state, number in states.items():
            counts[state] = counts.get(state, 0) + number
    view["counts"] = counts
    view["active"] = counts.get("RUNNING", 0) + counts.get("RESERVED", 0) + counts.get("READY", 0)
    view.pop("updated")
    return view


class _Display:
    """Progress bars on a terminal, a line per change elsewhere."""

    def __init__(self, campaign: Campaign, workers: int, quiet: bool) -> None:
        self.campaign, self.workers, self.quiet = campaign, workers, quiet
        self.progress: Progress | None = None
        self.bars: dict[str, TaskID] = {}
        self.last_line = ""
        self.seen_assessments = 0

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

    def update(self, view: dict[str, Any]) -> None:
        """Show the present state."""
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
