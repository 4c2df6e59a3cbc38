"""Numbers for Prometheus, as a file that node_exporter's textfile collector reads.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based, version 0.0.4). The file holds no
secret and no name of a structure; collectors run as other users, so it is readable by all.
"""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from launchpad.health.finding import Finding, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pymongo.database import Database

    from launchpad.health.finding import Patient

__all__ = ["Metric", "measure", "render", "write_metrics"]

#: Statuses of label documents; see `launchpad.database.labels`.
_LABELS = ("done", "failed", "altered", "late")


@dataclass
class Metric:
    """One gauge with its samples.

    Parameters
    ----------
    name
        Without the prefix ``gapfactory_``; ends with its unit.
    help
        One line.
    samples
        (labels, value).
    """

    name: str
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Add a sample."""
        self.samples.append((labels, float(value)))


def measure(
    database: Database[Any], *, silent_s: float = 300.0, known: Mapping[str, float | None] | None = None
) -> list[Metric]:
    """Count what is in a database; `known` as in `launchpad.operations.quotas.measure`.

    Raises
    ------
    pymongo.errors.PyMongoError
        It is away.
    """
    from launchpad.health.workers import ready_tasks
    from launchpad.queue.connection import ServerClock
    from launchpad.queue.states import FireworkState
    from launchpad.states import CampaignState
    from launchpad.workers.registry import list_workers

    now = ServerClock(database.client).now()
    tasks = Metric("tasks", "Tasks (Fireworks) by state.")
    for state in FireworkState:
        tasks.add(database.fireworks.count_documents({"state": str(state)}), state=str(state))
    ready = Metric("ready_tasks", "Tasks that a worker may take, by category.")
    for category, number in sorted(ready_tasks(database).items()):
        ready.add(number, category=category)
    delay = Metric("queue_delay_seconds", "How long the oldest READY task has been ready; 0 without one.")
    delay.add(_oldest_ready(database, now))
    beat = Metric(
        "oldest_task_heartbeat_seconds", "Age of the oldest heartbeat of a running task; 0 without one."
    )
    oldest = database.launches.find_one(
        {"state": "RUNNING", "heartbeat_at": {"$exists": True}},
        {"heartbeat_at": 1},
        sort=[("heartbeat_at", 1)],
    )
    beat.add(max(0.0, now - float(oldest["heartbeat_at"])) if oldest else 0.0)
    workers = Metric("workers", "Workers and supervisors that have not ended in order, by condition.")
    heard = Metric(
        "oldest_worker_heartbeat_seconds", "Age of the oldest sign of life of a worker; 0 without one."
    )
    entries = list_workers(database, silent_s=silent_s)
    for kind in ("worker", "supervisor"):
        for condition, alive in (("alive", True), ("silent", None), ("dead", False)):
            number = sum(e.get("kind") == kind and e["alive"] is alive for e in entries)
            workers.add(number, kind=kind, condition=condition)
    heard.add(max((e["age_s"] for e in entries if e.get("kind") == "worker"), default=0.0))
    labels = Metric(
        "labels", "Reference labels by status (altered: at changed settings; late: for another generation)."
    )
    for status in _LABELS:
        labels.add(database.labels.count_documents({"status": status}), status=status)
    campaigns = Metric("campaigns", "Campaigns by state.")
    for campaign in CampaignState:
        campaigns.add(database.campaigns.count_documents({"state": str(campaign)}), state=str(campaign))
    return [tasks, ready, delay, beat, workers, heard, labels, campaigns, *_operations(database, known)]


def _operations(database: Database[Any], known: Mapping[str, float | None] | None) -> list[Metric]:
    from launchpad.database.migrations import schema_version
    from launchpad.operations.quotas import measure as measure_quota

    used = Metric("quota_used", "What has a quota: structures, labels, gigabytes, core hours in use.")
    limit = Metric("quota_limit", "The limit of the group, where there is one.")
    for use in measure_quota(database, known=known):
        used.add(use.used, what=use.name)
        if use.limit is not None:
            limit.add(use.limit, what=use.name)
    notices = Metric("notices", "Notices to people by state.")
    for state in ("pending", "sent", "given up"):
        notices.add(database.notices.count_documents({"state": state}), state=state)
    removals = Metric("removals", "Removals by policy, by state.")
    for state in ("begun", "partly", "done"):
        removals.add(database.removals.count_documents({"state": state}), state=state)
    schema = Metric("schema_version", "Version of what the database holds.")
    schema.add(schema_version(database))
    return [used, *([limit] if limit.samples else []), notices, removals, schema]


def _oldest_ready(database: Database[Any], now: float) -> float:
    """Return for how many seconds the task has been READY that is so the longest."""
    first = database.fireworks.find_one({"state": "READY"}, {"updated_on": 1}, sort=[("updated_on", 1)])
    if first is None:
        return 0.0
    moment = first.get("updated_on")
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        return 0.0
    return max(0.0, now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _of_findings(findings: Sequence[Finding]) -> Iterator[Metric]:
    """Turn verdicts, and the numbers of the checks, into metrics."""
    verdicts = Metric("check", "Verdict of a check of gapfactory doctor: 0 ok, 1 advice, 2 failed.")
    for finding in findings:
        verdicts.add(
            {"ok": 0, "advice": 1, "failed": 2}[finding.verdict], check=finding.check, subject=finding.subject
        )
    yield verdicts
    numbers = {(finding.check, finding.subject): finding.data for finding in findings}
    latency = numbers.get(("database", "latency"))
    if latency:
        yield Metric(
            "database_latency_seconds",
            "Median round trip to the database.",
            [({}, latency["median_ms"] / 1000.0)],
        )
    clock = Metric("clock_offset_seconds", "How far a clock is ahead of the server's.")
    free = Metric("free_bytes", "Free space by use of the directory.")
    for (check, subject), data in numbers.items():
        if check == "clocks" and "offset_s" in data:
            clock.add(data["offset_s"], host=subject)
        if check == "scratch" and "free_gb" in data:
            free.add(data["free_gb"] * 1e9, use=subject)
    yield from (metric for metric in (clock, free) if metric.samples)
    stuck = numbers.get(("queue", "stuck tasks"))
    if stuck:
        kinds = ("lost", "reservations", "locks", "overdue", "lagging")
        yield Metric(
            "stuck",
            "What the reaper would put right, by kind.",
            [({"kind": kind}, float(len(stuck[kind]))) for kind in kinds],
        )
    spool = numbers.get(("queue", "spool"))
    if spool:
        yield Metric(
            "spooled_results",
            "Results on this host that wait for the database.",
            [({}, float(spool["waiting"]))],
        )


def render(metrics: Sequence[Metric]) -> str:
    """Return the text format."""
    lines = []
    for metric in metrics:
        name = f"gapfactory_{metric.name}"
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} gauge"]
        for labels, value in metric.samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{name}{{{inside}}} {value!r}" if inside else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def write_metrics(path: Path, findings: Sequence[Finding], patient: Patient) -> None:
    """Write all metrics in one step: a collector sees the old file or the new one.

    Without a database the file still says so (``gapfactory_up 0``).

    Raises
    ------
    OSError
        The file cannot be written; an older one is untouched.
    """
    counted: list[Metric] = []
    database = patient.database
    if database is not None:
        known = database

        def count() -> list[Finding]:
            counted.extend(measure(known, silent_s=patient.settings.silent_worker_s))
            return []

        findings = [*findings, *bounded("metrics", count, patient.settings.check_limit_s)]
    own = [
        Metric("up", "Whether the database answered and could be counted.", [({}, float(bool(counted)))]),
        Metric(
            "metrics_time_seconds", "When this file was written (Unix time).", [({}, round(time.time(), 3))]
        ),
    ]
    text = render([*own, *list(counted), *_of_findings(findings)])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
