"""What counts as an infrastructure fault, and how such faults are tried again.

A fault of the infrastructure (lost database, full disk, vanished file system) says nothing about the task: it
is retried, and counted apart from the failures of the task itself.
"""

from __future__ import annotations

import errno
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from gapfactory.errors import DatabaseError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Backoff",
    "TransientFault",
    "is_transient",
    "is_transient_database_error",
    "raised",
    "retrying",
]

Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=BaseException)

#: Operating-system errors that another try, later or elsewhere, can cure: disk full, quota, I/O, memory,
#: files, network.
_TRANSIENT_ERRNO = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ESTALE,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.ETIMEDOUT,
        errno.EPIPE,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    }
)

#: Server error codes that mean "not now": fail-over, shutdown, interrupted by either, write-concern or socket
#: timeouts.
_TRANSIENT_CODES = frozenset(
    # 14031: the server's disk is full
    {6, 7, 50, 64, 89, 91, 112, 134, 189, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436, 14031}
)


class TransientFault(ServiceError):  # noqa: N818 - a fault of the machinery, not an error of the task
    """A task met a fault of the infrastructure: it is run again after a pause, a bounded number of times.

    Parameters
    ----------
    message
        What happened.
    times
        How often it has happened to what is to blame, where that is counted and bounded elsewhere; it is not counted
        against the task then. 0: the task's own bound holds.
    ends_worker
        This worker is of no more use for such tasks: the allocation that it runs in is about to end.
    """

    code = "transient"

    def __init__(self, message: str, *, times: int = 0, ends_worker: bool = False) -> None:
        super().__init__(message)
        self.times = times
        self.ends_worker = ends_worker


def is_transient_database_error(error: BaseException) -> bool:
    """Return whether another try of the same database command can succeed."""
    from pymongo.errors import (
        BulkWriteError,
        ConnectionFailure,
        OperationFailure,
        PyMongoError,
        WTimeoutError,
    )

    if isinstance(error, ConnectionFailure | WTimeoutError):
        return True
    if isinstance(error, OperationFailure) and error.code in _TRANSIENT_CODES:
        return True
    if isinstance(error, BulkWriteError):
        # its own code says only "some failed"; a failure that another try does not cure outweighs the others
        failed = error.details.get("writeErrors") or []
        return bool(failed) and all(entry.get("code") in _TRANSIENT_CODES for entry in failed)
    return isinstance(error, PyMongoError) and (
        error.has_error_label("RetryableWriteError") or error.has_error_label("TransientTransactionError")
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def is_transient(error: BaseException) -> bool:
    """Return whether a task's exception, or what caused it, is an infrastructure fault."""
    return any(
        isinstance(cause, TransientFault | DatabaseError)
        or is_transient_database_error(cause)
        or (isinstance(cause, OSError) and cause.errno in _TRANSIENT_ERRNO)
        for cause in _causes(error)
    )


def raised(error: BaseException, kind: type[Kind]) -> Kind | None:
    """Return the error of a kind that a task raised, itself or as the cause of another, if it raised one."""
    return next((cause for cause in _causes(error) if isinstance(cause, kind)), None)


@dataclass(frozen=True)
class Backoff:
    """Growing pauses with jitter, so that many waiting processes do not return at the same instant.

    Parameters
    ----------
    first_s, largest_s
        First and largest pause in seconds.
    factor
        Growth per try.
    jitter
        Relative width of the random part (0 none, 0.5 = up to a half shorter).
    """

    first_s: float = 0.1
    largest_s: float = 10.0
    factor: float = 2.0
    jitter: float = 0.5

    def pauses(self) -> Iterator[float]:
        """Yield pause after pause, in seconds, for ever."""
        pause = self.first_s
        while True:
            # the stream only spreads retries in time; it never touches a result
            yield pause * (1.0 - self.jitter * random.random())  # noqa: S311
            pause = min(pause * self.factor, self.largest_s)


def retrying(
    function: Callable[[], Result],
    *,
    limit_s: float,
    backoff: Backoff | None = None,
    transient: Callable[[BaseException], bool] = is_transient_database_error,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Call an idempotent function until it succeeds, fails for good, or the time is over.

    Parameters
    ----------
    function
        Called without arguments; must be safe to repeat.
    limit_s
        Seconds after which the last transient error is raised.
    backoff
        Pauses between tries.
    transient
        Tells which errors allow another try.
    sleep, clock
        Replaceable for tests.

    Raises
    ------
    Exception
        The function's own error: at once if it is not transient, the last one when the time is over.
    """
    end = clock() + limit_s
    for pause in (backoff or Backoff()).pauses():
        try:
            return function()
        except Exception as error:
            if not transient(error) or clock() + pause > end:
                raise
        sleep(pause)
    raise AssertionError  # pragma: no cover - pauses() never ends
