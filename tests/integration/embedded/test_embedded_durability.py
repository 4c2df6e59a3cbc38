"""What was acknowledged survives: SIGKILL under load, repeated writes, a full disk, restarts."""

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time

import bson
import pytest
from bson import Binary
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from launchpad.embedded import ensure_running, status, stop
from launchpad.embedded.locations import locations

pytestmark = pytest.mark.database

WRITER = """
import sys
from pymongo import MongoClient
from pymongo.errors import PyMongoError
uri, number, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = MongoClient(uri, serverSelectionTimeoutMS=5000)
db = client.get_default_database()
acked, tried = (open(f"{directory}/{name}{number}", "w", buffering=1) for name in ("acked", "tried"))
i = 0
while True:
    i += 1
    tried.write(f"{i}\\n")
    try:
        db.rows.insert_one({"_id": f"{number}/{i}", "w": number, "i": i})
        db.sums.update_one({"_id": number}, {"$inc": {"n": 1}}, upsert=True)
    except PyMongoError:
        continue
    acked.write(f"{i}\\n")
"""


def last(path):
    lines = path.read_text().split()
    return [int(line) for line in lines]


def test_sigkill_under_eight_writers_loses_nothing_acknowledged(tmp_path):
    data = tmp_path / "db"
    uri = ensure_running(data)
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), uri, str(n), str(tmp_path)])
        for n in range(8)
    ]
    try:
        rng = random.Random(7)
        wait_for(lambda: all((tmp_path / f"acked{n}").exists() for n in range(8)))
        for _ in range(4):
            time.sleep(rng.uniform(0.2, 1.5))
            os.kill(status(data).pid, signal.SIGKILL)
            assert ensure_running(data) == uri
        time.sleep(0.5)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    os.kill(status(data).pid, signal.SIGKILL)
    with MongoClient(ensure_running(data)) as client:
        db = client.get_default_database()
        for n in range(8):
            acked, tried = last(tmp_path / f"acked{n}"), last(tmp_path / f"tried{n}")
            stored = {d["i"] for d in db.rows.find({"w": n})}
            assert len(acked) > 20
            assert set(acked) <= stored <= set(tried)
            # Each acknowledged increment counted once; one more per interrupted attempt at the most.
            assert len(acked) <= db.sums.find_one({"_id": n})["n"] <= len(tried)
            assert db.rows.count_documents({"w": n}) == len(stored)
    stop(data)


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Raw:
    """A client that speaks the protocol by hand, so that it can repeat a command byte by byte."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(path))

    def send(self, command):
        body = bson.encode({**command, "$db": "gapfactory"})
        self.sock.sendall(struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body)

    def receive(self):
        data = b""
        while len(data) < 4 or len(data) < struct.unpack("<i", data[:4])[0]:
            chunk = self.sock.recv(1 << 16)
            assert chunk
            data += chunk
        return bson.decode(data[21:])

    def ask(self, command):
        self.send(command)
        return self.receive()

    def close(self):
        self.sock.close()


INCREMENT = {
    "findAndModify": "counters",
    "query": {"_id": 1},
    "update": {"$inc": {"n": 1}},
    "upsert": True,
    "new": True,
    "lsid": {"id": Binary(b"0123456789abcdef", 4)},
    "txnNumber": bson.Int64(1),
}


def test_a_repeated_write_is_answered_once_even_after_sigkill(tmp_path):
    data = tmp_path / "db"
    uri = ensure_running(data)
    path = locations(data).socket
    first = Raw(path)
    reply = first.ask(INCREMENT)
    assert reply["value"]["n"] == 1
    assert first.ask(INCREMENT) == reply
    first.close()
    os.kill(status(data).pid, signal.SIGKILL)
    ensure_running(data)
    second = Raw(path)
    assert second.ask(INCREMENT) == reply
    assert second.ask({**INCREMENT, "txnNumber": bson.Int64(2)})["value"]["n"] == 2
    assert second.ask(INCREMENT)["code"] == 225
    other = {**INCREMENT, "lsid": {"id": Binary(b"another-session!", 4)}}
    assert second.ask(other)["value"]["n"] == 3
    # A session that was ended is forgotten; its number may come again.
    second.ask({"endSessions": [other["lsid"]]})
    assert second.ask(other)["value"]["n"] == 4
    second.close()
    with MongoClient(uri) as client:
        assert client.get_default_database().counters.find_one()["n"] == 4
    stop(data)


def test_the_driver_repeats_a_write_whose_reply_was_lost(tmp_path):
    """A connection cut between the commit and the reply: transparent, and counted once."""
    data = tmp_path / "db"
    uri = ensure_running(data)
    front = tmp_path / "front.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(front))
    listener.listen(16)
    cut = threading.Event()

    def pump(source, target, *, replies):
        try:
            while chunk := source.recv(1 << 16):
                if replies and cut.is_set() and b"nModified" in chunk:
                    cut.clear()
                    source.shutdown(socket.SHUT_RDWR)
                    break
                target.sendall(chunk)
        except OSError:
            pass
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve():
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(locations(data).socket))
            sockets.extend((near, far))
            for source, target, replies in ((near, far, False), (far, near, True)):
                thread = threading.Thread(target=pump, args=(source, target), kwargs={"replies": replies})
                threads.append(thread)
                thread.start()

    sockets, threads = [listener], []
    server = threading.Thread(target=serve)
    server.start()
    proxied = uri.replace(uri.split("//")[1].split("/")[0], str(front).replace("/", "%2F"))
    with MongoClient(proxied) as client:
        counters = client.get_default_database().counters
        counters.insert_one({"_id": 1, "n": 0})
        cut.set()
        assert counters.update_one({"_id": 1}, {"$inc": {"n": 1}}).modified_count == 1
        assert not cut.is_set()
        assert counters.find_one()["n"] == 1
    listener.shutdown(socket.SHUT_RDWR)
    server.join()
    stop(data)
    for thread in threads:
        thread.join()
    for sock in sockets:
        sock.close()


def test_a_full_disk_refuses_writes_and_harms_nothing(tmp_path):
    """The server's file size limit stands in for the disk: SQLite meets the same failure."""
    data = tmp_path / "db"
    uri = ensure_running(data)
    pid = status(data).pid
    with MongoClient(uri) as client:
        db = client.get_default_database()
        db.rows.create_index("k", unique=True)
        db.rows.insert_many({"_id": i, "k": i, "pad": "x" * 1000} for i in range(200))
        largest = max(path.stat().st_size for path in data.iterdir())
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + 4096, hard))
        refused = []
        acked = []
        for i in range(1000, 1030):
            try:
                db.rows.insert_one({"_id": i, "k": i, "pad": "y" * 200_000})
                acked.append(i)
            except OperationFailure as error:
                refused.append((i, error))
        assert refused
        assert refused[0][1].code == 14031
        assert "Free space" in str(refused[0][1])
        with pytest.raises(OperationFailure):
            db.rows.update_many({}, {"$set": {"pad": "z" * 100_000}})
        with pytest.raises(OperationFailure):
            db.other.insert_one({"big": "z" * 3_000_000})
        # Memory is what it was: reads, unique keys and the catalog.
        expected = sorted([*range(200), *acked])
        assert sorted(d["_id"] for d in db.rows.find()) == expected
        assert db.rows.count_documents({"k": {"$gte": 0}}) == len(expected)
        assert db.rows.count_documents({"pad": "x" * 1000}) == 200
        assert "other" not in db.list_collection_names()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        db.rows.insert_one({"_id": refused[0][0], "k": refused[0][0]})
        expected = sorted([*expected, refused[0][0]])
        os.kill(pid, signal.SIGKILL)
        ensure_running(data)
        assert sorted(d["_id"] for d in db.rows.find()) == expected
        with pytest.raises(PyMongoError):
            db.rows.insert_one({"k": 5})
    stop(data)


def test_clients_find_the_server_again_after_restarts(tmp_path):
    data = tmp_path / "db"
    uri = ensure_running(data)
    with MongoClient(uri) as client:
        rows = client.get_default_database().rows
        rows.create_index([("a", 1)], unique=True)
        for generation in range(4):
            rows.insert_one({"_id": generation, "a": generation})
            if generation % 2:
                os.kill(status(data).pid, signal.SIGKILL)
            else:
                assert stop(data)
            assert ensure_running(data) == uri
            assert [d["_id"] for d in rows.find()] == list(range(generation + 1))
            assert "a_1" in rows.index_information()
        rows.drop()
        client.get_default_database().kept.insert_one({"_id": 1})
        client.get_default_database().kept.rename("renamed")
        stop(data)
        ensure_running(data)
        assert client.get_default_database().list_collection_names() == ["renamed"]
    stop(data)
