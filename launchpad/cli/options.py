"""Options that many commands share, and how they become a database and a queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.database.location import Located
    from launchpad.queue import Queue

__all__ = [
    "AllowOption",
    "CampaignOption",
    "CategoryOption",
    "DataOption",
    "JsonOption",
    "LogFormatOption",
    "NameArgument",
    "PrefixOption",
    "UriOption",
    "connect",
    "given_campaign",
    "locate",
    "open_queue",
]

UriOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="GAPFACTORY_DB",
        show_envvar=True,
        help="MongoDB URI (or GAPFACTORY_DB_FILE: a file that holds it). Without it a local server is used.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="GAPFACTORY_DATA",
        show_envvar=True,
        help="Data directory of the local server, on a local disk.",
        show_default=False,
    ),
]
PrefixOption = Annotated[
    str | None,
    typer.Option(
        help="What stands before energy, forces, stress and virial in the files, e.g. REF_ "
        "\\[default: REF_, dft_ or nothing, whichever the structures have].",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
LogFormatOption = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        envvar="GAPFACTORY_LOG_FORMAT",
        show_envvar=True,
        help="text or json: one line for each event (docs/reference/logs.md).",
        show_default=False,
    ),
]
CategoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        "-c",
        help="Only these kinds of task (build, relax, select, reference, fit, assess); repeatable.",
        show_default=False,
    ),
]
CampaignOption = Annotated[
    list[str] | None,
    typer.Option(
        "--campaign",
        help="Only tasks of this campaign, or of those that match 'boron-*'; repeatable.",
        show_default=False,
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        help="Also run tasks of this name, or of a package ('mypackage.*'); repeatable.",
        show_default=False,
    ),
]
NameArgument = Annotated[str, typer.Argument(help="Name of the campaign.", show_default=False)]


def locate(uri: str | None, data: Path | None) -> Located:
    """Find the database, starting a local server when none is named."""
    from launchpad.database.location import locate_database

    return locate_database(uri, data)


def connect(uri: str | None, data: Path | None) -> Database[Any]:
    """Open the database; a user who may only read does not make indexes, and needs none."""
    from pymongo.errors import OperationFailure

    from gapfactory.errors import DatabaseError
    from launchpad.database.connection import NOT_AUTHORISED, open_database
    from launchpad.database.indexes import ensure_indexes
    from launchpad.database.migrations import require_readable

    database = open_database(locate(uri, data).uri)
    try:
        require_readable(database)
    except DatabaseError:
        database.client.close()
        raise
    try:
        ensure_indexes(database)
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:
            raise
    return database


def given_campaign(what: str, uri: str | None, data: Path | None) -> Campaign:
    """Return what a campaign file holds, or a stored campaign of this name was submitted with."""
    from gapfactory.campaign import load_campaign
    from launchpad.database.campaigns import campaign_of, require_campaign

    path = Path(what)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return load_campaign(path)
    return campaign_of(require_campaign(connect(uri, data), what))


def open_queue(uri: str | None, data: Path | None) -> tuple[Located, Queue]:
    """Open the queue on the database."""
    from launchpad.queue import Queue

    located = locate(uri, data)
    return located, Queue.from_uri(located.uri)
