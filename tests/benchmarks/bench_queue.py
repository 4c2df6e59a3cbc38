"""Overhead of the queue per task: time and database commands, ours and FireWorks' own, with tasks preloaded.

Run as ``python tests/benchmarks/bench_queue.py [--tasks 300] [--preload 0 1000 10000] [--stock]``; prints one JSON line
per measurement. The database is the embedded server on a temporary directory unless ``--uri`` names another.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "queue"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import pymongo.monitoring
from conftest import with_database
from fireworks import Firework, LaunchPad
from fireworks.core.fworker import FWorker
from fireworks.core.rocket_launcher import launch_rocket
from queue_help import ALLOWED, run_one
from queue_tasks import Nothing

from launchpad.queue import Queue
from launchpad.queue.guard import AllowList


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


def preload(queue: Queue, number: int) -> None:
    """Add single-task workflows, written in bulk as their documents."""
    first = queue.get_new_fw_id(quantity=number)
    fireworks, workflows = [], []
    for fw_id in range(first, first + number):
        document = Firework(
            Nothing(), fw_id=fw_id, state="READY", name="no-op", spec={"_priority": -1}
        ).to_db_dict()
        fireworks.append(document)
        workflows.append(
            {
                "nodes": [fw_id],
                "links": {str(fw_id): []},
                "parent_links": {},
                "metadata": {},
                "state": "READY",
                "name": "no-op",
                "created_on": document["created_on"],
                "updated_on": document["updated_on"],
                "fw_states": {str(fw_id): "READY"},
            }
        )
    for start in range(0, number, 1000):
        queue.workflows.insert_many(workflows[start : start + 1000])
        queue.fireworks.insert_many(fireworks[start : start + 1000])


def measure(uri: str, loaded: int, tasks: int, commands: Commands, *, stock: bool) -> dict[str, object]:
    """Time tasks one after the other in one process."""
    with Queue.from_uri(uri, allowed=AllowList(ALLOWED)) as queue:
        preload(queue, loaded + tasks + 3)
        worker = FWorker(name="bench")
        if stock:
            name = uri.partition("?")[0].rsplit("/", 1)[1]
            pad = LaunchPad(host=uri, name=name, uri_mode=True, strm_lvl="CRITICAL")

            def one() -> object:
                return launch_rocket(pad, worker, strm_lvl="CRITICAL")
        else:

            def one() -> object:
                return run_one(queue)

        for _ in range(3):
            one()
        commands.names.clear()
        began = time.perf_counter()
        for _ in range(tasks):
            assert one()
        seconds = time.perf_counter() - began
        per_task = {name: round(count / tasks, 2) for name, count in sorted(commands.names.items())}
        return {
            "launcher": "fireworks" if stock else "gapfactory",
            "preloaded": loaded,
            "tasks": tasks,
            "ms_per_task": round(1000 * seconds / tasks, 2),
            "commands_per_task": round(sum(commands.names.values()) / tasks, 2),
            "by_command": per_task,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--preload", type=int, nargs="*", default=[0, 1000, 10_000])
    parser.add_argument("--stock", action="store_true", help="also FireWorks' own launcher")
    parser.add_argument("--uri")
    arguments = parser.parse_args()
    commands = Commands()
    pymongo.monitoring.register(commands)
    from launchpad.embedded import ensure_running, stop

    place = Path(tempfile.mkdtemp(prefix="gfq-"))
    uri = arguments.uri or ensure_running(place)
    os.chdir(tempfile.mkdtemp(prefix="gfq-"))
    import logging

    logging.getLogger("rocket.launcher").disabled = True
    try:
        for loaded in arguments.preload:
            for stock in (False, True)[: 1 + arguments.stock]:
                database = with_database(uri, f"bench_{uuid.uuid4().hex[:8]}")
                row = measure(database, loaded, arguments.tasks, commands, stock=stock)
                sys.stdout.write(json.dumps(row) + "\n")
                sys.stdout.flush()
    finally:
        if arguments.uri is None:
            stop(place)


if __name__ == "__main__":
    main()
