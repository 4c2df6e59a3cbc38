"""Hostile peers of a server that speaks the MongoDB wire protocol: what they send, drawn by number, and a plain client.

The number of a case alone decides what is sent, so that a finding can be repeated.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit

import bson

if TYPE_CHECKING:
    from collections.abc import Callable

OP_QUERY, OP_COMPRESSED, OP_MSG = 2004, 2012, 2013
#: Database that hostile commands may name; another one holds what must survive them.
PLAYGROUND = "playground"
#: Commands that end what is to be tested.
_NOT_SENT = {"shutdown"}
_COMMANDS = (
    *(
        "find",
        "getMore",
        "killCursors",
        "count",
        "distinct",
        "aggregate",
        "explain",
        "insert",
        "update",
        "delete",
    ),
    *(
        "findAndModify",
        "create",
        "renameCollection",
        "dropDatabase",
        "listCollections",
        "listDatabases",
        "createIndexes",
    ),
    *(
        "listIndexes",
        "dropIndexes",
        "dbStats",
        "collStats",
        "saslStart",
        "saslContinue",
        "logout",
        "hello",
        "isMaster",
    ),
    *(
        "ping",
        "buildInfo",
        "hostInfo",
        "connectionStatus",
        "getParameter",
        "serverStatus",
        "endSessions",
        "usersInfo",
    ),
    *(
        "createUser",
        "updateUser",
        "dropUser",
        "createRole",
        "rolesInfo",
        "startSession",
        "getLog",
        "whatsmyuri",
        "nothing",
    ),
)
_ARGUMENTS = (
    *(
        "filter",
        "query",
        "update",
        "updates",
        "deletes",
        "documents",
        "pipeline",
        "cursor",
        "sort",
        "projection",
        "limit",
    ),
    *(
        "skip",
        "batchSize",
        "indexes",
        "key",
        "name",
        "lsid",
        "txnNumber",
        "autocommit",
        "collection",
        "cursors",
        "hint",
    ),
    *(
        "payload",
        "mechanism",
        "conversationId",
        "new",
        "upsert",
        "remove",
        "fields",
        "ordered",
        "readConcern",
        "to",
    ),
    *(
        "pwd",
        "roles",
        "privileges",
        "let",
        "collation",
        "singleBatch",
        "q",
        "u",
        "multi",
        "arrayFilters",
        "maxTimeMS",
    ),
)
_OPERATORS = (
    *(
        "$eq",
        "$gt",
        "$in",
        "$and",
        "$or",
        "$not",
        "$exists",
        "$type",
        "$size",
        "$all",
        "$elemMatch",
        "$mod",
        "$expr",
    ),
    *(
        "$set",
        "$inc",
        "$push",
        "$pull",
        "$unset",
        "$rename",
        "$each",
        "$slice",
        "$match",
        "$group",
        "$project",
        "$sort",
    ),
    *(
        "$limit",
        "$skip",
        "$unwind",
        "$lookup",
        "$facet",
        "$sum",
        "$avg",
        "$cond",
        "$let",
        "$map",
        "$reduce",
        "$where",
    ),
    *("_id", "a", "a.b", "a.0", "", ".", "$", "$$ROOT", "$a", "x" * 300),
)


def message(payload: bytes, *, opcode: int = OP_MSG, length: int | None = None, request_id: int = 1) -> bytes:
    """Return a message; its length may be a lie."""
    return (
        struct.pack("<iiii", 16 + len(payload) if length is None else length, request_id, 0, opcode) + payload
    )


def command(body: dict[str, Any], *sections: bytes, flags: int = 0, tail: bytes = b"") -> bytes:
    """Return a command as OP_MSG."""
    return message(struct.pack("<I", flags) + b"\0" + bson.encode(body) + b"".join(sections) + tail)


def sequence(name: str, content: bytes, *, size: int | None = None) -> bytes:
    """Return a document sequence; its size may be a lie."""
    data = name.encode() + b"\0" + content
    return b"\1" + struct.pack("<i", 4 + len(data) if size is None else size) + data


def query(raw: bytes, *, collection: bytes = b"admin.$cmd\0") -> bytes:
    """Return a command as OP_QUERY around raw BSON."""
    return message(struct.pack("<i", 0) + collection + struct.pack("<ii", 0, -1) + raw, opcode=OP_QUERY)


def nested(depth: int, *, array: bool = False) -> bytes:
    """Return the BSON of a document in a document in a document."""
    kind = b"\x04" if array else b"\x03"
    heads = (struct.pack("<i", 5 + 8 * left) + kind + b"0\0" for left in range(depth, 0, -1))
    return b"".join((*heads, b"\x05\0\0\0\0", b"\0" * depth))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Return any value that BSON can hold."""
    from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

    kinds: list[Callable[[], Any]] = [
        *(
            lambda: rng.choice((0, 1, -1, 2**31, -(2**31), 7)),
            lambda: Int64(rng.choice((2**63 - 1, -(2**63), 5))),
        ),
        lambda: rng.choice((0.0, -0.0, 1.5, float("nan"), float("inf"), 1e308)),
        lambda: rng.choice(("", "a", "$a", "admin", "Ω" * 50, "x" * 2000, "[", "(a")),
        *(lambda: None, lambda: rng.random() < 0.5, lambda: ObjectId(rng.randbytes(12))),
        *(lambda: Binary(rng.randbytes(20), rng.randrange(8)), lambda: Decimal128("1E+6000"), MinKey, MaxKey),
        *(
            lambda: Regex(rng.choice(("a", "(", "[z-a]", "^x")), rng.choice(("", "i", "x"))),
            lambda: Timestamp(1, 2),
        ),
        lambda: bson.datetime_ms.DatetimeMS(rng.choice((0, 2**62, -(2**62)))),
    ]
    if depth < 4:
        kinds += [lambda: document(rng, depth + 1)] * 4
        kinds += [lambda: [value(rng, depth + 1) for _ in range(rng.choice((0, 1, 3)))]] * 3
    return rng.choice(kinds)()


