"""A link that can be bad: forwards TCP or Unix-socket connections with latency, cuts, silence and refusal.

In a test::

    with Proxy("127.0.0.1:27017", latency_ms=25) as link:
        client = MongoClient(link.through(uri))
        link.cut()

As a program, for another network namespace (`Remote` speaks to its control socket)::

    python gf_proxy.py --to 10.0.0.1:27017 --listen 127.0.0.1:0 --latency-ms 25 --control /tmp/link.sock

A connection of TCP itself is made at once: only what is sent on it is late.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable

    Cut = Literal["before", "mid", "after"] | None
    #: Gets the name of a command of the MongoDB protocol; says where its connection is cut, if at all.
    Watch = Callable[[str], Cut]

__all__ = ["Proxy", "Remote"]

#: Bytes under way in one direction before the sender has to wait.
_WINDOW = 64 << 20
#: Bytes of a reply that still arrive with a cut "mid".
_PART = 20


@dataclass
class _Weather:
    """What the link does to new bytes; times in s."""

    up: float = 0.0
    down: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    held: bool = False
    lost: bool = False
    #: Bytes towards clients before the connection that carries the last of them is cut.
    budget: int | None = None


class _Line:
    """One direction of a connection: bytes leave in order, each a latency after it came."""

    def __init__(self, pair: _Pair, *, up: bool) -> None:
        self.pair, self.up = pair, up
        self.waiting: deque[tuple[float, bytes | None]] = deque()
        self.size = 0
        self.last = self.sent = 0.0
        self.blocked = False
        self.timer: asyncio.TimerHandle | None = None

    def push(self, data: bytes | None) -> None:
        """Take bytes, or None for the end of the stream."""
        weather = self.pair.proxy.weather
        now = self.pair.loop.time()
        if weather.rate and data:
            self.sent = max(now, self.sent) + len(data) / weather.rate
        late = (weather.up if self.up else weather.down) + weather.jitter * self.pair.proxy.chance.random()
        self.last = max(self.last, max(now, self.sent) + late)
        self.waiting.append((self.last, data))
        self.size += len(data or b"")
        if self.size > _WINDOW:
            self.pair.read_more(self.up, go=False)
        self.flush()

    def flush(self) -> None:
        """Send what is due."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        out = self.pair.upstream if self.up else self.pair.client
        if out is None or self.blocked or self.pair.proxy.weather.held or self.pair.lost:
            return
        now = self.pair.loop.time()
        while self.waiting and self.waiting[0][0] <= now and not self.blocked and not self.pair.ended:
            data = self.waiting.popleft()[1]
            if data is None:
                self.pair.finished(out)
            else:
                self.size -= len(data)
                self.pair.deliver(out, data, up=self.up)
        if self.size < _WINDOW // 2:
            self.pair.read_more(self.up, go=True)
        if self.waiting and not self.pair.ended:
            self.timer = self.pair.loop.call_at(self.waiting[0][0], self.flush)


class _Side(asyncio.Protocol):
    """The client's or the server's end of a connection."""

    def __init__(self, pair: _Pair, *, client: bool) -> None:
        self.pair, self.client = pair, client

    def connection_made(self, transport: Any) -> None:
        self.pair.made(transport, client=self.client)

    def data_received(self, data: bytes) -> None:
        self.pair.received(data, up=self.client)

    def eof_received(self) -> bool:
        self.pair.received(None, up=self.client)
        return True  # the other direction may still carry something

    def connection_lost(self, exc: BaseException | None) -> None:
        self.pair.end(reset=exc is not None)

    def pause_writing(self) -> None:
        self.pair.line(up=not self.client).blocked = True

    def resume_writing(self) -> None:
        line = self.pair.line(up=not self.client)
        line.blocked = False
        line.flush()


