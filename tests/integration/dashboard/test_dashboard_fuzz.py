"""Whatever is sent to whichever route, the dashboard answers, and never with a fault of its own.

Inputs are drawn by hypothesis from the API's description and from what breaks parsers, always the same ones.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ORIGIN = {"Sec-Fetch-Site": "same-origin"}
BOUNDED = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NASTY = st.sampled_from(
    [
        "", " ", "0", "-1", "1e308", "1e999", "nan", "inf", "9" * 30, "9" * 5000, "null", "true", "{}", "[]",
        "$ne", '{"$gt":""}', "[$ne]", "\x00", "a\x00b", "\r\nSet-Cookie: x=1", "%00", "%0d%0a", "%", "%zz", "%ff",
        "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "\\\\host\\share", "....//", "file:///etc/passwd",
        "\ud7ff", "\U0010ffff", "\u202e", "ä", "\u0661", "<script>", "{{7*7}}", "' or 1=1", "a" * 10_000, "one",
        "one/g000/cell/000000", "W10=", "W1siaSIsOTk5OTk5OTk5OTk5OTk5OTk5OTk5XSxbImkiLDFdXQ==",
    ]
)  # fmt: skip
TEXT = st.one_of(NASTY, st.text(max_size=30))
RAW = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"{", b"[" * 50_000, b'{"labels":["\\ud800"]}', b'{"labels":[1e999]}', b'{"a":' * 5000]
    ),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)


def of_schema(schema):
    """Draw texts that the description allows, and others."""
    if "enum" in schema:
        return st.one_of(st.sampled_from([str(one) for one in schema["enum"]]), TEXT)
    if schema.get("type") == "array":
        return of_schema(schema["items"])
    if schema.get("type") in {"integer", "number"}:
        return st.one_of(st.integers().map(str), st.floats().map(str), TEXT)
    return TEXT


def of_body(model, schemas):
    """Draw bodies whose keys are those of the description."""
    names = list(schemas[model]["properties"])
    values = st.one_of(st.none(), TEXT, st.lists(TEXT, max_size=3), st.integers(), st.floats(allow_nan=False))
    return st.one_of(
        st.dictionaries(st.sampled_from(names), values).map(lambda value: json.dumps(value).encode()), RAW
    )


def operations():
    from launchpad.dashboard.api import routes
    from launchpad.dashboard.api.openapi import description

    assert routes.blueprint is not None
    described = description()
    return [
        pytest.param(path, method, found, described["components"]["schemas"], id=found["operationId"])
        for path, methods in described["paths"].items()
        for method, found in methods.items()
    ]


def check(answer, allowed):
    assert answer.status_code < 500, answer.text
    assert str(answer.status_code) in allowed, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert set(answer.json["error"]) == {"code", "message"}
    assert "\n" not in str(dict(answer.headers))
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(("path", "method", "found", "schemas"), operations())
def test_the_api_answers_whatever_is_asked(stocked, log_in, path, method, found, schemas):
    client = log_in("operator")
    queries = {one["name"]: of_schema(one["schema"]) for one in found["parameters"] if one["in"] == "query"}
    parts = {one["name"]: of_schema(one["schema"]) for one in found["parameters"] if one["in"] == "path"}
    parts["group"] = st.just("si")
    if "name" in parts:
        parts["name"] = st.one_of(st.just("one"), TEXT)
    if "number" in parts:
        parts["number"] = st.one_of(st.sampled_from(["0", "1"]), parts["number"])
    bodies = st.just(b"")
    if "requestBody" in found:
        reference = found["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        bodies = of_body(reference.rsplit("/", 1)[1], schemas)
    allowed = {*found["responses"], "308", "405"}

    @BOUNDED
    @given(
        st.fixed_dictionaries(parts),
        st.fixed_dictionaries({}, optional=queries),
        st.dictionaries(TEXT, TEXT, max_size=1),
        bodies,
    )
    def ask(given_parts, arguments, others, body):
        place = path
        for name, value in given_parts.items():
            place = place.replace(f"{{{name}}}", quote(value, safe="", errors="replace"))
        query = "&".join(
            f"{quote(k, errors='replace')}={quote(v, errors='replace')}"
            for k, v in (arguments | others).items()
        )
        answer = client.open(
            place,
            method=method.upper(),
            query_string=query,
            data=body,
            content_type="application/json",
            headers=ORIGIN | {"Accept": "application/json"},
        )
        check(answer, allowed)

    ask()


def ask_page(client, rule, method):
    """Send a route any text in any part of the path, any argument, any form."""
    names = sorted(rule.arguments - {"group"})
    keys = st.one_of(st.sampled_from(["sort", "after", "size", "next", "group"]), TEXT)
    fields = st.one_of(st.sampled_from(["ids", "id", "action", "name", "role", "password", "days"]), TEXT)

    @settings(BOUNDED, max_examples=12)
    @given(
        st.lists(TEXT, min_size=len(names), max_size=len(names)),
        st.dictionaries(keys, TEXT, max_size=4),
        st.dictionaries(fields, TEXT, max_size=4),
    )
    def ask(values, arguments, form):
        place = rule.rule.replace("<group>", "si")
        for name, value in zip(names, values, strict=True):
            for kind in ("", "int:", "path:", "string:", "float:"):
                place = place.replace(f"<{kind}{name}>", quote(value, safe="", errors="replace"))
        answer = client.open(
            place,
            method=method,
            query_string=arguments,
            data=form if method == "POST" else None,
            headers=ORIGIN,
        )
        assert answer.status_code < 500, (method, place, answer.text)
        assert "\n" not in "".join(str(value) for value in answer.headers.values())

    ask()


def test_every_route_answers_whatever_is_asked(stocked, log_in):
    client = log_in("admin")
    rules = [rule for rule in stocked.url_map.iter_rules() if not rule.endpoint.startswith("api.")]
    for rule in sorted(rules, key=lambda rule: rule.rule):
        for method in sorted(rule.methods & {"GET", "POST"}):
            if rule.endpoint not in {"login.leave", "users.end_logins"}:
                ask_page(client, rule, method)
    # it was this person all the time
    assert client.get("/g/si/users/").status_code == 200


@pytest.fixture
def server(stocked, database_uri):
    """A real server process on a free port, and that port: whoever connects waits until it answers."""
    code = (
        "import sys; from launchpad.dashboard.serve import free_address, serve\n"
        "from launchpad.dashboard.settings import DashboardSettings\n"
        "s = DashboardSettings(port=0, processes=1, threads=2, request_log=True, silence_s=2)\n"
        "listening = free_address(s); print(listening.getsockname()[1], flush=True)\n"
        "serve({'si': sys.argv[1]}, s, b'k' * 32, listening, ticket='SECRETTICKET')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, database_uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    yield int(process.stdout.readline()), process
    process.kill()
    process.wait()


def raw(port, request):
    with socket.create_connection(("127.0.0.1", port), 120) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65536):
            found += part
    return found


def test_the_real_server_keeps_its_name_and_its_secrets(server):
    port, process = server
    head = b"Host: localhost\r\nConnection: close\r\n"
    answer = raw(port, b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nserver:" not in answer.lower()
    assert b"gunicorn" not in answer.lower()
    requests = [
        b"GET /%00%ff%zz HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /g/si/api/v1/tasks/%00?after=%ff%fe&%=% HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /static/../../settings.py HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /static/%2e%2e/settings.py HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /static/..%2f..%2fsettings.py HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /static//etc/passwd HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /login?next=/g/%0d%0aSet-Cookie:%20x=1 HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /g/si HTTP/1.1\r\nCookie: gapfactory=\xff\x00; gapfactory-browser=.;;=\r\n" + head + b"\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer \xff\xfe\r\n" + head + b"\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + head + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n" + head + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + head + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: evil\r\nHost: localhost\r\nX Y: 1\r\n\r\n",
        b"POST /login HTTP/1.1\r\nContent-Length: -5\r\n" + head + b"\r\n",
        b"POST /login HTTP/1.1\r\nContent-Length: 99999999999\r\nSec-Fetch-Site: same-origin\r\n"
        + head
        + b"\r\n",
        b"POST /login HTTP/1.1\r\nTransfer-Encoding: chunked\r\nSec-Fetch-Site: same-origin\r\n"
        + head
        + b"\r\nzz\r\n",
        b"POST /login HTTP/1.1\r\nOrigin: http://[\r\nContent-Length: 0\r\n" + head + b"\r\n",
        b"POST /login HTTP/1.1\r\nContent-Type: multipart/form-data\r\nSec-Fetch-Site: same-origin\r\n"
        b"Content-Length: 4\r\n" + head + b"\r\n\xff\xff\xff\xff",
        b"GET /g/si HTTP/1.1\r\nHost: " + b"x" * 4000 + b"\r\nConnection: close\r\n\r\n",
        b"GET /g/si HTTP/1.1\r\nSCRIPT_NAME: /evil\r\nPATH_INFO: /g/si/users/\r\n" + head + b"\r\n",
        b"GET /g/si HTTP/1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\n" + head + b"\r\n",
        b"POST /login HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
        + head
        + b"\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"BREW / HTTP/1.1\r\n" + head + b"\r\n",
    ]
    for request in requests:
        found = raw(port, request)
        status = found.split(b" ")[1:2]
        assert not status or status[0] < b"500", (request, found)
        assert b"\r\nserver:" not in found.lower()
        assert b"\r\nset-cookie: x=1" not in found.lower()
        assert b"class DashboardSettings" not in found
        assert b"root:" not in found
    redirected = raw(port, b"GET /g/si HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert b"\r\nLocation: /g/si/\r\n" in redirected
    assert b"evil" not in redirected
    # a body of which nobody says how long it is would be cut at the limit, and a part taken for the whole
    chunks = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    body = b"Sec-Fetch-Site: same-origin\r\nTransfer-Encoding: chunked\r\n" + head + b"\r\n" + chunks * 6
    assert raw(port, b"POST /login HTTP/1.1\r\n" + body + b"0\r\n\r\n").startswith(b"HTTP/1.1 411")
    for secret in (
        b"GET /login?ticket=SECRETTICKET HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /g/si/?q=SECRETQUERY HTTP/1.1\r\nAuthorization: Bearer SECRETTOKEN\r\n" + head + b"\r\n",
        b"POST /login HTTP/1.1\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 44\r\n" + head + b"\r\ngroup=si&name=SECRETNAME&password=SECRETPASS",
        b"GET /forged%0aline HTTP/1.1\r\n" + head + b"\r\n",
    ):
        assert b" 500 " not in raw(port, secret)[:20]
    process.terminate()
    log = process.communicate(timeout=120)[0]
    assert b"GET /login 302" in log, log
    assert b"/forged%0Aline" in log
    assert b"SECRET" not in log
    assert b"Traceback" not in log, log.decode()


def test_who_falls_silent_does_not_stop_the_others(server):
    """Connections that begin a request and do not go on, more than there are threads."""
    port, process = server
    silent = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(4)]
    for one in silent:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ")
    # while they are silent still
    with socket.create_connection(("127.0.0.1", port), 60) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 200")
    for one in silent:
        one.close()
    process.terminate()
    assert b"Traceback" not in process.communicate(timeout=120)[0]