def document(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """Return a document with operators where they may or may not belong."""
    return {rng.choice(_OPERATORS): value(rng, depth) for _ in range(rng.choice((0, 1, 1, 2, 4)))}


def stored(rng: random.Random) -> dict[str, Any]:
    """Return a document that may be inserted."""
    return {
        "_id": rng.randrange(50),
        "a": value(rng, 2),
        "b": {"c": rng.randrange(5)},
        "list": [1, {"d": 2}, value(rng, 3)],
    }


def usual(rng: random.Random) -> dict[str, Any]:
    """Return a command as a driver sends it, around documents of any kind."""
    stages = (
        "$match",
        "$group",
        "$project",
        "$sort",
        "$unwind",
        "$lookup",
        "$facet",
        "$addFields",
        "$limit",
        "$count",
    )
    some = [document(rng) for _ in range(rng.choice((1, 1, 2)))]
    bodies: tuple[dict[str, Any], ...] = (
        {"insert": "c", "documents": [stored(rng)]},
        {"find": "c", "filter": some[0], "sort": {"a": rng.choice((1, -1, 0))}, "projection": document(rng)},
        {"find": "c", "filter": {rng.choice(("a", "b.c", "list")): some[0]}, "limit": rng.choice((0, 1, -1))},
        {"update": "c", "updates": [{"q": {}, "u": some[0], "multi": True, "upsert": rng.random() < 0.3}]},
        {
            "update": "c",
            "updates": [{"q": some[0], "u": [document(rng)]}, {"q": {}, "u": {"$set": some[-1]}}],
        },
        {"delete": "c", "deletes": [{"q": some[0], "limit": rng.choice((0, 1))}]},
        {"aggregate": "c", "pipeline": [{rng.choice(stages): value(rng, 1)} for _ in range(2)], "cursor": {}},
        {
            "aggregate": "c",
            "pipeline": [{"$group": {"_id": "$b.c", "x": some[0]}}, *some],
            "cursor": {"batchSize": 1},
        },
        {"findAndModify": "c", "query": some[0], "update": document(rng), "new": True, "sort": document(rng)},
        {"createIndexes": "c", "indexes": [{"key": some[0], "name": "x", "unique": rng.random() < 0.2}]},
        {"distinct": "c", "key": rng.choice(("a", "b.c", "list.d", "", "$a")), "query": some[0]},
        {"explain": {"find": "c", "filter": some[0]}, "verbosity": value(rng)},
        {"count": "c", "query": some[0], "limit": value(rng, 3)},
    )
    return rng.choice(bodies) | {"$db": PLAYGROUND}


def plausible(rng: random.Random) -> dict[str, Any]:
    """Return a command that exists: as usual, or with arguments of any kind."""
    if rng.random() < 0.6:
        return usual(rng)
    name = rng.choice([name for name in _COMMANDS if name not in _NOT_SENT])
    body: dict[str, Any] = {name: rng.choice(("c", "c", "c", 1, value(rng)))}
    for _ in range(rng.choice((0, 1, 2, 3, 5))):
        argument = rng.choice(_ARGUMENTS)
        body[argument] = rng.choice(
            (value, document, lambda r: [document(r)], lambda r: [document(r), value(r)])
        )(rng)
    body["$db"] = rng.choice((PLAYGROUND, PLAYGROUND, PLAYGROUND, value(rng)))
    # what must survive is in neither
    return body if body["$db"] != "admin" or not name.startswith("drop") else body | {"$db": PLAYGROUND}


# ---- attacks -----------------------------------------------------------------------------------------------------


def _length(rng: random.Random) -> bytes:
    length = rng.choice((0, 1, 15, 16, 17, 20, 21, -1, -(2**31), 2**31 - 1, 48_000_000, 48_000_001, 1000))
    return message(struct.pack("<I", 0) + b"\0" + bson.encode({"ping": 1, "$db": "admin"}), length=length)


def _opcode(rng: random.Random) -> bytes:
    opcode = rng.choice((0, 1, 2001, 2002, 2005, 2006, 2007, OP_COMPRESSED, 2014, -1, 2**31 - 1))
    return message(rng.randbytes(rng.choice((0, 4, 100))), opcode=opcode)


def _flags(rng: random.Random) -> bytes:
    flags = rng.choice((1, 2, 3, 4, 0x8000, 0x10000, 0xFFFFFFFF, 1 << 31))
    return command(
        {"ping": 1, "$db": "admin"}, flags=flags, tail=rng.choice((b"", b"\0\0\0\0", rng.randbytes(4)))
    )


def _old_query(rng: random.Random) -> bytes:
    bodies = (
        *(
            {"$query": 1},
            {"$query": [1]},
            {"$query": {"ping": 1}},
            {"$query": None},
            {},
            {"isMaster": 1, "$db": 3},
        ),
        *({"hello": {"a": 1}}, {"$query": {"$query": {}}}, {"find": "c", "filter": 4}),
    )
    raw = bson.encode(rng.choice(bodies))
    return query(
        rng.choice((raw, raw, raw, raw[:-1], nested(rng.choice((10, 200, 20_000))))),
        collection=rng.choice((*[b"admin.$cmd\0"] * 4, b"\xff\xfe\0", b"", b"x" * 50, b".\0")),
    )


def _section(rng: random.Random) -> bytes:
    content = b"".join(bson.encode({"_id": value(rng)}) for _ in range(3))
    broken = (
        content[:-3],
        rng.randbytes(30),
        struct.pack("<i", -5) * 4,
        struct.pack("<i", 4) * 4,
        nested(20_000),
        b"",
    )
    names = ("documents", "updates", "deletes", "é", "", "x" * 5000)
    size = rng.choice((None, None, 0, 4, 5, -1, 2**31 - 1, 3))
    part = sequence(rng.choice(names), rng.choice((content, *broken)), size=size)
    body = {rng.choice(("insert", "update", "delete", "find")): "c", "$db": PLAYGROUND}
    return command(body, *[part] * rng.choice((1, 2)))


def _bson(rng: random.Random) -> bytes:
    raw = bytearray(bson.encode(plausible(rng)))
    for _ in range(rng.choice((1, 1, 3))):
        raw[rng.randrange(len(raw))] = rng.choice((0, 1, 0xFF, 0x80, rng.randrange(256)))
    return message(struct.pack("<I", 0) + b"\0" + bytes(raw))


def _deep(rng: random.Random) -> bytes:
    raw = nested(rng.choice((50, 150, 900, 3000, 50_000)), array=rng.random() < 0.3)
    head = rng.choice(
        (b"\x02insert\0\x02\0\0\0c\0", b"\x02find\0\x02\0\0\0c\0", b"\x02aggregate\0\x02\0\0\0c\0")
    )
    name = rng.choice((b"filter", b"pipeline", b"let", b"$db", b"lsid", b"documents"))
    content = head + b"\x03" + name + b"\0" + raw + b"\x02$db\0\x0b\0\0\0playground\0" + b"\0"
    body = struct.pack("<i", 4 + len(content)) + content
    documents = sequence("documents", raw) if head.startswith(b"\x02insert") else b""
    return message(struct.pack("<I", 0) + b"\0" + body + documents)


def _noise(rng: random.Random) -> bytes:
    return rng.choice(
        (rng.randbytes(rng.choice((1, 15, 16, 500))), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 20)
    )


def _huge(rng: random.Random) -> bytes:
    return rng.choice((b"\xff", b"\0", b"\x10\0\0\0")) * rng.choice((100_000, 3_000_000))


def _sensible(rng: random.Random) -> bytes:
    return b"".join(
        command(plausible(rng), flags=rng.choice((0, 0, 0, 2))) for _ in range(rng.choice((1, 1, 4)))
    )


def _cut(rng: random.Random) -> bytes:
    whole = rng.choice((_sensible, _section, _deep))(rng)
    return whole[: rng.randrange(len(whole))]


_ATTACKS = (
    *(_length, _opcode, _flags, _old_query, _section, _bson, _bson, _deep, _noise, _huge, _cut),
    *(_sensible, _sensible, _sensible, _sensible),
)


def attack(number: int) -> tuple[str, bytes]:
    """Return the name of an attack and what it sends."""
    rng = random.Random(f"wire {number}")
    kind = rng.choice(_ATTACKS)
    return kind.__name__.strip("_"), kind(rng)


# ---- connections -------------------------------------------------------------------------------------------------


def connect(uri: str, timeout: float = 10.0) -> socket.socket:
    """Return a connection to a server, without logging in."""
    host = urlsplit(uri).netloc.rpartition("@")[2]
    if "%2F" in host:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout)
        made.connect(unquote_plus(host))
        return made
    name, _, port = host.partition(":")
    return socket.create_connection((name, int(port)), timeout=timeout)


def send(uri: str, data: bytes, *, patience: float = 0.02) -> None:
    """Send something, read what comes back for a moment, and hang up."""
    with connect(uri) as made:
        try:
            made.sendall(data)
            made.settimeout(patience)
            while made.recv(1 << 16):
                pass
        except (TimeoutError, ConnectionError, BrokenPipeError):
            return


def answers(uri: str, timeout: float = 10.0) -> float:
    """Return the seconds in which the server answers a plain greeting.

    Raises
    ------
    OSError
        It does not.
    """
    start = time.monotonic()
    with connect(uri, timeout) as made:
        made.sendall(command({"hello": 1, "$db": "admin"}))
        (length,) = struct.unpack("<i", _exactly(made, 4))
        reply = bson.decode(_exactly(made, length - 4)[17:])
    if reply.get("ok") != 1.0:
        raise ConnectionError(f"the server answers {reply}")
    return time.monotonic() - start


def _exactly(made: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = made.recv(count - len(data))
        if not more:
            raise ConnectionError("the server hung up")
        data += more
    return data
