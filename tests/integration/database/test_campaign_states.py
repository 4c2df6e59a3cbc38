"""Who may change a campaign's state: cancel against running tasks, failures of tasks, mended settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from fireworks.core.fworker import FWorker

from gapfactory.campaign import parse_campaign
from gapfactory.errors import FitError, StateError
from gapfactory.protocols.plan import TaskKind
from launchpad import service
from launchpad.database.audit import read_audit
from launchpad.database.campaigns import campaign_of, require_campaign, science_digest, set_state
from launchpad.queue import Queue
from launchpad.retry import TransientFault
from launchpad.states import CampaignState
from launchpad.tasks import TASKS
from launchpad.tasks.assess import AssessTask
from launchpad.workers.rocket import Rocket

pytestmark = [pytest.mark.database]

FILE = """
preset: quickstart-Si-analytic
name: made-up
schedule: {cells_per_generation: 4, initial_cells: 4}
select: {noise_cells: 1, labels_per_generation: 2, held_out_per_generation: 1}
stop: {label_budget: 6}
execution: {build_chunk: 2, relax_chunk: 2, reference_chunk: 2}
"""


@pytest.fixture
def queue(database_uri):
    with Queue.from_uri(database_uri) as opened:
        yield opened


@pytest.fixture
def work(monkeypatch, tmp_path):
    """Replace the work of every task by a function that a test may change."""
    monkeypatch.chdir(tmp_path)
    does = {"work": lambda task, context: {"done": 1}}

    def replaced(task, context):
        return does["work"](task, context)

    for kind in TaskKind:
        if kind is not TaskKind.ASSESS:
            monkeypatch.setattr(TASKS[kind], "work", replaced)
    return does


def take(queue):
    return queue.take(FWorker(name="test"), "/nowhere")


def finish(queue, taken) -> None:
    outcome = Rocket(queue, FWorker(name="test"), taken.fw_id).execute(queue.build(taken), Path("/nowhere"))
    queue.complete_launch(taken.launch_id, outcome.action, "FIZZLED" if outcome.failed else "COMPLETED")


def run_all(queue) -> int:
    number = 0
    while (taken := take(queue)) is not None:
        finish(queue, taken)
        number += 1
    return number


def state(queue) -> str:
    return require_campaign(queue.db, "made-up")["state"]


def tasks(queue) -> list[str]:
    return sorted(task["state"] for task in queue.fireworks.find({}, {"state": 1}))


def submitted(queue, text: str = FILE):
    campaign = parse_campaign(text)
    return campaign, service.submit(queue, campaign, text)


def test_what_runs_when_a_campaign_is_cancelled_is_let_finish_and_resume_goes_on(queue, work) -> None:
    submitted(queue)
    total = queue.fireworks.count_documents({})
    running = take(queue)
    assert service.cancel(queue, "made-up") == total - 1
    assert queue.fireworks.find_one({"fw_id": running.fw_id})["state"] == "RUNNING"
    assert queue.defuse_fw(running.fw_id) is None, "a task that has started is not defused"
    assert queue.fireworks.find_one({"fw_id": running.fw_id})["state"] == "RUNNING"
    assert queue.launches.find_one({"launch_id": running.launch_id})["state"] == "RUNNING"
    finish(queue, running)
    assert take(queue) is None
    service.resume(queue, "made-up")
    assert [e.event for e in read_audit(queue.db)][-2:] == ["campaign.cancelled", "campaign.resumed"]
    assert state(queue) == "running"
    assert queue.fireworks.count_documents({"state": "DEFUSED"}) == 0
    queue.db.metrics.insert_one(stored_decision("stop"))
    # the task that was checked out, but had not looked yet, had ended without work: all of them have to run
    assert run_all(queue) == total
    assert tasks(queue) == ["COMPLETED"] * total
    assert state(queue) == "done"


def test_a_task_that_starts_in_a_cancelled_campaign_ends_quietly(queue, work) -> None:
    def must_not(task, context):
        raise AssertionError("work in a cancelled campaign")

    submitted(queue)
    work["work"] = must_not
    late = take(queue)
    service.cancel(queue, "made-up")
    finish(queue, late)
    assert "FIZZLED" not in tasks(queue)
    assert state(queue) == "cancelled"
    assert service.explain(queue.db, "made-up")["failed_tasks"] == []


def stored_decision(decision: str):
    return {
        "_id": "made-up/g000",
        "campaign": "made-up",
        "generation": 0,
        "labels": 3,
        "decision": decision,
        "reason": "made up",
        "evidence": {"headline": {}},
    }


@pytest.mark.parametrize("decision", ["stop", "continue"])
def test_an_assessment_does_not_overrule_a_cancellation(queue, work, monkeypatch, decision) -> None:
    submitted(queue)
    generation = queue.fireworks.count_documents({})

    def measured_while_cancelled(task, context, key):
        service.cancel(queue, "made-up")
        document = stored_decision(decision)
        queue.db.metrics.insert_one(document)
        return document

    monkeypatch.setattr(AssessTask, "_measure", measured_while_cancelled)
    run_all(queue)
    assert state(queue) == "cancelled"
    assert queue.fireworks.count_documents({}) == generation
    service.resume(queue, "made-up")
    taken = take(queue)
    finish(queue, taken)
    if decision == "stop":
        assert state(queue) == "done"
    else:
        assert queue.fireworks.count_documents({"spec.generation": 1}) > 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FitError("no such program"), "halted"),
        (KeyError("defect"), "halted"),
        (TransientFault("x"), "running"),
    ],
)
def test_a_failed_task_halts_its_campaign_whoever_runs_it(queue, work, error, expected) -> None:
    def fail(task, context):
        raise error

    submitted(queue)
    work["work"] = fail
    taken = take(queue)
    finish(queue, taken)
    record = require_campaign(queue.db, "made-up")
    assert record["state"] == expected
    if expected == "halted":
        assert record["reason"].startswith(f"task {taken.fw_id} made-up g000 ")
        assert str(error) in record["reason"]


def test_states_follow_each_other_as_they_may(queue) -> None:
    submitted(queue)
    database = queue.db
    assert set_state(database, "made-up", CampaignState.CANCELLED, "")
    assert not set_state(database, "made-up", CampaignState.DONE, "")
    assert not set_state(database, "made-up", CampaignState.HALTED, "")
    assert set_state(database, "made-up", CampaignState.RUNNING, "")
    assert set_state(database, "made-up", CampaignState.HALTED, "first")
    assert not set_state(database, "made-up", CampaignState.HALTED, "second")
    assert require_campaign(database, "made-up")["reason"] == "first"
    assert set_state(database, "made-up", CampaignState.DONE, "")
    assert not set_state(database, "made-up", CampaignState.CANCELLED, "")


def test_operational_settings_may_be_mended_and_no_others(queue) -> None:
    campaign, what = submitted(queue)
    assert what == "new"
    assert submitted(queue)[1] == "unchanged"
    mended = (
        FILE + "reference: {time_limit_s: 77, max_attempts: 5}\ngap: {program: {executable: other-fit}}\n"
    )
    assert submitted(queue, mended)[1] == "updated"
    record = require_campaign(queue.db, "made-up")
    assert campaign_of(record).reference.time_limit_s == 77
    assert campaign_of(record).gap.program.executable == "other-fit"
    assert record["file"] == mended
    with pytest.raises(StateError, match="other settings"):
        submitted(queue, FILE + "gap: {soap: {n_sparse: 7}}\n")
    assert require_campaign(queue.db, "made-up")["file"] == mended
    with pytest.raises(StateError, match=r"gap\.soap\.n_sparse: 200, now 7"):
        submitted(queue, FILE + "gap: {soap: {n_sparse: 7}}\n")
    renamed = parse_campaign(FILE.replace("made-up", "another"))
    assert science_digest(renamed) == science_digest(campaign)


def test_failed_curves_are_tried_again_with_the_labels(queue, work) -> None:
    submitted(queue)
    while (taken := take(queue)) is not None:
        finish(queue, taken)
        if "phase" in queue.fireworks.find_one({"fw_id": taken.fw_id})["name"]:
            break
    queue.db.curve_points.insert_one({"_id": "x", "campaign": "made-up", "status": "failed"})
    queue.db.potentials.insert_one({"_id": "made-up/g000", "campaign": "made-up", "generation": 0})
    assert service.resume(queue, "made-up") == {"rerun": 0, "labels_forgotten": 0}
    assert queue.db.curve_points.count_documents({}) == 1
    assert service.resume(queue, "made-up", retry_labels=True) == {"rerun": 1, "labels_forgotten": 1}
    assert queue.db.curve_points.count_documents({}) == 0
    assert queue.fireworks.find_one({"fw_id": taken.fw_id})["state"] == "READY"


def test_status_reads_no_large_fields(queue, monkeypatch) -> None:
    submitted(queue)
    queue.db.metrics.insert_one(
        {**stored_decision("stop"), "evidence": {"headline": {"a": 1.0}, "big": [0] * 9}}
    )
    found = service.status(queue.db, "made-up")
    (entry,) = found["assessments"]
    assert entry["a"] == 1.0
    assert "big" not in str(found)
    keys = {tuple(k for k, _ in index["key"]) for index in queue.fireworks.index_information().values()}
    assert any(key[:3] == ("spec.campaign", "spec.generation", "state") for key in keys)
