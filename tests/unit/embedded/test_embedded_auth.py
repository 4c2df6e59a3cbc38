"""SCRAM-SHA-256 against the example of RFC 7677, and roles."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

import launchpad.embedded.auth as module
from launchpad.embedded.auth import Users, make_credentials, start_conversation
from launchpad.embedded.errors import CommandError
from launchpad.embedded.roles import CLUSTER, Roles, parse_privileges, parse_roles, privileges_of_built_in
from launchpad.embedded.store import Store

CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="


@pytest.fixture
def users():
    store = Store(Path(":memory:"))
    yield Users(store)
    store.close()


def test_the_example_of_rfc_7677(users, monkeypatch):
    monkeypatch.setattr(module, "_ITERATIONS", 4096)
    users.create("db", "user", "pencil", ["read"])
    users._store.transaction.clear()
    record = users._record("db", "user")
    document = record.copy()
    document["credentials"]["SCRAM-SHA-256"] = make_credentials("pencil", salt=base64.b64decode(SALT))
    users._store.get("admin", "system.users").replace(record, document, users._store.transaction)
    start = {"mechanism": "SCRAM-SHA-256", "payload": f"n,,n=user,r={CLIENT_NONCE}".encode()}
    conversation = start_conversation(users, "db", start)
    nonce = CLIENT_NONCE + SERVER_NONCE
    assert conversation.server_first.decode().startswith(f"r={CLIENT_NONCE}")
    conversation.nonce = nonce
    conversation.auth_message = f"n=user,r={CLIENT_NONCE},r={nonce},s={SALT},i=4096"
    proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    final = conversation.finish(f"c=biws,r={nonce},p={proof}".encode())
    assert final == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def answer(conversation, password):
    """What a client that knows the password would send."""
    fields = dict(part.split("=", 1) for part in conversation.server_first.decode().split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    key = hmac.new(salted, b"Client Key", "sha256").digest()
    bare = f"c=biws,r={fields['r']}"
    message = f"{conversation.auth_message},{bare}".encode()
    signature = hmac.new(hashlib.sha256(key).digest(), message, "sha256").digest()
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    return f"{bare},p={proof}".encode()


def start(users, name="me"):
    return start_conversation(
        users, "db", {"mechanism": "SCRAM-SHA-256", "payload": f"n,,n={name},r=abc".encode(), "options": {}}
    )


def test_only_the_right_password_and_nonce_pass(users):
    users.create("db", "me", "secret", ["read"])
    conversation = start(users)
    assert conversation.finish(answer(conversation, "secret")).startswith(b"v=")
    conversation = start(users)
    with pytest.raises(CommandError) as error:
        conversation.finish(answer(conversation, "Secret"))
    assert error.value.code == 18
    other, replayed = start(users), start(users)
    with pytest.raises(CommandError):
        replayed.finish(answer(other, "secret"))
    for payload in (b"", b"c=biws", b"c=biws,r=abc,p=", b"c=biws,r=abc,p=%%%", b"\xff\xfe"):
        with pytest.raises(CommandError):
            start(users).finish(payload)


def test_unknown_users_look_like_known_ones(users):
    users.create("db", "me", "secret", ["read"])
    known, unknown, again = start(users), start(users, "nobody"), start(users, "nobody")

    def shape(conversation):
        return [len(part) for part in conversation.server_first.decode().split(",")]

    def salt(conversation):
        return conversation.server_first.decode().split(",")[1]

    assert shape(known) == shape(unknown)
    assert salt(unknown) == salt(again) != salt(known)
    with pytest.raises(CommandError) as error:
        unknown.finish(answer(unknown, "secret"))
    assert error.value.code == 18


def test_passwords_are_not_stored(users):
    users.create("db", "me", "a-secret-password", ["read"])
    assert b"a-secret-password" not in users._record("db", "me").raw
    assert make_credentials("x")["salt"] != make_credentials("x")["salt"]


@pytest.mark.parametrize(
    ("role", "action", "database", "expected"),
    [
        (("read", "a"), "find", "a", True),
        (("read", "a"), "insert", "a", False),
        (("read", "a"), "find", "b", False),
        (("readWrite", "a"), "insert", "a", True),
        (("readWrite", "a"), "dropDatabase", "a", False),
        (("dbOwner", "a"), "createUser", "a", True),
        (("dbOwner", "a"), "createUser", "admin", False),
        (("dbOwner", "a"), "shutdown", CLUSTER, False),
        (("root", "admin"), "createUser", "b", True),
        (("root", "admin"), "shutdown", CLUSTER, True),
        (("readAnyDatabase", "admin"), "find", "b", True),
        (("readAnyDatabase", "admin"), "insert", "b", False),
    ],
)
def test_roles(role, action, database, expected):
    assert privileges_of_built_in(*role).allows(action, database) is expected


def test_a_privilege_ends_at_its_collection_and_never_reaches_system_collections():
    one = parse_privileges([{"resource": {"db": "a", "collection": "x"}, "actions": ["find"]}], "a")
    assert one.allows("find", "a", "x")
    assert not one.allows("find", "a", "y")
    assert not one.allows("insert", "a", "x")
    assert not one.allows("find", "b", "x")
    assert not one.allows("find", "a")
    every = parse_privileges([{"resource": {"db": "a", "collection": ""}, "actions": ["find"]}], "a")
    assert every.allows("find", "a", "y")
    assert not every.allows("find", "a", "system.users")
    assert not privileges_of_built_in("readWriteAnyDatabase", "admin").allows("find", "admin", "system.users")


@pytest.mark.parametrize(
    "privileges",
    [
        "find",
        [{"resource": {"db": "b", "collection": ""}, "actions": ["find"]}],
        [{"resource": {"cluster": True}, "actions": ["shutdown"]}],
        [{"resource": {"anyResource": True}, "actions": ["find"]}],
        [{"resource": {"db": "a"}, "actions": ["find"]}],
        [{"resource": {"db": "a", "collection": ""}, "actions": []}],
        [{"resource": {"db": "a", "collection": ""}, "actions": [1]}],
        ["find"],
    ],
)
def test_a_role_cannot_reach_beyond_its_database(privileges):
    with pytest.raises(CommandError):
        parse_privileges(privileges, "a")


def test_roles_inherit_and_a_circle_of_them_ends(users):
    roles = users.defined
    find = {"resource": {"db": "a", "collection": "x"}, "actions": ["find"]}
    roles.create("a", "one", [find], [])
    roles.create("a", "two", [], ["one"])
    roles.change("a", "one", roles=["two"])
    assert roles.privileges([("two", "a")]).allows("find", "a", "x")
    for wrong in ("one", "read"):
        with pytest.raises(CommandError, match="already exists"):
            roles.create("a", wrong, [], [])
    with pytest.raises(CommandError, match="other databases"):
        roles.create("a", "three", [], [{"role": "read", "db": "b"}])
    with pytest.raises(CommandError, match="built-in"):
        roles.drop("a", "read")
    roles.drop("a", "one")
    assert not roles.privileges([("two", "a")]).allows("find", "a", "x")
    assert isinstance(roles, Roles)


def test_roles_are_checked_when_given():
    assert parse_roles(["read", {"role": "root", "db": "admin"}], "x") == [
        {"role": "read", "db": "x"},
        {"role": "root", "db": "admin"},
    ]
    for wrong in (["emperor"], [{"role": "root", "db": "x"}], "read", [{"role": "read"}]):
        with pytest.raises(CommandError):
            parse_roles(wrong, "x")
