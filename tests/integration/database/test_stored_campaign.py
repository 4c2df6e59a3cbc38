"""A finished campaign in a fresh database: moved to the last bit, its damage found by name, its digests sensitive."""

from __future__ import annotations

import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from gapfactory.errors import DatabaseError, InputError, NotFoundError, PotentialError
from gapfactory.reference import LabelOutcome
from launchpad import service
from launchpad.assessment import labelled_picks
from launchpad.database.campaigns import campaign_of, require_campaign, set_state
from launchpad.database.check import check_database
from launchpad.database.connection import open_database
from launchpad.database.dataset import label_hash, label_key, pick_items, with_labels
from launchpad.database.digest import campaign_digests
from launchpad.database.indexes import ensure_indexes
from launchpad.database.labels import Subject, ask_again, labels_of, save_outcome
from launchpad.database.packing import pack_array, unpack_array
from launchpad.database.potentials import BUCKET, fetch_potential, require_potential
from launchpad.database.transfer import export_database, import_database
from launchpad.labelling import label_items, late_items
from launchpad.quarantine import undecided_tasks
from launchpad.queue import Queue
from launchpad.states import CampaignState
from launchpad.tasks.base import TaskContext

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def archive(tiny_campaign, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "tiny.tar.gz"
    tiny_campaign.good("db", "export", str(path))
    assert not list(path.parent.glob("*.partial"))
    return path


@pytest.fixture
def copy(archive, database):
    """A database of one's own with the finished campaign."""
    import_database(database, archive)
    return database


def test_round_trip_between_two_servers(tiny_campaign, archive, copy, tmp_path, new_database) -> None:
    assert campaign_digests(copy, "tiny") == tiny_campaign.json("campaign", "digest", "tiny")
    assert check_database(copy) == []
    again = open_database(new_database())
    counts = export_database(copy, tmp_path / "again.tar.gz")
    assert import_database(again, tmp_path / "again.tar.gz") == counts
    for name in counts:
        ours, theirs = (sorted(db[name].find(), key=lambda d: str(d["_id"])) for db in (copy, again))
        # an import adds itself to the trail that it brings
        added = [entry for entry in theirs if name == "audit" and entry not in ours]
        assert [entry["event"] for entry in added] == ["database.imported"] * (name == "audit")
        assert ours == [entry for entry in theirs if entry not in added], name
    again.client.close()


def test_only_an_empty_database_takes_an_archive(archive, copy) -> None:
    with pytest.raises(DatabaseError, match="into an empty one"):
        import_database(copy, archive)
    assert check_database(copy) == []


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9, -1])
def test_a_truncated_archive_is_refused_and_leaves_nothing(archive, database, tmp_path, keep) -> None:
    data = archive.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match="cut short"):
        import_database(database, cut)
    assert database.campaigns.count_documents({}) == 0


