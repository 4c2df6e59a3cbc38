"""The task queue: FireWorks' documents and commands; checkout, locks and completion that survive kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory._lazy import lazy_names

if TYPE_CHECKING:
    from launchpad.queue.connection import write_launchpad_file
    from launchpad.queue.launchpad import Queue
    from launchpad.queue.reaper import ReapReport, reap
    from launchpad.queue.settings import QueueSettings

__all__ = ["Queue", "QueueSettings", "ReapReport", "reap", "write_launchpad_file"]

__getattr__ = lazy_names(
    __name__,
    {
        "connection": ("write_launchpad_file",),
        "launchpad": ("Queue",),
        "reaper": ("ReapReport", "reap"),
        "settings": ("QueueSettings",),
    },
)
