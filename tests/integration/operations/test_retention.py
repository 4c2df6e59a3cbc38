"""Whatever a policy removes, nothing that is left is broken, and what was archived comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import gf_prune
import pytest
from gf_prune import HARSHEST

from gapfactory.errors import InputError, NotFoundError, PotentialError, ServiceError, StateError
from launchpad import service
from launchpad.database.check import check_database
from launchpad.database.connection import open_database
from launchpad.database.digest import campaign_digests
from launchpad.database.documents import now
from launchpad.database.indexes import ensure_indexes
from launchpad.database.transfer import import_database
from launchpad.exporting import export_campaign
from launchpad.operations import retention
from launchpad.operations.lease import Lease
from launchpad.operations.settings import RetentionPolicy, Rule
from launchpad.operations.stored import load_settings
from launchpad.queue import Queue
from launchpad.reporting import report_campaign

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]

COLLECTIONS = ("relaxations", "structures", "launches", "labels", "potentials", "queue_journal", "metrics")


def content(database) -> dict:
    """Return every document, and every file by the sha256 that it must have."""
    found = {name: list(database[name].find().sort("_id", 1)) for name in COLLECTIONS}
    files = database["potential_files.files"].find({}, {"length": 1}).sort("_id", 1)
    return {**found, "files": list(files)}


def prune(database, directory, policy=HARSHEST, **more):
    more = {"by": "test", "file_age_s": 0.0, **more}
    return retention.prune(database, lambda name: policy, directory, **more)


def test_the_harshest_policy_breaks_nothing_and_its_archive_brings_all_back(finished, tmp_path) -> None:
    digests, before = campaign_digests(finished, "tiny"), content(finished)
    planned = retention.describe(finished, retention.plan(finished, lambda name: HARSHEST))
    assert {row.kind for row in planned} == {"trajectories", "cells", "launches", "potentials", "journal"}
    assert all(row.megabytes > 0 for row in planned if row.kind != "journal")
    assert content(finished) == before, "a plan changes nothing"

    record = prune(finished, tmp_path)
    assert record["state"] == "done"
    assert (Path(record["file"]).stat().st_mode & 0o777) == 0o600
    assert {c["kind"]: c["documents"] for c in record["counts"]} == {r.kind: r.documents for r in planned}
    after = content(finished)
    assert not any("positions" in relaxation for relaxation in after["relaxations"])
    assert len(after["files"]) < len(before["files"])
    chosen = {k for s in finished.selections.find() for k in (*s["train"], *s["test"], *s["noise"])}
    assert all("atoms" in s for s in after["structures"] if s["_id"] in chosen)
    assert any("atoms" not in s for s in after["structures"])
    tombstone = after["relaxations"][0]["pruned"]
    assert (tombstone["in"], len(tombstone["sha256"])) == (record["_id"], 64)

    assert check_database(finished) == []
    assert campaign_digests(finished, "tiny") == digests
    page = report_campaign(finished, "tiny", tmp_path / "report").read_text()
    assert f"by test: {len(after['relaxations'])} trajectories, archived in {record['file']}" in page
    export_campaign(finished, "tiny", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "campaign.json").read_text())
    assert {row["sha256"] for row in manifest["removed"]} == {record["sha256"]}
    with pytest.raises(
        PotentialError, match=rf"removed by policy.* by test.*{Path(record['file']).name}.*db restore"
    ):
        export_campaign(finished, "tiny", tmp_path / "old", 0)
    assert prune(finished, tmp_path) is None, "nothing is left to remove"

    counts = retention.restore(finished, Path(record["file"]))
    assert counts == {r.kind: r.documents for r in planned}
    restored = content(finished)
    for name in before:
        assert restored[name] == before[name], name
    assert check_database(finished) == []
    assert sum(retention.restore(finished, Path(record["file"])).values()) == 0


def test_deleting_leaves_tombstones_and_says_that_nothing_was_archived(finished, tmp_path) -> None:
    digests = campaign_digests(finished, "tiny")
    gone = Rule(after_days=0, action="delete")
    policy = RetentionPolicy(trajectories=gone, cells=gone, potentials=gone, keep_potentials=1)
    record = prune(finished, tmp_path, policy)
    assert record["file"] == ""
    assert list(tmp_path.iterdir()) == []
    assert check_database(finished) == []
    assert campaign_digests(finished, "tiny") == digests
    with pytest.raises(PotentialError, match="and not archived"):
        export_campaign(finished, "tiny", tmp_path / "old", 0)


def test_policies_wait_for_their_days_and_for_the_end(finished, tmp_path) -> None:
    later = RetentionPolicy(trajectories=Rule(after_days=30))
    assert retention.plan(finished, lambda name: later) == []
    assert retention.plan(finished, lambda name: later, moment=now() + timedelta(days=29)) == []
    assert retention.plan(finished, lambda name: later, moment=now() + timedelta(days=31))
    finished.campaigns.update_one({"_id": "tiny"}, {"$set": {"state": "running"}})
    assert retention.plan(finished, lambda name: later, moment=now() + timedelta(days=31)) == []
    keep = later.model_copy(update={"keep_generations": 1})
    assert {p.kind for p, _ in retention.plan(finished, lambda name: keep)} == {"cells"}


@pytest.mark.long
def test_a_running_campaign_goes_on_to_the_same_digest(finished, database_uri, tmp_path) -> None:
    """The state in which the last fit is about to begin; everything that may go is gone by then."""
    from launchpad.database.campaigns import campaign_of, require_campaign

    digests = campaign_digests(finished, "tiny")
    finished.potentials.delete_one({"_id": "tiny/g001"})
    finished.metrics.delete_one({"_id": "tiny/g001"})
    finished.campaigns.update_one({"_id": "tiny"}, {"$set": {"state": "running"}})
    record = prune(finished, tmp_path)
    assert {c["kind"] for c in record["counts"]} == {"trajectories", "cells"}, "its only potential stays"
    assert check_database(finished) == []
    with Queue.from_uri(database_uri) as queue:
        fit = queue.fireworks.find_one({"spec.generation": 1, "spec._category": "fit"})
        queue.rerun_fw(fit["fw_id"])
        assert campaign_of(require_campaign(finished, "tiny")).name == "tiny"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from launchpad.cli import main; main()",
            "campaign",
            "resume",
            "tiny",
            "--run",
        ],
        env=os.environ | {"GAPFACTORY_DB": database_uri, "GAPFACTORY_SCRATCH": str(tmp_path / "scratch")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.status(finished, "tiny")["state"] == "done"
    assert campaign_digests(finished, "tiny") == digests


def is_dead(database) -> None:
    """Let the lease belong to a process that has died."""
    database.queue_leases.update_many({}, {"$set": {"start": 1}})


def test_killed_at_every_write_a_repeated_run_completes_it(
    exported, new_database, tmp_path, monkeypatch
) -> None:
    """The interpreter ends the run at each write in turn, before and after it has reached the server."""
    from pymongo.collection import Collection

    class Killed(BaseException):
        pass

    writes = ("insert_one", "update_one", "delete_one", "delete_many", "bulk_write")
    originals = {name: getattr(Collection, name) for name in writes}
    left = [0]

    def wrapped(name):
        def method(self, *arguments, **options):
            left[0] -= 1
            if left[0] <= 0:
                if left[0] == 0 and number % 2:
                    originals[name](self, *arguments, **options)
                raise Killed
            return originals[name](self, *arguments, **options)

        return method

    monkeypatch.setattr(retention, "BATCH", 16)
    uri = new_database()
    database = open_database(uri)
    ensure_indexes(database)
    import_database(database, exported)
    digests, before = campaign_digests(database, "tiny"), content(database)
    kills = 0
    for number in range(1, 100):
        left[0] = number
        for name in writes:
            monkeypatch.setattr(Collection, name, wrapped(name))
        try:
            prune(database, tmp_path)
            ended = True
        except Killed:
            ended, kills = False, kills + 1
        for name in writes:
            monkeypatch.setattr(Collection, name, originals[name])
        if ended:
            break
        is_dead(database)
        prune(database, tmp_path)
        assert check_database(database) == [], f"killed at write {number}"
        assert campaign_digests(database, "tiny") == digests
        assert not database.relaxations.find_one({"positions": {"$exists": True}})
        for archive in sorted(tmp_path.glob("*.tar.gz")):
            retention.restore(database, archive)
            archive.unlink()
        assert content(database) == before, f"killed at write {number}"
    assert kills >= 10
    database.client.close()


@pytest.mark.parametrize("number", [2, 5])
def test_killed_for_real(finished, database_uri, tmp_path, number) -> None:
    """SIGKILL when the archive is there but not known yet, and between two batches."""
    digests, before = campaign_digests(finished, "tiny"), content(finished)
    done = subprocess.run(
        [sys.executable, gf_prune.__file__, database_uri, str(tmp_path), str(number)], timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert finished.removals.count_documents({}) == (0 if number == 2 else 1)
    (tmp_path / f".gapfactory-{finished.name}-20260101T000000-0.tar.gz.partial").write_bytes(b"cut short")
    prune(finished, tmp_path)
    assert not list(tmp_path.glob(".*"))
    assert check_database(finished) == []
    # the one that was killed has its entry in the trail too
    trail = finished.audit.distinct("details.removal", {"event": "retention.deleted"})
    assert trail == sorted(d["_id"] for d in finished.removals.find())
    assert campaign_digests(finished, "tiny") == digests
    for archive in tmp_path.glob("*.tar.gz"):
        retention.restore(finished, archive)
    assert content(finished) == before


def test_damaged_and_foreign_archives_and_full_disks_are_refused(finished, new_database, tmp_path) -> None:
    before = content(finished)
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"archive cannot be written.*Nothing was removed"):
        prune(finished, tmp_path / "file" / "below")
    assert content(finished) == before
    with Lease(finished, "retention"), pytest.raises(StateError, match="is at it"):
        prune(finished, tmp_path)
    path = Path(prune(finished, tmp_path)["file"])
    data = path.read_bytes()
    for harm in (data[: len(data) // 2], data[:500] + bytes(50) + data[550:], b"no archive"):
        (tmp_path / "harmed.tar.gz").write_bytes(harm)
        with pytest.raises(InputError, match="harmed"):
            retention.restore(finished, tmp_path / "harmed.tar.gz")
    other = open_database(new_database())
    with pytest.raises(InputError, match="another database"):
        retention.restore(other, path)
    other.client.close()
    finished.relaxations.update_many({}, {"$set": {"pruned.in": "nobody"}})
    assert any("not recorded" in line for line in check_database(finished))


def test_what_a_relabelled_campaign_points_to_stays(finished, tmp_path) -> None:
    """Another campaign's selection names cells of this one: they are needed as long as it is there."""
    free = finished.structures.find_one(
        {
            "stage": "cell",
            "generation": 0,
            "_id": {"$nin": finished.selections.find_one({"generation": 0})["train"]},
        },
        sort=[("_id", -1)],
    )
    finished.selections.insert_one(
        {
            "_id": "other/g000",
            "campaign": "other",
            "generation": 0,
            "train": [free["_id"]],
            "test": [],
            "noise": [],
        }
    )
    prune(finished, tmp_path)
    assert finished.structures.find_one({"_id": free["_id"]})["atoms"] == free["atoms"]
    assert check_database(finished) == []


