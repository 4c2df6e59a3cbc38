"""Starts, finds and stops the detached server of a data directory."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from gapfactory.errors import DatabaseError
from launchpad.embedded.locations import Locations, locations

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ServerStatus", "ensure_running", "status", "stop"]

_POLL: Final = 0.02
_LITTLE_SPACE: Final = 64 * 1024
# Servers started by this process. They outlive it; while it lives, dead ones are reaped here.
_CHILDREN: Final[list[subprocess.Popen[bytes]]] = []
# OP_MSG with the body {ping: 1, $db: "admin"}, so that waiting needs no driver.
_PING_BODY: Final = b"\x1e\x00\x00\x00\x10ping\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00\x00"
_PING: Final = struct.pack("<iiiiIB", 21 + len(_PING_BODY), 1, 0, 2013, 0, 0) + _PING_BODY


@atexit.register
def _let_children_live() -> None:
    """Keep Popen from complaining that a server outlives the process that started it."""
    for child in _CHILDREN:
        if child.poll() is None:
            child.returncode = 0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """State of the embedded server of a data directory.

    Attributes
    ----------
    running
        Whether a server holds the directory's lock and answers.
    pid
        Its process, or None.
    uri
        How to connect (holds the password where TCP is used), or None.
    data_dir
        The directory.
    documents
        Number of documents of all databases.
    bytes
        Their size as BSON; of a stopped server the size of its files.
    """

    running: bool
    pid: int | None
    uri: str | None
    data_dir: Path
    documents: int
    bytes: int


def ensure_running(data_dir: Path | str, *, port: int | None = None, timeout: float = 300.0) -> str:
    """Return the URI of the server on a data directory, starting one when none runs.

    Any number of processes may call this at once: one of them starts the server, the others wait.

    Parameters
    ----------
    data_dir
        The directory; made when absent.
    port
        For a server that must be started: loopback TCP port instead of a Unix socket (0 chooses).
    timeout
        Longest time to wait in seconds: a large database takes a while to load (about 30 s per million small
        documents). A server that ends instead of starting is noticed at once.

    Raises
    ------
    DatabaseError
        When no server comes up; the text quotes its log.
    """
    where = locations(data_dir)
    deadline = time.monotonic() + timeout
    uri = _answering(where)
    if uri is not None:
        return uri
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
    with _exclusive(where.start_lock, deadline):
        child: subprocess.Popen[bytes] | None = None
        while time.monotonic() < deadline:
            uri = _answering(where)
            if uri is not None:
                return uri
            if child is None and not _locked(where):
                child = _spawn(where, port)
                _CHILDREN.append(child)
            elif child is not None and child.poll() is not None and not _locked(where):
                raise DatabaseError(
                    f"the embedded server on {where.data_dir} did not start (exit status {child.returncode}): "
                    f"{_log_tail(where)}"
                )
            time.sleep(_POLL)
    raise DatabaseError(
        f"the embedded server on {where.data_dir} did not answer within {timeout:g} s: {_log_tail(where)}"
    )


def stop(data_dir: Path | str, *, timeout: float = 30.0) -> bool:
    """Stop the server on a data directory; False when none runs.

    Raises
    ------
    DatabaseError
        When it does not end in time.
    """
    where = locations(data_dir)
    pid = _owner(where)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not _locked(where):
            return True
        time.sleep(_POLL)
    raise DatabaseError(
        f"the embedded server (pid {pid}) did not stop within {timeout:g} s; see {where.log}."
    )


def status(data_dir: Path | str) -> ServerStatus:
    """Tell whether a server runs on a data directory, and what it holds."""
    where = locations(data_dir)
    uri = _answering(where)
    if uri is None:
        documents, size = _stored(where)
        return ServerStatus(False, _owner(where), None, where.data_dir, documents, size)
    from pymongo import MongoClient

    client: MongoClient[dict[str, Any]] = MongoClient(uri, serverSelectionTimeoutMS=5000)
    try:
        counters = client.admin.command("serverStatus")["gapfactory"]
    finally:
        client.close()
    return ServerStatus(True, _owner(where), uri, where.data_dir, counters["documents"], counters["bytes"])


def _stored(where: Locations) -> tuple[int, int]:
    """Count what a stopped server holds, from its file."""
    if not where.journal.exists():
        return 0, 0
    import sqlite3

    with contextlib.closing(sqlite3.connect(where.journal)) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(length(document)), 0) FROM documents"
        ).fetchone()
    return int(row[0]), int(row[1])


def _locked(where: Locations) -> bool:
    """Tell whether a server holds the directory."""
    try:
        descriptor = os.open(where.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, so that two askers never take each other for a server.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _owner(where: Locations) -> int | None:
    if not _locked(where):
        return None
    with contextlib.suppress(OSError, ValueError):
        return int(where.lock.read_text(encoding="ascii"))
    return None


def _answering(where: Locations) -> str | None:
    """Return the URI of a server that holds the lock, has announced itself and answers a ping."""
    pid = _owner(where)
    if pid is None:
        return None
    try:
        facts = json.loads(where.address.read_text(encoding="utf-8"))
        if facts["pid"] != pid:
            return None
        return str(facts["uri"]) if _ping(str(facts["uri"])) else None
    except (OSError, ValueError, KeyError):
        return None


def _ping(uri: str) -> bool:
    host = uri.removeprefix("mongodb://").rpartition("@")[2].partition("/")[0]
    if host.endswith(".sock"):
        sock, target = socket.socket(socket.AF_UNIX), unquote_plus(host)
    else:
        sock = socket.socket(socket.AF_INET)
        target = (host.partition(":")[0], int(host.partition(":")[2]))  # type: ignore[assignment]
    with sock:
        sock.settimeout(20.0)
        try:
            sock.connect(target)
            sock.sendall(_PING)
            return bool(sock.recv(16))
        except OSError:
            return False


def _spawn(where: Locations, port: int | None) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "launchpad.embedded", "--data", str(where.data_dir)]
    if port is not None:
        arguments += ["--port", str(port)]
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    descriptor = os.open(where.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            arguments,
            cwd=where.data_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def _log_tail(where: Locations) -> str:
    try:
        lines = where.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    free = shutil.disk_usage(where.data_dir).free
    if free < _LITTLE_SPACE:
        return f"the file system of {where.data_dir} is full ({free} bytes free); free some space and repeat"
    return f"{lines[-1] if lines else 'nothing was logged'} (log: {where.log})"


@contextlib.contextmanager
def _exclusive(path: Path, deadline: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseError(
                        f"{path} stays locked by another process that starts a server."
                    ) from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)
