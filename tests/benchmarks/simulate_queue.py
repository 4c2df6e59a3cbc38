"""What a queue of tasks would do at sizes that cannot be tried here: a discrete-event simulation.

    python tests/benchmarks/simulate_queue.py [--figure docs/images/capacity.png]

Workers go round: take a task (some commands one after the other), run it, store its result (some more commands).
Between a worker and its server lies the network's latency; a server executes commands on so many lanes, first come
first served; a checkout also passes a section that only one of a queue may be in at a time. Beside that every worker
reports at an interval. Shards (databases, or clusters of them) share nothing and have equal parts of the workers, so
that one of them is simulated. Times are in seconds.

The embedded server's numbers are measured (docs/evidence/scale.md); those of a mongod are assumptions, named in
docs/explanation/capacity.md. Prints one JSON line per case; the same seed gives the same lines.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from heapq import heapify, heappop, heappush, heapreplace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPORT, _ADMITTED, _ASIDE = -1, -2, -3


@dataclass(frozen=True)
class Server:
    """A database server."""

    name: str
    #: commands that it executes at a time, and what one takes of a lane
    lanes: int
    service_s: float
    #: what the reply waits for beyond that (journal, majority), without a lane
    wait_s: float = 0.0
    #: part of a checkout that excludes other checkouts of the same queue
    serial_s: float = 0.0


@dataclass(frozen=True)
class Case:
    """A site: workers, tasks, network, server."""

    server: Server
    workers: int
    task_s: float
    #: of a round trip
    latency_s: float = 0.0
    #: commands one after the other: to take a task, and to store its result
    take: int = 4
    store: int = 3
    #: commands per task that nobody waits for (a longer task is shown as running by its workflow, too)
    aside: int = 1
    #: what a worker itself needs per task beside running it
    own_s: float = 0.002
    #: a worker reports this often (one command)
    report_s: float = 2.0
    shards: int = 1
    #: relative spread of the length of tasks (standard deviation of its logarithm)
    spread: float = 0.3
    #: all workers begin at the same moment, as when tasks appear in an empty queue
    together: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came out, over all shards.

    Attributes
    ----------
    tasks_per_s
        Throughput.
    share
        Of the throughput without latency and without waiting for the server.
    share_of_allowed
        Of the throughput that the latency (and the wait for the journal) allows.
    waiting_ms
        Time that a task's commands spend in the queue of the server, mean.
    utilisation
        Busy part of the lanes.
    commands_per_s
        Per shard.
    """

    tasks_per_s: float
    share: float
    share_of_allowed: float
    waiting_ms: float
    utilisation: float
    commands_per_s: float


