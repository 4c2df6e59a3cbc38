"""One server on one data directory: the lock, the address file, the password, and a form for tests."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote_plus

from gapfactory.errors import DatabaseError
from launchpad.embedded.locations import Locations, locations
from launchpad.embedded.server import Server
from launchpad.embedded.store import Store

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["EmbeddedServer"]

_LOG = logging.getLogger(__name__)
_USER = "gapfactory"
_DATABASE = "gapfactory"


class EmbeddedServer:
    """An embedded server in this process.

    ``with EmbeddedServer(directory) as server: MongoClient(server.uri)`` serves from a thread;
    `run` serves in the calling thread.

    Parameters
    ----------
    data_dir
        Its directory; made when absent, refused on network file systems.
    port
        Listen on this loopback TCP port, with authentication; 0 chooses one and keeps it. None listens
        on a Unix socket.
    trust_same_user
        On the Unix socket, let peers of the same user act as root without a password. The directory's
        mode 0700 keeps others away from the socket, and the kernel tells who the peer is.
    idle_seconds
        Stop after this long without a connection; None never stops.

    Raises
    ------
    DatabaseError
        When another server runs on this directory, or the directory or its files cannot be used.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        port: int | None = None,
        trust_same_user: bool = True,
        idle_seconds: float | None = None,
    ) -> None:
        self.locations = locations(data_dir)
        self._lock = _take_lock(self.locations)
        self._thread: threading.Thread | None = None
        try:
            store = Store(self.locations.journal)
            self._server = Server(
                store, self.locations.data_dir, trust_same_user=trust_same_user, idle_seconds=idle_seconds
            )
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self.uri = self._listen(port)
            self._announce()
        except BaseException:
            self._server.close()
            os.close(self._lock)
            raise

    def _listen(self, port: int | None) -> str:
        if port is None:
            self._server.listen_unix(self.locations.socket)
            host = quote_plus(str(self.locations.socket))
            return f"mongodb://{host}/{_DATABASE}?directConnection=true&retryWrites=true"
        password = self._password()
        bound = self._bind(port)
        credentials = f"{_USER}:{quote_plus(password)}"
        options = "authSource=admin&authMechanism=SCRAM-SHA-256&directConnection=true&retryWrites=true"
        return f"mongodb://{credentials}@127.0.0.1:{bound}/{_DATABASE}?{options}"

    def _bind(self, port: int) -> int:
        """Listen on a port: the one asked for, else that of the previous run, else any."""
        for candidate in [port] if port else [_last_port(self.locations), 0]:
            try:
                return self._server.listen_tcp(candidate)
            except OSError as error:
                if candidate == port:
                    raise DatabaseError(
                        f"port {port} of 127.0.0.1 cannot be used: {error.strerror}. Choose another one with --port."
                    ) from error
                _LOG.warning(
                    "port %d is taken by another program; clients must ask for the new URI", candidate
                )
        raise AssertionError("unreachable")

    def _password(self) -> str:
        """Return the generated password, and make sure that its user exists and is root."""
        path = self.locations.password
        if path.exists():
            password = path.read_text(encoding="ascii").strip()
        else:
            password = secrets.token_urlsafe(24)
            _write_private(path, password + "\n")
        users, store = self._server.executor.users, self._server.executor.store
        roles = [{"role": "root", "db": "admin"}]
        if users.get("admin", _USER) is None:
            users.create("admin", _USER, password, roles)
        else:
            users.change("admin", _USER, pwd=password, roles=roles)
        store.commit()
        return password

    def _announce(self) -> None:
        facts = {"pid": os.getpid(), "uri": self.uri, "data_dir": str(self.locations.data_dir)}
        _write_private(self.locations.address, json.dumps(facts, indent=1) + "\n")

    def run(self) -> None:
        """Serve in the calling thread until `stop`."""
        try:
            self._server.serve()
        finally:
            with contextlib.suppress(FileNotFoundError):
                self.locations.socket.unlink()
            os.close(self._lock)

    def start(self) -> Self:
        """Serve from a thread of this process."""
        self._thread = threading.Thread(target=self.run, name="embedded-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving; everything acknowledged is on disk already."""
        self._server.stop()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _take_lock(where: Locations) -> int:
    descriptor = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise DatabaseError(
            f"a server already runs on {where.data_dir} (pid {owner}). Use it, or stop it with 'gapfactory db stop'."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _last_port(where: Locations) -> int:
    """Return the port of the previous run, so that clients find the server again, or 0."""
    try:
        uri: Any = json.loads(where.address.read_text(encoding="utf-8")).get("uri", "")
        return int(uri.rpartition("@127.0.0.1:")[2].partition("/")[0])
    except (OSError, ValueError, AttributeError):
        return 0


def _write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only this user can read it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