def test_the_commands_and_what_is_left_behind_outside_of_campaigns(finished, database_uri, place) -> None:
    """A policy that is stored for one campaign, workers that are gone, directories of failed launches."""
    here = {"GAPFACTORY_DB": database_uri, "GAPFACTORY_SCRATCH": str(place.directory / "scratch")}
    place.write("group.yaml", "workers_days: 0\nfailed_launches_days: 1\n")
    place.write("own.yaml", "cells: {after_days: 0}\n")
    wrong = place.write("wrong.yaml", "cells: {after: 0}\n")
    place.good("db", "retention", "set", "group.yaml", **here)
    place.good("db", "retention", "set", "own.yaml", "--campaign", "tiny", **here)
    with pytest.raises(InputError, match=r"wrong.yaml cannot be used: cells.after: Extra inputs"):
        load_settings(wrong, RetentionPolicy)
    with pytest.raises(NotFoundError, match="no campaign 'nobody'"):
        retention.plan(finished, lambda name: HARSHEST, campaigns=["nobody"])
    old, new = (place.directory / "scratch" / "failed" / name for name in ("1-1", "2-2"))
    for path in (old, new):
        path.mkdir(parents=True)
    os.utime(old, (0, 0))
    finished.workers.delete_many({})
    finished.workers.insert_many(
        [{"_id": "gone", "heartbeat": 1.0}, {"_id": "here", "heartbeat": time.time()}]
    )

    plan = json.loads(place.good("db", "prune", "--json", **here))
    assert [row["kind"] for row in plan["planned"]] == ["cells"]
    assert (plan["workers"], plan["failed_launches"], plan["removal"]) == (1, [str(old)], None)
    assert old.is_dir()
    done = json.loads(
        place.good("db", "prune", "--apply", "--archive", "kept", "--by", "anna", "--json", **here)
    )
    assert done["removal"]["by"] == "anna"
    assert not old.exists()
    assert new.exists()
    assert [worker["_id"] for worker in finished.workers.find()] == ["here"]
    why = json.loads(place.good("campaign", "why", "tiny", "--json", **here))
    assert [(row["kind"], row["by"]) for row in why["removed"]] == [("cells", "anna")]
    archive = why["removed"][0]["archive"].partition(":")[2]
    assert "cells" in place.good("db", "restore", archive, **here)
    assert json.loads(place.good("campaign", "why", "tiny", "--json", **here))["removed"] == []


