"""The connection is cut before, or after, the server executes each command: every result is there exactly once.

The process lives on, so nothing may depend on a reaper noticing its death. Each cut also hits the driver's own retry,
so that the code above the driver has to cope.
"""

from __future__ import annotations

import os

import pytest
from fireworks import Firework, FWAction, Workflow
from fireworks.core.fworker import FWorker
from gf_proxy import Proxy
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri
from queue_help import ALLOWED, check_consistent, completed_once, run_one
from queue_tasks import Grow, Nothing

from launchpad.queue import Queue, QueueSettings, reap
from launchpad.queue.guard import AllowList

pytestmark = pytest.mark.database

#: Every command with GAPFACTORY_EVERY_FAULT=1; a third of them otherwise, to keep the suite short.
STEP = 1 if os.environ.get("GAPFACTORY_EVERY_FAULT") else 3

_HANDSHAKE = {"hello", "ismaster", "isMaster", "ping", "endSessions", "saslStart", "saslContinue"}


class Cuts:
    """Says at which commands a connection is cut."""

    def __init__(self):
        self.cut_at: set[int] = set()
        self.after = False
        self.armed = False
        self.count = 0

    def arm(self, cut_at, *, after):
        self.count, self.cut_at, self.after, self.armed = 0, set(cut_at), after, True

    def __call__(self, command):
        if not self.armed or command in _HANDSHAKE:
            return None
        self.count += 1
        if self.count not in self.cut_at:
            return None
        return "after" if self.after else "before"


@pytest.fixture
def proxy(database_uri, tmp_path):
    host = parse_uri(database_uri)["nodelist"][0]
    made = Cuts()
    to = host[0] if host[1] is None else f"{host[0]}:{host[1]}"
    with Proxy(to, tmp_path / "p.sock", watch=made) as link:
        yield made, link.through(database_uri)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_command_cut(queue, proxy, after, tmp_path, monkeypatch):
    # the driver looks for a lost server at most every half second: not what is tested here
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.02)
    made, uri = proxy
    allowed = AllowList(ALLOWED)
    with Queue.from_uri(
        uri, allowed=allowed, settings=QueueSettings(completion_limit_s=30), spool=tmp_path
    ) as cut:
        for k in range(1, 60, STEP):
            parent = Firework(Grow(), name="parent")
            child = Firework(Nothing(), spec={"pushed": []}, name="child", parents=[parent])
            ids = sorted(queue.add_wf(Workflow([parent, child])).values())
            made.arm({k, k + 1}, after=after)
            idle = 0
            while idle < 1:
                try:
                    idle += run_one(cut) is None
                except PyMongoError as error:
                    if not cut.database_lost(error):
                        raise
            commands, made.armed = made.count, False
            for fw_id in ids:
                completed_once(queue, fw_id)
            changed = queue.fireworks.find_one({"fw_id": ids[0]})
            assert changed["spec"]["pushed"] == [1]
            workflow = queue.workflows.find_one({"nodes": ids[0]})
            assert workflow["state"] == "COMPLETED"
            assert len(workflow["nodes"]) == 3
            check_consistent(queue)
            if k > commands:
                assert k > 30
                return
    raise AssertionError("never got past the last command")


def test_result_waits_on_disk_while_the_database_is_away(queue, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.02)
    made, uri = proxy
    ids = queue.add_wf(Firework(Nothing(), name="only"))
    quick = QueueSettings(completion_limit_s=0.2, server_selection_s=0.2)
    with Queue.from_uri(uri, allowed=AllowList(ALLOWED), settings=quick, spool=tmp_path / "spool") as cut:
        taken = cut.take(FWorker(name="test"), "/nowhere")
        made.arm(range(1, 1000), after=False)
        cut.complete_launch(taken.launch_id, FWAction(stored_data={"answer": 42}))
        assert len(cut.spool.waiting()) == 1
        with pytest.raises(PyMongoError):
            cut.spool.deliver(cut)
        assert len(cut.spool.waiting()) == 1, "kept until somebody has it"
        made.armed = False
    report = reap(queue)
    assert report.delivered == 1, "the reaper of the same host delivers what a worker left"
    completed_once(queue, *ids.values())
    assert queue.launches.find_one()["action"]["stored_data"] == {"answer": 42}
    assert queue.spool.waiting() == []
