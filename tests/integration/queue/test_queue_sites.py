"""Pilot jobs through the schedulers' commands: stand-ins that really run the job scripts on this machine."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fireworks import Firework
from queue_help import check_consistent, completed_once, states, wait_for
from queue_tasks import Nothing

from launchpad.queue import reap
from launchpad.sites import Site, read_uri, submit_pilots, write_site

pytestmark = [pytest.mark.database, pytest.mark.slow]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BIN = Path(sys.executable).parent
#: What the jobs of schedulers that start with an empty environment need here: our code, and settings of the linear
#: algebra (which processor it takes this one for), because those change the last bits of a result.
_HANDED = {
    name: value for name, value in os.environ.items() if name.startswith(("OPENBLAS_", "MKL_", "NPY_"))
}
_HANDED |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]), "OMP_NUM_THREADS": "1"}
SETUP = "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in _HANDED.items())
LIMIT_S = 240.0


def qlaunch(site: Path, *arguments: str) -> str:
    """Run FireWorks' own command in a site directory, as a person would."""
    done = subprocess.run(
        [str(BIN / "qlaunch"), "--launch_dir", "jobs", *arguments],
        cwd=site,
        env=os.environ | {"HOME": str(site), "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout + done.stderr


def outputs(site: Path, scheduler: Path) -> str:
    """Return what the jobs printed, for the message of a failed test."""
    found = [*scheduler.glob("*.out"), *site.glob("jobs/**/*.out"), *site.glob("logs/*/*.log")]
    return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-2000:]}" for path in found)


@pytest.mark.timeout(600)
@pytest.mark.long
def test_five_schedulers_bring_one_campaign_to_its_end(place, tiny, first_digests, scheduler) -> None:
    """Each kind of task has its own site and scheduler; all together do what local workers do, bit for bit."""
    place.write("tiny.yaml", tiny())
    place.good("campaign", "submit", "tiny.yaml")
    pilots = ["--idle-minutes", "10", "--setup", SETUP]

    def site(scheduler_name: str, *categories: str, more: tuple[str, ...] = ()) -> Path:
        chosen = [word for category in categories for word in ("-c", category)]
        place.good("site", "init", "-s", scheduler_name, "--name", scheduler_name, *chosen, *pilots, *more)
        return place.directory / scheduler_name

    sites = {
        "pbs": site("pbs", "build", more=("-q", "main", "--memory-gb", "2")),
        "slurm": site("slurm", "reference"),
        "sge": site("sge", "select", more=("--cores", "2", "--workers", "1", "--memory-gb", "3")),
        "lsf": site("lsf", "fit", more=("-q", "main",)),
        "shell": site("shell", "assess"),
    }  # fmt: skip
    try:
        # something is ready for it: FireWorks' own way
        assert "Launching a rocket" in qlaunch(sites["pbs"], "rapidfire", "--nlaunches", "1")
        # nothing is ready for these yet: FireWorks starts them in fill mode only, our command always
        assert "No jobs exist" in qlaunch(sites["lsf"], "singleshot")
        qlaunch(sites["lsf"], "--fill_mode", "singleshot")
        qlaunch(sites["shell"], "--fill_mode", "singleshot")
        environment = {name: os.environ[name] for name in ("PATH", "GF_SCHEDULER_DIR")}
        # an array of two
        said = json.loads(
            place.good(
                "site", "submit", "slurm", "--pilots", "2", "--json", **environment, GF_SCHEDULER="slurm"
            )
        )
        assert len(said["jobs"]) == 1
        place.good("site", "submit", "sge", **environment, GF_SCHEDULER="sge")

        state = lambda: place.json("campaign", "status", "tiny")["state"]  # noqa: E731
        # not too often: the question itself takes a core from the pilots
        wait_for(
            lambda: state() not in {"submitted", "running"},
            LIMIT_S,
            tick=lambda: time.sleep(1.0),
            what="the end of the campaign",
        )
        shown = "\n".join(outputs(path, scheduler) for path in sites.values())
        assert state() == "done", shown
        assert place.json("campaign", "digest", "tiny") == first_digests
        rows = [row for row in place.json("worker", "list") if row["kind"] == "worker"]
        took = {tuple(row["categories"]): row["done"] for row in rows}
        assert sorted(took) == [("assess",), ("build",), ("fit",), ("reference",), ("select",)]
        assert len(rows) == 6, "the array has two pilots"
        assert all(took.values()), took
    finally:
        place.run("worker", "stop")
    wait_for(lambda: place.json("worker", "list") == [], 120.0, what="the end of all pilots")
    for path in sites.values():
        assert not list((path / "spool").iterdir()), "nothing was left undelivered"
        uri = read_uri(path)
        found = [f for f in path.rglob("*") if f.is_file() and uri in f.read_text(errors="replace")]
        assert found == [path / "my_launchpad.yaml"], "no script and no log shows the database"
        assert stat.S_IMODE(found[0].stat().st_mode) == 0o600
    for file in scheduler.iterdir():
        assert uri not in file.read_text(errors="replace")


def test_reserved_fireworks_run_as_one_job_each(queue, scheduler, tmp_path) -> None:
    """`qlaunch -r` with FireWorks' own `rlaunch` inside: the reservations are left alone, and done once."""
    for number in range(3):
        queue.add_wf(Firework(Nothing(), name=f"n{number}"))
    site = write_site(tmp_path / "site", Site(scheduler="slurm", name="test", setup=(SETUP,)), queue.uri)
    reserve = ["-q", "my_qadapter_reserve.yaml", "-r"]
    qlaunch(site, *reserve, "singleshot")
    said = qlaunch(site, *reserve, "rapidfire", "--nlaunches", "2", "-m", "50")
    assert "jobs in queue" in said, "it asked squeue"
    reserved = list(queue.launches.find({"state": {"$in": ["RESERVED", "RUNNING"]}}))
    assert reap(queue).quiet, "a job may wait for days in a scheduler's queue"
    wait_for(
        lambda: set(states(queue).values()) == {"COMPLETED"},
        120.0,
        what=f"three jobs ({len(reserved)} reserved)",
    )
    for firework in queue.fireworks.find():
        completed_once(queue, firework["fw_id"])
        launch = queue.launches.find_one({"launch_id": firework["launches"][0]})
        history = {entry["state"]: entry for entry in launch["state_history"]}
        assert history["RESERVED"]["reservation_id"] in {"100", "101", "102"}
        assert Path(launch["launch_dir"]).is_relative_to(site / "jobs")
    check_consistent(queue)


def test_a_refused_job_says_so(tmp_path, scheduler, database_uri) -> None:
    from gapfactory.errors import ServiceError

    site = write_site(tmp_path / "site", Site(scheduler="slurm"), database_uri)
    adapter = site / "my_qadapter.yaml"
    adapter.write_text(adapter.read_text() + "qos: unknown\n")
    with pytest.raises(ServiceError, match="took no job: invalid directive: #SBATCH --qos=unknown"):
        submit_pilots(site, 3)
    assert not list(scheduler.glob("*.job"))
    adapter.write_text(adapter.read_text() + "_q_commands_override: {submit_cmd: absent-sbatch}\n")
    with pytest.raises(ServiceError, match="No such file or directory: 'absent-sbatch'"):
        submit_pilots(site, 1)
    assert stat.S_IMODE((site / "my_launchpad.yaml").stat().st_mode) == 0o600