def test_who_may_remove_and_set(finished, database_server, tmp_path) -> None:
    """A member removes, an owner sets policies and quotas, a worker neither; all of them see quotas."""
    from pymongo import MongoClient
    from pymongo.errors import OperationFailure

    from launchpad.database.users import add_user, user_uri
    from launchpad.operations import quotas
    from launchpad.operations.settings import Quota
    from launchpad.operations.stored import store_policy, store_quota

    group = finished.name
    with MongoClient(database_server) as administrator:
        try:
            opened = {
                role: open_database(
                    user_uri(database_server, group, role, add_user(administrator, group, role, role))
                )
                for role in ("owner", "member", "worker")
            }
            store_quota(opened["owner"], Quota(structures=0))
            store_policy(opened["owner"], RetentionPolicy())
            for role in ("member", "worker"):
                assert "quota of the group" in quotas.exceeded(opened[role], {})
                for forbidden in (
                    lambda r=role: store_quota(opened[r], Quota()),
                    lambda r=role: store_policy(opened[r], None),
                ):
                    with pytest.raises(OperationFailure) as caught:
                        forbidden()
                    assert caught.value.code == 13
            before = content(finished)
            with pytest.raises(OperationFailure) as caught:
                prune(opened["worker"], tmp_path)
            assert caught.value.code == 13
            assert content(finished) == before
            assert prune(opened["member"], tmp_path)["state"] == "done"
            assert finished.audit.find_one({"event": "retention.deleted"})["who"] == f"member@{group}"
            for database in opened.values():
                database.client.close()
        finally:
            administrator[group].command("dropAllUsersFromDatabase")
            administrator[group].command("dropAllRolesFromDatabase")
