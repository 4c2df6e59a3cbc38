"""One shared connection to a site, by the system's OpenSSH client.

The client brings what sites ask for and we must not imitate: the user's configuration, keys and agents, jump hosts,
passwords and codes typed by a person. Everything goes through one master connection (``ControlMaster``), so that a
login with a second factor is needed once; `Transport.connect` opens it at a terminal, all else never asks anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from gapfactory.errors import ServiceError
from launchpad.remote.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from launchpad.remote.settings import PushSite

__all__ = ["Transport", "socket_directory"]

logger = logging.getLogger("launchpad.remote")

Result = TypeVar("Result")

#: Exit code of ssh for its own failures; everything else is the command's.
_SSH_FAILED = 255
#: Exit codes of shells for a command that is not there, or cannot be executed.
_NO_COMMAND = frozenset({126, 127})

_HOST_KEY = re.compile(
    r"host key verification failed|host identification has changed|host key .* not known", re.I
)
_LOGIN = re.compile(
    r"permission denied|too many authentication failures|no more authentication methods|authentication failed",
    re.I,
)
_NO_PACKAGE = re.compile(r"No module named '?(launchpad|gapfactory|pydantic)")


def socket_directory() -> Path:
    """Return a directory for sockets that only this user can enter, with a short path (sockets allow ~100 letters).

    Raises
    ------
    ServiceError
        Somebody else made it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and len(runtime) < 50 and os.access(runtime, os.W_OK) else Path("/tmp")  # noqa: S108 - checked below
    place = base / f"gapfactory-ssh-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ServiceError(
            f"{place} is not a directory of yours alone (mode 0700): remove it, or ask who made it."
        )
    return place


