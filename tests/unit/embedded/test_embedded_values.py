"""The byte encoding orders values as MongoDB does."""
# ruff: noqa: DTZ001 - BSON dates are naive UTC

import datetime as dt
from fractions import Fraction

import bson
import pytest
from bson import Binary, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from launchpad.embedded.values import INVERT, MISSING, encode, equal, lookup, type_name

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**62 + 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 5e-324, 1e308, float(2**53), float(2**63)]),
)


@settings(max_examples=400, deadline=None)
@given(NUMBERS, NUMBERS)
def test_numbers_order_exactly_across_int_and_float(a, b):
    x, y = Fraction(a), Fraction(b)
    assert (encode(a) < encode(b)) == (x < y)
    assert (encode(a) == encode(b)) == (x == y)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text())
def test_strings_order_by_their_utf8_bytes(a, b):
    x, y = a.encode("utf-8"), b.encode("utf-8")
    assert (encode(a) < encode(b)) == (x < y)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text("ab\0", max_size=3), st.floats(-2, 2)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
)


@settings(max_examples=400, deadline=None)
@given(VALUES, VALUES)
def test_no_encoding_is_a_proper_prefix_and_inversion_reverses(a, b):
    x, y = encode(a), encode(b)
    if x != y:
        assert not x.startswith(y)
        assert (x < y) == (x.translate(INVERT) > y.translate(INVERT))


@settings(max_examples=300, deadline=None)
@given(st.lists(SCALARS, max_size=3), st.lists(SCALARS, max_size=3))
def test_arrays_order_elementwise_then_by_length(a, b):
    expected = [encode(item) for item in a] < [encode(item) for item in b]
    assert (encode(a) < encode(b)) == expected


def test_types_order_as_mongodb_documents():
    ordered = [
        MinKey(),
        None,
        float("nan"),
        float("-inf"),
        -1,
        0,
        0.5,
        float("inf"),
        "",
        "a",
        "b",
        {},
        {"a": 1},
        [],
        [1],
        b"a",
        b"bb",
        Binary(b"bb", 5),
        ObjectId("0" * 24),
        False,
        True,
        dt.datetime(1900, 1, 1),
        dt.datetime(2026, 1, 1),
        Timestamp(1, 1),
        Regex("a"),
        MaxKey(),
    ]
    keys = [encode(value) for value in ordered]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_equality_is_mongodbs_not_pythons():
    assert equal(1, 1.0)
    assert equal(Int64(3), 3)
    assert not equal(True, 1)
    assert not equal({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert equal(0.0, -0.0)


def test_encoding_is_the_same_after_a_round_trip_through_bson():
    value = {"d": dt.datetime(2026, 1, 2, 3, 4, 5, 678000), "l": [1, 2.5, None, "x"], "i": 2**40}
    assert encode(bson.decode(bson.encode(value))) == encode(value)


@pytest.mark.parametrize(
    ("document", "path", "found"),
    [
        ({"a": {"b": 1}}, "a.b", [1]),
        ({"a": [{"b": 1}, {"b": [2, 3]}, {}]}, "a.b", [1, [2, 3], MISSING]),
        ({"a": [{"b": 1}, 5]}, "a.1", [5]),
        ({"a": []}, "a.b", []),
        ({"a": 4}, "a.b", [MISSING]),
        ({}, "a.b", [MISSING]),
        ({"a": [[{"b": 1}]]}, "a.0.b", [1]),
    ],
)
def test_lookup_traverses_arrays(document, path, found):
    assert lookup(document, tuple(path.split("."))) == found


def test_type_names_distinguish_widths():
    assert [type_name(value) for value in (1, 2**40, Int64(1), 1.0, True, None, MISSING)] == [
        "int",
        "long",
        "long",
        "double",
        "bool",
        "null",
        "missing",
    ]