class _Pair:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.loop = proxy, asyncio.get_running_loop()
        self.client: Any = None
        self.upstream: Any = None
        self.lost = proxy.weather.lost
        self.ended = False
        self.ends = 0
        self.lines = _Line(self, up=True), _Line(self, up=False)
        self.unread = b""
        self.at_reply: Cut = None
        proxy.pairs.add(self)

    def line(self, *, up: bool) -> _Line:
        return self.lines[0 if up else 1]

    def made(self, transport: Any, *, client: bool) -> None:
        if client:
            self.client = transport
            self.proxy.accepted += 1
            if not self.lost:
                self.proxy._track(self._connect())
        else:
            self.upstream = transport
            if self.ended:
                transport.abort()
            self.line(up=True).flush()

    async def _connect(self) -> None:
        kind, where = _parse(self.proxy.to)
        side = _Side(self, client=False)
        try:
            if kind == "unix":
                await self.loop.create_unix_connection(lambda: side, where)
            else:
                await self.loop.create_connection(lambda: side, *where)
        except OSError:
            self.end(reset=True)

    def received(self, data: bytes | None, *, up: bool) -> None:
        if self.lost or self.ended:
            return
        if up and data and self.proxy.watch is not None:
            self.unread += data
            while len(self.unread) >= 4 and len(self.unread) >= (size := _size(self.unread)):
                message, self.unread = self.unread[:size], self.unread[size:]
                cut = self.proxy.watch(_command(message))
                if cut == "before":
                    self.proxy.cuts += 1
                    self.end(reset=True)
                    return
                self.at_reply = cut or self.at_reply
                self.line(up=True).push(message)
            return
        self.line(up=up).push(data)

    def deliver(self, out: Any, data: bytes, *, up: bool) -> None:
        weather = self.proxy.weather
        cut = False
        if not up and self.at_reply is not None:
            data, cut = (data[:_PART] if self.at_reply == "mid" else b""), True
        if not up and weather.budget is not None:
            cut = cut or len(data) >= weather.budget
            data = data[: weather.budget]
            weather.budget = None if cut else weather.budget - len(data)
        if up:
            self.proxy.bytes_up += len(data)
        else:
            self.proxy.bytes_down += len(data)
        out.write(data)
        if cut:
            self.proxy.cuts += 1
            # not by a reset, which could overtake the part that arrives
            self.end(reset=False)

    def finished(self, out: Any) -> None:
        self.ends += 1
        if self.ends == 2:
            self.end(reset=False)
        elif out.can_write_eof():
            out.write_eof()

    def read_more(self, up: bool, *, go: bool) -> None:
        source = self.client if up else self.upstream
        if source is not None and not source.is_closing():
            with contextlib.suppress(RuntimeError):
                (source.resume_reading if go else source.pause_reading)()

    def end(self, *, reset: bool) -> None:
        """Close both ends; what is under way is lost."""
        if self.ended:
            return
        self.ended = True
        self.proxy.pairs.discard(self)
        for line in self.lines:
            if line.timer is not None:
                line.timer.cancel()
            line.waiting.clear()
        for transport in (self.client, self.upstream):
            if transport is None:
                continue
            if reset:
                with contextlib.suppress(OSError):
                    sock = transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            else:
                transport.close()


