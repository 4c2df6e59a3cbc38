"""Which database to use: the one that is named, a private `mongod`, or the embedded server."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Located",
    "data_directory",
    "locate_database",
    "look",
    "named_uri",
    "scratch_directory",
    "stop_local",
]

Kind = Literal["given", "mongod", "embedded"]


@dataclass(frozen=True)
class Located:
    """A database and how it came about.

    Attributes
    ----------
    uri
        MongoDB URI, with its credentials: never print it, see `launchpad.database.connection.redact`.
    kind
        ``given`` by the user, a private ``mongod``, or the ``embedded`` server.
    data
        Where a local server keeps its data; None for a given URI.
    """

    uri: str
    kind: Kind
    data: Path | None

    @property
    def label(self) -> str:
        """What to call it in front of people."""
        return {
            "given": "the database you named",
            "mongod": "a private mongod on this machine",
            "embedded": "the embedded one-machine server (fine for a laptop; groups use MongoDB)",
        }[self.kind]


def data_directory(given: Path | None = None) -> Path:
    """Return where local servers keep their data: the option, GAPFACTORY_DATA, or the user's data directory."""
    if given is not None:
        return given.expanduser().resolve()
    named = os.environ.get("GAPFACTORY_DATA")
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "gapfactory" / "database"


def scratch_directory(data: Path | None = None) -> Path:
    """Return where local workers keep launch directories and logs: GAPFACTORY_SCRATCH, or beside the data."""
    named = os.environ.get("GAPFACTORY_SCRATCH")
    return Path(named).expanduser().resolve() if named else (data or data_directory()) / "scratch"


def named_uri(given: str | None = None) -> str | None:
    """Return the URI that somebody named: the option, GAPFACTORY_DB, or the content of the file GAPFACTORY_DB_FILE.

    A file is how container engines, Kubernetes and systemd hand over secrets; no child process inherits it.

    Raises
    ------
    DatabaseError
        The file cannot be read, is empty, or may be read by everybody.
    """
    from gapfactory.errors import DatabaseError

    named = given or os.environ.get("GAPFACTORY_DB")
    place = os.environ.get("GAPFACTORY_DB_FILE")
    if named or not place:
        return named or None
    path = Path(place)
    try:
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            msg = f"GAPFACTORY_DB_FILE={path} holds a password and is open to everybody; chmod 600 it"
            raise DatabaseError(msg)
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"GAPFACTORY_DB_FILE={path} cannot be read: {error}; it has to hold one MongoDB URI"
        raise DatabaseError(msg) from error
    if not text or len(text.split()) != 1:
        msg = f"GAPFACTORY_DB_FILE={path} has to hold one MongoDB URI and nothing else"
        raise DatabaseError(msg)
    return text


def locate_database(uri: str | None = None, data: Path | None = None) -> Located:
    """Find the database, starting a local server when none is named and none runs.

    Parameters
    ----------
    uri
        A MongoDB URI; else GAPFACTORY_DB and GAPFACTORY_DB_FILE are looked at.
    data
        Data directory of a local server.

    Raises
    ------
    DatabaseError
        The local server cannot start, or GAPFACTORY_DB_FILE cannot be used; the message says why.
    """
    uri = named_uri(uri)
    if uri:
        return Located(uri, "given", None)
    directory = data_directory(data)
    if shutil.which("mongod"):
        from launchpad.database.mongod import ensure_mongod

        return Located(ensure_mongod(directory), "mongod", directory)
    from launchpad.embedded import ensure_running

    return Located(ensure_running(directory), "embedded", directory)


def look(uri: str | None = None, data: Path | None = None) -> dict[str, object]:
    """Return which database would be used and whether it answers, without starting anything."""
    from gapfactory.errors import DatabaseError
    from launchpad.database.connection import open_database, redact

    uri = named_uri(uri)
    if uri:
        try:
            open_database(uri, timeout_ms=3000)
        except DatabaseError as error:
            return {"kind": "given", "uri": redact(uri), "running": False, "error": str(error)}
        return {"kind": "given", "uri": redact(uri), "running": True}
    directory = data_directory(data)
    if shutil.which("mongod"):
        from launchpad.database.mongod import mongod_status

        return {"kind": "mongod", "data": str(directory), **mongod_status(directory)}
    from dataclasses import asdict

    from launchpad.embedded import status

    found = asdict(status(directory))
    if found.get("uri"):
        found["uri"] = redact(str(found["uri"]))
    return {"kind": "embedded", **found}


def stop_local(data: Path | None = None) -> bool:
    """Stop the local server of a data directory; return whether one was running."""
    directory = data_directory(data)
    if shutil.which("mongod"):
        from launchpad.database.mongod import stop_mongod

        return stop_mongod(directory)
    from launchpad.embedded import stop

    return bool(stop(directory))
