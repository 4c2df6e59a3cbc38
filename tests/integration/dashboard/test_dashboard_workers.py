"""The page of workers: a real worker is shown with what it is at, and is asked to stop from there."""

from __future__ import annotations

import time

import pytest

ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def registered(application, database_uri):
    """The entry of this process as a worker's: what `Registration` writes."""
    from launchpad.queue import Queue
    from launchpad.workers.registry import Registration

    with Queue.from_uri(database_uri) as queue:
        yield Registration(queue, "worker", ["relax"], cores=4)


def test_a_worker_is_shown_with_site_task_and_rate(log_in, database, registered):
    database.fireworks.insert_one({"fw_id": 5, "name": "si <g000> relax", "state": "RUNNING", "spec": {}})
    registered.report("running", fw_id=5, done=20, failed=1)
    database.workers.update_one(
        {"_id": registered.id},
        {
            "$set": {
                "started": time.time() - 3600,
                "job": {"scheduler": "slurm", "where": "site:abc", "id": "77"},
            }
        },
    )
    page = log_in("viewer").get("/g/si/workers").text
    assert "/g/si/tasks/5" in page
    assert "si &lt;g000&gt; relax" in page
    assert "abc slurm 77" in page
    assert "relax, 4 cores" in page
    assert "21.0" in page
    assert 'type="checkbox"' not in page


def test_silent_and_dead_ones_are_told_apart(database, registered):
    from launchpad.dashboard.queries.workers import worker_hosts

    registered.report("idle")
    mine = database.workers.find_one({"_id": registered.id})
    dead = {**mine, "_id": "dead", "pid": 2**22, "start": 1}
    away = {**mine, "_id": "away", "node": "elsewhere", "heartbeat": mine["heartbeat"] - 1000}
    database.workers.insert_many([dead, away])
    rows = {row.id: row.condition for host in worker_hosts(database) for row in host.rows}
    assert rows == {registered.id: "idle", "dead": "dead", "away": "silent"}


def test_a_worker_is_asked_to_stop_after_a_question_by_those_who_may(log_in, database, registered):
    from launchpad.database.audit import read_audit

    registered.report("idle")
    # as if on another machine: this process must not get the signal
    database.workers.update_one({"_id": registered.id}, {"$set": {"node": "elsewhere"}})
    data = {"id": registered.id}
    assert log_in("viewer").post("/g/si/workers/stop", data=data, headers=ORIGIN).status_code == 403
    client = log_in("operator")
    asked = client.post("/g/si/workers/stop", data=data, headers=ORIGIN)
    assert "Ask 1 worker to stop?" in asked.text
    assert "stop" not in database.workers.find_one({"_id": registered.id})
    done = client.post("/g/si/workers/stop", data=data | {"confirmed": "yes"}, headers=ORIGIN)
    assert done.status_code == 303
    assert registered.report("idle") is True
    entry = read_audit(database)[-1]
    assert (entry.event, entry.who) == ("worker.stopped", "operator (dashboard) as local")
    assert client.post("/g/si/workers/stop", data={"id": "no"}, headers=ORIGIN).status_code == 400
