"""Filters of a table come from the URL as typed values, and nothing else of the URL reaches the database."""

from __future__ import annotations

import base64
import json

import pytest

from gapfactory.errors import InputError
from launchpad.dashboard.listing import Column, Listing

COLUMNS = (
    Column("state", "state", "State", "choice", ("READY", "FIZZLED"), sortable=True),
    Column("name", "name", "Name", "prefix"),
    Column("campaign", "spec.campaign", "Campaign", "exact"),
    Column("id", "fw_id", "Task", "whole", sortable=True),
    Column("energy", "result.energy", "Energy", "real"),
)


def token(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def read(**arguments):
    given = {key: value if isinstance(value, list) else [value] for key, value in arguments.items()}
    return Listing.read(COLUMNS, given, sort="id")


def test_every_kind_becomes_a_typed_condition():
    found = read(
        state=["READY", "FIZZLED"], name="si.*", campaign="si", id_min="3", id_max="9", energy_min="-1.5"
    )
    assert dict(found.conditions) == {
        "state": {"$in": ["READY", "FIZZLED"]},
        "name": {"$gte": "si.*", "$lt": "si.*\U0010ffff"},
        "spec.campaign": "si",
        "fw_id": {"$gte": 3, "$lte": 9},
        "result.energy": {"$gte": -1.5},
    }


def test_empty_fields_of_a_form_mean_nothing():
    found = read(state="", name="", id_min="", energy_max="")
    assert dict(found.conditions) == {}
    assert found.link() == "?"


@pytest.mark.parametrize(
    "arguments",
    [
        {"state": "$ne"},
        {"state": ["READY", "{'$gt': ''}"]},
        {"id_min": "1; drop"},
        {"id_min": "1.5"},
        {"energy_min": "nan"},
        {"energy_min": "1e400"},
        {"name": "a" * 300},
        {"sort": "spec._tasks"},
        {"sort": "-name"},
        {"size": "100000"},
        {"after": "%%%"},
        {"after": token([{"$gt": ""}, 1])},
        {"after": token([{"$regularExpression": {"pattern": ".", "options": ""}}, 1])},
        {"after": token([{"$code": "1"}, 1])},
        {"after": token([["s", {"$gt": ""}], ["i", 1]])},
        {"after": token([["i", 2**63], ["i", 1]])},
        {"after": token([["i", True], ["i", 1]])},
        {"after": token([["s", "\ud800"], ["i", 1]])},
        {"after": token([["o", "zz"], ["i", 1]])},
        {"after": token([["d", "yesterday"], ["i", 1]])},
        {"after": token([["d", {}], ["x", 1]])},
        {"after": token([["i", 1]])},
        {"after": token([1])},
        {"after": token(7)},
        {"after": base64.urlsafe_b64encode(b"[" * 100_000).decode()},
        {"after": base64.urlsafe_b64encode(b"\xff\xfe").decode()},
        {"id_min": "9" * 5000},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(arguments):
    with pytest.raises(InputError):
        read(**arguments)


def test_unknown_arguments_do_not_survive():
    found = read(where="1==1", **{"state[$ne]": "READY"})
    assert dict(found.conditions) == {}
    assert found.link() == "?"


def test_links_keep_the_filters_and_begin_at_the_first_page():
    found = read(state="READY", sort="id", after=token([["i", 5], ["i", 6]]))
    assert found.after == (5, 6)
    assert found.link(size="25") == "?state=READY&sort=id&size=25"
    assert found.sorted_by(COLUMNS[3]) == "?state=READY&sort=-id"
    assert found.link(state=None) == "?sort=id"


class Remembering:
    """A collection that has nothing, and remembers how it was asked."""

    def find(self, query, fields):
        self.query = query
        return self

    def sort(self, order):
        self.order = order
        return self

    def limit(self, number):
        return []


TASKS = (
    Column("state", "state", "State", "choice", ("READY", "FIZZLED")),
    Column("generation", "generation", "Generation", "number"),
    Column("id", "fw_id", "Task", "whole", sortable=True, unique=True),
    Column("energy", "energy", "Energy", "real", sortable=True),
    Column("name", "name", "Name begins with", "prefix", sortable=True),
)


def page_of(always=(), **arguments):
    found = Remembering()
    given = {key: [value] for key, value in arguments.items()}
    Listing.read(TASKS, given, sort="id").page(found, {}, dict(always))
    return found


def test_a_page_names_one_interval_of_the_sort_key():
    """Bounds that are asked for, the table's own and the page's are one: an index is entered and left there."""
    after = token([["i", 50], ["i", 7]])
    assert page_of(id_min="3", id_max="90", after=after).query == {"fw_id": {"$gte": 3, "$lt": 50}}
    assert page_of(id_max="20", after=after).query == {"fw_id": {"$lte": 20}}
    assert page_of(id_max="50", after=after).query == {"fw_id": {"$lt": 50}}
    assert page_of(id_min="70", sort="id", after=after).query == {"fw_id": {"$gte": 70}}
    assert page_of().order == [("fw_id", -1)]
    energy = page_of(
        {"energy": {"$gte": -1e30}}, sort="energy", energy_max="2", after=token([["f", -4.5], ["i", 7]])
    )
    assert energy.query["energy"] == {"$gte": -4.5, "$lte": 2.0}
    assert energy.query["$or"] == [{"energy": -4.5, "_id": {"$gt": 7}}, {"energy": {"$gt": -4.5}}]
    assert energy.order == [("energy", 1), ("_id", 1)]


@pytest.mark.parametrize("value", [["s", "x"], ["n", None], ["b", True], ["f", float("nan")]])
def test_a_page_of_another_table_is_refused(value):
    with pytest.raises(InputError, match="not a page of this table"):
        page_of(after=token([value, ["i", 7]]))


def test_what_begins_with_a_name_is_in_its_order():
    assert page_of(name="si").order == [("name", 1), ("_id", 1)]
    assert page_of(name="si", sort="-name").order == [("name", -1), ("_id", -1)]
    with pytest.raises(InputError, match="in that order"):
        page_of(name="si", sort="id")


def test_what_is_not_filtered_is_named_while_an_index_reads_so_many_ranges():
    listing = Listing.read(TASKS, {"state": ["READY"], "generation": ["3"]}, sort="id")
    assert dict(listing.conditions) == {"state": "READY", "generation": 3}
    assert listing.spread({"state": ["READY", "FIZZLED"], "kind": ["fit", None]}) == {
        "kind": {"$in": ["fit", None]}
    }
    assert listing.spread({"kind": [str(number) for number in range(201)]}) == {}
    with pytest.raises(InputError):
        Listing.read(TASKS, {"generation": ["1.5"]}, sort="id")
