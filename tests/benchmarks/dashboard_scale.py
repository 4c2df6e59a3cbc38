"""Measure every page, fragment and read of the dashboard with a million structures and a hundred thousand tasks.

    python tests/benchmarks/dashboard_scale.py --keep DIRECTORY             fills it, or goes on with what is there
    python tests/benchmarks/dashboard_scale.py --structures 20000 --tasks 5000      minutes, in a temporary directory
    python tests/benchmarks/dashboard_scale.py --keep DIRECTORY --only queue. --requests 10

The database is the embedded server in its own process, the dashboard runs as people run it (gunicorn, one worker) and
is asked over HTTP, one request after the other. What is measured follows from the application's own routes: one that
is neither asked nor left out with a reason is an error. Bounds: the 95th percentile of each under 200 ms, memory of
the worker under 150 MB after everything was asked. Ends with 1 if one is broken.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gf_dashboard_asks import GROUP, LEFT_OUT, PASSWORD, Ask, Client, asked, page
from gf_dashboard_data import GENERATIONS, Size, fill, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_MS, LIMIT_MB = 200.0, 150.0


@dataclass(frozen=True)
class Measured:
    """How long it took (ms), seen by the client over a connection that stays open.

    `processor` is what worker and database server used of the processor for one request (ms, mean): other programs on
    the machine make requests slower, but hardly that. `wrong`: not the answer that is expected.
    """

    label: str
    endpoint: str
    status: int
    kB: float
    first: float
    median: float
    p95: float
    processor: float
    requests: int
    wrong: bool


def unasked_routes(uri: str, asks: list[Ask]) -> list[str]:
    """Return what of the application's own routes by GET is neither asked for nor left out with a reason."""
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    app = create_app([Group(GROUP, uri)], DashboardSettings(), b"k" * 32)
    routes = app.url_map.bind("localhost")
    met = set()
    for ask in asks:
        rule, _ = routes.match(ask.path.partition("?")[0], return_rule=True)
        if rule.endpoint != ask.endpoint:
            raise SystemExit(f"{ask.label}: {ask.path} is answered by {rule.endpoint}, not by {ask.endpoint}")
        met.add(rule.rule)
    return sorted(
        f"{rule.endpoint} ({rule.rule})"
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and rule.rule not in met and rule.endpoint not in LEFT_OUT
    )


@contextmanager
def dashboard(uri: str, place: Path) -> Iterator[tuple[str, int]]:
    """Run ``gapfactory dashboard run`` with one worker; yield its address and the worker's process id."""
    secret, log = place / "group.uri", place / "dashboard.log"
    secret.touch(mode=0o600)
    secret.write_text(uri)
    command = [sys.executable, "-m", "launchpad.cli", "dashboard", "run", "--login", "--processes", "1", "--port", "0",
               "--group", f"{GROUP}={secret}", "--secret-file", str(place / "secret")]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache"), "XDG_STATE_HOME": str(place)}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://\S+", line)
            if address is None:
                raise SystemExit(f"the dashboard did not start: {line}{log.read_text()[-2000:]}")
            client = Client(address.group())
            for _ in range(200):
                try:
                    if client.ask("/healthz")[0] == 200:
                        break
                except OSError:
                    time.sleep(0.1)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield address.group().rstrip("/"), int(children[0])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def memory(pid: int) -> dict[str, float]:
    """Return resident, proportional and private memory of a process (MB)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {
        name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1)) / 1024 for name in ("Rss", "Pss")
    }  # type: ignore[union-attr]
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return {**found, "Peak": int(peak.group(1)) / 1024 if peak else 0.0}


def used(pids: tuple[int, ...]) -> float:
    """Return what processes used of the processor so far (ms)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return 1000.0 * ticks / os.sysconf("SC_CLK_TCK")


