"""The account of the database that the dashboard is meant to run under: enough for all it does, and no more."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from pymongo import MongoClient, monitoring
from pymongo.errors import OperationFailure

from launchpad.dashboard.auth import accounts
from launchpad.dashboard.auth.access import Role
from launchpad.database.connection import NOT_AUTHORISED
from launchpad.database.privileges import privileges_of

ORIGIN = {"Sec-Fetch-Site": "same-origin"}
PASSWORD = "correct horse battery"  # noqa: S105
COMMANDS = {"insert": "insert", "update": "update", "findAndModify": "update", "delete": "remove"}
COMPUTED = {"dashboard_rows", "dashboard_results", "dashboard_parts"}


class Watch(monitoring.CommandListener):
    """Notes what is written where, and what the server refuses, whoever swallows it."""

    def __init__(self):
        self.used = set()
        self.refused = []

    def started(self, event):
        if event.command_name not in COMMANDS:
            return
        collection = event.command[event.command_name]
        self.used.add((collection, COMMANDS[event.command_name]))
        changes = [event.command, *event.command.get("updates", ())]
        if any(change.get("upsert") for change in changes):
            self.used.add((collection, "insert"))

    def succeeded(self, event):
        pass

    def failed(self, event):
        # an account that makes no indexes finds them made
        if event.failure.get("code") == NOT_AUTHORISED and event.command_name != "createIndexes":
            self.refused.append((event.command_name, str(event.failure.get("errmsg"))))


@contextmanager
def watching():
    found = Watch()
    # of all clients that are made from now on; there is no public way to take a listener off again
    listeners = monitoring._LISTENERS.command_listeners
    listeners.append(found)
    try:
        yield found
    finally:
        listeners.remove(found)


@pytest.fixture
def place(stocked, database, database_server):
    """The stocked database under the role: its URI, what was watched, and a function that gives a client."""
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings
    from launchpad.database.users import add_user, user_uri

    with MongoClient(database_server) as administrator:
        password = add_user(administrator, database.name, "pages", "dashboard")
        uri = user_uri(database_server, database.name, "pages", password)
        with watching() as watch:
            group = Group("si", uri)
            app = create_app([group], DashboardSettings(computations=4), b"k" * 32)
            before = set(threading.enumerate())

            def client(name):
                found = app.test_client()
                data = {"group": "si", "name": name, "password": PASSWORD}
                assert found.post("/login", data=data, headers=ORIGIN).status_code == 303
                return found

            yield uri, watch, app, client
            for work in set(threading.enumerate()) - before:
                if "pymongo" not in work.name:
                    work.join(20)  # of a page that computes in the background, as this user
            group.close()
        administrator[database.name].command("dropAllUsersFromDatabase")
        administrator[database.name].command("dropAllRolesFromDatabase")


def test_every_page_is_shown(place, database):
    _, watch, app, client = place
    admin = client("admin")
    task = database.fireworks.find_one({})["fw_id"]
    given = {"campaign": "one", "name": "one", "generation": 0, "number": 0, "fw_id": task}
    given |= {"structure": "one/g000/cell/000000", "key": "one/g000/cell/000000", "kind": "cif"}
    for rule in app.url_map.iter_rules():
        if "GET" not in rule.methods or rule.endpoint in {"static", "login.start"}:
            continue
        values = {"group": "si"} | {name: given.get(name, "1") for name in rule.arguments - {"group"}}
        values |= {"number": task} if rule.endpoint == "api.task" else {}
        values |= {"key": "learning_curve"} if "/charts/" in rule.rule else {}
        with app.test_request_context():
            path = app.url_map.bind("localhost").build(rule.endpoint, values)
        answer = admin.get(path, headers=ORIGIN)
        assert answer.status_code < 500, (path, answer.text)
    assert watch.refused == []
    # what they began in the background is done as the same user
    end = time.monotonic() + 180
    while busy := list(database.dashboard_results.find({"state": "computing"})):
        assert time.monotonic() < end, busy
        time.sleep(0.1)
    results = list(database.dashboard_results.find({}))
    # its one assessment holds too little for charts
    assert {one["kind"] for one in results if one["state"] == "done"} >= {"rows", "map"}, results


def test_every_action_is_done_and_no_privilege_is_idle(place, database):
    """What is written by all that people can do, and by work that was cut short, is what the role may write."""
    from launchpad.dashboard.groups import Group
    from launchpad.database.campaigns import campaign_of
    from launchpad.database.labels import ask_again
    from launchpad.workflows.generation import generation_workflow

    uri, watch, _, client = place
    admin = client("admin")

    def send(path, status=303, **data):
        answer = admin.post(f"/g/si/{path}", data={"confirmed": "yes"} | data, headers=ORIGIN)
        assert answer.status_code == status, (path, data, answer.text)

    tasks = ",".join(str(task["fw_id"]) for task in database.fireworks.find({"state": "READY"}).limit(2))
    for action in ("pause", "resume", "cancel", "resume"):
        send("queue/act", action=action, ids=tasks)
    send("queue/act", action="priority", ids=tasks, priority="7")
    database.fireworks.update_one({"fw_id": int(tasks.split(",")[0])}, {"$set": {"state": "FIZZLED"}})
    send("queue/act", action="rerun", ids=tasks)
    # as if whoever submitted it had been killed before its tasks were there
    database.queue_journal.delete_many({})
    database.workflows.delete_many({})
    database.fireworks.delete_many({})
    send("campaigns/one/act", action="cancel")
    send("campaigns/one/act", action="resume")
    assert database.fireworks.count_documents({}) == len(
        generation_workflow(campaign_of(database.campaigns.find_one({"_id": "one"})), 0).fws
    )
    send("campaigns/one/act", action="retry")
    database.workers.insert_one({"_id": "w", "kind": "worker", "state": "running", "host": "far", "pid": 1})
    send("workers/stop", ids="w", id="w")
    send("users/add", 200, name="maria", role="viewer")
    send("users/role", name="maria", role="operator")
    send("users/password", 200, name="maria")
    send("account/token", 200, name="script", role="viewer", days="1")
    send("users/token/remove", id=database.dashboard_tokens.find_one({})["_id"])
    send("users/remove", name="maria")
    send("account/password", present=PASSWORD, wanted="another password", again="another password")
    with_role = Group("si", uri)
    # an earlier version's failure of a label is moved on the way
    failed = {"status": "failed", "campaign": "one", "structure_hash": "0"}
    database.labels.insert_one({"_id": "old", **failed})
    assert ask_again(with_role.database, "old", "one", 1)
    with_role.close()
    assert watch.refused == []

    writes = {"insert", "update", "remove"}
    granted = {
        (privilege["resource"]["collection"], action)
        for privilege in privileges_of("dashboard", "g")
        for action in privilege["actions"]
        if action in writes
    }
    # what is written by processes that compute is no action of people
    idle = {one for one in granted - watch.used if one[0] not in COMPUTED}
    assert idle == set()


def test_nothing_beyond_is_permitted(place, database):
    """Not what would make it a member: campaigns, structures, potentials, shares, the trail, users of the database."""
    uri, _, _, _ = place
    with MongoClient(uri) as pages:
        mine = pages[database.name]
        for action in (
            lambda: mine.campaigns.insert_one({}),
            lambda: mine.campaigns.delete_many({}),
            lambda: mine.structures.update_one({}, {"$set": {"a": 1}}),
            lambda: mine.potentials.insert_one({}),
            lambda: mine["potential_files.chunks"].delete_many({}),
            lambda: mine.launches.update_one({}, {"$set": {"a": 1}}),
            lambda: mine.fireworks.delete_many({}),
            lambda: mine.workers.insert_one({}),
            lambda: mine.operations.insert_one({}),
            lambda: mine.shares.insert_one({}),
            lambda: mine.audit.delete_many({}),
            lambda: mine.audit.update_many({}, {"$set": {"who": "somebody else"}}),
            lambda: mine.dashboard_users.create_index("a"),
            mine.dashboard_users.drop,
            lambda: mine.not_in_the_table.find_one({}),
            lambda: mine.command("usersInfo", 1),
            lambda: mine.command("createUser", "eve", pwd="x" * 20, roles=["gapfactory_viewer"]),
            lambda: mine.command("grantRolesToUser", "pages", roles=["gapfactory_owner"]),
            lambda: mine.command("updateUser", "pages", pwd="x" * 20),
            lambda: pages.drop_database(database.name),
            lambda: pages.admin.command("shutdown"),
            lambda: pages.copper.labels.find_one({}),
        ):
            with pytest.raises(OperationFailure) as caught:
                action()
            assert caught.value.code == NOT_AUTHORISED, caught.value


def test_a_member_may_not_write_accounts_and_is_told(place, database, database_server):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings
    from launchpad.database.users import add_user, user_uri

    with MongoClient(database_server) as administrator:
        password = add_user(administrator, database.name, "maker", "member")
    group = Group("si", user_uri(database_server, database.name, "maker", password))
    app = create_app([group], DashboardSettings(), b"k" * 32, ticket="t")
    client = app.test_client()
    client.get("/login?ticket=t")
    answer = client.post("/g/si/users/add", data={"name": "x", "role": "viewer"}, headers=ORIGIN)
    assert answer.status_code == 503
    assert "takes the role dashboard or owner" in answer.text
    group.close()
    assert accounts.find_account(database, "x") is None
    assert [one.role for one in accounts.list_accounts(database)] == sorted(Role)
