"""Users of groups on a real server: what each role may do, passwords that change, files that carry them."""

from __future__ import annotations

import ast
import stat
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from gapfactory.errors import DatabaseError, InputError, NotFoundError
from launchpad.database import transfer
from launchpad.database.location import named_uri
from launchpad.database.privileges import ROLES, WRITES, privileges_of, role_needed
from launchpad.database.transfer import export_database, import_database
from launchpad.database.users import (
    User,
    add_user,
    change_password,
    elsewhere,
    ensure_roles,
    list_users,
    remove_user,
    upgrade_users,
    user_uri,
    write_secret,
)
from launchpad.operations.settings import Quota
from launchpad.operations.stored import quota_of, store_quota

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
        administrator[name].command("dropAllRolesFromDatabase")
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
    """Check that the server refuses, with MongoDB's code."""
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
        # nothing of another group, whoever it is, not even that it is there
        refused(lambda c=client: c[theirs].labels.find_one({}))
        refused(lambda c=client: c[theirs].labels.insert_one({"_id": "y"}))
        refused(lambda c=client: add_user(c, theirs, "intruder", "viewer"))
        refused(lambda c=client: c[theirs].list_collection_names())
        assert theirs not in client.list_database_names()
        # nobody of a group drops its collections or the group
        refused(lambda c=client: c.drop_database(mine))
        refused(lambda c=client: c[mine].labels.drop())
        refused(lambda c=client: c[mine].labels.rename("other"))
        refused(lambda c=client: c.admin["system.users"].find_one({}))
        if role == "owner":
            assert add_user(client, mine, "colleague", "viewer")
            assert User("colleague", "viewer") in list_users(client, mine)
        else:
            refused(lambda c=client: add_user(c, mine, "intruder", "owner"))
            refused(lambda c=client, r=role: change_password(c, mine, r))
            refused(lambda c=client, r=role: remove_user(c, mine, r))
            refused(lambda c=client, r=role: grant(c, mine, r, "gapfactory_owner", mine))
            refused(lambda c=client: list_users(c, mine))


def grant(client, group, user, role, where) -> None:
    client[group].command("grantRolesToUser", user, roles=[{"role": role, "db": where}])


ACTS = {
    "find": lambda c: c.find_one({}),
    "insert": lambda c: c.insert_one({}),
    "update": lambda c: c.update_one({"_id": "x"}, {"$set": {"a": 1}}),
    "upsert": lambda c: c.update_one({"_id": "new"}, {"$set": {"a": 1}}, upsert=True),
    "find_and_update": lambda c: c.find_one_and_update({"_id": "x"}, {"$set": {"a": 2}}),
    "remove": lambda c: c.delete_one({"_id": "x"}),
    "createIndex": lambda c: c.create_index("a"),
    "drop": lambda c: c.drop(),
    "dropIndex": lambda c: c.drop_indexes(),
}
NEEDS = {
    "upsert": {"update", "insert"},
    "find_and_update": {"find", "update"},
    "drop": {"-"},
    "dropIndex": {"-"},
}


def test_the_table_of_privileges_holds_on_the_server(log_in, administrator, group) -> None:
    """Every role, every collection of the table, every action: done or refused exactly as the table says."""
    mine = group[0]
    differ = []
    for role in ROLES:
        database = log_in(role)[mine]
        for collection in (*WRITES, "not_in_the_table"):
            allowed = {
                action
                for privilege in privileges_of(role, mine)
                if privilege["resource"]["collection"] in ("", collection)
                for action in privilege["actions"]
            }
            for name, act in ACTS.items():
                try:
                    act(database[collection])
                except OperationFailure as error:
                    # an index of the queue may refuse a document without its key; that is after the privileges
                    done = error.code != 13
                else:
                    done = True
                if done != (NEEDS.get(name, {name}) <= allowed):
                    differ.append((role, collection, name, done))
    assert not differ
    assert administrator[mine].audit.count_documents({}) > 0


def test_nobody_of_a_group_changes_the_audit_trail(log_in, group) -> None:
    for role in ("owner", "member"):
        trail = log_in(role)[group[0]].audit
        trail.insert_one({"_id": role})
        assert trail.find_one({"_id": role})
        refused(lambda t=trail: t.update_one({}, {"$set": {"who": "somebody else"}}))
        refused(lambda t=trail: t.replace_one({}, {}))
        refused(lambda t=trail: t.delete_many({}))
        refused(lambda t=trail: t.drop())
    for role in ("worker", "viewer"):
        refused(lambda r=role: log_in(r)[group[0]].audit.insert_one({}))


#: Attributes of our objects that are collections of another name.
ALIASES = {
    "journal": "queue_journal",
    "retries": "queue_retries",
    "leases": "queue_leases",
    "_claims": "label_claims",
    "_logins": "dashboard_logins",
}
WRITERS = {
    *("insert_one", "insert_many", "update_one", "update_many", "replace_one", "delete_one", "delete_many"),
    *("find_one_and_update", "find_one_and_replace", "find_one_and_delete", "bulk_write"),
}


