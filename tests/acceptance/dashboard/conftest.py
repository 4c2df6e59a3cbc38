"""A dashboard with logins beside a campaign that runs, both started as a person starts them, and a browser."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gf_browser
import pytest

if TYPE_CHECKING:
    import subprocess

PASSWORD = "correct horse battery"  # noqa: S105
CAMPAIGN = """
preset: quickstart-Si-analytic
name: silicon
seed: 11
schedule: {cells_per_generation: %(cells)d, initial_cells: %(cells)d, generations: %(generations)d, quorum: 0.8}
select: {noise_cells: 2, labels_per_generation: %(labels)d, held_out_per_generation: 3, minima: all}
stop: {label_budget: %(budget)d}
build: {atoms_min: 2, atoms_max: %(atoms)d}
dimers: {bond_lengths: 6}
relax: {max_steps: %(steps)d}
gap:
  two_body: {n_sparse: 8}
  three_body: {n_sparse: 8}
  soap: {n_sparse: %(sparse)d, n_max: 4, l_max: 3}
evidence: {stability: {duration_ps: 0.04, nve_ps: 0.02, n_atoms: 8, contacts_to: 0.6}}
execution: {build_chunk: 6, relax_chunk: 3, reference_chunk: 2}
"""
SMALL = {"cells": 10, "generations": 2, "labels": 6, "budget": 18, "atoms": 4, "steps": 20, "sparse": 12}
#: What the pictures of the documentation show: still an analytic reference, but enough to see something.
SHOWN = {"cells": 24, "generations": 3, "labels": 14, "budget": 51, "atoms": 6, "steps": 60, "sparse": 40}


@dataclass
class Running:
    """What the tests look at.

    Attributes
    ----------
    place
        Where commands are run.
    campaign, dashboard
        The two processes.
    address
        ``http://127.0.0.1:port``.
    group
        The group's name in addresses.
    database, uri
        Its database.
    """

    place: Any
    campaign: subprocess.Popen[bytes]
    dashboard: subprocess.Popen[bytes]
    address: str
    group: str
    database: Any
    uri: str

    def url(self, path: str = "") -> str:
        """Return the address of a page of the group."""
        return f"{self.address}/g/{self.group}/{path}"


@pytest.fixture(scope="session")
def running(new_place):
    """A campaign that has just been started, and a dashboard with logins; the first test file by name follows it."""
    from launchpad.dashboard.auth.access import Role
    from launchpad.dashboard.auth.accounts import add_account
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    place = new_place("dashboard")
    size = SHOWN if os.environ.get("GAPFACTORY_SCREENSHOTS") else SMALL
    place.write("silicon.yaml", CAMPAIGN % size)
    place.good("campaign", "submit", "silicon.yaml")
    uri = locate_database(None, place.data).uri
    database = open_database(uri)
    for role in Role:
        add_account(database, str(role), PASSWORD, role)
    dashboard = place.start(
        "dashboard", "run", "--login", "--port", "0", "--processes", "1", log="dashboard.log"
    )
    address = _address(place.directory / "dashboard.log", dashboard)
    campaign = place.start("campaign", "run", "silicon.yaml", "--workers", "2", log="campaign.log")
    yield Running(place, campaign, dashboard, address, database.name, database, uri)
    for process in (dashboard, campaign):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in (dashboard, campaign):
        process.wait(60)
    database.client.close()


def _address(log, process) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text() if log.exists() else "")
        if found:
            return found.group(0)
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError("the dashboard said no address within 30 s")


@pytest.fixture(scope="session")
def ended(running):
    """The same campaign when it has ended."""
    assert running.campaign.wait(240) == 0, (running.place.directory / "campaign.log").read_text()
    return running


@pytest.fixture(scope="session")
def browser():
    """One browser for all tests."""
    if gf_browser.chromium() is None:
        reason = "chromium is not installed"
        if os.environ.get("GAPFACTORY_REQUIRE_CODES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with gf_browser.open_browser() as started:
        yield started


@pytest.fixture(scope="session")
def logins(browser, running):
    """Cookies of one login of each role: a password is checked slowly on purpose."""
    states: dict[str, Any] = {}

    def state(role: str) -> Any:
        if role not in states:
            context = browser.new_context()
            page = context.new_page()
            log_in(page, running, role)
            states[role] = context.storage_state()
            context.close()
        return states[role]

    return state


@pytest.fixture
def visit(browser, running, logins):
    """Return a function that opens a page as somebody; whatever goes wrong in it fails the test."""
    watches, contexts = [], []

    def enter(role: str | None, path: str = "", **options: Any) -> Any:
        state = logins(role) if role else None
        context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 800}, "storage_state": state} | options
        )
        contexts.append(context)
        watches.append(gf_browser.watched(context))
        page = context.new_page()
        page.watch = watches[-1]
        page.goto(running.url(path))
        return page

    yield enter
    for context in contexts:
        context.close()
    for watch in watches:
        watch.check()


def log_in(page, running, role: str) -> None:
    """Log in by the form."""
    page.goto(running.url())
    page.get_by_label("Name").fill(role)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(running.url())