class Proxy:
    """Forwards connections; runs in a thread of its own. Every method may be called from any thread.

    Parameters
    ----------
    to
        Where connections go: ``host:port``, ``[address]:port`` or the path of a Unix socket.
    listen
        Where they come in, likewise; port 0 lets the system choose.
    latency_ms
        What bytes towards the server are late, and those from it unless `latency_back_ms` is given. A round trip
        takes both.
    jitter_ms, seed
        Up to this much more, drawn anew for each piece; the order of bytes is kept.
    bytes_per_s
        Bandwidth of each direction of each connection.
    watch
        Called (in the proxy's thread) with the name of each command of the MongoDB protocol before it is forwarded;
        "before" cuts the connection instead of forwarding it, "after" when the server answers, "mid" in the answer.
    """

    def __init__(
        self,
        to: str,
        listen: str = "127.0.0.1:0",
        *,
        latency_ms: float = 0.0,
        latency_back_ms: float | None = None,
        jitter_ms: float = 0.0,
        seed: int = 0,
        bytes_per_s: float | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.to, self.listen, self.watch = str(to), str(listen), watch
        self.address = self.listen
        self.chance = random.Random(seed)
        self.weather = _Weather()
        self.pairs: set[_Pair] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.accepted = self.cuts = self.bytes_up = self.bytes_down = 0
        self._listener: socket.socket | None = None
        self._listening = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._set(latency_ms, latency_back_ms, jitter_ms, bytes_per_s)

    # --- life ------------------------------------------------------------------------------------------

    def start(self) -> Proxy:
        """Begin to listen; `address` is then where."""
        self._thread.start()
        self.address = self._do(self._open)
        return self

    def close(self) -> None:
        """Cut everything and end the thread."""
        if not self._thread.is_alive():
            self._loop.close()
            return
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        kind, where = _parse(self.address)
        if kind == "unix":
            Path(where).unlink(missing_ok=True)

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def through(self, uri: str) -> str:
        """Return a MongoDB URI with the proxy for its host (the driver must not follow the server's own address)."""
        return through(uri, self.address)

    # --- weather ---------------------------------------------------------------------------------------

    def set(
        self,
        *,
        latency_ms: float = 0.0,
        latency_back_ms: float | None = None,
        jitter_ms: float = 0.0,
        bytes_per_s: float | None = None,
    ) -> None:
        """Change latency, jitter and bandwidth for what comes from now on."""
        self._do(lambda: self._set(latency_ms, latency_back_ms, jitter_ms, bytes_per_s))

    def cut(self, *, reset: bool = True) -> int:
        """End all connections, by RST or FIN; what is under way is lost. Returns how many there were."""
        return int(self._do(lambda: self._cut(reset)))

    def cut_reply_after(self, n: int) -> None:
        """Cut the connection that carries the n-th byte from now towards a client, after that byte."""
        self._do(lambda: setattr(self.weather, "budget", max(1, n)))

    def refuse(self) -> None:
        """Refuse new connections (the old ones live) until `accept`."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Take new connections again."""
        self._do(self._accept)

    def black_hole(self) -> None:
        """Lose everything silently. Connections of that time never work again, as behind a router that forgot them."""
        self._do(self._black_hole)

    def hold(self) -> None:
        """Deliver nothing until `heal`, and then everything, as when lost packets are sent again."""
        self._do(lambda: setattr(self.weather, "held", True))

    def heal(self) -> None:
        """End `black_hole`, `hold`, `refuse` and `cut_reply_after`."""
        self._do(self._heal)
        self.accept()

    def status(self) -> dict[str, Any]:
        """Return counters: connections now and ever, cuts, bytes."""
        return {
            "address": self.address,
            "connections": len(self.pairs),
            "accepted": self.accepted,
            "cuts": self.cuts,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
        }

    # --- inside the thread -----------------------------------------------------------------------------

    def _do(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return self._call(run())

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def _set(self, up_ms: float, down_ms: float | None, jitter_ms: float, rate: float | None) -> None:
        self.weather.up = up_ms / 1000.0
        self.weather.down = (up_ms if down_ms is None else down_ms) / 1000.0
        self.weather.jitter, self.weather.rate = jitter_ms / 1000.0, rate

    def _open(self) -> str:
        self._listener = _bind(self.listen)
        name = self._listener.getsockname()
        if isinstance(name, str):
            self.listen = name
        else:
            self.listen = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        self._accept()
        return self.listen

    def _accept(self) -> None:
        if not self._listening and self._listener is not None:
            self._listening = True
            self._listener.setblocking(False)
            self._listener.listen(512)
            self._loop.add_reader(self._listener, self._take)

    def _take(self) -> None:
        """Take all connections that wait."""
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                pair = _Pair(self)
                self._track(
                    self._loop.connect_accepted_socket(lambda pair=pair: _Side(pair, client=True), sock)
                )

    def _track(self, coroutine: Any) -> None:
        self.tasks.add(task := self._loop.create_task(coroutine))
        task.add_done_callback(self.tasks.discard)

    def _refuse(self) -> None:
        if self._listening and self._listener is not None:
            self._take()
            self._unlisten()
            # bound but not listening: refuses, and keeps the place from others
            self._listener = _bind(self.listen)

    def _unlisten(self) -> None:
        if self._listener is not None:
            if self._listening:
                self._loop.remove_reader(self._listener)
            self._listener.close()
        self._listening = False

    def _cut(self, reset: bool) -> int:
        pairs = list(self.pairs)
        for pair in pairs:
            pair.end(reset=reset)
        self.cuts += len(pairs)
        return len(pairs)

    def _black_hole(self) -> None:
        self.weather.lost = True
        for pair in self.pairs:
            pair.lost = True

    def _heal(self) -> None:
        self.weather.lost = self.weather.held = False
        self.weather.budget = None
        for pair in list(self.pairs):
            for line in pair.lines:
                line.flush()

    async def _end(self) -> None:
        self._unlisten()
        self._cut(True)
        for task in list(self.tasks):
            task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)


class Remote:
    """The weather of a `Proxy` that runs as a program, by its control socket: the same methods.

    Parameters
    ----------
    control
        The path given to ``--control``.
    """

    def __init__(self, control: Path | str) -> None:
        self._control = str(control)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _REMOTE:
            raise AttributeError(name)

        def call(*arguments: Any, **named: Any) -> Any:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(30)
                sock.connect(self._control)
                sock.sendall(json.dumps([name, arguments, named]).encode() + b"\n")
                with sock.makefile() as stream:
                    done, result = json.loads(stream.readline())
            if not done:
                raise RuntimeError(result)
            return result

        return call


_REMOTE = frozenset(
    {"set", "cut", "cut_reply_after", "refuse", "accept", "black_hole", "hold", "heal", "status"}
)


def through(uri: str, address: str) -> str:
    """Return a MongoDB URI with another host, which the driver takes for the only one."""
    scheme, rest = uri.split("://", 1)
    place, _, options = rest.partition("?")
    hosts, slash, name = place.partition("/")
    login, at, _ = hosts.rpartition("@")
    host = quote_plus(address) if _parse(address)[0] == "unix" else address
    kept = [
        part
        for part in options.split("&")
        if part and not part.startswith(("directConnection", "replicaSet"))
    ]
    return f"{scheme}://{login}{at}{host}{slash or '/'}{name}?" + "&".join([*kept, "directConnection=true"])


def _parse(address: str) -> tuple[Literal["tcp", "unix"], Any]:
    if address.startswith(("/", "unix:")):
        return "unix", address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    return "tcp", (host.strip("[]"), int(port))


def _bind(address: str) -> socket.socket:
    kind, where = _parse(address)
    if kind == "unix":
        Path(where).unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX)
    else:
        made = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(where)
    except OSError:
        made.close()
        raise
    return made


