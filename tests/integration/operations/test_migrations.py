"""Databases of earlier versions become those of today, whatever happens on the way; later ones are refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from gapfactory.errors import DatabaseError, InputError, StateError
from launchpad.database import migrations
from launchpad.database.campaigns import levels_of
from launchpad.database.check import check_database
from launchpad.database.digest import campaign_digests
from launchpad.database.labels import labels_of
from launchpad.database.migrations import SCHEMA, Migration, schema_version, upgrade
from launchpad.database.transfer import export_database, import_database, members
from launchpad.operations.lease import Lease
from launchpad.queue import Queue

pytestmark = [pytest.mark.database]

OLD = Path(__file__).parents[2] / "data" / "exports" / "schema-0.tar.gz"
COLLECTIONS = ("labels", "relaxations", "selections", "structures", "campaigns", "potentials", "metrics")


@pytest.fixture
def old(database, monkeypatch):
    """The stored export as it was, without the migration that an import makes."""
    with monkeypatch.context() as patch:
        patch.setattr("launchpad.database.transfer.upgrade", lambda database: [])
        import_database(database, OLD)
    database.queue_meta.delete_one({"_id": "schema"})
    database.labels.drop_indexes()
    return database


def content(database) -> dict:
    return {name: list(database[name].find().sort("_id", 1)) for name in COLLECTIONS}


def test_a_database_of_before_there_were_versions_is_upgraded(old) -> None:
    assert schema_version(old) == 0
    digests = campaign_digests(old, "old")
    failed = old.labels.find_one({"status": "failed"})
    planned = sum(step.count(old) for step in migrations.outstanding(old))
    assert any("index" in line for line in check_database(old))
    done = upgrade(old)
    changed = sum(number for _, number in done)
    assert ([step.to for step, _ in done], schema_version(old)) == ([1, 2], SCHEMA)
    # what the records say of their settings is what the settings say
    record = old.campaigns.find_one()
    assert record["levels"] == levels_of({**record, "levels": {}})
    assert record["compositions"] == ["Si"]
    # the failure is completed, then moved
    assert changed == planned
    assert planned >= 10
    assert check_database(old) == []
    assert campaign_digests(old, "old") == digests
    moved = old.labels.find_one({"status": "failed"})
    assert moved["_id"] == f"{failed['_id']}/old"
    assert labels_of(old, [failed["_id"]], "old")[failed["_id"]].reason == "no convergence"
    assert labels_of(old, [failed["_id"]], "another") == {}
    assert old.relaxations.find_one()["left_known_space"] is False
    history = old.queue_meta.find_one({"_id": "schema"})["history"]
    assert [entry["version"] for entry in history] == [1, SCHEMA]
    assert upgrade(old) == []
    assert old.audit.count_documents({"event": "schema.migrated"}) == SCHEMA


def test_an_upgrade_that_is_cut_off_is_completed(old, new_database, monkeypatch) -> None:
    """It ends at each of its pauses in turn; the next run ends where an undisturbed one would have."""
    from launchpad.database.connection import open_database

    undisturbed = open_database(new_database())
    import_database(undisturbed, OLD)
    expected = content(undisturbed)
    undisturbed.client.close()
    monkeypatch.setattr(migrations, "BATCH", 2)

    def cut(number: int):
        left = [number]

        def between() -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        return between

    cuts = 0
    for number in range(1, 50):
        try:
            migrations.MIGRATIONS[0].work(old, cut(number))
        except KeyboardInterrupt:
            cuts += 1
            assert schema_version(old) == 0
        else:
            break
    assert cuts >= 3
    upgrade(old)
    assert content(old) == expected
    assert check_database(old) == []


def test_only_one_process_upgrades(old) -> None:
    with Lease(old, "migration"), pytest.raises(StateError, match="is at it"):
        upgrade(old)
    assert schema_version(old) == 0


def test_a_newer_database_is_refused_by_everything_that_opens_it(database, database_uri, place) -> None:
    database.queue_meta.update_one({"_id": "schema"}, {"$set": {"version": SCHEMA + 1}}, upsert=True)
    with pytest.raises(DatabaseError, match=r"made by a newer gapfactory.*Nothing was changed"):
        Queue.from_uri(database_uri)
    with pytest.raises(DatabaseError, match="newer gapfactory"):
        upgrade(database)
    assert "made by a newer gapfactory" in place.refused("db", "check", GAPFACTORY_DB=database_uri)


def test_an_older_database_is_read_but_not_written_where_that_does_harm(
    old, database_uri, monkeypatch
) -> None:
    Queue.from_uri(database_uri).close()  # version 1 only completes what this program can read
    needed = Migration(
        SCHEMA + 1, "a change of layout", lambda database, between: 7, lambda database: 7, True
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, needed))
    monkeypatch.setattr(migrations, "SCHEMA", SCHEMA + 1)
    with pytest.raises(DatabaseError, match=r"older gapfactory \(schema 0.*Stop all workers.*db upgrade"):
        Queue.from_uri(database_uri)
    Queue.from_uri(database_uri, read_only=True).close()
    assert [step.to for step, _ in upgrade(old)] == [*range(1, SCHEMA + 1), SCHEMA + 1]
    Queue.from_uri(database_uri).close()


def test_archives_carry_their_version(database, new_database, tmp_path) -> None:
    from launchpad.database.connection import open_database

    import_database(database, OLD)
    assert schema_version(database) == SCHEMA
    path = tmp_path / "new.tar.gz"
    export_database(database, path)
    facts = next(json.load(stream) for name, stream in members(path) if name == "manifest.json")
    assert facts["schema"] == SCHEMA
    # the same archive of a later version
    newer = tmp_path / "newer.tar.gz"
    with tarfile.open(path) as given, tarfile.open(newer, "w:gz") as changed:
        for entry in given:
            content = given.extractfile(entry)
            if entry.name == "manifest.json":
                data = json.dumps(facts | {"schema": SCHEMA + 1}).encode()
                (tmp_path / "manifest.json").write_bytes(data)
                changed.add(tmp_path / "manifest.json", "manifest.json")
            else:
                changed.addfile(entry, content)
    other = open_database(new_database())
    with pytest.raises(InputError, match=r"exported by a newer gapfactory.*Nothing was imported"):
        import_database(other, newer)
    assert other.campaigns.find_one() is None
    import_database(other, path)
    assert schema_version(other) == SCHEMA
    other.client.close()


def test_the_command_says_what_it_would_do(old, database_uri, place) -> None:
    found = json.loads(place.good("db", "upgrade", "--dry-run", "--json", GAPFACTORY_DB=database_uri))
    assert (found["schema"], found["program"], found["applied"]) == (0, SCHEMA, False)
    assert found["steps"][0]["documents"] >= 10
    assert schema_version(old) == 0
    assert "documents changed" in place.good("db", "upgrade", GAPFACTORY_DB=database_uri)
    assert "nothing to do" in place.good("db", "upgrade", GAPFACTORY_DB=database_uri)
