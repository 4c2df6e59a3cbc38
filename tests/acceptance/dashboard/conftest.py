"""A campaign that runs, a dashboard with logins, and a browser that all tests share.

Tests that ask for `running` see the campaign at work; those that ask for `ended` come after them, whatever their files
are called, and find it cancelled (or at its natural end where the pictures of the documentation are taken).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gf_browser
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).parent
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
execution: {build_chunk: 6, relax_chunk: 5, reference_chunk: 9}
"""
WORKER = ("worker", "start", "-n", "1", "-c", "build", "--campaign", "silicon")
#: It is let run for so many at least.
GENERATIONS = 3
#: More generations than the tests take: it is cancelled when they have seen it run.
SMALL = {"cells": 10, "generations": 60, "labels": 6, "budget": 600, "atoms": 4, "steps": 20, "sparse": 12}
#: What the pictures of the documentation show: the preset as it is, which takes some minutes.
SHOWN = """
preset: quickstart-Si-analytic
name: silicon
seed: 1
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what looks at the campaign at work come before what needs its end, and all that do run alone."""
    here = [k for k, item in enumerate(items) if HERE in item.path.parents]
    for k in here:
        if "served" in getattr(items[k], "fixturenames", ()):
            items[k].add_marker(pytest.mark.alone)
    ordered = sorted((items[k] for k in here), key=lambda item: "ended" in getattr(item, "fixturenames", ()))
    for k, item in zip(here, ordered, strict=True):
        items[k] = item


@dataclass
class Running:
    """What the tests look at.

    Attributes
    ----------
    place
        Where commands are run.
    campaign
        Its process.
    address
        ``http://127.0.0.1:port``.
    group
        The group's name in addresses.
    database, uri
        Its database.
    overview, curve
        The overview and the campaign's page, opened before the campaign began and never loaded again.
    """

    place: Any
    campaign: subprocess.Popen[bytes]
    address: str
    group: str
    database: Any
    uri: str
    overview: Page
    curve: Page

    def url(self, path: str = "") -> str:
        """Return the address of a page of the group, or of one of all groups."""
        return f"{self.address}{path}" if path.startswith("/") else f"{self.address}/g/{self.group}/{path}"


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
def served(new_place):
    """A campaign that waits to be run, accounts, and a dashboard: its place, database, URI and address."""
    from launchpad.dashboard.auth.access import Role
    from launchpad.dashboard.auth.accounts import add_account
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database
    from launchpad.workers.settings import DEFAULT_ALLOWED

    place = new_place("dashboard")
    place.write("silicon.yaml", SHOWN if gf_browser.pictures() else CAMPAIGN % SMALL)
    # every worker may run what `failed` puts on the queue: whoever takes it fails for the reason that is meant
    allowed = place.write("workers.yaml", f"worker: {{allowed: {[*DEFAULT_ALLOWED, 'ScriptTask']}}}")
    place.environment["GAPFACTORY_SETTINGS"] = str(allowed)
    place.good("campaign", "submit", "silicon.yaml")
    uri = locate_database(None, place.data).uri
    database = open_database(uri)
    for role in Role:
        add_account(database, str(role), gf_browser.PASSWORD, role)
    log = place.directory / "dashboard.log"
    with log.open("ab") as stream:
        dashboard = subprocess.Popen(
            [sys.executable, str(HERE / "gf_serve.py"), uri],
            env=place.environment | {"XDG_CACHE_HOME": str(place.directory / "cache")},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    yield place, database, uri, _address(log, dashboard)
    dashboard.send_signal(signal.SIGTERM)
    dashboard.wait(60)
    database.client.close()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text() if log.exists() else "")
        if found:
            return found.group(0)
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError("the dashboard said no address within 120 s")


@pytest.fixture(scope="session")
def logins(browser, served):
    """Cookies of one login of each role: a password is checked slowly on purpose."""
    states: dict[str, Any] = {}

    def state(role: str) -> Any:
        if role not in states:
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{served[3]}/login")
            gf_browser.log_in(page, role)
            page.get_by_role("button", name="Log out").wait_for()
            states[role] = context.storage_state()
            context.close()
        return states[role]

    return state


