"""Overhead of the queue per task, and whether it grows with the number of tasks stored beside.

    python tests/benchmarks/bench_queue.py [--tasks 300] [--preload 1000 10000 100000] [--history] [--stock] [--reaper]

Every size has its own database server, filled beforehand with so many single-task workflows: waiting (READY), or
with ``--history`` COMPLETED with their launches. Then blocks of a few empty tasks are timed in one process, all sizes
by turns in a random order, so that other work on the machine meets all of them alike; a row gives medians per task.
With ``--reaper`` a second process makes one pass of the reaper during each block (in life: one in two seconds),
every tenth of them deep, and the cost of a pass is reported too.

Prints one JSON line per launcher and size. The database is the embedded server on temporary directories; ``--uri``
names another server, in which databases are made and dropped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "queue"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import pymongo.monitoring
from fireworks import Firework, FWAction, Launch, LaunchPad, Workflow
from fireworks.core.fworker import FWorker
from fireworks.core.rocket_launcher import launch_rocket
from queue_help import ALLOWED, run_one
from queue_tasks import Nothing

from launchpad.embedded import ensure_running, status, stop
from launchpad.queue import Queue
from launchpad.queue.guard import AllowList

if TYPE_CHECKING:
    from collections.abc import Callable

    from fireworks import FiretaskBase

_BLOCK = 10
_DEEP_EVERY = 10


class Commands(pymongo.monitoring.CommandListener):
    """Counts commands by name."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()

    def started(self, event):
        self.names[event.command_name] += 1

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def preload(queue: Queue, number: int, state: str, task: FiretaskBase | None = None) -> None:
    """Add single-task workflows, written in bulk as the documents that FireWorks would write."""
    if not number:
        return
    first = queue.get_new_fw_id(quantity=number)
    launch = queue.fw_id_assigner.find_one_and_update({}, {"$inc": {"next_launch_id": number}})[
        "next_launch_id"
    ]
    worker = FWorker(name="gapfactory@elsewhere")
    fireworks, workflows, launches = [], [], []
    for fw_id in range(first, first + number):
        document = Firework(task or Nothing(), fw_id=fw_id, state=state, name="no-op").to_db_dict()
        document["spec"]["_priority"] = -1  # behind the tasks that are timed
        if state == "COMPLETED":
            document["launches"] = [launch + fw_id - first]
            done = Launch(
                state, "/nowhere", worker, "elsewhere", "10.0.0.1", launch_id=launch + fw_id - first
            )
            done.fw_id, done.action = fw_id, FWAction(stored_data={"x": None})
            launches.append(done.to_db_dict())
        fireworks.append(document)
        workflows.append(
            {
                "nodes": [fw_id],
                "links": {str(fw_id): []},
                "parent_links": {},
                "metadata": {},
                "state": state,
                "name": "no-op",
                "created_on": document["created_on"],
                "updated_on": document["updated_on"],
                "fw_states": {str(fw_id): state},
            }
        )
    for start in range(0, number, 1000):
        for collection, documents in (
            (queue.workflows, workflows),
            (queue.launches, launches),
            (queue.fireworks, fireworks),
        ):
            if documents:
                collection.insert_many(documents[start : start + 1000])


@dataclass
class Case:
    """One size: its server, its queue, and what was measured."""

    loaded: int
    uri: str
    place: Path | None
    pid: int | None
    queue: Queue
    launchers: dict[str, Callable[[], object]]
    reaper: subprocess.Popen[str] | None = None
    wall: dict[str, list[float]] = field(default_factory=dict)
    server: dict[str, float] = field(default_factory=dict)
    client: dict[str, float] = field(default_factory=dict)
    commands: dict[str, Counter[str]] = field(default_factory=dict)
    passes: dict[str, list[float]] = field(default_factory=lambda: {"shallow": [], "deep": []})

    def server_seconds(self) -> float:
        """Return the CPU time that the server has used."""
        if self.pid is None:
            return float("nan")
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def block(self, launcher: str, commands: Commands, number: int, *, deep: bool) -> None:
        """Time a few tasks, with one pass of the reaper beside them if there is one."""
        one = self.launchers[launcher]
        if self.reaper is not None:
            assert self.reaper.stdin is not None
            self.reaper.stdin.write("deep\n" if deep else "shallow\n")
            self.reaper.stdin.flush()
        commands.names.clear()
        used, client = self.server_seconds(), time.process_time()
        for _ in range(number):
            began = time.perf_counter()
            assert one()
            self.wall.setdefault(launcher, []).append(time.perf_counter() - began)
        self.client[launcher] = self.client.get(launcher, 0.0) + time.process_time() - client
        self.commands.setdefault(launcher, Counter()).update(commands.names)
        if self.reaper is not None:
            assert self.reaper.stdout is not None
            self.passes["deep" if deep else "shallow"].append(float(self.reaper.stdout.readline()))
        self.server[launcher] = self.server.get(launcher, 0.0) + self.server_seconds() - used

    def row(self, launcher: str, stored: str) -> dict[str, Any]:
        """Return the figures of one launcher."""
        times = sorted(self.wall[launcher])
        tasks = len(times)
        quartiles = statistics.quantiles(times, n=4) if tasks > 1 else [times[0]] * 3
        row: dict[str, Any] = {
            "launcher": launcher,
            "preloaded": self.loaded,
            "stored": stored,
            "tasks": tasks,
            "ms_per_task": round(1000 * statistics.median(times), 2),
            "quartiles_ms": [round(1000 * quartiles[0], 2), round(1000 * quartiles[2], 2)],
            "mean_ms": round(1000 * statistics.fmean(times), 2),
            "longest_ms": round(1000 * times[-1], 1),
            "server_cpu_ms": round(1000 * self.server[launcher] / tasks, 2),
            "client_cpu_ms": round(1000 * self.client[launcher] / tasks, 2),
            "commands_per_task": round(sum(self.commands[launcher].values()) / tasks, 2),
            "by_command": {k: round(v / tasks, 2) for k, v in sorted(self.commands[launcher].items())},
        }
        for name, seconds in self.passes.items():
            if seconds:
                row[f"reaper_{name}_pass_ms"] = round(1000 * statistics.median(seconds), 1)
        return row


