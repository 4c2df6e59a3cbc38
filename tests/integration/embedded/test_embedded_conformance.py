"""What drivers may expect of any MongoDB; GAPFACTORY_TEST_URI runs the same tests on a real one."""
# ruff: noqa: DTZ001 - BSON dates are naive UTC

import datetime as dt
import os

import bson
import gridfs
import pymongo
import pytest
from pymongo import DeleteOne, InsertOne, ReturnDocument, UpdateOne
from pymongo.errors import (
    BulkWriteError,
    CollectionInvalid,
    DuplicateKeyError,
    OperationFailure,
    WriteError,
)

pytestmark = pytest.mark.database


def test_inserts_and_finds_every_bson_type(db):
    document = {
        "_id": bson.ObjectId(),
        "int": 1,
        "long": bson.Int64(2),
        "big": 2**60,
        "double": 1.5,
        "text": "ä\u0000b",
        "null": None,
        "yes": True,
        "date": dt.datetime(2026, 1, 2, 3, 4, 5, 678000),
        "list": [1, [2, {"a": 3}]],
        "bytes": b"\x00\xff",
        "nested": {"z": 1, "a": 2},
        "regex": bson.Regex("^a", "i"),
        "decimal": bson.Decimal128("1.10"),
        "stamp": bson.Timestamp(5, 6),
        "min": bson.MinKey(),
        "max": bson.MaxKey(),
    }
    db.c.insert_one(document)
    found = db.c.find_one({"_id": document["_id"]})
    assert found == document
    assert list(found["nested"]) == ["z", "a"]
    assert isinstance(found["long"], bson.Int64)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"n": 3}, [3]),
        ({"n": {"$gt": 7}}, [8, 9]),
        ({"n": {"$gte": 2, "$lt": 4}}, [2, 3]),
        ({"n": {"$in": [1, 5, "x"]}}, [1, 5]),
        ({"n": {"$nin": list(range(1, 10))}}, [0]),
        ({"n": {"$ne": 0}, "parity": 0}, [2, 4, 6, 8]),
        ({"$or": [{"n": 1}, {"n": 2}]}, [1, 2]),
        ({"$and": [{"n": {"$gt": 1}}, {"n": {"$lt": 3}}]}, [2]),
        ({"$nor": [{"parity": 0}, {"n": {"$gt": 1}}]}, [1]),
        ({"missing": None}, list(range(10))),
        ({"third": None}, [1, 2, 4, 5, 7, 8]),
        ({"third": {"$exists": True}}, [0, 3, 6, 9]),
        ({"tags": "t2"}, [2, 3]),
        ({"tags": {"$all": ["t2", "t3"]}}, [3]),
        ({"tags": {"$size": 1}}, [0]),
        ({"tags": ["t1", "t2"]}, [2]),
        ({"sub.k": 4}, [4]),
        ({"sub": {"k": 4}}, [4]),
        ({"rows": {"$elemMatch": {"a": 1, "b": {"$gt": 5}}}}, [6, 7, 8, 9]),
        ({"rows.a": 2}, list(range(10))),
        ({"rows.1.a": 2}, list(range(10))),
        ({"name": {"$regex": "^N[12]$", "$options": "i"}}, [1, 2]),
        ({"name": bson.Regex("n3")}, [3]),
        ({"name": {"$not": {"$regex": "n[0-8]"}}}, [9]),
        ({"n": {"$mod": [4, 1]}}, [1, 5, 9]),
        ({"n": {"$type": "int"}, "name": {"$type": "string"}}, list(range(10))),
        ({"n": True}, []),
        ({"n": "3"}, []),
        ({"n": {"$gt": "a"}}, []),
        ({"$expr": {"$gt": ["$n", {"$multiply": ["$parity", 8]}]}}, [2, 4, 6, 8, 9]),
    ],
)
@pytest.mark.parametrize("indexed", [False, True])
def test_filters(db, query, expected, indexed):
    if indexed:
        for path in ("n", "parity", "third", "tags", "sub.k", "sub", "rows.a", "name"):
            db.c.create_index(path)
    db.c.insert_many(
        {
            "_id": n,
            "n": n,
            "parity": n % 2,
            "tags": [f"t{n - 1}", f"t{n}"] if n else ["t0"],
            "sub": {"k": n},
            "rows": [{"a": 1, "b": n}, {"a": 2, "b": 0}],
            "name": f"n{n}",
            **({"third": n} if n % 3 == 0 else {}),
        }
        for n in range(10)
    )
    assert sorted(d["_id"] for d in db.c.find(query)) == expected
    assert db.c.count_documents(query) == len(expected)


