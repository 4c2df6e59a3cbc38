"""Commands of `gapfactory` in processes forked from one that has already imported the program.

Most of a short command's time is Python's start and its imports, and the tests run hundreds of them. Each is still a
process of its own, with its own arguments, directory, environment, output and exit status.

As a program (`python -c START SOCKET`) this file is the process that imports and forks.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: as with ``python -c``, the first place that modules are looked for in stays the working directory
START = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
#: what the commands import when they need it
IMPORTED = (
    *(
        "ase.io",
        "ase.neighborlist",
        "fireworks",
        "matplotlib.pyplot",
        "numba",
        "pymongo",
        "rich.table",
        "spglib",
    ),
    *("gapfactory.campaign.presets", "gapfactory.potentials.gap.files", "gapfactory.report.write"),
    *("launchpad.cli.app", "launchpad.cli.live", "launchpad.database.indexes", "launchpad.embedded"),
    *(
        "launchpad.figure_data.request",
        "launchpad.queue.launchpad",
        "launchpad.reporting",
        "launchpad.service",
    ),
    "launchpad.workflows.generation",
)
_MESSAGE = 1 << 20
#: read by Python itself, or while modules are imported: with other values a command gets an interpreter of its own
_READ_EARLY = (
    "PYTHON",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "NUMBA_",
    "MPL",
    "COLUMNS",
    "XDG_CACHE_HOME",
    "NO_COLOR",
    "TERM",
)


class Forks:
    """A process that has imported the program and runs commands in forks of itself.

    Parameters
    ----------
    environment
        Its environment. `serves` tells for which other ones its forks do.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.early = _read_early(environment)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _MESSAGE)
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE)

    def serves(self, environment: dict[str, str]) -> bool:
        """Return whether a command with this environment can be a fork."""
        return _read_early(environment) == self.early

    def run(
        self, arguments: tuple[str, ...], directory: Path, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as `subprocess.run` with captured text does."""
        request = json.dumps(
            {"arguments": arguments, "directory": str(directory), "environment": environment}
        )
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            mine, theirs = socket.socketpair()
            with mine, theirs, mine.makefile("r") as told:
                files = array.array("i", [out.fileno(), err.fileno(), theirs.fileno()])
                self._socket.sendmsg([request.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
                theirs.close()
                mine.settimeout(timeout)
                pid = told.readline()
                try:
                    status = told.readline()
                except TimeoutError:
                    os.kill(int(pid), signal.SIGKILL)
                    raise subprocess.TimeoutExpired(arguments, timeout) from None
            assert status, "the process that forks the commands has died"
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        return subprocess.CompletedProcess(arguments, int(status), *texts)

    def close(self) -> None:
        """End the process; its running commands go on."""
        self._socket.close()
        self._process.wait(60)


def _read_early(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_EARLY)}


def _serve(requests: socket.socket) -> None:
    """Fork for each request until nobody can make one; return in each fork, which is then the command."""
    running: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with running.pop(ended[0]) as asked, contextlib.suppress(BrokenPipeError):
                    asked.sendall(f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())
        if requests not in ready:
            continue
        message, files, _, _ = socket.recv_fds(requests, _MESSAGE, 3)
        if not message:
            os._exit(0)
        out, err, asked = files
        pid = os.fork()
        if pid:
            os.close(out)
            os.close(err)
            running[pid] = socket.socket(fileno=asked)
            running[pid].sendall(f"{pid}\n".encode())
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in running.values():
            other.close()
        requests.close()
        os.dup2(out, 1)
        os.dup2(err, 2)
        for number in (out, err, asked, woken, wake):
            os.close(number)
        request = json.loads(message)
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv[1:] = request["arguments"]
        return


if __name__ == "__main__":
    for _name in IMPORTED:
        import_module(_name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from launchpad.cli import main

    main()
