"""One way to open the database: majority-acknowledged, journaled, with bounded waiting and clear errors."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import DatabaseError
from launchpad.database.entry import require_guarded, require_private_files
from launchpad.database.privileges import role_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database
    from pymongo.errors import OperationFailure, PyMongoError

__all__ = [
    "DEFAULT_NAME",
    "NOT_AUTHORISED",
    "clear_database_errors",
    "describe_database_error",
    "durable",
    "link_options",
    "open_database",
    "redact",
]

#: Server error codes that are about who one is and what one may do.
_AUTHENTICATION = frozenset({11, 13, 18})

#: Server error code: the user is known, and may not do this.
NOT_AUTHORISED = 13

#: How fast the driver sees that a link is dead. Its monitor asks the server every 10 s and cuts all connections when no
#: answer comes for the time that connecting may take. A connection that was not used for a minute is not used again: a
#: router on the way may have forgotten it, and says nothing.
_LINK_OPTIONS: Final = {"connectTimeoutMS": 10_000, "maxIdleTimeMS": 60_000}

#: Database used when the URI names none.
DEFAULT_NAME = "gapfactory"


#: An option of a URI whose value is a secret, by its name.
_SECRET_OPTION = re.compile(
    r"([?&;][^=&;?]*(?:password|token|secret|mechanismproperties)[^=&;]*=)[^&;]*", re.I
)


def redact(uri: str) -> str:
    """Return the URI without its password and the values of secret options, fit for messages and logs.

    A password that was not escaped may hold ``@``, ``/`` and ``?``: everything up to the last ``@`` is taken for it.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "", uri
    head, at, place = rest.rpartition("@")
    user, colon, _ = head.partition(":")
    shown = f"{user}:***@" if colon else f"{head}{at}"
    return f"{scheme}{separator}{shown}" + _SECRET_OPTION.sub(r"\1***", place)


def durable(database: Database[Any]) -> Database[Any]:
    """Return the same database with writes acknowledged by the majority and the journal."""
    from pymongo import ReadPreference, WriteConcern

    return database.with_options(
        write_concern=WriteConcern(w="majority", j=True), read_preference=ReadPreference.PRIMARY
    )


def link_options(uri: str) -> dict[str, Any]:
    """Return options for links that die without a word, but for those that the URI has itself."""
    given = uri.partition("?")[2].lower()
    return {name: value for name, value in _LINK_OPTIONS.items() if f"{name.lower()}=" not in given}


def open_database(uri: str, *, timeout_ms: int = 10_000) -> Database[Any]:
    """Connect and make sure that somebody answers.

    Parameters
    ----------
    uri
        A MongoDB URI; its path names the database (default ``gapfactory``).
    timeout_ms
        How long to look for a server.

    Raises
    ------
    DatabaseError
        Nothing answers, or it refuses the credentials; or it is not guarded as `launchpad.database.entry` demands.
    """
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError, InvalidURI

    require_private_files(uri)
    try:
        client: MongoClient[Any] = MongoClient(
            uri,
            serverSelectionTimeoutMS=timeout_ms,
            tz_aware=True,
            appname="gapfactory",
            **link_options(uri),
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        msg = (
            f"{redact(uri)!r} is not a usable MongoDB URI: {error}. Expected "
            "mongodb://[user:password@]host[:port]/database"
        )
        raise DatabaseError(msg) from error
    try:
        with clear_database_errors(uri):
            client.admin.command("ping")
            require_guarded(client, uri)
    except DatabaseError:
        client.close()
        raise
    return durable(client.get_default_database(DEFAULT_NAME))


@contextmanager
def clear_database_errors(uri: str) -> Iterator[None]:
    """Turn pymongo's errors into one `DatabaseError` that says what to do.

    Parameters
    ----------
    uri
        Shown in the message, without its password.
    """
    from pymongo.errors import PyMongoError

    try:
        yield
    except PyMongoError as error:
        words = describe_database_error(error, f"the database {redact(uri)}")
        raise DatabaseError(words + _other_address(error, uri)) from error


def _other_address(error: PyMongoError, uri: str) -> str:
    """Return what to do if the server answered and then named itself by an address that leads nowhere from here."""
    from pymongo.errors import ServerSelectionTimeoutError
    from pymongo.uri_parser import parse_uri

    if not isinstance(error, ServerSelectionTimeoutError) or uri.startswith("mongodb+srv://"):
        return ""
    sought = {host.lower() for host, _ in parse_uri(uri, warn=False)["nodelist"]}
    members = re.findall(r"ServerDescription \('([^']+)', (\d+)", str(error))
    if not members or any(host.lower() in sought for host, _ in members):
        return ""
    names = ", ".join(f"{host}:{port}" for host, port in members)
    return (
        f" The server answered, but its replica set calls itself {names}, which cannot be reached from here: add "
        "directConnection=true to the URI, or give that name an address on this machine."
    )


def describe_database_error(error: PyMongoError, name: str) -> str:
    """Say what happened and what to do about it.

    Parameters
    ----------
    error
        What pymongo raised.
    name
        What to call the database, without a password.
    """
    from pymongo.errors import ConnectionFailure, OperationFailure

    if isinstance(error, ConnectionFailure):
        detail = str(error).split(", Timeout:")[0].split(" (configured timeouts:")[0]
        return (
            f"{name} does not answer ({detail}). Is it running? 'gapfactory db status' looks, 'gapfactory db "
            "start' starts a local one. Nothing that was stored is lost; 'gapfactory campaign resume' continues."
        )
    if isinstance(error, OperationFailure) and error.code == NOT_AUTHORISED:
        roles = role_needed(_plain(error))
        remedy = (
            f"this needs the role {' or '.join(roles)} of the group"
            if roles
            else "no role of a group may do this; the server's administrator may"
        )
        return f"{name} refused: {_plain(error)}: {remedy}. 'gapfactory db users list' shows who has which."
    if isinstance(error, OperationFailure) and error.code in _AUTHENTICATION:
        return f"{name} refused: {_plain(error)}. Check the user, the password and the rights of its role."
    if isinstance(error, OperationFailure):
        return f"{name} refused: {_plain(error)}"
    return f"{name} failed: {error}"


def _plain(error: OperationFailure) -> str:
    """Return the server's words without the dump of its reply."""
    details = error.details or {}
    writes = details.get("writeErrors") or []
    return str(writes[0].get("errmsg") if writes else details.get("errmsg") or error)
