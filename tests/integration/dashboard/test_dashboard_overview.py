"""The first page: every task counted, pace and cost from launches that are read once, trouble said."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest


def task(fw_id, state, kind="build", campaign="si", **more):
    return {
        "fw_id": fw_id,
        "name": f"{campaign} g000 {kind}-{fw_id}",
        "state": state,
        "launches": [],
        "spec": {"_category": kind, "campaign": campaign, "generation": 0},
        **more,
    }


def launch(launch_id, fw_id, ended, seconds=36.0, **more):
    return {
        "launch_id": launch_id,
        "fw_id": fw_id,
        "state": "COMPLETED",
        "time_end": ended.isoformat(),
        "runtime_secs": seconds + 1,
        "action": {"stored_data": {"seconds": seconds}},
        **more,
    }


@pytest.fixture
def ledger(application, database):
    from launchpad.dashboard.queries.overview import Ledger

    return Ledger()


def test_counts_are_those_of_every_task_and_come_from_an_index(application, database):
    from launchpad.queries import queue_counts

    database.fireworks.insert_many(
        [task(number, "READY", "relax") for number in range(1, 4)]
        + [task(9, "COMPLETED", "fit"), {"fw_id": 10, "state": "READY", "spec": {}}]
    )
    assert queue_counts(database) == {"": {"READY": 1}, "fit": {"COMPLETED": 1}, "relax": {"READY": 3}}


def test_each_launch_is_counted_once_however_often_one_looks(ledger, database):
    now = datetime.now(UTC)
    database.fireworks.insert_many([task(1, "COMPLETED"), task(2, "COMPLETED", campaign="cu")])
    database.launches.insert_many(
        [launch(1, 1, now - timedelta(hours=3)), launch(2, 1, now), launch(3, 2, now, 72.0)]
    )
    for _ in range(3):
        ledger.look(database)
    assert (ledger.hours("si"), ledger.hours("cu")) == (pytest.approx(0.02), pytest.approx(0.02))
    assert (ledger.last_hour("si", now.timestamp()), ledger.last_hour("cu", now.timestamp())) == (1, 1)
    # written a little late, with the time at which it ended
    database.launches.insert_one(launch(4, 1, now - timedelta(seconds=5)))
    ledger.look(database)
    ledger.look(database)
    assert ledger.hours("si") == pytest.approx(0.03)


def test_a_long_history_is_read_beside_the_page(ledger, database, monkeypatch):
    go, read_all = threading.Event(), ledger._read_all
    monkeypatch.setattr(ledger, "_read_all", lambda database: go.wait(60) and read_all(database))
    now = datetime.now(UTC)
    database.fireworks.insert_one(task(1, "COMPLETED"))
    database.launches.insert_many(
        [launch(number, 1, now - timedelta(seconds=3000 - number), 3.6) for number in range(1, 1301)]
    )
    ledger.look(database)
    assert not ledger.complete
    go.set()
    ledger._beside.join(60)
    assert ledger.complete
    assert ledger.hours("si") == pytest.approx(1.3)


def test_two_groups_of_one_server_do_not_share_a_ledger(new_database):
    from launchpad.dashboard.queries.overview import ledger_of
    from launchpad.database.connection import open_database

    first, second = open_database(new_database()), open_database(new_database())
    first.fireworks.insert_one(task(1, "COMPLETED"))
    first.launches.insert_one(launch(1, 1, datetime.now(UTC)))
    assert ledger_of(first).hours("si") > 0
    assert ledger_of(second).hours("si") == 0
    first.client.close()
    second.client.close()


def test_trouble_is_said_and_leads_to_its_causes(log_in, database):
    client = log_in("viewer")
    assert "no task has failed" in client.get("/g/si/").text
    database.fireworks.insert_many([task(1, "FIZZLED"), task(2, "READY", "relax")])
    database.workers.insert_one(
        {"_id": "w", "host": "n1", "pid": 7, "kind": "worker", "state": "idle", "categories": ["fit"],
         "heartbeat": time.time(), "started": time.time() - 100, "done": 1, "failed": 0}
    )  # fmt: skip
    page = client.get("/g/si/overview/now").text
    assert "one task has failed" in page
    assert 'href="/g/si/queue"' in page
    assert "no living worker takes them: 1 relax" in page
    database.workers.update_one({"_id": "w"}, {"$set": {"categories": []}})
    assert "no living worker takes them" not in client.get("/g/si/overview/now").text


def test_a_campaign_says_where_to_go_and_what_can_be_done_to_it(stocked, log_in, database):
    """Whoever looks has ways on, ended or not; an operator has what its state allows, asked in a dialog."""
    page = log_in("viewer").get("/g/si/").text
    for address in ("structures/?campaign=one", "structures/map/one/", "campaigns/one/generations/0/tasks"):
        assert f'href="/g/si/{address}"' in page
    assert 'action="/g/si/campaigns/one/act"' not in page
    page = log_in("operator").get("/g/si/").text
    assert 'action="/g/si/campaigns/one/act" data-dialog' in page
    assert 'value="cancel"' in page
    database.campaigns.update_one({"_id": "one"}, {"$set": {"state": "done"}})
    page = log_in("operator").get("/g/si/").text
    assert 'action="/g/si/campaigns/one/act"' not in page
    assert "it has ended" in page
    assert 'href="/g/si/structures/map/one/"' in page


def test_a_campaign_of_a_version_whose_settings_are_not_read_hides_no_other(stocked, log_in, database):
    """As an upgrade leaves its record; it was cut off in a generation that had chosen."""
    from launchpad.database.documents import SelectionDocument
    from launchpad.database.results import save_selection

    chosen = {"train": ["one/g000/cell/000001"], "test": [], "report": {"picks": []}}
    save_selection(database, SelectionDocument(id="one/g001", campaign="one", generation=1, **chosen))
    there = {"generation": 1, "levels": {}, "compositions": [], "settings.unheard_of": 3}
    database.campaigns.update_one({"_id": "one"}, {"$set": there})
    for address in ("", "overview/now", "campaigns/", "campaigns/one/"):
        answer = log_in("viewer").get(f"/g/si/{address}")
        assert answer.status_code == 200, address
        assert "/g/si/campaigns/one/" in answer.text
    assert log_in("viewer").get("/g/si/api/v1/campaigns/one").status_code == 200


def test_failed_tasks_are_said_with_the_campaign(stocked, log_in, database):
    fw_id = database.fireworks.find_one({"spec.campaign": "one"})["fw_id"]
    database.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "FIZZLED"}})
    page = log_in("viewer").get("/g/si/").text
    row = page[page.index("/g/si/campaigns/one/") : page.index("</tr>", page.index("/g/si/campaigns/one/"))]
    assert "1 task<" in row
    assert "state=FIZZLED" in row


def test_a_burst_of_launches_is_read_to_its_end_and_pages_do_not_wait_for_it(ledger, database):
    """More ended within the margin of late results than are read at one look."""
    now = datetime.now(UTC)
    database.fireworks.insert_one(task(1, "COMPLETED"))
    database.launches.insert_many(
        [launch(number, 1, now - timedelta(milliseconds=3000 - number), 3.6) for number in range(1, 1301)]
    )
    ledger.look(database)
    with ledger._reading:
        ledger.look(database)
        assert ledger.last_hour("si", now.timestamp()) >= 500
    ledger._beside.join(60)
    assert ledger.complete
    for _ in range(4):
        ledger.look(database)
    assert ledger.hours("si") == pytest.approx(1.3)
    assert ledger.completed_hours == pytest.approx(1.3)
