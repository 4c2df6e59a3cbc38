"""A real sshd of one's own: own host key, own user key, own port, in a directory; and the way to log in to it.

Use::

    with start_sshd(directory, "127.0.0.1", 2222) as gate:
        site = f"host: {gate.alias}\\nssh_config: {gate.config}\\n..."

Inside a network namespace the caller starts it with ``prefix=("ip", "netns", "exec", NAME)``.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

_SERVER = """
Port {port}
ListenAddress {address}
HostKey {directory}/host_key
PidFile none
AuthorizedKeysFile {directory}/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PermitUserEnvironment no
MaxStartups 100
MaxSessions 50
PrintMotd no
LogLevel VERBOSE
{more}
"""

_CLIENT = """
Host {alias}
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {directory}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  HostKeyAlias {alias}
"""


@dataclass
class Sshd:
    """A running sshd.

    Attributes
    ----------
    directory
        Its keys and files: ``host_key``, ``user_key``, ``known_hosts``, ``authorized_keys``, ``sshd.log``.
    address, port
        Where it listens.
    alias
        Its name in `config`.
    config
        An ssh configuration file for clients; texts of several can be joined (a jump host and a login node).
    """

    directory: Path
    address: str
    port: int
    alias: str
    config: Path
    _prefix: tuple[str, ...]
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        assert SSHD is not None
        with (self.directory / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, SSHD, "-D", "-e", "-f", str(self.directory / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 20.0
        while f"Server listening on {self.address}" not in self.log():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, f"sshd does not listen: {self.log()}"
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, and every connection through it; what those started in sessions of their own goes on."""
        process, self._process = self._process, None
        if process is None:
            return
        for pid in _connections(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
        (self.directory / "sshd.log").replace(self.directory / f"sshd.{time.monotonic_ns()}.log")

    def log(self) -> str:
        """Return what it logged since its start."""
        path = self.directory / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logins(self) -> int:
        """Return how many logins it has accepted since its start."""
        return self.log().count("Accepted publickey")


def _connections(parent: int) -> list[int]:
    """Return the sshd processes of the open connections, below a listening one."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "stat").read_text()
                name, fields = (
                    text[text.index("(") + 1 : text.rindex(")")],
                    text[text.rindex(")") + 2 :].split(),
                )
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                names[int(entry.name)] = name
    found, todo = [], [parent]
    while todo:
        for pid in children.get(todo.pop(), []):
            todo.append(pid)
            if names[pid].startswith("sshd"):
                found.append(pid)
    return found


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def start_sshd(
    directory: Path,
    address: str = "127.0.0.1",
    port: int | None = None,
    *,
    alias: str = "login",
    prefix: Sequence[str] = (),
    more: str = "",
) -> Iterator[Sshd]:
    """Run an sshd for the calling user until the context ends.

    Parameters
    ----------
    directory
        New, for its keys, configurations and log.
    address, port
        Where it listens (default: a free port; inside another namespace a port must be given).
    alias
        Its name in the client's configuration.
    prefix
        Words before its command, such as ``ip netns exec NAME``.
    more
        Further lines of its configuration.
    """
    directory.mkdir(parents=True, mode=0o700)
    port = port or free_port(address)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it shuts its unprivileged part in
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)],
            check=True,
        )
    shutil.copy(directory / "user_key.pub", directory / "authorized_keys")
    host_key = " ".join((directory / "host_key.pub").read_text().split()[:2])
    (directory / "known_hosts").write_text(f"{alias} {host_key}\n")
    known = {"directory": directory, "address": address, "port": port, "alias": alias}
    (directory / "sshd_config").write_text(_SERVER.format(**known, more=more))
    (directory / "ssh_config").write_text(_CLIENT.format(**known, user=getpass.getuser()))
    gate = Sshd(directory, address, port, alias, directory / "ssh_config", tuple(prefix))
    gate.start()
    try:
        yield gate
    finally:
        gate.stop()
