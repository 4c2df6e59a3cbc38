"""Whatever index the planner takes, the result is that of looking at every document."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launchpad.embedded.aggregation import unique
from launchpad.embedded.commands.grouping import from_index
from launchpad.embedded.errors import CommandError
from launchpad.embedded.expressions import path_values
from launchpad.embedded.filters import compile_filter
from launchpad.embedded.indexes import HIGHEST, Index, build
from launchpad.embedded.planner import group_prefix
from launchpad.embedded.sorting import sort_value
from launchpad.embedded.store import Store
from launchpad.embedded.values import encode

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, -1.0, float("nan"), float("inf")]),
    st.sampled_from(["", "a", "b"]),
    st.fixed_dictionaries({"c": st.integers(0, 2)}),
)
FIELD = st.one_of(
    SCALARS, SCALARS, st.lists(SCALARS, max_size=3), st.lists(st.lists(SCALARS, max_size=2), max_size=2)
)
NESTED = st.one_of(
    st.fixed_dictionaries({}, optional={"c": FIELD, "d": SCALARS}),
    st.lists(st.fixed_dictionaries({}, optional={"c": SCALARS}), max_size=3),
    SCALARS,
)
DOCUMENT = st.fixed_dictionaries({}, optional={"a": FIELD, "b": SCALARS, "n": NESTED})
PATHS = st.sampled_from(["a", "b", "n.c", "n", "n.d", "a.0"])
INDEX = st.fixed_dictionaries(
    {
        "key": st.lists(
            st.tuples(PATHS, st.sampled_from([1, -1])), min_size=1, max_size=3, unique_by=lambda p: p[0]
        )
    },
    optional={"sparse": st.just(True)},
)
OPERAND = st.one_of(SCALARS, st.lists(SCALARS, max_size=2))
CONDITION = st.one_of(
    OPERAND,
    st.dictionaries(
        st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), OPERAND, min_size=1, max_size=2
    ),
    st.fixed_dictionaries({"$in": st.lists(SCALARS, max_size=4)}),
    st.fixed_dictionaries({"$in": st.lists(SCALARS, max_size=4), "$gte": SCALARS}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$elemMatch": st.fixed_dictionaries({"$gt": SCALARS})}),
)
SIMPLE = st.dictionaries(PATHS, CONDITION, max_size=3)
FILTER = st.one_of(
    SIMPLE,
    st.builds(lambda parts, rest: {"$or": parts, **rest}, st.lists(SIMPLE, min_size=1, max_size=3), SIMPLE),
    st.builds(lambda parts: {"$and": parts}, st.lists(SIMPLE, min_size=1, max_size=3)),
)
SORT = st.lists(st.tuples(PATHS, st.sampled_from([1, -1])), max_size=2, unique_by=lambda p: p[0])
EXAMPLES = settings(max_examples=350, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def stores():
    made = []

    def make() -> Store:
        while made:
            made.pop().close()
        made.append(Store(Path(":memory:")))
        return made[-1]

    yield make
    while made:
        made.pop().close()


def filled(store, documents, indexes):
    collection = store.create("db", "c")
    for number, document in enumerate(documents):
        collection.insert({"_id": number, **document}, store.transaction)
    for spec in indexes:
        try:
            store.create_index(collection, {**spec, "key": dict(spec["key"])})
        except CommandError as error:
            assert error.code in (85, 86)  # noqa: PT017 - the same key drawn twice
    return collection


def same(a, b):
    """NaN equals itself here, and key order counts."""
    return encode(a) == encode(b)


@EXAMPLES
@given(
    documents=st.lists(DOCUMENT, max_size=12),
    indexes=st.lists(INDEX, max_size=4),
    query=FILTER,
    sort=SORT,
    skip=st.integers(0, 2),
    limit=st.integers(0, 4),
)
def test_planned_result_equals_full_scan(stores, documents, indexes, query, sort, skip, limit):
    collection = filled(stores(), documents, indexes)
    predicate = compile_filter(query)
    matches = [record.document for record in collection.records.values() if predicate(record.document)]
    found = [record.document for record in collection.find(query)]
    assert sorted(d["_id"] for d in found) == [d["_id"] for d in matches]
    assert collection.count(query) == len(matches)
    ordered = [record.document for record in collection.find(query, dict(sort), skip=skip, limit=limit)]
    keys = [tuple(_sort_key(d, sort)) for d in ordered]
    expected = sorted(tuple(_sort_key(d, sort)) for d in matches)
    window = expected[skip : skip + limit] if limit else expected[skip:]
    assert keys == window
    assert len({d["_id"] for d in ordered}) == len(ordered)


def _sort_key(document, sort):
    for path, direction in sort:
        key = sort_value(document, tuple(path.split(".")), direction)
        yield key if direction > 0 else bytes(255 - byte for byte in key)


@EXAMPLES
@given(
    documents=st.lists(DOCUMENT, max_size=12),
    indexes=st.lists(INDEX, min_size=1, max_size=4),
    query=SIMPLE,
    path=PATHS,
)
def test_counts_and_values_from_an_index_equal_those_of_the_documents(
    stores, documents, indexes, query, path
):
    collection = filled(stores(), documents, indexes)
    fast = group_prefix(list(collection.indexes.values()), query, path)
    if fast is None:
        return
    predicate = compile_filter(query)
    matches = [record.document for record in collection.records.values() if predicate(record.document)]
    pairs = list(from_index(collection, fast, path))
    assert sum(count for _, count in pairs) == len(matches)
    values = [value for value, _ in pairs if value is not None]
    expected = [
        value for value in unique(v for d in matches for v in path_values(d, path)) if value is not None
    ]
    assert {encode(value) for value in values} == {encode(value) for value in expected}


@EXAMPLES
@given(
    documents=st.lists(DOCUMENT, min_size=1, max_size=8),
    indexes=st.lists(INDEX, max_size=3),
    steps=st.lists(
        st.tuples(st.sampled_from(["insert", "replace", "delete"]), st.integers(0, 9), DOCUMENT), max_size=8
    ),
)
def test_undo_restores_documents_and_indexes(stores, documents, indexes, steps):
    store = stores()
    collection = filled(store, documents, indexes)
    store.commit()
    before = _state(collection)
    for number, (kind, which, document) in enumerate(steps):
        rows = list(collection.records)
        if kind == "insert":
            collection.insert({"_id": f"new{number}", **document}, store.transaction)
        elif rows:
            record = collection.records[rows[which % len(rows)]]
            if kind == "delete":
                collection.delete(record, store.transaction)
            else:
                collection.replace(record, {"_id": record.document["_id"], **document}, store.transaction)
    changed = _state(collection)
    fresh = {name: _keys(index, collection) for name, index in collection.indexes.items()}
    assert {name: keys for name, (keys, _) in changed[1].items()} == fresh
    store.transaction.rollback()
    assert _state(collection) == before


def _keys(index, collection):
    return [
        prefix + row.to_bytes(8)
        for prefix, row in sorted(
            (prefix, row)
            for row, record in collection.records.items()
            for prefix in index.prefixes(record.document)[0]
        )
    ]


def _state(collection):
    indexes = {
        name: (list(index.keys.scan(b"", b"\xff")), index.multikey)
        for name, index in collection.indexes.items()
    }
    return [(row, record.raw) for row, record in collection.records.items()], indexes, collection.bytes


def test_a_selective_index_is_used_and_backwards_when_sorted_so(stores):
    store = stores()
    collection = filled(store, [{"a": i % 3, "b": i} for i in range(60)], [{"key": [("a", 1), ("b", 1)]}])
    plan = collection.plan({"a": 1}, {"b": -1}, limited=True)
    assert (plan.scans[0][0].name, plan.ordered, plan.down, plan.exact, plan.keys) == (
        "a_1_b_1",
        True,
        True,
        True,
        20,
    )
    assert [r.document["b"] for r in collection.find({"a": 1}, {"b": -1}, limit=2)] == [58, 55]
    assert collection.plan({"b": 5}) is None


def test_equal_values_come_in_the_order_of_insertion(stores):
    collection = filled(stores(), [{"a": 1, "b": i} for i in range(5)], [{"key": [("a", 1)]}])
    assert [r.document["b"] for r in collection.find({"a": 1}, {"a": 1})] == [0, 1, 2, 3, 4]


def test_a_place_in_an_array_is_not_grouped_by_its_index(stores):
    """The key of a.0 is the array's first element; the value of a.0 where documents are grouped is not."""
    collection = filled(stores(), [{"a": [0, None, False]}, {"a": None}], [{"key": [("a.0", 1)]}])
    assert group_prefix(list(collection.indexes.values()), {}, "a.0") is None


