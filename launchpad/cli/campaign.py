"""`gapfactory campaign`: from a file to a tested potential."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchpad.cli.assessments import show_assessments
from launchpad.cli.options import (
    DataOption,
    JsonOption,
    NameArgument,
    UriOption,
    connect,
    given_campaign,
    open_queue,
)
from launchpad.cli.output import print_json, say, table
from launchpad.cli.presets import file_of_preset, init
from launchpad.cli.relabel import relabel

if TYPE_CHECKING:
    from launchpad.database.location import Located
    from launchpad.queue import Queue

__all__ = ["app", "run_here"]

app = typer.Typer(no_args_is_help=True, help="Campaigns: write, check, plan, run, watch, report.")
app.command()(init)

FileArgument = Annotated[Path, typer.Argument(help="Campaign file (YAML).", show_default=False)]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", "-n", min=1, help="Local worker processes \\[default: one per core].", show_default=False
    ),
]
ReportOption = Annotated[
    bool, typer.Option("--report/--no-report", help="Write the report when the campaign is done.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Directory to write to \\[default: named after the campaign].", show_default=False
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        help="Only this structure, by its id; may be given again \\[default: all].",
        show_default=False,
    ),
]


@app.command()
def check(file: FileArgument, as_json: JsonOption = False) -> None:
    """Check a campaign file, and the reference code and fitting program it needs, before anything runs.

    Example: gapfactory campaign check si.yaml
    """
    from gapfactory.campaign import load_campaign
    from gapfactory.potentials.gap import check_backend
    from gapfactory.reference import check_engine

    campaign = load_campaign(file)
    info = check_engine(campaign.reference, tuple(campaign.species_table))
    eddp = campaign.potential == "eddp"
    backend = "networks, trained here" if eddp else check_backend(campaign.gap)
    if as_json:
        print_json(
            {
                "campaign": campaign.name,
                "engine": info.engine,
                "version": info.version,
                "potential": campaign.potential,
                "backend": "eddp" if eddp else campaign.gap.backend,
                "phases": campaign.phase_names(),
            }
        )
        return
    say(f"{file}: campaign {campaign.name!r} can run; reference {info.engine} {info.version} is installed")
    say(f"fits: {backend}")
    say(f"judged by: {', '.join(campaign.phase_names()) or 'no named phases'}")


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="A campaign file, or the name of a stored campaign.", show_default=False)
    ],
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every setting of a campaign and what follows from its elements (radius, volumes, separations, cutoffs).

    Example: gapfactory campaign show si.yaml
    """
    from gapfactory.campaign import to_yaml
    from gapfactory.campaign.derived import derived_values

    campaign = given_campaign(what, uri, data)
    content = {"settings": campaign.model_dump(mode="json"), "derived": derived_values(campaign)}
    if as_json:
        print_json(content)
    else:
        say(to_yaml(content))


@app.command()
def plan(file: FileArgument, as_json: JsonOption = False) -> None:
    """Say what a campaign will cost (tasks, labels, core-hours, memory) before anything runs.

    Example: gapfactory campaign plan si.yaml
    """
    from gapfactory.campaign import load_campaign
    from gapfactory.campaign.cost import estimate

    cost = estimate(load_campaign(file))
    if as_json:
        print_json(cost.as_dict())
        return
    table(
        f"plan of {cost.campaign}",
        ["work", "tasks", "items", "core-hours", "how estimated"],
        [[row.what, row.tasks, row.items, float(f"{row.core_hours:.2g}"), row.basis] for row in cost.rows],
    )
    table(
        "generations",
        ["generation", "what", "cells", "relaxed", "labels", "fit"],
        [row.words() for row in cost.generations],
    )
    say(f"labels: {cost.labels} (of a budget of {cost.label_budget}), dimers and atoms {cost.atom_labels}")
    say(f"core-hours: about {cost.core_hours:.2g}; on 2 cores about {_duration(cost.core_hours / 2)}")
    say(
        f"memory of the largest fit: about {cost.fit_memory_gb:.2g} GB; of a selection: about "
        f"{cost.select_memory_gb:.2g} GB"
    )
    for warning in cost.warnings:
        say(f"note: {warning}")


def _duration(hours: float) -> str:
    for unit, size in (("h", 1.0), ("minutes", 1 / 60)):
        if hours >= 1.5 * size:
            return f"{hours / size:.2g} {unit}"
    return f"{3600 * hours:.2g} s"


