"""The command tree."""

from __future__ import annotations

from typing import Annotated

import typer

from launchpad.cli import campaign, dashboard, db, notify, push, reference, share, site, structures, worker
from launchpad.cli.build import build
from launchpad.cli.cite import cite
from launchpad.cli.doctor import doctor
from launchpad.cli.figure import figure
from launchpad.cli.files import evaluate, fit, select

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="""Make a machine-learned interatomic potential: explore, label, fit, prove.

    Examples:

      gapfactory campaign init si.yaml --element Si     write a campaign file

      gapfactory campaign plan si.yaml                  what it will cost

      gapfactory campaign run si.yaml                   run it here, with local workers

      gapfactory campaign status                        where everything stands
    """,
)
app.add_typer(campaign.app, name="campaign")
app.add_typer(worker.app, name="worker")
app.add_typer(site.app, name="site")
app.add_typer(push.app, name="push")
app.add_typer(structures.app, name="structures")
app.add_typer(reference.app, name="reference")
app.add_typer(db.app, name="db")
app.add_typer(notify.app, name="notify")
app.add_typer(share.app, name="share")
app.add_typer(dashboard.app, name="dashboard")
app.command()(build)
app.command()(fit)
app.command()(evaluate)
app.command()(select)
app.command()(doctor)
app.command()(figure)
app.command()(cite)


def _version(value: bool) -> None:
    if value:
        from gapfactory import __version__

        typer.echo(f"gapfactory {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version