def written_collections() -> dict[str, str]:
    """Return the names before every writing method in our sources, with a place where each stands."""
    import launchpad

    root = Path(launchpad.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        if path.is_relative_to(root / "embedded"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in WRITERS
            ):
                owner = node.func.value
                if isinstance(owner, ast.Attribute):
                    found.setdefault(ALIASES.get(owner.attr, owner.attr), f"{path.name}:{node.lineno}")
    return found


def test_every_collection_that_the_code_writes_is_in_the_table() -> None:
    missing = {name: place for name, place in written_collections().items() if name not in WRITES}
    assert not missing, f"add to launchpad/database/privileges.py what roles may do with {missing}"


def test_the_page_about_security_shows_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/security.md").read_text()
    letters = {"find": "r", "insert": "i", "update": "u", "remove": "d", "createIndex": "x"}

    def cell(role: str, collection: str) -> str:
        granted = {
            action
            for privilege in privileges_of(role, "g")
            if privilege["resource"]["collection"] == collection
            for action in privilege["actions"]
        }
        return "".join(letter for action, letter in letters.items() if action in granted) or "-"

    rows = [
        f"| `{name}` | {' | '.join(cell(role, name) for role in ('worker', 'dashboard', 'member', 'owner'))} |"
        for name in WRITES
    ]
    shown = page.partition("<!-- privileges -->")[2].partition("<!-- end -->")[0].strip().splitlines()[2:]
    assert shown == rows, "\n".join(rows)


def test_a_refusal_names_the_role_that_is_needed() -> None:
    words = 'not authorized on g to execute command {{ {}: "{}", $db: "g" }}'
    assert role_needed(words.format("insert", "campaigns")) == ["member", "owner"]
    assert role_needed(words.format("update", "fireworks")) == ["worker", "dashboard", "member", "owner"]
    assert role_needed(words.format("find", "campaigns")) == [
        *("viewer", "worker", "dashboard", "member", "owner")
    ]
    # hashes of passwords, and what nobody thought of, are not for those who only look
    assert role_needed(words.format("find", "dashboard_users")) == ["dashboard", "member", "owner"]
    assert role_needed(words.format("find", "anything")) == ["member", "owner"]
    assert role_needed(words.format("delete", "audit")) == []
    assert role_needed(words.format("insert", "shares")) == ["owner"]
    assert role_needed(words.format("insert", "dashboard_users")) == ["dashboard", "owner"]
    assert role_needed("not authorized on g to execute command { usersInfo: 1 }") == ["owner"]
    assert role_needed("something else") == []


def test_users_of_earlier_versions_are_upgraded(administrator, database_server, group) -> None:
    mine = group[0]
    for name, role, builtin in (
        ("o", "owner", "dbOwner"),
        ("m", "member", "readWrite"),
        ("w", "worker", "readWrite"),
        ("v", "viewer", "read"),
    ):
        administrator[mine].command(
            "createUser", name, pwd=name * 20, roles=[builtin], customData={"gapfactory_role": role}
        )
    administrator[mine].command("createUser", "stranger", pwd="s" * 20, roles=["readWrite"])
    share = {"role": "read", "db": group[1]}
    administrator[mine].command("grantRolesToUser", "w", roles=[share])
    with MongoClient(user_uri(database_server, mine, "o", "o" * 20)) as owner:
        # an owner of the group does it, for himself as well
        assert {user.name: user.role for user in upgrade_users(owner, mine)} == {
            "o": "owner",
            "m": "member",
            "w": "worker",
            "v": "viewer",
        }
        assert upgrade_users(owner, mine) == []
    assert User("stranger", "readWrite") in list_users(administrator, mine)
    with MongoClient(user_uri(database_server, mine, "w", "w" * 20)) as worker:
        worker[mine].labels.insert_one({"_id": "still at work"})
        refused(lambda: worker[mine].campaigns.delete_many({}))
        assert worker[group[1]].labels.find_one({}), "what others granted stays"


def test_roles_follow_the_table_of_the_version(administrator, group) -> None:
    add_user(administrator, group[0], "m", "member")
    administrator[group[0]].command("updateRole", "gapfactory_worker", privileges=[])
    assert ensure_roles(administrator, group[0]) == ["worker"]
    assert ensure_roles(administrator, group[0]) == []


def test_a_user_whom_a_certificate_speaks_for(administrator, log_in, group) -> None:
    subject = "CN=cluster-a,OU=silicon,O=Example"
    assert add_user(administrator, group[0], subject, "worker", certificate=True) == ""
    assert list_users(administrator, group[0]) == [User(subject, "worker")]
    stored = administrator["$external"].command("usersInfo", subject)["users"][0]
    assert stored["roles"] == [{"role": "gapfactory_worker", "db": group[0]}]
    owner = log_in("owner")
    refused(lambda: add_user(owner, group[0], "CN=x,O=y", "worker", certificate=True))
    assert [user.name for user in list_users(owner, group[0])] == ["owner"]
    remove_user(administrator, group[0], subject)
    assert [user.name for user in list_users(administrator, group[0])] == ["owner"]
    with pytest.raises(InputError, match="subject"):
        add_user(administrator, group[0], "cluster-a", "worker", certificate=True)
    uri = user_uri("mongodb://admin:x@h/?authSource=admin", group[0], subject, "", ca="/c.pem", key="/k.pem")
    assert uri == (
        f"mongodb://h/{group[0]}?tlsCAFile=/c.pem&tls=true&tlsCertificateKeyFile=/k.pem"
        "&authMechanism=MONGODB-X509&authSource=%24external"
    )


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
    assert list_users(administrator, group[0]) == [User("v", "gapfactory_viewer, readWrite")]


def test_faults_are_named(administrator, group) -> None:
    add_user(administrator, group[0], "a", "viewer")
    with pytest.raises(InputError, match="exists"):
        add_user(administrator, group[0], "a", "viewer")
    with pytest.raises(InputError, match="owner, member, dashboard, worker, viewer"):
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


def test_a_member_imports_what_members_may_write(
    administrator, database_server, group, tmp_path, caplog
) -> None:
    source, target = (administrator[name] for name in group)
    store_quota(source, Quota(labels=7))
    source.campaigns.insert_one({"_id": "c", "state": "done"})
    # as archives of earlier versions have it
    source.shares.insert_one({"_id": "to/a/labels", "users": []})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "SHARES", "none")
        export_database(source, tmp_path / "all.tar.gz")
    for role, expected in (("member", None), ("owner", 7)):
        target.campaigns.delete_many({})
        password = add_user(administrator, group[1], role, role)
        with MongoClient(user_uri(database_server, group[1], role, password)) as client:
            counts = import_database(client[group[1]], tmp_path / "all.tar.gz")
        assert target.campaigns.find_one({"_id": "c"})
        assert quota_of(target).labels == expected
        assert ("operations" in counts) == (expected is not None)
        assert target.shares.find_one({}) is None
    assert [r.getMessage() for r in caplog.records if "left out" in r.getMessage()] == [
        "operations is left out: only an owner of the group may write it"
    ]


