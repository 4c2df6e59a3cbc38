"""Who can reach a database server, and whether we trust it: no password-less server on a network, no open key files."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from gapfactory.errors import DatabaseError

if TYPE_CHECKING:
    from pymongo import MongoClient

__all__ = ["ALLOW_OPEN", "is_socket", "on_this_machine", "require_guarded", "require_private_files"]

logger = logging.getLogger("launchpad.database")

#: Environment variable that permits a server on the network to which nobody logs in.
ALLOW_OPEN: Final = "GAPFACTORY_ALLOW_OPEN_DATABASE"

#: Options of a URI that name files with a private key.
_KEY_FILES: Final = ("tlscertificatekeyfile", "ssl_certfile", "ssl_keyfile")

#: Servers about which this process has warned.
_warned: set[str] = set()


def is_socket(host: str) -> bool:
    """Return whether an address is a Unix socket, which the rights of the file system protect."""
    return host.startswith("/") or host.endswith(".sock")


def on_this_machine(host: str) -> bool:
    """Return whether an address cannot be reached from other machines: loopback, or a Unix socket."""
    if is_socket(host):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        pass  # a name
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(item.partition("%")[0]).is_loopback for item in found)


def _options(uri: str) -> dict[str, str]:
    """Return the options of a URI by their lower-case names; no name server is asked."""
    options = {key.lower(): value for key, value in parse_qsl(uri.partition("?")[2].replace(";", "&"))}
    encrypted = options.get("tls", options.get("ssl", str(uri.startswith("mongodb+srv:")))).lower() == "true"
    return options | {"tls": "true" if encrypted else ""}


def require_guarded(client: MongoClient[Any], uri: str) -> None:
    """Refuse a server on the network to which nobody is logged in; warn where the way to it is not encrypted.

    Whoever may write a group's database decides what its workers compute. A server that lets this connection in without
    a login does the same for everybody who reaches its address.

    Parameters
    ----------
    client
        Connected: something has been asked of the server.
    uri
        By which it is connected.

    Raises
    ------
    DatabaseError
        Nobody is logged in, the server is not on loopback or a Unix socket, and `ALLOW_OPEN` is not set to 1.
    """
    outside = sorted({host for host, _ in client.nodes if not on_this_machine(host)})
    if not outside:
        return
    where = ", ".join(outside)
    status = client.admin.command("connectionStatus")["authInfo"]
    if not status["authenticatedUsers"] and os.environ.get(ALLOW_OPEN) != "1":
        msg = (
            f"the database server {where} is on the network and nobody is logged in to it: whoever reaches it can "
            "change what workers run. Start mongod with --auth (or --keyFile), make users ('gapfactory db users add') "
            "and name one in the URI. In a closed network that you trust as a whole, "
            f"{ALLOW_OPEN}=1 permits it"
        )
        raise DatabaseError(msg)
    if not _options(uri)["tls"] and where not in _warned:
        _warned.add(where)
        logger.warning(
            "the connection to %s is not encrypted: whoever is on the way can read and change what is stored. Give "
            "the server a certificate and add tls=true&tlsCAFile=... to the URI, or tunnel the port by SSH",
            where,
        )


def require_private_files(uri: str) -> None:
    """Refuse key files that others can read.

    Parameters
    ----------
    uri
        A MongoDB URI.

    Raises
    ------
    DatabaseError
        The file of a private key is missing, or its group or everybody may read it.
    """
    options = _options(uri)
    for name in _KEY_FILES:
        if name not in options:
            continue
        path = Path(options[name])
        try:
            mode = path.stat().st_mode
        except OSError as error:
            msg = f"{name}={path} of the URI cannot be used: {error.strerror}"
            raise DatabaseError(msg) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            msg = (
                f"{path} (mode {stat.S_IMODE(mode):04o}) holds a private key and is open to others; chmod 600 it, and "
                "ask for a new certificate if somebody may have read it"
            )
            raise DatabaseError(msg)
