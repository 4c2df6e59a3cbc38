"""Pilot jobs through a real SLURM of one node (munge, slurmctld, slurmd on loopback), where it is installed."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
MISSING = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]

pytestmark = [
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"no SLURM here: {', '.join(MISSING)} not found"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd starts jobs as root only"),
]

ROOT = Path(__file__).resolve().parents[3]

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={first}
SlurmdPort={second}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def wait_for(condition, seconds: float, what: str):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.5)  # the questions take a core from the pilots


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def slurm(monkeypatch):
    """Start munge, slurmctld and slurmd; stop them in the end."""
    place = Path(tempfile.mkdtemp(prefix="gfs-"))
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    first, second = free_ports(2)
    host = socket.gethostname().split(".")[0]
    conf = place / "slurm.conf"
    conf.write_text(CONFIGURATION.format(place=place, host=host, first=first, second=second))
    monkeypatch.setenv("SLURM_CONF", str(conf))
    for name in ("state", "spool"):
        (place / name).mkdir()
    key = place / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(32))
    files = [f"--{word}={place}/munge.{word[:3]}" for word in ("pid-file", "log-file", "seed-file")]
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={place}/munge.socket", *files],
        ["slurmctld", "-D", "-c", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (place / "daemons.log").open("ab") as log:
            for command in daemons:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
                if command[0] == "munged":
                    wait_for((place / "munge.socket").exists, 30, "munge")
        ask = ["sinfo", "-h", "-o", "%T"]
        wait_for(
            lambda: subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout.strip() == "idle",
            60,
            "an idle node",
        )
        yield place
        if output("squeue", "-h").strip():
            output("scancel", "-u", "root")
            wait_for(lambda: not output("squeue", "-h").strip(), 120, "the end of all jobs")
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        shutil.rmtree(place, ignore_errors=True)


def test_pilots_of_a_real_slurm_run_a_campaign(place, tiny, first_digests, slurm) -> None:
    """A job array of ours and a pilot of `qlaunch` run a campaign to the digest of local workers; `scancel` drains."""
    environment = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    place.write("tiny.yaml", tiny())
    place.good("campaign", "submit", "tiny.yaml")
    setup = f"export PYTHONPATH={shlex.quote(str(ROOT))}"
    place.good(
        *("site", "init", "-s", "slurm", "--name", "real", "-q", "main", "--memory-gb", "1"),
        *("--walltime", "01:00:00", "--idle-minutes", "30", "--setup", setup),
    )
    site = place.directory / "real"
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "qlaunch"),
            "--launch_dir",
            "jobs",
            "rapidfire",
            "-m",
            "2",
            "--nlaunches",
            "1",
        ],
        cwd=site,
        env=place.environment | environment | {"HOME": str(site), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 jobs in queue" in done.stdout + done.stderr
    said = json.loads(place.good("site", "submit", "real", "--pilots", "2", "--json", **environment))
    assert len(said["jobs"]) == 1
    wait_for(lambda: len(output("squeue", "-h", "-r", "-t", "R").splitlines()) == 3, 60, "three running jobs")

    state = lambda: place.json("campaign", "status", "tiny")["state"]  # noqa: E731
    wait_for(lambda: state() not in {"submitted", "running"}, 240, "the end of the campaign")
    printed = "\n".join(path.read_text() for path in site.glob("jobs/**/pilot-*.out"))
    assert state() == "done", printed
    assert place.json("campaign", "digest", "tiny") == first_digests
    assert len([row for row in place.json("worker", "list") if row["kind"] == "worker"]) == 3

    # SIGTERM reaches supervisor and workers: they say goodbye instead of being found dead
    output("scancel", "--user", "root")
    wait_for(lambda: place.json("worker", "list") == [], 120, "the end of all workers")
    wait_for(lambda: not output("squeue", "-h").strip(), 120, "an empty queue")
    logs = [path.read_text() for path in site.glob("logs/*/worker-0.log")]
    assert len(logs) == 3
    assert all("draining" in log for log in logs)


def test_a_killed_job_of_a_real_slurm_gives_its_task_back_in_seconds(place, slurm, tmp_path) -> None:
    """SIGKILL for everything in the job: `squeue` tells that it is gone, long before the lease is over."""
    from fireworks import Firework
    from queue_tasks import Note

    from launchpad.queue import Queue
    from launchpad.sites import read_uri
    from launchpad.sites.inquiry import Inquiry
    from launchpad.sites.write import read_identity

    environment = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    setup = f"export PYTHONPATH={shlex.quote(f'{ROOT}:{Path(__file__).parent}')}"
    place.good(
        *("site", "init", "-s", "slurm", "--name", "real", "-q", "main", "--memory-gb", "1"),
        *("--walltime", "01:00:00", "--allow", "queue_tasks.*", "--setup", setup),
    )
    site = place.directory / "real"
    note = tmp_path / "note"
    with Queue.from_uri(read_uri(site)) as queue:
        queue.add_wf(Firework(Note(file=str(note), sleep=600.0), name="long"))
        job = json.loads(place.good("site", "submit", "real", "--json", **environment))["jobs"][0]
        wait_for(note.exists, 60, "the task")
        launch = queue.launches.find_one({"state": "RUNNING"})
        assert launch["process"]["job"]["id"] == job
        assert launch["process"]["job"]["where"] == f"site:{read_identity(site)[1]}"
        # as seen from another machine
        queue.launches.update_one(
            {"launch_id": launch["launch_id"]}, {"$set": {"process.node": "another-boot/pid:[1]"}}
        )
        inquiry = Inquiry("slurm", f"site:{read_identity(site)[1]}", every_s=0.001)
        assert inquiry.at_once(queue) == ()
        began = time.monotonic()
        pids = [entry["pid"] for entry in queue.workers.find()]
        output("scancel", "--signal=KILL", "--full", job)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: inquiry.at_once(queue), 60, "the end of the job")
        assert time.monotonic() - began < 30.0
        assert queue.fireworks.find_one({"name": "long"})["state"] == "READY"
        again = json.loads(place.good("site", "submit", "real", "--json", **environment))["jobs"][0]
        wait_for(lambda: note.read_text().count("begin") == 2, 60, "the second try")
        output("scancel", "--signal=KILL", "--full", again)
        for entry in queue.workers.find({"state": {"$ne": "stopped"}}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry["pid"], signal.SIGKILL)
