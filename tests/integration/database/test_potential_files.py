"""Files of potentials: named plainly, stored again where they were damaged, and never pulled from under a writer."""

from __future__ import annotations

import threading

import pytest

from gapfactory.errors import PotentialError
from launchpad.database import potentials
from launchpad.database.potentials import BUCKET, damaged_files, fetch_potential, store_files

pytestmark = [pytest.mark.database]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gap.xml"
    # several chunks
    path.write_bytes(bytes(range(256)) * 3000)
    return path


def record(files):
    return {"_id": "made-up/g000", "files": files}


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b", "..", ""])
def test_a_name_that_leads_elsewhere_is_refused(database, file, tmp_path, name) -> None:
    (entry,) = store_files(database, [file])
    with pytest.raises(PotentialError, match="plain file name"):
        fetch_potential(database, record([{**entry, "name": name}]), tmp_path / "in" / "here")
    assert not (tmp_path / "in" / "outside").exists()


@pytest.mark.parametrize("damage", ["lost chunk", "altered", "lost file document"])
def test_damaged_content_is_stored_again(database, file, tmp_path, monkeypatch, damage) -> None:
    monkeypatch.setattr(potentials, "WRITER_S", 0.2)
    stored = store_files(database, [file])
    assert damaged_files(database, record(stored)) == []
    if damage == "lost chunk":
        database[BUCKET].chunks.delete_one({"n": 1})
    elif damage == "altered":
        database[BUCKET].chunks.update_one({"n": 0}, {"$set": {"data": b"x" * 255 * 1024}})
    else:
        database[BUCKET].files.delete_one({})
    assert damaged_files(database, record(stored)) == ["gap.xml"]
    assert store_files(database, [file]) == stored
    assert damaged_files(database, record(stored)) == []
    fetch_potential(database, record(stored), tmp_path / "out")
    assert (tmp_path / "out" / "gap.xml").read_bytes() == file.read_bytes()


def test_a_writer_in_the_midst_of_the_same_content_is_let_finish(database, file) -> None:
    (entry,) = store_files(database, [file])
    chunks, files = database[BUCKET].chunks, database[BUCKET].files
    last = chunks.find_one_and_delete({"n": 2})
    document = files.find_one_and_delete({"_id": entry["sha256"]})
    written = {chunk["_id"] for chunk in chunks.find({}, {"_id": 1})}
    assert len(written) == 2

    def finish():
        chunks.insert_one(last)
        files.insert_one(document)

    timer = threading.Timer(0.5, finish)
    timer.start()
    stored = store_files(database, [file])
    timer.join()
    assert damaged_files(database, record(stored)) == []
    assert written <= {chunk["_id"] for chunk in chunks.find({}, {"_id": 1})}
