"""What a runner leaves, and finds: bundles go back alone, and a process that hangs is no fault of its bundle."""

from __future__ import annotations

import fcntl
import threading

from launchpad.remote import slot
from launchpad.remote.depot import Depot
from launchpad.remote.runner import Runner
from launchpad.remote.settings import RunnerSettings


def test_bundles_go_back_without_what_lies_beside_them(tmp_path) -> None:
    depot = Depot(tmp_path)
    depot.prepare()
    runner = Runner(depot, RunnerSettings())
    mine = depot.running / runner.id
    for name in ("a-1", "a-2"):
        (depot.inbox / f"{name}.bundle").write_text("bundle")
        depot.claim(runner.id)
        depot.recall(name)
    depot.give_back(mine / "a-1.bundle")
    depot.claim(runner.id)
    assert not (mine / "a-1.recall").exists(), "it would be recalled again at once"
    runner._leave()
    assert sorted(path.name for path in depot.inbox.iterdir()) == ["a-1.bundle", "a-2.bundle"]
    assert not list(depot.running.iterdir())


def test_a_process_that_hangs_is_trouble_of_a_node(tmp_path, monkeypatch) -> None:
    """Else the bundle would be refused, and this site would not get its task again."""
    monkeypatch.setattr(slot, "_LAST_WAIT_S", 0.3)
    work = tmp_path / "work"
    work.mkdir()
    order = {
        "bundle": str(tmp_path / "b"),
        "result": str(tmp_path / "r"),
        "workdir": str(work),
        "allowed": [],
    }
    with (work / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = slot._run(order, threading.Event(), threading.Event())
    assert answer["node"] is True
    assert "another process is still at work" in answer["error"]
