"""A campaign of cheap tasks under a seeded rain of injuries; nobody lends a hand, and every result is there once.

Sites are supervisors with their workers, as real processes: one on an ordinary disk, one on a small one of its own,
one in another process namespace with a clock that is ten minutes ahead. The database is the embedded server, a real
process too, behind a proxy. What a service manager would do is done here: a supervisor or a server that is dead is
started again after a moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote_plus

from gf_chaos_tasks import expected, uptime, workflow
from gf_clock import faketime_library, wrong_clock
from gf_proxy import Proxy
from pymongo.errors import PyMongoError
from queue_help import check_consistent

from launchpad.embedded import ensure_running, status, stop
from launchpad.queue import Queue, QueueSettings
from launchpad.queue.guard import AllowList
from launchpad.workers import SupervisorSettings, WorkerSettings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATHS = os.pathsep.join([str(HERE), str(ROOT)])
ALLOWED = ("gf_chaos_tasks.*",)
QUEUE = QueueSettings(
    # minutes in the field; a site whose processes cannot be asked is judged by them
    heartbeat_s=1.0,
    lease_s=6.0,
    reserved_grace_s=6.0,
    lock_ttl_s=6.0,
    completion_limit_s=2.0,
    transient_delays_s=(0.5, 1.0, 2.0, 4.0, 8.0),
    server_selection_s=2.0,
    reaper_lease_s=6.0,
)
WORKER = WorkerSettings(allowed=ALLOWED, drain_grace_s=3.0, report_s=1.0, min_free_mb=1.0)
SUPERVISOR = SupervisorSettings(reap_s=1.0, deep_reap_s=5.0, restarts=50, kill_after_s=2.0)
DISK_BYTES = 48 << 20


def may_mount() -> bool:
    """Return whether this process may mount a small disk and make namespaces."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-m", "-p", "-f", "--mount-proc", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@dataclass
class Site:
    """A supervisor and its workers, started again by nobody but the harness's own `watch`."""

    name: str
    workers: int
    scratch: Path
    uri: str
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    again_at: float = 0.0
    starts: int = 0

    def start(self) -> None:
        (self.scratch / "logs").mkdir(parents=True, exist_ok=True)
        content = {
            "uri": self.uri,
            "n": self.workers,
            "categories": [],
            "scratch": str(self.scratch),
            "worker": WORKER.model_dump(mode="json"),
            "queue": QUEUE.model_dump(mode="json"),
            "supervision": SUPERVISOR.model_dump(mode="json"),
        }
        environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "GF_SITE": self.name}
        with (self.scratch.parent / f"{self.name}.log").open("ab") as stream:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "launchpad.workers", "--supervise"],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**environment, **self.environment},
                start_new_session=True,
            )
        self.starts += 1
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
            pipe.write(json.dumps(content).encode())

    def watch(self) -> None:
        """Start it again, a moment after it died: what systemd does."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.again_at = time.monotonic() + 0.5
        if self.process is None and time.monotonic() >= self.again_at:
            self.start()

    def supervisor(self) -> int | None:
        """Return the process id of the supervisor itself (below `unshare`, if there is one)."""
        if self.process is None:
            return None
        if not self.prefix:
            return self.process.pid
        return next(iter(children(self.process.pid)), None)

    def worker_pids(self) -> list[int]:
        above = self.supervisor()
        return children(above) if above else []

    def stop(self) -> None:
        if self.process is None:
            return
        pid = self.supervisor()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            for number in [*self.worker_pids(), pid, self.process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number or self.process.pid, signal.SIGKILL)
            self.process.wait(10)


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return sorted(int(number) for number in text.split())
    return []


def inner_pid(pid: int) -> int:
    """Return what a process calls itself in its own namespace."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[-1]) for line in lines if line.startswith("NSpid:"))
    return pid


@dataclass(frozen=True)
class Injury:
    """What happened when (seconds since the beginning), and how long until work went on."""

    kind: str
    at: float
    where: str
    lost_s: float = 0.0