@app.command()
def submit(file: FileArgument, uri: UriOption = None, data: DataOption = None) -> None:
    """Put a campaign on the queue; workers anywhere take it from there.

    Example: gapfactory campaign submit si.yaml && gapfactory worker start
    """
    from gapfactory.campaign import load_campaign
    from launchpad import service

    campaign = load_campaign(file)
    _, queue = open_queue(uri, data)
    created = service.submit(queue, campaign, file.read_text(encoding="utf-8"), file.parent)
    what = {
        "new": "submitted",
        "updated": "was submitted before; its operational settings were updated",
        "unchanged": "was submitted before; nothing changed",
    }[created]
    say(f"campaign {campaign.name!r} {what}")
    say("start workers: gapfactory worker start")


@app.command()
def run(
    file: Annotated[Path | None, typer.Argument(help="Campaign file (YAML).", show_default=False)] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Run a preset as it is, under its own name; writes the file that says so. 'campaign init --list' "
            "names them.",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    uri: UriOption = None,
    data: DataOption = None,
    out: OutOption = None,
    report: ReportOption = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress.")] = False,
    dashboard: Annotated[
        bool,
        typer.Option(
            "--dashboard", help="Also serve the dashboard on this machine until the run ends; prints a link."
        ),
    ] = False,
) -> None:
    """Run a campaign here: submit it, start local workers, show progress, write the report.

    Ctrl-C stops it and leaves everything resumable; the same command goes on where it stopped. The workers have 30 s to
    finish what they are at, or hand it back; Ctrl-C again ends them at once.

    Examples
    --------
      gapfactory campaign run si.yaml --workers 4 --dashboard

      gapfactory campaign run --preset demo-de-novo
    """
    from contextlib import ExitStack

    from gapfactory.campaign import load_campaign
    from gapfactory.errors import InputError
    from launchpad import service
    from launchpad.cli.live import drive
    from launchpad.stopping import stop_by_signals

    if file is None:
        file = file_of_preset(preset)
    elif preset is not None:
        raise InputError(
            f"{file} and --preset {preset} exclude each other: a file names its preset itself ('preset: {preset}')"
        )
    campaign = load_campaign(file)
    located, queue = open_queue(uri, data)
    if service.submit(queue, campaign, file.read_text(encoding="utf-8"), file.parent) == "updated":
        say(f"campaign {campaign.name!r} was submitted before; its operational settings were updated")
    say(f"database: {located.label}")
    # before anybody can see that it runs
    with stop_by_signals() as stop, ExitStack() as beside:
        if dashboard:
            from launchpad.dashboard.beside import dashboard_beside

            say(f"dashboard, for you alone: {beside.enter_context(dashboard_beside(located.uri))}")
        number = workers or campaign.execution.workers
        state = drive(located, data, campaign, number, stop=stop, quiet=quiet)
    _finish(state, queue.db, campaign.name, out, report=report)


def _finish(state: str, database: object, name: str, out: Path | None, *, report: bool) -> None:
    from launchpad import service

    if state == "done" and not report:
        say(f"done; 'gapfactory campaign report {name}' writes the report")
        return
    if state == "done":
        from launchpad.reporting import report_campaign

        path = report_campaign(database, name, out or Path(f"{name}-report"))  # type: ignore[arg-type]
        say(f"report: {path}")
        return
    if state == "interrupted":
        say(f"campaign {name!r} is stopped, nothing is lost; the same command goes on where it stopped")
        raise typer.Exit(130)
    _explain(service.explain(database, name), brief=True)  # type: ignore[arg-type]
    raise typer.Exit(1)


def _explain(found: dict[str, Any], *, brief: bool = False) -> None:
    """Print why a campaign is where it is; briefly after a run, in full for `why`."""
    say(f"{found['campaign']}: {found['state']}{' (' + found['reason'] + ')' if found['reason'] else ''}")
    for task in found["failed_tasks"][: 3 if brief else None]:
        say(f"failed: task {task['fw_id']} {task['name']}\n  {task['error']}")
        if task["directory"]:
            say(f"  directory {task['directory']} on {task['host']}")
    for task in found["postponed_tasks"]:
        say(f"waits for its next try: task {task['fw_id']} {task['name']}\n  {task['reason']}")
    _quarantined(found, brief=brief)
    _relaxations(found, brief=brief)
    if not brief:
        for task in found["open_tasks"][:20]:
            say(f"{task['state'].lower()}: task {task['fw_id']} {task['name']}")
    for row in [] if brief else found["removed"]:
        say(f"  {row['text']}")
    for line in found["advice"]:
        say(f"-> {line}")