def test_unknown_operators_are_refused(db):
    db.c.insert_one({"a": 1})
    with pytest.raises(OperationFailure):
        db.c.find_one({"a": {"$nonsense": 1}})
    with pytest.raises(OperationFailure):
        db.c.find_one({"$nonsense": 1})
    with pytest.raises(OperationFailure):
        db.c.update_one({}, {"$nonsense": {"a": 1}})
    with pytest.raises(OperationFailure):
        list(db.c.aggregate([{"$nonsense": {}}]))
    with pytest.raises(OperationFailure) as error:
        db.command("nonsense")
    assert error.value.code == 59


def test_sort_skip_limit_and_types_in_order(db):
    values = [3, None, "b", 1.5, True, [2, 9], {"x": 1}, dt.datetime(2026, 1, 1), b"z"]
    db.c.insert_many({"_id": i, "v": value} for i, value in enumerate(values))
    ascending = [d["_id"] for d in db.c.find().sort("v", 1)]
    assert ascending == [1, 3, 5, 0, 2, 6, 8, 4, 7]
    descending = [d["_id"] for d in db.c.find().sort("v", -1)]
    assert descending == [7, 4, 8, 6, 2, 5, 0, 3, 1]
    assert [d["_id"] for d in db.c.find().sort("v", 1).skip(2).limit(3)] == [5, 0, 2]
    db.c.create_index([("v", pymongo.DESCENDING)])
    assert [d["_id"] for d in db.c.find().sort("v", -1)] == descending