def measure(client: Client, ask: Ask, requests: int, pids: tuple[int, ...]) -> Measured:
    """Ask for something again and again."""
    times, status, text = [], 0, b""
    before = 0.0
    for number in range(requests + 1):
        if number == 1:
            before = used(pids)
        begun = time.perf_counter()
        status, text, _ = client.ask(ask.path)
        times.append((time.perf_counter() - begun) * 1000)
        if status not in ask.status:
            shown = re.sub(r"(?s)<head>.*</head>|<[^>]+>|\s+", " ", text.decode(errors="replace"))
            print(f"{ask.label}: {ask.path} answered {status}: {re.sub(' +', ' ', shown)[:300]}")
            break
    first, again = times[0], sorted(times[1:] or times)
    p95 = again[min(len(again) - 1, -(-95 * len(again) // 100) - 1)]
    wrong = status not in ask.status
    size, middle = len(text) / 1000, statistics.median(again)
    processor = (used(pids) - before) / len(again)
    return Measured(ask.label, ask.endpoint, status, size, first, middle, p95, processor, requests, wrong)


def wait_for(client: Client, path: str, seconds: float) -> float:
    """Wait until something that is worked out beside the pages is there; return for how long (s)."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        status, text, _ = client.ask(path)
        if status == 200:
            return time.monotonic() - begun
        if status != 202:
            break
        time.sleep(0.5)
    raise SystemExit(f"{path} is not there after {time.monotonic() - begun:.0f} s: {status} {text[:300]!r}")


#: Returns a point of the map that is in sight: where it is on the screen, and of which structure.
POINT = """chart => {
  const trace = chart.data.findIndex(t => t.x && t.x.length > 1);
  const { x, y } = chart.data[trace];
  const { xaxis, yaxis } = chart._fullLayout;
  const place = chart.getBoundingClientRect();
  const k = Math.floor(x.length / 2);
  return { x: place.x + xaxis._offset + xaxis.d2p(x[k]), y: place.y + yaxis._offset + yaxis.d2p(y[k]) };
}"""


def open_map(address: str, path: str, cookie: str) -> dict[str, float]:
    """Open the map in Chromium; return seconds until it is drawn, and until a click on a point shows its structure."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from gf_browser import open_browser

    name, _, value = cookie.partition("=")
    with open_browser() as browser:
        context = browser.new_context(viewport={"width": 1200, "height": 1000})
        context.add_cookies([{"name": name, "value": value, "url": address}])
        shown = context.new_page()
        begun = time.monotonic()
        shown.goto(address + path)
        shown.wait_for_selector("#map[data-drawn]", timeout=120_000)
        drawn = time.monotonic() - begun
        chart = shown.locator("#map .js-plotly-plot").first
        chart.scroll_into_view_if_needed()
        spot = chart.evaluate(POINT)
        shown.mouse.move(spot["x"] - 3, spot["y"])
        shown.mouse.move(spot["x"], spot["y"])
        before = shown.locator("#chosen").inner_text()
        chart.locator(".hovertext").first.wait_for(timeout=60_000)
        begun = time.monotonic()
        with shown.expect_response(re.compile("/structures/atoms/"), timeout=60_000):
            shown.mouse.click(spot["x"], spot["y"])
        shown.wait_for_function(
            "before => document.getElementById('chosen').innerText !== before", arg=before, timeout=60_000
        )
        answered = time.monotonic() - begun
        context.close()
    return {"drawn_s": round(drawn, 2), "click_s": round(answered, 2)}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def prepare(data: Path, size: Size) -> tuple[str, Any]:
    """Start the database server, fill it and make accounts; return its URI and the database."""
    from rich.progress import Progress

    from launchpad.dashboard.auth.access import Role
    from launchpad.dashboard.auth.accounts import add_account
    from launchpad.database.connection import open_database
    from launchpad.database.indexes import ensure_indexes
    from launchpad.database.migrations import upgrade
    from launchpad.embedded import ensure_running
    from launchpad.queue import Queue

    uri = ensure_running(data, timeout=1200)
    Queue.from_uri(uri).close()
    database = open_database(uri)
    ensure_indexes(database)
    # one that was kept may be of an earlier version
    upgrade(database)
    with Progress() as progress:
        bar = progress.add_task("filling", total=None)
        fill(
            database,
            size,
            lambda part, done, total: progress.update(bar, description=part, completed=done, total=total),
        )
    if not database.dashboard_users.count_documents({}):
        for number, role in enumerate((Role.ADMIN, Role.OPERATOR, Role.VIEWER) * 8):
            add_account(database, f"{role}{number}", PASSWORD, role)
    return uri, database


def main() -> int:
    """Fill, ask, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=30, help="of each")
    parser.add_argument("--keep", type=Path, help="directory of the database, kept for the next time")
    parser.add_argument("--only", default="", help="routes that begin so, e.g. structures.")
    parser.add_argument("--browser", action="store_true", help="also open the map in Chromium")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    from launchpad.embedded import stop

    size = Size(given.structures, given.tasks)
    with tempfile.TemporaryDirectory(prefix="dashboard-scale-") as name:
        data = given.keep or Path(name) / "data"
        try:
            uri, database = prepare(data, size)
            with database.client:
                return run(given, size, uri, database, Path(name))
        finally:
            stop(data)


def run(given: argparse.Namespace, size: Size, uri: str, database: Any, place: Path) -> int:
    """Start the dashboard and ask for everything."""
    from launchpad.embedded import status

    with dashboard(uri, place) as (address, pid):
        client = Client(address)
        client.log_in("admin0")
        started = memory(pid)
        server_pid = status(given.keep or place / "data").pid or pid
        last = GENERATIONS - 1
        waited = {}
        if not given.only or "structures.map".startswith(given.only):
            waited["map"] = wait_for(client, page(f"/structures/map/{name_of(0)}/{last}/data"), 600)
            waited["map of a campaign"] = wait_for(client, page(f"/structures/map/{name_of(0)}/data"), 600)
        if not given.only or "campaigns.chart".startswith(given.only):
            waited["charts"] = wait_for(
                client, page(f"/campaigns/{name_of(3)}/charts/learning_curve.json"), 600
            )
        asks = asked(database, size, client)
        unasked = unasked_routes(uri, asks)
        rows = []
        print(f"{'':52s} {'':4s} {'kB':>8s} {'first':>7s} {'median':>7s} {'p95':>7s} {'CPU':>6s}  ms")
        for ask in asks:
            if not ask.endpoint.startswith(given.only):
                continue
            row = measure(client, ask, given.requests, (pid, server_pid))
            rows.append(row)
            figures = f"{row.kB:8.1f} {row.first:7.1f} {row.median:7.1f} {row.p95:7.1f} {row.processor:6.1f}"
            note = "  <-- above the bound" if row.p95 >= LIMIT_MS else ""
            print(f"{row.label[:52]:52s} {row.status:4d} {figures}{note}", flush=True)
        ended = memory(pid)
        seen: dict[str, dict[str, float]] = {}
        if given.browser:
            for what, path in (("generation", f"/{last}"), ("campaign", "/")):
                where = page(f"/structures/map/{name_of(0)}{path}")
                runs = [open_map(address, where, client.headers["Cookie"]) for _ in range(3)]
                seen[what] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        server = memory(server_pid)
    counts = {
        collection: database[collection].estimated_document_count()
        for collection in (
            "structures",
            "relaxations",
            "labels",
            "dashboard_rows",
            "fireworks",
            "launches",
            "workers",
        )
    }
    slow = [row.label for row in rows if row.p95 >= LIMIT_MS]
    print(
        f"\n{len(rows)} measured, {len(slow)} above {LIMIT_MS:.0f} ms; worker {ended['Rss']:.0f} MB resident "
        f"({ended['Pss']:.0f} MB proportional, at first {started['Rss']:.0f}); "
        f"database server {server['Rss']:.0f} MB"
    )
    beside = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in waited.items())
    print(f"worked out beside the pages: {beside}; map in a browser: {seen}")
    for route, reason in LEFT_OUT.items():
        print(f"not measured: {route}: {reason}")
    problems = [f"{label}: above {LIMIT_MS:.0f} ms" for label in slow]
    problems += [f"{row.label}: answered {row.status}" for row in rows if row.wrong]
    if ended["Rss"] >= LIMIT_MB:
        problems.append(f"memory of the worker: {ended['Rss']:.0f} MB, above {LIMIT_MB:.0f} MB")
    problems += [f"route {route} is neither measured nor left out with a reason" for route in unasked]
    for problem in problems:
        print(f"BROKEN {problem}")
    if given.out:
        figures = {
            "machine": machine(), "size": asdict(size), "documents": counts, "requests": given.requests,
            "limits": {"p95_ms": LIMIT_MS, "worker_MB": LIMIT_MB}, "worker_MB": ended, "worker_at_first_MB": started,
            "database_server_MB": server, "beside_s": waited, "map_in_browser": seen,
            "left_out": LEFT_OUT, "broken": problems, "rows": [asdict(row) for row in rows],
        }  # fmt: skip
        given.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
