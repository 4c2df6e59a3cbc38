"""The map of a whole campaign: bounded, of every generation, with what points can be coloured by."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

pytestmark = pytest.mark.database


def quiet(text, done, total):
    """Take no notice of the progress."""


@pytest.fixture(scope="module")
def points(stored):
    from launchpad.dashboard.works.maps import draw_map

    made = draw_map(stored, quiet, "tiny", None, 1000)
    found = json.loads(made.parts["points"])
    assert made.facts["points"] == len(found)
    assert made.facts["offered"] == 18
    return found


def test_it_has_the_structures_of_every_generation(stored, points):
    assert {point["generation"] for point in points} == {0, 1}
    ids = {point["id"] for point in points}
    for chosen in stored.selections.find({"campaign": "tiny"}):
        assert ids >= {*chosen["train"], *chosen["test"]}
    cells = {
        row["_id"] for row in stored.structures.find({"campaign": "tiny", "generation": 0, "stage": "cell"})
    }
    relaxed = {row["_id"] for row in stored.relaxations.find({"campaign": "tiny"})}
    assert cells | relaxed <= ids


def test_origins_are_those_of_the_report(stored, points):
    from launchpad.reporting import collect_report

    said = {point["id"]: point["origin"] for point in points}
    for labelled in collect_report(stored, "tiny", similarity=False).training:
        assert said[labelled.id] == labelled.origin
    assert {said[point["id"]] for point in points if point["generation"] == 0} == {"random cell"}


def test_energies_are_those_of_the_newest_potential_whatever_the_generation(stored, points, tmp_path):
    from ase import Atoms

    from gapfactory.potentials.gap import load_potential
    from launchpad.dashboard.queries.structures import find
    from launchpad.database.potentials import fetch_potential, latest_potential

    calculator = load_potential(fetch_potential(stored, latest_potential(stored, "tiny"), tmp_path / "p"))
    values = []
    for point in points:
        kept = find(stored, point["id"]).crystal
        atoms = Atoms(kept.symbols, positions=kept.positions, cell=kept.cell, pbc=True)
        atoms.calc = calculator
        values.append(atoms.get_potential_energy() / len(atoms))
    above = np.array(values) - min(values)
    shown = np.array([point["energy"] for point in points])
    assert shown == pytest.approx(np.minimum(above, shown.max()), abs=1e-6)
    assert (shown < shown.max()).sum() >= 0.9 * len(shown)


def test_a_small_map_has_some_of_everything_and_is_the_same_each_time(stored):
    from launchpad.dashboard.works.maps import draw_map

    small = [draw_map(stored, quiet, "tiny", None, 10) for _ in range(2)]
    assert small[0].parts == small[1].parts
    found = json.loads(small[0].parts["points"])
    assert 3 <= len(found) <= 10
    assert {point["generation"] for point in found} == {0, 1}
    assert {point["purpose"] for point in found} >= {"training", "not chosen"}


def test_the_page_offers_colours_and_refuses_others(uri, tmp_path_factory):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    group = Group("si", uri)
    client = create_app([group], DashboardSettings(), b"k" * 32, ticket="t" * 32).test_client()
    client.get("/login?ticket=" + "t" * 32)
    root = "/g/si/structures/map/tiny"
    end = time.monotonic() + 180
    while "HX-Refresh" not in client.get(f"{root}/now").headers:
        assert time.monotonic() < end
        time.sleep(0.3)
    page = client.get(f"{root}/?colour=volume")
    assert "<option selected>volume</option>" in page.text
    assert f"{root}/data?colour=volume" in page.text
    assert "unsafe-eval" in page.headers["Content-Security-Policy"]
    for colour, used in (("generation", "generation"), ("origin", "origin, numbered"), ("energy", "energy")):
        data = client.get(f"{root}/data?colour={colour}").json
        assert data["settings"]["map"]["color"]["property"] == used
        assert data["settings"]["map"]["symbol"] == "origin"
        values = data["properties"][used]["values"]
        assert len(values) == len(data["structures"])
        assert all(isinstance(value, int | float) for value in values)
    assert client.get(f"{root}/data?colour=%7B%22$gt%22:1%7D").status_code == 400
    assert client.get(f"{root}/?colour=nonsense").status_code == 400
    assert client.get("/g/si/structures/map/nobody/").status_code == 404
    group.close()
