"""`gapfactory db users`: the users of a group's database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption, locate
from launchpad.cli.output import print_json, say, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo import MongoClient

__all__ = ["app", "opened"]

app = typer.Typer(no_args_is_help=True, help="Users of a group: owner, member, dashboard, worker, viewer.")

GroupArgument = Annotated[str, typer.Argument(help="The group: its database.", show_default=False)]
UserArgument = Annotated[str, typer.Argument(help="The user.", show_default=False)]
ToOption = Annotated[
    Path,
    typer.Option(
        "--to", help="File for the new URI with its password; only you may read it.", show_default=False
    ),
]
CaOption = Annotated[
    str | None,
    typer.Option(
        "--tls-ca",
        help="Path of the authority's certificate where the URI will be used \\[default: as in the URI at hand].",
        show_default=False,
    ),
]


@app.command()
def add(
    group: GroupArgument,
    name: UserArgument,
    to: ToOption,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            "-r",
            help="owner (users and shares), member (campaigns), dashboard (its service), worker (machine), viewer.",
            show_default=False,
        ),
    ],
    x509: Annotated[
        Path | None,
        typer.Option(
            "--x509",
            help="A certificate speaks for the user instead of a password: where it and its key will lie (PEM) on the "
            "machine where the URI is used. NAME is then the certificate's subject.",
            show_default=False,
        ),
    ] = None,
    tls_ca: CaOption = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Make a user of a group; its URI with a random password goes to a file and is shown nowhere.

    Examples
    --------
      gapfactory db users add silicon cluster-a --role worker --to cluster-a.uri

      gapfactory db users add silicon "CN=cluster-a,O=Example" --role worker --x509 /etc/gapfactory/a.pem --to a.uri
    """
    from launchpad.database.users import add_user, require_place, user_uri, write_secret

    require_place(to)
    for client, located in opened(uri, data):
        password = add_user(client, group, name, role, certificate=x509 is not None)
        key = None if x509 is None else str(x509)
        write_secret(to, user_uri(located, group, name, password, ca=tls_ca, key=key))
    say(f"{name} is {role} of {group}; GAPFACTORY_DB_FILE={to} connects as this user")


@app.command()
def password(
    group: GroupArgument,
    name: UserArgument,
    to: ToOption,
    tls_ca: CaOption = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Give a user a new random password; the old one is refused from now on.

    Example: gapfactory db users password silicon cluster-a --to cluster-a.uri
    """
    from launchpad.database.users import change_password, require_place, user_uri, write_secret

    require_place(to)  # the password is shown nowhere: without its file the user would be locked out
    for client, located in opened(uri, data):
        new = change_password(client, group, name)
        write_secret(to, user_uri(located, group, name, new, ca=tls_ca))
    say(f"the new URI of {name} is in {to}; hand it over and restart what uses it")


@app.command()
def remove(group: GroupArgument, name: UserArgument, uri: UriOption = None, data: DataOption = None) -> None:
    """Remove a user of a group; what it stored stays.

    Example: gapfactory db users remove silicon cluster-a
    """
    from launchpad.database.users import remove_user

    for client, _ in opened(uri, data):
        remove_user(client, group, name)
    say(f"{group} has no user {name} any more")


@app.command()
def upgrade(group: GroupArgument, uri: UriOption = None, data: DataOption = None) -> None:
    """Bring roles and users of a group that an earlier version made to what this version grants.

    Example: gapfactory db users upgrade silicon
    """
    from launchpad.database.users import upgrade_users

    for client, _ in opened(uri, data):
        changed = upgrade_users(client, group)
        for user in changed:
            say(f"{user.name} is {user.role} of {group}")
        say(f"{len(changed)} users of {group} were given the roles of this version; 'users list' shows all")


@app.command("list")
def list_(
    group: GroupArgument, uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the users of a group and their roles, as the server grants them.

    Example: gapfactory db users list silicon
    """
    from launchpad.database.users import list_users

    for client, _ in opened(uri, data):
        users = list_users(client, group)
        if as_json:
            print_json([{"name": user.name, "role": user.role} for user in users])
        else:
            table(f"users of {group}", ["name", "role"], [[user.name, user.role] for user in users])


def opened(uri: str | None, data: Path | None) -> Iterator[tuple[MongoClient[Any], str]]:
    """Yield the client and its URI once; errors of the server come out in words, the connection is closed."""
    from launchpad.database.connection import clear_database_errors, open_database

    located = locate(uri, data).uri
    client = open_database(located).client
    with client, clear_database_errors(located):
        yield client, located
