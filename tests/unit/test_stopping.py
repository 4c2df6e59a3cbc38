"""Signals that ask a process to end are noted, wherever they meet it."""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from launchpad.stopping import StopFlag, stop_by_signals

#: Handlers meet a wait at its beginning, in its middle and at its end. `threading.Event` hangs here within a second.
STORM = """
import random, signal
from launchpad.stopping import StopFlag

signal.signal(signal.SIGALRM, lambda *_: flag.set())
for _ in range(10_000):
    flag = StopFlag()
    signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 2e-4))
    while not flag.wait(1e-5):
        pass
print("all were noted")
"""


def test_a_handler_may_set_what_its_thread_waits_on():
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=60)
    assert done.stdout == "all were noted\n", done.stderr


def test_all_that_wait_go_on():
    flag = StopFlag()
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(flag.wait(30))) for _ in range(5)]
    for thread in threads:
        thread.start()
    begin = time.monotonic()
    assert not flag.wait(0.05)
    assert not flag.is_set()
    assert time.monotonic() - begin >= 0.05
    flag.set()
    flag.set()
    for thread in threads:
        thread.join(20)
    assert seen == [True] * 5
    assert flag.wait()


class Finaliser:
    """A signal comes while it is collected; an exception raised there would be dropped."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_in_a_finaliser_counts():
    with stop_by_signals() as stop:
        Finaliser()
        gc.collect()
        assert stop.wait(0)
        assert not stop.again


def test_signals_again_and_the_handlers_before():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_by_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(random.choice((signal.SIGTERM, signal.SIGINT)))
        assert (stop.is_set(), stop.again) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert stop.again
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
