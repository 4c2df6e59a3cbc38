"""Users of groups on a real server: what each role may do, passwords that change, files that carry them."""

from __future__ import annotations

import stat

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from gapfactory.errors import DatabaseError, InputError, NotFoundError
from launchpad.database.location import named_uri
from launchpad.database.users import (
    ROLES,
    User,
    add_user,
    change_password,
    list_users,
    remove_user,
    user_uri,
    write_secret,
)

pytestmark = [pytest.mark.database]


@pytest.fixture
def administrator(database_server):
    with MongoClient(database_server) as client:
        yield client


@pytest.fixture
def group(administrator):
    """Two groups with data; their users are removed afterwards."""
    from uuid import uuid4

    names = [f"g{uuid4().hex[:10]}" for _ in range(2)]
    for name in names:
        administrator[name].labels.insert_one({"_id": "x"})
    yield names
    for name in names:
        administrator[name].command("dropAllUsersFromDatabase")
        administrator.drop_database(name)


@pytest.fixture
def log_in(administrator, database_server, group):
    """Return a function that makes a user of the first group and returns its client."""
    opened: list[MongoClient] = []

    def make(role: str) -> MongoClient:
        password = add_user(administrator, group[0], role, role)
        opened.append(MongoClient(user_uri(database_server, group[0], role, password)))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def refused(action) -> None:
    with pytest.raises(OperationFailure) as caught:
        action()
    assert caught.value.code == 13, caught.value


def test_what_each_role_may_do(log_in, group) -> None:
    mine, theirs = group
    for role in ROLES:
        client = log_in(role)
        assert client[mine].labels.find_one({"_id": "x"})
        if role == "viewer":
            refused(lambda c=client: c[mine].labels.insert_one({"_id": "y"}))
            refused(lambda c=client: c[mine].labels.delete_many({}))
        else:
            client[mine].labels.insert_one({"_id": role})
        # nothing of another group, whoever it is
        refused(lambda c=client: c[theirs].labels.find_one({}))
        refused(lambda c=client: c[theirs].labels.insert_one({"_id": "y"}))
        refused(lambda c=client: add_user(c, theirs, "intruder", "viewer"))
        if role == "owner":
            assert add_user(client, mine, "colleague", "viewer")
            assert User("colleague", "viewer") in list_users(client, mine)
        else:
            refused(lambda c=client: add_user(c, mine, "intruder", "owner"))
            refused(lambda c=client, r=role: change_password(c, mine, r))
            refused(lambda c=client: c.drop_database(mine))


def test_an_owner_cannot_reach_beyond_the_group(log_in, group) -> None:
    client = log_in("owner")
    for granted in ({"role": "read", "db": group[1]}, {"role": "root", "db": "admin"}):
        refused(lambda g=granted: client[group[0]].command("createUser", "x", pwd="x" * 20, roles=[g]))


def test_a_password_is_changed_and_a_user_removed(administrator, database_server, group) -> None:
    first = add_user(administrator, group[0], "cluster-a", "worker")
    assert list_users(administrator, group[0]) == [User("cluster-a", "worker")]
    second = change_password(administrator, group[0], "cluster-a")
    assert len(second) >= 43
    assert second != first
    for password, good in ((first, False), (second, True)):
        with MongoClient(user_uri(database_server, group[0], "cluster-a", password)) as client:
            if good:
                client[group[0]].labels.insert_one({"_id": "by cluster-a"})
            else:
                with pytest.raises(OperationFailure):
                    client[group[0]].labels.find_one({})
    remove_user(administrator, group[0], "cluster-a")
    removed = user_uri(database_server, group[0], "cluster-a", second)
    with MongoClient(removed) as client, pytest.raises(OperationFailure):
        client[group[0]].labels.find_one({})
    assert list_users(administrator, group[0]) == []


def test_a_role_that_was_changed_by_hand_is_shown_as_it_is(administrator, group) -> None:
    add_user(administrator, group[0], "v", "viewer")
    administrator[group[0]].command("grantRolesToUser", "v", roles=[{"role": "readWrite", "db": group[0]}])
    assert list_users(administrator, group[0]) == [User("v", "read, readWrite")]


