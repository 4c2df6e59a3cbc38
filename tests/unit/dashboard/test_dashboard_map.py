"""A similarity map as chemiscope reads it: what points are coloured by."""

from __future__ import annotations

import pytest
from flask import Blueprint, Flask

from launchpad.dashboard.queries.structure_map import map_data_set


@pytest.fixture(autouse=True)
def addresses():
    """Let addresses of structures be made."""
    app = Flask(__name__)
    pages = Blueprint("structures", __name__)
    pages.add_url_rule("/atoms/<path:key>", "atoms", lambda key: key)
    app.register_blueprint(pages)
    with app.test_request_context():
        yield


def data(compositions: list[str], colour: str = "composition", **more):
    points = [
        {"id": f"x/{k}", "x": 0.1 * k, "y": 0.0, "size": 4, "volume": 10.0 + k, "composition": name, **more}
        for k, name in enumerate(compositions)
    ]
    return map_data_set("x", points, colour, "origin")


def colours(found) -> tuple[str, list]:
    name = found["settings"]["map"]["color"]["property"]
    return name, found["properties"][name]["values"]


def test_two_elements_are_coloured_by_the_share_of_the_second():
    found = data(["Al", "AlNi", "AlNi3", "Ni"])
    assert colours(found) == ("fraction of Ni", [0.0, 0.5, 0.75, 1.0])
    assert found["properties"]["composition"]["values"] == ["Al", "AlNi", "AlNi3", "Ni"]


def test_more_elements_are_numbered_and_said():
    found = data(["OH2", "SiO2", "OH2", "O"])
    assert colours(found) == ("composition, numbered", [1, 2, 1, 0])
    assert found["properties"]["composition, numbered"]["description"] == "0: O, 1: OH2, 2: SiO2"


def test_origins_are_numbered():
    found = data(["Si", "Si"], "origin", origin="random cell")
    assert colours(found) == ("origin, numbered", [0, 0])


def test_a_map_that_was_drawn_before_compositions_were_kept_shows_volumes():
    points = [{"id": "x/0", "x": 0.0, "y": 0.0, "size": 2, "volume": 20.0}]
    assert colours(map_data_set("x", points, "composition", "origin")) == ("volume", [20.0])
