"""A structure's page, its files and what the viewer draws, where something of its history is missing or unusual."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from launchpad.database.documents import StructureDocument
from launchpad.database.indexes import ensure_indexes
from launchpad.database.packing import pack_atoms
from launchpad.database.results import save_structures

pytestmark = pytest.mark.database

CELL = Atoms("Si2", scaled_positions=[[0, 0, 0], [0.3, 0.25, 0.2]], cell=np.eye(3) * 3.9, pbc=True)


@pytest.fixture
def campaign(application, database, tiny, tmp_path):
    from gapfactory.campaign import load_campaign
    from launchpad.database.campaigns import create_campaign

    (tmp_path / "tiny.yaml").write_text(tiny(generations=2))
    settings = load_campaign(tmp_path / "tiny.yaml")
    ensure_indexes(database)
    create_campaign(database, settings, "text", {})
    return settings


@pytest.fixture
def client(log_in):
    return log_in("viewer")


def keep(database, key, atoms=CELL, campaign="tiny", stage="cell", generation=0, **info):
    from gapfactory.structures import structure_hash

    document = StructureDocument(
        id=key,
        campaign=campaign,
        generation=generation,
        stage=stage,
        index=0,
        composition="Si",
        hash=structure_hash(atoms),
        atoms=pack_atoms(atoms),
        info=info,
    )
    save_structures(database, [document])
    return key


def relaxed(database, number, *, frames=4, status="converged", keep_frames=True):
    from gapfactory.search import Trajectory
    from launchpad.database.results import save_relaxation
    from launchpad.tasks.relax import relaxation_document

    path = Trajectory(
        numbers=CELL.numbers,
        steps=np.arange(frames),
        positions=np.array([CELL.positions] * frames),
        cells=np.array([CELL.cell.array] * frames),
        energies=np.linspace(-7.0, -8.0, frames),
        enthalpies=np.linspace(-7.0, -8.0, frames),
        max_forces=np.ones(frames),
        cell_forces=np.ones(frames),
        n_evaluations=frames,
        status=status,
        reason="",
        pressure_GPa=0.1,
        n_steps=frames - 1,
    )
    save_relaxation(database, relaxation_document("tiny", 1, number, "Si", path, 1.0))
    key = f"tiny/g001/relaxation/{number:06d}"
    if not keep_frames:
        database.relaxations.update_one({"_id": key}, {"$unset": {"positions": 1, "cells": 1}})
    return key


def everything(client, key):
    """Return the page; everything that it loads or offers is there too."""
    page = client.get(f"/g/si/structures/of/{key}")
    assert page.status_code == 200, page.text
    frames = client.get(f"/g/si/structures/frames/{key}")
    assert frames.status_code == 200
    for address in re.findall(r'data-file="([^"]+)"', page.text):
        assert client.get(address).status_code == 200, address
    for address in re.findall(r'href="([^"#]*/structures/of/[^"#]+)', page.text):
        assert client.get(address).status_code == 200, address
    return page.text, frames.json


def path_of(text):
    return re.findall(r"<strong>([^<]+)", text[text.index('class="path"') : text.index("</ol>")])


def test_a_relaxation_that_nothing_was_chosen_from(campaign, database, client):
    # somebody's own task in the same generation, without a range of structures
    spec = {"campaign": "tiny", "generation": 1, "_category": "relax", "_tasks": [{"script": "true"}]}
    database.fireworks.insert_one({"fw_id": 61, "name": "another", "state": "COMPLETED", "spec": spec})
    text, frames = everything(client, relaxed(database, 3))
    assert path_of(text) == ["Random cell", "Relaxation"]
    assert "removed since" in text
    assert "It was not chosen for a label." in text
    assert frames["relaxation"] == "tiny/g001/relaxation/000003"
    assert len(frames["frames"]) == 4
    assert frames["radii"] == pytest.approx([1.11, 1.11])


def test_a_relaxation_whose_frames_are_gone_shows_the_cell_that_it_began_with(campaign, database, client):
    key = relaxed(database, 4, keep_frames=False)
    assert client.get(f"/g/si/structures/of/{key}").status_code == 404
    keep(database, "tiny/g001/cell/000004", generation=1)
    text, frames = everything(client, key)
    assert "no frame of the relaxation is kept" in text
    assert len(frames["frames"]) == 1
    assert client.get(f"/g/si/structures/file/extxyz/{key}?trajectory=1").status_code == 404


def test_a_relaxation_that_failed_before_its_first_number(campaign, database, client):
    key = relaxed(database, 5, status="failed")
    names = ("final_energy_per_atom", "final_volume_per_atom", "seconds")
    database.relaxations.update_one({"_id": key}, {"$unset": dict.fromkeys(names, 1)})
    text, _ = everything(client, key)
    assert "failed" in text


def test_a_cell_that_could_not_be_labelled(campaign, database, client):
    from gapfactory.reference import LabelOutcome
    from gapfactory.structures import structure_hash
    from launchpad.database.campaigns import levels_of
    from launchpad.database.documents import SelectionDocument
    from launchpad.database.labels import Subject, save_outcome
    from launchpad.database.results import save_selection

    key = keep(database, "tiny/g000/cell/000001")
    # a selection of an earlier version: without a report
    save_selection(
        database,
        SelectionDocument(id="tiny/g000", campaign="tiny", generation=0, train=[key], test=[], report={}),
    )
    level = levels_of(database.campaigns.find_one({"_id": "tiny"}))["crystal"]
    subject = Subject("tiny", structure_hash(CELL), level, "crystal", CELL)
    outcome = LabelOutcome(key, None, "<i>no</i> convergence", 2, ("slower mixing: scf",), "scf")
    save_outcome(database, subject, outcome, "made up")
    database.fireworks.insert_one(
        {
            "fw_id": 71,
            "name": "label",
            "state": "COMPLETED",
            "spec": {
                "campaign": "tiny",
                "generation": 0,
                "_category": "reference",
                "_tasks": [{"what": "picks", "start": 0, "stop": 2}],
            },
        }
    )
    text, _ = everything(client, key)
    assert path_of(text) == ["Random cell", "Label"]
    assert "&lt;i&gt;no&lt;/i&gt; convergence" in text
    assert "slower mixing: scf" in text
    assert 'href="/g/si/tasks/71"' in text
    page = client.get("/g/si/campaigns/tiny/recoveries").text
    assert f'href="/g/si/structures/of/{key}#label"' in page
    assert 'href="/g/si/tasks/71"' in page


def test_a_label_that_came_after_a_recovery_leads_to_its_task(campaign, database, client):
    from gapfactory.structures import structure_hash
    from launchpad.database.documents import LabelDocument, SelectionDocument
    from launchpad.database.results import save_selection

    keys = [keep(database, f"tiny/g000/cell/{k:06d}", CELL * (k + 1, 1, 1)) for k in range(2)]
    selection = SelectionDocument(
        id="tiny/g000", campaign="tiny", generation=0, train=keys, test=[], report={}
    )
    save_selection(database, selection)
    for number in range(2):
        work = {"what": "picks", "start": number, "stop": number + 1}
        spec = {"campaign": "tiny", "generation": 0, "_category": "reference", "_tasks": [work]}
        database.fireworks.insert_one(
            {"fw_id": 81 + number, "state": "COMPLETED", "name": "label", "spec": spec}
        )
    label = LabelDocument(
        id="one",
        structure_hash=structure_hash(CELL * (2, 1, 1)),
        settings_hash="any",
        kind="crystal",
        status="done",
        attempts=2,
        history=["plain: scf"],
        atoms=pack_atoms(CELL),
        energy=-1.0,
        engine="made up",
        campaign="tiny",
    )
    database.labels.insert_one(label.to_bson())
    part = client.get("/g/si/campaigns/tiny/recoveries").text.split("after a recovery")[1]
    assert f"/structures/of/{keys[1]}#label" in part
    assert "/tasks/82" in part
    assert "/tasks/81" not in part


def test_a_label_of_another_level_is_shown_as_that(campaign, database, client):
    from gapfactory.structures import structure_hash
    from launchpad.database.documents import LabelDocument

    key = keep(database, "tiny/g000/cell/000002")
    label = LabelDocument(
        id="other",
        structure_hash=structure_hash(CELL),
        settings_hash="another",
        kind="crystal",
        status="done",
        atoms=pack_atoms(CELL),
        energy=-8.0,
        engine="gpaw",
        version="9",
        campaign="precise",
    )
    database.labels.insert_one(label.to_bson())
    text, _ = everything(client, key)
    assert "No label." in text
    assert "Labels at other levels" in text
    assert re.search(r"gpaw 9, campaign precise: -4\.00000", text)


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("Si3", positions=[[0, 0, 0], [2.3, 0, 0], [0, 2.3, 0]]),
        Atoms("Si2", positions=[[0, 0, 0], [2.3, 0, 0]], cell=[0, 0, 4.0], pbc=[False, False, True]),
    ],
    ids=["cluster", "wire"],
)
def test_what_was_brought_in_without_a_cell(campaign, database, client, atoms):
    """Neither campaign nor random cell nor volume: the page says what is known."""
    key = keep(database, "elsewhere/first", atoms, campaign="elsewhere", stage="cell")
    text, frames = everything(client, key)
    assert path_of(text) == ["Structure"]
    assert "Å³" not in text.split('id="made"')[1].split("</section>")[0]
    assert frames["periodic"] is False
    cif = client.get(f"/g/si/structures/file/cif/{key}")
    assert len(read(io.BytesIO(cif.data), format="cif")) == len(atoms)
