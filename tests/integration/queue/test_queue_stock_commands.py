"""FireWorks' own commands on our database, and ours on databases that FireWorks made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fireworks import Firework, LaunchPad, Workflow
from queue_help import check_consistent, completed_once, run_all, run_one, states
from queue_tasks import Grow, Nothing

from launchpad.queue import Queue, reap, write_launchpad_file

pytestmark = pytest.mark.database

BIN = Path(sys.executable).parent


def stock(command, cwd, environment, *, check=True):
    found = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=cwd,
        env={**os.environ, **environment, "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not check or found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture
def configured(tmp_path, database_uri):
    path = write_launchpad_file(tmp_path, database_uri)
    assert path == tmp_path / "my_launchpad.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    return tmp_path


def add_grow(queue):
    parent = Firework(Grow(), name="parent")
    child = Firework(Nothing(), spec={"pushed": []}, name="child", parents=[parent])
    queue.add_wf(Workflow([parent, child], name="grow"))


def test_lpad_and_rlaunch_work_as_they_are(queue, configured, worker_environment):
    add_grow(queue)
    shown = json.loads(stock(["lpad", "get_fws", "-d", "less"], configured, worker_environment))
    assert {entry["name"]: entry["state"] for entry in shown} == {"parent": "READY", "child": "WAITING"}
    stock(["rlaunch", "-s", "rapidfire"], configured, worker_environment)
    assert states(queue) == {"parent": "COMPLETED", "child": "COMPLETED", "added": "COMPLETED"}
    workflows = json.loads(stock(["lpad", "get_wflows"], configured, worker_environment))
    workflows = workflows if isinstance(workflows, list) else [workflows]
    assert [entry["state"] for entry in workflows] == ["COMPLETED"]
    assert queue.fireworks.find_one({"name": "child"})["spec"]["pushed"] == [1]
    assert reap(queue, grace=0).quiet
    check_consistent(queue)


def test_stock_shows_and_repairs_what_our_workers_did(queue, configured, worker_environment):
    add_grow(queue)
    run_all(queue)
    shown = json.loads(stock(["lpad", "get_fws", "-d", "all"], configured, worker_environment))
    assert {entry["name"]: entry["state"] for entry in shown} == {
        "parent": "COMPLETED",
        "child": "COMPLETED",
        "added": "COMPLETED",
    }
    parent = queue.fireworks.find_one({"name": "parent"})["fw_id"]
    stock(["lpad", "rerun_fws", "-i", str(parent)], configured, worker_environment)
    assert states(queue)["parent"] == "READY"
    run_all(queue)
    completed = [
        launch for launch in queue.launches.find({"fw_id": parent}) if launch["state"] == "COMPLETED"
    ]
    assert len(completed) == 2, "the first one is archived with the rerun"
    check_consistent(queue)


def test_stock_and_ours_share_one_queue(queue, configured, worker_environment):
    for _ in range(3):
        queue.add_wf(Firework(Nothing(), name="one"))
    rocket = ["rlaunch", "-s", "singleshot"]
    stock(rocket, configured, worker_environment)
    assert sorted(f["state"] for f in queue.fireworks.find()) == ["COMPLETED", "READY", "READY"]
    run_all(queue)
    for firework in queue.fireworks.find():
        completed_once(queue, firework["fw_id"])


def test_existing_database_is_taken_as_it_is(database_uri):
    """A LaunchPad made by FireWorks keeps its ids and its workflows."""
    name = database_uri.partition("?")[0].rsplit("/", 1)[1]
    old = LaunchPad(host=database_uri, name=name, uri_mode=True, strm_lvl="CRITICAL")
    old.reset("", require_password=False)
    ids = old.add_wf(Firework(Nothing(), name="old"))
    indexes = {index["name"] for index in old.fireworks.list_indexes()}
    for _ in range(2):
        with Queue.from_uri(database_uri) as queue:
            assert states(queue) == {"old": "READY"}
            assert queue.get_new_fw_id() > next(iter(ids.values()))
            assert indexes <= {index["name"] for index in queue.fireworks.list_indexes()}
            assert queue.fw_id_assigner.count_documents({}) == 1
    old.tuneup()
    old.connection.close()


def test_many_processes_prepare_one_database_at_once(database_uri):
    code = (
        "import sys; from launchpad.queue import Queue\n"
        "queue = Queue.from_uri(sys.argv[1])\n"
        "print(queue.get_new_fw_id(), queue.database_identity)"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", code, database_uri], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert sorted(int(answer[0]) for answer in answers) == [1, 2, 3, 4]
    assert len({answer[1] for answer in answers}) == 1


def test_what_stock_lpad_decides_holds_for_our_workers(queue, configured, worker_environment):
    """Defused and paused Fireworks are left alone, priorities are honoured, and all is undone again."""
    ids = {name: queue.add_wf(Firework(Nothing(), name=name)) for name in ("a", "b", "c")}
    number = {name: str(next(iter(mapping.values()))) for name, mapping in ids.items()}

    def lpad(*words):
        return stock(["lpad", *words], configured, worker_environment)

    lpad("defuse_fws", "-i", number["a"])
    lpad("pause_fws", "-i", number["b"])
    run_all(queue)
    assert states(queue) == {"a": "DEFUSED", "b": "PAUSED", "c": "COMPLETED"}
    lpad("reignite_fws", "-i", number["a"])
    lpad("resume_fws", "-i", number["b"])
    lpad("set_priority", "7", "-i", number["b"])
    assert run_one(queue) == int(number["b"]), "the higher priority first"
    run_all(queue)
    assert set(states(queue).values()) == {"COMPLETED"}
    check_consistent(queue)


@pytest.mark.slow
def test_stock_rlaunch_runs_a_whole_campaign(place, tiny, first_digests):
    """The tasks need nothing of our launcher to be right: the same bits, by `rlaunch rapidfire` alone."""
    place.write("tiny.yaml", tiny())
    place.good("campaign", "submit", "tiny.yaml")
    launchpad = place.good("db", "launchpad-file").strip()
    stock(["rlaunch", "-l", launchpad, "-s", "rapidfire"], place.directory, place.environment)
    assert place.json("campaign", "status", "tiny")["state"] == "done"
    assert place.json("campaign", "digest", "tiny") == first_digests