def test_faults_are_named(administrator, group) -> None:
    add_user(administrator, group[0], "a", "viewer")
    with pytest.raises(InputError, match="exists"):
        add_user(administrator, group[0], "a", "viewer")
    with pytest.raises(InputError, match="owner, member, worker, viewer"):
        add_user(administrator, group[0], "b", "admin")
    with pytest.raises(NotFoundError, match="its users: a"):
        remove_user(administrator, group[0], "b")
    for bad in ("admin", "", "a b", "a/b", "$external"):
        with pytest.raises(InputError, match="usable name of a group"):
            list_users(administrator, bad)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://h1:27017,h2/", "mongodb://u:p%2F%40@h1:27017,h2/g?authSource=g"),
        (
            "mongodb://root:s3@h/admin?tls=true&authSource=admin&replicaSet=rs0",
            "mongodb://u:p%2F%40@h/g?tls=true&replicaSet=rs0&authSource=g",
        ),
        ("mongodb+srv://root:s3@h", "mongodb+srv://u:p%2F%40@h/g?authSource=g"),
    ],
)
def test_the_uri_of_a_user(uri, expected) -> None:
    assert user_uri(uri, "g", "u", "p/@") == expected


def test_the_uri_of_a_user_on_another_machine() -> None:
    admin = "mongodb://admin:x@h/admin?tls=true&tlsCAFile=/run/secrets/ca.pem"
    assert user_uri(admin, "g", "u", "p").endswith("?tls=true&tlsCAFile=/run/secrets/ca.pem&authSource=g")
    there = user_uri(admin, "g", "u", "p", ca="/etc/a&b/ca.pem")
    assert there.endswith("/g?tls=true&tlsCAFile=/etc/a%26b/ca.pem&authSource=g")


def test_commands_keep_passwords_out_of_sight(place, tmp_path) -> None:
    secret = tmp_path / "viewer.uri"
    shown = place.good("db", "users", "add", "silicon", "eve", "--role", "viewer", "--to", str(secret))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    password = secret.read_text().split("eve:")[1].split("@")[0]
    assert password not in shown
    assert place.json("db", "users", "list", "silicon") == [{"name": "eve", "role": "viewer"}]
    # a viewer reads through the file, and is told what it may not do
    here = {"GAPFACTORY_DB_FILE": str(secret)}
    place.good("campaign", "status", **here)
    place.write("si.yaml", "preset: quickstart-Si-analytic\nname: si\n")
    assert "not authorized" in place.refused("campaign", "submit", "si.yaml", **here)
    # a worker's account is enough for what every supervisor of workers does
    worker = tmp_path / "worker.uri"
    place.good("db", "users", "add", "silicon", "w", "--role", "worker", "--to", str(worker))
    place.good("campaign", "submit", "si.yaml", GAPFACTORY_DB_FILE=str(worker))
    assert "1 passes" in place.good("db", "maintain", "--once", GAPFACTORY_DB_FILE=str(worker))
    place.good("campaign", "status", "si", **here)
    assert "mongodb://eve:***@" in place.run("doctor", "--json", **here).stdout
    place.good("db", "users", "password", "silicon", "eve", "--to", str(secret))
    assert password not in secret.read_text()
    place.good("db", "users", "remove", "silicon", "eve")
    assert "Authentication failed" in place.refused("campaign", "status", **here)


def test_the_file_with_the_uri(monkeypatch, tmp_path) -> None:
    path = tmp_path / "uri"
    monkeypatch.delenv("GAPFACTORY_DB", raising=False)
    monkeypatch.setenv("GAPFACTORY_DB_FILE", str(path))
    with pytest.raises(DatabaseError, match="cannot be read"):
        named_uri()
    write_secret(path, "mongodb://a/b")
    assert named_uri() == "mongodb://a/b"
    assert named_uri("mongodb://given") == "mongodb://given"
    path.chmod(0o644)
    with pytest.raises(DatabaseError, match="chmod 600"):
        named_uri()
    path.chmod(0o600)
    path.write_text("two words\n")
    with pytest.raises(DatabaseError, match="one MongoDB URI"):
        named_uri()
