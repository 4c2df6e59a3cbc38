"""The chain of EDDPs with its tasks carried to a site as files: the same bits, and no task trains for another."""

from __future__ import annotations

import pytest
from bundle_help import other_database, run_campaign, submit
from pymongo import MongoClient

from launchpad.database.campaigns import campaign_of
from launchpad.database.digest import campaign_digests
from launchpad.queue import Queue
from launchpad.remote import SENDABLE, BundleError
from launchpad.remote.archive import Archive
from launchpad.remote.permits import Permit
from launchpad.remote.recording import decoded

pytestmark = [pytest.mark.database, pytest.mark.timeout(300)]

CAMPAIGN = """
preset: quickstart-eddp
name: chain
seed: 2
schedule: {cells_per_generation: 6, initial_cells: 12, generations: 2}
build: {atoms_min: 2, atoms_max: 4}
chain: {best: 3, copies: 2}
crystals: {diamond: {count: 3}}
select: {noise_cells: 1}
relax: {max_steps: 20}
eddp:
  features: {cutoff: 4.0, two_body: 4, three_body: 2}
  network: {hidden: [3]}
  training: {fractions: [0.6, 0.2, 0.2], max_steps: 20}
  ensemble: {members: 4, outlier: 20}
evidence: {phases: none, stability: {enabled: false}}
execution: {build_chunk: 12, relax_chunk: 6, reference_chunk: 30, train_chunk: 2}
"""


def writes(queue, directory):
    """Return the task, its permit and what it wrote, of all tasks that trained."""
    found = []
    for path in sorted(directory.glob("*/result")):
        with Archive.open(path, "result") as archive:
            statements = [decoded(raw) for raw in archive.documents("writes")]
            launch = queue.launches.find_one({"launch_id": archive.manifest.launch_id})
        firework = queue.fireworks.find_one({"fw_id": launch["fw_id"]})
        if firework["spec"]["_category"] == "train":
            found.append((firework, launch["bundle"]["permit"], statements))
    return found


def test_networks_are_trained_away_as_here(database_server, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    name = f"gf_net_{tmp_path.name}"[:60]
    digests, networks = {}, {}
    with MongoClient(database_server) as client:
        try:
            for away in (False, True):
                with Queue.from_uri(other_database(database_server, f"{name}_{away}")) as queue:
                    submit(queue, CAMPAIGN)
                    sent = run_campaign(queue, tmp_path / str(away), bundles=away)
                    digests[away] = campaign_digests(queue.db, "chain")
                    networks[away] = {d["_id"]: (d["key"], d["text"]) for d in queue.db.networks.find({})}
                    if away:
                        assert {kind for kind, _ in sent} == set(SENDABLE)
                        judge(queue, tmp_path / str(away))
        finally:
            for away in (False, True):
                client.drop_database(f"{name}_{away}")
    assert len(networks[True]) == 8
    assert networks[True] == networks[False]
    assert digests[True] == digests[False]


def judge(queue, directory) -> None:
    """Hold what each task wrote against its own permit and those of all others."""
    campaign = campaign_of(queue.db.campaigns.find_one({"_id": "chain"}))
    trained = writes(queue, directory)
    assert len(trained) == 4
    refused = 0
    for firework, _, statements in trained:
        mine = [statement for statement in statements if statement["c"] == "networks"]
        assert len(mine) == 2
        for of, permit, _ in trained:
            checker = Permit.from_document(permit, of, campaign)
            for statement in mine:
                if of is firework:
                    checker.check(statement)
                    continue
                with pytest.raises(BundleError, match="nothing of it is stored"):
                    checker.check(statement)
                refused += 1
    assert refused == 4 * 3 * 2
