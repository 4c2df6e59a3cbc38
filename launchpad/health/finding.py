"""What a check finds, its limits, and how one check is kept from holding up the others."""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gapfactory.errors import GapFactoryError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pymongo.database import Database

    from launchpad.database.location import Located

__all__ = ["Finding", "HealthSettings", "Patient", "Verdict", "bounded", "worst"]

Verdict = Literal["ok", "advice", "failed"]

#: Server error code of a command that the user's roles do not allow.
_UNAUTHORIZED = 13


class HealthSettings(Settings):
    """What counts as healthy. Times are in seconds unless the name says otherwise."""

    check_limit_s: float = Field(default=15.0, gt=0)
    """A check that has not ended by then is given up; the codes have four times as long."""

    server_selection_s: float = Field(default=3.0, gt=0)
    """How long a server is looked for."""

    pings: int = Field(default=9, ge=1)
    """Number of pings whose median is the latency."""

    latency_ms: float = Field(default=100.0, gt=0)
    """A longer round trip is worth advice: a task needs about ten."""

    clock_advice_s: float = Field(default=5.0, gt=0)
    """A clock that is further from the server's is worth advice."""

    clock_failed_s: float = Field(default=300.0, gt=0)
    """A clock that is further off has failed: certificates and FireWorks' own launchers are judged by it."""

    free_advice_gb: float = Field(default=5.0, ge=0)
    """Less free space (GB, 1e9 bytes) is worth advice."""

    free_failed_gb: float = Field(default=0.2, ge=0)
    """Less free space (GB) has failed."""

    silent_worker_s: float = Field(default=300.0, gt=0)
    """A worker of another host that has not reported for this long is not counted as alive."""

    workflows_compared: int = Field(default=500, ge=0)
    """At most this many active workflows (the newest) are compared with their tasks."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    check
        Name of the check: ``database``, ``clocks`` and so on.
    subject
        What of it, in a word or two; (check, subject) is stable and meant for programs.
    verdict
        ``ok``; ``advice`` (works, but could be better, or could not be looked at); ``failed``.
    found
        What was found.
    remedy
        What to do; empty when all is well.
    data
        Numbers for programs, JSON-able.
    """

    check: str
    subject: str
    verdict: Verdict
    found: str
    remedy: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Patient:
    """What is examined.

    Parameters
    ----------
    located
        The database: kind and URI; the database check sets it to a local server that runs, None if none does.
    data
        Directory of local servers.
    scratch
        Directory of the workers of this host.
    settings
        What counts as healthy.
    engines
        Reference engines asked for by name.
    database
        Set by the database check once it answers.
    arguments
        The command line, searched for secrets.
    """

    located: Located | None
    data: Path
    scratch: Path
    settings: HealthSettings = field(default_factory=HealthSettings)
    engines: tuple[str, ...] = ()
    database: Database[Any] | None = None
    arguments: Sequence[str] = ()


def bounded(name: str, check: Callable[[], Iterable[Finding]], limit_s: float) -> list[Finding]:
    """Run a check in a thread of its own and give it up after a while: a file system that hangs stops nobody.

    A check that meets a fault of the outside world ends with a finding that says why it could not be made; a defect of
    the check itself is raised.
    """
    result: list[Finding] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            result.extend(check())
        except BaseException as error:  # noqa: BLE001 - judged, or raised, by the caller's thread
            faults.append(error)

    thread = threading.Thread(target=run, name=f"doctor-{name}", daemon=True)
    begun = time.monotonic()
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        return [
            *list(result),
            Finding(
                name,
                "time",
                "failed",
                f"not finished after {time.monotonic() - begun:.0f} s, given up",
                "something that it asks does not answer: a file system that hangs, a program that does not end, or a "
                "server that is overloaded; see where with 'ls' on the directories and 'gapfactory db status'",
            ),
        ]
    if not faults:
        return result
    return [*result, _unmade(name, faults[0])]


def _unmade(name: str, error: BaseException) -> Finding:
    """Return the finding of a check that could not be made."""
    if isinstance(error, GapFactoryError):
        return Finding(name, "check", "failed", f"cannot be checked: {error}", "see the text")
    if isinstance(error, OSError | subprocess.SubprocessError):
        return Finding(name, "check", "failed", f"cannot be checked: {error}", "mend what the text names")
    from pymongo.errors import OperationFailure, PyMongoError

    if isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED:
        return Finding(
            name,
            "check",
            "advice",
            f"not checked: the user of this URI may not look ({error.details or {}})"[:300],
            "repeat with a user that may read the database",
        )
    if isinstance(error, PyMongoError):
        from launchpad.database.connection import describe_database_error

        text = describe_database_error(error, "the database")
        return Finding(name, "check", "failed", f"cannot be checked: {text}", "see the text")
    raise error


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict; ``ok`` when there is none."""
    order: tuple[Verdict, ...] = ("ok", "advice", "failed")
    return max((finding.verdict for finding in findings), key=order.index, default="ok")
