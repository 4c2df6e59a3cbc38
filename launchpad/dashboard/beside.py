"""The dashboard beside a command that runs here, for whoever sits at this computer; it ends with the command."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, cast

from launchpad.dashboard.serve import free_address, serve
from launchpad.dashboard.settings import DashboardSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["dashboard_beside"]

#: Seconds that answers under way may take at the end.
_END_S: Final = 15.0
#: <linux/prctl.h>: the signal that the kernel sends when the parent has died, however it died.
_PR_SET_PDEATHSIG: Final = 1


@contextmanager
def dashboard_beside(uri: str) -> Iterator[str]:
    """Serve the dashboard in a process of its own while the block runs.

    Parameters
    ----------
    uri
        The database, its only group.

    Yields
    ------
    str
        The link to open: whoever has it is admin.

    Raises
    ------
    ServiceError
        Scripts of the pages are missing.
    """
    from launchpad.dashboard.start import check_assets

    check_assets()
    listening = free_address(DashboardSettings(port=0))
    ticket = secrets.token_urlsafe(24)
    with listening:
        process = subprocess.Popen(
            [sys.executable, "-m", "launchpad.dashboard.beside"],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            # Ctrl-C is for the command, which ends this process when it has ended its own work
            start_new_session=True,
        )
        host, port = listening.getsockname()[:2]
        # not on the command line, which others can read
        given = {"uri": uri, "ticket": ticket, "socket": listening.fileno(), "parent": os.getpid()}
        with cast("IO[bytes]", process.stdin) as stream:
            stream.write(json.dumps(given).encode())
    try:
        yield f"http://{host}:{port}/login?ticket={ticket}"
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _main() -> None:
    from launchpad.queue.connection import database_name

    given = json.loads(sys.stdin.buffer.read())
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != given["parent"]:
        return
    serve(
        {database_name(given["uri"]): given["uri"]},
        # the terminal is for what the campaign says
        DashboardSettings(processes=1, request_log=False),
        # logins end with it, so the key need not be kept
        secrets.token_hex(32).encode(),
        socket.socket(fileno=given["socket"]),
        ticket=given["ticket"],
    )


if __name__ == "__main__":
    _main()
