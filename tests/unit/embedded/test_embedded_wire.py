"""Framing: whole messages, split messages, malformed messages."""

import struct

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launchpad.embedded.errors import CommandError
from launchpad.embedded.wire import MAX_MESSAGE, encode_reply, parse, split


def message(*sections, flags=0, opcode=2013, tail=b""):
    payload = struct.pack("<I", flags) + b"".join(sections) + tail
    return struct.pack("<iiii", 16 + len(payload), 7, 0, opcode) + payload


def body(command):
    return b"\0" + bson.encode(command)


def sequence(name, documents):
    data = name.encode() + b"\0" + b"".join(bson.encode(document) for document in documents)
    return b"\1" + struct.pack("<i", 4 + len(data)) + data


def test_body_and_document_sequence():
    request = parse(
        message(body({"insert": "c", "$db": "d"}), sequence("documents", [{"_id": 1}, {"_id": 2}]))
    )
    assert (request.name, request.request_id, request.wants_reply) == ("insert", 7, True)
    assert [bson.decode(raw) for raw in request.raw_sections["documents"]] == [{"_id": 1}, {"_id": 2}]


def test_flags():
    assert not parse(message(body({"ping": 1}), flags=2)).wants_reply
    assert parse(message(body({"ping": 1}), flags=1, tail=b"\0\0\0\0")).name == "ping"
    with pytest.raises(CommandError, match="flags"):
        parse(message(body({"ping": 1}), flags=4))


def test_the_greeting_of_older_drivers():
    payload = (
        struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"isMaster": 1})
    )
    request = parse(struct.pack("<iiii", 16 + len(payload), 3, 0, 2004) + payload)
    assert (request.name, request.command["$db"]) == ("isMaster", "admin")
    reply = encode_reply({"ok": 1.0}, request, 9)
    length, number, to, opcode = struct.unpack_from("<iiii", reply)
    assert (length, number, to, opcode) == (len(reply), 9, 3, 1)
    assert bson.decode(reply[36:]) == {"ok": 1.0}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30))
def test_messages_survive_any_fragmentation(cuts):
    messages = [message(body({"ping": i, "pad": "x" * i})) for i in range(5)]
    stream, buffer, found = b"".join(messages), bytearray(), []
    while stream:
        size = cuts.pop() if cuts else len(stream)
        buffer += stream[:size]
        stream = stream[size:]
        while (whole := split(buffer)) is not None:
            found.append(whole)
    assert found == messages


@pytest.mark.parametrize(
    "raw",
    [
        message(b""),
        message(b"\0" + struct.pack("<i", 1000)),
        message(b"\5" + bson.encode({"a": 1})),
        message(body({"a": 1}), opcode=2012),
        message(b"\0" + b"\x08\0\0\0\x55\x55\x55\0"),
        message(sequence("documents", [{"a": 1}])),
        message(b"\1" + struct.pack("<i", 20) + b"documents\0" + b"\xff" * 6),
        struct.pack("<iiii", 16, 1, 0, 2013),
    ],
)
def test_malformed_messages_are_refused(raw):
    with pytest.raises(CommandError):
        parse(raw)


@pytest.mark.parametrize("length", [0, 15, -1, MAX_MESSAGE + 1, struct.unpack("<i", b"GET ")[0]])
def test_lengths_that_are_no_message_are_refused(length):
    with pytest.raises(CommandError):
        split(bytearray(struct.pack("<i", length) + bytes(20)))
