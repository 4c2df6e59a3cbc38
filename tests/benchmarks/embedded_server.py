"""Measure the embedded server: commands per second, queries at 10^5 documents, memory, restart.

    python tests/benchmarks/embedded_server.py [--documents 100000]

Times are wall clock seen by one pymongo client; "server" is the CPU time the server itself used, which a
busy machine does not change.
"""
# ruff: noqa: T201 - a script that prints its result

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from launchpad.embedded import ensure_running, status, stop

if TYPE_CHECKING:
    from collections.abc import Callable

STATES = ("READY", "COMPLETED", "WAITING", "FIZZLED")
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """Return the seconds of CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(name: str, pid: int, repeat: int, action: Callable[[int], Any]) -> None:
    """Time an action and print it."""
    used, start = cpu(pid), time.perf_counter()
    for i in range(repeat):
        action(i)
    wall, used = (time.perf_counter() - start) / repeat, (cpu(pid) - used) / repeat
    print(f"{name:58s} {wall * 1e3:10.3f} ms wall {used * 1e3:10.3f} ms server")


def document(i: int, rng: random.Random) -> dict[str, Any]:
    """Return something like a Firework."""
    return {
        "fw_id": i,
        "state": rng.choice(STATES),
        "created_on": f"2026-{i:08d}",
        "updated_on": f"2026-{rng.random()}",
        "name": f"n{i % 50}",
        "launches": [i] if i % 2 else [],
        "spec": {
            "_priority": i % 5,
            "_category": "relax",
            "_tasks": [{"_fw_name": "x", "p": list(range(10))}],
        },
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    total = parser.parse_args().documents
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="embedded-benchmark-") as name:
        data = Path(name) / "db"
        client: MongoClient[dict[str, Any]] = MongoClient(ensure_running(data))
        pid = status(data).pid or 0
        rows = client.get_default_database().fireworks
        rows.create_index("fw_id", unique=True)
        for key in ("state", "spec._category", "created_on", "updated_on", "name", "launches"):
            rows.create_index(key)
        rows.create_index([("state", 1), ("_id", 1)])
        rows.create_index([("state", 1), ("spec._priority", -1), ("created_on", 1)])
        batches = total // 1000
        measure(
            "insert_many of 1000 documents, 10 indexes",
            pid,
            batches,
            lambda i: rows.insert_many([document(i * 1000 + k, rng) for k in range(1000)]),
        )
        free = {"$or": [{"spec._fworker": {"$exists": False}}, {"spec._fworker": "here"}]}
        order = [("spec._priority", -1), ("created_on", 1)]
        measure(
            "find_one by indexed field", pid, 2000, lambda i: rows.find_one({"fw_id": rng.randrange(total)})
        )
        measure(
            "update_one by indexed field (one fsync each)",
            pid,
            1000,
            lambda i: rows.update_one(
                {"fw_id": rng.randrange(total)}, {"$set": {"state": rng.choice(STATES)}}
            ),
        )
        measure(
            "FireWorks' checkout (find_one_and_update with sort)",
            pid,
            200,
            lambda i: rows.find_one_and_update(
                {"state": "READY", **free}, {"$set": {"state": "RESERVED"}}, sort=order
            ),
        )
        measure(
            "page of 20 sorted by an index",
            pid,
            50,
            lambda i: list(rows.find().sort("created_on", -1).limit(20)),
        )
        measure(
            "page of one state, compound index",
            pid,
            50,
            lambda i: list(rows.find({"state": "READY"}).sort("_id", -1).limit(20)),
        )
        measure("count of one state", pid, 50, lambda i: rows.count_documents({"state": "READY"}))
        group = {"$group": {"_id": "$state", "n": {"$sum": 1}}}
        measure("$group counting per state, from the index", pid, 50, lambda i: list(rows.aggregate([group])))
        mean = {"$group": {"_id": "$state", "n": {"$avg": "$spec._priority"}}}
        measure("$group with $avg, every document", pid, 3, lambda i: list(rows.aggregate([mean])))
        measure(
            "count without an index, every document",
            pid,
            3,
            lambda i: rows.count_documents({"spec._priority": 3}),
        )
        measure(
            "sort without an index, every document",
            pid,
            3,
            lambda i: list(rows.find().sort("spec._priority", 1).limit(20)),
        )
        facts = status(data)
        resident = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]
        print(
            f"{facts.documents} documents, {facts.bytes / 1e6:.1f} MB of BSON, {int(resident) / 1e3:.0f} MB resident"
        )
        client.close()
        stop(data)
        start = time.perf_counter()
        ensure_running(data)
        print(f"restart: {time.perf_counter() - start:.1f} s wall, {cpu(status(data).pid or 0):.1f} s server")
        stop(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
