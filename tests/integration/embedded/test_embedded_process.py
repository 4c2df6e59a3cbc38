"""Starting, finding and stopping the server; authentication and roles over TCP."""
# ruff: noqa: S106, S107, PLW0108, PT012 - passwords of throw-away servers; calls that must fail

import os
import signal
import stat
import subprocess
import sys

import pytest
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, ServerSelectionTimeoutError

from gapfactory.errors import DatabaseError
from launchpad.embedded import EmbeddedServer, ensure_running, status, stop

pytestmark = pytest.mark.database

START = "import sys; from launchpad.embedded import ensure_running; print(ensure_running(sys.argv[1]))"


def test_twenty_processes_start_one_server(tmp_path):
    data = tmp_path / "db"
    starters = [
        subprocess.Popen([sys.executable, "-c", START, str(data)], stdout=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    uris = {starter.communicate(timeout=100)[0].strip() for starter in starters}
    assert all(starter.returncode == 0 for starter in starters)
    assert len(uris) == 1
    pid = status(data).pid
    assert uris == {ensure_running(data)}
    assert status(data).pid == pid
    assert (data / "server.log").read_text() == ""
    assert stop(data)
    assert not stop(data)


def test_status_and_stop(tmp_path):
    data = tmp_path / "db"
    assert not status(data).running
    with MongoClient(ensure_running(data)) as client:
        client.get_default_database().rows.insert_many({"x": i} for i in range(5))
    running = status(data)
    assert (running.running, running.documents) == (True, 5)
    assert running.bytes > 50
    stop(data)
    stopped = status(data)
    assert (stopped.running, stopped.pid, stopped.documents) == (False, None, 5)


def test_one_server_per_directory(tmp_path):
    with EmbeddedServer(tmp_path / "db"), pytest.raises(DatabaseError, match="already runs"):
        EmbeddedServer(tmp_path / "db")


def test_a_server_that_cannot_start_says_why(tmp_path):
    data = tmp_path / "db"
    data.mkdir(mode=0o700)
    (data / "embedded.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(DatabaseError, match="cannot be opened"):
        ensure_running(data, timeout=30)


def test_everything_is_private(tmp_path):
    data = tmp_path / "db"
    with EmbeddedServer(data, port=0) as server:
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        for name in ("password", "server.json", "server.lock"):
            assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name
        assert (data / "password").read_text().strip() in server.uri
    with EmbeddedServer(tmp_path / "db2") as server:
        socket = server.locations.socket
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_long_paths_get_a_short_socket(tmp_path):
    data = tmp_path / ("d" * 120) / "db"
    with EmbeddedServer(data) as server, MongoClient(server.uri) as client:
        assert client.admin.command("ping")["ok"] == 1
        assert len(str(server.locations.socket)) < 108
        assert client.admin.command("hello")["me"] == str(server.locations.socket)


def test_tcp_needs_the_password_and_keeps_its_port(tmp_path):
    data = tmp_path / "db"
    with EmbeddedServer(data, port=0) as server:
        first = server.uri
        with MongoClient(first) as client:
            client.get_default_database().rows.insert_one({"x": 1})
            port = client.admin.command("hello")["me"].rpartition(":")[2]
        with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as nobody:
            assert nobody.admin.command("ping")["ok"] == 1
            with pytest.raises(OperationFailure) as error:
                nobody.gapfactory.rows.find_one()
            assert error.value.code == 13
        wrong = first.replace((data / "password").read_text().strip(), "wrong")
        with MongoClient(wrong) as client, pytest.raises(OperationFailure) as error:
            client.admin.command("usersInfo")
        assert error.value.code == 18
        unknown = first.replace("//gapfactory:", "//nobody:")
        with MongoClient(unknown) as client, pytest.raises(OperationFailure) as error:
            client.admin.command("usersInfo")
        assert error.value.code == 18
    with EmbeddedServer(data, port=0) as server, MongoClient(first) as client:
        assert server.uri == first
        assert client.get_default_database().rows.count_documents({}) == 1


def test_a_taken_port_is_named_and_a_chosen_one_replaced(tmp_path):
    with EmbeddedServer(tmp_path / "db", port=0) as server:
        port = int(server.uri.rpartition(":")[2].partition("/")[0])
        with pytest.raises(DatabaseError, match=f"port {port} of 127.0.0.1 cannot be used"):
            EmbeddedServer(tmp_path / "other", port=port)
    import socket

    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        with EmbeddedServer(tmp_path / "db", port=0) as server, MongoClient(server.uri) as client:
            assert f":{port}/" not in server.uri
            assert client.get_default_database().rows.count_documents({}) == 0


def test_discovery_as_a_replica_set_finds_the_address_in_use(tmp_path):
    with EmbeddedServer(tmp_path / "db", port=0) as server:
        uri = server.uri.replace("directConnection=true", "replicaSet=gapfactory")
        with MongoClient(uri) as client:
            assert client.get_default_database().rows.count_documents({}) == 0
            assert client.topology_description.topology_type_name == "ReplicaSetWithPrimary"


@pytest.fixture(scope="module")
def tcp(tmp_path_factory):
    with (
        EmbeddedServer(tmp_path_factory.mktemp("roles") / "db", port=0) as server,
        MongoClient(server.uri) as root,
    ):
        root.mine.rows.insert_one({"_id": 1})
        root.other.rows.insert_one({"_id": 1})
        yield server, root


def connect(server, user, password="secret", source="mine"):
    host = server.uri.partition("@")[2].partition("/")[0]
    return MongoClient(f"mongodb://{user}:{password}@{host}/mine?authSource={source}&directConnection=true")


def denied(action):
    with pytest.raises(OperationFailure) as error:
        action()
    return error.value.code == 13


def test_roles_are_enforced_per_database(tcp):
    server, root = tcp
    for role in ("read", "readWrite", "dbOwner"):
        root.mine.command("createUser", f"the-{role}", pwd="secret", roles=[role])
    with connect(server, "the-read") as reader:
        assert reader.mine.rows.find_one() == {"_id": 1}
        assert reader.list_database_names() == ["mine"]
        assert denied(lambda: reader.mine.rows.insert_one({}))
        assert denied(lambda: reader.mine.rows.create_index("x"))
        assert denied(lambda: reader.other.rows.find_one())
        assert denied(lambda: reader.admin["system.users"].find_one())
        assert denied(lambda: reader.mine.command("createUser", "x", pwd="y", roles=[]))
        assert denied(lambda: reader.admin.command("shutdown"))
        lookup = [{"$lookup": {"from": "rows", "localField": "_id", "foreignField": "_id", "as": "r"}}]
        assert denied(lambda: list(reader.other.rows.aggregate(lookup)))
    with connect(server, "the-readWrite") as writer:
        writer.mine.rows.insert_one({"_id": 2})
        writer.mine.rows.create_index("x")
        assert denied(lambda: writer.other.rows.insert_one({}))
        assert denied(lambda: writer.drop_database("mine"))
        assert denied(
            lambda: (
                writer.mine.rows.rename("x.y")
                and writer.admin.command("renameCollection", "mine.x.y", to="other.stolen")
            )
        )
    with connect(server, "the-dbOwner") as owner:
        owner.mine.command("createUser", "friend", pwd="secret", roles=["read"])
        assert denied(
            lambda: owner.mine.command("createUser", "spy", pwd="y", roles=[{"role": "read", "db": "other"}])
        )
        assert denied(lambda: owner.other.command("createUser", "spy", pwd="y", roles=["read"]))
        names = {user["user"] for user in owner.mine.command("usersInfo")["users"]}
        assert names == {"the-read", "the-readWrite", "the-dbOwner", "friend"}


def test_changes_of_users_take_effect_at_once(tcp):
    server, root = tcp
    root.mine.command("createUser", "temp", pwd="secret", roles=["readWrite"])
    with connect(server, "temp") as client:
        client.mine.temp.insert_one({})
        root.mine.command("updateUser", "temp", roles=["read"])
        assert denied(lambda: client.mine.temp.insert_one({}))
        root.mine.command("updateUser", "temp", pwd="changed")
    with connect(server, "temp", "changed") as client:
        assert client.mine.temp.count_documents({}) == 1
        root.mine.command("dropUser", "temp")
        assert denied(lambda: client.mine.temp.find_one())
    with connect(server, "temp", "changed") as client, pytest.raises(OperationFailure):
        client.mine.temp.find_one()
    with pytest.raises(OperationFailure) as error:
        root.mine.command("dropUser", "temp")
    assert error.value.code == 11
    with pytest.raises(OperationFailure) as error:
        root.mine.command("createUser", "x", pwd="y", roles=["emperor"])
    assert error.value.code == 31


def test_cursors_and_sessions_belong_to_their_user(tcp):
    server, root = tcp
    root.mine.many.insert_many({"_id": i} for i in range(300))
    root.mine.command("createUser", "peek", pwd="secret", roles=["read"])
    cursor = root.mine.many.find().batch_size(10)
    next(cursor)
    with connect(server, "peek") as client, pytest.raises(OperationFailure) as error:
        client.mine.command("getMore", cursor.cursor_id, collection="many")
    assert error.value.code == 43
    assert sum(1 for _ in cursor) == 299


def test_a_unix_socket_can_demand_authentication(tmp_path):
    with EmbeddedServer(tmp_path / "db") as server, MongoClient(server.uri) as client:
        client.admin.command("createUser", "me", pwd="secret", roles=["root"])
    with EmbeddedServer(tmp_path / "db", trust_same_user=False) as server:
        with MongoClient(server.uri) as client, pytest.raises(OperationFailure):
            client.get_default_database().rows.find_one()
        with MongoClient(server.uri, username="me", password="secret", authSource="admin") as client:
            assert client.get_default_database().rows.count_documents({}) == 0


def test_old_mechanisms_are_refused(tcp):
    server, _ = tcp
    host = server.uri.partition("@")[2].partition("/")[0]
    uri = f"mongodb://gapfactory:x@{host}/?authMechanism=SCRAM-SHA-1&directConnection=true"
    with MongoClient(uri) as client, pytest.raises((OperationFailure, ConfigurationError)):
        client.mine.rows.find_one()


def test_idle_server_stops_and_terminates_cleanly(tmp_path):
    command = [sys.executable, "-m", "launchpad.embedded", "--data", str(tmp_path / "db")]
    idle = subprocess.Popen([*command, "--idle", "0.5"], stderr=subprocess.DEVNULL)
    assert idle.wait(30) == 0
    uri = ensure_running(tmp_path / "db")
    os.kill(status(tmp_path / "db").pid, signal.SIGTERM)
    with (
        pytest.raises(ServerSelectionTimeoutError),
        MongoClient(uri, serverSelectionTimeoutMS=1500) as client,
    ):
        while True:
            client.admin.command("ping")


def test_garbage_does_not_end_the_server(tmp_path):
    import socket

    with EmbeddedServer(tmp_path / "db") as server, MongoClient(server.uri) as client:
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n" * 3,
            b"\xff" * 64,
            b"\x20\0\0\0" + bytes(12) + b"\xdd\x07" + bytes(20),
        ):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(server.locations.socket))
                sock.sendall(garbage)
                sock.settimeout(5)
                assert sock.recv(100) == b""
        assert client.admin.command("ping")["ok"] == 1
