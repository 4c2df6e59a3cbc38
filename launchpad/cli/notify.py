"""`gapfactory notify`: tell people when campaigns end, halt or stall."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption, locate
from launchpad.cli.output import print_json, say, table

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Mail and webhooks when campaigns end, halt or stall, or quotas are near."
)

FileArgument = Annotated[Path, typer.Argument(help="YAML file with the targets.", show_default=False)]


@app.command()
def run(
    file: FileArgument,
    once: Annotated[bool, typer.Option("--once", help="Look once and end, for a timer.")] = False,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Watch the database and tell people until SIGTERM; `db maintain --notify` does it beside the reaper.

    Example: gapfactory notify run notices.yaml
    """
    import logging
    import signal

    from launchpad.operations.notices import read_notices, run_notices
    from launchpad.stopping import StopFlag

    settings = read_notices(file)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    stop = StopFlag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    say(f"{run_notices(locate(uri, data).uri, settings, stop, once=once)} notices sent")


@app.command("test")
def try_targets(file: FileArgument, as_json: JsonOption = False) -> None:
    """Send a notice to every target now and say what became of it; needs no database. Exit code 1 on a failure.

    Example: gapfactory notify test notices.yaml
    """
    import uuid

    from gapfactory.errors import InputError
    from launchpad.database.documents import now
    from launchpad.operations.send import SendError, send
    from launchpad.operations.settings import NoticeSettings
    from launchpad.operations.stored import load_settings

    settings = load_settings(file, NoticeSettings)
    notice = {
        "id": f"test/{uuid.uuid4().hex}",
        "event": "test",
        "database": "test",
        "subject": "a test",
        "text": "Somebody asked whether notices arrive. This one has.",
        "details": {},
        "created": now().isoformat(),
    }
    rows: list[dict[str, str]] = []
    for target in settings.targets:
        outcome = "sent"
        try:
            send(target, notice, limit_s=settings.send_limit_s)
        except (SendError, InputError) as error:
            outcome = str(error)
        rows.append({"target": target.name, "by": "mail" if target.mail else "webhook", "outcome": outcome})
    if as_json:
        print_json(rows)
    else:
        table("test", ["target", "by", "outcome"], [list(row.values()) for row in rows])
    raise typer.Exit(0 if all(row["outcome"] == "sent" for row in rows) else 1)
