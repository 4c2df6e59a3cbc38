"""A generation is submitted exactly once, wherever a submitter is killed and however many there are."""

from __future__ import annotations

import threading

import pytest
from pymongo.collection import Collection

from gapfactory.campaign import parse_campaign
from gapfactory.errors import StateError
from gapfactory.protocols.planner import plan_generation
from launchpad.database.campaigns import campaign_of, create_campaign, require_campaign, science_digest
from launchpad.queue import Queue
from launchpad.workflows.generation import submit_generation

pytestmark = [pytest.mark.database]

WRITES = ("update_one", "insert_one", "insert_many", "find_one_and_update", "bulk_write", "replace_one")
FILE = """
preset: quickstart-Si-analytic
schedule: {cells_per_generation: 4, initial_cells: 4}
select: {noise_cells: 1, labels_per_generation: 2, held_out_per_generation: 1}
stop: {label_budget: 6}
execution: {build_chunk: 2, relax_chunk: 2, reference_chunk: 2}
"""


class KilledError(BaseException):
    """As little caught as SIGKILL."""


@pytest.fixture
def queue(database_uri):
    with Queue.from_uri(database_uri) as opened:
        yield opened


@pytest.fixture
def dying(monkeypatch):
    """Return a function that lets this many writes through and raises at the next one; None for no limit."""
    left: list[int | None] = [None]
    seen: list[str] = []

    def wrap(name):
        original = getattr(Collection, name)

        def method(self, *args, **kwargs):
            if left[0] is not None:
                if left[0] == 0:
                    raise KilledError
                left[0] -= 1
            seen.append(f"{self.name}.{name}")
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Collection, name, method)

    for name in WRITES:
        wrap(name)

    def limit(number):
        left[0] = number
        seen.clear()
        return seen

    return limit


def stored(queue, name):
    """Return what the queue holds of a campaign, with ids counted from the first."""
    (workflow,) = queue.workflows.find({"metadata.campaign": name})
    fireworks = sorted(queue.fireworks.find({"spec.campaign": name}), key=lambda fw: fw["fw_id"])
    first = fireworks[0]["fw_id"]
    assert sorted(workflow["nodes"]) == [fw["fw_id"] for fw in fireworks]
    return {
        "links": sorted(
            (int(k) - first, sorted(v - first for v in vs)) for k, vs in workflow["links"].items()
        ),
        "states": [workflow["fw_states"][str(fw["fw_id"])] for fw in fireworks],
        "fireworks": [(fw["name"].removeprefix(name), fw["state"]) for fw in fireworks],
    }


@pytest.mark.parametrize("generation", [0, 1])
def test_killed_between_any_two_writes_and_submitted_again(queue, dying, generation) -> None:
    def campaign(name):
        return parse_campaign(f"name: {name}\n{FILE}")

    writes = dying(None)
    submit_generation(queue, campaign("whole"), generation)
    number = len(writes)
    assert number >= 4, "ids, the record of the addition, the workflow, its Fireworks"
    expected = stored(queue, "whole")
    assert len(expected["fireworks"]) == len(plan_generation(campaign("whole"), generation))
    for limit in range(number):
        name = f"killed-{limit:02d}"
        dying(limit)
        with pytest.raises(KilledError):
            submit_generation(queue, campaign(name), generation)
        dying(None)
        ids = submit_generation(queue, campaign(name), generation)
        assert stored(queue, name) == expected, f"killed after {limit} writes"
        assert submit_generation(queue, campaign(name), generation) == ids
        assert stored(queue, name) == expected


def test_a_task_that_runs_already_is_left_alone_by_a_late_submitter(queue, dying) -> None:
    """The first submitter dies before it notes that it is done; its roots run; the second changes nothing."""
    campaign = parse_campaign(f"name: late\n{FILE}")
    number = len(dying(None)) or 0
    writes = dying(None)
    submit_generation(queue, parse_campaign(f"name: count\n{FILE}"), 0)
    number = len(writes)
    dying(number - 1)
    with pytest.raises(KilledError):
        submit_generation(queue, campaign, 0)
    dying(None)
    root = queue.fireworks.find_one({"spec.campaign": "late", "state": "READY"})
    queue.fireworks.update_one({"fw_id": root["fw_id"]}, {"$set": {"state": "COMPLETED"}})
    submit_generation(queue, campaign, 0)
    assert queue.fireworks.find_one({"fw_id": root["fw_id"]})["state"] == "COMPLETED"


def test_many_submitters_at_once(database_uri, queue) -> None:
    campaign = parse_campaign(f"name: crowd\n{FILE}")
    start = threading.Barrier(6)
    results: list[object] = []

    def submit() -> None:
        with Queue.from_uri(database_uri) as own:
            start.wait()
            try:
                results.append(tuple(submit_generation(own, campaign, 0)))
            except Exception as error:  # noqa: BLE001 - compared below
                results.append(error)

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(set(results)) == 1, results
    stored(queue, "crowd")


def test_campaign_records(database) -> None:
    one = parse_campaign(f"name: one\n{FILE}")
    assert create_campaign(database, one, "text", {}) == "new"
    assert create_campaign(database, one, "text", {}) == "unchanged"
    recut = parse_campaign(f"name: one\n{FILE}".replace("relax_chunk: 2", "relax_chunk: 1"))
    assert create_campaign(database, recut, "text", {}) == "updated"
    assert science_digest(parse_campaign(f"name: one\nseed: 2\n{FILE}")) != science_digest(one)
    assert database.campaigns.count_documents({}) == 1


def test_a_campaign_of_an_older_version_keeps_its_backend(database) -> None:
    """Before there was a choice, `gap_fit` made every potential."""
    text = f"name: old\n{FILE}"
    campaign = parse_campaign(text)
    assert campaign.gap.backend == "native"
    create_campaign(database, campaign, text, {})
    for stored in ({"$set": {"settings.gap.backend": "gap_fit"}}, {"$unset": {"settings.gap.backend": 1}}):
        database.campaigns.update_one({"_id": "old"}, stored)
        kept = campaign_of(require_campaign(database, "old"))
        assert kept.gap.backend == "gap_fit"
        assert kept.gap.soap == campaign.gap.soap
        with pytest.raises(StateError, match=r"gap\.backend: gap_fit, now native.*The file is the same"):
            create_campaign(database, campaign, text, {})
    asked = f"{text}gap: {{backend: gap_fit}}\n"
    assert create_campaign(database, parse_campaign(asked), asked, {}) == "updated"
