"""From a MongoDB URI to a prepared FireWorks database, its clock, and the file that ``lpad`` reads."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError
from launchpad.database.connection import DEFAULT_NAME, NOT_AUTHORISED, link_options, redact

if TYPE_CHECKING:
    from pymongo import IndexModel, MongoClient
    from pymongo.database import Database

__all__ = [
    "ServerClock",
    "client_options",
    "database_name",
    "known_identity",
    "prepare",
    "queue_indexes",
    "write_launchpad_file",
]


def _options_in(uri: str) -> tuple[str | None, dict[str, Any]]:
    """Return the database named in a URI and its options by their lower-case names."""
    from pymongo.errors import ConfigurationError, InvalidURI
    from pymongo.uri_parser import parse_uri

    try:
        parsed = parse_uri(uri, validate=True, warn=False)
    except (InvalidURI, ConfigurationError, ValueError) as error:
        msg = (
            f"{redact(uri)!r} is not a usable MongoDB URI: {error}. "
            "Expected mongodb://[user:password@]host[:port]/database"
        )
        raise DatabaseError(msg) from error
    return parsed["database"], {str(key).lower(): value for key, value in parsed["options"].items()}


def database_name(uri: str) -> str:
    """Return the database that a URI names, or the default one.

    Raises
    ------
    DatabaseError
        The text is not a MongoDB URI.
    """
    return _options_in(uri)[0] or DEFAULT_NAME


def client_options(uri: str, *, server_selection_s: float) -> dict[str, Any]:
    """Return the client options: durable writes and bounded waits, unless the URI says otherwise.

    Raises
    ------
    DatabaseError
        The text is not a MongoDB URI, or gives up acknowledgement altogether.
    """
    _, given = _options_in(uri)
    if given.get("w") == 0:
        msg = (
            f"{redact(uri)!r} has w=0: a lost write would not even be noticed. Remove w from the URI; writes then wait "
            "for the majority and its journal"
        )
        raise DatabaseError(msg)
    options: dict[str, Any] = {"appname": "gapfactory"}
    if "w" not in given:
        options["w"] = "majority"
    if not given.keys() & {"journal", "j"}:
        options["journal"] = True
    options.update(link_options(uri))
    if "serverselectiontimeoutms" not in given:
        options["serverSelectionTimeoutMS"] = int(server_selection_s * 1000)
    if "sockettimeoutms" not in given:
        # a server that vanished without closing its connections must not hold a worker for ever
        options["socketTimeoutMS"] = 60_000
    return options


def queue_indexes() -> dict[str, list[IndexModel]]:
    """Return every index: those of ``lpad tuneup`` under the same names, and the ones it lacks."""
    from pymongo import ASCENDING, DESCENDING, IndexModel

    def single(*names: str) -> list[IndexModel]:
        return [IndexModel(name) for name in names]

    priority = ("spec._priority", DESCENDING)
    return {
        "fireworks": [
            IndexModel("fw_id", unique=True),
            *single("state", "spec._category", "created_on", "updated_on", "name", "launches"),
            IndexModel([("state", DESCENDING), ("_id", DESCENDING)]),
            IndexModel([("state", DESCENDING), priority, ("created_on", DESCENDING)]),
            IndexModel([("state", DESCENDING), priority, ("created_on", ASCENDING)]),
            # ours: a worker of one category must not walk through the ready tasks of all others
            IndexModel(
                [("state", ASCENDING), ("spec._category", ASCENDING), priority, ("created_on", ASCENDING)]
            ),
            # and one that is enrolled for a campaign not through those of all others
            IndexModel(
                [("state", ASCENDING), ("spec.campaign", ASCENDING), priority, ("created_on", ASCENDING)]
            ),
        ],
        "launches": [
            IndexModel("launch_id", unique=True),
            *single("fw_id", "state_history.reservation_id", "state", "time_start", "time_end", "host", "ip"),
            *single("fworker.name"),
            IndexModel("requeue.pending", sparse=True),
            IndexModel("checkout", sparse=True),
            # each node looks at its own running launches every few seconds
            IndexModel([("state", ASCENDING), ("process.node", ASCENDING)]),
        ],
        "workflows": [
            *single("name", "created_on", "updated_on", "nodes"),
            IndexModel([("state", DESCENDING), ("_id", DESCENDING)]),
            IndexModel("locked", sparse=True),
        ],
        "fw_gridfs.files": [IndexModel("metadata.launch_id", unique=True)],
        "queue_journal": [IndexModel("kind")],
        "workers": [IndexModel("node"), IndexModel("heartbeat")],
    }


def prepare(database: Database[Any]) -> str:
    """Make sure that ids, indexes and the identity of a database exist; many processes may do it at once.

    Nothing that exists is changed. Returns the identity of the database (a random name given once), by which
    results spooled on a disk find back to where they belong.

    Raises
    ------
    DatabaseError
        It is of another version than this program writes; see `launchpad.database.migrations`.
    """
    from pymongo.errors import DuplicateKeyError, OperationFailure

    from launchpad.database.migrations import mark_new, require_writable

    require_writable(database)
    try:
        for name, models in queue_indexes().items():
            database[name].create_indexes(models)
    except OperationFailure as error:
        # accounts of workers make no indexes: a member's, or 'db users add', did
        prepared = known_identity(database) if error.code == NOT_AUTHORISED else ""
        if not prepared:
            raise
        return prepared
    if database.fw_id_assigner.find_one({}) is None:
        # another process may insert it between the look and the write
        with contextlib.suppress(DuplicateKeyError):
            database.fw_id_assigner.update_one(
                {"_id": -1}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
            )
    known = database.queue_meta.find_one({"_id": "identity"})
    if known is None:
        with contextlib.suppress(DuplicateKeyError):
            database.queue_meta.insert_one({"_id": "identity", "name": uuid.uuid4().hex})
        known = database.queue_meta.find_one({"_id": "identity"})
        mark_new(database)
    if known is None:
        msg = (
            f"database {database.name!r} does not return what was written to it; check the roles of its user"
        )
        raise DatabaseError(msg)
    return str(known["name"])


def known_identity(database: Database[Any]) -> str:
    """Return the identity that `prepare` gave to a database, or an empty text if it has none yet."""
    known = database.queue_meta.find_one({"_id": "identity"})
    return str(known["name"]) if known else ""


class ServerClock:
    """The server's time of day, carried on by this machine's monotonic clock.

    Leases written by one host are judged by another: with the server's clock, a host whose own clock is wrong
    neither loses its tasks nor takes those of others.
    """

    def __init__(self, client: MongoClient[Any]) -> None:
        self._client = client
        self._offset: float | None = None

    def synchronise(self) -> None:
        """Ask the server for its time (one command)."""
        before = time.monotonic()
        answer = self._client.admin.command("hello")
        after = time.monotonic()
        moment = answer.get("localTime")
        if not isinstance(moment, datetime):
            server = time.time()
        else:
            server = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        self._offset = server - (before + after) / 2.0

    def now(self) -> float:
        """Return the server's time, seconds since the epoch."""
        if self._offset is None:
            self.synchronise()
        assert self._offset is not None  # noqa: S101 - synchronise() has set it
        return time.monotonic() + self._offset


def write_launchpad_file(path: Path | str, uri: str) -> Path:
    """Write ``my_launchpad.yaml`` for stock ``lpad``, ``rlaunch`` and ``qlaunch`` on the same database.

    The file holds the URI with its password, so it is readable by its owner only from the first byte, and
    replaces an older one in one step.

    Parameters
    ----------
    path
        The file, or an existing directory in which ``my_launchpad.yaml`` is written.
    uri
        A MongoDB URI; its path names the database (default ``gapfactory``).

    Raises
    ------
    DatabaseError
        The text is not a MongoDB URI.
    """
    from ruamel.yaml import YAML

    target = Path(path)
    if target.is_dir():
        target = target / "my_launchpad.yaml"
    content = {
        "host": uri,
        "name": database_name(uri),
        "uri_mode": True,
        "mongoclient_kwargs": {},
        "logdir": None,
        "strm_lvl": "INFO",
        "user_indices": [],
        "wf_user_indices": [],
    }
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            YAML(typ="safe", pure=True).dump(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target
