"""What a quota does not allow is not begun, a campaign halts with the reason, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from gf_yardstick import stretched

from gapfactory.errors import StateError
from launchpad import service
from launchpad.health.metrics import measure as metrics
from launchpad.health.operations import judge_quota
from launchpad.operations import quotas
from launchpad.operations.settings import Quota
from launchpad.operations.stored import store_quota
from launchpad.queue import Queue

pytestmark = [pytest.mark.database]


def share(database, name: str) -> float:
    return next(use.share for use in quotas.measure(database) if use.name == name)


def work(uri: str, place) -> None:
    """Let one worker assess until nothing is left to be assessed."""
    command = ["worker", "start", "--number", "1", "--category", "assess", "--idle-minutes", "0.01"]
    done = subprocess.run(
        [sys.executable, "-c", "from launchpad.cli import main; main()", *command],
        env=os.environ | {"GAPFACTORY_DB": uri, "GAPFACTORY_SCRATCH": str(place)},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_campaign_halts_before_a_generation_and_goes_on(finished, database_uri, tmp_path) -> None:
    """The finished campaign of two generations is put back to where its first one has been assessed."""
    last = {"campaign": "tiny", "generation": 1}
    for name in ("structures", "relaxations", "selections", "potentials", "metrics"):
        finished[name].delete_many(last)
    finished.fireworks.delete_many({"spec.generation": 1})
    finished.workflows.delete_many({"metadata.generation": 1})
    finished.queue_journal.delete_one({"_id": "add:tiny/g001"})
    finished.campaigns.update_one({"_id": "tiny"}, {"$set": {"state": "running", "generation": 0}})
    labels = finished.labels.count_documents({"status": "done"})
    store_quota(finished, Quota(labels=labels + 1))
    with Queue.from_uri(database_uri) as queue:
        assess = queue.fireworks.find_one({"spec._category": "assess"})["fw_id"]
        queue.rerun_fw(assess)
        work(database_uri, tmp_path)
        found = service.explain(finished, "tiny")
        assert found["state"] == "halted"
        assert f"{labels} of {labels + 1} labels are used and 6 more would come" in found["reason"]
        assert "gapfactory campaign resume tiny --run" in found["reason"]
        assert finished.fireworks.find_one({"spec.generation": 1}) is None
        store_quota(finished, Quota(labels=labels))
        with pytest.raises(StateError, match=r"quota of the group.*db quota set --labels N"):
            service.resume(queue, "tiny")
        assert service.status(finished, "tiny")["state"] == "halted"

        store_quota(finished, Quota(labels=labels + 6))
        assert service.resume(queue, "tiny")["rerun"] == 1
    work(database_uri, tmp_path)
    assert service.status(finished, "tiny")["state"] == "running"
    assert finished.fireworks.find_one({"spec.generation": 1, "state": "READY"})


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_usage_tells_campaigns_apart_and_agrees_with_the_server(finished) -> None:
    used = {(use.campaign, use.kind): use for use in quotas.usage(finished)}
    assert used["tiny", "structures"].documents == finished.structures.count_documents({"campaign": "tiny"})
    assert used["tiny", "relaxations"].megabytes > 0
    files = {f["sha256"]: f["size"] for p in finished.potentials.find() for f in p["files"]}
    assert used["tiny", "potential files"].documents == len(files)
    total = sum(use.megabytes for use in used.values())
    assert total == pytest.approx(finished.command("dbStats")["dataSize"] / 1e6, rel=0.05, abs=0.02)
    hours = next(use.used for use in quotas.measure(finished) if use.name == "core_hours")
    seconds = sum(
        (launch["action"] or {}).get("stored_data", {}).get("seconds", 0.0)
        for launch in finished.launches.find({"state": "COMPLETED"})
    )
    assert hours == pytest.approx(seconds / 3600)
    assert hours > 0


def test_a_new_campaign_that_does_not_fit_is_refused_whole(database, database_uri, tiny) -> None:
    from gapfactory.campaign.load import parse_campaign

    campaign = parse_campaign(tiny())
    # 12 cells, an atom and 4 dimers
    store_quota(database, Quota(structures=16))
    with Queue.from_uri(database_uri) as queue:
        with pytest.raises(StateError, match=r"0 of 16 structures are used and 17 more would come") as caught:
            service.submit(queue, campaign, tiny())
        # it is not there to be resumed, and no policy removes structures
        assert "then submit it again" in str(caught.value)
        assert "prune" not in str(caught.value)
        assert database.campaigns.find_one() is None
        assert database.fireworks.find_one() is None
        # 6 picks, and the atom and the dimers
        store_quota(database, Quota(labels=10))
        with pytest.raises(StateError, match=r"0 of 10 labels are used and 11 more would come"):
            service.submit(queue, campaign, tiny())
        store_quota(database, Quota(gigabytes=0))
        with pytest.raises(StateError, match="gapfactory db prune"):
            service.submit(queue, campaign, tiny())
        store_quota(database, Quota(structures=17, labels=11))
        assert service.submit(queue, campaign, tiny()) == "new"
        # what is there may be submitted again, whatever the quota says
        store_quota(database, Quota(structures=0))
        assert service.submit(queue, campaign, tiny()) == "unchanged"


def test_nothing_is_counted_that_has_no_limit(database, monkeypatch) -> None:
    """With 10^6 launches a look at all of them takes seconds, and notifications look every five minutes."""
    from pymongo.collection import Collection

    from launchpad.operations.events import Watch
    from launchpad.operations.settings import NoticeSettings

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("launches were read")

    monkeypatch.setattr(Collection, "aggregate", refused)
    target = {"name": "a", "webhook": {"url": "http://127.0.0.1:9/"}}
    watch = Watch(database, NoticeSettings.model_validate({"targets": [target]}))
    assert watch.look() == []
    store_quota(database, Quota(structures=10))
    assert watch.look() == []
    assert quotas.exceeded(database, {"structures": 11.0})
    store_quota(database, Quota(core_hours=10))
    with pytest.raises(AssertionError, match="launches were read"):
        quotas.exceeded(database, {})


def test_limits_are_shown_before_they_are_reached(database, caplog) -> None:
    database.labels.insert_many([{"_id": f"{k}", "status": "done"} for k in range(8)])
    store_quota(database, Quota(labels=11))
    assert judge_quota(quotas.measure(database), 0.8).verdict == "ok"
    store_quota(database, Quota(labels=10))
    assert judge_quota(quotas.measure(database), 0.8).verdict == "advice"
    assert quotas.exceeded(database, {"labels": 2}) == ""
    assert "8 of 10 labels are used" in caplog.text
    store_quota(database, Quota(labels=8))
    finding = judge_quota(quotas.measure(database), 0.8)
    assert finding.verdict == "failed"
    assert "db quota set" in finding.remedy
    numbers = {
        (m.name, tuple(labels.values())): value for m in metrics(database) for labels, value in m.samples
    }
    assert numbers["quota_used", ("labels",)] == 8
    assert numbers["quota_limit", ("labels",)] == 8
    assert ("quota_limit", ("structures",)) not in numbers
    store_quota(database, Quota(labels=0))
    assert share(database, "labels") >= 1


def test_usage_is_fast_with_many_documents(database) -> None:
    for name in ("structures", "relaxations"):
        for start in range(0, 20_000, 5000):
            database[name].insert_many(
                [
                    {
                        "_id": f"{name}{k}",
                        "campaign": f"c{k % 5}",
                        "generation": k % 7,
                        "stage": "cell",
                        "index": k,
                    }
                    for k in range(start, start + 5000)
                ]
            )
    database.campaigns.insert_many([{"_id": f"c{k}", "state": "done"} for k in range(5)])
    begun = time.monotonic()
    used = quotas.usage(database)
    quotas.measure(database)
    assert time.monotonic() - begun < stretched(4.0)
    assert {use.documents for use in used if use.kind == "relaxations"} == {4000}


def test_the_commands(database, database_uri, place) -> None:
    assert "labels 10" in place.good("db", "quota", "set", "--labels", "10", GAPFACTORY_DB=database_uri)
    assert "gigabytes 0.5" in place.good(
        "db", "quota", "set", "--gigabytes", "0.5", GAPFACTORY_DB=database_uri
    )
    assert "labels" in place.good("db", "usage", GAPFACTORY_DB=database_uri)
    assert database.operations.find_one({"_id": "quota"})["quota"]["labels"] == 10