class Chaos:
    """One run.

    Parameters
    ----------
    seed
        Of the schedule of injuries.
    chains, generations
        Size of the campaign: ten tasks each.
    injuries
        How many of each kind.
    sleep_s
        Mean duration of a task.
    limit_s
        After this time the run has failed.
    """

    def __init__(
        self,
        seed,
        *,
        chains=50,
        generations=4,
        injuries=None,
        sleep_s=0.03,
        limit_s=150.0,
        workers=(5, 2, 1),
    ):
        self.seed, self.chains, self.generations = seed, chains, generations
        self.chance = random.Random(seed)
        self.kinds = dict(
            injuries or {"worker": 8, "supervisor": 2, "server": 3, "mid-reply": 6, "cut": 2, "disk": 1}
        )
        self.sleep_s, self.limit_s, self.workers = sleep_s, limit_s, workers
        self.place = Path(tempfile.mkdtemp(prefix="gfchaos-"))
        self.data = self.place / "db"
        self.total = chains * generations * 10
        self.injuries: list[Injury] = []
        self.progress: list[tuple[float, int]] = []
        self.sites: list[Site] = []
        self.mounts: list[Path] = []
        self.proxy: Proxy | None = None
        self.queue: Queue | None = None
        self.pending: list[tuple[float, object]] = []
        self.seen = 0

    # --- building up and taking down --------------------------------------------------------------------

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _build(self):
        uri = ensure_running(self.data)
        self.direct = uri
        host = uri.removeprefix("mongodb://").partition("/")[0]
        self.proxy = Proxy(unquote_plus(host), str(self.place / "proxy.sock")).start()
        through = self.proxy.through(uri)
        self.queue = Queue.from_uri(uri, allowed=AllowList(ALLOWED), settings=QUEUE)
        for chain in range(self.chains):
            self.queue.submit_once(workflow(chain, 0, self.generations, self.sleep_s), f"chaos/{chain}/0")
        small = self.place / "small"
        small.mkdir()
        privileged = may_mount()
        if privileged:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(small)], check=True
            )
            self.mounts.append(small)
        else:
            self.kinds.pop("disk", None)
        wrong = {}
        if faketime_library() is not None:
            wrong = wrong_clock(self.place / "clock", 600.0, PATHS)
        apart = ("unshare", "-p", "-f", "--kill-child", "--mount-proc") if privileged else ()
        self.sites = [
            Site("plain", self.workers[0], self.place / "plain", through),
            Site("small", self.workers[1], small / "scratch", through),
            Site("ahead", self.workers[2], self.place / "ahead", through, apart, wrong),
        ]
        for site in self.sites:
            site.start()

    def __exit__(self, *_):
        for site in self.sites:
            site.stop()
        if self.queue is not None:
            self.queue.close()
        if self.proxy is not None:
            self.proxy.close()
        stop(self.data)
        for mount in self.mounts:
            subprocess.run(["umount", "-l", str(mount)], check=False)
        shutil.rmtree(self.place, ignore_errors=True)

    # --- the run ----------------------------------------------------------------------------------------

    def completed(self):
        """Return how many results are there, or None while the server is away."""
        try:
            return self.queue.db.chaos_results.count_documents({})
        except PyMongoError:
            return None

    def finished(self):
        try:
            return self.queue.fireworks.count_documents({"state": "COMPLETED"}) == self.total
        except PyMongoError:
            return False

    def run(self):
        """Injure while the campaign goes on; return when all is done, or raise after the time limit."""
        order = [kind for kind, number in sorted(self.kinds.items()) for _ in range(number)]
        self.chance.shuffle(order)
        # spread over the tasks, so that the schedule does not depend on the speed of the machine
        due = [
            self.total * (0.02 + 0.85 * (place + self.chance.random()) / len(order))
            for place in range(len(order))
        ]
        self.began, self.began_up = time.monotonic(), uptime()
        while True:
            now = time.monotonic()
            for site in self.sites:
                site.watch()
            for at, action in list(self.pending):
                if now >= at:
                    self.pending.remove((at, action))
                    action()
            done = self.completed()
            if done is not None and done != self.seen:
                self.seen = done
                self.progress.append((now - self.began, done))
            while order and self.seen >= due[0]:
                time.sleep(self.chance.uniform(0.0, 0.1))
                self.injure(order.pop(0))
                due.pop(0)
            if done == self.total and not order and not self.pending and self.finished():
                break
            if now - self.began > self.limit_s:
                raise AssertionError(f"seed {self.seed}: {self.picture()}")
            time.sleep(0.05)
        self.seconds = time.monotonic() - self.began

    def injure(self, kind):
        at = time.monotonic() - self.began
        where = getattr(self, "_" + kind.replace("-", "_"))()
        self.injuries.append(Injury(kind, round(at, 2), where))

    def later(self, seconds, action):
        self.pending.append((time.monotonic() + seconds, action))

    def _worker(self):
        living = [(site.name, pid) for site in self.sites for pid in site.worker_pids()]
        if not living:
            return "none 0"
        site, pid = self.chance.choice(living)
        inner = inner_pid(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return f"{site} {inner}"

    def _supervisor(self):
        living = [(site.name, pid) for site in self.sites if (pid := site.supervisor())]
        site, pid = self.chance.choice(living)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return f"{site} {pid}"

    def _server(self):
        pid = status(self.data).pid if not self.pending else None
        if pid is None:
            return "was away already"
        os.kill(pid, signal.SIGKILL)
        self.later(self.chance.uniform(0.2, 1.5), lambda: ensure_running(self.data))
        return str(pid)

    def _mid_reply(self):
        self.proxy.cut_reply_after(self.chance.randrange(1, 4000))
        return "one connection"

    def _cut(self):
        return f"{self.proxy.cut(reset=self.chance.random() < 0.5)} connections"

    def _disk(self):
        fill = self.place / "small" / "fill"
        with fill.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(1 << 20))
        with fill.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(512))
        self.later(3.0, lambda: fill.unlink(missing_ok=True))
        return "small"

    # --- afterwards -------------------------------------------------------------------------------------

    def check(self):
        """Every result exactly once, and nothing left behind."""
        for site in self.sites:
            site.stop()
        queue = self.queue
        results = {found["_id"]: found for found in queue.db.chaos_results.find()}
        wanted = expected(self.chains, self.generations)
        assert {name: found["value"] for name, found in results.items()} == wanted
        states = Counter(found["state"] for found in queue.fireworks.find({}, {"state": 1}))
        assert states == {"COMPLETED": self.total}, states
        assert queue.workflows.count_documents({"state": "COMPLETED"}) == self.total // 10
        assert queue.workflows.count_documents({}) == self.total // 10
        ends = Counter()
        for launch in queue.launches.find({}, {"fw_id": 1, "state": 1}):
            ends[launch["fw_id"], launch["state"]] += 1
        completed = {fw_id: number for (fw_id, state), number in ends.items() if state == "COMPLETED"}
        assert len(completed) == self.total, "a Firework without a COMPLETED launch"
        assert set(completed.values()) == {1}, "a Firework completed twice"
        left = {state for _, state in ends} & {"RUNNING", "RESERVED"}
        assert not left, f"launches are left {left}"
        check_consistent(queue)
        for site in self.sites:
            waiting = list((site.scratch / "spool").glob("launch-*.json"))
            assert not waiting, f"results wait in the spool of {site.name}"

    def report(self):
        """Return plain data: what was done to it, and what it cost."""
        starts = sorted(
            (run["began"] - self.began_up, run["site"], run["pid"], found["_id"])
            for found in self.queue.db.chaos_results.find({}, {"runs": 1})
            for run in found["runs"]
        )
        runs = Counter(len(found["runs"]) for found in self.queue.db.chaos_results.find({}, {"runs": 1}))
        told = [Injury(i.kind, i.at, i.where, round(self._lost(i, starts), 2)) for i in self.injuries]
        worst = {
            kind: max(i.lost_s for i in told if i.kind == kind) for kind in sorted({i.kind for i in told})
        }
        return {
            "seed": self.seed,
            "tasks": self.total,
            "seconds": round(self.seconds, 1),
            "injuries": [vars(i) for i in told],
            "seconds_until_work_goes_on": worst,
            "tasks_run_twice_or_more": sum(number for times, number in runs.items() if times > 1),
            "launches": self.queue.launches.count_documents({}),
            "starts_of_supervisors": {site.name: site.starts for site in self.sites},
        }

    def _lost(self, injury, runs):
        """Return how long it took until work went on: the task that was hit, the site, or, for the database, all."""
        after = [(at, site, pid) for at, site, pid, _ in runs if at > injury.at]
        site, pid = (*injury.where.split(), "", "")[:2]
        if injury.kind in {"server", "cut", "mid-reply"}:
            # the last gap that the injury can have made: work that was under way may begin another task at once
            times = [injury.at, *(at for at, _, _ in after if at < injury.at + 10.0)]
            return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        there = [at for at, where, number in after if where == site and str(number) != pid]
        lost = (there[0] if there else self.seconds) - injury.at
        if injury.kind == "worker":
            hit = {"process.pid": int(pid), "requeue.kind": "dead"}
            names = [
                self.queue.fireworks.find_one({"fw_id": launch["fw_id"]}, {"name": 1})["name"]
                for launch in self.queue.launches.find(hit, {"fw_id": 1})
            ]
            again = [at for at, _, _, name in runs if name in names and at > injury.at]
            lost = max(again, default=injury.at) - injury.at
        return lost

    def picture(self):
        """Say what is there when the time is over."""
        try:
            states = Counter(found["state"] for found in self.queue.fireworks.find({}, {"state": 1}))
            stuck = list(self.queue.fireworks.find({"state": {"$ne": "COMPLETED"}}, {"name": 1, "state": 1}))[
                :5
            ]
            fields = {"fw_id": 1, "state": 1, "requeue": 1, "action.stored_data._exception": 1, "_id": 0}
            wrong = {"state": {"$in": ["FIZZLED", "RUNNING"]}}
            bad = [found["fw_id"] for found in self.queue.fireworks.find(wrong, {"fw_id": 1})]
            running = list(self.queue.launches.find({"fw_id": {"$in": bad}}, fields).limit(8))
        except PyMongoError as error:
            states, stuck, running = str(error)[:200], [], []
        text = f"{states}; {stuck}; {running}; injuries {[vars(i) for i in self.injuries]}"
        logs = [*self.place.glob("*.log"), *self.place.glob("*/logs/*.log")]
        return text + "".join(f"\n--- {log.name}\n{log.read_text()[-1500:]}" for log in logs)
