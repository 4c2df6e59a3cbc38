"""`gapfactory db`: the database."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from launchpad.cli import quota, retention, users
from launchpad.cli.options import DataOption, JsonOption, LogFormatOption, UriOption, connect, locate
from launchpad.cli.output import print_json, say

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="The database: start, stop, look, check, move, users, maintenance."
)
app.add_typer(users.app, name="users")
app.add_typer(retention.app, name="retention")
app.add_typer(quota.app, name="quota")
app.command()(quota.usage)
app.command()(retention.prune)
app.command()(retention.restore)


@app.command()
def start(uri: UriOption = None, data: DataOption = None) -> None:
    """Start the local server (or say which database is used) and write my_launchpad.yaml for FireWorks' commands.

    Example: gapfactory db start && lpad -l "$(gapfactory db launchpad-file)" get_fws
    """
    from launchpad.database.connection import redact

    connect(uri, data)
    located = locate(uri, data)
    say(f"running: {located.label}\n  {redact(located.uri)}")
    if located.data:
        say(f"  FireWorks' commands read {_launchpad_file(located.uri, located.data)}")


@app.command()
def stop(data: DataOption = None) -> None:
    """Stop the local server; everything acknowledged is on disk.

    Example: gapfactory db stop
    """
    from launchpad.database.location import stop_local

    say("stopped" if stop_local(data) else "no local server is running")


@app.command()
def status(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Say which database is used and whether it runs; starts nothing.

    Example: gapfactory db status
    """
    from launchpad.database.location import look

    found = look(uri, data)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        say(f"{key:12s} {value}")


@app.command()
def check(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Check that everything stored is whole: references, files by their hashes, indexes. Exit code 1 on a finding.

    Example: gapfactory db check --json
    """
    from launchpad.database.check import check_database

    findings = check_database(connect(uri, data))
    if as_json:
        print_json({"findings": findings})
    else:
        say("\n".join(findings) if findings else "everything stored is whole")
    raise typer.Exit(1 if findings else 0)


@app.command("launchpad-file")
def launchpad_file(uri: UriOption = None, data: DataOption = None) -> None:
    """Write my_launchpad.yaml (mode 0600) for lpad, rlaunch and qlaunch, and print its path.

    Example: rlaunch -l "$(gapfactory db launchpad-file)" rapidfire
    """
    from launchpad.database.location import data_directory

    located = locate(uri, data)
    connect(uri, data)
    say(str(_launchpad_file(located.uri, located.data or data_directory(data))))


@app.command("export")
def export_(
    target: Annotated[Path, typer.Argument(help="Archive to write (.tar.gz).")],
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Write all collections and files as one archive of BSON, to be imported into another database.

    Example: gapfactory db export all.tar.gz
    """
    from launchpad.database.transfer import export_database

    counts = export_database(connect(uri, data), target)
    say(f"{sum(counts.values())} documents of {len(counts)} collections written to {target}")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Archive written by 'gapfactory db export'.")],
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Read an archive into an empty database.

    Example: gapfactory db import all.tar.gz --db "mongodb://user@host/group"
    """
    from launchpad.database.transfer import import_database

    counts = import_database(connect(uri, data), source)
    say(f"{sum(counts.values())} documents of {len(counts)} collections read from {source}")


@app.command()
def upgrade(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a database that an older gapfactory made to the version of this one; stop all workers before.

    Example: gapfactory db upgrade --dry-run
    """
    from launchpad.database import migrations

    database = connect(uri, data)
    before = migrations.schema_version(database)
    if dry_run:
        rows = [(step, step.count(database)) for step in migrations.outstanding(database)]
    else:
        rows = migrations.upgrade(database)
    if as_json:
        steps = [{"to": step.to, "what": step.what, "documents": number} for step, number in rows]
        print_json({"schema": before, "program": migrations.SCHEMA, "applied": not dry_run, "steps": steps})
        return
    for step, number in rows:
        say(f"schema {step.to}: {step.what}; {number} documents {'would change' if dry_run else 'changed'}")
    if not rows:
        say(f"the database has schema {before}, that of this program; nothing to do")


@app.command()
def maintain(
    once: Annotated[bool, typer.Option("--once", help="Make one pass and end, for a timer.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=1.0, help="Seconds between two passes.")] = 20.0,
    notify: Annotated[
        Path | None,
        typer.Option(
            "--notify", help="YAML file: tell people of ends, halts, standstills.", show_default=False
        ),
    ] = None,
    log_format: LogFormatOption = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Find stuck tasks and put them right, without running any; one such process per database is enough.

    Every supervisor of workers does the same; this one goes on when all workers are gone.

    Example: gapfactory db maintain --every 20
    """
    from launchpad.logs import configure_logs
    from launchpad.workers.maintenance import maintain as maintain_queue

    located = locate(uri, data).uri
    configure_logs(log_format)
    if notify is None:
        passes = maintain_queue(located, every_s=every_s, once=once)
    else:
        from launchpad.operations.notices import beside

        with beside(located, notify, once=once) as stop:
            passes = maintain_queue(located, every_s=every_s, once=once, stop=stop)
    say(f"{passes} passes made")


def _launchpad_file(uri: str, directory: Path) -> Path:
    from launchpad.queue import write_launchpad_file

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "my_launchpad.yaml"
    write_launchpad_file(path, uri)
    return path
