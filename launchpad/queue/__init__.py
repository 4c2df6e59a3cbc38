"""The task queue: FireWorks' documents and commands; checkout, locks and completion that survive kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launchpad.queue.connection import write_launchpad_file
    from launchpad.queue.launchpad import Queue
    from launchpad.queue.reaper import ReapReport, reap
    from launchpad.queue.settings import QueueSettings

__all__ = ["Queue", "QueueSettings", "ReapReport", "reap", "write_launchpad_file"]

_HOMES = {
    "Queue": "launchpad.queue.launchpad",
    "QueueSettings": "launchpad.queue.settings",
    "ReapReport": "launchpad.queue.reaper",
    "reap": "launchpad.queue.reaper",
    "write_launchpad_file": "launchpad.queue.connection",
}


def __getattr__(name: str) -> object:
    """Import FireWorks only when a name is used: it takes longer than `gapfactory --help` may."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