def _size(message: bytes) -> int:
    return int(struct.unpack_from("<i", message)[0])


def _command(message: bytes) -> str:
    """Return the name of the first field of an OP_MSG: header, flags, kind of section, size, type, name."""
    return message[26 : message.index(b"\0", 26)].decode()


def _serve(proxy: Proxy, control: str) -> None:
    """Answer commands of `Remote`, one line of JSON each, until the process is told to end."""
    listener = _bind(control)
    listener.listen(16)
    listener.settimeout(0.2)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.is_set():
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        with client, client.makefile("rw") as stream:
            client.settimeout(30)
            name, arguments, named = json.loads(stream.readline())
            try:
                if name not in _REMOTE:
                    raise ValueError(f"no such command: {name}")
                answer = [True, getattr(proxy, name)(*arguments, **named)]
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller has to see it
                answer = [False, f"{type(error).__name__}: {error}"]
            stream.write(json.dumps(answer) + "\n")
    listener.close()


def main() -> None:
    """Run as a program; prints its address when it listens."""
    parser = argparse.ArgumentParser(description="Forward connections over a link that can be bad.")
    parser.add_argument("--to", required=True)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--latency-back-ms", type=float)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bytes-per-s", type=float)
    parser.add_argument("--control", required=True)
    given = vars(parser.parse_args())
    control = given.pop("control")
    with Proxy(**given) as proxy:
        print(proxy.address, flush=True)
        _serve(proxy, control)


if __name__ == "__main__":
    main()
