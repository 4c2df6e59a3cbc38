"""Archives are private, complete and read in pieces; an export holds exactly what its potential was made from."""

from __future__ import annotations

import json
import os
import stat

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from gapfactory.errors import DatabaseError, InputError, PotentialError
from gapfactory.io.conventions import DATA_FORMATS
from gapfactory.io.extxyz import read_training_set
from gapfactory.io.labelled import read_labelled
from gapfactory.potentials import load_potential
from launchpad.database import transfer
from launchpad.database.connection import open_database
from launchpad.database.transfer import export_database, import_database
from launchpad.exporting import export_campaign
from launchpad.queue.connection import prepare

pytestmark = [pytest.mark.database]


def test_an_archive_is_private_and_goes_in_batches(database, new_database, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "BATCH", 3)
    database.labels.insert_many([{"_id": f"{k:03d}", "value": k} for k in range(10)])
    database.campaigns.insert_one({"_id": "made-up"})
    # what the dashboard worked out stays behind
    database.dashboard_rows.insert_one({"_id": "made-up/g000/cell/000000"})
    database.dashboard_parts.insert_one({"_id": "x"})
    target = tmp_path / "all.tar.gz"
    counts = export_database(database, target)
    assert (counts["labels"], counts["campaigns"]) == (10, 1)
    assert not [name for name in counts if name.startswith("dashboard_") and counts[name]]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["all.tar.gz"]
    sizes: list[tuple[str, int]] = []
    original = Collection.insert_many

    def counted(self, documents, **options):
        sizes.append((self.name, len(documents)))
        return original(self, documents, **options)

    monkeypatch.setattr(Collection, "insert_many", counted)
    other = open_database(new_database())
    assert import_database(other, target) == counts
    assert sizes == [
        ("labels", 3),
        ("labels", 3),
        ("labels", 3),
        ("labels", 1),
        ("queue_meta", 1),
        ("campaigns", 1),
    ]
    assert list(other.labels.find().sort("_id", 1)) == list(database.labels.find().sort("_id", 1))
    other.client.close()


@pytest.mark.parametrize("cut", ["labels", "campaigns", "fireworks"])
def test_an_import_that_was_cut_off_anywhere_is_repeated(
    database, new_database, tmp_path, monkeypatch, cut
) -> None:
    monkeypatch.setattr(transfer, "BATCH", 1)
    prepare(database)
    database.labels.insert_many([{"_id": k, "status": "x"} for k in range(3)])
    database.campaigns.insert_many([{"_id": f"c{k}"} for k in range(3)])
    database.fireworks.insert_many([{"fw_id": k, "state": "READY"} for k in range(3)])
    target = tmp_path / "all.tar.gz"
    counts = export_database(database, target)
    other = open_database(new_database())
    prepare(other)
    original = Collection.insert_many

    def killed(self, documents, **options):
        original(self, documents, **options)
        if self.name == cut:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert_many", killed)
        with pytest.raises(KeyboardInterrupt):
            import_database(other, target)
    # a part of the tasks is no database to work with
    with pytest.raises(
        DatabaseError, match=r"all\.tar\.gz is being read into .* repeat 'gapfactory db import'"
    ):
        prepare(other)
    assert import_database(other, target) == counts
    for name in ("labels", "campaigns", "fireworks"):
        assert list(other[name].find().sort("_id", 1)) == list(database[name].find().sort("_id", 1)), name
    prepare(other)
    with pytest.raises(DatabaseError, match="holds campaigns or tasks already"):
        import_database(other, target)
    other.client.close()


