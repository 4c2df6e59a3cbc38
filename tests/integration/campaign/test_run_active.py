"""What a run takes for active, while tasks end and others become ready between its questions."""

from __future__ import annotations

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

from launchpad.cli.live import _look
from launchpad.database.campaigns import create_campaign

pytestmark = pytest.mark.database


class Handover(CommandListener):
    """Once it is answered which tasks are ready, the running one ends and the next becomes ready."""

    def __init__(self, tasks):
        self.tasks = tasks
        self.asked = set()

    def started(self, event):
        # of all generations: the present one is counted for itself
        asked = str(event.command.get("pipeline"))
        if "READY" in asked and "spec.generation" not in asked:
            self.asked.add(event.request_id)

    def succeeded(self, event):
        if event.request_id in self.asked:
            self.tasks.update_one({"fw_id": 2}, {"$set": {"state": "READY"}})
            self.tasks.update_one({"fw_id": 1}, {"$set": {"state": "COMPLETED"}})

    def failed(self, event):
        """Nothing to do."""


def test_a_task_that_hands_over_while_one_looks_is_active(database, database_uri, tiny, tmp_path):
    from gapfactory.campaign import load_campaign

    (tmp_path / "tiny.yaml").write_text(tiny(generations=2))
    campaign = load_campaign(tmp_path / "tiny.yaml")
    create_campaign(database, campaign, "text", {})
    spec = {"campaign": campaign.name, "generation": 1, "_category": "relax"}
    database.fireworks.insert_many(
        [
            {"fw_id": 1, "name": "first", "state": "RUNNING", "launches": [], "spec": spec},
            {"fw_id": 2, "name": "second", "state": "WAITING", "launches": [], "spec": spec},
        ]
    )
    handover = Handover(database.fireworks)
    client = MongoClient(database_uri, tz_aware=True, event_listeners=[handover])
    try:
        view = _look(client[database.name], campaign)
        assert handover.asked
        assert view["active"] == 1
    finally:
        client.close()
