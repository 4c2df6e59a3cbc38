"""A one-machine server that speaks the MongoDB wire protocol, for laptops and tests.

Documents live in memory and in SQLite; see docs/reference/embedded-server.md for what it guarantees.
Importing this package is cheap: the server's modules load when something is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launchpad.embedded.instance import EmbeddedServer
    from launchpad.embedded.process import ServerStatus, ensure_running, status, stop

__all__ = ["EmbeddedServer", "ServerStatus", "ensure_running", "status", "stop"]


def __getattr__(name: str) -> Any:
    if name == "EmbeddedServer":
        from launchpad.embedded.instance import EmbeddedServer

        return EmbeddedServer
    if name in __all__:
        from launchpad.embedded import process

        return getattr(process, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
