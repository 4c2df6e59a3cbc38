"""`gapfactory site`: bring workers to a cluster through its scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapfactory.errors import InputError
from launchpad.cli.options import (
    AllowOption,
    CampaignOption,
    CategoryOption,
    DataOption,
    JsonOption,
    LogFormatOption,
    UriOption,
    locate,
)
from launchpad.cli.output import print_json, say

if TYPE_CHECKING:
    from launchpad.queue import Queue

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Clusters: write a site directory, submit pilot jobs.")

SiteArgument = Annotated[Path, typer.Argument(help="The site directory.", show_default=False)]


@app.command()
def init(
    scheduler: Annotated[str, typer.Option("--scheduler", "-s", help="slurm, pbs, lsf, sge or shell.")],
    name: Annotated[str, typer.Option("--name", help="Name of the site.")] = "gapfactory",
    directory: Annotated[
        Path | None,
        typer.Option(help="Directory to write (default: the name, here).", show_default=False),
    ] = None,
    category: CategoryOption = None,
    campaign: CampaignOption = None,
    allow: AllowOption = None,
    needs_of: Annotated[
        Path | None,
        typer.Option(
            help="A campaign file: cores, memory and walltime are what its tasks of these kinds need.",
            show_default=False,
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            help="Cores of a pilot job, on one node (default: 1, or what is needed).", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "-n", help="Worker processes of a pilot (default: --cores).", show_default=False
        ),
    ] = None,
    memory_gb: Annotated[
        int | None,
        typer.Option(help="Memory of a pilot (GB) (default: the scheduler's).", show_default=False),
    ] = None,
    walltime: Annotated[
        str | None,
        typer.Option(help="HH:MM:SS (default: 24:00:00; none for a shell).", show_default=False),
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Queue or partition.", show_default=False)
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account or project.", show_default=False)] = None,
    parallel_environment: Annotated[str, typer.Option(help="SGE: parallel environment.")] = "smp",
    idle_minutes: Annotated[float, typer.Option(help="A pilot ends after this long without work.")] = 15.0,
    stop_before: Annotated[int, typer.Option(help="Hand back work these seconds before the end.")] = 90,
    scratch: Annotated[
        str | None,
        typer.Option(help="Launches, e.g. '$TMPDIR' (default: in the directory).", show_default=False),
    ] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option(
            help="Line for a job's environment, e.g. 'module load gpaw'; repeatable.", show_default=False
        ),
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Write a directory with everything that brings workers to a cluster: for 'qlaunch' and 'gapfactory site submit'.

    Make one directory for each kind of node: labels that need 32 cores, fits that need memory, the rest.

    Examples
    --------
      gapfactory site init -s slurm --name labels -c reference --cores 32 --walltime 24:00:00 -q main

      gapfactory site init -s slurm --name fits -c fit --cores 8 --memory-gb 64

      gapfactory site init -s slurm --name labels -c reference --needs-of boron.yaml -q main
    """
    from launchpad.sites import write_site

    chosen = {"cores": cores, "workers": workers, "memory_gb": memory_gb, "walltime": walltime}
    given: dict[str, Any] = {"stop_before_s": stop_before}
    given |= {key: value for key, value in chosen.items() if value is not None}
    if needs_of is not None:
        from gapfactory.campaign import load_campaign
        from launchpad.sites import Site

        given = Site.needed(load_campaign(needs_of).execution.resources, category or (), given)
    if scheduler == "shell":
        given.setdefault("walltime", None)
    site = _site(
        scheduler=scheduler,
        name=name,
        categories=tuple(category or ()),
        campaigns=tuple(campaign or ()),
        allowed=tuple(allow or ()),
        queue=queue,
        account=account,
        parallel_environment=parallel_environment,
        idle_minutes=idle_minutes,
        scratch=scratch,
        setup=tuple(setup or ()),
        **given,
    )
    located = locate(uri, data)
    place = write_site(directory or Path(name), site, located.uri)
    say(f"written: {place} (its README.md says what is what)")
    if located.kind != "given" and scheduler != "shell":
        say(
            "note: it uses the local database of this machine, which other machines cannot reach (--db names another)"
        )
    say(
        f"bring workers: gapfactory site submit {place} --pilots 2\n"
        f"           or: cd {place} && qlaunch --launch_dir jobs singleshot"
    )


@app.command()
def submit(
    directory: SiteArgument,
    pilots: Annotated[int, typer.Option("--pilots", "-p", min=1, help="How many pilot jobs.")] = 1,
    array: Annotated[
        bool, typer.Option(help="Several pilots as one job array, where there are such.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Submit pilot jobs, each with the workers that the site directory says.

    Example: gapfactory site submit labels --pilots 8
    """
    from launchpad.sites import submit_pilots

    ids = submit_pilots(directory, pilots, arrays=array)
    if as_json:
        print_json({"jobs": ids, "pilots": pilots})
    else:
        say(
            f"submitted {pilots} pilots: job {', '.join(ids)}; 'gapfactory worker list' shows them when they run"
        )


@app.command()
def watch(
    directory: SiteArgument,
    every_s: Annotated[float, typer.Option("--every", min=5.0, help="Seconds between two questions.")] = 30.0,
    patience_s: Annotated[
        float, typer.Option("--patience", min=1.0, help="Seconds that an answer may take.")
    ] = 20.0,
    once: Annotated[bool, typer.Option("--once", help="Ask once and end, for a timer.")] = False,
    log_format: LogFormatOption = None,
) -> None:
    """Ask the scheduler which pilots have ended, and let their tasks run again at once; on a login node.

    Supervisors inside the pilots do the same where the scheduler can be asked on the nodes, as long as one of them
    lives. Without either, tasks of a job that was killed wait for the end of their lease (5 minutes).

    Example: gapfactory site watch labels
    """
    from launchpad.logs import configure_logs
    from launchpad.sites.inquiry import Inquiry
    from launchpad.sites.write import read_identity, read_uri
    from launchpad.workers.maintenance import maintain

    scheduler, site_id = read_identity(directory)
    if scheduler == "shell":
        raise InputError(
            f"{directory} has no scheduler that could be asked: its jobs are processes of this machine."
        )
    configure_logs(log_format)
    inquiry = Inquiry(scheduler, f"site:{site_id}", every_s=every_s, patience_s=patience_s)
    back = 0

    def ask(queue: Queue) -> None:
        nonlocal back
        back += len(inquiry.at_once(queue))

    passes = maintain(read_uri(directory), every_s=every_s, once=once, also=ask)
    say(f"{passes} passes made, {back} tasks put back")


@app.command(hidden=True)
def database(directory: SiteArgument) -> None:
    """Print the URI of the database, with its password, for the environment of a pilot job.

    Example: GAPFACTORY_DB="$(gapfactory site database labels)" gapfactory campaign status
    """
    from launchpad.sites.write import read_uri

    typer.echo(read_uri(directory))


def _site(**given: Any) -> Any:
    from pydantic import ValidationError

    from launchpad.sites import Site

    try:
        return Site(**given)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}".removeprefix(": ").replace(
                "Value error, ", ""
            )
            for item in error.errors()
        ]
        raise InputError("; ".join(lines)) from error
