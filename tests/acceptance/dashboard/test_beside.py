"""`campaign run --dashboard`: the dashboard of one person, as long as the run lasts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from http.cookiejar import CookieJar

import pytest

pytestmark = [pytest.mark.database, pytest.mark.timeout(200)]
NEVER = """
preset: quickstart-Si-analytic
name: long
seed: 3
stop: {label_budget: 100000}
schedule: {generations: 100, cells_per_generation: 1000, initial_cells: 1000}
"""


#: How long a task may go on when the run is told to stop (s): one of these would take longer than a test may.
GRACE_S = 2.0
#: The run ends this long after the signal at the latest (s): the grace, what the worker takes to notice that it is
#: over (10), and the dashboard's end (15), on a machine that is busy.
END_S = 60.0


@pytest.fixture
def place(place):
    settings = place.write("settings.yaml", f"worker: {{drain_grace_s: {GRACE_S}}}\n")
    place.environment["GAPFACTORY_SETTINGS"] = str(settings)
    place.write("long.yaml", NEVER)
    return place


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_dashboard_begins_and_ends_with_the_run(place, number):
    run = place.start("campaign", "run", "long.yaml", "--workers", "1", "--dashboard")
    try:
        link = found(place, run)
        cookies = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with cookies.open(link, timeout=30) as answer:
            assert "long" in answer.read().decode()
        with urllib.request.build_opener().open(link.split("?")[0], timeout=30) as answer:
            assert "Password" in answer.read().decode(), "without the ticket nobody comes in"
    finally:
        code = ended(place, run, number)
    assert code == (130 if number == signal.SIGTERM else -number), place.log()
    gone(link)


def test_told_to_stop_as_soon_as_it_can_be_seen(place):
    run = place.start("campaign", "run", "long.yaml", "--workers", "1", "--dashboard")
    try:
        link = found(place, run)
    finally:
        code = ended(place, run, signal.SIGTERM)
    assert code == 130, place.log()
    assert "the same command goes on where it stopped" in place.log()
    gone(link)


def ended(place, run, number) -> int:
    """Send a signal and wait for the end; what the run and its worker said is shown if there is none."""
    os.kill(run.pid, number)
    try:
        return run.wait(END_S)
    except subprocess.TimeoutExpired:
        logs = "\n".join(path.read_text() for path in place.data.rglob("worker-*.log"))
        raise AssertionError(f"it goes on\n{place.log()}\n{logs}") from None
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()


def gone(link) -> None:
    port = int(re.search(r":(\d+)/", link).group(1))
    until = time.monotonic() + 20
    while listens(port):
        assert time.monotonic() < until, "the dashboard outlived the run"
        time.sleep(0.1)


def found(place, run) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        link = re.search(r"http://127\.0\.0\.1:\d+/login\?ticket=\S+", "".join(place.log().splitlines()))
        if link:
            return link.group(0)
        assert run.poll() is None, place.log()
        time.sleep(0.1)
    raise AssertionError(place.log())


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
