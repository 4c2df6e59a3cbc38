"""Signals that ask a process to end: they are noted, and acted on where that is safe.

An exception that a handler raises appears anywhere: in a finaliser, which drops it, or in the middle of tidying up.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Asked", "StopFlag", "stop_by_signals"]

#: From this signal on, the process is interrupted wherever it is: nothing may hold a person for ever.
_INTERRUPTS: Final = 3


class StopFlag:
    """What a loop waits on and a signal handler sets.

    Notes
    -----
    `threading.Event` may not be set by a handler: run while the same thread is about to wait on it, the handler waits
    for a lock that its own thread holds, for ever.
    """

    def __init__(self) -> None:
        self._set = False
        #: held until the flag is set; to release it never waits
        self._gate = threading.Lock()
        self._gate.acquire()

    def set(self) -> None:
        """Set it; from anywhere, also a handler of a signal."""
        self._set = True
        self._open()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for some seconds; return whether it is set."""
        if not self._set and self._gate.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self._open()  # for the next one that waits
        return self._set

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is open
            self._gate.release()


class Asked(StopFlag):
    """A `StopFlag` that knows that somebody asked again.

    Attributes
    ----------
    again
        Whether the wish was repeated: what still runs is to be ended at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.again = False
        self._times = 0

    def ask(self) -> None:
        """Note one more wish to stop; the third one raises KeyboardInterrupt."""
        self._times += 1
        self.again = self._times > 1
        self.set()
        if self._times >= _INTERRUPTS:
            raise KeyboardInterrupt


@contextmanager
def stop_by_signals(
    numbers: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> Iterator[Asked]:
    """Note signals while the block runs; yields what they set.

    SIGTERM is what batch systems, service managers and `kill` send. SIGINT is heeded also where a shell has started
    its background jobs with it ignored.
    """
    asked = Asked()
    before = {number: signal.signal(number, lambda *_: asked.ask()) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
