"""The event loop: accepts connections, gathers commands into batches, sends replies after the commit."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from launchpad.embedded.commands.registry import Peer, ServerInfo
from launchpad.embedded.errors import CommandError
from launchpad.embedded.executor import Executor
from launchpad.embedded.wire import Request, encode_reply, parse, split

if TYPE_CHECKING:
    from pathlib import Path

    from launchpad.embedded.store import Store

__all__ = ["Server"]

_LOG = logging.getLogger(__name__)
_CHUNK: Final = 1 << 18
#: As much is taken from one connection before the others have their turn, and before it is looked at.
_TURN: Final = 8 * _CHUNK
_PEER_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(eq=False)
class _Connection:
    sock: socket.socket
    peer: Peer
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)
    closing: bool = False
    watched: int = selectors.EVENT_READ


class Server:
    """Serves a store over one or more listening sockets, in the calling thread.

    Parameters
    ----------
    store
        The data; closed when serving ends.
    data_dir
        Shown by ``serverStatus``.
    trust_same_user
        Whether peers of the same user on a Unix socket act as root without a password.
    idle_seconds
        Stop after this long without a connection; None never stops.
    """

    def __init__(
        self, store: Store, data_dir: Path, *, trust_same_user: bool = True, idle_seconds: float | None = None
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._trust = trust_same_user
        self._idle = idle_seconds
        self._listeners: list[socket.socket] = []
        self._stopping = False
        self._numbers = 0
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        info = ServerInfo(time.time(), str(data_dir), lambda: len(self._connections), request_stop=self.stop)
        self.executor = Executor(store, info)
        self._store = store

    # --- listening ---------------------------------------------------------------------------------

    def listen_unix(self, path: Path) -> None:
        """Listen on a Unix socket in a private directory; a socket left by a dead server is replaced."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        self._listen(listener)

    def listen_tcp(self, port: int) -> int:
        """Listen on loopback and return the port (chosen by the system for port 0)."""
        listener = socket.socket(socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            raise
        self._listen(listener)
        return int(listener.getsockname()[1])

    def _listen(self, listener: socket.socket) -> None:
        listener.listen(512)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._selector.register(listener, selectors.EVENT_READ, listener)

    # --- the loop ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """End `serve` soon. Safe to call from signal handlers and other threads."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake_out.send(b"x")

    def serve(self) -> None:
        """Serve until `stop`, then close everything, the store included."""
        idle_since = time.monotonic()
        try:
            while not self._stopping:
                events = self._selector.select(1.0 if self._idle else None)
                self._round(events)
                if self._connections:
                    idle_since = time.monotonic()
                elif self._idle and time.monotonic() - idle_since > self._idle:
                    _LOG.info("no connection for %s s: stopping", self._idle)
                    break
        finally:
            self.close()

    def _round(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        batch: list[tuple[_Connection, Request]] = []
        for key, mask in events:
            item = key.data
            if item is None:
                with contextlib.suppress(BlockingIOError):
                    self._wake_in.recv(64)
            elif isinstance(item, socket.socket):
                self._accept(item)
            else:
                if mask & selectors.EVENT_WRITE:
                    self._send(item)
                if mask & selectors.EVENT_READ and not item.outgoing:
                    batch += [(item, request) for request in self._receive(item)]
        if not batch:
            return
        replies = self.executor.execute([(connection.peer, request) for connection, request in batch])
        for (connection, request), reply in zip(batch, replies, strict=True):
            if request.wants_reply:
                self._numbers += 1
                connection.outgoing += encode_reply(reply, request, self._numbers & 0x7FFFFFFF)
        for connection in dict.fromkeys(connection for connection, _ in batch):
            self._send(connection)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError as error:  # the peer left again, or no descriptors are left
            _LOG.warning("accept: %s", error)
            time.sleep(0.01)  # the listener stays readable: do not spin
            return
        sock.setblocking(False)
        self._numbers += 1
        if listener.family == socket.AF_UNIX:
            peer = Peer(str(listener.getsockname()), self._numbers, trusted=self._trust and _same_user(sock))
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host, port = sock.getsockname()[:2]
            peer = Peer(f"{host}:{port}", self._numbers)
        connection = _Connection(sock, peer)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _receive(self, connection: _Connection) -> list[Request]:
        try:
            data = connection.sock.recv(_CHUNK)
            connection.incoming += data
            taken = len(data)
            while data and len(data) % _CHUNK == 0 and taken < _TURN:
                try:
                    data = connection.sock.recv(_CHUNK)
                except BlockingIOError:
                    break
                connection.incoming += data
                taken += len(data)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return []
        requests = []
        try:
            while (message := split(connection.incoming)) is not None:
                requests.append(parse(message))
        except CommandError as error:
            _LOG.warning("connection %d closed: %s", connection.peer.number, error)
            connection.closing = True
            if not requests:
                self._drop(connection)
        return requests

    def _send(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        try:
            while connection.outgoing:
                sent = connection.sock.send(connection.outgoing)
                del connection.outgoing[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._drop(connection)
            return
        if connection.closing and not connection.outgoing:
            self._drop(connection)
            return
        wanted = selectors.EVENT_WRITE if connection.outgoing else selectors.EVENT_READ
        if wanted != connection.watched:
            connection.watched = wanted
            self._selector.modify(connection.sock, wanted, connection)

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def close(self) -> None:
        """Close sockets and store; `serve` does it by itself."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()
        self._store.close()


def _same_user(sock: socket.socket) -> bool:
    """Tell whether the peer of a Unix socket runs as this user."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return int(_PEER_CREDENTIALS.unpack(raw)[1]) == os.geteuid()
