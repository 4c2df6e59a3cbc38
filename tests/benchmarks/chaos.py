"""Chaos for longer than a test may take: round after round, each with another seed, until the time is over.

Run as ``python tests/benchmarks/chaos.py [--minutes 10] [--seed 1] [--chains 50] [--injuries 40]``; prints one JSON
line per round and a summary. A round that fails ends it with its seed, and leaves exit status 1. As root it has a small
disk and process namespaces of its own; without, these injuries are left out, as the summary shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "queue"))
sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from gf_chaos import Chaos

SHARES = {"worker": 0.35, "supervisor": 0.1, "server": 0.15, "mid-reply": 0.2, "cut": 0.15, "disk": 0.05}


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chains", type=int, default=50, help="forty tasks each")
    parser.add_argument("--injuries", type=int, default=40, help="per round")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a round has failed")
    options = parser.parse_args()
    end = time.monotonic() + 60.0 * options.minutes
    kinds = {kind: max(1, round(share * options.injuries)) for kind, share in SHARES.items()}
    worst: Counter[str] = Counter()
    injured: Counter[str] = Counter()
    rounds, tasks, seconds, again = 0, 0, 0.0, 0
    seed = options.seed
    while time.monotonic() < end:
        try:
            with Chaos(seed, chains=options.chains, injuries=kinds, limit_s=options.limit) as chaos:
                chaos.run()
                chaos.check()
                report = chaos.report()
        except AssertionError as error:
            sys.stdout.write(json.dumps({"seed": seed, "failed": str(error)}) + "\n")
            return 1
        short = {name: value for name, value in report.items() if name != "injuries"}
        sys.stdout.write(json.dumps(short) + "\n")
        sys.stdout.flush()
        for injury in report["injuries"]:
            injured[injury["kind"]] += 1
            worst[injury["kind"]] = max(worst[injury["kind"]], injury["lost_s"])
        rounds, tasks, seconds = rounds + 1, tasks + report["tasks"], seconds + report["seconds"]
        again += report["tasks_run_twice_or_more"]
        seed += 1
    summary = {
        "rounds": rounds,
        "tasks": tasks,
        "seconds": round(seconds),
        "injuries": dict(sorted(injured.items())),
        "longest_seconds_until_work_went_on": dict(sorted(worst.items())),
        "tasks_with_a_second_run": again,
        "every_result_once": True,
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
