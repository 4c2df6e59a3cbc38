"""Greeting, status and the small commands that tools ask for."""

from __future__ import annotations

import datetime as dt
import os
import platform
import socket
import time
from typing import Any

from launchpad.embedded.auth import MECHANISM
from launchpad.embedded.commands.registry import COMMANDS, Context, command
from launchpad.embedded.commands.users import begin
from launchpad.embedded.errors import CommandError
from launchpad.embedded.sessions import SESSION_MINUTES
from launchpad.embedded.wire import MAX_DOCUMENT, MAX_MESSAGE

__all__: list[str] = []

_SET_NAME = "gapfactory"
# Version 5.0: every feature the drivers derive from it is either here or refused by name.
_VERSION = "5.0.0"
_WIRE_VERSION = 13


@command("hello", "isMaster", action="open", pure=False)
def hello(context: Context) -> dict[str, Any]:
    """Greet: the primary of a replica set of one, under the address the client used."""
    address = context.peer.address
    reply: dict[str, Any] = {
        "helloOk": True,
        "isWritablePrimary": True,
        "ismaster": True,
        "secondary": False,
        "setName": _SET_NAME,
        "setVersion": 1,
        "hosts": [address],
        "primary": address,
        "me": address,
        "maxBsonObjectSize": MAX_DOCUMENT,
        "maxMessageSizeBytes": MAX_MESSAGE,
        "maxWriteBatchSize": 100_000,
        "localTime": dt.datetime.now(dt.UTC),
        "logicalSessionTimeoutMinutes": SESSION_MINUTES,
        "connectionId": context.peer.number,
        "minWireVersion": 0,
        "maxWireVersion": _WIRE_VERSION,
        "readOnly": False,
    }
    asked = context.command.get("saslSupportedMechs")
    if isinstance(asked, str):
        database, _, name = asked.partition(".")
        if context.users.get(database, name) is not None:
            reply["saslSupportedMechs"] = [MECHANISM]
    speculative = context.command.get("speculativeAuthenticate")
    if isinstance(speculative, dict):
        try:
            reply["speculativeAuthenticate"] = begin(
                context, str(speculative.get("db", "admin")), speculative
            )
        except CommandError:
            context.peer.conversation = None  # the client falls back to saslStart and gets the reason there
    return reply


@command("ping", action="open")
def ping(context: Context) -> dict[str, Any]:
    """Answer."""
    return {}


@command("buildInfo", action="open")
def build_info(context: Context) -> dict[str, Any]:
    """Describe the server."""
    return {
        "version": _VERSION,
        "versionArray": [5, 0, 0, 0],
        "gitVersion": "gapfactory embedded server",
        "modules": ["gapfactory-embedded"],
        "storageEngines": ["sqlite"],
        "bits": 64,
        "debug": False,
        "maxBsonObjectSize": MAX_DOCUMENT,
        "sysInfo": platform.platform(),
    }


@command("hostInfo", action="login")
def host_info(context: Context) -> dict[str, Any]:
    """Describe the machine."""
    return {
        "system": {
            "currentTime": dt.datetime.now(dt.UTC),
            "hostname": socket.gethostname(),
            "numCores": os.cpu_count(),
            "cpuArch": platform.machine(),
        },
        "os": {"type": platform.system(), "name": platform.platform(), "version": platform.release()},
        "extra": {},
    }


@command("connectionStatus", action="open")
def connection_status(context: Context) -> dict[str, Any]:
    """Tell who the client is."""
    roles = [
        {"role": name, "db": database}
        for user in context.peer.users
        for name, database in context.users.roles(*user)
    ]
    found: dict[str, Any] = {
        "authenticatedUsers": [{"user": name, "db": database} for database, name in context.peer.users],
        "authenticatedUserRoles": roles,
    }
    if context.command.get("showPrivileges"):
        found["authenticatedUserPrivileges"] = context.privileges.documents()
    return {"authInfo": found}


@command("getParameter", action="login")
def get_parameter(context: Context) -> dict[str, Any]:
    """Show the few parameters that tools read."""
    known = {
        "featureCompatibilityVersion": {"version": "5.0"},
        "authenticationMechanisms": [MECHANISM],
    }
    if context.command.get("getParameter") == "*" or context.command.get("allParameters"):
        return dict(known)
    found = {key: value for key, value in known.items() if key in context.command}
    if not found:
        raise CommandError(72, f"no such parameter; known: {', '.join(known)}")
    return found


