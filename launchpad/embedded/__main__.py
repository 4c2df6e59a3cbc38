"""``python -m launchpad.embedded --data DIR [--port N]``: run the embedded server in the foreground."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import resource
import signal
import sys
from pathlib import Path

from gapfactory.errors import DatabaseError


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m launchpad.embedded", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="data directory on a local disk")
    parser.add_argument("--port", type=int, help="loopback TCP port with authentication (0: choose one)")
    parser.add_argument("--idle", type=float, help="stop after this many seconds without a connection")
    parser.add_argument("--always-authenticate", action="store_true", help="trust nobody on the Unix socket")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    from launchpad.embedded.instance import EmbeddedServer

    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one descriptor per connection

    # Documents live long and hold no cycles: keep the collector from walking them again and again.
    gc.disable()
    try:
        server = EmbeddedServer(
            options.data,
            port=options.port,
            trust_same_user=not options.always_authenticate,
            idle_seconds=options.idle,
        )
    except (DatabaseError, OSError) as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