def test_the_administrators_database_gets_none_of_our_collections(administrator, database_server) -> None:
    from launchpad.cli.options import connect
    from launchpad.queue import Queue

    before = administrator.admin.list_collection_names()
    uri = elsewhere(database_server, "admin")
    for use in (lambda: connect(uri, None), lambda: Queue.from_uri(uri)):
        with pytest.raises(DatabaseError, match=r"MongoDB's own database.*share open GROUP --to FILE"):
            use()
    assert administrator.admin.list_collection_names() == before


def test_no_user_and_no_password_without_a_file_to_put_it_into(place, tmp_path) -> None:
    place.good("db", "users", "add", "silicon", "bob", "--role", "worker", "--to", str(tmp_path / "bob.uri"))
    before = (tmp_path / "bob.uri").read_text()
    for to in (tmp_path / "nowhere" / "x.uri", tmp_path):
        for command in (["add", "silicon", "eve", "--role", "worker"], ["password", "silicon", "bob"]):
            done = place.run("db", "users", *command, "--to", str(to), COLUMNS="400")
            assert done.returncode == 1
            assert "Nothing was changed" in done.stderr
    assert [user["name"] for user in place.json("db", "users", "list", "silicon")] == ["bob"]
    assert (tmp_path / "bob.uri").read_text() == before
    place.good("db", "quota", "show", GAPFACTORY_DB_FILE=str(tmp_path / "bob.uri"))


def test_commands_keep_passwords_out_of_sight(place, tmp_path) -> None:
    secret, other = tmp_path / "eve.uri", tmp_path / "a.uri"
    shown = place.good("db", "users", "add", "silicon", "eve", "--role", "worker", "--to", str(secret))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    password = secret.read_text().split("eve:")[1].split("@")[0]
    assert password not in shown
    subject = ("CN=a,O=Example", "--role", "viewer", "--x509", "/etc/a.pem")
    place.good("db", "users", "add", "silicon", *subject, "--to", str(other))
    assert "tlsCertificateKeyFile=/etc/a.pem&authMechanism=MONGODB-X509" in other.read_text()
    assert place.json("db", "users", "list", "silicon") == [
        {"name": "CN=a,O=Example", "role": "viewer"},
        {"name": "eve", "role": "worker"},
    ]
    here = {"GAPFACTORY_DB_FILE": str(secret)}
    # its database has been prepared for it: a worker's account makes no indexes
    assert "1 passes" in place.good("db", "maintain", "--once", **here)
    shown = place.good("db", "users", "password", "silicon", "eve", "--to", str(secret))
    assert password not in secret.read_text()
    assert secret.read_text().split("eve:")[1].split("@")[0] not in shown
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
