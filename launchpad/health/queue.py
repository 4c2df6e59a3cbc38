"""The queue: what is stuck, what has failed, and results that still wait on this disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchpad.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from launchpad.health.finding import Patient
    from launchpad.queue.survey import Survey

__all__ = ["check_queue", "judge_spool", "judge_survey"]


def check_queue(patient: Patient) -> Iterator[Finding]:
    """Survey the queue and the spool."""
    if patient.database is None or patient.located is None:
        yield Finding("queue", "check", "advice", "not checked: there is no database")
        yield judge_spool(patient.scratch / "spool", reaping=False)
        return
    from launchpad.queue import Queue, QueueSettings
    from launchpad.queue.survey import survey
    from launchpad.workers.registry import list_workers

    reaping = any(
        worker["alive"] and worker.get("kind") == "supervisor" for worker in list_workers(patient.database)
    )
    limits = QueueSettings(server_selection_s=patient.settings.server_selection_s)
    with Queue.from_uri(patient.located.uri, settings=limits, read_only=True) as queue:
        seen = survey(queue, workflows=patient.settings.workflows_compared)
    yield judge_survey(seen, reaping=reaping)
    yield _failed_tasks(seen)
    yield judge_spool(patient.scratch / "spool", reaping=reaping)


def judge_survey(seen: Survey, *, reaping: bool) -> Finding:
    """Judge what is stuck: worth advice while a supervisor lives that puts it right, else it has failed."""
    parts = [f"Firework {fw_id} is lost: {why}" for fw_id, why in seen.lost.items()]
    for ids, words in (
        (seen.reservations, "checkouts cut short: Fireworks"),
        (seen.locks, "workflow locks without a living holder: at Fireworks"),
        (seen.overdue, "overdue for their next try: Fireworks"),
        (seen.lagging, "workflows behind their tasks: at Fireworks"),
    ):
        if ids:
            parts.append(f"{words} {_some(ids)}")
    if seen.journals:
        parts.append(f"additions or updates cut short: {seen.journals}")
    data = {
        "lost": sorted(seen.lost),
        "reservations": list(seen.reservations),
        "locks": list(seen.locks),
        "overdue": list(seen.overdue),
        "lagging": list(seen.lagging),
        "journals": seen.journals,
        "workflows_compared": seen.compared,
    }
    if not parts:
        return Finding(
            "queue",
            "stuck tasks",
            "ok",
            f"nothing is stuck ({seen.compared} active workflows compared with their tasks)",
            "",
            data,
        )
    more = f"; and {len(parts) - 4} more" if len(parts) > 4 else ""
    found = "; ".join(parts[:4]) + more
    if reaping:
        return Finding(
            "queue",
            "stuck tasks",
            "advice",
            found,
            "nothing to do: a supervisor lives and puts it right within seconds to minutes; look again then",
            data,
        )
    return Finding(
        "queue",
        "stuck tasks",
        "failed",
        f"{found}; and no supervisor lives that would put it right",
        "'gapfactory worker start' anywhere: its supervisor runs stuck tasks again",
        data,
    )


def _failed_tasks(seen: Survey) -> Finding:
    data = {"fizzled": seen.fizzled, "exhausted": list(seen.exhausted)}
    if not seen.fizzled:
        return Finding("queue", "failed tasks", "ok", "no task is FIZZLED", "", data)
    tired = (
        f", of which {len(seen.exhausted)} after too many faults of the infrastructure"
        if seen.exhausted
        else ""
    )
    return Finding(
        "queue",
        "failed tasks",
        "advice",
        f"{seen.fizzled} tasks are FIZZLED{tired}",
        "'gapfactory campaign why NAME' tells the reasons, 'gapfactory campaign resume NAME' runs them again",
        data,
    )


def _some(ids: Sequence[int]) -> str:
    return ", ".join(str(fw_id) for fw_id in ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def judge_spool(directory: Path, *, reaping: bool) -> Finding:
    """Look for results that the database has not taken yet; other hosts have spools of their own."""
    from launchpad.queue.spool import Spool

    waiting = Spool(directory).waiting()
    damaged = sorted(directory.glob("launch-*.damaged")) if directory.is_dir() else []
    data = {"waiting": len(waiting), "damaged": [path.name for path in damaged]}
    if damaged:
        return Finding(
            "queue",
            "spool",
            "failed",
            f"{len(damaged)} spooled results in {directory} are damaged ({damaged[0].name})",
            "their tasks run again by themselves; remove the files once they have, and look at the disk",
            data,
        )
    if waiting:
        return Finding(
            "queue",
            "spool",
            "advice" if reaping else "failed",
            f"{len(waiting)} results wait in {directory} for the database",
            "any worker with this directory delivers them: 'gapfactory worker start' on this host",
            data,
        )
    return Finding("queue", "spool", "ok", "no result waits on this host for the database", "", data)