@pytest.fixture(scope="session")
def running(served, browser, logins):
    """The campaign at work, and two pages that were opened before it began."""
    place, database, uri, address = served
    context = browser.new_context(
        viewport={"width": 900, "height": 600}, storage_state=logins("viewer"), color_scheme="light"
    )
    watch = gf_browser.watched(context)
    overview, curve = context.new_page(), context.new_page()
    overview.set_viewport_size({"width": 900, "height": 260})
    shown = Running(place, None, address, database.name, database, uri, overview, curve)
    overview.goto(shown.url())
    curve.goto(shown.url("campaigns/silicon/"))
    overview.evaluate("() => { window.marker = 'the same page'; window.scrollTo(0, 120); }")
    curve.evaluate("() => { window.marker = 'the same page'; }")
    # one worker, so that the other core is left to the browser
    workers = "2" if gf_browser.pictures() else "1"
    shown.campaign = place.start("campaign", "run", "silicon.yaml", "--workers", workers, log="campaign.log")
    yield shown
    watch.check()
    context.close()
    if shown.campaign.poll() is None:
        shown.campaign.send_signal(signal.SIGTERM)
    shown.campaign.wait(60)


@pytest.fixture(scope="session")
def fails(running):
    """Return a function that adds a task that fails for real, and waits until a worker has run it."""
    from fireworks import Firework, ScriptTask

    from launchpad.queue import Queue

    worker = running.place.start(*WORKER, log="worker.log")

    def fail(what: str, script: str) -> int:
        task = Firework(
            ScriptTask(script=script),
            name=f"look for the {what}",
            spec={"_category": "build", "campaign": "silicon", "generation": 0, "_priority": 90},
        )
        with Queue.from_uri(running.uri) as queue:
            (fw_id,) = queue.add_wf(task).values()
        until = time.monotonic() + 120
        while running.database.fireworks.find_one({"fw_id": fw_id})["state"] != "FIZZLED":
            log = (running.place.directory / "worker.log").read_text()
            assert worker.poll() is None, f"the worker has ended: {log}"
            assert time.monotonic() < until, f"task {fw_id} has not failed: {log}"
            time.sleep(0.1)
        return fw_id

    yield fail
    worker.terminate()
    worker.wait(60)


@pytest.fixture(scope="session")
def failed(running, fails):
    """Two tasks of the campaign that have failed, the file that lets the first run, and the one that lets it end."""
    mark, seen = running.place.directory / "mended", running.place.directory / "seen"
    wait = f"for n in $(seq 1200); do test -e {seen} && exit; sleep 0.1; done; exit 5"
    disk = fails("disk", f"echo the disk is not there >&2; test -e {mark} && ({wait})")
    return [disk, fails("licence", "echo all licences are taken >&2; exit 3")], mark, seen


@pytest.fixture(scope="session")
def ended(running, browser, logins):
    """The same campaign when an operator has cancelled it in the browser."""
    if gf_browser.pictures():
        _picture_of_the_question(running, browser, logins)
        assert running.campaign.wait(1200) == 0, (running.place.directory / "campaign.log").read_text()
        return running
    until = time.monotonic() + 600
    while running.database.metrics.count_documents({}) < GENERATIONS:
        assert time.monotonic() < until, (running.place.directory / "campaign.log").read_text()
        time.sleep(0.2)
    context = browser.new_context(storage_state=logins("operator"))
    watch = gf_browser.watched(context)
    page = context.new_page()
    page.goto(running.url())
    page.get_by_role("button", name=re.compile("Cancel.*silicon")).click()
    page.locator("dialog .act").click()
    page.get_by_role("row", name=re.compile("silicon")).get_by_text("cancelled", exact=True).wait_for()
    context.close()
    watch.check()
    running.campaign.wait(180)
    return running


def _picture_of_the_question(running, browser, logins) -> None:
    """Take the picture of what is asked before a campaign is cancelled: one that has ended has no such button."""
    context = browser.new_context(storage_state=logins("operator"))
    page = context.new_page()
    page.goto(running.url())
    page.get_by_role("button", name=re.compile("Cancel.*silicon")).click()
    page.locator("dialog .act").wait_for()
    gf_browser.screenshot(page, "confirm_campaign")
    context.close()


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
