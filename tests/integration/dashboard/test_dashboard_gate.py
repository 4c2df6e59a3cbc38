"""Nobody sees or does anything that the gate does not let through, on whatever route."""

from __future__ import annotations

import pytest

from launchpad.dashboard.auth.access import Permission, Role, allows, declared, undeclared

PAGE = {"Accept": "text/html"}
ORIGIN = {"Sec-Fetch-Site": "same-origin"}
PASSWORD = "correct horse battery"  # noqa: S105


def routes(app):
    """Every route with a path that can be asked, its method, and what it needs."""
    for rule in app.url_map.iter_rules():
        values = {name: "si" if name == "group" else "1" for name in rule.arguments}
        with app.test_request_context():
            path = app.url_map.bind("localhost").build(rule.endpoint, values, method=min(rule.methods))
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield method, path, declared(app.view_functions[rule.endpoint])


def test_every_route_declares_what_it_needs(application):
    assert undeclared(application) == []
    needed = [permission for _, _, permission in routes(application)]
    assert Permission.READ in needed


def test_without_login_nothing_is_shown(application, log_in):
    for method, path, permission in routes(application):
        if permission is None:
            continue
        answer = log_in().open(path, method=method, headers=ORIGIN | {"Accept": "application/json"})
        assert answer.status_code == 401, (method, path)
        page = log_in().open(path, method=method, headers=ORIGIN | {"Accept": "text/html"})
        assert page.status_code == (302 if method == "GET" and "/api/" not in path else 401), (method, path)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_does_what_it_may_and_no_more(application, log_in, role):
    client = log_in(str(role))
    for method, path, permission in routes(application):
        if permission is None:
            continue
        answer = client.open(path, method=method, headers=ORIGIN)
        if path.endswith("/logins/end"):
            client = log_in(str(role))
        if allows(role, permission):
            assert answer.status_code not in {401, 403, 500}, (method, path)
        else:
            assert answer.status_code == 403, (method, path)


def test_changes_from_other_sites_are_refused(application, log_in):
    client = log_in("admin")
    for method, path, _ in routes(application):
        if method == "GET":
            continue
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": ""},
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
            {"Sec-Fetch-Site": "same-origin, cross-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "null", "Referer": "http://localhost/g/si/"},
            {"Origin": "https://localhost"},
            {"Origin": "http://localhost:8080"},
            {"Origin": "http://localhost@evil.example"},
            {"Origin": "http://["},
            {"Referer": "http://localhost.evil.example/"},
            {},
        ):
            assert client.open(path, method=method, headers=headers).status_code == 403, (
                method,
                path,
                headers,
            )


def test_login_ends_with_password_role_time_and_logout(application, log_in, database):
    from launchpad.dashboard.auth import accounts

    client = log_in("viewer")
    assert client.get("/g/si/").status_code == 200
    accounts.change_password(database, "viewer", "another password")
    assert client.get("/g/si/", headers=PAGE).status_code == 302

    client = log_in("operator")
    accounts.set_role(database, "operator", Role.VIEWER)
    assert client.get("/g/si/", headers=PAGE).status_code == 302

    client = log_in("admin")
    kept = client.get_cookie("gapfactory").value
    client.post("/logout", headers=ORIGIN)
    assert client.get("/g/si/", headers=PAGE).status_code == 302
    # a copy of the cookie is worth nothing either
    client.set_cookie("gapfactory", kept)
    assert client.get("/g/si/", headers=PAGE).status_code == 302


def test_cookies_and_headers(application, log_in):
    client = application.test_client()
    answer = client.post(
        "/login", data={"group": "si", "name": "viewer", "password": PASSWORD}, headers=ORIGIN
    )
    cookies = {text.partition("=")[0]: text for text in answer.headers.getlist("Set-Cookie")}
    assert set(cookies) == {"gapfactory", "gapfactory-browser"}
    assert all("HttpOnly" in text and "Path=/" in text and "Domain" not in text for text in cookies.values())
    assert "SameSite=Lax" in cookies["gapfactory"]
    assert "SameSite=Strict" in cookies["gapfactory-browser"]
    page = client.get("/g/si/")
    assert "Set-Cookie" not in page.headers
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"


ELSEWHERE = (
    *("https://evil.example/", "//evil.example", "/\\evil.example", "/g/\\evil", "javascript:alert(1)"),
    *("https:evil.example", "///evil.example", "//evil.example/g/", "\t//evil.example", "/\t/evil.example"),
    *("/g/si/\r\nSet-Cookie: x=1", "/g/\u2028", "http://[", "/login", "/logout", "g/si/", "/g/" + "a" * 3000),
    *("@evil.example", "http://localhost@evil.example/g/", "/%67/si/"),
)


@pytest.mark.parametrize("where", ["form", "address"])
def test_the_login_leads_nowhere_else(application, where):
    client = application.test_client()
    for target in ELSEWHERE:
        data = {"group": "si", "name": "viewer", "password": PASSWORD}
        if where == "address":
            shown = client.get("/login", query_string={"next": target}).text
            assert 'name="next" value=""' in shown, target
            continue
        answer = client.post("/login", data=data | {"next": target}, headers=ORIGIN)
        assert answer.headers["Location"] == "/g/si/", target


