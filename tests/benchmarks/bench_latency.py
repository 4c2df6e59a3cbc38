"""Throughput of many workers far from the database: 64 workers, 50 ms per round trip, tasks of 2 s.

    python tests/benchmarks/bench_latency.py [--workers 64] [--latency-ms 50] [--seconds 2] [--each 6] [--repeat 3]

An embedded server with a password on loopback, a proxy in front of it that delays every byte (half of the latency in
each direction), and real worker processes under a real supervisor that reach it through the proxy only. The tasks
appear when all workers are there and idle. A cycle is the time between the starts of two tasks of one worker; its
median over all workers gives the throughput without the uneven end of the run.

What the latency allows is found by one worker alone: its cycle with and without latency tells how many round trips
one after the other a task costs, and what else it costs. Prints one JSON line per run, then the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_queue import preload
from conftest import with_database
from gf_proxy import Remote, through
from gf_sleep import Sleep

from launchpad.embedded import ensure_running, status, stop
from launchpad.queue import Queue
from launchpad.workers.settings import WorkerSettings
from launchpad.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Site:
    """Where things are: the server, the link to it, and the processes to account for."""

    uri: str
    server: int
    proxy: int
    address: str
    link: Remote


def cpu(pid: int) -> float:
    """Return the CPU time of a process so far (s)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wait(condition: Callable[[], bool], tick: Callable[[], object], seconds: float, what: str) -> None:
    """Tick until a condition holds.

    Raises
    ------
    SystemExit
        It does not within the time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds:g} s")
        tick()
        time.sleep(0.2)


def cycles(queue: Queue, skip: int) -> list[float]:
    """Return the seconds between successive starts of tasks of each worker, without its first `skip` ones."""
    starts: dict[int, list[float]] = {}
    for launch in queue.launches.find({}, {"time_start": 1, "process.pid": 1}):
        moment = datetime.fromisoformat(launch["time_start"]).timestamp()
        starts.setdefault(launch["process"]["pid"], []).append(moment)
    return [b - a for times in starts.values() for a, b in list(pairwise(sorted(times)))[skip:]]


def _load(queue: Queue, site: Site, supervisor: Supervisor, seconds: float) -> dict[str, float]:
    """Return what idle workers ask of the server."""

    def sample() -> tuple[float, float, int]:
        counters = queue.connection.admin.command("serverStatus")["opcounters"]
        return time.monotonic(), cpu(site.server), sum(counters.values())

    first = sample()
    wait(lambda: time.monotonic() - first[0] > seconds, supervisor.tick, 2 * seconds, "waiting")
    last = sample()
    wall = last[0] - first[0]
    return {
        "commands_per_s": round((last[2] - first[2]) / wall, 1),
        "server_cores": round((last[1] - first[1]) / wall, 3),
    }


def run(site: Site, workers: int, latency_ms: float, seconds: float, each: int) -> dict[str, Any]:
    """Let workers do `each` tasks each and return what was seen."""
    uri = with_database(site.uri, f"bench_{uuid.uuid4().hex[:8]}")
    site.link.set(latency_ms=latency_ms / 2)
    scratch = Path(tempfile.mkdtemp(prefix="gfl-"))
    supervisor = Supervisor(
        through(uri, site.address),
        workers,
        scratch=scratch,
        worker_settings=WorkerSettings(allowed=("gf_sleep.*",)),
        environment={"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])},
    )
    with Queue.from_uri(uri) as queue, supervisor:
        living = {"kind": "worker", "state": "idle"}
        wait(
            lambda: queue.workers.count_documents(living) == workers, supervisor.tick, 180, "start of workers"
        )
        idle = _load(queue, site, supervisor, 4.0)
        before = queue.connection.admin.command("serverStatus")["opcounters"]
        pids = supervisor.pids
        used = cpu(site.server), cpu(site.proxy), sum(map(cpu, pids)), time.process_time()
        total = workers * each
        began = time.monotonic()
        preload(queue, total, "READY", Sleep(seconds=seconds))
        done = {"state": "COMPLETED"}
        limit = 60.0 + 4 * each * (seconds + 1)
        wait(lambda: queue.workflows.count_documents(done) == total, supervisor.tick, limit, "end of tasks")
        wall = time.monotonic() - began
        now = cpu(site.server), cpu(site.proxy), sum(map(cpu, pids)), time.process_time()
        counters = queue.connection.admin.command("serverStatus")
        after = counters["opcounters"]
        found = cycles(queue, skip=1)
        assert queue.launches.count_documents({}) == total  # nothing ran twice
        queue.connection.drop_database(queue.db.name)
    shares = [round((b - a) / wall, 3) for a, b in zip(used, now, strict=True)]
    cycle = statistics.median(found)
    return {
        "workers": workers,
        "latency_ms": latency_ms,
        "task_s": seconds,
        "tasks": total,
        "wall_s": round(wall, 2),
        "cycle_s": round(cycle, 4),
        "cycle_95_s": round(statistics.quantiles(found, n=20)[-1], 4),
        "tasks_per_s": round(len(found) * workers / sum(found) if workers > 1 else 1 / cycle, 3),
        "commands_per_s": round((sum(after.values()) - sum(before.values())) / wall, 1),
        "connections": counters["connections"]["current"],
        "idle": idle,
        "cores": dict(zip(("server", "proxy", "workers", "this process"), shares, strict=True)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=50.0, help="of a round trip")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a task")
    parser.add_argument("--each", type=int, default=6, help="tasks per worker")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.seconds <= 0 or arguments.latency_ms <= 0:
        parser.error("--seconds and --latency-ms must be above zero")
    place, control = Path(tempfile.mkdtemp(prefix="gfl-")), Path(tempfile.mkdtemp(prefix="gfl-")) / "link"
    uri = ensure_running(place, port=0)
    target = uri.rpartition("@")[2].partition("/")[0]
    command = [sys.executable, str(HERE.parent / "gf_proxy.py"), "--to", target, "--control", str(control)]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert proxy.stdout is not None
        address = proxy.stdout.readline().strip()
        site = Site(uri, status(place).pid or 0, proxy.pid, address, Remote(control))
        near = run(site, 1, 0.0, 0.2, 25)
        far = run(site, 1, arguments.latency_ms, 0.2, 25)
        trips = (far["cycle_s"] - near["cycle_s"]) / (arguments.latency_ms / 1000)
        rest = near["cycle_s"] - 0.2
        runs = [
            run(site, arguments.workers, arguments.latency_ms, arguments.seconds, arguments.each)
            for _ in range(arguments.repeat)
        ]
        for row in (near, far, *runs):
            sys.stdout.write(json.dumps(row) + "\n")
        ideal = arguments.workers / arguments.seconds
        allowed = arguments.workers / (arguments.seconds + round(trips) * arguments.latency_ms / 1000)
        measured = statistics.median(row["tasks_per_s"] for row in runs)
        summary = {
            "round_trips_per_task": round(trips, 2),
            "other_ms_per_task_of_one_worker": round(1000 * rest, 1),
            "tasks_per_s": measured,
            "without_latency": round(ideal, 2),
            "share_of_that": round(measured / ideal, 3),
            "latency_allows": round(allowed, 2),
            "share_of_what_latency_allows": round(measured / allowed, 3),
        }
        sys.stdout.write(json.dumps(summary) + "\n")
    finally:
        proxy.terminate()
        proxy.wait(10)
        stop(place)


if __name__ == "__main__":
    main()
