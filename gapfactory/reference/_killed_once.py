"""Run a program that is killed at its first calculation: the recovery drill of `gapfactory reference check`.

``python -I -S _killed_once.py DIRECTORY SECONDS program arguments``. The first time it runs below DIRECTORY the program
is killed after SECONDS; elsewhere (asked for its version) and from then on it runs undisturbed.
"""

import os
import signal
import sys
import time
from pathlib import Path


def main(directory: str, seconds: str, command: list[str]) -> None:
    """Become the program, with a killer behind it the first time."""
    below = Path(directory).resolve()
    if Path.cwd().resolve().is_relative_to(below) and _first(below / "killed"):
        victim = os.getpid()
        if float(seconds) <= 0:
            os.kill(victim, signal.SIGKILL)
        if os.fork() == 0:
            _kill_later(victim, float(seconds))
    os.execvp(command[0], command)  # noqa: S606


def _first(marker: Path) -> bool:
    """Tell whether this is the first process that asks: of several MPI processes, one."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def _kill_later(victim: int, seconds: float) -> None:
    # nothing may wait for this process's hold on the program's streams
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.getppid() != victim:
            # it has ended by itself, and its number may belong to another by now
            os._exit(0)
        time.sleep(0.01)
    if os.getppid() == victim:
        os.kill(victim, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