def test_projections(db):
    db.c.insert_one({"_id": 1, "a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 2}, {"x": 3}], "z": 0})
    cases = [
        ({"a.b": 1}, {"_id": 1, "a": {"b": 1}}),
        ({"a.b": 1, "_id": 0}, {"a": {"b": 1}}),
        ({"a": 0, "l": 0}, {"_id": 1, "z": 0}),
        ({"l.x": 1, "_id": 0}, {"l": [{"x": 1}, {"x": 3}]}),
        ({"l.y": 0, "a": 0}, {"_id": 1, "l": [{"x": 1}, {"x": 3}], "z": 0}),
        ({"_id": 1}, {"_id": 1}),
        ({"l": {"$slice": 1}, "a": 0}, {"_id": 1, "l": [{"x": 1, "y": 2}], "z": 0}),
        ({"l": {"$elemMatch": {"x": 3}}}, {"_id": 1, "l": [{"x": 3}]}),
        ({"s": {"$add": ["$a.b", "$a.c"]}, "_id": 0}, {"s": 3}),
    ]
    for projection, expected in cases:
        assert db.c.find_one({}, projection) == expected, projection


def test_large_results_come_in_batches_and_are_a_snapshot(db):
    db.c.insert_many({"_id": i, "pad": "x" * 100} for i in range(1000))
    cursor = db.c.find().batch_size(50)
    first = next(cursor)
    db.c.delete_many({})
    rest = [d["_id"] for d in cursor]
    assert first["_id"] == 0
    assert len(rest) in range(49, 1000)
    db.c.insert_many({"_id": i, "pad": "x" * 1_000_000} for i in range(40))
    assert sum(1 for _ in db.c.find()) == 40


def test_a_closed_cursor_is_gone(db):
    db.c.insert_many({"_id": i} for i in range(300))
    cursor = db.c.find().batch_size(10)
    next(cursor)
    number = cursor.cursor_id
    cursor.close()
    with pytest.raises(OperationFailure) as error:
        db.command("getMore", number, collection="c")
    assert error.value.code == 43


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ({"$set": {"a.b": 5, "new.deep": 1}}, {"a": {"b": 5, "c": [1, 2]}, "n": 1, "new": {"deep": 1}}),
        ({"$set": {"a.c.1": 9}}, {"a": {"b": 1, "c": [1, 9]}, "n": 1}),
        ({"$set": {"a.c.3": 9}}, {"a": {"b": 1, "c": [1, 2, None, 9]}, "n": 1}),
        ({"$unset": {"a.b": "", "gone": ""}}, {"a": {"c": [1, 2]}, "n": 1}),
        ({"$inc": {"n": 2, "m": -1}}, {"a": {"b": 1, "c": [1, 2]}, "n": 3, "m": -1}),
        ({"$mul": {"n": 4, "m": 2}}, {"a": {"b": 1, "c": [1, 2]}, "n": 4, "m": 0}),
        ({"$min": {"n": 0}, "$max": {"a.b": 7}}, {"a": {"b": 7, "c": [1, 2]}, "n": 0}),
        ({"$push": {"a.c": 3, "q": 1}}, {"a": {"b": 1, "c": [1, 2, 3]}, "n": 1, "q": [1]}),
        (
            {"$push": {"a.c": {"$each": [9, 0], "$sort": 1, "$slice": 3}}},
            {"a": {"b": 1, "c": [0, 1, 2]}, "n": 1},
        ),
        ({"$addToSet": {"a.c": {"$each": [2, 4, 4]}}}, {"a": {"b": 1, "c": [1, 2, 4]}, "n": 1}),
        ({"$pull": {"a.c": {"$gte": 2}}}, {"a": {"b": 1, "c": [1]}, "n": 1}),
        ({"$pullAll": {"a.c": [1, 2]}}, {"a": {"b": 1, "c": []}, "n": 1}),
        ({"$pop": {"a.c": -1}}, {"a": {"b": 1, "c": [2]}, "n": 1}),
        ({"$rename": {"n": "a.n"}}, {"a": {"b": 1, "c": [1, 2], "n": 1}}),
        ([{"$set": {"n": {"$add": ["$n", "$a.b"]}}}, {"$unset": "a"}], {"n": 2}),
    ],
)
def test_update_operators(db, update, expected):
    db.c.insert_one({"_id": 1, "a": {"b": 1, "c": [1, 2]}, "n": 1})
    result = db.c.update_one({"_id": 1}, update)
    assert (result.matched_count, result.modified_count) == (1, 1)
    assert db.c.find_one() == {"_id": 1, **expected}


@pytest.mark.parametrize(
    ("update", "code"),
    [
        ({"$set": {"_id": 2}}, 66),
        ({"$inc": {"s": 1}}, 14),
        ({"$push": {"s": 1}}, 2),
        ({"$set": {"s.deep": 1}}, 28),
        ({"$set": {"x": 1, "x.y": 2}}, 40),
        ({"$set": {"x": 1}, "$unset": {"x": 1}}, 40),
    ],
)
def test_refused_updates_change_nothing(db, update, code):
    db.c.insert_one({"_id": 1, "s": "text"})
    with pytest.raises(WriteError) as error:
        db.c.update_one({}, update)
    assert error.value.code == code
    assert list(db.c.find()) == [{"_id": 1, "s": "text"}]


def test_replace_upsert_and_results(db):
    assert db.c.replace_one({"k": 1}, {"v": 1}, upsert=True).upserted_id is not None
    result = db.c.update_one(
        {"k": 7, "z": {"$gt": 1}}, {"$set": {"v": 2}, "$setOnInsert": {"w": 3}}, upsert=True
    )
    assert db.c.find_one({"_id": result.upserted_id}) == {"_id": result.upserted_id, "k": 7, "v": 2, "w": 3}
    again = db.c.update_one({"k": 7}, {"$set": {"v": 2}, "$setOnInsert": {"w": 9}}, upsert=True)
    assert (again.matched_count, again.modified_count, again.upserted_id) == (1, 0, None)
    assert db.c.update_many({}, {"$set": {"all": 1}}).modified_count == 2
    assert db.c.delete_one({"all": 1}).deleted_count == 1
    assert db.c.delete_many({}).deleted_count == 1


