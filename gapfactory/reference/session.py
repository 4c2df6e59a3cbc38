"""The books of one supervised batch: what is pending, what went wrong, what is done."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.reference.base import Label, LabelOutcome, kind_of
from gapfactory.reference.checks import wrong_numbers
from gapfactory.reference.child import document_of
from gapfactory.reference.faults import Diagnosis, Fault
from gapfactory.reference.settings import settings_hash
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.reference.settings import EngineSettings

__all__ = ["Session", "WorkItem"]


@dataclass
class WorkItem:
    """One structure and how far its calculation has come."""

    id: str
    atoms: Atoms
    task: dict[str, Any] | None
    structure: str
    settings: str
    history: list[str] = field(default_factory=list)


class Session:
    """State of one batch in the supervising process.

    Parameters
    ----------
    items
        (id, structure, task) in the order in which they are calculated; ids are unique. A task of None is a
        single point, else see `relaxing.relax_with_engine`.
    settings
        Of the engine.
    directory
        Existing directory of the batch. Results that an earlier, interrupted batch left there are taken over.
    on_result
        Called once per structure as soon as its outcome is known; receives the outcome and, for a relaxation,
        what `relax_with_engine` returned.
    """

    def __init__(
        self,
        items: Sequence[tuple[str, Atoms, dict[str, Any] | None]],
        settings: EngineSettings,
        directory: Path,
        on_result: Callable[[LabelOutcome, dict[str, Any] | None], None],
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.pending: dict[str, WorkItem] = {}
        self.outcomes: dict[str, LabelOutcome] = {}
        self.version = "unknown"
        self.engine = ""
        self.current: str | None = None
        self.progressed = False
        self.consumer_error: Exception | None = None
        self._on_result = on_result
        self._current_since = 0.0
        self._offset = 0
        self._run = 0
        for name, atoms, task in items:
            key = settings_hash(settings, kind_of(atoms))
            if task is not None:
                key += ":" + json.dumps(task, sort_keys=True)
            self.pending[name] = WorkItem(name, atoms, task, structure_hash(atoms), key)
        self._take_over()

    @property
    def results_file(self) -> Path:
        """File of events of the current run of the child."""
        return self.directory / f"results-{self._run:04d}.jsonl"

    @property
    def job_file(self) -> Path:
        """File that tells the child what to do."""
        return self.directory / f"job-{self._run:04d}.json"

    def begin_run(self) -> None:
        """Write the job of a new child: everything pending, the structures that have failed so far last."""
        self._run += 1
        while self.results_file.exists():
            self._run += 1
        self._offset = 0
        self.current = None
        self.progressed = False
        ordered = sorted(self.pending.values(), key=lambda item: len(item.history))
        job = {
            "settings": self.settings.model_dump(mode="json"),
            "items": [
                {
                    "id": item.id,
                    "structure": document_of(item.atoms),
                    "task": item.task,
                    "settings": item.settings,
                }
                for item in ordered
            ],
        }
        self.job_file.write_text(json.dumps(job))

    def collect(self) -> None:
        """Read the events the child has completed since the last call."""
        if not self.results_file.exists():
            return
        with self.results_file.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        complete, separator, _ = data.rpartition(b"\n")
        self._offset += len(complete) + len(separator)
        for line in complete.splitlines():
            event = _parse(line)
            if event is not None:
                self._handle(event)

    def overdue(self) -> bool:
        """Tell whether the structure in hand has used up its time."""
        return (
            self.current is not None and time.monotonic() - self._current_since > self.settings.time_limit_s
        )

    def blame_current(self, diagnosis: Diagnosis) -> None:
        """Count a failed attempt against the structure that was being calculated."""
        if self.current is not None:
            name, self.current = self.current, None
            self.fail(name, diagnosis)

    def fail(self, name: str, diagnosis: Diagnosis) -> None:
        """Count a failed attempt: the structure is tried again, or quarantined. A hopeless one is so at once."""
        item = self.pending[name]
        item.history.append(str(diagnosis))
        self.progressed = True
        attempts = len(item.history)
        if not diagnosis.hopeless and attempts < self.settings.max_attempts:
            return
        text = f"{diagnosis} (quarantined after {attempts} attempt{'s' if attempts > 1 else ''})"
        outcome = LabelOutcome(
            name, None, text, attempts, tuple(item.history), fault=diagnosis.fault.name.lower()
        )
        self._finish(item, outcome, None)

    def _handle(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "engine":
            self.engine, self.version = event["info"]["engine"], event["info"]["version"]
            return
        name = event["id"]
        item = self.pending.get(name)
        if item is None:
            return
        if kind == "start":
            self.current, self._current_since, self.progressed = name, time.monotonic(), True
            return
        self.current = None
        if kind == "failed":
            diagnosis = Diagnosis(
                Fault[event["fault"]], str(event["reason"]), hopeless=bool(event["hopeless"])
            )
            self.fail(name, diagnosis)
            return
        wrong = _what_is_wrong(event, item)
        if wrong:
            self.fail(name, Diagnosis(Fault.NAN if "finite" in wrong else Fault.UNSOUND, wrong))
        else:
            self._accept(item, event)

    def _accept(self, item: WorkItem, event: dict[str, Any]) -> None:
        details = dict(event["details"])
        if item.history:
            details["failed_attempts"] = list(item.history)
        label = Label(
            energy=float(event["energy"]),
            forces=np.array(event["forces"], dtype=float).reshape(-1, 3),
            stress=None if event["stress"] is None else np.array(event["stress"], dtype=float),
            walltime_s=float(event["walltime_s"]),
            engine=self.engine,
            version=self.version,
            details=details,
        )
        outcome = LabelOutcome(item.id, label, "", len(item.history) + 1, tuple(item.history))
        self._finish(item, outcome, event.get("relaxation"))

    def _finish(self, item: WorkItem, outcome: LabelOutcome, relaxation: dict[str, Any] | None) -> None:
        del self.pending[item.id]
        self.outcomes[item.id] = outcome
        try:
            self._on_result(outcome, relaxation)
        except Exception as error:
            # the caller's own trouble must not be taken for ours
            self.consumer_error = error
            raise

    def _take_over(self) -> None:
        """Accept sound results of an interrupted batch: same structure, same settings."""
        by_key = {(item.structure, item.settings): name for name, item in self.pending.items()}
        for path in sorted(self.directory.glob("results-*.jsonl")):
            for line in path.read_bytes().splitlines():
                event = _parse(line)
                if event is None:
                    continue
                if event["event"] == "engine":
                    self._handle(event)
                elif event["event"] == "result":
                    name = by_key.get((event["structure"], event["settings"]))
                    if name in self.pending and not _what_is_wrong(event, self.pending[name]):
                        self._accept(self.pending[name], event)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a complete event, or None: a line cut short by a crash carries no sentinel."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("end") is True else None


def _what_is_wrong(event: dict[str, Any], item: WorkItem) -> str:
    """Return why a result cannot be a label of `item`, or an empty string."""
    if event["structure"] != item.structure:
        return "the result belongs to another structure than was sent"
    return wrong_numbers(event["energy"], event["forces"], event["stress"], item.atoms)