@command("serverStatus", action="login")
def server_status(context: Context) -> dict[str, Any]:
    """Show counters."""
    documents, size = context.store.totals()
    return {
        "host": context.peer.address,
        "version": _VERSION,
        "process": "gapfactory-embedded",
        "pid": os.getpid(),
        "uptime": time.time() - context.info.started,
        "localTime": dt.datetime.now(dt.UTC),
        "connections": {"current": context.info.connections(), "available": 10_000},
        "opcounters": dict(context.info.commands),
        "storageEngine": {"name": "sqlite", "persistent": True},
        "repl": {"setName": _SET_NAME, "isWritablePrimary": True},
        "metrics": {
            "queryExecutor": {
                "scanned": context.store.examined.keys,
                "scannedObjects": context.store.examined.documents,
            }
        },
        "gapfactory": {
            "documents": documents,
            "bytes": size,
            "bytesOnDisk": context.store.journal.size(),
            "dataDirectory": context.info.data_dir,
            "rememberedReplies": len(context.store.replies),
            "cursors": len(context.cursors),
        },
    }


@command("dbStats", action="dbStats")
def db_stats(context: Context) -> dict[str, Any]:
    """Show the size of a database."""
    collections = context.store.databases.get(context.database, {}).values()
    objects, size = sum(len(c.records) for c in collections), sum(c.bytes for c in collections)
    return {
        "db": context.database,
        "collections": len(collections),
        "objects": objects,
        "avgObjSize": size / objects if objects else 0.0,
        "dataSize": size,
        "storageSize": size,
        "indexes": sum(len(c.indexes) for c in collections),
        "indexSize": 0,
    }


@command("collStats", action="collStats")
def coll_stats(context: Context) -> dict[str, Any]:
    """Show the size of a collection."""
    collection = context.collection()
    namespace = f"{context.database}.{context.collection_name()}"
    if collection is None:
        return {"ns": namespace, "count": 0, "size": 0, "storageSize": 0, "nindexes": 0}
    count = len(collection.records)
    return {
        "ns": namespace,
        "count": count,
        "size": collection.bytes,
        "avgObjSize": collection.bytes / count if count else 0,
        "storageSize": collection.bytes,
        "nindexes": len(collection.indexes),
        "indexSizes": {name: len(index.keys) for name, index in collection.indexes.items()},
    }


@command("compact", action="compact", pure=False)
def compact(context: Context) -> dict[str, Any]:
    """Give freed space back to the file system. Runs outside any transaction."""
    if context.transaction.statements:
        return {"ok": 1.0, "note": "deferred: other changes are being stored"}
    context.store.journal.compact()
    return {}


@command("listCommands", action="open")
def list_commands(context: Context) -> dict[str, Any]:
    """List the commands that this server has."""
    return {
        "commands": {
            name: {"help": (entry.handler.__doc__ or "")} for name, entry in sorted(COMMANDS.items())
        }
    }


@command("endSessions", "killSessions", action="open", pure=False)
def end_sessions(context: Context) -> dict[str, Any]:
    """Forget the replies kept for a client's sessions: it will not repeat a write any more."""
    for session in context.documents(context.name):
        if isinstance(session, dict) and "id" in session:
            context.store.replies.forget(context.session_key(session), context.transaction)
    return {}


@command("startSession", action="open")
def start_session(context: Context) -> dict[str, Any]:
    """Hand out a session id."""
    from bson import Binary

    return {"id": {"id": Binary(os.urandom(16), 4)}, "timeoutMinutes": SESSION_MINUTES}


@command("replSetGetStatus", action="login")
def replica_status(context: Context) -> dict[str, Any]:
    """Describe the replica set of one."""
    member = {
        "_id": 0,
        "name": context.peer.address,
        "health": 1.0,
        "state": 1,
        "stateStr": "PRIMARY",
        "self": True,
    }
    return {"set": _SET_NAME, "myState": 1, "members": [member]}


@command("getLog", action="login")
def get_log(context: Context) -> dict[str, Any]:
    """Answer tools that show start-up warnings; the log is a file in the data directory."""
    return {"totalLinesWritten": 0, "log": []}


@command("whatsmyuri", action="open")
def whats_my_uri(context: Context) -> dict[str, Any]:
    """Return the address of this connection."""
    return {"you": context.peer.address}


@command("shutdown", action="shutdown", pure=False)
def shutdown(context: Context) -> dict[str, Any]:
    """Stop the server after this reply."""
    context.info.request_stop()
    return {}
