"""Hosts made of Linux namespaces: own network, host name, processes, clock if wanted, and directory.

::

    with Network(tmp_path) as network:
        one, two = network.host("one"), network.host("two", hostname="node001")
        one.run(["ping", "-c1", two.address])
        network.drop(one)  # packets vanish without a word
        two.kill()  # as if its power was cut

Every host has an interface to a router, a namespace too; no interface of this machine is touched. All ends with the
calling process, however that ends: each host is a process-id namespace whose first process waits for the end of a pipe.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Host", "Network", "missing"]

_UNSHARE = ("unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")


def missing() -> str:
    """Return why no hosts can be made here, or an empty text."""
    lacking = [name for name in ("unshare", "nsenter", "ip", "mount") if shutil.which(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)} (util-linux, iproute2)"
    made = subprocess.run(
        [*_UNSHARE, "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"],
        capture_output=True,
        text=True,
    )
    return "" if made.returncode == 0 else f"namespaces cannot be made: {made.stderr.strip()}"


class Host:
    """One host; made by `Network.host`.

    Attributes
    ----------
    address, address6
        Its addresses.
    place
        Its directory as this process sees it.
    inside
        The same directory as the host sees it: the same path on all hosts, with other content on each.
    """

    def __init__(
        self, network: Network, name: str, hostname: str, number: int, names: Mapping[str, str]
    ) -> None:
        self.network, self.name, self.hostname, self.number = network, name, hostname, number
        self.address, self.address6 = f"10.77.{number}.2", f"fd77:{number:x}::2"
        self.place = network.directory / "hosts" / name
        self.inside = network.directory / "private"
        self._started: list[subprocess.Popen[bytes]] = []
        self.place.mkdir(parents=True)
        self.inside.mkdir(exist_ok=True)
        known = {"127.0.0.1": f"localhost {hostname}", "::1": "localhost", **names}
        (self.place / "hosts").write_text("".join(f"{where} {what}\n" for where, what in known.items()))
        self._keeper = subprocess.Popen(
            [*_UNSHARE, sys.executable, "-I", "-S", __file__, hostname, self.place, self.inside],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "ready\n":
            words = self._keeper.communicate()[1]
            raise RuntimeError(f"host {name} did not start: {words}")
        children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text().split()
        #: Its first process, as this process sees it.
        self.pid = int(children[0])

    def command(self, command: Sequence[object]) -> list[str]:
        """Return what runs a command on the host."""
        spaces = ["--net", "--uts", "--pid", "--mount"]
        # its working directory first: the one of the caller may not be there
        return ["nsenter", "--target", str(self.pid), *spaces, f"--wdns={self.inside}", *map(str, command)]

    def start(
        self, command: Sequence[object], *, log: str | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a command; its output goes to a file of the host's directory."""
        with (self.place / (log or f"{Path(str(command[0])).name}.log")).open("ab") as stream:
            made = subprocess.Popen(
                self.command(command),
                env=self.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(made)
        return made

    def run(
        self, command: Sequence[object], *, timeout: float = 60.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(command),
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def good(self, command: Sequence[object], **named: Any) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(command, **named)
        assert done.returncode == 0, f"{self.name}: {command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the host's processes: nothing in it leads to a directory of another host."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GAPFACTORY_", "XDG_", "SSH_"))
        }
        own = {
            "HOME": str(self.inside),
            "TMPDIR": str(self.inside),
            "GAPFACTORY_DATA": str(self.inside / "data"),
            "GAPFACTORY_CACHE": str(self.inside / "cache"),
            "GAPFACTORY_SCRATCH": str(self.inside / "scratch"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "80",
        }
        return kept | own | dict(more)

    def kill(self) -> None:
        """End all its processes at once, as a power cut does; its directory stays."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._gone()

    def close(self) -> None:
        """End the host."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        assert self._keeper.stderr is not None
        self._keeper.stdin.close()
        self._gone()
        self._keeper.stdout.close()
        self._keeper.stderr.close()

    def _gone(self) -> None:
        """Wait for the end of what runs: none of it can outlive the first process."""
        for process in (self._keeper, *self._started):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


class Network:
    """A router and the hosts around it.

    Parameters
    ----------
    directory
        For the directories of the hosts, in ``hosts/<name>``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hosts: list[Host] = []
        self._links = 0
        self.router = Host(self, "router", "router", 0, {})
        for family in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.router.good(["sh", "-c", f"echo 1 > /proc/sys/net/{family}"])

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def host(
        self, name: str, *, hostname: str = "", names: Mapping[str, str] | None = None, routed: bool = True
    ) -> Host:
        """Add a host.

        Parameters
        ----------
        name
            Its name in the test.
        hostname
            What it calls itself (default: the same); may be that of another one.
        names
            Addresses and the names that they have on this host.
        routed
            Whether it is connected to the router; see also `wire`.
        """
        made = Host(self, name, hostname or name, len(self.hosts) + 1, names or {})
        self.hosts.append(made)
        if routed:
            there = f"to-{name}"[:15]
            self._ip(
                self.router, "link", "add", there, "type", "veth", "peer", "name", "net0", "netns", made.pid
            )
            for host, device, last in ((self.router, there, 1), (made, "net0", 2)):
                self._ip(host, "addr", "add", f"10.77.{made.number}.{last}/24", "dev", device)
                self._ip(
                    host, "-6", "addr", "add", f"fd77:{made.number:x}::{last}/64", "dev", device, "nodad"
                )
                self._ip(host, "link", "set", device, "up")
            self._ip(made, "route", "add", "default", "via", f"10.77.{made.number}.1")
            self._ip(made, "-6", "route", "add", "default", "via", f"fd77:{made.number:x}::1")
        return made

    def wire(self, one: Host, two: Host) -> tuple[str, str]:
        """Connect two hosts directly, with no way beyond; return their addresses on this wire."""
        self._links += 1
        name, net = f"wire{self._links}", f"10.78.{self._links}"
        self._ip(one, "link", "add", name, "type", "veth", "peer", "name", name, "netns", two.pid)
        for host, last in ((one, 1), (two, 2)):
            self._ip(host, "addr", "add", f"{net}.{last}/24", "dev", name)
            self._ip(host, "link", "set", name, "up")
        return f"{net}.1", f"{net}.2"

    def drop(self, host: Host) -> None:
        """Let the router lose every packet to a host without a word (it still sends)."""
        self._ip(self.router, "route", "add", "blackhole", f"{host.address}/32")
        self._ip(self.router, "-6", "route", "add", "blackhole", f"{host.address6}/128")

    def deliver(self, host: Host) -> None:
        """End `drop`."""
        self._ip(self.router, "route", "del", "blackhole", f"{host.address}/32")
        self._ip(self.router, "-6", "route", "del", "blackhole", f"{host.address6}/128")

    def close(self) -> None:
        """End all hosts."""
        for host in [*self.hosts, self.router]:
            host.close()

    def _ip(self, host: Host, *arguments: object) -> None:
        # the tool of this machine in the network of the host: process ids are then those that we see
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{host.pid}/ns/net", "ip", *map(str, arguments)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"ip {arguments}: {done.stderr}"


def _first_process(hostname: str, place: str, inside: str) -> None:
    """Set up the host from inside, then wait for the end of the pipe; ends all processes with itself."""
    import socket

    socket.sethostname(hostname)
    others = Path(place).parent
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["mount", "--bind", place, inside],
        ["mount", "--bind", f"{place}/hosts", "/etc/hosts"],
        # the directories of the other hosts are not to be seen
        ["mount", "-t", "tmpfs", "none", str(others)],
    ):
        subprocess.run(command, check=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans that end do not stay as zombies
    print("ready", flush=True)
    while os.read(0, 64):
        pass


if __name__ == "__main__":
    _first_process(*sys.argv[1:])
