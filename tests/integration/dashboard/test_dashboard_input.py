"""Nothing that is sent becomes part of a question to the database, on whatever route and in whatever field."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from pymongo import monitoring
from werkzeug.datastructures import ImmutableMultiDict

from launchpad.dashboard.auth.access import Role

ORIGIN = {"Sec-Fetch-Site": "same-origin"}
JSON = {"Accept": "application/json"}
PASSWORD = "correct horse battery"  # noqa: S105
MARK = "$gfmark"
#: Values that would be operators if somebody parsed them.
NASTY = (
    MARK,
    json.dumps({MARK: ""}),
    json.dumps([{MARK: 1}]),
    "$ne",
    '{"$gt":""}',
    "/.*/",
    "'; return true; '",
)


class Watch(monitoring.CommandListener):
    """Notes the commands in which something that was sent is a key."""

    def __init__(self):
        self.found = []
        self.seen = 0

    def started(self, event):
        self.seen += 1
        if _marked(event.command):
            self.found.append(event.command)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def _marked(value):
    if isinstance(value, dict):
        return any("gfmark" in str(key) or _marked(one) for key, one in value.items())
    return isinstance(value, list | tuple) and any(map(_marked, value))


@pytest.fixture
def watch():
    """What the dashboard's clients ask, which are made at its first request."""
    made = Watch()
    listeners = monitoring._LISTENERS.command_listeners
    listeners.append(made)
    yield made
    listeners.remove(made)


@pytest.fixture
def asked(stocked):
    """The names of arguments and fields that the last request's view looked at."""
    names = set()

    class Recording(ImmutableMultiDict):
        def get(self, key, *args, **kwargs):
            names.add(key)
            return super().get(key, *args, **kwargs)

        def getlist(self, key, *args, **kwargs):
            names.add(key)
            return super().getlist(key, *args, **kwargs)

    class Request(stocked.request_class):
        parameter_storage_class = Recording

    stocked.request_class = Request
    return names


def paths(app):
    """Every route outside the JSON interface with a path that leads somewhere, and its method."""
    given = {
        "campaign": "one",
        "name": "one",
        "generation": 0,
        "fw_id": 1,
        "kind": "cif",
        "filename": "app.js",
    }
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        values = {name: given.get(name, "one/g000/cell/000000") for name in rule.arguments}
        values |= {"group": "si"} if "group" in rule.arguments else {}
        for method in sorted(rule.methods & {"GET", "POST"}):
            if (
                rule.endpoint not in {"login.leave", "users.end_logins", "static"}
                and "/api/" not in rule.rule
            ):
                yield app.url_map.bind("localhost").build(rule.endpoint, values, method=method), method, rule


def test_no_field_of_any_page_reaches_a_question(stocked, watch, asked, log_in, database):
    """The fields are those that the views themselves ask for: a new one is tried by itself."""
    client = log_in("admin")
    tried = 0

    def send(path, method, fields):
        answer = client.open(
            path,
            method=method,
            query_string=fields if method == "GET" else None,
            data=fields if method == "POST" else None,
            headers=ORIGIN | JSON,
        )
        assert answer.status_code < 500, (path, fields, answer.text)

    for path, method, _ in paths(stocked):
        asked.clear()
        send(path, method, {})
        send(path, method, {"confirmed": "yes", "action": "priority", "role": "viewer", "scope": "filter"})
        for name in sorted(asked):
            for value in NASTY:
                rest = {"confirmed": "yes", "action": "pause", "role": "viewer"} if method == "POST" else {}
                send(path, method, rest | {name: value})
                tried += 1
            for key in (f"{name}[{MARK}]", f"{name}.{MARK}", f"{MARK}.{name}"):
                send(path, method, {key: "1"})
    assert tried > 200
    assert watch.seen > 1000
    assert watch.found == []
    assert {one["_id"] for one in database.dashboard_users.find()} == set(map(str, Role))