def test_an_archive_has_its_name_when_it_is_on_the_disk(database, tmp_path, monkeypatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    export_database(database, tmp_path / "all.tar.gz")
    assert (tmp_path / "all.tar.gz").stat().st_ino in synced


def test_an_export_that_fails_leaves_nothing(database, tmp_path, monkeypatch) -> None:
    def lost(self, *arguments, **options):
        raise AutoReconnect("gone")

    database.labels.insert_one({"_id": "x"})
    monkeypatch.setattr(Collection, "find", lost)
    with pytest.raises(AutoReconnect):
        export_database(database, tmp_path / "all.tar.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changes", [2, 1000])
def test_the_state_of_the_queue_is_of_one_moment(
    database, new_database, tmp_path, monkeypatch, changes
) -> None:
    """Tasks that are taken between the reading of two collections do not tear the archive."""
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    database.campaigns.insert_one({"_id": "c"})
    for name in ("fireworks", "launches"):
        database[name].insert_one({"_id": 1, "state": 0})
    original, done = transfer._write, []

    def disturbed(database, name, content):
        count = original(database, name, content)
        if name == "fireworks" and len(done) < changes:
            done.append(name)
            for changed in ("fireworks", "launches"):
                database[changed].update_one({"_id": 1}, {"$inc": {"state": 1}})
        return count

    monkeypatch.setattr(transfer, "_write", disturbed)
    target = tmp_path / "all.tar.gz"
    if changes > transfer.TRIES:
        with pytest.raises(DatabaseError, match=r"worker stop --everywhere.*mongodump --oplog"):
            export_database(database, target)
        assert len(done) == transfer.TRIES
        assert list(tmp_path.iterdir()) == []
        return
    export_database(database, target)
    assert len(done) == changes
    other = open_database(new_database())
    import_database(other, target)
    assert [other[name].find_one()["state"] for name in ("fireworks", "launches")] == [changes, changes]
    other.client.close()


@pytest.fixture
def copy(tiny_campaign, database, tmp_path):
    tiny_campaign.good("db", "export", str(tmp_path / "tiny.tar.gz"))
    import_database(database, tmp_path / "tiny.tar.gz")
    return database


def ids(path) -> set[str]:
    return {frame.id for frame in read_training_set(path)}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_exported_training_set_is_that_of_the_exported_potential(copy, tmp_path) -> None:
    out = tmp_path / "out"
    sets = {}
    for generation in (1, 0):
        # the second replaces the first, file by file
        export_campaign(copy, "tiny", out, generation)
        if generation:
            (out / "potential" / "stale").write_text("")
        sets[generation] = set(copy.potentials.find_one({"generation": generation})["trained_on"])
        assert ids(out / "train.xyz") == sets[generation]
        held_out = {
            key
            for s in copy.selections.find({"generation": {"$lte": generation}})
            for key in s["test"]
            if copy.structures.find_one({"_id": key})
        }
        assert ids(out / "held-out.xyz") <= held_out
        assert json.loads((out / "campaign.json").read_text())["potential"]["generation"] == generation
    assert sets[0] < sets[1]
    assert not (out / "potential" / "stale").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_export_touches_no_files_of_others_and_is_whole(copy, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.xyz").write_text("my own")
    with pytest.raises(InputError, match="holds other files"):
        export_campaign(copy, "tiny", tmp_path / "mine")
    assert (tmp_path / "mine" / "train.xyz").read_text() == "my own"
    with pytest.raises(InputError, match="no form 'vasp' of data"):
        export_campaign(copy, "tiny", tmp_path / "out", forms=["vasp"])
    export_campaign(copy, "tiny", tmp_path / "out", forms=list(DATA_FORMATS))
    card = (tmp_path / "out" / "README.md").read_text()
    for form, ending in DATA_FORMATS.items():
        assert f"`train-{form}{ending}`" in card
        assert (tmp_path / "out" / f"held-out-{form}{ending}").stat().st_size > 100
    trained = read_labelled(tmp_path / "out" / "train-nequip.xyz").frames
    assert [frame.energy for frame in trained] == [
        frame.energy for frame in read_training_set(tmp_path / "out" / "train.xyz")
    ]
    lammps = (tmp_path / "out" / "potential" / "in.lammps").read_text().splitlines()
    assert lammps[-1] == 'pair_coeff * * gap.xml "Potential xml_label=GAP_gapfactory" 14'
    assert load_potential(tmp_path / "out" / "potential").cutoff > 0
    # again over it, without them
    export_campaign(copy, "tiny", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "campaign.json", "held-out.xyz", "potential", "train.xyz")
    }
    (tmp_path / "out" / "notes.txt").write_text("my own")
    with pytest.raises(InputError, match=r"notes\.txt"):
        export_campaign(copy, "tiny", tmp_path / "out")
    copy.potentials.update_one({"generation": 1}, {"$push": {"trained_on": "tiny/g009/cell/000000"}})
    with pytest.raises(PotentialError, match="fitted on"):
        export_campaign(copy, "tiny", tmp_path / "new")
    assert not (tmp_path / "new").exists()
