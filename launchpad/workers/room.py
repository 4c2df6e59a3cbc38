"""Whether the file system of the scratch directory has the room that a task may expect."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["free_mb", "lack_of_room"]


def free_mb(scratch: Path) -> float:
    """Return what is free (MB) to this user in the file system of a directory."""
    found = os.statvfs(scratch)
    return found.f_bavail * found.f_frsize / 1e6


def lack_of_room(scratch: Path, needed_mb: float) -> str:
    """Return why nothing is taken, empty if there is room; a directory that is gone has none."""
    try:
        free = free_mb(scratch)
    except OSError as error:
        return f"{scratch} cannot be used ({error.strerror}): workers take nothing"
    if free >= needed_mb:
        return ""
    return f"{free:.0f} MB are free in {scratch}: workers take nothing until there are {needed_mb:g}"