def simulate(case: Case, *, seed: int = 1, rounds: float = 3.0, most_events: int = 1_500_000) -> Outcome:
    """Simulate one shard for some rounds of its workers after a warm-up of one round.

    Parameters
    ----------
    case
        What to simulate.
    seed
        Of the lengths of tasks and the phases of the workers.
    rounds
        Length of the measured window in cycles of an undisturbed worker; at least some 10 000 tasks, and at most
        `most_events`.
    most_events
        Bound for the number of commands simulated.
    """
    rng = np.random.default_rng(seed)
    server, steps = case.server, case.take + case.store
    workers = max(1, case.workers // case.shards)
    apart = server.service_s + server.wait_s + case.latency_s
    cycle = case.task_s + case.own_s + steps * apart
    per_worker = (steps + case.aside) / cycle + 1.0 / case.report_s
    # an overloaded server stretches every round: the window is in its time
    stretch = max(1.0, workers * per_worker * server.service_s / server.lanes)
    rounds = max(rounds, 10_000 / workers)
    window = min(rounds * cycle * stretch, most_events * stretch / (workers * per_worker))
    begin = cycle * stretch if not case.together else 0.0
    end = begin + window
    pool = _lengths(rng, case)
    if case.together:
        events = [(0.0, index, 0) for index in range(workers)]
    else:
        # amid their tasks, longer ones more likely so: what is found at any moment of a run that goes on for ever
        rest = (
            rng.random(workers)
            * cycle
            * np.exp(case.spread * (rng.standard_normal(workers) + case.spread / 2))
        )
        events = [(float(moment), index, case.take % steps) for index, moment in enumerate(rest)]
    events += [(float(p), index, _REPORT) for index, p in enumerate(rng.random(workers) * case.report_s)]
    heapify(events)
    lanes = [0.0] * server.lanes
    serial, busy, waited, commands, beside = 0.0, 0.0, 0.0, 0, 0
    service, beyond = server.service_s, server.wait_s + case.latency_s
    while events[0][0] < end:
        moment, worker, step = heappop(events)
        inside = moment >= begin
        if step == 0 and server.serial_s:
            # waiting for one's turn takes no lane
            turn = max(moment, serial)
            serial = turn + server.serial_s
            waited += inside * (turn - moment)
            heappush(events, (turn, worker, _ADMITTED))
            continue
        step = 0 if step == _ADMITTED else step
        start = max(moment, lanes[0])
        heapreplace(lanes, start + service)
        if inside:
            busy += service
            commands += 1
        if step < 0:
            beside += inside
            if step == _REPORT:
                heappush(events, (moment + case.report_s, worker, _REPORT))
            continue
        if inside:
            waited += start - moment
        ready, step = start + service + beyond, step + 1
        if step == case.take:
            for _ in range(case.aside):
                heappush(events, (ready, worker, _ASIDE))
            ready += next(pool) + case.own_s
        heappush(events, (ready, worker, step % steps))
    # in tasks, by their commands: many workers may end their tasks in waves
    done = (commands - beside) / steps
    rate = done / window
    return Outcome(
        tasks_per_s=rate * case.shards,
        share=rate * (case.task_s + case.own_s) / workers,
        share_of_allowed=rate * cycle / workers,
        waiting_ms=1000 * waited / done,
        utilisation=busy / window / server.lanes,
        commands_per_s=commands / window,
    )


def _lengths(rng: np.random.Generator, case: Case) -> Iterator[float]:
    """Draw lengths of tasks with the mean of the case, without end."""
    while True:
        factors = np.exp(case.spread * (rng.standard_normal(10_000) - case.spread / 2))
        yield from (case.task_s * factors).tolist()


#: measured: server_cpu_ms / commands_per_task of bench_queue.py, see docs/evidence/scale.md
EMBEDDED = Server("embedded", lanes=1, service_s=0.25e-3)
#: assumed, cautiously: 16 cores, 1 ms of one for a command (16 000 commands/s), journal or majority another 5 ms,
#: 0.5 ms in which a checkout keeps others of its queue out
MONGOD = Server("mongod", lanes=16, service_s=1.0e-3, wait_s=2.0e-3, serial_s=0.5e-3)
REPLICAS = replace(MONGOD, name="replica set", wait_s=5.0e-3)


def cases() -> list[tuple[str, Case]]:
    """Return the cases of the capacity page by title."""
    found = [
        ("embedded", Case(EMBEDDED, workers, task_s))
        for workers in (16, 64, 256, 1000)
        for task_s in (2.0, 60.0)
    ]
    for server in (MONGOD, REPLICAS):
        for workers in (1000, 10_000):
            for task_s, report_s in ((2.0, 2.0), (60.0, 2.0), (60.0, 30.0), (600.0, 30.0)):
                found.append((server.name, Case(server, workers, task_s, 0.01, report_s=report_s)))
    for shards in (4, 16):
        for task_s in (2.0, 60.0):
            case = Case(REPLICAS, 10_000, task_s, 0.05, report_s=30.0, shards=shards)
            found.append((f"{shards} shards", case))
    return found


def figure(path: Path) -> None:
    """Draw the share of the ideal throughput against workers and length of tasks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, (left, right) = pyplot.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    servers = (
        ("embedded server", EMBEDDED, 1, "C3"),
        ("replica set, 16 cores", REPLICAS, 1, "C0"),
        ("4 of these", REPLICAS, 4, "C2"),
        ("16 of these", REPLICAS, 16, "C4"),
    )
    counts = [100, 300, 1000, 3000, 10_000, 30_000, 100_000]
    lengths = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
    for label, server, shards, colour in servers:
        base = Case(server, 10_000, 10.0, 0.01, report_s=30.0, shards=shards)
        by_number = [replace(base, workers=number) for number in counts if number >= 20 * shards]
        by_length = [replace(base, task_s=length) for length in lengths]
        for axes, found in ((left, by_number), (right, by_length)):
            x = [case.workers if axes is left else case.task_s for case in found]
            y = [simulate(case, most_events=400_000, rounds=2).share for case in found]
            axes.semilogx(x, y, "o-", color=colour, label=label, markersize=3)
    left.set(xlabel="workers", ylabel="busy part of the workers", title="tasks of 10 s")
    right.set(xlabel="length of a task (s)", title="10 000 workers")
    for axes in (left, right):
        axes.set_ylim(0, 1.03)
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    drawn.savefig(path, dpi=110)


def row(title: str, case: Case) -> dict[str, Any]:
    """Return a case with its outcome, rounded for people."""
    found = {name: float(f"{value:.4g}") for name, value in asdict(simulate(case)).items()}
    asked = {name: value for name, value in asdict(case).items() if name != "server"}
    return {"server": title, **asked, **found}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=Path, help="also draw the curves to this file")
    arguments = parser.parse_args()
    check = Case(EMBEDDED, 64, 2.0, 0.05, spread=0.0, together=True)
    for title, case in [("check: 64 workers, 50 ms", check), *cases()]:
        sys.stdout.write(json.dumps(row(title, case)) + "\n")
    if arguments.figure is not None:
        figure(arguments.figure)


if __name__ == "__main__":
    main()
