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
        values = {"group": "si"} | dict.fromkeys(rule.arguments - {"group"}, "1")
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
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
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


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "/g/\\evil", "javascript:alert(1)"],
)
def test_the_login_leads_nowhere_else(application, target):
    client = application.test_client()
    data = {"group": "si", "name": "viewer", "password": PASSWORD, "next": target}
    answer = client.post("/login", data=data, headers=ORIGIN)
    assert answer.headers["Location"] == "/g/si/"


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
