"""Campaigns that are interrupted, killed, cancelled or run twice end in the same bits as the undisturbed one."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = ("campaign", "run", "tiny.yaml", "--workers", "2", "--no-report")
LIMIT_S = 240.0


def wait_for(what, process=None) -> None:
    """Wait until a condition holds; a process that ends before is looked at once more."""
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end, "what was waited for did not happen"
        assert process is None or process.poll() is None or what(), "the run was over before"
        time.sleep(0.1)


def tasks_done(place) -> int:
    """Return how many tasks the log has seen completed."""
    lines = [line for line in place.log().splitlines() if " tasks, " in line]
    return int(lines[-1].split(": ", 1)[1].split("/")[0]) if lines else -1


def end_of(process) -> int:
    return process.wait(LIMIT_S)


def worker_pids(place) -> list[int]:
    """Return the worker processes whose scratch is in this place's data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and b"launchpad.workers" in (entry / "cmdline").read_bytes()
                and str((entry / "cwd").readlink()).startswith(str(place.data))
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.long
def test_interrupted_killed_and_cancelled(place, tiny, first_digests) -> None:
    """One campaign meets Ctrl-C, the loss of its database without anybody to restart it, and `cancel`."""
    place.write("tiny.yaml", tiny())

    process = place.start(*RUN)
    wait_for(lambda: tasks_done(place) >= 1, process)
    os.kill(process.pid, signal.SIGINT)
    assert end_of(process) == 130, place.log()
    assert "the same command goes on where it stopped" in place.log()
    assert "Traceback" not in place.log()
    wait_for(lambda: not worker_pids(place))
    states = place.json("campaign", "status", "tiny")
    assert states["state"] in {"submitted", "running"}

    # everything of the run dies at once, the server too: nobody is there to restart it
    process = place.start(*RUN)
    before = tasks_done(place)
    wait_for(lambda: worker_pids(place) or tasks_done(place) > before, process)
    # in the middle of its first work, if that can be seen; what is left of the campaign takes a few seconds only
    soon = time.monotonic() + 1.0
    while time.monotonic() < soon and tasks_done(place) <= before:
        time.sleep(0.02)
    workers = worker_pids(place)
    server = place.server_pid()
    for pid in (process.pid, *workers, server):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert place.json("db", "status")["running"] is False

    stopped = place.good("campaign", "cancel", "tiny")
    assert "cancelled" in stopped
    refusal = place.run(*RUN)
    assert refusal.returncode == 1
    assert "campaign resume tiny --run" in refusal.stdout
    assert place.json("db", "check") == {"findings": []}
    done = place.good("campaign", "resume", "tiny", "--run", "--workers", "2")
    assert "report:" in done
    assert place.json("campaign", "digest", "tiny") == first_digests


def test_asked_again_to_stop_it_waits_for_nobody(place) -> None:
    """A task of half an hour would have its 30 s; who is in a hurry says so twice."""
    cells = (
        "schedule: {initial_cells: 100000, cells_per_generation: 100000}\nexecution: {build_chunk: 100000}\n"
    )
    place.write("long.yaml", f"preset: quickstart-Si-analytic\nname: long\nseed: 3\n{cells}")
    process = place.start("campaign", "run", "long.yaml", "--workers", "1")
    worker = place.data / "scratch" / "logs" / "worker-0.log"
    wait_for(lambda: worker.exists() and "build-000000" in worker.read_text(), process)
    os.kill(process.pid, signal.SIGTERM)
    wait_for(lambda: "stopping: the workers finish" in place.log(), process)
    assert worker_pids(place)
    os.kill(process.pid, signal.SIGTERM)
    begin = time.monotonic()
    assert end_of(process) == 130, place.log()
    assert time.monotonic() - begin < 20.0
    assert not worker_pids(place)
    assert "Traceback" not in place.log()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB and a function that enlarges it; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.long
def test_full_scratch(place, tiny, first_digests, small_disk) -> None:
    """A task that finds no space is tried again, the reason is shown, and space is all that is needed to go on."""
    disk, enlarge = small_disk
    place.environment["GAPFACTORY_SCRATCH"] = str(disk)
    # as if the disk had filled up while the task ran
    settings = place.write(
        "settings.yaml", "worker: {min_free_mb: 0}\nqueue: {transient_delays_s: [5, 30, 120]}\n"
    )
    place.environment["GAPFACTORY_SETTINGS"] = str(settings)
    place.write("tiny.yaml", tiny())
    process = place.start(*RUN)
    wait_for(lambda: "is tried again" in place.log(), process)
    assert "No space left on device" in place.log()
    found = place.json("campaign", "why", "tiny")
    assert found["failed_tasks"] == []
    enlarge()
    assert end_of(process) == 0, place.log()
    assert "Traceback" not in place.log()
    assert place.json("campaign", "digest", "tiny") == first_digests


@pytest.mark.long
def test_workers_without_room_say_so_and_go_on_when_there_is(place, tiny, first_digests, small_disk) -> None:
    disk, enlarge = small_disk
    place.environment["GAPFACTORY_SCRATCH"] = str(disk)
    place.write("tiny.yaml", tiny())
    process = place.start(*RUN)
    wait_for(lambda: "workers take nothing until there are 100" in place.log(), process)
    wait_for(
        lambda: any("take nothing" in line for line in place.json("campaign", "why", "tiny")["advice"]),
        process,
    )
    enlarge()
    assert end_of(process) == 0, place.log()
    assert place.json("campaign", "digest", "tiny") == first_digests


@pytest.mark.long
def test_two_runs_at_once_and_a_full_disk(place, tiny, first_digests) -> None:
    """Two `run` of one file share the work; the server's file size limit stands in for a full disk."""
    place.write("tiny.yaml", tiny())
    both = [place.start(*RUN, log="out.log"), place.start(*RUN, log="other.log")]
    wait_for(lambda: tasks_done(place) >= 1, both[0])
    pid = place.server_pid()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in place.data.iterdir() if path.is_file())
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, hard))
    try:
        wait_for(lambda: "Free space" in place.log() + (place.directory / "other.log").read_text())
        assert all(process.poll() is None for process in both), "a run ended because the disk was full"
        full = place.run("campaign", "cancel", "tiny")
        assert full.returncode == 1
        assert "Free space on the file system" in " ".join(full.stderr.replace("│", " ").split())
        assert "Traceback" not in full.stderr
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert [end_of(process) for process in both] == [0, 0], place.log()
    assert place.json("campaign", "digest", "tiny") == first_digests
    assert place.json("db", "check") == {"findings": []}
