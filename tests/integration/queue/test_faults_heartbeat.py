"""Faults of FireWorks' heartbeat and of finding lost runs: ours must pass, FireWorks' own must fail."""

from __future__ import annotations

import threading
import time

import pytest
from fireworks import Firework, FWAction
from gf_fault_sides import Breaking
from pymongo.errors import AutoReconnect
from queue_tasks import Nothing

pytestmark = pytest.mark.database


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_heartbeat_survives_one_lost_connection(both, monkeypatch):
    """One AutoReconnect ends FireWorks' thread: the task, still running, is declared lost and run a second time."""
    monkeypatch.setattr("fireworks.core.rocket.PING_TIME_SECS", 0.05)

    def scenario(side):
        ids = side.add()
        _, launch_id = side.take(fw_id=ids["only"])
        whole = side.pad.launches
        side.pad.launches = broken = Breaking(whole, {"find_one", "update_one"})
        stop = side.heart(ids["only"], launch_id)
        try:
            wait(lambda: broken.left == 0)
            first = last_ping(whole, launch_id)
            assert wait(lambda: last_ping(whole, launch_id) != first, 2.0), "the heart has stopped"
        finally:
            side.pad.launches = whole
            stop()

    both(scenario, match="the heart has stopped")


def last_ping(launches, launch_id):
    """Return what shows that a launch is alive."""
    found = launches.find_one({"launch_id": launch_id})
    return found["state_history"][-1]["updated_on"], found.get("heartbeat_at")


def wait(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_lost_run_is_found_within_minutes(both, forge):
    """A worker that was killed is missed after four hours at the earliest."""

    def scenario(side):
        ids = side.add()
        assert forge.play(side, "take", "", 0) == "killed"
        assert side.state(ids["only"]) == "RUNNING"
        side.pad.launches.update_many({}, {"$set": {"process.node": "elsewhere"}})
        side.recover(600)
        side.run_all()
        side.all_completed()

    both(scenario, match="only is RUNNING")


def test_nobody_has_to_put_a_lost_run_back(both, forge):
    """What FireWorks' own maintenance finds it leaves FIZZLED, until a person runs it again."""

    def scenario(side):
        side.add()
        assert forge.play(side, "take", "", 0) == "killed"
        if side.name == "stock":
            age(side.pad.launches)
            side.pad.maintain(infinite=False)
        else:
            side.recover(600)
        side.run_all()
        side.all_completed()

    both(scenario, match="only is FIZZLED")


def age(launches):
    """Make running launches look as if they had been silent for years."""
    old = "2020-01-01T00:00:00+00:00"
    launches.update_many({"state": "RUNNING"}, {"$set": {"state_history.0.updated_on": old}})


def test_pinger_of_several_rockets_survives_a_lost_connection(both, monkeypatch):
    """`rlaunch multi` has one pinger for all its rockets, which knows OSError only; each of our workers has its own."""
    monkeypatch.setattr("fireworks.core.rocket.PING_TIME_SECS", 0.05)
    monkeypatch.setattr("fireworks.features.multi_launcher.PING_TIME_SECS", 0.05)

    def scenario(side):
        ids = side.add()
        _, launch_id = side.take(fw_id=ids["only"])
        if side.name == "stock":
            pinger_survives()
            return
        whole = side.pad.launches
        side.pad.launches = Breaking(whole, {"update_one"}, times=2)
        stop = side.heart(ids["only"], launch_id)
        first = last_ping(whole, launch_id)
        assert wait(lambda: last_ping(whole, launch_id) != first)
        stop()
        side.pad.launches = whole

    both(scenario, fails_with=AutoReconnect)


def pinger_survives():
    """Run FireWorks' own function in this process, with a proxy that loses its connection once."""
    import os

    from fireworks.features import multi_launcher
    from fireworks.fw_config import FWData

    class Server:
        def __init__(self, address, authkey):
            del address, authkey

        def connect(self):
            pass

        def LaunchPad(self):  # noqa: N802 - FireWorks' name
            return self

        def ping_launch(self, launch_id):
            del launch_id
            msg = "connection reset"
            raise AutoReconnect(msg)

        @staticmethod
        def register_launchpad():
            pass

    original, multi_launcher.DataServer = multi_launcher.DataServer, Server
    data = FWData()
    data.Running_IDs = {os.getpid(): 1}
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    try:
        multi_launcher.ping_multilaunch(0, stop)
    finally:
        multi_launcher.DataServer = original
        data.Running_IDs = {}


def test_large_results_are_not_fetched_to_start_again(both):
    """An action above 16 MB is fetched again by every checkout and refresh of its Firework."""

    def scenario(side):
        ids = side.add(Firework(Nothing(), name="only"))
        _, launch_id = side.take(fw_id=ids["only"])
        side.complete(launch_id, FWAction(stored_data={"text": "x" * 17_000_000}))
        side.pad.rerun_fw(ids["only"])
        side.wire.clear()
        _, launch_id = side.take(fw_id=ids["only"])
        side.pad.ping_launch(launch_id)
        assert side.wire.received < 1_000_000, f"{side.wire.received / 1e6:.0f} MB to start a task again"

    both(scenario, match="MB to start")