def stock_launcher(uri: str) -> Callable[[], object]:
    """Return a function that runs one task by FireWorks' own launcher."""
    pad = LaunchPad(
        host=uri, name=uri.partition("?")[0].rsplit("/", 1)[1], uri_mode=True, strm_lvl="CRITICAL"
    )
    worker = FWorker(name="bench")
    return lambda: launch_rocket(pad, worker, strm_lvl="CRITICAL")


def prepare(loaded: int, arguments: argparse.Namespace) -> Case:
    """Start a server, fill it, and warm it up."""
    from conftest import with_database

    place = None if arguments.uri else Path(tempfile.mkdtemp(prefix="gfq-"))
    uri = with_database(arguments.uri or ensure_running(place or ""), f"bench_{uuid.uuid4().hex[:8]}")
    queue = Queue.from_uri(uri, allowed=AllowList(ALLOWED))
    if not arguments.one_workflow:
        preload(queue, loaded, "COMPLETED" if arguments.history else "READY")
    launchers: dict[str, Callable[[], object]] = {"gapfactory": lambda: run_one(queue)}
    if arguments.stock:
        launchers["fireworks"] = stock_launcher(uri)
    needed = (arguments.tasks + 3) * len(launchers)
    timed = [Firework(Nothing(), name="timed", spec={"_priority": 1}) for _ in range(needed)]
    if arguments.one_workflow:
        timed += [Firework(Nothing(), name="no-op") for _ in range(loaded - needed)]
        queue.add_wf(Workflow([*timed, Firework(Nothing(), name="last", parents=timed)]))
    else:
        queue.bulk_add_wfs(timed)
    case = Case(loaded, uri, place, status(place).pid if place else None, queue, launchers)
    if arguments.reaper:
        case.reaper = subprocess.Popen(
            [sys.executable, __file__, "--pass-on-request", uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    for one in launchers.values():
        for _ in range(3):
            assert one()
    return case


def pass_on_request(uri: str) -> None:
    """Make a pass of the reaper for each line on the standard input, and answer with its seconds."""
    from launchpad.queue.reaper import reap

    with Queue.from_uri(uri) as queue:
        for line in sys.stdin:
            began = time.perf_counter()
            reap(queue, deep=line.strip() == "deep")
            sys.stdout.write(f"{time.perf_counter() - began}\n")
            sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=300, help="timed tasks per size and launcher")
    parser.add_argument("--preload", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--history", action="store_true", help="stored tasks are COMPLETED instead of READY")
    parser.add_argument(
        "--one-workflow", action="store_true", help="so many tasks are in one workflow instead"
    )
    parser.add_argument("--stock", action="store_true", help="also FireWorks' own launcher")
    parser.add_argument("--reaper", action="store_true", help="a pass of the reaper beside each block")
    parser.add_argument("--uri", help="another server; databases are made in it and dropped")
    parser.add_argument("--pass-on-request", metavar="URI", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pass_on_request:
        pass_on_request(arguments.pass_on_request)
        return
    logging.getLogger("rocket.launcher").disabled = True
    commands = Commands()
    pymongo.monitoring.register(commands)
    os.chdir(tempfile.mkdtemp(prefix="gfq-"))
    cases: list[Case] = []
    order = random.Random(1)
    try:
        cases += [prepare(loaded, arguments) for loaded in arguments.preload]
        launchers = list(cases[0].launchers) if cases else []
        for done in range(0, arguments.tasks, _BLOCK):
            for case in order.sample(cases, len(cases)):
                for launcher in launchers:
                    number = min(_BLOCK, arguments.tasks - done)
                    case.block(launcher, commands, number, deep=done // _BLOCK % _DEEP_EVERY == 0)
        for case in cases:
            for launcher in launchers:
                stored = "history" if arguments.history else "waiting"
                row = case.row(launcher, "one workflow" if arguments.one_workflow else stored)
                sys.stdout.write(json.dumps(row) + "\n")
    finally:
        for case in cases:
            if case.reaper is not None:
                case.reaper.communicate()
            if case.place is None:
                case.queue.connection.drop_database(case.queue.db.name)
            case.queue.close()
            if case.place is not None:
                stop(case.place)


if __name__ == "__main__":
    main()
