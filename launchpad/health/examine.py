"""All checks, one after the other, none longer than its limit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from launchpad.health.finding import Finding, HealthSettings, Patient, bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["CHECKS", "examine"]

#: Names of the checks, in their order.
CHECKS = (
    "database",
    "clocks",
    "versions",
    "scratch",
    "codes",
    "queue",
    "permissions",
    "workers",
    "operations",
)

#: Codes are programs that are started, and Python packages that take long to import.
_CODES_FACTOR = 4.0


def _checks() -> dict[str, Callable[[Patient], Iterable[Finding]]]:
    from launchpad.health.clocks import check_clocks
    from launchpad.health.codes import check_codes
    from launchpad.health.database import check_database
    from launchpad.health.operations import check_operations
    from launchpad.health.permissions import check_permissions
    from launchpad.health.queue import check_queue
    from launchpad.health.scratch import check_scratch
    from launchpad.health.versions import check_versions
    from launchpad.health.workers import check_workers

    functions = (
        check_database,
        check_clocks,
        check_versions,
        check_scratch,
        check_codes,
        check_queue,
        check_permissions,
        check_workers,
        check_operations,
    )
    return dict(zip(CHECKS, functions, strict=True))


def examine(
    uri: str | None = None,
    data: Path | None = None,
    *,
    engines: Sequence[str] = (),
    settings: HealthSettings | None = None,
    arguments: Sequence[str] = (),
    keep: bool = False,
) -> tuple[list[Finding], Patient]:
    """Make all checks; change nothing and start nothing.

    Parameters
    ----------
    uri
        The database; None looks for a local server that runs.
    data
        Directory of local servers (default: as everywhere).
    engines
        Reference engines to look for, besides those that campaigns ask for.
    settings
        What counts as healthy.
    arguments
        The command line, searched for passwords.
    keep
        Leave the connection of the patient open; the caller closes it.

    Returns
    -------
    list of Finding, Patient
        What was found, in the order of `CHECKS`; what was examined.
    """
    from launchpad.database.location import Located, data_directory, scratch_directory

    place = data_directory(data)
    patient = Patient(
        located=Located(uri, "given", None) if uri else None,
        data=place,
        scratch=scratch_directory(None if uri else place),
        settings=settings or HealthSettings(),
        engines=tuple(engines),
        arguments=tuple(arguments),
    )
    findings: list[Finding] = []
    limit = patient.settings.check_limit_s
    try:
        for name, check in _checks().items():
            allowed = limit * _CODES_FACTOR if name == "codes" else limit
            findings += bounded(name, partial(check, patient), allowed)
    finally:
        if patient.database is not None and not keep:
            patient.database.client.close()
    return findings, patient