def _relaxations(found: dict[str, Any], *, brief: bool) -> None:
    """Print which relaxations have not converged: those of the search counted, those of its ranking listed."""
    relaxations = found["relaxations"]
    if counts := relaxations.get("search"):
        say(
            f"relaxations of the search: {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}"
        )
    for row in [] if brief else relaxations.get("listed", ()):
        start = f" (of {row['start']})" if row["start"] else ""
        say(f"  {row['status']}: {row['id']}{start}: {row['reason']}")


def _quarantined(found: dict[str, Any], *, brief: bool) -> None:
    """Print what could not be labelled, with what was tried; after a run only the first few, with their reasons."""
    shown = found["quarantined"][: 5 if brief else None]
    for entry in shown:
        say(f"not labelled: {entry['id']} ({entry['role']}, {entry['formula']}): {entry['reason']}")
        if brief:
            continue
        if entry["tried_again_in_generation"] is not None:
            say(f"  is tried again in generation {entry['tried_again_in_generation']}")
        for number, line in enumerate(entry["history"], start=1):
            say(f"  attempt {number}: {line}")
        for name, text in entry.get("files", {}).items():
            say(f"  ---- end of {name}")
            say(text)
        say(f"  what to do: {entry['advice']}")
    if len(found["quarantined"]) > len(shown):
        say(
            f"... and {len(found['quarantined']) - len(shown)} more: 'gapfactory campaign why {found['campaign']}'"
        )
    for row in [] if brief else found["energy_outliers"]:
        say(
            f"look at: {row['id']} ({row['composition']}): {row['energy_eV_per_atom']:.3f} eV/atom, the median of its "
            f"composition is {row['median_eV_per_atom']:.3f}"
        )


@app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(help="Name of a campaign \\[default: all].", show_default=False)
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where one campaign, or every campaign, stands.

    Example: gapfactory campaign status si-quickstart
    """
    from launchpad import service
    from launchpad.database.campaigns import list_campaigns

    database = connect(uri, data)
    if name is None:
        records = list_campaigns(database)
        if as_json:
            print_json(
                [
                    {
                        "campaign": r["_id"],
                        "state": r["state"],
                        "generation": r["generation"],
                        "reason": r["reason"],
                    }
                    for r in records
                ]
            )
        else:
            table(
                "campaigns",
                ["name", "state", "generation", "reason"],
                [[r["_id"], r["state"], r["generation"], r["reason"]] for r in records],
            )
        return
    found = service.status(database, name)
    if as_json:
        print_json(found)
        return
    say(f"{name}: {found['state']}{' (' + found['reason'] + ')' if found['reason'] else ''}")
    say(
        f"generation {found['generation']} of at most {found['generations']}; labels {found['labels']} of "
        f"{found['label_budget']}"
    )
    table(
        "tasks of this generation",
        ["kind", "state", "number"],
        [[k, s, n] for k, states in found["tasks"].items() for s, n in states.items()],
    )
    show_assessments(found)


@app.command()
def why(
    name: NameArgument,
    files: Annotated[
        bool, typer.Option("--files", help="Print the ends of the files kept of failed calculations.")
    ] = False,
    label: LabelOption = None,
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why a campaign is where it is: what runs, what failed and how, what to do.

    Examples
    --------
      gapfactory campaign why si-quickstart

      gapfactory campaign why si-quickstart --files --label si-quickstart/g001/cell/000004
    """
    from launchpad import service

    found = service.explain(connect(uri, data), name, files=files, labels=label or ())
    if as_json:
        print_json(found)
        return
    _explain(found)


