"""Processes that do the work: one worker per core, and the supervisor that keeps them alive."""

from __future__ import annotations

from launchpad.workers.background import request_stop, serve, start_background
from launchpad.workers.registry import list_workers
from launchpad.workers.settings import SupervisorSettings, WorkerSettings
from launchpad.workers.supervisor import Supervisor, SupervisorStatus

__all__ = [
    "Supervisor",
    "SupervisorSettings",
    "SupervisorStatus",
    "WorkerSettings",
    "list_workers",
    "request_stop",
    "serve",
    "start_background",
]
