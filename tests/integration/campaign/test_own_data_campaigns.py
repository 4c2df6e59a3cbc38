"""Campaigns that begin with given labels: trained on, verified, and refused where they are of another method."""

from __future__ import annotations

import pytest
from gf_own_data import labelled_silicon, write_data

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = ("campaign", "run", "own.yaml", "--workers", "2", "--no-report")


@pytest.fixture
def own(place, tiny):
    """A place with a campaign that begins with 24 given labels, and has one generation of its own after them."""
    text = (
        tiny(generations=2)
        .replace("initial_cells: 12", "initial_cells: 0")
        .replace("name: tiny", "name: own")
    )
    place.write(
        "own.yaml", text.replace("label_budget: 12", "label_budget: 6") + "data: {mine: {file: mine.xyz}}\n"
    )
    write_data(place.directory / "mine.xyz", labelled_silicon(24))
    return place


def test_it_begins_with_them(own):
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    own.good(*RUN)
    status = own.json("campaign", "status", "own")
    assert status["state"] == "done"
    database = open_database(locate_database(None, own.data).uri)
    try:
        first, last = database.potentials.find({"campaign": "own"}).sort("generation", 1)
        given = {key for key in first["trained_on"] if "/data/mine/" in key}
        assert len(given) == 22
        assert {key.split("/")[2] for key in first["trained_on"]} == {"data", "isolated", "dimer"}
        assert given < set(last["trained_on"])
        assert len(set(last["trained_on"]) - set(first["trained_on"])) == 4
        # the two that are held out tell the first potential's error
        errors = database.metrics.find_one({"campaign": "own", "generation": 0})["evidence"][
            "held_out_errors"
        ]
        assert {key.split("/")[2] for key, *_ in errors} == {"data"}
        # three were labelled again, and no others of them
        levels = list(database.labels.find({"structure_hash": {"$in": _hashes(database, given)}}))
        assert len([d for d in levels if d["engine"] == "own data"]) == 22
        again = list(database.labels.find({"engine": "ase", "kind": "crystal"}))
        assert len([d for d in again if d["structure_hash"] in _hashes(database, None)]) == 3
    finally:
        database.client.close()
    # a report says what they are
    own.good("campaign", "report", "own")
    page = (own.directory / "own-report" / "index.html").read_text()
    assert "24 came with the campaign as mine (mine.xyz), 2 of them held out; 3 were labelled again" in page
    rows = (own.directory / "own-report" / "training_set.csv").read_text().splitlines()
    assert len([row for row in rows if ",own data," in row]) == 24


def _hashes(database, keys):
    query = {"stage": "data"} if keys is None else {"_id": {"$in": sorted(keys)}}
    return [d["hash"] for d in database.structures.find(query, {"hash": 1})]


def test_labels_of_another_method_halt_it(own):
    write_data(own.directory / "mine.xyz", labelled_silicon(24), shift=0.02)
    said = own.refused(*RUN)
    assert "data 'mine' (mine.xyz) has other labels than the reference of this campaign gives" in said
    assert "energies differ by up to 0.02 eV/atom" in said
    status = own.json("campaign", "status", "own")
    assert status["state"] == "halted"
    # who means it says so
    text = (own.directory / "own.yaml").read_text()
    own.write("own.yaml", text.replace("mine.xyz}", "mine.xyz, energy_tolerance: 0.03}"))
    own.good("campaign", "submit", "own.yaml")
    own.good("campaign", "resume", "own", "--run", "--workers", "2", "--no-report")
    assert own.json("campaign", "status", "own")["state"] == "done"
