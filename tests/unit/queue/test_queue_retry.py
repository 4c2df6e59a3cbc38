"""What counts as a fault of the infrastructure, and how it is tried again."""

from __future__ import annotations

import errno
from itertools import islice

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from gapfactory.errors import DatabaseError, FitError
from launchpad.retry import (
    Backoff,
    TransientFault,
    is_transient,
    is_transient_database_error,
    raised,
    retrying,
)


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


#: By the names that MongoDB gives them.
CODES = {
    "HostUnreachable": 6,
    "HostNotFound": 7,
    "MaxTimeMSExpired": 50,
    "WriteConcernTimeout": 64,
    "NetworkTimeout": 89,
    "ShutdownInProgress": 91,
    "WriteConflict": 112,
    "ReadConcernMajorityNotAvailableYet": 134,
    "PrimarySteppedDown": 189,
    "ExceededTimeLimit": 262,
    "SocketException": 9001,
    "NotWritablePrimary": 10107,
    "InterruptedAtShutdown": 11600,
    "InterruptedDueToReplStateChange": 11602,
    "StaleConfig": 13388,
    "NotPrimaryNoSecondaryOk": 13435,
    "NotPrimaryOrSecondary": 13436,
    "OutOfDiskSpace": 14031,
}


@pytest.mark.parametrize("name", CODES)
def test_codes_of_the_server_that_mean_not_now(name):
    assert is_transient_database_error(OperationFailure(name, code=CODES[name]))
    assert not is_transient_database_error(OperationFailure(name, code=CODES[name] + 3))


def bulk(*codes):
    return BulkWriteError({"writeErrors": [{"code": code} for code in codes]})


def test_bulk_writes_fail_for_good_with_their_worst_part():
    assert is_transient_database_error(bulk(14031))
    assert is_transient_database_error(bulk(14031, 11600))
    assert not is_transient_database_error(bulk(14031, 11000))
    assert not is_transient_database_error(bulk())
    assert not is_transient_database_error(BulkWriteError({}))


@pytest.mark.parametrize(
    ("label", "again"), [("RetryableWriteError", True), ("TransientTransactionError", True), ("Other", False)]
)
def test_labels_of_the_driver(label, again):
    failed = OperationFailure("x", code=1, details={"errorLabels": [label]})
    assert is_transient_database_error(failed) is again


def test_what_a_fault_says_of_itself_when_it_says_nothing():
    fault = TransientFault("x")
    assert (fault.times, fault.ends_worker) == (0, False)
    assert raised(fault, TransientFault) is fault
    assert raised(ValueError("x"), TransientFault) is None


def test_pauses_when_nothing_is_asked_for():
    plain = [0.1 * 2**k for k in range(7)] + [10.0, 10.0]
    assert list(islice(Backoff(jitter=0.0).pauses(), 9)) == pytest.approx(plain)
    for pause, longest in zip(islice(Backoff().pauses(), 9), plain, strict=True):
        assert 0.5 * longest <= pause <= longest


def test_the_last_try_may_end_with_the_time():
    moments, tries = iter([0.0, 0.0, 1.0]), []

    def fails():
        tries.append(1)
        raise AutoReconnect("gone")

    with pytest.raises(AutoReconnect):
        retrying(
            fails,
            limit_s=1.0,
            backoff=Backoff(1.0, 1.0, jitter=0.0),
            sleep=lambda _: None,
            clock=lambda: next(moments),
        )
    assert len(tries) == 2


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
