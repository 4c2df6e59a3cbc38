"""`campaign run --dashboard`: the dashboard of one person, as long as the run lasts."""

from __future__ import annotations

import os
import re
import signal
import socket
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_dashboard_begins_and_ends_with_the_run(place, number):
    place.write("long.yaml", NEVER)
    run = place.start("campaign", "run", "long.yaml", "--workers", "1", "--dashboard")
    try:
        link = found(place, run)
        cookies = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with cookies.open(link, timeout=30) as answer:
            assert "long" in answer.read().decode()
        with urllib.request.build_opener().open(link.split("?")[0], timeout=30) as answer:
            assert "Password" in answer.read().decode(), "without the ticket nobody comes in"
    finally:
        os.kill(run.pid, number)
        run.wait(60)
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
