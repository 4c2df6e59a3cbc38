"""What pages cost the database does not grow with it: documents and commands are counted, not seconds.

The data, and what is asked, are those of the benchmark (tests/benchmarks/dashboard_scale.py).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

pytestmark = pytest.mark.database

SMALL, LARGE = (40_000, 20_000), (120_000, 60_000)
#: Answers that are made of more where there is more, up to a bound of their own: every task is drawn up to 600, the
#: heartbeats of what runs are read, and the tasks of one kind in a generation, among which those of a step are.
BOUNDED = {"tasks.graph": 620, "tasks.graph_now": 620, "programs.metrics": 400}
BOUNDED |= {"structures.page": 1000, "api.structure": 1000, "campaigns.recoveries": 4000}
#: Of two windows at once, the rows of the narrower one are read.
WINDOWS = "energy and force windows"
#: The longest page has so many rows.
PAGE = 200


class Browser:
    """Asks the application without a server."""

    def __init__(self, client):
        self.client = client

    def ask(self, path):
        answer = self.client.get(path)
        return answer.status_code, answer.data, dict(answer.headers)


def looked(database):
    """Documents looked at, and commands answered, so far."""
    status = database.client.admin.command("serverStatus")
    beside = {"serverStatus", "hello", "isMaster", "ismaster", "ping", "endSessions"}
    commands = sum(number for name, number in status["opcounters"].items() if name not in beside)
    return status["metrics"]["queryExecutor"]["scannedObjects"], commands


def costs(uri, numbers):
    """Fill a database and return what each request costs when it is made again: (documents, commands)."""
    from gf_dashboard_asks import GROUP, PASSWORD, asked
    from gf_dashboard_data import Size, fill

    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.auth.access import Role
    from launchpad.dashboard.auth.accounts import add_account
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.queries.overview import ledger_of
    from launchpad.dashboard.settings import DashboardSettings
    from launchpad.database.indexes import ensure_indexes
    from launchpad.queue import Queue

    Queue.from_uri(uri).close()
    group = Group(GROUP, uri)
    try:
        database = group.database
        ensure_indexes(database)
        size = Size(*numbers)
        fill(database, size, lambda *_: None, campaigns=(0, 3, 19))
        add_account(database, "admin0", PASSWORD, Role.ADMIN)
        app = create_app([group], DashboardSettings(request_log=False), b"k" * 32)
        app.testing = True
        browser = Browser(app.test_client())
        browser.client.post(
            "/login",
            data={"group": GROUP, "name": "admin0", "password": PASSWORD},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        ledger = ledger_of(database)
        for _ in range(600):
            if ledger.complete:
                break
            time.sleep(0.1)
        assert ledger.complete
        found = {}
        for ask in asked(database, size, browser):
            # what a process of its own works out is not there: it would be counted as well
            if (
                ask.endpoint in {"campaigns.chart", "campaigns.table", "structures.values"}
                or "map" in ask.endpoint
            ):
                continue
            assert browser.ask(ask.path)[0] in ask.status, ask
            before = looked(database)
            browser.ask(ask.path)
            after = looked(database)
            found[ask.label, ask.endpoint, ask.path] = after[0] - before[0], after[1] - before[1]
        return found
    finally:
        group.close()


@pytest.mark.long
def test_no_page_costs_more_where_there_is_more(new_database, monkeypatch):
    """Three times the structures, labels and tasks: the same documents and commands for each page."""
    from launchpad.dashboard import derived

    # nothing else asks the database meanwhile
    monkeypatch.setattr(derived, "_reserve", lambda *_: False)
    small, large = (costs(new_database(), numbers) for numbers in (SMALL, LARGE))
    by_label = {(label, endpoint): cost for (label, endpoint, _), cost in small.items()}
    wrong = []
    for (label, endpoint, path), (documents, commands) in large.items():
        few = by_label[label, endpoint]
        bound = BOUNDED.get(endpoint, max(1.2 * few[0], few[0] + 20, PAGE + 10))
        if (documents > bound and WINDOWS not in label) or commands > few[1] + 12:
            wrong.append(f"{label} ({path}): {few} -> {(documents, commands)}")
    assert not wrong, "\n".join(wrong)
