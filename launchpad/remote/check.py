"""Is everything there that a site needs? ``-m launchpad.remote.check`` at the site, `check_site` here."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import socket
import sys
from typing import IO, TYPE_CHECKING, Any

from launchpad.remote.depot import Depot
from launchpad.remote.exchange import PROTOCOL, ask
from launchpad.remote.wire import receive_header, send

if TYPE_CHECKING:
    from launchpad.remote.settings import PushSite

__all__ = ["check_site", "serve"]

#: What a runner imports; a site where one is missing would only refuse bundles.
_NEEDED = ("fireworks", "pymongo", "numpy", "scipy", "ase", "numba", "custodian")
#: The program of each batch system that hands in jobs.
_PROGRAMS = {"slurm": "sbatch", "pbs": "qsub", "sge": "qsub", "lsf": "bsub"}


def check_site(site: PushSite) -> dict[str, Any]:
    """Make the directory at a site and return what is there: versions, free space, warnings.

    Raises
    ------
    RemoteError
        The site cannot be reached, or something is missing there.
    """
    from gapfactory import __version__
    from launchpad.remote.transport import Transport

    transport = Transport(site)
    found = ask(
        transport,
        "launchpad.remote.check",
        {"scheduler": site.scheduler},
        fields=("host", "gapfactory", "python", "free_mb", "warnings"),
    )
    warnings = list(found["warnings"])
    if transport.said.strip():
        warnings.append(f"the shell there says ('setup'?): {transport.said.strip()[-500:]}")
    if found["gapfactory"] != __version__:
        warnings.append(
            f"gapfactory is {found['gapfactory']} there and {__version__} here: install the same version"
        )
    return {**found, "warnings": warnings}


def serve(stream: IO[bytes], out: IO[bytes]) -> None:
    """Answer one request, at the site."""
    from gapfactory import __version__

    request = receive_header(stream)
    missing = []
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(f"{name} ({error})")
    depot = Depot(request["directory"])
    program = _PROGRAMS.get(request["scheduler"] or "")
    answer: dict[str, Any]
    try:
        depot.prepare()
    except OSError as error:
        answer = {"kind": "site", "error": f"{depot.place} on {socket.gethostname()} cannot be used: {error}"}
    else:
        answer = {
            "protocol": PROTOCOL,
            "host": socket.gethostname(),
            "gapfactory": __version__,
            "python": platform.python_version(),
            "free_mb": round(shutil.disk_usage(depot.place).free / 1e6, 1),
            "warnings": []
            if program is None or shutil.which(program)
            else [f"there is no {program} on the PATH"],
        }
    if missing:
        answer = {
            "kind": "missing",
            "error": f"{sys.executable} on {socket.gethostname()} lacks {', '.join(missing)}",
        }
    send(out, answer)


if __name__ == "__main__":
    os.umask(0o077)
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answer
    serve(sys.stdin.buffer, answer_to)
    answer_to.close()
