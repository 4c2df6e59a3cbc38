"""SIGKILL before every single database command of checkout, heartbeat, completion, addition and repair."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fireworks import Firework, Workflow
from queue_help import check_consistent, completed_once, run_all
from queue_tasks import Grow, Nothing

from launchpad.queue import reap

pytestmark = pytest.mark.database


class Forge:
    """Children that kill themselves; see queue_forge.py."""

    def __init__(self, uri, environment):
        self.uri = uri
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("queue_forge.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"OMP_NUM_THREADS": "1", **environment},
        )

    def play(self, scenario, k, fw_id=0):
        self.process.stdin.write(f"{scenario} {k} {self.uri} {fw_id}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=30)


@pytest.fixture
def forge(database_uri, worker_environment):
    made = Forge(database_uri, worker_environment)
    yield made
    made.close()


def each_kill(forge, scenario, prepare, check, at_least, step=1):
    """Play a scenario, killed before its 1st, 2nd, ... command, until it gets to its end."""
    for k in range(1, 80, step):
        prepare()
        answer = forge.play(scenario, k)
        assert answer[0] in {"killed", "done"}, answer
        check(k)
        if answer[0] == "done":
            assert k > at_least, (
                f"only {k - 1} commands: the kill points are not where they are thought to be"
            )
            return k - 1
    raise AssertionError("the scenario never ends")


def settle(queue):
    """Let the reaper and an ordinary worker bring everything to its end."""
    reap(queue, grace=0.0)
    run_all(queue)
    report = reap(queue, grace=0.0)
    assert report.quiet, report
    check_consistent(queue)


def test_every_kill_point_of_an_ordinary_task(queue, forge):
    ids = {}

    def prepare():
        parent = Firework(Nothing(), name="parent")
        child = Firework(Nothing(), name="child", parents=[parent])
        ids.update(
            zip(("child", "parent"), sorted(queue.add_wf(Workflow([parent, child])).values()), strict=True)
        )

    def check(k):
        settle(queue)
        completed_once(queue, ids["parent"])
        completed_once(queue, ids["child"])
        assert queue.workflows.find_one({"nodes": ids["child"]})["state"] == "COMPLETED"

    assert each_kill(forge, "run", prepare, check, at_least=8) <= 12


def test_every_kill_point_of_a_task_that_changes_its_workflow(queue, forge):
    ids = {}

    def prepare():
        parent = Firework(Grow(), name="parent")
        child = Firework(Nothing(), spec={"pushed": []}, name="child", parents=[parent])
        ids.update(
            zip(("child", "parent"), sorted(queue.add_wf(Workflow([parent, child])).values()), strict=True)
        )

    def check(k):
        settle(queue)
        completed_once(queue, ids["parent"])
        completed_once(queue, ids["child"])
        child = queue.fireworks.find_one({"fw_id": ids["child"]})
        assert child["spec"]["pushed"] == [1], "the parent's action was applied exactly once"
        assert child["spec"]["x"] == 1
        workflow = queue.workflows.find_one({"nodes": ids["child"]})
        assert len(workflow["nodes"]) == 3
        assert workflow["state"] == "COMPLETED"
        names = [f["name"] for f in queue.fireworks.find({"fw_id": {"$in": workflow["nodes"]}})]
        assert sorted(names) == ["added", "child", "parent"]

    each_kill(forge, "run", prepare, check, at_least=15)
    assert queue.fireworks.count_documents({"name": "added"}) == queue.workflows.count_documents({})


def test_every_kill_point_of_the_heartbeat(queue, forge):
    def prepare():
        queue.add_wf(Firework(Nothing(), name="only"))

    def check(k):
        settle(queue)
        for firework in queue.fireworks.find():
            completed_once(queue, firework["fw_id"])

    each_kill(forge, "beat", prepare, check, at_least=7)


@pytest.mark.parametrize("scenario", ["add", "once"])
def test_every_kill_point_of_an_addition(queue, forge, scenario):
    def check(k):
        settle(queue)
        for workflow in queue.workflows.find():
            found = list(queue.fireworks.find({"fw_id": {"$in": workflow["nodes"]}}))
            assert sorted(f["name"] for f in found) == ["child", "parent"]
            assert workflow["state"] == "COMPLETED"
        if scenario == "once":
            assert queue.workflows.count_documents({}) <= 1
        assert queue.fireworks.count_documents({}) == 2 * queue.workflows.count_documents({})

    each_kill(forge, scenario, lambda: None, check, at_least=4)
    assert queue.workflows.count_documents({}) >= 1


def test_every_kill_point_of_the_reaper(queue, forge, database_uri):
    """A task that died with its worker, and a reaper that dies at every step of putting it back."""

    def prepare():
        queue.add_wf(Firework(Nothing(), name="only"))
        assert forge.play("run", 6) == ["killed"]

    def check(k):
        settle(queue)
        for firework in queue.fireworks.find():
            completed_once(queue, firework["fw_id"])

    # every one with GAPFACTORY_EVERY_FAULT=1; every third otherwise, to keep the suite short
    step = 1 if os.environ.get("GAPFACTORY_EVERY_FAULT") else 3
    each_kill(forge, "reap", prepare, check, at_least=20, step=step)
