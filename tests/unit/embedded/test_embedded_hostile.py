"""Commands with arguments of any kind: an answer or a refusal in words, never an internal error, and soon."""

import logging
import random
import struct
import time

import bson
import pytest
from bson import Decimal128, Int64
from gf_damage import bounded
from gf_wire import attack, command, nested, plausible, query

from launchpad.embedded.commands.registry import Peer, ServerInfo
from launchpad.embedded.errors import CommandError
from launchpad.embedded.executor import Executor
from launchpad.embedded.store import Store
from launchpad.embedded.wire import decode, parse, split

#: Code of an answer to a command that ended in an exception nobody foresaw.
INTERNAL = 8


@pytest.fixture
def ask(tmp_path):
    """Return a function that runs a command as a trusted peer and returns the reply."""
    store = Store(tmp_path / "journal.sqlite")
    executor = Executor(store, ServerInfo(time.time(), str(tmp_path), lambda: 1))
    peer = Peer("here", 1, trusted=True)
    yield lambda body: decode(executor.execute([(peer, parse(command(body)))])[0])
    store.close()


def test_commands_of_any_kind_are_answered_or_refused(ask, caplog):
    caplog.set_level(logging.CRITICAL)
    refused = 0
    for number in range(700):
        body = plausible(random.Random(f"hostile {number}"))
        with bounded(seconds=10):
            reply = ask(body)
        assert reply.get("code") != INTERNAL, (number, body, reply)
        refused += reply["ok"] == 0.0
    assert 100 < refused < 650


@pytest.mark.parametrize(
    ("body", "code"),
    [
        # so many bytes would have been made of it
        ({"insert": "c", "documents": [{}], "lsid": {"id": Int64(2**60)}, "txnNumber": Int64(1)}, 14),
        ({"insert": "c", "documents": [3]}, 14),
        ({"update": "c", "updates": [True]}, 14),
        ({"find": "c", "sort": 1.5}, 14),
        ({"find": "c", "limit": float("inf")}, 14),
        ({"find": "c", "limit": Decimal128("1E+6000")}, 14),
        ({"find": "c", "projection": True}, 14),
        ({"count": "c", "skip": -1}, 51024),
        ({"find": "c", "skip": -1}, 51024),
        ({"killCursors": "c", "cursors": [{}]}, 14),
        ({"distinct": "c", "key": "a", "query": {"$and": [[1]]}}, 14),
        ({"aggregate": "c", "pipeline": [{"$skip": -2}], "cursor": {}}, 15957),
        ({"aggregate": "c", "pipeline": [{"$limit": -1}], "cursor": {}}, 15957),
        ({"aggregate": "c", "pipeline": [{"$limit": 1.5}], "cursor": {}}, 15957),
        ({"aggregate": "c", "pipeline": [{"$unset": 2}], "cursor": {}}, 31002),
        ({"aggregate": "c", "pipeline": [{"$facet": {"a": 1}}], "cursor": {}}, 40170),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(ask, body, code):
    ask({"insert": "c", "documents": [{"a": k} for k in range(3)], "$db": "d"})
    ask({"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a"}], "$db": "d"})
    reply = ask(body | {"$db": "d"})
    assert (reply["ok"], reply.get("code")) == (0.0, code), reply


def test_hostile_messages_are_parsed_or_refused():
    """Nothing but a refusal may come out of a parser that serves everybody from one thread."""
    refused = 0
    for number in range(400):
        _, data = attack(number)
        buffer = bytearray(data)
        try:
            while (message := split(buffer)) is not None:
                parse(message)
        except CommandError:
            refused += 1
    assert 50 < refused < 350


@pytest.mark.parametrize("inner", [1, [1], "x", None, True])
def test_an_old_query_for_something_else_than_a_command(inner):
    """It ended the server, and needed no password."""
    with pytest.raises(CommandError, match="no command"):
        parse(query(bson.encode({"$query": inner})))


@pytest.mark.parametrize("depth", [200, 5000, 100_000])
def test_documents_in_documents_in_documents(ask, depth):
    raw = nested(depth)
    content = b"\x02find\0\x02\0\0\0c\0\x03filter\0" + raw + b"\x02$db\0\x02\0\0\0d\0\0"
    body = b"\0" + struct.pack("<i", 4 + len(content)) + content
    message = struct.pack("<iiiiI", 20 + len(body), 1, 0, 2013, 0) + body
    try:
        parsed = parse(message)
    except CommandError:
        return
    assert depth < 1000
    assert ask(parsed.command)["ok"] in (0.0, 1.0)
