"""A private `mongod` for one user on one machine: single-node replica set, loopback only, authentication on.

A replica set, because only then does pymongo retry a write whose reply was lost. Preferred over the embedded server
whenever a `mongod` is on PATH.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from gapfactory.errors import DatabaseError
from launchpad.database.connection import DEFAULT_NAME

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ensure_mongod", "mongod_status", "running_mongod", "stop_mongod"]

USER = "gapfactory"
REPLICA_SET = "gapfactory"
START_S = 60.0


def ensure_mongod(data: Path) -> str:
    """Start the private mongod of a data directory unless it runs; return its URI.

    Raises
    ------
    DatabaseError
        It does not start; the message names its log.
    """
    home = data / "mongod"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "start.lock").open("w") as lock:
        # many commands may start at once: one of them starts the server, the others wait here for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = _read_state(home)
        if state is None or not _answers(state["uri"]):
            state = _start(home, state)
    return str(state["uri"])


def mongod_status(data: Path) -> dict[str, Any]:
    """Return whether the private mongod of a data directory runs."""
    state = _read_state(data / "mongod")
    running = state is not None and _answers(state["uri"])
    return {"running": running, "pid": state["pid"] if state and running else None}


def running_mongod(data: Path) -> str | None:
    """Return the URI of the private mongod of a data directory if it answers; start nothing."""
    state = _read_state(data / "mongod")
    return str(state["uri"]) if state is not None and _answers(state["uri"]) else None


def stop_mongod(data: Path) -> bool:
    """Stop the private mongod of a data directory; return whether one was running."""
    state = _read_state(data / "mongod")
    if state is None or not _answers(state["uri"]):
        return False
    if state["pid"] is None:
        msg = f"the process of the mongod in {data / 'mongod'} is not known; stop it by hand (see mongod.lock there)"
        raise DatabaseError(msg)
    os.kill(state["pid"], signal.SIGTERM)
    end = time.monotonic() + START_S
    while time.monotonic() < end and _answers(state["uri"]):
        time.sleep(0.2)
    return True


def _read_state(home: Path) -> dict[str, Any] | None:
    path = home / "state.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _write_private(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    partial.replace(path)


def _answers(uri: str) -> bool:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    client: MongoClient[Any] = MongoClient(uri, serverSelectionTimeoutMS=1000)
    try:
        client.admin.command("ping")
    except PyMongoError:
        return False
    finally:
        client.close()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(home: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    (home / "db").mkdir(exist_ok=True, mode=0o700)
    # clients keep their URI across a restart, so the port stays; the password is made once
    port = known["port"] if known else _free_port()
    password = known["password"] if known else secrets.token_urlsafe(32)
    key = home / "keyfile"
    if not key.is_file():
        _write_private(key, secrets.token_hex(64))
    command = [
        "mongod",
        "--dbpath",
        str(home / "db"),
        "--bind_ip",
        "127.0.0.1",
        "--port",
        str(port),
        "--nounixsocket",
        "--replSet",
        REPLICA_SET,
        "--keyFile",
        str(key),
        "--logpath",
        str(home / "mongod.log"),
        "--logappend",
    ]
    uri = f"mongodb://{USER}:{quote_plus(password)}@127.0.0.1:{port}/{DEFAULT_NAME}?replicaSet={REPLICA_SET}&authSource=admin"
    # first of all: a password that is set in the server and written nowhere would lock its data away
    state: dict[str, Any] = {"pid": None, "port": port, "password": password, "uri": uri}
    _write_private(home / "state.json", json.dumps(state))
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        msg = f"mongod cannot be started: {error}"
        raise DatabaseError(msg) from error
    try:
        state["pid"] = process.pid
        _write_private(home / "state.json", json.dumps(state))
        _initiate(home, process, port, password)
    except BaseException:
        # a server that is half set up would keep the port and the files from the next one
        process.kill()
        process.wait()
        raise
    return state


def _initiate(home: Path, process: subprocess.Popen[bytes], port: int, password: str) -> None:
    """Make the replica set and the user; both are there already after the first start."""
    from pymongo import MongoClient
    from pymongo.errors import ConnectionFailure, OperationFailure

    already = {
        23,
        13,
        18,
    }  # AlreadyInitialized; Unauthorized or AuthenticationFailed once the first user exists
    client: MongoClient[Any] = MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=1000
    )
    end = time.monotonic() + START_S
    member = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}]}
    commands: list[tuple[str, Any, dict[str, Any]]] = [
        ("replSetInitiate", member, {}),
        ("createUser", USER, {"pwd": password, "roles": ["root"]}),
    ]
    with client:
        while commands:
            if process.poll() is not None or time.monotonic() > end:
                msg = f"mongod did not start (exit code {process.poll()}); its log is {home / 'mongod.log'}"
                raise DatabaseError(msg)
            name, value, more = commands[0]
            try:
                client.admin.command(name, value, **more)
                commands.pop(0)
            except OperationFailure as error:
                # between initiation and the election it is not primary yet: try again until it is
                if error.code in already:
                    commands.pop(0)
                time.sleep(0.2)
            except ConnectionFailure:
                time.sleep(0.2)
