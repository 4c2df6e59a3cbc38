"""The hosts that tests make of namespaces: what they see of each other, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gf_netns import Network
from gf_world import ROOT, eventually

pytestmark = pytest.mark.usefixtures("namespaces")

LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], 7), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("listening", flush=True)
while True:
    server.accept()[0].sendall(b"hello")
"""
ASK = """
import socket, sys
print(socket.create_connection((sys.argv[1], 7), timeout=float(sys.argv[2])).recv(9).decode())
"""


def ask(host, address, limit_s=10.0):
    return host.run([sys.executable, "-c", ASK, address, limit_s])


def answered(asked):
    assert asked.stdout == "hello\n", asked.stderr


def listen(host, address):
    host.start([sys.executable, "-c", LISTEN, address], log=f"{address}.log")
    eventually((host.place / f"{address}.log").read_text)


def test_hosts_are_apart(tmp_path):
    with Network(tmp_path) as network:
        one = network.host("one", hostname="node001")
        two = network.host("two", hostname="node001", names={one.address: "the-other"})
        assert one.good(["hostname"]) == two.good(["hostname"]) == "node001\n"
        # own processes, own directory at the same place, and none of the other's
        assert len(one.good(["ps", "-e", "-o", "pid="]).split()) == 2
        one.good(["touch", "mine"])
        assert (one.place / "mine").exists()
        assert "mine" not in two.good(["ls"])
        assert one.good(["ls", tmp_path / "hosts"]) == ""
        for address in (one.address, one.address6):
            listen(one, address)
            answered(ask(two, address))
        answered(ask(two, "the-other"))
        # nothing leads out, and the session itself is in none of it
        assert "Network is unreachable" in ask(network.router, "192.0.2.1").stderr
        assert b"10.77." not in subprocess.run(["ip", "addr"], capture_output=True, check=True).stdout


def test_packets_are_dropped_without_a_word_and_a_host_dies_at_once(tmp_path):
    with Network(tmp_path) as network:
        one, two = network.host("one"), network.host("two")
        listen(one, one.address)
        network.drop(one)
        assert "timed out" in ask(two, one.address, 0.5).stderr
        network.deliver(one)
        answered(ask(two, one.address))
        one.kill()
        assert ask(two, one.address).returncode != 0


def test_a_wire_is_the_only_way(tmp_path):
    with Network(tmp_path) as network:
        one, two = network.host("one"), network.host("two", routed=False)
        here, there = network.wire(one, two)
        listen(two, there)
        answered(ask(one, there))
        assert "Network is unreachable" in ask(two, one.address).stderr
        assert here.startswith("10.78.")


HIDDEN = """
import os, subprocess
from launchpad.queue.identity import ProcessIdentity, process_start
me = ProcessIdentity.current()
with subprocess.Popen(["sleep", "30"]) as other, subprocess.Popen(["true"]) as gone:
    found = [ProcessIdentity(me.host, me.node, p.pid, process_start(p.pid) or 1) for p in (other, gone)]
    gone.wait()
    subprocess.run(["mount", "-o", "remount,hidepid=2", "/proc"], check=True)
    if os.fork() == 0:
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        print(*(process.fate for process in found), flush=True)
        os._exit(0)
    os.wait()
    other.kill()
"""


def test_a_colleague_s_worker_is_not_dead_because_it_is_hidden(tmp_path):
    """Login nodes often show only one's own processes; two people of a group may work on one."""
    with Network(tmp_path) as network:
        host = network.host("login")
        assert host.good([sys.executable, "-c", HIDDEN], PYTHONPATH=str(ROOT)) == "unknown dead\n"


def test_nothing_stays_when_the_test_is_killed(tmp_path):
    code = (
        "import sys, pathlib; from gf_netns import Network\n"
        "network = Network(pathlib.Path(sys.argv[1])); one = network.host('one')\n"
        "one.start(['sleep', '600'])\n"
        "print(network.router.pid, one.pid, flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10)
