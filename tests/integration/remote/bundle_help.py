"""Run campaigns in this process, directly or through bundles."""

from __future__ import annotations

import os
from pathlib import Path

from fireworks.core.fworker import FWorker

from gapfactory.campaign import parse_campaign
from launchpad import service
from launchpad.queue.guard import AllowList
from launchpad.remote import SENDABLE, apply_result, make_bundle, run_bundle
from launchpad.workers.ending import postpone, store_result
from launchpad.workers.rocket import Rocket

ALLOWED = AllowList()
WORKER = FWorker(name="test")


def other_database(uri: str, name: str) -> str:
    """Return the URI with another database."""
    base, _, options = uri.partition("?")
    scheme, _, rest = base.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}?{options}"


def submit(queue, text):
    """Submit a campaign; return it."""
    campaign = parse_campaign(text)
    service.submit(queue, campaign, text)
    return campaign


def take(queue, category=None, fw_id=None):
    """Check out the next task, of a category."""
    worker = FWorker(name="test", category=category) if category else WORKER
    return queue.take(worker, "/nowhere", fw_id=fw_id)


def run_here(queue, taken, directory: Path):
    """Run a task on the database itself, as a worker does; return how it ended."""
    before = Path.cwd()
    directory.mkdir(parents=True)
    os.chdir(directory)
    try:
        outcome = Rocket(queue, WORKER, taken.fw_id).execute(queue.build(taken), directory)
    finally:
        os.chdir(before)
    ended = postpone if outcome.transient else store_result
    ended(queue, taken.fw_id, taken.launch_id, outcome)
    return outcome


def run_there(queue, taken, directory: Path, **more):
    """Run a task through a bundle; return what was applied."""
    make_bundle(queue, taken, directory / "bundle")
    run_bundle(directory / "bundle", directory / "result", directory / "work", ALLOWED, **more)
    return apply_result(queue, directory / "result")


def run_campaign(queue, directory: Path, *, bundles: bool, limit: int = 200):
    """Run every task until nothing is ready; return the kinds that were run through bundles."""
    sent = []
    for number in range(limit):
        taken = take(queue)
        if taken is None:
            return sent
        place = directory / f"{number:03d}"
        category = taken.raw["spec"]["_category"]
        if bundles and category in SENDABLE:
            sent.append((category, taken.raw["spec"]["_tasks"][0].get("what")))
            applied = run_there(queue, taken, place)
            assert applied.state == "COMPLETED", applied
        else:
            outcome = run_here(queue, taken, place)
            assert not outcome.failed, outcome.message
    raise AssertionError("the campaign does not end")