@EXAMPLES
@given(
    versions=st.lists(st.tuples(DOCUMENT, DOCUMENT), max_size=6),
    indexes=st.lists(INDEX, min_size=1, max_size=4),
    kept=st.sets(st.sampled_from(["a", "b", "n"])),
)
def test_indexes_after_updates_are_those_of_the_new_versions(stores, versions, indexes, kept):
    """An update leaves indexes alone whose fields it does not change; what it changes it must not miss."""
    store = stores()
    collection = filled(store, [old for old, _ in versions], indexes)
    for record, (old, new) in zip(list(collection.records.values()), versions, strict=True):
        changed = {**new, **{name: old[name] for name in kept if name in old}, "_id": record.document["_id"]}
        collection.replace(record, changed, store.transaction)
    for index in collection.indexes.values():
        fresh = Index(index.spec)
        build([fresh], ((row, record.document) for row, record in collection.records.items()))
        assert list(index.keys.scan(b"", HIGHEST)) == list(fresh.keys.scan(b"", HIGHEST))
        assert index.multikey == fresh.multikey


def test_an_update_from_true_to_one_changes_the_index(stores):
    """Python's true equals its one; MongoDB's does not."""
    store = stores()
    collection = filled(
        store, [{"a": True, "n": {"c": [True]}}], [{"key": [("a", 1)]}, {"key": [("n.c", 1)]}]
    )
    collection.replace(collection.find({})[0], {"_id": 0, "a": 1, "n": {"c": [1]}}, store.transaction)
    assert collection.count({"a": 1}) == 1
    assert collection.count({"a": True}) == 0
    assert len(collection.find({"n.c": 1})) == 1
    assert collection.find({"n.c": True}) == []


def test_a_bounded_number_of_documents_is_kept_decoded(monkeypatch):
    """A million structures that were looked at once do not stay in memory at ten times their size."""
    from collections import deque

    from launchpad.embedded import collection as module

    monkeypatch.setattr(module, "_MOST_DECODED", 3)
    monkeypatch.setattr(module.Record, "_kept", deque())
    records = [module.Record(row, module.encode_document({"_id": row})) for row in range(10)]
    for _ in range(2):
        assert [record.document["_id"] for record in records] == list(range(10))
    assert [record.row for record in records if record._document is not None] == [7, 8, 9]
    assert records[0].glance() == {"_id": 0}
    assert records[0]._document is None