def test_no_argument_or_body_of_the_interface_reaches_a_question(stocked, watch, log_in, database):
    from launchpad.dashboard.api.openapi import description

    client = log_in("operator")
    described = description()
    before = {one["fw_id"]: one["state"] for one in database.fireworks.find()}
    for path, methods in described["paths"].items():
        for method, found in methods.items():
            for value in NASTY:
                place = path.replace("{group}", "si")
                for one in found["parameters"]:
                    if one["in"] == "path" and one["name"] != "group":
                        place = place.replace(f"{{{one['name']}}}", quote(value, safe=""))
                names = [one["name"] for one in found["parameters"] if one["in"] == "query"]
                wanted = [{name: value} for name in names] + [{f"{name}[{MARK}]": "1"} for name in names]
                for query in [{}, *wanted]:
                    bodies = [None]
                    if "requestBody" in found:
                        reference = found["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                        fields = described["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]
                        bodies = [{name: {MARK: value}} for name in fields]
                        bodies += [{name: [{MARK: value}]} for name in fields] + [{MARK: value}]
                    for body in bodies:
                        answer = client.open(
                            place, method=method.upper(), query_string=query, json=body, headers=ORIGIN
                        )
                        assert answer.status_code in {200, 308, 400, 404, 409}, (
                            place,
                            query,
                            body,
                            answer.text,
                        )
    assert watch.seen > 100
    assert watch.found == []
    assert {one["fw_id"]: one["state"] for one in database.fireworks.find()} == before


LOGINS = (
    {"name[$ne]": "x", "password[$ne]": "x"},
    {"name": '{"$ne": null}', "password": '{"$ne": null}'},
    {"name": "$ne", "password": "$ne"},
    {"name": ".*", "password": ".*"},
    {"name": "admin\x00", "password": PASSWORD},
    {"name": "admin' || '1'=='1", "password": "' || '1'=='1"},
)


def test_nobody_logs_in_by_an_operator(application):
    client = application.test_client()
    for number, data in enumerate(LOGINS):
        for kind in ("data", "json"):
            answer = client.post(
                "/login",
                headers=ORIGIN,
                environ_base={"REMOTE_ADDR": f"192.0.2.{number}"},
                **{kind: {"group": "si"} | data},
            )
            assert answer.status_code == 401, data
            assert client.get("/g/si/", headers=JSON).status_code == 401


MALFORMED = (
    *(
        b"{",
        b'{"a":' * 20_000,
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b'{"ids":["\\ud800"]}',
        b'{"ids":[1e999]}',
        b"NaN",
    ),
    b'{"action":"pause","ids":[' + b"1," * 2000 + b"1]}",
    b'{"action":"pause","action":"cancel","ids":[1],"x":1}',
    *(b"null", b'"a"', b"[]", b""),
)


def test_a_malformed_body_is_refused(stocked, log_in):
    client = log_in("operator")
    for body in MALFORMED:
        answer = client.post(
            "/g/si/api/v1/tasks/actions", data=body, headers=ORIGIN, content_type="application/json"
        )
        assert answer.status_code == 400, (body[:30], answer.text)
        assert set(answer.json["error"]) == {"code", "message"}


def test_oversized_input_is_refused_quickly(stocked, log_in):
    """A million fields, and as many as a body may hold; one field that is too long; too many parts."""
    import time

    client = log_in("operator")
    start = time.process_time()  # of this process, which is the server: others may be busy
    form = "application/x-www-form-urlencoded"
    for path in ("/login", "/g/si/queue/act", "/g/si/api/v1/tasks/actions"):
        for body in (b"a&" * 10**6, b"id=" + b"1" * 300_000):
            kind = "application/json" if "/api/" in path else form
            assert client.post(path, data=body, headers=ORIGIN, content_type=kind).status_code == 413
        parts = b"".join(
            b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' % k for k in range(3000)
        )
        answer = client.post(
            path, data=parts + b"--x--", headers=ORIGIN, content_type="multipart/form-data; boundary=x"
        )
        assert answer.status_code in {413, 415}
    full = b"&".join(b"id=%d" % k for k in range(30_000))
    answer = client.post("/g/si/queue/act", data=b"action=pause&" + full, headers=ORIGIN, content_type=form)
    assert answer.status_code == 400
    assert "500" in answer.text
    assert time.process_time() - start < 10


