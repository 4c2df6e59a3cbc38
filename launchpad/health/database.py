"""The database: does it answer, who may enter, are writes durable, are the indexes there, how far is it."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from launchpad.database.entry import is_socket, on_this_machine
from launchpad.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pymongo.database import Database

    from launchpad.database.location import Located
    from launchpad.health.finding import Patient

__all__ = ["anonymous_access", "check_database", "entry", "find_local"]

_NAME = "database"


def check_database(patient: Patient) -> Iterator[Finding]:
    """Connect; afterwards the patient has its database, or the other checks know that there is none."""
    from gapfactory.errors import DatabaseError
    from launchpad.database.connection import open_database, redact

    # here, because the directory of a local server may be on a file system that hangs
    located = patient.located = patient.located or find_local(patient.data)
    if located is None:
        yield Finding(
            _NAME,
            "server",
            "advice",
            f"no database is named, and no local server runs on {patient.data}",
            "'gapfactory db start' starts one (every command that needs it does); another is named by --db or "
            "GAPFACTORY_DB",
        )
        return
    try:
        database = open_database(located.uri, timeout_ms=int(patient.settings.server_selection_s * 1000))
    except DatabaseError as error:
        yield Finding(
            _NAME,
            "server",
            "failed",
            str(error),
            "start the server, or correct address, user and password; a firewall between here and there gives the same",
        )
        return
    patient.database = database
    yield _server(patient, database, redact(located.uri))
    yield _entry(database, located.uri, patient.settings.server_selection_s)
    yield _durability(located.uri)
    yield _indexes(database)
    yield _latency(patient, database)


def find_local(data: Path) -> Located | None:
    """Return the local server of a data directory if it runs; start nothing.

    Raises
    ------
    DatabaseError
        The directory cannot hold one.
    """
    import shutil

    from launchpad.database.location import Located

    if shutil.which("mongod"):
        from launchpad.database.mongod import running_mongod

        uri = running_mongod(data)
        return Located(uri, "mongod", data) if uri else None
    if not data.is_dir():
        return None
    from launchpad.embedded import status

    found = status(data)
    return Located(found.uri, "embedded", data) if found.running and found.uri else None


def _server(patient: Patient, database: Database[Any], shown: str) -> Finding:
    build = database.client.admin.command("buildInfo")
    hello = database.client.admin.command("hello")
    embedded = "gapfactory-embedded" in build.get("modules", [])
    version = str(build.get("version", "unknown"))
    kind = (
        "embedded"
        if embedded
        else "replica set"
        if hello.get("setName")
        else "mongos"
        if hello.get("msg") == "isdbgrid"
        else "standalone"
    )
    data = {"kind": kind, "version": version, "name": database.name}
    words = {
        "embedded": "the embedded one-machine server",
        "replica set": f"replica set {hello.get('setName')!r}",
    }
    found = f"{shown} answers: {words.get(kind, kind)}" + ("" if embedded else f", MongoDB {version}")
    if kind == "standalone":
        return Finding(
            _NAME,
            "server",
            "advice",
            found,
            "a write whose reply is lost is not repeated by itself on a standalone server: start mongod with --replSet "
            "and initiate a replica set (one member is enough)",
            data,
        )
    return Finding(_NAME, "server", "ok", found, "", data)


def entry(
    hosts: Sequence[str], *, users: Sequence[str], anonymous: bool, tls: bool, checked: bool
) -> Finding:
    """Judge who may enter.

    Parameters
    ----------
    hosts
        Addresses of the servers.
    users
        Who this connection is, as the server says; none without a login.
    anonymous
        Whether somebody without a password can read.
    tls
        Whether the connection is encrypted.
    checked
        Whether the server's certificate is verified.
    """
    outside = [host for host in hosts if not on_this_machine(host)]
    data = {"users": list(users), "tls": tls, "loopback": not outside, "anonymous": anonymous}
    who = f"logged in as {', '.join(users)}" if users else "nobody is logged in"
    where = f"over the network ({', '.join(outside)})" if outside else "on this machine only"
    found = f"{who}, {where}, {'with' if tls else 'without'} TLS"
    if anonymous and not all(is_socket(host) for host in hosts):
        return Finding(
            _NAME,
            "entry",
            "failed" if outside else "advice",
            f"{found}; whoever reaches the server may read it without a password",
            "write access is execution on every worker: start mongod with --auth (or --keyFile) and make users with "
            "roles on their own database",
            data,
        )
    if outside and not tls:
        return Finding(
            _NAME,
            "entry",
            "failed",
            found,
            "give the server a certificate and add tls=true&tlsCAFile=... to the URI, or tunnel the port by SSH and "
            "connect to the loopback end",
            data,
        )
    if outside and not checked:
        return Finding(
            _NAME,
            "entry",
            "failed",
            f"{found}, but the server's certificate is not verified",
            "remove tlsInsecure and tlsAllowInvalid... from the URI and name the authority with tlsCAFile",
            data,
        )
    return Finding(_NAME, "entry", "ok", found, "", data)


def _entry(database: Database[Any], uri: str, limit_s: float) -> Finding:
    from pymongo.uri_parser import parse_uri

    status = database.client.admin.command("connectionStatus")["authInfo"]
    users = [f"{user['user']}@{user['db']}" for user in status.get("authenticatedUsers", [])]
    parsed = parse_uri(uri, warn=False)
    options = {str(key).lower(): value for key, value in parsed["options"].items()}
    tls = bool(options.get("tls") or options.get("ssl"))
    loose = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")
    nodes = [(str(host), port) for host, port in parsed["nodelist"]]
    private = all(is_socket(host) for host, _ in nodes)
    # with TLS an anonymous connection would need the same certificates; what this connection may do is known then
    anonymous = not users if tls or private else anonymous_access(nodes, database.name, limit_s)
    return entry(
        [host for host, _ in nodes],
        users=users,
        anonymous=anonymous,
        tls=tls,
        checked=not any(options.get(name) for name in loose),
    )


def anonymous_access(nodes: Sequence[tuple[str, int | None]], name: str, limit_s: float) -> bool:
    """Return whether one of the servers lets a client read that gives no password."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    for host, port in nodes:
        client: MongoClient[Any] = MongoClient(
            host,
            port,
            directConnection=True,
            serverSelectionTimeoutMS=int(limit_s * 1000),
            socketTimeoutMS=int(limit_s * 1000),
        )
        try:
            client[name].campaigns.find_one({}, {"_id": 1})
        except PyMongoError:
            continue
        finally:
            client.close()
        return True
    return False


