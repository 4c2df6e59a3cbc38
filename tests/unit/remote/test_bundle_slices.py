"""A slice answers a query only where it holds everything that the query could find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.remote.slices import SENDABLE, Slice, prefix, within

RANGE = {"campaign": "a", "generation": 1, "index": {"$gte": 3, "$lt": 6}}


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ({"_id": "x"}, {"_id": "x"}),
        ({"_id": {"$eq": "x"}, "more": 1}, {"_id": "x"}),
        ({"_id": {"$in": ["x", "y"]}}, {"_id": {"$in": ["x", "y", "z"]}}),
        ({"_id": "x"}, {"_id": {"$in": ["x", "y"]}}),
        ({**RANGE, "stage": "cell"}, RANGE),
        ({**RANGE, "index": {"$gte": 4, "$lt": 6}}, RANGE),
        ({**RANGE, "index": {"$in": [3, 5]}}, RANGE),
        ({"_id": "a/g001/relaxation/000001"}, {"_id": prefix("a/g001/relaxation/")}),
        ({"curve": "k", "$or": [{"status": "done"}]}, {"curve": "k"}),
        # potentials and assessments before a generation
        ({"campaign": "a", "generation": {"$lt": 3}}, {"campaign": "a", "generation": {"$lt": 3}}),
        ({"generation": {"$lt": 2}}, {"generation": {"$lt": 3}}),
        ({"generation": {"$gte": 1, "$lt": 3}}, {"generation": {"$lt": 3}}),
        ({"generation": 2}, {"generation": {"$lt": 3}}),
        ({}, {}),
    ],
)
def test_what_lies_within(query, allowed) -> None:
    assert within(query, allowed)


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ({}, {"_id": "x"}),
        ({"_id": "y"}, {"_id": "x"}),
        ({"_id": {"$ne": "x"}}, {"_id": "x"}),
        ({"_id": {"$in": ["x", "q"]}}, {"_id": {"$in": ["x", "y"]}}),
        ({"_id": {"$in": ["x"], "$nin": ["y"]}}, {"_id": {"$in": ["x"]}}),
        ({"$or": [{"_id": "x"}, {}]}, {"_id": "x"}),
        ({**RANGE, "campaign": "b"}, RANGE),
        ({**RANGE, "index": {"$gte": 2, "$lt": 6}}, RANGE),
        ({**RANGE, "index": {"$gte": 3, "$lte": 6}}, RANGE),
        ({**RANGE, "index": {"$gte": 3}}, RANGE),
        ({**RANGE, "index": 6}, RANGE),
        ({**RANGE, "index": "4"}, RANGE),
        ({"campaign": "a", "generation": 1}, RANGE),
        ({"_id": "a/g001/relaxatioo"}, {"_id": prefix("a/g001/relaxation/")}),
        ({"_id": {"x": 1}}, {"_id": {"$in": ["x"]}}),
        ({"generation": {"$lt": 4}}, {"generation": {"$lt": 3}}),
        ({"generation": {"$lt": "1"}}, {"generation": {"$lt": 3}}),
        ({"generation": {"$gte": 1}}, {"generation": {"$lt": 3}}),
        ({"generation": 3}, {"generation": {"$lt": 3}}),
    ],
)
def test_what_does_not(query, allowed) -> None:
    assert not within(query, allowed)


def test_a_part_of_the_documents_answers_only_what_it_shows() -> None:
    part = Slice("relaxations", ({"campaign": "a"}, {"_id": prefix("a/")}), ("index",))
    assert part.sent == ("_id", "campaign", "index")
    assert part.answers({"campaign": "a"}, {"index": 1})
    assert part.answers({"campaign": "a", "index": {"$gt": 2}}, {"_id": 1}, ["index"])
    assert not part.answers({"campaign": "a"}, None), "whole documents"
    assert not part.answers({"campaign": "a"}, {"index": 1, "energies": 1})
    assert not part.answers({"campaign": "a"}, {"energies": 0})
    assert not part.answers({"campaign": "a", "stage": "cell"}, {"index": 1}), "a field that was not sent"
    assert not part.answers({"campaign": "a"}, {"index": 1}, ["energies"])
    assert Slice.from_document(part.document()) == part


def test_the_assessment_is_not_sent() -> None:
    assert set(SENDABLE) == {"build", "relax", "select", "reference", "train", "fit"}


NUMBERS = st.integers(0, 5)
CONDITIONS = st.one_of(
    NUMBERS,
    st.builds(lambda n: {"$eq": n}, NUMBERS),
    st.builds(lambda ns: {"$in": ns}, st.lists(NUMBERS)),
    st.builds(lambda a, b: {"$gte": a, "$lt": b}, NUMBERS, NUMBERS),
    st.builds(lambda n: {"$lt": n}, NUMBERS),
    st.builds(lambda n: {"$ne": n}, NUMBERS),
    st.builds(lambda n: {"$gt": n}, NUMBERS),
)
FILTERS = st.dictionaries(st.sampled_from("xyz"), CONDITIONS, max_size=3)
PROMISES = st.dictionaries(
    st.sampled_from("xyz"), CONDITIONS.filter(lambda c: not isinstance(c, dict) or "$in" in c or "$lt" in c)
)


@given(FILTERS, PROMISES)
def test_nothing_that_a_query_within_a_filter_finds_is_outside_of_it(query, allowed) -> None:
    from launchpad.embedded.filters import compile_filter

    if within(query, allowed):
        asked, promised = compile_filter(query), compile_filter(allowed)
        for x in range(6):
            for y in range(6):
                document = {"x": x, "y": y, "z": (x + y) % 6}
                assert promised(document) or not asked(document)
