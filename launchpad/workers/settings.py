"""How workers and their supervisor behave: every default in one place. Times are in seconds."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from gapfactory.settings import Settings
from launchpad.queue.guard import DEFAULT_ALLOWED

__all__ = ["RECYCLE", "SupervisorSettings", "WorkerSettings", "default_scratch"]

#: Exit code of a worker that asks to be replaced by a fresh process.
RECYCLE = 75


def default_scratch() -> Path:
    """Return where workers keep launches, logs and spooled results unless told otherwise.

    ``$GAPFACTORY_SCRATCH``, else ``gapfactory/workers`` below ``$XDG_STATE_HOME`` (``~/.local/state``): a place that
    survives a reboot, because a result that the database could not take yet may wait there.
    """
    given = os.environ.get("GAPFACTORY_SCRATCH")
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "gapfactory" / "workers"


class WorkerSettings(Settings):
    """One worker process."""

    categories: tuple[str, ...] = ()
    """Categories of tasks that it takes; none given means all."""

    allowed: tuple[str, ...] = DEFAULT_ALLOWED
    """Tasks that it may load and run: ``package.*`` or exact names."""

    campaigns: tuple[str, ...] = ()
    """Campaigns that it works for: names, or shell patterns such as `boron-*`; none given means all of its database."""

    cores: int | None = Field(default=None, ge=1)
    """Cores that one of its tasks may use; it takes none that needs more. Not said: whatever a task needs."""

    memory_gb: float | None = Field(default=None, gt=0)
    """The same for the memory of one of its tasks (GB)."""

    poll_min_s: float = Field(default=0.05, gt=0)
    """First pause after the queue was found empty."""

    poll_max_s: float = Field(default=0.5, gt=0)
    """Longest pause; reached by doubling."""

    idle_timeout_s: float | None = Field(default=None, gt=0)
    """It ends after this time without work (None: never)."""

    drain_grace_s: float = Field(default=30.0, ge=0)
    """When told to stop, it gives the current task this long to finish before it hands it back; in a batch job, not
    longer than until 20 s before its end."""

    report_s: float = Field(default=2.0, gt=0)
    """It reports its state, and looks whether it was told to stop, this often."""

    show_running_s: float = Field(default=2.0, ge=0)
    """A task that takes longer than this is shown as RUNNING by its workflow's document too (`lpad get_wflows`); its
    Firework always is. Short tasks are spared the command."""

    memory_limit_gb: float | None = Field(default=2.0, gt=0)
    """Between two tasks, a process that holds more than this (GB) is replaced by a fresh one: what
    a large fit or selection took may stay with the process, and compiled libraries may leak. None: never."""

    fault_pause_s: float = Field(default=1.0, ge=0)
    """After a task that met a fault of the infrastructure, a worker waits this long before it takes another;
    doubled with each further one in a row."""

    fault_pause_max_s: float = Field(default=60.0, ge=0)
    """The longest of these pauses."""

    min_free_mb: float = Field(default=100.0, ge=0)
    """With less than this free (MB) in the file system of its scratch directory, a worker takes nothing."""

    keep_failed: int = Field(default=20, ge=0)
    """Directories of failed launches kept under the scratch directory; older ones are removed."""


class SupervisorSettings(Settings):
    """The supervisor of the workers of one host."""

    reap_s: float = Field(default=2.0, gt=0)
    """It looks for what processes of its host left stuck this often; for all hosts, one supervisor does so at a time,
    and all together no more often than this."""

    deep_reap_s: float = Field(default=20.0, gt=0)
    """All supervisors together compare workflows with their tasks this often: those that changed, and a page of all."""

    ask_s: float = Field(default=30.0, gt=0)
    """Inside a batch job, all supervisors of a site together ask its scheduler this often which jobs have ended."""

    ask_patience_s: float = Field(default=20.0, gt=0)
    """How long squeue, qstat or bjobs may take to answer."""

    ensure_s: float = Field(default=2.0, gt=0)
    """It tries to bring a lost local database back at most this often."""

    restarts: int = Field(default=5, ge=0)
    """A dead worker is replaced at once, this often within `restart_window_s`; then with growing pauses."""

    restart_window_s: float = Field(default=60.0, gt=0)
    """See `restarts`."""

    restart_pause_s: float = Field(default=5.0, gt=0)
    """First of the growing pauses; the longest is `restart_window_s`."""

    kill_after_s: float = Field(default=15.0, ge=0)
    """On top of the workers' own grace, before `stop` kills those that do not end."""
