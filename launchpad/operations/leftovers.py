"""What is left behind outside of campaigns: records of workers, and directories of failed launches on this host."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

from launchpad.queue.connection import ServerClock

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

__all__ = ["old_directories", "old_workers", "remove_directories", "remove_workers"]

_DAY_S = 86_400.0
#: One that reported within so many seconds may live, whatever the policy says.
_ALIVE_S = 3600.0


def _silent(database: Database[Any], days: float) -> dict[str, Any]:
    return {"heartbeat": {"$lt": ServerClock(database.client).now() - max(days * _DAY_S, _ALIVE_S)}}


def old_workers(database: Database[Any], days: float) -> int:
    """Return how many workers have not reported for so many days."""
    return int(database.workers.count_documents(_silent(database, days)))


def remove_workers(database: Database[Any], days: float) -> int:
    """Forget the workers that have not reported for so many days; one that lives reports again."""
    return int(database.workers.delete_many(_silent(database, days)).deleted_count)


def old_directories(scratch: Path, days: float) -> list[Path]:
    """Return the directories of failed launches in which nothing has been changed for so many days."""
    place = scratch / "failed"
    if not place.is_dir():
        return []
    limit = time.time() - days * _DAY_S
    return sorted(path for path in place.iterdir() if path.is_dir() and path.stat().st_mtime < limit)


def remove_directories(paths: list[Path]) -> int:
    """Remove directories; return how many. One that cannot be removed is an error of the operating system."""
    for path in paths:
        shutil.rmtree(path)
    return len(paths)