def test_find_and_modify(db):
    db.c.insert_many({"_id": i, "state": "READY", "p": i % 2} for i in range(4))
    taken = db.c.find_one_and_update(
        {"state": "READY"}, {"$set": {"state": "TAKEN"}}, sort=[("p", -1), ("_id", -1)], projection={"p": 1}
    )
    assert taken == {"_id": 3, "p": 1}
    after = db.c.find_one_and_update({"_id": 0}, {"$inc": {"n": 1}}, return_document=ReturnDocument.AFTER)
    assert after["n"] == 1
    assert db.c.find_one_and_update({"_id": 99}, {"$inc": {"n": 1}}) is None
    fresh = db.c.find_one_and_replace(
        {"_id": 99}, {"q": 1}, upsert=True, return_document=ReturnDocument.AFTER
    )
    assert fresh == {"_id": 99, "q": 1}
    assert db.c.find_one_and_delete({"_id": 99}) == {"_id": 99, "q": 1}
    assert db.c.count_documents({}) == 4


def test_bulk_writes_ordered_and_not(db):
    operations = [InsertOne({"_id": 1}), InsertOne({"_id": 1}), InsertOne({"_id": 2})]
    with pytest.raises(BulkWriteError) as error:
        db.c.bulk_write(operations)
    assert error.value.details["writeErrors"][0]["code"] == 11000
    assert db.c.count_documents({}) == 1
    with pytest.raises(BulkWriteError):
        db.c.bulk_write(operations, ordered=False)
    assert db.c.count_documents({}) == 2
    result = db.c.bulk_write([UpdateOne({"_id": 5}, {"$set": {"a": 1}}, upsert=True), DeleteOne({"_id": 1})])
    assert (result.upserted_ids, result.deleted_count) == ({0: 5}, 1)


def test_unique_indexes_are_enforced(db):
    db.c.create_index("k", unique=True)
    db.c.insert_many([{"_id": 1, "k": 1}, {"_id": 2, "k": 2}])
    with pytest.raises(DuplicateKeyError) as error:
        db.c.insert_one({"k": 1.0})
    assert error.value.details["keyPattern"] == {"k": 1}
    with pytest.raises(DuplicateKeyError):
        db.c.update_one({"_id": 2}, {"$set": {"k": 1}})
    with pytest.raises(DuplicateKeyError):
        db.c.replace_one({"_id": 1}, {"k": 2})
    with pytest.raises(DuplicateKeyError):
        db.c.insert_one({"_id": 1, "k": 9})
    assert {d["_id"]: d["k"] for d in db.c.find()} == {1: 1, 2: 2}
    db.d.insert_many([{"a": 1}, {"a": 1}])
    with pytest.raises(OperationFailure):
        db.d.create_index("a", unique=True)
    assert list(db.d.index_information()) == ["_id_"]


def test_sparse_and_partial_unique_indexes(db):
    db.c.create_index("k", unique=True, sparse=True)
    db.c.insert_many([{"_id": 1}, {"_id": 2}, {"_id": 3, "k": 1}])
    assert sorted(d["_id"] for d in db.c.find({"k": None})) == [1, 2]
    db.p.create_index("k", unique=True, partialFilterExpression={"active": True})
    db.p.insert_many([{"k": 1}, {"k": 1}, {"k": 1, "active": True}])
    with pytest.raises(DuplicateKeyError):
        db.p.insert_one({"k": 1, "active": True})


def test_index_administration(db):
    name = db.c.create_index([("a", 1), ("b", -1)], name="mine")
    assert name == "mine"
    assert db.c.create_index([("a", 1), ("b", -1)], name="mine") == "mine"
    assert db.c.index_information()["mine"]["key"] == [("a", 1), ("b", -1)]
    with pytest.raises(OperationFailure):
        db.c.create_index("z", name="mine")
    db.c.drop_index("mine")
    with pytest.raises(OperationFailure) as error:
        db.c.drop_index("mine")
    assert error.value.code == 27
    db.c.create_index("x")
    db.c.drop_indexes()
    assert list(db.c.index_information()) == ["_id_"]


