"""Workers in the background: they say where they are, bring a lost local database back, and end when asked."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytestmark = [pytest.mark.database, pytest.mark.timeout(300)]


def eventually(what):
    """Return the first true value of a function, asked again and again."""
    end = time.monotonic() + 120.0
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.3)


def test_background_workers_outlive_the_command_and_the_server(place) -> None:
    text = place.good("worker", "start", "-n", "1", "--background")
    assert "1 workers run in the background" in text
    assert str(place.data) in text
    try:
        rows = eventually(lambda: [r for r in place.json("worker", "list") if r["kind"] == "worker"])
        supervisor = next(r for r in place.json("worker", "list") if r["kind"] == "supervisor")
        assert f"process {supervisor['pid']}" in text
        os.kill(place.server_pid(), signal.SIGKILL)
        # `db status` starts nothing: only the supervisor can have brought the server back
        eventually(lambda: place.json("db", "status")["running"])
        assert eventually(lambda: place.json("worker", "list"))[0]["host"] == rows[0]["host"]
    finally:
        place.good("worker", "stop")
    eventually(lambda: place.json("worker", "list") == [])
    assert "stopped" in place.good("db", "stop")
    assert "no local server is running" in place.good("db", "stop")
    assert place.json("db", "status")["running"] is False
