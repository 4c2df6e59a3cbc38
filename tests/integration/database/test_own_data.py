"""Labels that a campaign is given are stored with it when it is submitted, whatever file they come from."""

from __future__ import annotations

import numpy as np
import pytest
from ase.db import connect
from gf_own_data import CONVENTIONS, choose_given, labelled_silicon, write_data

from gapfactory.campaign import load_campaign
from gapfactory.errors import InputError, StateError
from gapfactory.structures import structure_hash
from launchpad.database.campaigns import require_campaign
from launchpad.database.dataset import all_items, data_items, pick_items, with_labels
from launchpad.own_data import chosen_data, take_over_data
from launchpad.queue import Queue
from launchpad.service import submit

pytestmark = [pytest.mark.database]

FILE = """
preset: quickstart-Si-analytic
name: own
seed: %d
schedule: {cells_per_generation: 6, initial_cells: 0, generations: 6}
select: {noise_cells: 1, labels_per_generation: 4, held_out_per_generation: 2}
data:
  mine: {file: %s}
%s
"""


@pytest.fixture
def queue(database_uri):
    with Queue.from_uri(database_uri) as opened:
        yield opened


def campaign_at(directory, file="mine.xyz", more="", seed=1):
    path = directory / "own.yaml"
    path.write_text(FILE % (seed, file, more))
    return load_campaign(path)


def write_any(path, structures, convention):
    if convention == "ASE database":
        with connect(path) as opened:
            for atoms in structures:
                opened.write(atoms)
    else:
        write_data(path, structures, convention)


@pytest.mark.parametrize("convention", [*CONVENTIONS, "ASE database"])
def test_labels_come_back_as_they_were_given(database, tmp_path, convention):
    structures = labelled_silicon()
    file = "mine.db" if convention == "ASE database" else "mine.xyz"
    write_any(tmp_path / file, structures, convention)
    campaign = campaign_at(tmp_path, file)
    take_over_data(database, campaign, tmp_path)
    choose_given(database, campaign)
    entries = with_labels(database, campaign, pick_items(database, campaign, 0))
    assert (len(entries), sum(e.item.role == "test" for e in entries)) == (20, 2)
    for entry in entries:
        number = int(entry.item.id.rsplit("/", 1)[1])
        given = structures[number]
        label = entry.label.as_label()
        assert structure_hash(entry.item.atoms) == entry.item.hash
        np.testing.assert_allclose(entry.item.atoms.positions, given.positions, atol=1e-7)
        assert label.energy == pytest.approx(given.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(label.forces, given.get_forces(), atol=1e-7)
        np.testing.assert_allclose(label.stress, given.get_stress(), atol=1e-8)
        assert label.engine == "own data"
        assert label.details["file"] == file


def test_a_submission_that_was_killed_is_finished_by_the_next(database, tmp_path):
    write_data(tmp_path / "mine.xyz", labelled_silicon())
    campaign = campaign_at(tmp_path)
    take_over_data(database, campaign, tmp_path)
    whole = {c: sorted(map(str, database[c].find({}, {"created": 0}))) for c in ("structures", "labels")}
    database.structures.delete_many({"index": {"$gte": 7}})
    database.labels.delete_many({"_id": {"$gt": "8"}})
    take_over_data(database, campaign, tmp_path)
    assert whole == {c: sorted(map(str, database[c].find({}, {"created": 0}))) for c in whole}
    # all of it is there: no file is read any more
    (tmp_path / "mine.xyz").unlink()
    take_over_data(database, campaign, None)


def test_a_file_that_has_changed_meanwhile_is_refused(database, tmp_path):
    write_data(tmp_path / "mine.xyz", labelled_silicon())
    campaign = campaign_at(tmp_path)
    write_data(tmp_path / "mine.xyz", labelled_silicon(seed=4))
    with pytest.raises(InputError, match="is not what it was when the campaign file was read"):
        take_over_data(database, campaign, tmp_path)
    with pytest.raises(InputError, match="files are found beside a campaign file"):
        take_over_data(database, campaign, None)
    assert not database.structures.count_documents({})


def test_other_elements_are_refused(database, tmp_path):
    write_data(tmp_path / "mine.xyz", labelled_silicon())
    text = (tmp_path / "mine.xyz").read_text()
    (tmp_path / "mine.xyz").write_text(text.replace("\nSi ", "\nGe ", 1))
    campaign = campaign_at(tmp_path)
    with pytest.raises(InputError, match=r"data\.mine has Ge, which the campaign does not"):
        take_over_data(database, campaign, tmp_path)


def test_the_smallest_are_labelled_again_by_the_reference(database, tmp_path):
    write_data(tmp_path / "mine.xyz", labelled_silicon())
    campaign = campaign_at(tmp_path)
    take_over_data(database, campaign, tmp_path)
    choose_given(database, campaign)
    items = data_items(database, campaign, 0)
    assert [len(item.atoms) for item in items] == [1, 1, 1]
    # they ask for a label of the reference, and have none yet
    assert [entry.label for entry in with_labels(database, campaign, items)] == [None] * 3
    assert {item.role for item in all_items(database, campaign)} == {"train", "test", "verify"}
    assert data_items(database, campaign, 1) == []


def test_data_join_a_campaign_that_runs(queue, tmp_path):
    write_data(tmp_path / "mine.xyz", labelled_silicon())
    write_data(tmp_path / "new.xyz", labelled_silicon(seed=4))

    def ask(campaign):
        return submit(queue, campaign, (tmp_path / "own.yaml").read_text(), tmp_path)

    assert ask(campaign_at(tmp_path)) == "new"
    queue.db.campaigns.update_one({"_id": "own"}, {"$set": {"generation": 2}})
    # the tasks of the next generation may be on the queue
    for joins in (2, 3):
        with pytest.raises(StateError, match=r"other settings .*data\.new: None, now"):
            ask(campaign_at(tmp_path, more=f"  new: {{file: new.xyz, joins: {joins}}}"))
    assert queue.db.structures.count_documents({"stage": "data"}) == 20
    later = campaign_at(tmp_path, more="  new: {file: new.xyz, joins: 4}")
    assert ask(later) == "updated"
    assert queue.db.structures.count_documents({"stage": "data", "generation": 4}) == 20
    assert [len(ids) for ids in chosen_data(later, 4)] == [18, 2]
    # what is there stays, and with it goes nothing else
    with pytest.raises(StateError, match=r"other settings .*data\.new"):
        ask(campaign_at(tmp_path))
    with pytest.raises(StateError, match=r"other settings .*seed: 1, now 2"):
        ask(
            campaign_at(
                tmp_path, more="  new: {file: new.xyz, joins: 4}\n  x: {file: new.xyz, joins: 5}", seed=2
            )
        )
    # how they are verified decides no result
    assert ask(campaign_at(tmp_path, more="  new: {file: new.xyz, joins: 4, verify: 1}")) == "updated"
    assert require_campaign(queue.db, "own")["settings"]["data"]["new"]["verify"] == 1