def test_collections_and_databases(db, conformance_client):
    db.create_collection("made")
    with pytest.raises(CollectionInvalid):
        db.create_collection("made")
    db.old.insert_one({"_id": 1})
    db.old.create_index("a")
    db.old.rename("new")
    assert sorted(db.list_collection_names()) == ["made", "new"]
    assert "a_1" in db.new.index_information()
    assert db.name in conformance_client.list_database_names()
    with pytest.raises(OperationFailure) as error:
        db.missing.rename("other")
    assert error.value.code == 26
    with pytest.raises(OperationFailure) as error:
        db.new.rename("made")
    assert error.value.code == 48
    db.new.rename("made", dropTarget=True)
    assert db.made.find_one() == {"_id": 1}
    db.made.drop()
    db.never_there.drop()
    assert db.list_collection_names() == []


def test_aggregation(db):
    db.c.insert_many({"_id": i, "g": "ab"[i % 2], "v": i, "l": [i, i + 1]} for i in range(6))
    db.d.insert_many([{"key": "a", "text": "first"}, {"key": "b", "text": "second"}])

    def run(*stages):
        return list(db.c.aggregate(list(stages)))

    totals = {
        "_id": "$g",
        "n": {"$sum": 1},
        "s": {"$sum": "$v"},
        "avg": {"$avg": "$v"},
        "lo": {"$min": "$v"},
        "hi": {"$max": "$v"},
        "first": {"$first": "$v"},
        "all": {"$push": "$v"},
    }
    assert run({"$group": totals}, {"$sort": {"_id": 1}})[1] == {
        "_id": "b",
        "n": 3,
        "s": 9,
        "avg": 3.0,
        "lo": 1,
        "hi": 5,
        "first": 1,
        "all": [1, 3, 5],
    }
    assert run({"$match": {"g": "a"}}, {"$count": "n"}) == [{"n": 3}]
    assert run({"$match": {"g": "none"}}, {"$count": "n"}) == []
    assert run({"$unwind": "$l"}, {"$group": {"_id": None, "s": {"$sum": "$l"}}}) == [{"_id": None, "s": 36}]
    joined = run(
        {"$match": {"_id": 1}},
        {"$lookup": {"from": "d", "localField": "g", "foreignField": "key", "as": "d"}},
        {"$unwind": "$d"},
        {"$replaceRoot": {"newRoot": "$d"}},
        {"$project": {"_id": 0, "short": {"$substr": ["$text", 0, 3]}}},
    )
    assert joined == [{"short": "sec"}]
    assert run({"$sort": {"v": -1}}, {"$skip": 1}, {"$limit": 1}, {"$project": {"v": 1, "_id": 0}}) == [
        {"v": 4}
    ]
    assert run({"$sortByCount": "$g"}, {"$limit": 1})[0]["count"] == 3
    facets = run({"$facet": {"n": [{"$count": "n"}], "top": [{"$sort": {"v": -1}}, {"$limit": 1}]}})
    assert (facets[0]["n"], facets[0]["top"][0]["v"]) == ([{"n": 6}], 5)


def test_expressions(db):
    db.c.insert_one(
        {"_id": 1, "a": 7, "s": "2026-01-02T03:04:05.678", "l": [3, 1, 2], "o": {"k": 1}, "n": None}
    )
    cases = [
        ({"$add": ["$a", 1, 0.5]}, 8.5),
        ({"$subtract": ["$a", 10]}, -3),
        ({"$divide": ["$a", 2]}, 3.5),
        ({"$mod": [-7, 3]}, -1),
        ({"$cond": [{"$gt": ["$a", 5]}, "big", "small"]}, "big"),
        ({"$ifNull": ["$n", "$missing", "else"]}, "else"),
        ({"$concat": ["x", {"$toString": "$a"}]}, "x7"),
        ({"$dateFromString": {"dateString": "$s"}}, dt.datetime(2026, 1, 2, 3, 4, 5, 678000)),
        ({"$dateFromString": {"dateString": "rubbish", "onError": None}}, None),
        ({"$dateToString": {"date": {"$toDate": 0}, "format": "%Y-%m"}}, "1970-01"),
        ({"$size": "$l"}, 3),
        ({"$arrayElemAt": ["$l", -1]}, 2),
        ({"$max": "$l"}, 3),
        ({"$filter": {"input": "$l", "as": "x", "cond": {"$gt": ["$$x", 1]}}}, [3, 2]),
        ({"$map": {"input": "$l", "in": {"$multiply": ["$$this", 2]}}}, [6, 2, 4]),
        ({"$reduce": {"input": "$l", "initialValue": 0, "in": {"$add": ["$$value", "$$this"]}}}, 6),
        ({"$in": [1, "$l"]}, True),
        ({"$type": "$missing"}, "missing"),
        ({"$mergeObjects": ["$o", {"z": 2}]}, {"k": 1, "z": 2}),
        (
            {"$switch": {"branches": [{"case": {"$eq": ["$a", 7]}, "then": "seven"}], "default": "no"}},
            "seven",
        ),
        ({"$let": {"vars": {"q": 2}, "in": {"$multiply": ["$$q", "$a"]}}}, 14),
        ({"$literal": "$a"}, "$a"),
    ]
    for expression, expected in cases:
        assert next(iter(db.c.aggregate([{"$project": {"r": expression}}])))["r"] == expected, expression