@app.command()
def resume(
    name: NameArgument,
    workers: WorkersOption = None,
    here: Annotated[
        bool, typer.Option("--run/--no-run", help="Also run local workers until the campaign ends.")
    ] = False,
    retry_labels: Annotated[
        bool, typer.Option("--retry-labels", help="Also label quarantined structures again, as `retry`.")
    ] = False,
    uri: UriOption = None,
    data: DataOption = None,
    out: OutOption = None,
    report: ReportOption = True,
) -> None:
    """Continue a campaign that was halted, cancelled or lost its workers, where it stopped.

    Example: gapfactory campaign resume si-quickstart --run
    """
    from launchpad import service

    located, queue = open_queue(uri, data)
    _went_on(service.resume(queue, name, retry_labels=retry_labels), name)
    run_here(here, located, data, queue, name, workers, out, report=report)


@app.command()
def retry(
    name: NameArgument,
    label: LabelOption = None,
    fault: Annotated[
        str | None,
        typer.Option(
            help="Only those that ended with this kind of fault, e.g. scf or memory.", show_default=False
        ),
    ] = None,
    workers: WorkersOption = None,
    here: Annotated[
        bool, typer.Option("--run/--no-run", help="Also run local workers until the campaign ends.")
    ] = False,
    uri: UriOption = None,
    data: DataOption = None,
    out: OutOption = None,
) -> None:
    """Label structures again that could not be labelled, where a fit will still use them, and go on.

    Those of generations that are fitted already enter the next fit.

    Examples
    --------
      gapfactory campaign retry si-quickstart --run

      gapfactory campaign retry si-quickstart --fault time
    """
    from launchpad import service

    located, queue = open_queue(uri, data)
    done = service.retry(queue, name, labels=label or (), fault=fault)
    _went_on(done, name)
    run_here(here, located, data, queue, name, workers, out)


def _went_on(done: dict[str, int], name: str) -> None:
    say(
        f"{name}: {done['rerun']} tasks back on the queue, {done['labels_forgotten']} labels to be tried "
        "again"
    )


def run_here(
    here: bool,
    located: Located,
    data: Path | None,
    queue: Queue,
    name: str,
    workers: int | None,
    out: Path | None,
    *,
    report: bool = True,
) -> None:
    """Drive a campaign that is on the queue with local workers, or say how to start some."""
    from launchpad.cli.live import drive
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.stopping import stop_by_signals

    if not here:
        say("start workers: gapfactory worker start")
        return
    campaign = campaign_of(require_campaign(queue.db, name))
    with stop_by_signals() as stop:
        state = drive(located, data, campaign, workers, stop=stop)
    _finish(state, queue.db, name, out, report=report)


@app.command()
def cancel(name: NameArgument, uri: UriOption = None, data: DataOption = None) -> None:
    """End a campaign: nothing new starts. Nothing stored is deleted, and `resume` takes it up again.

    Example: gapfactory campaign cancel si-quickstart
    """
    from launchpad import service

    _, queue = open_queue(uri, data)
    say(f"{name}: cancelled, {service.cancel(queue, name)} tasks will not start")


@app.command()
def digest(
    name: NameArgument, uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Print digests of everything a campaign made; the same file and seed give the same digests.

    Example: gapfactory campaign digest si-quickstart
    """
    from launchpad.database.digest import campaign_digests

    found = campaign_digests(connect(uri, data), name)
    if as_json:
        print_json(found)
        return
    for what, value in found.items():
        say(f"{what:16s} {value}")


@app.command()
def report(name: NameArgument, out: OutOption = None, uri: UriOption = None, data: DataOption = None) -> None:
    """Write the report of a campaign (HTML, PNG, CSV), at any time.

    Example: gapfactory campaign report si-quickstart --out report
    """
    from launchpad.reporting import report_campaign

    path = report_campaign(connect(uri, data), name, out or Path(f"{name}-report"))
    say(f"report: {path}")


@app.command("export")
def export_(
    name: NameArgument,
    out: OutOption = None,
    generation: Annotated[
        int | None,
        typer.Option(help="Potential of this generation \\[default: the newest].", show_default=False),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="Also write the sets for mace, gap, nequip, ase (a database) or optimade; may be repeated.",
        ),
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Write the potential (gap.xml with its files), training and held-out sets, checksums, and a card of both.

    Examples
    --------
      gapfactory campaign export si-quickstart --out potential

      gapfactory campaign export si-quickstart --for mace --for optimade
    """
    from launchpad.exporting import export_campaign

    path = export_campaign(connect(uri, data), name, out or Path(f"{name}-export"), generation, form or ())
    say(f"exported to {path}")


app.command()(relabel)
