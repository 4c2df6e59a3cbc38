"""What every side needs: read the task, time the work, write the figures. Standard library only."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Processor seconds of this process and of the children it waited for, and wall seconds, since it was made."""

    def __init__(self) -> None:
        self.began, self.used = time.perf_counter(), self._used()

    @staticmethod
    def _used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    def read(self) -> dict[str, float]:
        """Return both."""
        return {"cpu_s": self._used() - self.used, "wall_s": time.perf_counter() - self.began}


def side(tasks: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Do the task that the command line names, and write its result."""
    task = json.loads(Path(sys.argv[1]).read_text())
    result = tasks[task["kind"]](task)
    Path(sys.argv[2]).write_text(json.dumps(result))
