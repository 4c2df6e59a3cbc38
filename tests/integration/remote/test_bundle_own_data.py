"""A campaign that was given labels and ends with a round of robustness, its tasks carried to a site: the same bits."""

from __future__ import annotations

import pytest
from bundle_help import other_database, run_campaign
from gf_own_data import labelled_silicon, write_data
from pymongo import MongoClient

from gapfactory.campaign import load_campaign
from launchpad import service
from launchpad.database.digest import campaign_digests
from launchpad.queue import Queue

pytestmark = [pytest.mark.database, pytest.mark.timeout(300)]


ROBUSTNESS = """
robustness:
  rounds: 1
  time_ps: 0.04
  frames: 4
  labels: 4
  held_out: 1
  starts:
    bulk: {cells: 2, atoms: 8}
    surfaces: {cells: 1, atoms: 8, vacuum: 6, temperature_factor: 0.6}
"""


def test_given_labels_are_trained_on_away_as_here(database_server, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    write_data(tmp_path / "first.xyz", labelled_silicon())
    write_data(tmp_path / "later.xyz", labelled_silicon(12, seed=4))
    text = tiny(generations=2).replace("initial_cells: 12", "initial_cells: 0")
    text = text.replace("relax_chunk: 3, reference_chunk: 2", "relax_chunk: 6, reference_chunk: 6")
    text += "data: {mine: {file: first.xyz}, more: {file: later.xyz, joins: 1, verify: 1}}\n"
    text += ROBUSTNESS
    (tmp_path / "tiny.yaml").write_text(text)
    campaign = load_campaign(tmp_path / "tiny.yaml")
    name = f"gf_own_{tmp_path.name}"[:60]
    digests = {}
    with MongoClient(database_server) as client:
        try:
            for away in (False, True):
                with Queue.from_uri(other_database(database_server, f"{name}_{away}")) as queue:
                    service.submit(queue, campaign, text, tmp_path)
                    sent = run_campaign(queue, tmp_path / str(away), bundles=away)
                    digests[away] = campaign_digests(queue.db, "tiny")
                    if away:
                        assert ("reference", "data") in sent
                        trained = queue.db.potentials.find_one({"generation": 1})["trained_on"]
                        assert {key.split("/")[3] for key in trained if "/data/" in key} == {"mine", "more"}
                        last = queue.db.potentials.find_one({"generation": 2})["trained_on"]
                        assert sum(key.startswith("tiny/g002/relaxation/") for key in last) == 4
                        starts = list(queue.db.structures.find({"generation": 2, "stage": "cell"}))
                        assert {d["info"]["component"] for d in starts} == {"bulk", "surfaces"}
                        assert {d["info"]["crystal"] for d in starts} == {"Si-diamond"}
        finally:
            for away in (False, True):
                client.drop_database(f"{name}_{away}")
    assert digests[True] == digests[False]
