"""Batches: one commit, undone as a whole when it fails, then run one by one."""

from pathlib import Path

import bson
import pytest
from bson import Binary, Int64

from launchpad.embedded.commands.registry import Peer, ServerInfo
from launchpad.embedded.errors import StorageFullError
from launchpad.embedded.executor import Executor
from launchpad.embedded.store import Store
from launchpad.embedded.wire import Request

PEER = Peer("test", 1, trusted=True)


def request(**command):
    return PEER, Request(1, 2013, True, {**command, "$db": "db"}, {})


@pytest.fixture
def server(tmp_path):
    store = Store(tmp_path / "db.sqlite")
    executor = Executor(store, ServerInfo(0.0, "", lambda: 1))
    yield executor
    store.close()


def run(server, *requests):
    return [bson.decode(reply) for reply in server.execute(list(requests))]


def insert(number, size=0, **more):
    return request(insert="c", documents=[{"_id": number, "pad": "x" * size}], **more)


def break_commits(server, monkeypatch, *, most):
    """Let the journal refuse transactions with more than `most` bytes, as a full disk would."""
    commit = server.store.journal.commit

    def limited(statements):
        if sum(len(p) for _, ps in statements for p in ps if isinstance(p, bytes)) > most:
            raise StorageFullError("database or disk is full")
        commit(statements)

    monkeypatch.setattr(server.store.journal, "commit", limited)


def test_a_batch_is_one_transaction(server, monkeypatch):
    commits = []
    commit = server.store.journal.commit
    monkeypatch.setattr(server.store.journal, "commit", lambda s: (commits.append(len(s)), commit(s)))
    run(server, insert(1), insert(2), insert(3), request(find="c"))
    assert len(commits) == 1
    run(server, request(find="c"), request(ping=1))
    assert len(commits) == 1


def test_after_a_failed_commit_memory_is_what_the_disk_is(server, monkeypatch):
    run(server, insert(0), request(createIndexes="c", indexes=[{"key": {"pad": 1}, "name": "pad_1"}]))
    break_commits(server, monkeypatch, most=2000)
    session = {"lsid": {"id": Binary(b"s" * 16, 4)}, "txnNumber": Int64(1)}
    replies = run(
        server,
        insert(1),
        insert(2, size=5000, **session),
        request(find="c"),
        request(delete="c", deletes=[{"q": {"_id": 0}, "limit": 1}]),
        request(update="big", updates=[{"q": {"_id": 1}, "u": {"pad": "z" * 5000}, "upsert": True}]),
        request(drop="c2"),
    )
    assert replies[0] == {"n": 1, "ok": 1.0}
    assert (replies[1]["ok"], replies[1]["code"]) == (0.0, 14031)
    assert [d["_id"] for d in replies[2]["cursor"]["firstBatch"]] == [0, 1]
    assert replies[3]["n"] == 1
    assert replies[4]["code"] == 14031
    assert server.store.get("db", "big") is None
    assert server.store.replies.known(b"trusted\0" + b"s" * 16, 1) is None
    state = {r.document["_id"] for r in server.store.get("db", "c").records.values()}
    assert state == {1}
    other = Store(server.store.journal.path)
    assert [r.raw for r in other.get("db", "c").records.values()] == [
        r.raw for r in server.store.get("db", "c").records.values()
    ]
    assert list(other.get("db", "c").indexes) == ["_id_", "pad_1"]
    other.close()


def test_failed_catalog_changes_are_undone(server, monkeypatch):
    run(
        server, insert(1, size=10), request(createIndexes="c", indexes=[{"key": {"pad": 1}, "name": "pad_1"}])
    )

    def refuse(statements):
        raise StorageFullError("full")

    before = server.store.get("db", "c")
    keys = list(before.indexes["pad_1"].keys.scan(b"", b"\xff"))
    monkeypatch.setattr(server.store.journal, "commit", refuse)
    commands = [
        request(drop="c"),
        request(renameCollection="db.c", to="db.d"),
        request(dropIndexes="c", index="pad_1"),
        request(createIndexes="c", indexes=[{"key": {"z": 1}, "name": "z_1"}]),
        request(dropDatabase=1),
        request(create="new"),
    ]
    for reply in run(server, *commands):
        assert reply["code"] == 14031
    assert server.store.get("db", "c") is before
    assert list(before.indexes) == ["_id_", "pad_1"]
    assert list(before.indexes["pad_1"].keys.scan(b"", b"\xff")) == keys
    assert list(server.store.databases["db"]) == ["c"]


