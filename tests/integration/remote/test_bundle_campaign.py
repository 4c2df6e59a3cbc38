"""A whole campaign whose tasks travel as files ends in the same bits as one whose tasks run on the database."""

from __future__ import annotations

import pytest
from bundle_help import run_campaign, submit

from launchpad.database.check import check_database
from launchpad.database.digest import campaign_digests
from launchpad.queue import Queue

pytestmark = [pytest.mark.database]


def test_a_campaign_through_bundles_ends_in_the_bits_of_a_local_one(
    database_uri, tiny, tiny_campaign, tmp_path, monkeypatch
):
    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    with Queue.from_uri(database_uri) as queue:
        # how work is cut decides no result; every label starts a process
        text = tiny(generations=2).replace(
            "relax_chunk: 3, reference_chunk: 2", "relax_chunk: 6, reference_chunk: 6"
        )
        submit(queue, text)
        sent = run_campaign(queue, tmp_path / "sites", bundles=True)
        found = campaign_digests(queue.db, "tiny")
        assert queue.db.campaigns.find_one({"_id": "tiny"})["state"] == "done"
        assert check_database(queue.db) == []
        assert queue.db.label_claims.count_documents({}) == 0
    assert {kind for kind, _ in sent} == {"build", "relax", "select", "fit", "reference"}
    assert {what for _, what in sent} >= {"atoms", "noise", "picks", "phase"}
    assert {"structures", "relaxations", "potential 1"} <= set(found)
    assert found == tiny_campaign.json("campaign", "digest", "tiny")