def _durability(uri: str) -> Finding:
    """Judge the write concern that workers get from this URI."""
    from pymongo.uri_parser import parse_uri

    from gapfactory.errors import DatabaseError
    from launchpad.queue.connection import client_options

    remedy = "remove w, journal and j from the URI: then writes wait for the majority and its journal"
    try:
        options = client_options(uri, server_selection_s=1.0)
    except DatabaseError as error:
        return Finding(_NAME, "durability", "failed", str(error), remedy)
    given = {
        str(key).lower(): value for key, value in parse_uri(uri, warn=False)["options"].items()
    } | options
    concern = {"w": given["w"], "j": given.get("journal", given.get("j"))}
    found = "writes are acknowledged with " + ", ".join(f"{key}: {value}" for key, value in concern.items())
    if concern.get("w") != "majority" or not concern.get("j"):
        return Finding(
            _NAME, "durability", "advice", f"{found}: an acknowledged result may be lost", remedy, concern
        )
    return Finding(_NAME, "durability", "ok", found, "", concern)


def _indexes(database: Database[Any]) -> Finding:
    """Look for the indexes of the queue and of our collections, in collections that hold something."""
    from launchpad.database.indexes import COLLECTIONS
    from launchpad.queue.connection import queue_indexes

    names = database.list_collection_names()
    present = {name for name in names if database[name].find_one({}, {"_id": 1}) is not None}
    wanted: list[tuple[str, tuple[str, ...], bool]] = [
        (name, keys, False) for name, indexes in COLLECTIONS.items() for keys in indexes
    ]
    for name, models in queue_indexes().items():
        wanted += [(name, tuple(m.document["key"]), bool(m.document.get("unique"))) for m in models]
    known: dict[str, set[tuple[str, ...]]] = {}
    missing, unsafe = [], False
    for name, keys, unique in wanted:
        if name not in present:
            continue
        if name not in known:
            indexes = database[name].index_information().values()
            known[name] = {tuple(key for key, _ in index["key"]) for index in indexes}
        if keys not in known[name]:
            missing.append(f"{name}: {', '.join(keys)}")
            unsafe = unsafe or unique
    data = {"missing": missing}
    if not known:
        return Finding(_NAME, "indexes", "ok", "nothing is stored yet", "", data)
    if missing:
        return Finding(
            _NAME,
            "indexes",
            "failed" if unsafe else "advice",
            f"{len(missing)} indexes are missing ({'; '.join(missing[:3])}{'; ...' if len(missing) > 3 else ''})",
            "'gapfactory db start' makes those of our collections, the next worker that starts those of the queue; "
            "nothing that exists is changed",
            data,
        )
    return Finding(_NAME, "indexes", "ok", f"all indexes of {len(known)} collections are there", "", data)


def _latency(patient: Patient, database: Database[Any]) -> Finding:
    times = []
    for _ in range(patient.settings.pings):
        begun = time.perf_counter()
        database.client.admin.command("ping")
        times.append(1000.0 * (time.perf_counter() - begun))
    median = statistics.median(times)
    data = {"median_ms": round(median, 3), "largest_ms": round(max(times), 3)}
    found = f"a round trip takes {median:.2g} ms (median of {len(times)}; the longest {max(times):.2g} ms)"
    if median > patient.settings.latency_ms:
        return Finding(
            _NAME,
            "latency",
            "advice",
            found,
            "a task needs about ten round trips: make tasks longer (execution.*_chunk in the campaign file) or bring "
            "workers and database nearer to each other",
            data,
        )
    return Finding(_NAME, "latency", "ok", found, "", data)