def test_a_command_that_fails_half_way_leaves_nothing(server, monkeypatch):
    run(server, insert(1), insert(2))
    collection = server.store.get("db", "c")
    real = collection.replace

    def faulty(record, document, transaction):
        if record.document["_id"] == 2:
            raise RuntimeError("bug")
        return real(record, document, transaction)

    monkeypatch.setattr(collection, "replace", faulty)
    (reply,) = run(server, request(update="c", updates=[{"q": {}, "u": {"$set": {"a": 1}}, "multi": True}]))
    assert reply["code"] == 8
    assert all("a" not in r.document for r in collection.records.values())


def test_ordered_writes_stop_and_statements_fail_alone(server):
    update = {"q": {"_id": 1}, "u": {"$set": {"a": 1}}}
    wrong = {"q": {"_id": 1}, "u": {"$inc": {"pad": 1}}}
    run(server, insert(1))
    (reply,) = run(server, request(update="c", updates=[update, wrong, update]))
    assert (reply["n"], [e["index"] for e in reply["writeErrors"]]) == (1, [1])
    (reply,) = run(server, request(update="c", updates=[update, wrong, update], ordered=False))
    assert (reply["n"], [e["index"] for e in reply["writeErrors"]]) == (2, [1])


def test_everything_is_there_after_reopening(server):
    run(server, *(insert(i) for i in range(5)))
    run(server, request(update="c", updates=[{"q": {"_id": 3}, "u": {"$set": {"a": [1, 2]}}}]))
    run(server, request(delete="c", deletes=[{"q": {"_id": 1}, "limit": 1}]))
    run(server, request(createIndexes="c", indexes=[{"key": {"a": 1}, "name": "a_1"}]))
    run(server, request(renameCollection="db.c", to="db2.moved"))
    other = Store(Path(server.store.journal.path))
    moved = other.get("db2", "moved")
    assert [r.document["_id"] for r in moved.records.values()] == [0, 2, 3, 4]
    assert moved.find({"a": 2})[0].document == {"_id": 3, "pad": "", "a": [1, 2]}
    assert moved.indexes["a_1"].multikey
    assert other.totals() == server.store.totals()
    other.close()


def test_old_sessions_are_forgotten(server, monkeypatch):
    import launchpad.embedded.sessions as module

    monkeypatch.setattr(module, "_MOST_SESSIONS", 3)
    for i in range(6):
        session = {"lsid": {"id": Binary(bytes([i]) * 16, 4)}, "txnNumber": Int64(1)}
        run(server, insert(i, **session))
    assert len(server.store.replies) == 3
    assert len(server.store.journal.replies()) == 3


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"find": "c", "filter": [1]}, 14),
        ({"find": "c", "collation": {"locale": "de"}}, 238),
        ({"find": 5}, 73),
        ({"insert": "system.users", "documents": [{}]}, 13),
        ({"insert": "a$b", "documents": [{}]}, 73),
        ({"aggregate": "c", "pipeline": [{"$out": "x"}]}, 238),
        ({"aggregate": 1, "pipeline": []}, 238),
        ({"create": "x", "capped": True, "size": 5}, 238),
        ({"createIndexes": "c", "indexes": [{"key": {"a": "text"}}]}, 67),
        ({"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "t", "expireAfterSeconds": 5}]}, 67),
        ({"update": "c", "updates": [{"q": {}, "u": {"$set": {"a.$": 1}}}]}, None),
        ({"insert": "c", "documents": [{}], "autocommit": False, "startTransaction": True}, 20),
        ({"findAndModify": "c"}, 9),
        ({"unheardOf": 1}, 59),
    ],
)
def test_what_is_not_supported_is_refused_by_name(server, command, code):
    (reply,) = run(server, request(**command))
    if code is None:
        assert reply["writeErrors"][0]["code"] == 238
    else:
        assert (reply["ok"], reply["code"]) == (0.0, code)