TRAVERSALS = (
    *(
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
    ),
    *(
        "....//....//etc/passwd",
        "..\\..\\etc\\passwd",
        "..%5c..%5cetc%5cpasswd",
        "%252e%252e%252fetc%252fpasswd",
    ),
    *(
        "file:///etc/passwd",
        "vendor/../../app.py",
        "..;/app.py",
        "app.js/../../../app.py",
        "%00/etc/passwd",
        "~root",
    ),
    *(
        "../security.py",
        "%2e%2e/settings.py",
        "vendor/..%2f..%2fsettings.py",
        "./././../app.py",
        "C:/Windows/win.ini",
    ),
)


def test_no_path_leads_to_a_file_of_the_machine(stocked, log_in):
    """Of every route that has a part of free text: static files, downloads, charts, structures, tasks."""
    client = log_in("admin")
    asked = 0
    for rule in stocked.url_map.iter_rules():
        free = [name for name in rule.arguments - {"group"} if "int:" + name not in rule.rule]
        for name in free if "GET" in rule.methods else ():
            for text in TRAVERSALS:
                place = rule.rule.replace("<group>", "si")
                for other in rule.arguments - {"group", name}:
                    for kind in ("", "int:", "path:"):
                        place = place.replace(f"<{kind}{other}>", {"kind": "cif"}.get(other, "0"))
                for kind in ("", "path:"):
                    place = place.replace(f"<{kind}{name}>", text)
                answer = client.get(place)
                asked += 1
                assert answer.status_code in {200, 302, 308, 400, 404}, (place, answer.status_code)
                assert "root:" not in answer.text, place
                assert "from __future__" not in answer.text, place
                assert "etc/passwd" not in answer.headers.get("Content-Disposition", ""), place
    assert asked > 150


NAMES = (
    'one/g000/cell/000001"; filename="x.html',
    "one/g000/cell/000001\r\nSet-Cookie: x=1",
    "one/g000/cell/../../../etc/passwd",
    "one/g000/cell/000001\x00.html",
    "one/g000/cell/\u202egpj.exe",
    "one/g000/cell/" + "a" * 400,
)


def test_what_is_stored_gets_into_no_header(stocked, log_in, database):
    """A hostile account of a worker may have stored it."""
    row = database.structures.find_one({})
    client = log_in("viewer")
    given = 0
    for number, name in enumerate(NAMES):
        database.structures.insert_one(row | {"_id": name, "index": 100 + number, "hash": f"{number:064x}"})
        for kind in ("extxyz", "cif"):
            answer = client.get(f"/g/si/structures/file/{kind}/{quote(name)}")
            assert answer.status_code in {200, 400, 404}, (name, answer.text)
            if answer.status_code == 200:
                given += 1
                disposition = answer.headers["Content-Disposition"]
                assert disposition.startswith('attachment; filename="')
                inner = disposition.removeprefix('attachment; filename="').removesuffix('"')
                assert set(inner) <= set(
                    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
                ), inner
                assert len(inner) < 200
            assert "Set-Cookie" not in answer.headers
        page = client.get(f"/g/si/structures/of/{quote(name)}")
        assert page.status_code in {200, 400, 404}, name
    assert given > 2


def test_names_with_line_ends_are_none(application, log_in, database):
    """Of accounts and tokens; what an account is called gets into logs and pages."""
    client = log_in("admin")
    for name in (
        "a\r\nb",
        "a\nSet-Cookie: x=1",
        "a b",
        "<b>",
        "a" * 65,
        "(this computer)",
        "\u0430dmin",
        "",
        "1a",
        "a\x00",
    ):
        answer = client.post("/g/si/users/add", data={"name": name, "role": "viewer"}, headers=ORIGIN)
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (400, False), name
    for name in ("a\r\nb", "\u202e", "", "a" * 61, "a\x00"):
        data = {"name": name, "role": "viewer", "days": "1"}
        assert client.post("/g/si/account/token", data=data, headers=ORIGIN).status_code == 400, name
    for days in ("nan", "inf", "-1", "0", "1e9", "3651", "x"):
        data = {"name": "x", "role": "viewer", "days": days}
        assert client.post("/g/si/account/token", data=data, headers=ORIGIN).status_code == 400, days
    for header in (
        {"Accept": "a\r\nb"},
        {"User-Agent": "\xff"},
        {"If-None-Match": '"' * 2000},
        {"Range": "bytes=0-0,1-1"},
    ):
        try:
            answer = client.get("/g/si/", headers=header)
        except ValueError:
            continue  # such a header cannot even be sent
        assert answer.status_code < 500, header
