"""`gapfactory dashboard`: the pages, and who may see them."""

from __future__ import annotations

import secrets
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated

import typer

from gapfactory.errors import InputError
from launchpad.cli.options import DataOption, JsonOption, UriOption, connect, locate
from launchpad.cli.output import print_json, say, table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The dashboard: campaigns, structures and queue in a browser.")


@app.command()
def run(
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            "-g",
            help="NAME=FILE: a group and a file that holds the URI of its database; repeatable (default: --db alone).",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any free one.")] = 8265,
    processes: Annotated[int, typer.Option(min=1, help="Server processes.")] = 2,
    public_url: Annotated[
        str | None,
        typer.Option(help="Its address in browsers, behind a proxy: https://...", show_default=False),
    ] = None,
    proxies: Annotated[int, typer.Option(min=0, help="Proxies before it whose headers are believed.")] = 0,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            help="Key that signs logins; made if absent (default: beside the data).", show_default=False
        ),
    ] = None,
    login: Annotated[
        bool,
        typer.Option(help="People log in; without it a link with a ticket is printed, for you alone."),
    ] = False,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Serve the dashboard until Ctrl-C.

    Examples
    --------
      gapfactory dashboard run                     for yourself: open the link that it prints

      gapfactory dashboard run --login -g si=/etc/gapfactory/si.uri --public-url https://gap.example.org --proxies 1
    """
    from launchpad.dashboard.serve import free_address, serve
    from launchpad.dashboard.settings import DashboardSettings, read_secret
    from launchpad.dashboard.start import check_assets, default_secret_file, read_groups

    if public_url is not None and public_url.startswith("https://") and proxies == 0:
        raise InputError(
            f"--public-url {public_url}: a proxy does the TLS, so say how many there are (--proxies 1); "
            "otherwise everybody has the proxy's address, and one who guesses passwords stops all."
        )
    settings = DashboardSettings(
        host=host, port=port, processes=processes, public_url=public_url, proxies=proxies
    )
    check_assets()
    groups = read_groups(group or [], lambda: locate(uri, data).uri)
    listening = free_address(settings)
    ticket = None if login else secrets.token_urlsafe(24)
    secret = read_secret(secret_file or default_secret_file())
    shown = listening.getsockname()
    address = settings.public_url or f"http://{f'[{shown[0]}]' if ':' in shown[0] else shown[0]}:{shown[1]}"
    say(
        f"the dashboard of {', '.join(sorted(groups))}: {address}/"
        + (f"login?ticket={ticket}" if ticket else "")
    )
    serve(groups, settings, secret, listening, ticket=ticket)


users = typer.Typer(no_args_is_help=True, help="Accounts of the dashboard.")
app.add_typer(users, name="users")

NameArgument = Annotated[str, typer.Argument(help="The account.", show_default=False)]
RoleOption = Annotated[str, typer.Option("--role", "-r", help="viewer, operator or admin.")]


@users.command("add")
def add(
    name: NameArgument, role: RoleOption = "viewer", uri: UriOption = None, data: DataOption = None
) -> None:
    """Make an account; its password is asked for, or read from standard input.

    Example: gapfactory dashboard users add maria --role operator
    """
    from launchpad.dashboard.auth.accounts import add_account
    from launchpad.dashboard.start import checked_role

    account = add_account(connect(uri, data), name, _password(), checked_role(role))
    say(f"{account.name} may log in as {account.role}")


@users.command("password")
def password(name: NameArgument, uri: UriOption = None, data: DataOption = None) -> None:
    """Give an account another password; its logins and tokens end.

    Example: gapfactory dashboard users password maria
    """
    from launchpad.dashboard.auth.accounts import change_password

    change_password(connect(uri, data), name, _password())
    say(f"the password of {name} is changed")


@users.command("role")
def role_(name: NameArgument, role: RoleOption, uri: UriOption = None, data: DataOption = None) -> None:
    """Give an account another role; its logins end.

    Example: gapfactory dashboard users role maria --role viewer
    """
    from launchpad.dashboard.auth.accounts import set_role
    from launchpad.dashboard.start import checked_role

    set_role(connect(uri, data), name, checked_role(role))
    say(f"{name} is {role} now")


@users.command("remove")
def remove(name: NameArgument, uri: UriOption = None, data: DataOption = None) -> None:
    """Remove an account; its logins and tokens end.

    Example: gapfactory dashboard users remove maria
    """
    from launchpad.dashboard.auth.accounts import remove_account

    remove_account(connect(uri, data), name)
    say(f"{name} is removed")


@users.command("list")
def list_(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the accounts.

    Example: gapfactory dashboard users list --json
    """
    from launchpad.dashboard.auth.accounts import list_accounts

    accounts = list_accounts(connect(uri, data))
    if as_json:
        print_json([{"name": account.name, "role": account.role} for account in accounts])
        return
    table("accounts of the dashboard", ["name", "role"], [[a.name, a.role.value] for a in accounts])


def _password() -> str:
    import sys

    if sys.stdin.isatty():
        return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
