"""Hostile peers on a socket: the server stays up, answers a plain client, loses nothing, and grows little."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gf_wire import PLAYGROUND, answers, attack, command, connect, send
from pymongo import MongoClient

from launchpad.embedded import ensure_running, status, stop

if TYPE_CHECKING:
    import socket

pytestmark = pytest.mark.database

#: Attacks over each kind of socket; benchmarks/fuzz.py goes on from here.
ATTACKS = 150
#: The server may grow by so much (MB) under all of them.
MOST_MB = 150


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    with Path(f"/proc/{pid}/statm").open(encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


@pytest.fixture(params=["unix", "tcp"])
def server(request, tmp_path):
    """The URI, the process and the data directory of a server: trusting its user, or wanting a password."""
    data = tmp_path / "db"
    uri = ensure_running(data, port=0 if request.param == "tcp" else None)
    with MongoClient(uri) as client:
        client.kept.rows.insert_many([{"_id": k, "text": "x" * k} for k in range(50)])
    yield uri, status(data).pid, data
    stop(data)


def untouched(uri: str) -> None:
    """Check that a client that logs in reads what was stored before, and can write."""
    with MongoClient(uri, serverSelectionTimeoutMS=10_000) as client:
        assert [row["_id"] for row in client.kept.rows.find(sort=[("_id", 1)])] == list(range(50))
        client[PLAYGROUND].own.insert_one({"a": 1})
        assert client[PLAYGROUND].own.count_documents({"a": 1}) >= 1


def test_hostile_peers(server):
    uri, pid, data = server
    before = memory_mb(pid)
    open_ended: list[socket.socket] = []
    for number in range(ATTACKS):
        kind, sent = attack(number)
        send(uri, sent, patience=0.002)
        if number % 10 == 0:
            # some neither go on nor hang up
            open_ended.append(connect(uri))
            open_ended[-1].sendall(sent[: min(len(sent) - 1, 30)])
            assert answers(uri) < 10.0, f"after attack {number} ({kind})"
    for made in open_ended:
        made.close()
    untouched(uri)
    assert status(data).pid == pid
    assert memory_mb(pid) - before < MOST_MB


def test_a_flood_is_cut_off_before_it_is_stored(server):
    """What is no message is refused by its first bytes, however much follows."""
    uri, pid, _ = server
    before, flood = memory_mb(pid), memoryview(b"\xff" * 100_000_000)
    with connect(uri) as made, pytest.raises(OSError, match=r"reset|pipe"):
        made.sendall(flood)
    assert memory_mb(pid) - before < 50.0
    untouched(uri)


def test_many_who_say_nothing(server):
    """Connections that begin a large message and stop are no reason to answer others later."""
    uri, pid, _ = server
    head = command({"ping": 1, "$db": "admin"})
    waiting = [connect(uri) for _ in range(200)]
    for made in waiting:
        made.sendall((40_000_000).to_bytes(4, "little") + head[4:])
    assert answers(uri) < 10.0
    for made in waiting:
        made.close()
    untouched(uri)
    facts = json.loads((server[2] / "server.json").read_text(encoding="utf-8"))
    assert facts["pid"] == pid
