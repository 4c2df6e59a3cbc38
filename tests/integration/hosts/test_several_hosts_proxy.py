"""The proxy that stands for bad links in other tests is late, silent and cut exactly as it is told."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import gf_proxy
import pytest
from gf_proxy import Proxy, Remote, through


@contextmanager
def echo(family=socket.AF_INET, where=("127.0.0.1", 0)):
    """A server that answers every byte."""
    with socket.socket(family) as listener:
        listener.bind(where)
        listener.listen(16)

        def serve(peer):
            with peer:
                while data := _quietly(peer):
                    peer.sendall(data)

        def accept():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        name = listener.getsockname()
        yield name if isinstance(name, str) else f"127.0.0.1:{name[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _quietly(peer):
    try:
        return peer.recv(1 << 16)
    except OSError:
        return b""


def connect(proxy):
    host, port = proxy.address.rsplit(":", 1)
    made = socket.create_connection((host, int(port)), timeout=5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def read(sock, n):
    data = b""
    while len(data) < n and (more := sock.recv(n - len(data))):
        data += more
    return data


def round_trip(sock):
    begin = time.monotonic()
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    return time.monotonic() - begin


@pytest.mark.parametrize(("there", "back"), [(0.0, 0.0), (25.0, 25.0), (5.0, 45.0)])
def test_a_round_trip_takes_both_latencies(there, back):
    with echo() as to, Proxy(to, latency_ms=there, latency_back_ms=back) as link, connect(link) as sock:
        fastest = min(round_trip(sock) for _ in range(7))
        # this machine may be busy with something else: a round trip without that comes at some time
        until = time.monotonic() + 30.0
        while fastest >= (there + back) / 1000 + 0.015 and time.monotonic() < until:
            fastest = min(fastest, round_trip(sock))
    assert (there + back) / 1000 <= fastest < (there + back) / 1000 + 0.015


def test_latency_does_not_cost_throughput_and_keeps_the_order():
    sent = bytes(range(256)) * 8192  # 2 MiB
    with echo() as to, Proxy(to, latency_ms=50, jitter_ms=5, seed=3) as link, connect(link) as sock:
        begin = time.monotonic()

        def send():
            for at in range(0, len(sent), 4096):
                sock.sendall(sent[at : at + 4096])

        thread = threading.Thread(target=send)
        thread.start()
        assert read(sock, len(sent)) == sent
        taken = time.monotonic() - begin
        thread.join()
        # 512 pieces, each 100 ms late: 51 s if they waited for each other
        assert 0.1 <= taken < 2.0


def test_bandwidth():
    with echo() as to, Proxy(to, bytes_per_s=1e6) as link, connect(link) as sock:
        begin = time.monotonic()
        sock.sendall(bytes(300_000))
        assert len(read(sock, 300_000)) == 300_000
        assert 0.3 <= time.monotonic() - begin < 1.5


@pytest.mark.parametrize("reset", [True, False])
def test_cut(reset):
    with echo() as to, Proxy(to) as link, connect(link) as first, connect(link) as second:
        round_trip(first), round_trip(second)
        assert link.cut(reset=reset) == 2
        for sock in (first, second):
            if reset:
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
            else:
                assert sock.recv(1) == b""
        with connect(link) as third:
            round_trip(third)
        assert link.status()["cuts"] == 2


def test_cut_in_the_middle_of_a_reply():
    with echo() as to, Proxy(to) as link, connect(link) as sock, connect(link) as other:
        round_trip(sock)
        link.cut_reply_after(1000)
        sock.sendall(bytes(5000))
        assert len(read(sock, 5000)) == 1000
        round_trip(other)


def test_refusal_and_return_at_the_same_address():
    with echo() as to, Proxy(to) as link, connect(link) as old:
        address = link.address
        link.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(link)
        round_trip(old)
        link.accept()
        assert link.address == address
        with connect(link) as new:
            round_trip(new)


def test_a_black_hole_swallows_what_it_saw_and_no_more():
    with echo() as to, Proxy(to) as link, connect(link) as old:
        round_trip(old)
        link.black_hole()
        with connect(link) as during:
            for sock in (old, during):
                sock.sendall(b"x")
                sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                old.recv(1)
            link.heal()
            with connect(link) as new:
                round_trip(new)
            for sock in (old, during):
                with pytest.raises(TimeoutError):
                    sock.recv(1)


def test_held_bytes_arrive_later():
    with echo() as to, Proxy(to) as link, connect(link) as sock:
        round_trip(sock)
        link.hold()
        sock.sendall(b"abc")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        link.heal()
        sock.settimeout(5)
        assert read(sock, 3) == b"abc"


def test_nobody_behind_it(tmp_path):
    nobody = str(tmp_path / "nobody.sock")
    with Proxy(nobody) as link, pytest.raises(ConnectionResetError), connect(link) as sock:
        sock.recv(1)


def test_unix_sockets(tmp_path):
    place = str(tmp_path / "s")
    with echo(socket.AF_UNIX, place) as to, Proxy(to, tmp_path / "p") as link:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(link.address)
            round_trip(sock)
        link.refuse()
        with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(link.address)


def test_as_a_program(tmp_path):
    control = tmp_path / "c"
    with echo() as to:
        program = subprocess.Popen(
            [
                sys.executable,
                str(Path(gf_proxy.__file__)),
                "--to",
                to,
                "--latency-ms",
                "20",
                "--control",
                control,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        with program:
            link = Remote(control)
            link.address = program.stdout.readline().strip()
            with connect(link) as sock:
                assert round_trip(sock) >= 0.04
                link.set(latency_ms=0)
                assert min(round_trip(sock) for _ in range(5)) < 0.02
                assert link.cut() == 1
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
            with pytest.raises(RuntimeError, match="TypeError"):
                link.cut_reply_after("much")
            program.terminate()
        assert program.returncode == 0


def test_uri_through_the_proxy():
    assert through("mongodb://u:p%40@db:27017,db2/x?replicaSet=a&tls=true", "127.0.0.1:5") == (
        "mongodb://u:p%40@127.0.0.1:5/x?tls=true&directConnection=true"
    )
    assert through("mongodb://%2Ftmp%2Fa.sock/x?directConnection=true", "/run/b.sock") == (
        "mongodb://%2Frun%2Fb.sock/x?directConnection=true"
    )
