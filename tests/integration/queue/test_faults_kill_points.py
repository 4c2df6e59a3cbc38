"""SIGKILL at every step of what test_queue_kill_points.py leaves out: hand-back, late results, the spool."""

from __future__ import annotations

import threading

import pytest
from fireworks import FWAction
from gf_fault_sides import Breaking, Ours
from queue_help import check_consistent, completed_once

from launchpad.queue import reap

pytestmark = pytest.mark.database


@pytest.fixture
def side(make_side):
    return make_side(Ours)


def settle(side):
    """Let the reaper and an ordinary worker bring everything to its end; everything is there once."""
    for _ in range(2):
        reap(side.pad, grace=0.0)
        side.run_all()
    assert reap(side.pad, grace=0.0).quiet
    check_consistent(side.pad)
    completed_once(side.pad, side.pad.fireworks.find_one(sort=[("fw_id", -1)])["fw_id"])


def each_kill(forge, side, action, check, at_least, *, prepare=lambda: None):
    """Play an action killed at its 1st, 2nd ... step until it gets to its end."""
    for number in range(1, 60):
        prepare()
        answer = forge.play(side, action() if callable(action) else action, "*", number, after=False)
        assert answer in {"killed", "done"}, answer
        check(number)
        if answer == "done":
            assert number > at_least, "the kill points are not where they are thought to be"
            side.all_completed()
            return
    raise AssertionError("the action never ends")


def test_every_kill_point_of_a_hand_back(side, forge):
    each_kill(forge, side, "hand back", lambda _k: settle(side), 8, prepare=side.add)


def test_every_kill_point_of_a_late_result(side, forge):
    """A result of a launch that was given up, for a task that nobody has begun again: taken, or run again."""
    late = []

    def prepare():
        side.add()
        _, launch_id = side.take()
        late.append(launch_id)
        side.pad.launches.update_one({"launch_id": launch_id}, {"$set": {"process.node": "elsewhere"}})
        side.pad.held.clear()
        reap(side.pad, now=side.pad.now() + 1000)
        assert side.states() == {"only": "READY"}

    def check(_k):
        settle(side)

    each_kill(forge, side, lambda: f"late {late[-1]}", check, 8, prepare=prepare)
    assert side.pad.launches.find_one({"launch_id": late[-1]})["state"] == "COMPLETED"


def test_every_kill_point_of_the_spool(side, forge):
    """Half a file, a file before its name, before and after its delivery: the result is there once, or made again."""
    from_spool = []

    def check(_k):
        waiting = bool(side.pad.spool.waiting())
        settle(side)
        assert not side.pad.spool.waiting()
        newest = side.pad.fireworks.find_one(sort=[("fw_id", -1)])["fw_id"]
        from_spool.append(side.stored(newest) == [{"from": "spool"}])
        assert from_spool[-1] or not waiting, "what was on the disk was thrown away"

    each_kill(forge, side, "spool", check, 10, prepare=side.add)
    assert from_spool[-1]
    first = from_spool.index(True)
    assert first >= 3, "the first steps come before the file has its name"
    assert all(from_spool[first:])


def test_neither_the_database_nor_the_disk(side, monkeypatch):
    """The database is away and the spool's disk is full: the process keeps the result until one of them takes it."""
    ids = side.add()
    _, launch_id = side.take()
    place = side.pad.spool.directory
    place.parent.mkdir(exist_ok=True)
    place.write_text("no directory: nothing can be written below it")
    whole = side.pad.launches
    side.pad.launches = Breaking(whole, {"update_one", "find_one"}, times=10_000)

    def room():
        place.unlink()

    threading.Timer(1.0, room).start()
    side.complete(launch_id, FWAction(stored_data={"answer": 42}))
    assert len(side.pad.spool.waiting()) == 1
    side.pad.launches = whole
    reap(side.pad)
    assert side.stored(ids["only"]) == [{"answer": 42}]
    side.all_completed()