def test_distinct_with_and_without_index(db):
    db.c.insert_many([{"a": 2, "l": [1, 2]}, {"a": 1, "l": [2, 3]}, {"a": 2.0}, {}])
    for _ in range(2):
        assert db.c.distinct("a") == [1, 2]
        assert db.c.distinct("l") == [1, 2, 3]
        assert db.c.distinct("a", {"a": {"$gt": 1}}) == [2]
        db.c.create_index("a")
        db.c.create_index("l")


def test_gridfs_round_trip(db):
    files = gridfs.GridFS(db)
    payload = os.urandom(3_000_000)
    number = files.put(payload, filename="potential.xml", metadata={"generation": 3})
    assert files.get(number).read() == payload
    assert files.find_one({"metadata.generation": 3}).filename == "potential.xml"
    with files.get(number) as stream:
        stream.seek(1_000_000)
        assert stream.read(10) == payload[1_000_000:1_000_010]
    assert files.list() == ["potential.xml"]
    files.delete(number)
    assert db.fs.chunks.count_documents({}) == 0


def test_counters_are_atomic_under_threads(db):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: db.c.update_one({"_id": 0}, {"$inc": {"n": 1}}, upsert=True), range(200)))
        taken = list(
            pool.map(
                lambda _: db.c.find_one_and_update({"_id": 0}, {"$inc": {"m": 1}}, return_document=True)["m"],
                range(200),
            )
        )
    assert db.c.find_one()["n"] == 200
    assert sorted(taken) == list(range(1, 201))


def test_writes_are_retryable_and_status_commands_answer(conformance_client, db):
    hello = conformance_client.admin.command("hello")
    assert hello["isWritablePrimary"]
    assert hello["setName"]
    assert hello["logicalSessionTimeoutMinutes"] > 1
    assert conformance_client.server_info()["version"] >= "4.4"
    assert conformance_client.admin.command("serverStatus")["ok"] == 1
    db.c.with_options(write_concern=pymongo.WriteConcern("majority", j=True)).insert_one({"a": 1})
    assert db.command("dbStats")["objects"] == 1
    assert db.command("collStats", "c")["count"] == 1
    assert db.command("connectionStatus")["ok"] == 1


def test_unacknowledged_writes_need_no_reply(db):
    quiet = db.c.with_options(write_concern=pymongo.WriteConcern(0))
    for i in range(20):
        quiet.insert_one({"_id": i})
    for _ in range(200):
        if db.c.count_documents({}) == 20:
            break
    assert db.c.count_documents({}) == 20


def test_oversized_documents_are_refused(db):
    with pytest.raises((pymongo.errors.DocumentTooLarge, WriteError)):
        db.c.insert_one({"x": b"x" * (16 * 1024 * 1024 + 100)})
    db.c.insert_one({"_id": 1, "x": "y" * 10_000_000})
    with pytest.raises(OperationFailure):
        db.c.update_one({}, [{"$set": {"z": {"$concat": ["$x", "$x"]}}}])
    assert db.c.count_documents({}) == 1