class Transport:
    """The way to one site.

    Parameters
    ----------
    site
        Where it is and how long to wait for what.
    """

    def __init__(self, site: PushSite) -> None:
        self.site = site
        way = [
            site.host,
            site.user,
            site.port,
            site.jump,
            site.ssh_config and str(Path(site.ssh_config).expanduser()),
        ]
        self.socket = socket_directory() / hashlib.sha256(repr(way).encode()).hexdigest()[:16]
        #: calls over the connection so far
        self.calls = 0
        #: what the last call that succeeded wrote beside its answer, such as complaints of 'setup'
        self.said = ""
        self._until = float("inf")
        self._give_up: Callable[[], None] | None = None
        if shutil.which("ssh") is None:
            raise ServiceError("there is no ssh on the PATH: install the OpenSSH client.")

    def _ssh(self, *options: str, destination: bool = True) -> list[str]:
        site, timing = self.site, self.site.timing
        command = ["ssh", "-o", f"ControlPath={self.socket}"]
        if site.ssh_config is not None:
            command += ["-F", str(Path(site.ssh_config).expanduser())]
        for name, value in (
            ("ConnectTimeout", max(1, round(timing.connect_s))),
            ("ServerAliveInterval", max(1, round(timing.keepalive_s))),
            ("ServerAliveCountMax", timing.keepalive_misses),
        ):
            command += ["-o", f"{name}={value}"]
        if site.user is not None:
            command += ["-l", site.user]
        if site.port is not None:
            command += ["-p", str(site.port)]
        if site.jump is not None:
            command += ["-J", site.jump]
        command += options
        return [*command, "--", site.host] if destination else command

    @property
    def connected(self) -> bool:
        """Whether the shared connection is open, as far as this machine knows."""
        if not self.socket.exists():
            return False
        try:
            done = subprocess.run(
                self._ssh("-O", "check"), capture_output=True, timeout=10.0, check=False, env=_environment()
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def connect(self, *, interactive: bool = True) -> None:
        """Open the shared connection and leave it open; at a terminal, a person types passwords and codes.

        Raises
        ------
        RemoteError
            It cannot be opened.
        """
        if self.connected:
            return
        self.socket.unlink(missing_ok=True)
        options = ["-M", "-N", "-f", "-o", "ControlMaster=yes"]
        options += ["-o", f"ControlPersist={max(1, round(self.site.timing.persist_s))}"]
        if interactive:
            code = subprocess.run(self._ssh(*options), check=False).returncode
            if code != 0:
                raise RemoteError(
                    "authentication",
                    f"no connection to {self._where} (ssh ended with {code}); what it said stands above.",
                )
            return
        options += ["-o", "BatchMode=yes"]
        limit_s = self._within(self.site.timing.connect_s + 10.0)
        # a file, not a pipe: the connection stays in the background, and would keep a pipe open
        with tempfile.TemporaryFile() as said:
            try:
                done = subprocess.run(
                    self._ssh(*options),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    timeout=limit_s,
                    start_new_session=True,  # without a terminal nothing on the way can ask either
                    env=_environment(),
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise RemoteError(
                    "network",
                    f"no connection to {self._where} within {limit_s:.3g} s.",
                ) from error
            if done.returncode != 0:
                raise self._refused(_text(said))

    def disconnect(self) -> None:
        """Close the shared connection."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                self._ssh("-O", "exit"), capture_output=True, timeout=10.0, check=False, env=_environment()
            )

    def hasten(self, under_way_s: float, all_s: float) -> None:
        """Shorten the limits, because somebody waits for the end; from another thread than that of the calls.

        Parameters
        ----------
        under_way_s
            A call that is under way is given up after this time.
        all_s
            So are all others, and none begins later.
        """
        self._until = time.monotonic() + all_s
        give_up = self._give_up
        if give_up is not None:
            clock = threading.Timer(under_way_s, give_up)
            clock.daemon = True
            clock.start()

    def _within(self, seconds: float) -> float:
        """Return a limit, shortened to what is left.

        Raises
        ------
        RemoteError
            Nothing is left.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise RemoteError("network", f"{self._where} had not answered by the time to end.")
        return min(seconds, left)

    def call(
        self,
        words: list[str],
        send: Callable[[IO[bytes]], None],
        receive: Callable[[IO[bytes]], Result],
    ) -> Result:
        """Run a command of ours at the site, in its environment.

        Parameters
        ----------
        words
            Arguments of Python there, such as ``-m launchpad.remote.depot``.
        send
            Writes its input.
        receive
            Reads its output and returns what is made of it; raises EOFError for an output that was cut.

        Raises
        ------
        RemoteError
            By kind; whatever was sent may or may not have arrived.
        """
        self.connect(interactive=False)
        self.calls += 1
        command = self._ssh("-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no")
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [*command, self.command(words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,
                env=_environment(),
            )
            late = threading.Event()

            def give_up() -> None:
                late.set()
                process.kill()

            began = time.monotonic()
            self._give_up = (
                give_up  # before the limit is looked at: `hasten` finds the one or has changed the other
            )
            clock = threading.Timer(min(self.site.timing.call_s, self._until - began), give_up)
            clock.daemon = True
            clock.start()
            try:
                result = self._talk(process, send, receive)
                process.wait()
                self.said = _text(said)
            except (EOFError, OSError) as error:
                process.kill() if not isinstance(error, EOFError | BrokenPipeError) else None
                code = process.wait()
                if late.is_set():
                    after_s = min(self.site.timing.call_s, time.monotonic() - began)
                    raise RemoteError(
                        "network",
                        f"{self._where} did not answer within {after_s:.3g} s.",
                    ) from error
                raise self._failed(code, _text(said)) from error
            finally:
                self._give_up = None
                clock.cancel()
                for pipe in (process.stdin, process.stdout):
                    with contextlib.suppress(OSError):
                        pipe.close()  # type: ignore[union-attr]
                if process.poll() is None:
                    process.kill()
                    process.wait()
        return result

    def _talk(
        self,
        process: subprocess.Popen[bytes],
        send: Callable[[IO[bytes]], None],
        receive: Callable[[IO[bytes]], Result],
    ) -> Result:
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            send(process.stdin)
            process.stdin.close()
        except BrokenPipeError:
            logger.debug("%s ended before it had read everything: it may have said why", self._where)
        return receive(process.stdout)

    def command(self, words: list[str]) -> str:
        """Return the command line for the shell at the site, whichever shell that is.

        A login shell of bash, so that ``module`` and the like are there; its lines, in one pair of quotes, are the only
        thing that the user's own shell has to understand.
        """
        python = self.site.python
        quoted = f'"$HOME"/{shlex.quote(python[2:])}' if python.startswith("~/") else shlex.quote(python)
        lines = [*self.site.setup, f"exec {quoted} {shlex.join(words)}"]
        return f"exec bash -lc {shlex.quote('; '.join(lines))}"

    @property
    def _where(self) -> str:
        site = self.site
        return (
            (f"{site.user}@" if site.user else "")
            + site.host
            + (f" through {site.jump}" if site.jump else "")
        )

    def _refused(self, said: str) -> RemoteError:
        """Return the error for a connection that ssh could not open."""
        words = _last_words(said)
        if _HOST_KEY.search(said):
            return RemoteError(
                "host-key",
                f"the host key of {self._where} is not the known one, or not known yet ({words}). Compare it with what "
                "the site publishes, then accept it once with: gapfactory push connect",
            )
        if _LOGIN.search(said):
            return RemoteError(
                "authentication",
                f"{self._where} wants a login that needs a person ({words}). Open the connection with: gapfactory push "
                "connect",
            )
        return RemoteError(
            "network",
            f"no connection to {self._where} ({words}). If it lasts: are 'host', 'port', 'jump' right?",
        )

    def _failed(self, code: int, said: str) -> RemoteError:
        """Return the error for a command that did not answer as it should."""
        words = _last_words(said)
        if code == _SSH_FAILED or code < 0:
            return self._refused(said)
        if code in _NO_COMMAND:
            return RemoteError(
                "missing",
                f"{self.site.python!r} cannot be started at {self._where} ({words}): correct 'python' or 'setup' in "
                "the site's file.",
            )
        if _NO_PACKAGE.search(said):
            return RemoteError(
                "missing",
                f"{self.site.python!r} at {self._where} has no gapfactory ({words}): install it there, or name the "
                "Python that has it.",
            )
        return RemoteError("site", f"the command at {self._where} ended with exit code {code} ({words}).")


def _environment() -> dict[str, str]:
    """Return an environment in which ssh asks nobody, and takes no secret of ours to sites that accept variables."""
    hidden = ("SSH_ASKPASS", "GAPFACTORY_DB")
    return {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
        "SSH_ASKPASS_REQUIRE": "never"
    }


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(100_000).decode(errors="replace")


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-2:])[:400] or "it did not say why"
