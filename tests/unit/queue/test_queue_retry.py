"""What counts as a fault of the infrastructure, and how it is tried again."""

from __future__ import annotations

import errno
from itertools import islice

import pytest
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from gapfactory.errors import DatabaseError, FitError
from launchpad.retry import Backoff, TransientFault, is_transient, is_transient_database_error, retrying


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("gone"),
        NetworkTimeout("slow"),
        NotPrimaryError("fail-over"),
        ServerSelectionTimeoutError("nobody"),
        OperationFailure("not primary", code=10107),
        OperationFailure("interrupted", code=11600),
    ],
)
def test_database_errors_that_allow_another_try(error):
    assert is_transient_database_error(error)
    assert is_transient(error)


@pytest.mark.parametrize(
    "error", [DuplicateKeyError("twice"), OperationFailure("unauthorized", code=13), ValueError("x")]
)
def test_errors_that_do_not(error):
    assert not is_transient_database_error(error)
    assert not is_transient(error)


def test_faults_of_the_infrastructure_inside_a_task():
    assert is_transient(TransientFault("the code's licence server is away"))
    assert is_transient(DatabaseError("away"))
    assert is_transient(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_transient(OSError(errno.ENOENT, "no such file"))
    assert not is_transient(FitError("not positive definite"))


def test_cause_counts_but_not_what_happened_to_be_handled():
    wrapped = FitError("cannot write")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_transient(wrapped)
    wrapped = FitError("wrong data")
    wrapped.__context__ = AutoReconnect("gone")
    assert not is_transient(wrapped)


def test_circular_causes_end():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_transient(first)


def test_pauses_grow_to_a_bound():
    assert list(islice(Backoff(0.1, 1.0, jitter=0.0).pauses(), 6)) == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    )
    assert all(0.05 <= pause <= 0.1 for pause in islice(Backoff(0.1, 0.1).pauses(), 50))


class Script:
    """A function that fails as told, with a clock that moves when somebody sleeps."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0
        self.time = 0.0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def sleep(self, seconds):
        self.time += seconds


def test_retrying_until_it_works():
    script = Script(AutoReconnect("1"), NetworkTimeout("2"))
    assert retrying(script, limit_s=60, sleep=script.sleep, clock=lambda: script.time) == "done"
    assert script.calls == 3


def test_retrying_ends_with_its_time():
    script = Script(*[AutoReconnect(str(number)) for number in range(100)])
    with pytest.raises(AutoReconnect):
        retrying(
            script,
            limit_s=10,
            # without jitter: with it the last pause may end anywhere between 4 s and the limit
            backoff=Backoff(jitter=0.0),
            sleep=script.sleep,
            clock=lambda: script.time,
        )
    assert 5 < script.time <= 10
    assert script.calls < 20


def test_retrying_with_jitter_never_exceeds_its_time():
    for _ in range(200):
        script = Script(*[AutoReconnect(str(number)) for number in range(100)])
        with pytest.raises(AutoReconnect):
            retrying(script, limit_s=10, sleep=script.sleep, clock=lambda script=script: script.time)
        assert 3 < script.time <= 10


def test_retrying_does_not_repeat_a_real_error():
    script = Script(DuplicateKeyError("twice"))
    with pytest.raises(DuplicateKeyError):
        retrying(script, limit_s=10, sleep=script.sleep, clock=lambda: script.time)
    assert script.calls == 1
