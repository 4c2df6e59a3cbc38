"""Hosts around a database: every link to it is a proxy, every account is that of one host."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gf_proxy
from gf_clock import wrong_clock
from gf_netns import Host, Network
from gf_push_site import site_text
from gf_sshd import start_sshd
from pymongo import MongoClient

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping

    from gf_sshd import Sshd

__all__ = ["GROUP", "QUICK", "World", "eventually"]

ROOT = Path(__file__).parents[3]
MAIN = (sys.executable, "-c", "from launchpad.cli import main; main()")
GROUP = "silicon"

#: Leases and heartbeats of seconds, so that a test need not wait for minutes; JSON is YAML.
QUICK = {
    "queue": {
        "heartbeat_s": 1.0,
        "lease_s": 5.0,
        "lock_ttl_s": 4.0,
        "reserved_grace_s": 4.0,
        "reaper_lease_s": 3.0,
        "refresh_grace_s": 2.0,
        "transient_delays_s": [0.5] * 20,
    },
    "worker": {"report_s": 0.5, "drain_grace_s": 5.0},
    "supervisor": {"reap_s": 0.5, "deep_reap_s": 2.0},
}
#: A URI may say how fast the driver notices a dead link.
NOTICES = "connectTimeoutMS=1500&socketTimeoutMS=3000&heartbeatFrequencyMS=1000"


def eventually(what: Callable[[], Any], limit_s: float = 120.0, step_s: float = 0.05) -> Any:
    """Return the first true value of a function, asked again and again."""
    end = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(step_s)
    return found


def seconds_until(what: Callable[[], Any], limit_s: float = 120.0) -> float:
    """Return how long it takes until a function is true."""
    begin = time.monotonic()
    eventually(what, limit_s, 0.02)
    return time.monotonic() - begin


class World:
    """A network, the database's host in it, and the links of other hosts to it.

    Parameters
    ----------
    directory
        For everything.

    Attributes
    ----------
    server
        The database's host.
    links
        The proxies of the hosts, by their names.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = Network(directory)
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self.server = self.network.host("server")
            self.links: dict[str, gf_proxy.Remote] = {}
            (directory / "links").mkdir()
            code = "import sys; from launchpad.embedded import ensure_running as run; print(run(sys.argv[1], port=0))"
            uri = self.server.good(
                [sys.executable, "-c", code, self.server.inside / "data"], PYTHONPATH=str(ROOT)
            ).strip()
            self.administrator = uri.replace("/gapfactory?", f"/{GROUP}?")
            port = self.administrator.partition("@127.0.0.1:")[2].partition("/")[0]
            self._to = f"127.0.0.1:{port}"
            # Unix sockets do not know networks: this process looks at the database by one
            socket = self.link("test", directory / "links" / "test.sock")
            self.client: MongoClient[dict[str, Any]] = MongoClient(
                gf_proxy.through(self.administrator, socket), serverSelectionTimeoutMS=10_000
            )
            self.database = self.client[GROUP]
        except BaseException:
            self.network.close()
            raise

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.network.close()

    def link(self, name: str, listen: Path | str, *, to: str = "", round_trip_ms: float = 0.0) -> str:
        """Open a way from the server's host to the database, or to something else; return its address."""
        control = self.directory / "links" / f"{name}.control"
        log = f"link-{name}.log"
        way = ["--to", to or self._to, "--listen", listen, "--control", control]
        options = [*way, "--latency-ms", round_trip_ms / 2]
        self.server.start([sys.executable, "-I", gf_proxy.__file__, *options], log=log)
        self.links[name] = gf_proxy.Remote(control)
        return str(eventually(lambda: (self.server.place / log).read_text().strip()))

    def gapfactory(self, *arguments: object, host: Host | None = None, **environment: str) -> str:
        """Run a command that must succeed, as the administrator on the server unless a host is given."""
        on = host or self.server
        known = self.of_host(host) if host else {"GAPFACTORY_DB": self.administrator, "PYTHONPATH": str(ROOT)}
        return on.good([*MAIN, *arguments], timeout=120.0, **(known | environment))

    def account(self, name: str, role: str) -> str:
        """Make a user of the group; return its URI as the server knows itself."""
        from launchpad.database.users import add_user, user_uri

        return user_uri(self.administrator, GROUP, name, add_user(self.client, GROUP, name, role))

    def join(self, host: Host, *, address: str, options: str = NOTICES, role: str = "worker") -> None:
        """Give a host an account, the URI with the address of its link, and settings; as its user would."""
        uri = gf_proxy.through(self.account(host.name, role), address) + f"&{options}"
        secret = host.place / "db.uri"
        secret.touch(mode=0o600)
        secret.write_text(uri)
        (host.place / "settings.yaml").write_text(json.dumps(QUICK))

    def of_host(self, host: Host) -> dict[str, str]:
        """Return the environment of a host's commands."""
        return {
            "GAPFACTORY_DB_FILE": str(host.inside / "db.uri"),
            "GAPFACTORY_SETTINGS": str(host.inside / "settings.yaml"),
            "PYTHONPATH": str(ROOT),
        }

    def work(self, host: Host, *arguments: object, **environment: str) -> None:
        """Start workers on a host."""
        command = [*MAIN, "worker", "start", "-n", "1", *arguments]
        self._workers[host.name] = host.start(command, log="worker.log", **(self.of_host(host) | environment))

    @contextmanager
    def site(self, host: Host, address: str, **keys: object) -> Iterator[Sshd]:
        """Let a real sshd be the only way to a host, and write the file that a push worker is started with.

        Parameters
        ----------
        host
            Where sshd runs.
        address
            Where it listens.
        keys
            More of the site's file.
        """
        with start_sshd(self.directory / "sshd", address, 2222, prefix=host.command([])) as gate:
            way = self.link(host.name, "127.0.0.1:0", to=f"{address}:2222", round_trip_ms=20)
            known = gate.config.read_text().replace(address, "127.0.0.1")
            known = known.replace("2222", way.rpartition(":")[2])
            (self.server.place / "ssh_config").write_text(known)
            text = json.loads(site_text(gate, host.inside / "push", host.inside / "cache", **keys))
            text["ssh_config"] = str(self.server.inside / "ssh_config")
            (self.server.place / "site.yaml").write_text(json.dumps(text))
            yield gate

    def push(self) -> None:
        """Start the push worker of the site, beside the database and with an account of its own."""
        self.join(self.server, address=self._to)
        known = self.of_host(self.server)
        self.server.good([*MAIN, "push", "init", "site.yaml"], timeout=120.0, **known)
        command = [*MAIN, "push", "start", "site.yaml"]
        self._workers["server"] = self.server.start(command, log="push.log", **known)

    def ended(self, host: Host) -> int:
        """Wait for the end of the workers of a host; return the exit code of their supervisor.

        They have 30 s: 5 of grace, 10 until a task that does not heed it is left, 15 until they are
        killed; a push worker 25, if its site does not answer.
        """
        return self._workers[host.name].wait(30)

    def work_with_wrong_clock(self, host: Host, ahead_s: float, *arguments: object) -> None:
        """Start workers on a host whose time of day is wrong."""
        clock = wrong_clock(host.place / "clock", ahead_s, str(ROOT), seen_as=host.inside / "clock")
        self.work(host, *arguments, **clock)

    def node(self, host: Host) -> str:
        """Return how the processes of a host name their machine (its own name may not be its alone)."""
        code = "from launchpad.queue.identity import ProcessIdentity as I; print(I.current().node)"
        return host.good([sys.executable, "-c", code], PYTHONPATH=str(ROOT)).strip()

    def launches(self, node: str, state: str) -> list[Mapping[str, Any]]:
        """Return the launches of a machine (or of the push workers of a site, ``push/<name>``) in a state."""
        begin = {"$regex": f"^{re.escape(node)}"}
        return list(self.database.launches.find({"process.node": begin, "state": state}))

    def no_way(self, host: Host, address: str) -> bool:
        """Return whether no port of the database, or of a link to it, can be reached from a host."""
        code = (
            "import socket, sys\n"
            "for port in map(int, sys.argv[2:]):\n"
            "    with socket.socket() as sock:\n"
            "        sock.settimeout(2)\n"
            "        assert sock.connect_ex((sys.argv[1], port)), port\n"
        )
        ports = [self._to.rpartition(":")[2], "27101", "27102", "27103"]
        return host.run([sys.executable, "-c", code, address, *ports]).returncode == 0

    def workers(self, node: str) -> list[Mapping[str, Any]]:
        """Return the entries of the workers of a machine."""
        return list(self.database.workers.find({"node": node, "kind": "worker"}))

    def state_of_launch(self, launch_id: int) -> str:
        """Return the state of a launch."""
        return str((self.database.launches.find_one({"launch_id": launch_id}) or {}).get("state"))

    def campaign(self, name: str) -> str:
        """Return the state of a campaign."""
        return str((self.database.campaigns.find_one({"_id": name}) or {}).get("state"))

    def logs(self) -> str:
        """Return the end of every log, for a test that failed."""
        parts = []
        for path in sorted(self.directory.glob("hosts/*/**/*.log")):
            parts += [f"---- {path.relative_to(self.directory)}", path.read_text(errors="replace")[-3000:]]
        return "\n".join(parts)
