"""`gapfactory worker`: processes that take tasks from the queue."""

from __future__ import annotations

import logging
import os
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import typer

from launchpad.cli.options import (
    AllowOption,
    CampaignOption,
    CategoryOption,
    DataOption,
    JsonOption,
    LogFormatOption,
    UriOption,
    connect,
    locate,
)
from launchpad.cli.output import print_json, say, table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Workers: start, stop, list.")


@app.command()
def start(
    number: Annotated[
        int | None,
        typer.Option(
            "--number", "-n", min=1, help="Worker processes \\[default: one per core].", show_default=False
        ),
    ] = None,
    category: CategoryOption = None,
    campaign: CampaignOption = None,
    allow: AllowOption = None,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cores of all these workers; tasks that need more than a worker's share are left to others.",
            show_default=False,
        ),
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(help="The same for memory (GB).", show_default=False),
    ] = None,
    idle_minutes: Annotated[
        float | None,
        typer.Option(help="Stop after this long without work \\[default: never].", show_default=False),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", "-b", help="Return at once; 'gapfactory worker stop' ends them.")
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option(
            envvar="GAPFACTORY_SETTINGS",
            show_envvar=True,
            help="YAML file of leases, pauses and limits (docs/reference/worker-settings.md).",
            show_default=False,
        ),
    ] = None,
    log_format: LogFormatOption = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Start worker processes on this machine; one thread each.

    Examples
    --------
      gapfactory worker start -n 8 --background

      gapfactory worker start -c reference --idle-minutes 30

      gapfactory worker start --campaign 'boron-*' --campaign silicon

      gapfactory worker start -n 2 -c reference --cores 64 --memory-gb 256

      gapfactory worker start --settings cluster-a.yaml
    """
    from launchpad.database.location import scratch_directory
    from launchpad.logs import configure_logs
    from launchpad.workers.background import serve
    from launchpad.workers.configuration import service_settings

    # at a terminal only what is wrong; in a log everything
    configure_logs(log_format, level=logging.INFO if log_format else logging.WARNING)
    behaviour = service_settings(settings)
    wanted = number or os.cpu_count() or 1
    own: dict[str, Any] = {}
    if cores is not None:
        own["cores"] = max(1, cores // wanted)
    if memory_gb is not None:
        own["memory_gb"] = memory_gb / wanted
    if campaign:
        own["campaigns"] = tuple(campaign)
    if allow:
        own["allowed"] = (*behaviour.worker.allowed, *allow)
    behaviour = behaviour.model_copy(update={"worker": behaviour.worker.model_copy(update=own)})
    located = locate(uri, data)
    scratch = scratch_directory(located.data)
    pid = serve(
        located.uri,
        wanted,
        categories=tuple(category or ()),
        idle_s=None if idle_minutes is None else idle_minutes * 60,
        background=background,
        scratch=scratch,
        # in the background nobody but the supervisor itself can bring a lost local server back
        data_dir=located.data if located.kind == "embedded" else None,
        ensure_database=None if located.kind == "given" else lambda: locate(uri, data).uri,
        settings=behaviour,
    )
    if background:
        say(f"{wanted} workers run in the background (supervisor: process {pid}); logs in {scratch / 'logs'}")


@app.command()
def stop(
    uri: UriOption = None,
    data: DataOption = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Workers on all machines, not only this one.")
    ] = False,
) -> None:
    """Ask the workers to finish their task and stop.

    Example: gapfactory worker stop --everywhere
    """
    from launchpad.workers.background import request_stop

    number = request_stop(connect(uri, data), everywhere=everywhere)
    say(f"{number} workers were asked to stop; they finish the task they are at")


@app.command("list")
def list_(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the workers: where they run, what they do, when they were last heard of.

    Example: gapfactory worker list --json
    """
    from launchpad.workers.registry import list_workers

    rows = list_workers(connect(uri, data))
    if as_json:
        print_json(rows)
        return
    table(
        "workers",
        ["host", "pid", "kind", "state", "task", "done", "failed", "heard of\n(s ago)"],
        [
            [r["host"], r["pid"], r["kind"], r["state"], r["fw_id"], r["done"], r["failed"], r["age_s"]]
            for r in rows
        ],
    )
