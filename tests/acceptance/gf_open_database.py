"""In a network namespace of its own: a database at an address of a network, and what our connections say to it.

Arguments: path of a server's Unix socket (whoever comes by it is root without a password), and a user of the group
``silicon`` as ``name:password``. Prints JSON: what was asked -> how it ended.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading

OUTSIDE, PORT = "10.77.0.1", 27017


def forward(address: str, path: str) -> None:
    """Pass every connection to an address on to a Unix socket, as an open `mongod` would take it."""
    listener = socket.create_server((address, PORT))

    def copy(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(path)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def outcome(connect, uri: str) -> dict[str, object]:
    """Return how a connection ends, and what was logged on the way."""
    from gapfactory.errors import DatabaseError
    from launchpad.database import entry

    entry._warned.clear()
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("launchpad").addHandler(handler)
    try:
        connect(uri)
    except DatabaseError as error:
        return {"refused": str(error), "warnings": lines}
    finally:
        logging.getLogger("launchpad").removeHandler(handler)
    return {"refused": "", "warnings": lines}


def main(path: str, user: str) -> None:
    """Try everything."""
    from launchpad.database.connection import open_database
    from launchpad.queue import Queue

    ip = shutil.which("ip") or "ip"
    for words in (["link", "set", "lo", "up"], ["addr", "add", f"{OUTSIDE}/24", "dev", "lo"]):
        subprocess.run([ip, *words], check=True)
    for address in (OUTSIDE, "127.0.0.1"):
        forward(address, path)
    options = "directConnection=true"
    nobody = f"mongodb://{OUTSIDE}:{PORT}/silicon?{options}"
    found = {
        "open": outcome(open_database, nobody),
        "queue": outcome(Queue.from_uri, nobody),
        "loopback": outcome(open_database, f"mongodb://127.0.0.1:{PORT}/silicon?{options}"),
        "name of loopback": outcome(open_database, f"mongodb://localhost:{PORT}/silicon?{options}"),
        "logged in": outcome(
            open_database, f"mongodb://{user}@{OUTSIDE}:{PORT}/silicon?{options}&authSource=silicon"
        ),
    }
    os.environ["GAPFACTORY_ALLOW_OPEN_DATABASE"] = "yes"
    found["half permitted"] = outcome(open_database, nobody)
    os.environ["GAPFACTORY_ALLOW_OPEN_DATABASE"] = "1"
    found["permitted"] = outcome(open_database, nobody)
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # the threads serve for ever


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
