"""What the operator set: the schema of the database, quotas, notices that could not be sent, removals cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymongo.database import Database

    from launchpad.health.finding import Patient
    from launchpad.operations.quotas import QuotaUse

__all__ = ["check_operations", "judge_quota"]

_NAME = "operations"


def check_operations(patient: Patient) -> Iterator[Finding]:
    """Look at the database only."""
    if patient.database is None:
        yield Finding(_NAME, "check", "advice", "not checked: there is no database")
        return
    from launchpad.operations.quotas import measure
    from launchpad.operations.stored import quota_of

    database = patient.database
    yield _schema(database)
    quota = quota_of(database)
    yield judge_quota(measure(database, quota), quota.warn_at)
    yield _removals(database)
    yield _notices(database)


def _schema(database: Database[Any]) -> Finding:
    from launchpad.database.migrations import SCHEMA, outstanding, schema_version

    version = schema_version(database)
    data = {"schema": version, "program": SCHEMA}
    if version > SCHEMA:
        return Finding(
            _NAME,
            "schema",
            "failed",
            f"the database has schema {version}, this program knows up to {SCHEMA}",
            "install the newer gapfactory here: this one refuses to work with the database",
            data,
        )
    missing = outstanding(database)
    if missing:
        needed = any(step.before_writing for step in missing)
        return Finding(
            _NAME,
            "schema",
            "failed" if needed else "advice",
            f"the database has schema {version}, this program writes {SCHEMA}",
            "stop the workers, 'gapfactory db export', then 'gapfactory db upgrade'",
            data,
        )
    return Finding(
        _NAME, "schema", "ok", f"the database has schema {version}, that of this program", "", data
    )


def judge_quota(uses: Sequence[QuotaUse], warn_at: float) -> Finding:
    """Judge how much of the limits is used."""
    limited = [use for use in uses if use.limit is not None]
    data = {use.name: {"used": use.used, "limit": use.limit, "share": use.share} for use in uses}
    if not limited:
        return Finding(_NAME, "quota", "ok", "the group has no limits", "", data)
    found = ", ".join(f"{u.used:.4g} of {u.limit:g} {u.name.replace('_', ' ')}" for u in limited)
    largest = max(use.share for use in limited)
    if largest < warn_at:
        return Finding(_NAME, "quota", "ok", found, "", data)
    return Finding(
        _NAME,
        "quota",
        "failed" if largest >= 1 else "advice",
        found,
        "make room ('gapfactory db usage', 'gapfactory db prune') or raise it ('gapfactory db quota set'); campaigns "
        "halt at a limit and go on with 'gapfactory campaign resume'",
        data,
    )


def _removals(database: Database[Any]) -> Finding:
    begun = database.removals.count_documents({"state": "begun"})
    done = database.removals.count_documents({"state": {"$ne": "begun"}})
    data = {"begun": begun, "done": done}
    if begun:
        return Finding(
            _NAME,
            "retention",
            "advice",
            f"{begun} removals are going on or were cut short",
            "if none is going on, 'gapfactory db prune --apply' completes them",
            data,
        )
    return Finding(_NAME, "retention", "ok", f"{done} removals, all complete", "", data)


def _notices(database: Database[Any]) -> Finding:
    waiting = database.notices.count_documents({"state": "pending", "attempts": {"$gt": 0}})
    lost = database.notices.count_documents({"state": "given up"})
    data = {"waiting": waiting, "given_up": lost}
    if not waiting and not lost:
        return Finding(_NAME, "notices", "ok", "no notice waits for a receiver that is away", "", data)
    return Finding(
        _NAME,
        "notices",
        "failed" if lost else "advice",
        f"{waiting} notices wait for their receivers, {lost} were given up",
        "'gapfactory notify test' tries each receiver and says what it answers",
        data,
    )
