"""A wrong time of day for the processes of a test, by Debian's libfaketime.

Only the time of day is moved. The monotonic clock has to stay: waits with a limit (``Event.wait``) end by the clock of
the kernel, so that with a clock ten minutes ahead each of them would last ten minutes longer. With that one kept,
libfaketime 0.9.10 cannot sleep until a monotonic time, as ``time.sleep`` of Python 3.11 does; a module that Python
imports by itself puts another sleep in its place.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["faketime_library", "wrong_clock"]

_SLEEP = "import select, time\n\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"


def faketime_library() -> Path | None:
    """Return the library that gives a process another clock, or None where it is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def wrong_clock(
    shim: Path, ahead_s: float, python_path: str, *, seen_as: Path | None = None
) -> dict[str, str]:
    """Return the environment of processes whose time of day is wrong.

    Parameters
    ----------
    shim
        New directory for the module.
    ahead_s
        By how much, in seconds; negative for a clock that is late.
    python_path
        Their ``PYTHONPATH`` otherwise.
    seen_as
        How they see `shim` (default: the same).
    """
    library = faketime_library()
    assert library is not None, "libfaketime is not installed (apt install faketime)"
    shim.mkdir(parents=True)
    (shim / "sitecustomize.py").write_text(_SLEEP)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{ahead_s:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": f"{seen_as or shim}:{python_path}",
    }
