"""Workers take tasks of the campaigns that they are enrolled for, and of no campaign that does not exist."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fireworks import Firework
from fireworks.core.fworker import FWorker
from queue_help import ALLOWED, run_one, states, wait_for
from queue_tasks import Nothing

from launchpad.queue.enrolment import Enrolment
from launchpad.queue.guard import DEFAULT_ALLOWED, AllowList
from launchpad.tasks.build import BuildTask
from launchpad.workers import Supervisor, WorkerSettings

pytestmark = pytest.mark.database


def add(queue, campaign, task="same", name=None, **spec):
    """Add a task of ours; `task` is the campaign that the task itself names."""
    named = campaign if task == "same" else task
    firework = BuildTask(campaign=named, generation=0, start=0, stop=1)
    if campaign is not None:
        spec["campaign"] = campaign
    return next(iter(queue.add_wf(Firework(firework, spec=spec, name=name or str(campaign))).values()))


@pytest.fixture
def enrol(queue):
    queue.allowed = AllowList((*DEFAULT_ALLOWED, *ALLOWED))
    queue.db.campaigns.insert_many([{"_id": name} for name in ("silicon", "boron-1", "boron-2")])

    def patterns(*names):
        queue.enrolment = Enrolment(queue.db, names)

    return patterns


def takes(queue):
    """Return the names of what is taken, in order."""
    found = []
    while (taken := queue.take(FWorker(name="test"), "/nowhere")) is not None:
        found.append(taken.raw["name"])
        queue.build(taken)
    return found


def test_only_listed_campaigns_are_taken(queue, enrol):
    for name in ("silicon", "boron-1", "boron-2"):
        add(queue, name)
    queue.add_wf(Firework(Nothing(), name="foreign"))
    enrol("boron-*")
    assert sorted(takes(queue)) == ["boron-1", "boron-2", "foreign"]
    assert states(queue)["silicon"] == "READY", "left for others, not refused"
    enrol("none")
    assert takes(queue) == []
    enrol()
    assert takes(queue) == ["silicon"]


def test_new_campaigns_that_match_are_noticed(queue, enrol, monkeypatch):
    monkeypatch.setattr("launchpad.queue.enrolment._FRESH_S", 0.0)
    enrol("gold")
    add(queue, "gold")
    assert takes(queue) == []
    queue.db.campaigns.insert_one({"_id": "gold"})
    assert takes(queue) == ["gold"]


@pytest.mark.parametrize(
    ("campaign", "task", "words"),
    [
        ("unknown", "same", "campaign 'unknown' does not exist in database"),
        (None, "silicon", "its spec names no campaign"),
        ("silicon", "boron-1", "its spec names campaign 'silicon' and a task of it 'boron-1'"),
        ({"$ne": 1}, "silicon", "its spec names no campaign"),
    ],
)
def test_what_is_refused(queue, enrol, campaign, task, words):
    add(queue, campaign, task, name="wrong")
    enrol()
    taken = queue.take(FWorker(name="test"), "/nowhere")
    with pytest.raises(PermissionError, match="(?s).*" + words.replace("$", r"\$")):
        queue.build(taken)


def test_by_id_only_what_it_is_enrolled_for(queue, enrol):
    fw_id = add(queue, "silicon")
    enrol("boron-*")
    taken = queue.take(FWorker(name="test"), "/nowhere", fw_id=fw_id)
    with pytest.raises(PermissionError, match="not enrolled for campaign 'silicon' "):
        queue.build(taken)


def test_worker_processes_do_as_they_are_told(queue, database_uri, tmp_path, worker_environment, enrol):
    """The refusal is the Firework's result: it is FIZZLED with the reason, and the campaign is not touched."""
    add(queue, "unknown", name="wrong")
    add(queue, "silicon")
    queue.add_wf(Firework(Nothing(), name="foreign"))
    settings = WorkerSettings(allowed=(*DEFAULT_ALLOWED, *ALLOWED), campaigns=("boron-*",), report_s=0.2)
    with Supervisor(
        database_uri, 1, scratch=tmp_path / "a", worker_settings=settings, environment=worker_environment
    ) as supervisor:
        wait_for(lambda: states(queue)["foreign"] == "COMPLETED", tick=supervisor.tick)
        assert queue.workers.find_one({"kind": "worker"})["campaigns"] == ["boron-*"]
    assert states(queue) == {"wrong": "READY", "silicon": "READY", "foreign": "COMPLETED"}
    queue.fireworks.delete_one({"name": "silicon"})
    everything = settings.model_copy(update={"campaigns": ()})
    with Supervisor(
        database_uri, 1, scratch=tmp_path / "b", worker_settings=everything, environment=worker_environment
    ) as supervisor:
        wait_for(lambda: states(queue)["wrong"] == "FIZZLED", tick=supervisor.tick)
    message = queue.launches.find_one({"state": "FIZZLED"})["action"]["stored_data"]["_message"]
    assert message.startswith("refused: campaign 'unknown' does not exist in database")
    assert run_one(queue) is None


def test_the_command_hands_the_options_on(tmp_path, database_uri):
    """A worker that finds nothing ends; its entry says what it was enrolled for."""
    from launchpad.queue import Queue

    command = [sys.executable, "-m", "launchpad.cli", "worker", "start", "-n", "1", "--db", database_uri]
    command += ["--campaign", "a", "--campaign", "b-*", "--allow", "queue_tasks.*", "--idle-minutes", "0.001"]
    import os

    environment = {**os.environ, "GAPFACTORY_SCRATCH": str(tmp_path)}
    subprocess.run(command, check=True, timeout=60, env=environment, capture_output=True)
    with Queue.from_uri(database_uri) as queue:
        assert queue.workers.find_one({"kind": "worker"})["campaigns"] == ["a", "b-*"]
