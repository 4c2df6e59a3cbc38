"""Limits of time that mean the same on a slow machine.

Machines that are shared can be several times slower than the one a limit was written on, and than themselves an hour
before. A limit given in seconds there becomes one in fixed work: it is stretched by what the same loop takes now.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["stretched"]

_ROUNDS = 1_000_000
#: Seconds of the loop where the limits were written.
_WRITTEN_S = 0.06


def stretched(seconds: float, clock: Callable[[], float] = time.monotonic) -> float:
    """Return a limit for this machine as it is now; never a shorter one.

    Parameters
    ----------
    seconds
        The limit on a machine that nobody shares.
    clock
        What the limit is measured by: the time of day's, or ``time.process_time`` without what others take.
    """
    begin, total = clock(), 0
    for number in range(_ROUNDS):
        total += number
    return seconds * max(1.0, (clock() - begin) / _WRITTEN_S)