def test_an_operator_leads_back_to_this_group(application, log_in):
    data = {"group": "si", "name": "viewer", "password": PASSWORD, "next": "/g/si/queue?state=READY"}
    answer = application.test_client().post("/login", data=data, headers=ORIGIN)
    assert answer.headers["Location"] == "/g/si/queue?state=READY"


def test_a_page_of_ours_may_change_something(application, log_in):
    """By whatever a browser sends: the check refuses others, and nobody of ours."""
    for headers in (
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost"},
        {"Referer": "http://localhost/g/si/"},
    ):
        assert log_in("operator").post("/g/si/account/logins/end", headers=headers).status_code == 303


def test_looking_changes_nothing(stocked, log_in, database):
    """What a link on another site can make a browser ask for."""
    kept = (
        "campaigns",
        "fireworks",
        "workflows",
        "structures",
        "labels",
        "dashboard_users",
        "dashboard_tokens",
        "audit",
    )

    def state():
        return {name: sorted(map(str, database[name].find())) for name in kept}

    both = [rule.rule for rule in stocked.url_map.iter_rules() if {"GET", "POST"} <= rule.methods]
    assert both == []
    client = log_in("admin")
    before = state()
    for method, path, _ in routes(stocked):
        if method == "GET":
            query = {
                "confirmed": "yes",
                "action": "cancel",
                "ids": "1",
                "id": "1",
                "name": "viewer",
                "role": "admin",
            }
            client.get(path, query_string=query, headers={"Sec-Fetch-Site": "cross-site"})
    assert state() == before


def test_what_is_of_a_group_is_kept_by_no_cache(stocked, log_in):
    client = log_in("admin")
    for method, path, permission in routes(stocked):
        if path.startswith("/static/") or path.endswith(("/logout", "/logins/end")):
            continue
        for one in (client, stocked.test_client()):
            answer = one.open(path, method=method, headers=ORIGIN)
            policy = answer.headers["Cache-Control"]
            assert "private" in policy or "no-store" in policy, (path, policy)
            assert "public" not in policy
            assert "max-age" not in policy
            if permission is not None:
                assert "Cookie" in answer.headers.get("Vary", ""), path
    for path in ("/g/si/users/", "/g/si/account/"):
        assert client.get(path).headers["Cache-Control"] == "no-store"


HOSTS = (
    "evil.example",
    "a b",
    "<script>",
    "[::1",
    "localhost:99999999",
    "x" * 3000,
    "evil.example/g/si/",
    "é",
)


def test_the_host_of_a_request_is_believed_nowhere(application, log_in):
    """Neither in redirections nor in pages: caches would keep what an outsider made of them."""
    client = log_in("viewer")
    for host in HOSTS:
        for path in (
            "/g/si",
            "/g/si/structures",
            "/",
            "/g/si/",
            "/login",
            "/g/other/",
            "/nowhere",
            "/g/si/api/v1/queue",
        ):
            answer = client.get(
                path,
                headers={"Accept": "text/html"},
                environ_overrides={"HTTP_HOST": host.encode().decode("latin-1")},
            )
            assert answer.status_code < 500, (host, path)
            assert answer.headers.get("Location", "/").startswith("/")
            assert not answer.headers.get("Location", "/").startswith("//")
            assert "evil.example" not in answer.text + str(answer.headers), (host, path)


@pytest.mark.parametrize("proxies", [0, 1])
def test_forwarded_headers_are_believed_of_the_proxies_alone(database_uri, database, proxies):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    group = Group("si", database_uri)
    limits = {"login_failures": 100, "login_failures_name": 100, "login_failures_address": 3}
    app = create_app([group], DashboardSettings(proxies=proxies, **limits), b"k" * 32)
    client = app.test_client()

    def attempt(forwarded):
        """As one outsider at one address, who names whatever others; the proxy adds the true one."""
        headers = ORIGIN | {"X-Forwarded-For": f"{forwarded}, 192.0.2.1" if proxies else forwarded}
        data = {"group": "si", "name": "x", "password": "wrong password"}
        return client.post("/login", data=data, headers=headers).status_code

    assert [attempt(f"198.51.100.{number}") for number in range(5)] == [401, 401, 401, 429, 429]
    for name, value in {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "//evil.example",
        "X-Forwarded-Port": "1",
        "Forwarded": "host=evil.example",
        "X-Original-URL": "/g/si/users/",
        "X-Rewrite-URL": "/g/si/users/",
    }.items():
        answer = client.get("/g/si", headers={name: value, "Accept": "text/html"})
        assert (answer.status_code, answer.headers["Location"]) == (308, "/g/si/"), name
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        headers = ORIGIN | {"X-HTTP-Method-Override": "POST"}
        assert client.open("/login", method=method, headers=headers).status_code == 405
    group.close()


def test_an_unknown_group_looks_like_a_closed_one(application, log_in):
    client = log_in("viewer")
    known = application.test_client().get("/g/si/", headers={"Accept": "application/json"})
    unknown = client.get("/g/other/", headers={"Accept": "application/json"})
    assert (known.status_code, known.json) == (unknown.status_code, unknown.json)


def test_an_unchanged_part_of_a_page_is_not_sent_again(application, log_in):
    client = log_in("viewer")
    first = client.get("/g/si/overview/now")
    again = client.get("/g/si/overview/now", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")
