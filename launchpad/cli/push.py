"""`gapfactory push`: sites whose nodes cannot reach the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from launchpad.cli.options import DataOption, JsonOption, LogFormatOption, UriOption, locate
from launchpad.cli.output import print_json, say

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Sites reached by SSH only: carry tasks there and their results back."
)

SiteFile = Annotated[Path, typer.Argument(help="The site's file (YAML).", show_default=False)]


@app.command()
def connect(site: SiteFile) -> None:
    """Open the shared connection to a site, at a terminal: passwords and codes are asked for here, and only here.

    Example: gapfactory push connect hpc.yaml
    """
    from launchpad.remote.settings import load_push_site
    from launchpad.remote.transport import Transport

    described = load_push_site(site)
    Transport(described).connect()
    say(
        f"connected to {described.host}; the connection stays open for {described.timing.persist_s / 3600:g} hours "
        "after its last use"
    )


@app.command()
def init(site: SiteFile, as_json: JsonOption = False) -> None:
    """Make the directory at the site, and see whether everything that is needed is there.

    Example: gapfactory push init hpc.yaml
    """
    from launchpad.remote.check import check_site
    from launchpad.remote.settings import load_push_site

    described = load_push_site(site)
    found = check_site(described)
    if as_json:
        print_json(found)
        return
    say(
        f"{described.directory} on {found['host']} is ready: gapfactory {found['gapfactory']}, "
        f"Python {found['python']}, {found['free_mb']:.0f} MB free"
    )
    for warning in found["warnings"]:
        say(f"note: {warning}")
    say(f"carry tasks there: gapfactory push start {site} --background")


@app.command()
def start(
    site: SiteFile,
    background: Annotated[
        bool, typer.Option("--background", "-b", help="Return at once; 'gapfactory push stop' ends it.")
    ] = False,
    as_json: JsonOption = False,
    log_format: LogFormatOption = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Carry tasks to a site and their results back, until told to stop. Runs near the database.

    Examples
    --------
      gapfactory push start hpc.yaml --background

      gapfactory push start hpc.yaml --db mongodb://db.example.org/group
    """
    from launchpad.logs import configure_logs
    from launchpad.remote.ledger import ledger_directory
    from launchpad.remote.service import run_push_worker, start_push_background
    from launchpad.remote.settings import load_push_site
    from launchpad.workers.configuration import service_settings

    described = load_push_site(site)
    located = locate(uri, data)
    if background:
        pid, begun = start_push_background(site, described, uri, data)
        if as_json:
            print_json({"pid": pid, "site": described.name, "begun": begun})
        elif begun:
            say(f"the push worker of {described.name} runs in the background (process {pid})")
        else:
            say(
                f"the push worker of {described.name} (process {pid}) waits for the database, it seems; see "
                f"{ledger_directory(described.name) / 'push.log'}"
            )
        return
    configure_logs(log_format)
    ensure = None if located.kind == "given" else lambda: locate(uri, data).uri
    last = run_push_worker(
        located.uri,
        described,
        queue_settings=service_settings().queue,
        report=None if as_json else _Progress().show,
        ensure_database=ensure,
    )
    if as_json:
        print_json(last)


@app.command()
def stop(
    site: SiteFile,
    recall: Annotated[
        bool,
        typer.Option(
            "--recall", help="Leave nothing at the site: what runs there is handed back with what was done."
        ),
    ] = False,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Stop the push worker of this machine; tasks that run at the site go on.

    Start it again within half an hour (lease_s of the site's file) to keep them; later, they are run again elsewhere.

    Example: gapfactory push stop hpc.yaml --recall
    """
    from launchpad.remote.errors import RemoteError
    from launchpad.remote.service import run_push_worker, stop_push_worker
    from launchpad.remote.settings import load_push_site

    described = load_push_site(site)
    pid = stop_push_worker(described, recall=recall)
    if pid is not None:
        say(f"the push worker of {described.name} (process {pid}) was asked to stop")
    elif recall:
        last = run_push_worker(locate(uri, data).uri, described, recall=True)
        say(f"{last['done']} results were stored, {last['handed_back']} tasks handed back")
        if last["trouble"] is not None:
            raise RemoteError(
                last["trouble"]["kind"], f"not everything came back: {last['trouble']['message']}"
            )
    else:
        say(f"no push worker of this machine works for {described.name}")


@app.command()
def status(site: SiteFile, as_json: JsonOption = False) -> None:
    """Show what is at the site, how long ago it was looked at, and what is wrong if anything is.

    Example: gapfactory push status hpc.yaml --json
    """
    from launchpad.remote.service import site_status
    from launchpad.remote.settings import load_push_site

    found = site_status(load_push_site(site))
    if as_json:
        print_json(found)
        return
    state = f"runs (process {found['pid']})" if found["pid"] else "does not run"
    say(f"push worker of {found['site']}: {state}; connection {'open' if found['connected'] else 'closed'}")
    if "carried" in found:
        say(_line(found))
        say(
            f"said {found['age_s']:.0f} s ago; last look at the site {_seconds(found['last_look_s'])} before that"
        )
    if found.get("trouble"):
        when = "" if found["pid"] else "at its end, "
        say(f"{when}{found['trouble']['kind']}: {found['trouble']['message']}")
    if not found["pid"] or found.get("trouble"):
        say(f"its log: {found['log']}")


@app.command()
def runner(
    directory: Annotated[Path, typer.Argument(help="The directory of the site.", show_default=False)],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Tasks at the same time.")] = 1,
    idle_minutes: Annotated[float, typer.Option(help="End after this long without work.")] = 15.0,
    stop_before: Annotated[float, typer.Option(help="Stop these seconds before $GAPFACTORY_JOB_END.")] = 90.0,
    scratch: Annotated[
        Path | None,
        typer.Option(help="Directory for launches (default: in the directory).", show_default=False),
    ] = None,
    log_format: LogFormatOption = None,
) -> None:
    """Run bundles on a compute node; needs neither database nor network. Jobs of 'push start' do this by themselves.

    Example: gapfactory push runner ~/gapfactory -n 32
    """
    from launchpad.logs import configure_logs
    from launchpad.remote.depot import Depot
    from launchpad.remote.runner import Runner
    from launchpad.remote.settings import RunnerSettings

    configure_logs(log_format)
    settings = RunnerSettings(cores=number, idle_s=idle_minutes * 60.0, stop_before_s=stop_before)
    raise typer.Exit(Runner(Depot(directory), settings, scratch).run())


class _Progress:
    """A line whenever something changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, found: dict[str, Any]) -> None:
        line = _line(found)
        if line != self._last:
            self._last = line
            say(line)


def _line(found: dict[str, Any]) -> str:
    return (
        f"{found['site']}: {found['carried']} carried ({found['waiting']} wait, {found['running']} run), "
        f"{found['done']} done, {found['failed']} failed, {found['handed_back']} handed back; "
        f"{found['runners']} runners, {found['cores']} cores"
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"
