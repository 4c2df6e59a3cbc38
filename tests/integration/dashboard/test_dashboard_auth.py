"""Logins, throttling, tokens and cookies, against people who try what they should not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from gapfactory.errors import InputError
from launchpad.dashboard.auth import accounts, tokens
from launchpad.dashboard.auth.access import Role
from launchpad.dashboard.auth.accounts import Account, find_account

ORIGIN = {"Sec-Fetch-Site": "same-origin"}
JSON = {"Accept": "application/json"}
PASSWORD = "correct horse battery"  # noqa: S105


def attempt(client, name, password="wrong password", address="192.0.2.1", group="si"):  # noqa: S107
    data = {"group": group, "name": name, "password": password}
    return client.post("/login", data=data, headers=ORIGIN, environ_base={"REMOTE_ADDR": address}).status_code


def bearer(text):
    return {"Authorization": f"Bearer {text}", **JSON}


def test_a_guesser_is_stopped_and_the_person_is_not(application, log_in):
    known = log_in("viewer")
    guesser = application.test_client()
    assert [attempt(guesser, "viewer") for _ in range(4)] == [401, 401, 401, 429]
    # neither is the right password looked at, from there
    assert attempt(guesser, "viewer", PASSWORD) == 429
    # another address, the same name: still open; the browser that was logged in before: always
    assert attempt(application.test_client(), "viewer", PASSWORD, "192.0.2.2") == 303
    for number in range(12):
        attempt(application.test_client(), "viewer", address=f"198.51.100.{number}")
    assert attempt(application.test_client(), "viewer", PASSWORD, "192.0.2.3") == 429
    known.post("/logout", headers=ORIGIN)
    assert attempt(known, "viewer", PASSWORD, "192.0.2.4") == 303
    # what makes it known is worth nothing for another name
    assert [attempt(known, "operator", address="192.0.2.9") for _ in range(4)] == [401, 401, 401, 429]


def test_an_address_that_tries_many_names_is_stopped(application):
    client = application.test_client()
    answers = [attempt(client, f"name{number}", address="2001:db8::1") for number in range(6)]
    assert answers == [401] * 6
    # the same customer's network, another address of it
    later = [attempt(client, f"other{number}", address=f"2001:db8::{number}") for number in range(5)]
    assert later[-1] == 429
    assert attempt(client, "viewer", PASSWORD, "2001:db8:0:1::1") == 303


def test_names_and_groups_that_do_not_exist_are_answered_alike(application):
    answers = {}
    for what, name, group in (
        ("known", "viewer", "si"),
        ("nobody", "nobody", "si"),
        ("nowhere", "viewer", "x"),
    ):
        seen = []
        for _ in range(4):
            answer = application.test_client().post(
                "/login",
                data={"group": group, "name": name, "password": "wrong password"},
                headers=ORIGIN,
                environ_base={"REMOTE_ADDR": f"203.0.113.{len(answers)}"},
            )
            text = answer.text.replace(f'value="{name}"', "")
            seen.append((answer.status_code, text, answer.headers.get("Set-Cookie")))
        answers[what] = seen
    assert answers["known"] == answers["nobody"] == answers["nowhere"]
    assert [status for status, _, _ in answers["known"]] == [401, 401, 401, 429]


def test_right_passwords_use_up_nothing(application):
    for _ in range(6):
        assert attempt(application.test_client(), "viewer", PASSWORD) == 303


def test_a_planted_cookie_is_worth_nothing_after_the_login(application, database):
    attacker = application.test_client()
    attempt(attacker, "viewer", PASSWORD)
    planted = attacker.get_cookie("gapfactory").value
    victim = application.test_client()
    victim.set_cookie("gapfactory", planted)
    attempt(victim, "admin", PASSWORD)
    assert victim.get_cookie("gapfactory").value != planted
    # the login that was planted has ended with the other one
    assert attacker.get("/g/si/", headers=JSON).status_code == 401
    assert database.dashboard_logins.count_documents({"login": {"$exists": True}}) == 1
    assert planted not in str(list(database.dashboard_logins.find()))


def test_a_login_needs_its_entry_and_its_signature(application, log_in, database):
    client = log_in("viewer")
    value = client.get_cookie("gapfactory").value
    forged = application.test_client()
    forged.set_cookie("gapfactory", value[:-2] + ("AA" if not value.endswith("AA") else "BB"))
    assert forged.get("/g/si/", headers=JSON).status_code == 401
    assert client.get("/g/si/").status_code == 200
    database.dashboard_logins.delete_many({"login": "viewer"})
    assert client.get("/g/si/", headers=JSON).status_code == 401


def test_a_login_ends_with_its_time(application, log_in, monkeypatch):
    client = log_in("viewer")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 12 * 3600 + 1)
    assert client.get("/g/si/", headers=JSON).status_code == 401


def test_the_ticket_of_another_dashboard_opens_nothing(database_uri, database):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    group = Group("si", database_uri)
    first = create_app([group], DashboardSettings(), b"k" * 32, ticket="first").test_client()
    assert first.get("/login?ticket=wrong").status_code == 200
    assert first.get("/g/si/", headers=JSON).status_code == 401
    assert first.get("/login?ticket=first").status_code == 302
    assert first.get("/g/si/").status_code == 200
    cookie = first.get_cookie("gapfactory").value
    for ticket in ("second", None):
        later = create_app([group], DashboardSettings(), b"k" * 32, ticket=ticket).test_client()
        later.set_cookie("gapfactory", cookie)
        assert later.get("/g/si/", headers=JSON).status_code == 401
    group.close()


def test_behind_tls_cookies_have_the_prefix_that_no_other_site_can_set(database_uri, database):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    accounts.add_account(database, "maria", PASSWORD, Role.VIEWER)
    group = Group("si", database_uri)
    settings = DashboardSettings(public_url="https://gap.example.org", proxies=1)
    client = create_app([group], settings, b"k" * 32).test_client()
    answer = client.post(
        "/login",
        data={"group": "si", "name": "maria", "password": PASSWORD},
        headers={"Origin": "https://gap.example.org", "X-Forwarded-Proto": "https"},
    )
    cookies = answer.headers.getlist("Set-Cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert cookie.startswith("__Host-gapfactory")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    group.close()


def test_tokens_may_at_most_what_their_owner_may(application, database):
    owner = find_account(database, "operator")
    with pytest.raises(InputError, match="more than yours"):
        tokens.make_token(database, owner, "script", Role.ADMIN, None)
    text, token = tokens.make_token(database, owner, "script", Role.OPERATOR, 1)
    client = application.test_client()
    assert client.get("/g/si/", headers=bearer(text)).status_code == 200
    assert tokens.account_of(database, text).role is Role.OPERATOR
    assert tokens.list_tokens(database, "operator")[0].used is not None
    # the hash alone is stored
    stored = str(list(database.dashboard_tokens.find()))
    assert text[4:16] in stored
    assert text[17:] not in stored
    accounts.set_role(database, "operator", Role.VIEWER)
    assert tokens.account_of(database, text).role is Role.VIEWER
    tokens.remove_token(database, token.id)
    assert client.get("/g/si/", headers=bearer(text)).status_code == 401


def test_a_token_that_is_none_opens_nothing(application, database, log_in, monkeypatch):
    owner = Account("admin", Role.ADMIN, 1)
    text, _ = tokens.make_token(database, owner, "script", Role.ADMIN, 1)
    client = application.test_client()
    changed = text[:-1] + ("A" if text[-1] != "A" else "B")
    for given in ("", "x", changed, text + "A", "gft_000000000000_" + "A" * 43, "gft_" + "\u0660" * 12, "ä"):
        assert client.get("/g/si/", headers=bearer(given)).status_code == 401, given
    # whoever sends a bad token is not let in by a cookie that came along
    assert log_in("admin").get("/g/si/", headers=bearer("x")).status_code == 401
    accounts.remove_account(database, "admin")
    accounts.add_account(database, "admin", PASSWORD, Role.ADMIN)
    assert client.get("/g/si/", headers=bearer(text)).status_code == 401
    text, _ = tokens.make_token(database, owner, "script", Role.VIEWER, 1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_401)
    assert client.get("/g/si/", headers=bearer(text)).status_code == 401


def test_an_admin_manages_accounts(application, log_in, database):
    admin = log_in("admin")

    def send(path, **data):
        return admin.post(f"/g/si/users/{path}", data=data, headers=ORIGIN)

    made = send("add", name="maria", role="operator")
    assert made.headers["Cache-Control"] == "no-store"
    password = made.text.partition("maria is <code>")[2].partition("</code>")[0]
    maria = application.test_client()
    assert attempt(maria, "maria", password) == 303
    assert password not in admin.get("/g/si/users/").text
    assert send("add", name="maria", role="viewer").status_code == 400
    assert send("add", name="eve", role="owner").status_code == 400
    text, _ = tokens.make_token(database, find_account(database, "maria"), "script", Role.OPERATOR, 1)
    fresh = send("password", name="maria").text.partition("maria is <code>")[2].partition("</code>")[0]
    assert maria.get("/g/si/", headers=JSON).status_code == 401
    assert tokens.account_of(database, text) is None
    assert attempt(maria, "maria", fresh) == 303
    assert send("role", name="maria", role="viewer").status_code == 303
    assert maria.get("/g/si/", headers=JSON).status_code == 401
    # somebody has to be left who can do this
    assert send("role", name="admin", role="viewer").status_code == 400
    assert send("remove", name="admin", confirmed="yes").status_code == 400
    assert "Remove maria?" in send("remove", name="maria").text
    assert find_account(database, "maria") is not None
    send("remove", name="maria", confirmed="yes")
    assert find_account(database, "maria") is None
    trail = admin.get("/g/si/audit/").text
    assert trail.count("dashboard.account") == 3 + 4
    assert "admin (dashboard) as" in trail
    assert fresh not in trail


def test_everybody_changes_the_own_password_and_makes_tokens(application, log_in, database):
    client, elsewhere = log_in("operator"), log_in("operator")

    def send(path, **data):
        return client.post(f"/g/si/account/{path}", data=data, headers=ORIGIN)

    made = send("token", name="script", role="operator", days="1").text
    text = made.partition("The token is <code>")[2].partition("</code>")[0]
    assert client.get("/g/si/account/").text.count(text) == 0
    assert application.test_client().get("/g/si/api/v1/queue", headers=bearer(text)).status_code == 200
    assert send("token", name="more", role="admin", days="1").status_code == 400
    # a token is not enough to make another one, or to change the password
    for path, data in (("token", {"name": "x", "role": "viewer"}), ("password", {"present": PASSWORD})):
        answer = application.test_client().post(f"/g/si/account/{path}", data=data, headers=bearer(text))
        assert answer.status_code == 403
    # one's own tokens only
    other, token = tokens.make_token(database, find_account(database, "viewer"), "x", Role.VIEWER, 1)
    assert send("token/remove", id=token.id).status_code == 404
    assert tokens.account_of(database, other) is not None
    new = "another password"
    assert send("password", present="wrong", wanted=new, again=new).status_code == 400
    assert send("password", present=PASSWORD, wanted=new, again="not the same").status_code == 400
    assert send("password", present=PASSWORD, wanted="short", again="short").status_code == 400
    assert send("password", present=PASSWORD, wanted=new, again=new).status_code == 303
    # what a thief may have made with the old one has ended too
    assert tokens.account_of(database, text) is None
    # three tries are the limit of this dashboard, one was wrong; those with the right password count for nothing
    assert client.get("/g/si/account/").status_code == 200
    assert elsewhere.get("/g/si/", headers=JSON).status_code == 401
    assert attempt(application.test_client(), "operator", new) == 303
    send("logins/end")
    assert client.get("/g/si/", headers=JSON).status_code == 401


def test_tls_without_a_proxy_is_refused():
    from typer.testing import CliRunner

    from launchpad.cli.dashboard import app

    result = CliRunner().invoke(app, ["run", "--login", "--public-url", "https://gap.example.org"])
    assert isinstance(result.exception, InputError)
    assert "--proxies 1" in str(result.exception)


def test_the_command_line_is_audited_and_ends_what_was_open(application, log_in, database, database_uri):
    """Like the browser: who may no longer, is out at once, by login and by token."""
    from launchpad.database.audit import read_audit

    def run(*words, given=""):
        subprocess.run(
            [sys.executable, "-m", "launchpad.cli", "dashboard", "users", *words],
            input=given,
            text=True,
            env=os.environ | {"GAPFACTORY_DB": database_uri},
            check=True,
        )

    def opened(name, password):
        client = application.test_client()
        assert attempt(client, name, password) == 303
        text, _ = tokens.make_token(database, find_account(database, name), "x", Role.VIEWER, 1)
        assert client.get("/g/si/").status_code == 200
        assert application.test_client().get("/g/si/", headers=bearer(text)).status_code == 200
        return client, text

    def over(client, text):
        assert client.get("/g/si/", headers=JSON).status_code == 401
        assert application.test_client().get("/g/si/", headers=bearer(text)).status_code == 401
        assert database.dashboard_logins.count_documents({"_id": f"token:{text[4:16]}"}) == 0

    run("add", "maria", "--role", "operator", given=f"{PASSWORD}\n")
    client, text = opened("maria", PASSWORD)
    run("password", "maria", given="another password\n")
    over(client, text)
    client, text = opened("maria", "another password")
    run("role", "maria", "--role", "viewer")
    assert client.get("/g/si/", headers=JSON).status_code == 401
    # a token is never more than its owner may now: it need not end
    assert application.test_client().get("/g/si/", headers=bearer(text)).status_code == 200
    client, text = opened("maria", "another password")
    run("remove", "maria")
    over(client, text)
    # nor do they come back with another account of the name
    run("add", "maria", given=f"{PASSWORD}\n")
    over(client, text)
    found = [entry for entry in read_audit(database) if entry.details.get("name") == "maria"]
    assert [(entry.event, entry.who, entry.details["what"]) for entry in found] == [
        ("dashboard.account", "local", what)
        for what in ("made", "given a new password", "given a role", "removed", "made")
    ]
    assert [entry.details.get("role") for entry in found] == ["operator", None, "viewer", None, "viewer"]
    assert "password" not in str([entry.details for entry in found]).replace("new password", "")


def test_a_login_under_way_does_not_reach_the_next_account_of_the_name(application, database, monkeypatch):
    """Somebody whose password was right a moment before the account was removed."""
    from launchpad.dashboard.pages import login

    right = accounts.check_password

    def slow(found, name, password):
        account = right(found, name, password)
        accounts.remove_account(found, name)
        return account

    monkeypatch.setattr(login, "check_password", slow)
    client = application.test_client()
    assert attempt(client, "operator", PASSWORD) == 303
    assert client.get("/g/si/", headers=JSON).status_code == 401
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 5)
    accounts.add_account(database, "operator", PASSWORD, Role.ADMIN)
    assert client.get("/g/si/", headers=JSON).status_code == 401
