"""The reaper without workers: it repairs, waits for a lost database, and ends when told to."""

from __future__ import annotations

import signal
import time

import pytest

pytestmark = [pytest.mark.database]
LIMIT_S = 60.0


def wait_for(what) -> None:
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.05)


def forget_checkout(place) -> None:
    """Leave a task as a launcher leaves it that died between two writes."""
    from pymongo import MongoClient

    from launchpad.embedded import status

    with MongoClient(status(place.data).uri) as client:
        client.gapfactory.fireworks.update_one(
            {"state": "READY"}, {"$set": {"state": "RESERVED", "updated_on": "2020-01-01T00:00:00"}}
        )


def reserved(place) -> int:
    from pymongo import MongoClient

    from launchpad.embedded import status

    with MongoClient(status(place.data).uri) as client:
        return client.gapfactory.fireworks.count_documents({"state": "RESERVED"})


@pytest.mark.slow
def test_it_repairs_waits_for_the_database_and_ends(place) -> None:
    import os

    place.write("si.yaml", "preset: quickstart-Si-analytic\nname: si\n")
    place.good("campaign", "submit", "si.yaml")
    process = place.start("db", "maintain", "--every", "1")
    try:
        forget_checkout(place)
        wait_for(lambda: reserved(place) == 0)
        os.kill(place.server_pid(), signal.SIGKILL)
        wait_for(lambda: "waiting for it" in place.log())
        place.good("db", "start")
        forget_checkout(place)
        wait_for(lambda: reserved(place) == 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0, place.log()
        assert "Traceback" not in place.log()
    finally:
        process.kill()
        process.wait(60)