def test_one_flipped_bit_in_an_archive_is_noticed(archive, database, tmp_path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.tar.gz").write_bytes(data)
    with pytest.raises(InputError, match="flipped"):
        import_database(database, tmp_path / "flipped.tar.gz")
    assert database.campaigns.count_documents({}) == 0


def test_an_import_that_was_cut_off_is_repeated(archive, database, monkeypatch) -> None:
    original = Collection.insert_many

    def dying(self, documents, **options):
        if self.name == "campaigns":
            raise AutoReconnect("killed")
        return original(self, documents, **options)

    monkeypatch.setattr(Collection, "insert_many", dying)
    with pytest.raises(AutoReconnect):
        import_database(database, archive)
    monkeypatch.setattr(Collection, "insert_many", original)
    import_database(database, archive)
    assert check_database(database) == []


def test_an_archive_that_lost_a_document_is_refused(archive, database, tmp_path) -> None:
    with tarfile.open(archive) as source, tarfile.open(tmp_path / "less.tar.gz", "w:gz") as target:
        for member in source.getmembers():
            stream = source.extractfile(member)
            if member.name == "labels.bson":
                member.size = 0
                target.addfile(member)
            else:
                target.addfile(member, stream)
    with pytest.raises(InputError, match="of 'labels'"):
        import_database(database, tmp_path / "less.tar.gz")


def test_every_kind_of_damage_is_found_by_name(copy) -> None:
    potential = require_potential(copy, "tiny", 1)
    file = potential["files"][0]
    copy[BUCKET].chunks.delete_one({"files_id": file["sha256"]})
    (finding,) = check_database(copy)
    assert potential["_id"] in finding
    assert file["name"] in finding

    chosen = copy.selections.find_one({"generation": 0})["train"][0]
    copy.structures.delete_one({"_id": chosen})
    label = copy.labels.find_one({"status": "done", "kind": "crystal"})
    short = unpack_array(label["forces"])[:-1]
    copy.labels.update_one({"_id": label["_id"]}, {"$set": {"forces": pack_array(short)}})
    copy.relaxations.drop_indexes()
    copy.campaigns.update_one({"_id": "tiny"}, {"$set": {"settings.seed": -1}})
    text = "\n".join(check_database(copy))
    for words in ("tiny/g000", label["_id"], "relaxations: the index on", "campaign 'tiny'", file["name"]):
        assert words in text, text


def test_a_damaged_potential_never_reaches_a_worker(copy, tmp_path) -> None:
    record = require_potential(copy, "tiny", 1)
    chunks = copy[BUCKET].chunks
    chunk = chunks.find_one({"files_id": record["files"][0]["sha256"], "n": 0})
    altered = bytearray(chunk["data"])
    altered[len(altered) // 2] ^= 1
    chunks.update_one({"_id": chunk["_id"]}, {"$set": {"data": bytes(altered)}})
    with pytest.raises(PotentialError, match="altered"):
        fetch_potential(copy, record, tmp_path / "a")
    chunks.delete_one({"_id": chunk["_id"]})
    with pytest.raises(PotentialError, match="missing or damaged"):
        fetch_potential(copy, record, tmp_path / "b")


def test_one_bit_changes_a_digest(copy) -> None:
    before = campaign_digests(copy, "tiny")

    def changed():
        after = campaign_digests(copy, "tiny")
        return {key for key in before if after[key] != before[key]}

    assert changed() == set()
    label = copy.labels.find_one({"status": "done", "kind": "crystal"})
    forces = unpack_array(label["forces"])
    forces[0, 0] = np.nextafter(forces[0, 0], np.inf)
    copy.labels.update_one({"_id": label["_id"]}, {"$set": {"forces": pack_array(forces)}})
    assert changed() == {"labels"}
    copy.labels.update_one({"_id": label["_id"]}, {"$set": {"forces": label["forces"]}})
    assert changed() == set()
    copy.labels.update_one(
        {"_id": label["_id"]}, {"$set": {"energy": np.nextafter(label["energy"], 0.0).item()}}
    )
    assert changed() == {"labels"}
    copy.labels.update_one({"_id": label["_id"]}, {"$set": {"energy": label["energy"]}})

    relaxation = copy.relaxations.find_one({"n_frames": {"$gt": 0}})
    energies = unpack_array(relaxation["energies"])
    energies[-1] = np.nextafter(energies[-1], 0.0)
    copy.relaxations.update_one({"_id": relaxation["_id"]}, {"$set": {"energies": pack_array(energies)}})
    assert changed() == {"relaxations"}
    # times and machines do not count
    copy.relaxations.update_one(
        {"_id": relaxation["_id"]}, {"$set": {"energies": relaxation["energies"], "seconds": 1e6}}
    )
    assert changed() == set()


def test_random_pressures_differ_and_come_from_the_seed(copy) -> None:
    """Guard 'identical random pressures': every relaxation has its own stream, whatever worker ran it."""
    from gapfactory.search import draw_pressure
    from gapfactory.seeds import Stage, stream

    campaign = campaign_of(require_campaign(copy, "tiny"))
    rows = list(copy.relaxations.find({}, {"generation": 1, "index": 1, "pressure_gpa": 1}))
    assert len(rows) == 6
    assert len({row["pressure_gpa"] for row in rows}) == len(rows)
    for row in rows:
        rng = stream(campaign.seed, row["generation"], Stage.PRESSURE, row["index"])
        assert row["pressure_gpa"] == draw_pressure(rng, campaign.relax)


def test_an_interrupted_relax_task_goes_on_with_what_is_missing(copy, tmp_path, monkeypatch) -> None:
    """What is stored stays, and the rest comes out the same although it is relaxed in other company."""
    from launchpad.tasks import relax

    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    before = campaign_digests(copy, "tiny")
    copy.relaxations.delete_many({})
    context = TaskContext(SimpleNamespace(db=copy), campaign_of(require_campaign(copy, "tiny")), 1, tmp_path)
    task = relax.RelaxTask(campaign="tiny", generation=1, start=0, stop=6)
    save, stored = relax.save_relaxation, []

    def save_two(database, document):
        if len(stored) == 2:
            raise AutoReconnect("the connection is gone")
        save(database, document)
        stored.append(document.index)

    monkeypatch.setattr(relax, "save_relaxation", save_two)
    with pytest.raises(AutoReconnect):
        task.work(context)
    assert copy.relaxations.count_documents({}) == 2
    kept = list(copy.relaxations.find().sort("index", 1))
    monkeypatch.setattr(relax, "save_relaxation", save)
    assert sum(task.work(context).values()) == 4
    assert list(copy.relaxations.find({"index": {"$in": stored}}).sort("index", 1)) == kept
    assert campaign_digests(copy, "tiny") == before
    assert all(row["seconds"] > 0 for row in copy.relaxations.find())
    assert sum(task.work(context).values()) == 0


def test_random_cells_differ_within_and_between_generations(copy) -> None:
    """Guard 'identical random cells and rattles': no two structures of a campaign are the same."""
    hashes = [d["hash"] for d in copy.structures.find({"stage": "cell"}, {"hash": 1})]
    assert len(hashes) == 12 + 6
    assert len(set(hashes)) == len(hashes)


def test_indexes_can_be_made_again(copy) -> None:
    ensure_indexes(copy)
    assert check_database(copy) == []


def fail(database, generation, structure):
    """Record that the campaign could not label a structure that it has; return the key of the label."""
    campaign = campaign_of(require_campaign(database, "tiny"))
    item = next(i for i in pick_items(database, campaign, generation) if i.id == structure)
    subject = Subject("tiny", item.hash, label_hash(campaign, item), item.kind, item.atoms)
    database.labels.delete_one({"_id": subject.key})
    failed = LabelOutcome(item.id, None, "made up", 2, ("plain: x", "plain: y"), "scf")
    assert save_outcome(database, subject, failed, "ase") == "failed"
    return subject.key


def test_labels_are_tried_again_only_where_a_fit_will_use_them(copy, database_uri) -> None:
    """Where all fits are done, none would use them; else they enter the next one, whichever chose the structure."""
    early, late = (picks(copy, generation)[-1].id for generation in (0, 1))
    early_key, late_key = fail(copy, 0, early), fail(copy, 1, late)
    assert not set_state(copy, "tiny", CampaignState.HALTED, "a campaign that is done stays so")
    copy.campaigns.update_one({"_id": "tiny"}, {"$set": {"state": "halted", "reason": "made up"}})
    with Queue.from_uri(database_uri) as queue:
        assert service.resume(queue, "tiny", retry_labels=True) == {"rerun": 0, "labels_forgotten": 0}
        found = service.explain(copy, "tiny")["quarantined"]
        assert {(entry["id"], entry["fault"]) for entry in found} == {(early, "scf"), (late, "scf")}
        for no_such in ({"labels": ["tiny/g009/cell/000000"]}, {"fault": "sfc"}):
            with pytest.raises((NotFoundError, InputError), match=r"could not label|there are: scf"):
                service.retry(queue, "tiny", **no_such)
        assert service.retry(queue, "tiny", fault="memory") == {"rerun": 0, "labels_forgotten": 0}

        # the newest generation is not fitted: both are tried again by its reference tasks, and only by those
        copy.potentials.delete_one({"_id": "tiny/g001"})
        copy.metrics.delete_one({"_id": "tiny/g001"})
        assert service.retry(queue, "tiny", labels=[early]) == {"rerun": 1, "labels_forgotten": 1}
        assert service.retry(queue, "tiny", labels=[late]) == {"rerun": 1, "labels_forgotten": 1}
    for key in (early_key, late_key):
        # failed until they are tried: a fit that starts meanwhile does not find them undecided
        record = copy.labels.find_one({"_id": f"{key}/tiny"})
        assert (record["status"], record["retry_in"]) == ("failed", 1)
    states = {
        fw["name"].split()[-1]: fw["state"]
        for fw in copy.fireworks.find({"spec.generation": 1, "spec.campaign": "tiny"})
    }
    # the first takes along what earlier generations owe, the last has the structure that was named
    references = [state for name, state in sorted(states.items()) if name.startswith("reference")]
    assert references == ["READY", "COMPLETED", "READY"]
    assert states["fit"] == "WAITING"
    assert {fw["state"] for fw in copy.fireworks.find({"spec.generation": 0})} == {"COMPLETED"}


def test_a_campaign_is_resumed_before_anything_is_chosen(copy) -> None:
    """Killed with its free atom and dimers stored and not labelled: only the tasks of these are run again."""
    for name in ("selections", "potentials", "metrics", "labels"):
        copy[name].delete_many({})
    campaign = campaign_of(require_campaign(copy, "tiny"))
    tasks = copy.fireworks.find({"fw_id": {"$in": undecided_tasks(copy, campaign)}}, {"spec._tasks": 1})
    assert {task["spec"]["_tasks"][0]["what"] for task in tasks} == {"atoms"}


def test_a_late_label_enters_the_next_fit_and_no_earlier_one(copy, tmp_path) -> None:
    campaign = campaign_of(require_campaign(copy, "tiny"))
    chosen = next(item for item in picks(copy, 0) if item.role == "train")
    key = fail(copy, 0, chosen.id)
    assert ask_again(copy, key, "tiny", 1)
    context = TaskContext(SimpleNamespace(db=copy), campaign, 1, tmp_path)
    assert [item.id for item in late_items(copy, campaign, 1)] == [chosen.id]
    assert label_items(context, late_items(copy, campaign, 1)) == {"reused": 0, "labelled": 1, "failed": 0}
    (entry,) = with_labels(copy, campaign, [chosen])
    assert entry.label.status == "done"
    assert [entry.label.usable_in(generation) for generation in (0, 1, 2)] == [False, True, True]
    assert chosen.id not in {e.item.id for e in labelled_picks(copy, campaign, 0)}
    assert chosen.id in {e.item.id for e in labelled_picks(copy, campaign, 1)}
    assert late_items(copy, campaign, 1) == []


def test_failures_of_earlier_versions_are_read_and_tried_again(copy) -> None:
    """They stood under the shared key, with the campaign that met them."""
    campaign = campaign_of(require_campaign(copy, "tiny"))
    item = picks(copy, 1)[0]
    key = label_key(campaign, item)
    newer = ("fault", "history", "custodian", "files", "flags", "altered", "target", "enters", "retry_in")
    copy.labels.update_one(
        {"_id": key}, {"$set": {"status": "failed", "reason": "old"}, "$unset": dict.fromkeys(newer, "")}
    )
    (entry,) = with_labels(copy, campaign, [item])
    assert (entry.label.status, entry.label.reason, entry.label.fault) == ("failed", "old", "")
    assert labels_of(copy, [key], "another") == {}
    assert not ask_again(copy, key, "another", 1)
    assert ask_again(copy, key, "tiny", 1)
    assert copy.labels.find_one({"_id": key}) is None
    assert labels_of(copy, [key], "tiny")[key].wanted_in(1)


def picks(database, generation):
    return pick_items(database, campaign_of(require_campaign(database, "tiny")), generation)
