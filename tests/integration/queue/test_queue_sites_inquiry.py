"""Jobs that were killed as a whole: the scheduler is asked, and their tasks run again at once."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fireworks import Firework
from fireworks.core.fworker import FWorker
from queue_help import check_consistent, run_all, states, wait_for
from queue_tasks import Nothing

from launchpad.queue import reap
from launchpad.sites import Site, write_site
from launchpad.sites.inquiry import Inquiry
from launchpad.sites.write import read_identity
from launchpad.workers import Supervisor, SupervisorSettings

pytestmark = pytest.mark.database

ELSEWHERE = {"host": "node7", "node": "another-boot/pid:[1]", "pid": 4242, "start": 1}
COMMANDS = {"slurm": "sbatch", "pbs": "qsub", "sge": "qsub", "lsf": "bsub"}
ARRAYS = {
    "slurm": "#SBATCH --array=1-2",
    "pbs": "#PBS -J 1-2",
    "sge": "#$ -t 1-2",
    "lsf": '#BSUB -J "pilot[1-2]"',
}


@pytest.fixture
def jobs(scheduler, monkeypatch, tmp_path):
    """Submit arrays of two sleeping jobs; return the environment of each, by element."""

    def submit(name):
        monkeypatch.setenv("GF_SCHEDULER", name)
        script = tmp_path / "job.sh"
        told = 'env > "$GF_ENV.part.$$"; mv "$GF_ENV.part.$$" "$GF_ENV.$$"; exec sleep 300'
        place = tmp_path / f"environment-{name}"
        script.write_text(f"#!/bin/bash\n{ARRAYS[name]}\nGF_ENV={place}\n{told}\n")
        with script.open() as stream:
            command = [COMMANDS[name]] if name == "lsf" else [COMMANDS[name], str(script)]
            subprocess.run(command, stdin=stream, check=True, capture_output=True)
        written = lambda: sorted(tmp_path.glob(f"{place.name}.[0-9]*"))  # noqa: E731
        found = [_read(path) for path in wait_for(lambda: len(written()) == 2 and written())]
        return [environment for _, environment in sorted(found, key=lambda item: item[0])]

    def _read(path):
        environment = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        return int(path.suffix[1:]), {**environment, "GF_PID": path.suffix[1:]}

    return submit


def kill(environment):
    """Kill a job as a node that fails does: nobody inside it says goodbye."""
    os.kill(int(environment["GF_PID"]), signal.SIGKILL)


def take_inside(queue, environment, monkeypatch, *, site="pilots-1a2b3c", name="task"):
    """Take a task as a worker inside a job on a node that cannot be looked into."""
    queue.add_wf(Firework(Nothing(), name=name))
    words = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "LSB_JOBINDEX", "JOB_ID", "SGE_TASK_ID")
    with monkeypatch.context() as inside:
        for word in words:
            inside.delenv(word, raising=False)
            if word in environment:
                inside.setenv(word, environment[word])
        inside.setenv("GAPFACTORY_SITE_ID", site)
        taken = queue.take(FWorker(name="test"), "/nowhere")
    far = {f"process.{key}": value for key, value in ELSEWHERE.items()}
    queue.launches.update_one({"launch_id": taken.launch_id}, {"$set": far})
    return taken


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_tasks_of_a_killed_job_run_again_at_once(queue, jobs, monkeypatch, name):
    dead, living = jobs(name)
    first = take_inside(queue, dead, monkeypatch, name="first")
    take_inside(queue, living, monkeypatch, name="second")
    inquiry = Inquiry(name, "site:pilots-1a2b3c", every_s=0.001)
    assert inquiry.at_once(queue) == ()
    kill(dead)
    time.sleep(0.01)
    assert reap(queue).quiet, (
        "silent for a moment only: without the scheduler it would be missed in five minutes"
    )
    began = time.monotonic()
    assert wait_for(lambda: inquiry.at_once(queue)) == (first.fw_id,)
    assert time.monotonic() - began < 5.0
    assert states(queue) == {"first": "READY", "second": "RUNNING"}
    reason = queue.launches.find_one({"launch_id": first.launch_id})["action"]["stored_data"]["_message"]
    assert f"has ended ({name}: not in its queue)" in reason
    kill(living)
    wait_for(lambda: inquiry.at_once(queue))
    run_all(queue)
    check_consistent(queue)


def test_other_sites_are_not_asked_about(queue, jobs, monkeypatch):
    """The same number at another cluster is another job."""
    dead, _ = jobs("slurm")
    take_inside(queue, dead, monkeypatch, site="elsewhere-000000")
    kill(dead)
    assert Inquiry("slurm", "site:pilots-1a2b3c", every_s=0.001).at_once(queue) == ()
    assert states(queue) == {"task": "RUNNING"}


@pytest.mark.parametrize("trouble", ["fail", "hang"])
def test_a_scheduler_that_does_not_answer_changes_nothing(
    queue, jobs, monkeypatch, scheduler, caplog, trouble
):
    dead, _ = jobs("slurm")
    taken = take_inside(queue, dead, monkeypatch)
    kill(dead)
    (scheduler / "trouble").write_text(trouble)
    inquiry = Inquiry("slurm", "site:pilots-1a2b3c", every_s=0.001)
    # not for one that answers: its command takes a second on a busy machine
    inquiry.patience_s = 1.0 if trouble == "hang" else 60.0
    with caplog.at_level(logging.INFO, "launchpad.sites"):
        for _ in range(3):
            time.sleep(0.01)
            assert inquiry.at_once(queue) == ()
        assert states(queue) == {"task": "RUNNING"}
        assert len(caplog.records) == 1, "said once"
        assert ("did not answer within 1 s" if trouble == "hang" else "Unable to contact") in caplog.text
        (scheduler / "trouble").unlink()
        inquiry.patience_s = 60.0
        assert wait_for(lambda: inquiry.at_once(queue)) == (taken.fw_id,)
        assert "answers again" in caplog.text


def test_all_processes_of_a_site_ask_no_more_often_than_one(queue, jobs, monkeypatch):
    dead, _ = jobs("slurm")
    take_inside(queue, dead, monkeypatch)
    assert Inquiry("slurm", "site:pilots-1a2b3c").at_once(queue) == ()
    kill(dead)
    assert Inquiry("slurm", "site:pilots-1a2b3c").at_once(queue) == (), "somebody asked half a second ago"
    queue.leases.update_one({"_id": "asked:site:pilots-1a2b3c"}, {"$inc": {"at": -31.0}})
    assert len(Inquiry("slurm", "site:pilots-1a2b3c").at_once(queue)) == 1


def test_reservations_of_qlaunch_whose_job_is_gone(queue, jobs, tmp_path):
    """`scancel` of a job of `qlaunch -r` that had not started: FireWorks leaves it RESERVED for 14 days."""
    site = write_site(tmp_path / "site", Site(scheduler="slurm", name="labels"), queue.uri)
    scheduler_name, site_id = read_identity(site)
    assert FWorker.from_file(str(site / "my_fworker.yaml")).name == site_id
    gone, waiting = jobs("slurm")
    for name, environment in (("cancelled", gone), ("waiting", waiting)):
        queue.add_wf(Firework(Nothing(), name=name))
        _, launch_id = queue.reserve_fw(FWorker(name=site_id), "/nowhere")
        queue.set_reservation_id(launch_id, environment["SLURM_JOB_ID"])
    kill(gone)
    inquiry = Inquiry(scheduler_name, f"site:{site_id}", every_s=0.001)
    assert len(wait_for(lambda: inquiry.at_once(queue))) == 1
    assert states(queue) == {"cancelled": "READY", "waiting": "RESERVED"}
    assert queue.retries.count_documents({}) == 0, "it never ran"
    assert inquiry.at_once(queue) == ()


def test_supervisors_inside_a_job_ask(queue, jobs, monkeypatch, database_uri, tmp_path, worker_environment):
    dead, living = jobs("slurm")
    take_inside(queue, dead, monkeypatch, name="lost")
    monkeypatch.setenv("SLURM_JOB_ID", living["SLURM_JOB_ID"])
    monkeypatch.setenv("GAPFACTORY_SITE_ID", "pilots-1a2b3c")
    settings = SupervisorSettings(ask_s=0.2)
    with Supervisor(database_uri, 0, scratch=tmp_path / "s", settings=settings) as supervisor:
        supervisor.tick()
        mine = queue.workers.find_one({"kind": "supervisor"})
        assert mine["job"] == {
            "scheduler": "slurm",
            "where": "site:pilots-1a2b3c",
            "id": living["SLURM_JOB_ID"],
        }
        lost = {**ELSEWHERE, "_id": "w", "kind": "worker", "state": "running", "heartbeat": queue.now()}
        queue.workers.insert_one({**lost, "job": {**mine["job"], "id": dead["SLURM_JOB_ID"]}})
        kill(dead)
        wait_for(lambda: states(queue) == {"lost": "READY"}, tick=supervisor.tick)
        wait_for(lambda: queue.workers.find_one({"_id": "w"})["state"] == "stopped", tick=supervisor.tick)


def test_watching_from_a_login_node(queue, jobs, monkeypatch, database_uri, tmp_path):
    site = write_site(tmp_path / "site", Site(scheduler="slurm", name="labels"), database_uri)
    dead, _ = jobs("slurm")
    take_inside(queue, dead, monkeypatch, site=read_identity(site)[1])
    kill(dead)
    command = [sys.executable, "-m", "launchpad.cli", "site", "watch", str(site), "--once"]
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1 passes made, 1 tasks put back" in done.stdout
    assert "has ended (slurm: not in its queue)" in done.stderr
    assert states(queue) == {"task": "READY"}
    assert json.loads(json.dumps(database_uri)) not in done.stderr
