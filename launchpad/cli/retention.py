"""`gapfactory db prune`, `restore` and `retention`: what is kept for how long."""

from __future__ import annotations

import getpass
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption, connect
from launchpad.cli.output import console, print_json, say, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["app", "prune", "restore"]

app = typer.Typer(no_args_is_help=True, help="How long what nobody needs any more is kept.")

CampaignOption = Annotated[
    str | None, typer.Option("--campaign", help="Of this campaign only.", show_default=False)
]


@app.command()
def show(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the stored policies: the group's, and those of single campaigns.

    Example: gapfactory db retention show --json
    """
    from launchpad.operations.stored import stored_policies

    group, own = stored_policies(connect(uri, data))
    policies = {"group": group.model_dump(mode="json")}
    policies |= {f"campaign {name}": policy.model_dump(mode="json") for name, policy in sorted(own.items())}
    if as_json:
        print_json(policies)
        return
    for name, policy in policies.items():
        table(name, ["what", "rule"], [[key, _words(value)] for key, value in policy.items()])


def _words(value: Any) -> str:
    if not isinstance(value, dict):
        return "-" if value is None else str(value)
    days = value["after_days"]
    return "kept" if days is None else f"{value['action']} {days:g} days after the campaign's end"


@app.command("set")
def set_(
    file: Annotated[Path, typer.Argument(help="YAML file with the policy.", show_default=False)],
    campaign: CampaignOption = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Store a policy for the group, or for one campaign.

    Example: gapfactory db retention set policy.yaml --campaign si-quickstart
    """
    from launchpad.database.campaigns import require_campaign
    from launchpad.operations.settings import RetentionPolicy
    from launchpad.operations.stored import load_settings, store_policy

    policy = load_settings(file, RetentionPolicy)
    database = connect(uri, data)
    if campaign is not None:
        require_campaign(database, campaign)
    store_policy(database, policy, campaign)
    say(
        f"stored for {'the group' if campaign is None else campaign}; 'gapfactory db prune' shows what would go"
    )


@app.command()
def clear(campaign: CampaignOption = None, uri: UriOption = None, data: DataOption = None) -> None:
    """Take the stored policy of the group, or of one campaign, away: everything is kept.

    Example: gapfactory db retention clear --campaign si-quickstart
    """
    from launchpad.operations.stored import store_policy

    store_policy(connect(uri, data), None, campaign)
    say("taken away")


def prune(
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Remove it, or only say what would go.")
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="YAML file instead of the stored policies.", show_default=False),
    ] = None,
    campaign: Annotated[
        list[str] | None,
        typer.Option("--campaign", help="Only this one; may be repeated.", show_default=False),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive",
            help="Directory for archives [default: 'archives' beside the local server's data].",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", help="Who asks for it [default: your login name].", show_default=False),
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Archive or delete what nobody needs any more, by policy; without --apply only say what would go.

    Example: gapfactory db prune --policy policy.yaml --apply --archive /archive/gapfactory
    """
    from launchpad.database.location import data_directory, scratch_directory
    from launchpad.operations import leftovers, retention
    from launchpad.operations.settings import RetentionPolicy
    from launchpad.operations.stored import load_settings, policies_of, stored_policies

    database = connect(uri, data)
    given = load_settings(policy, RetentionPolicy) if policy else None
    general = given or stored_policies(database)[0]
    policies = policies_of(database, given)
    planned = retention.describe(database, retention.plan(database, policies, campaigns=campaign or ()))
    scratch = scratch_directory(None if uri else data_directory(data))
    workers = None if general.workers_days is None else leftovers.old_workers(database, general.workers_days)
    days = general.failed_launches_days
    directories = [] if days is None else leftovers.old_directories(scratch, days)
    record = None
    if apply:
        target = archive or data_directory(data) / "archives"
        with _progress(quiet=as_json) as progress:
            record = retention.prune(
                database,
                policies,
                target,
                by=by or getpass.getuser(),
                campaigns=campaign or (),
                progress=progress,
            )
        if general.workers_days is not None:
            workers = leftovers.remove_workers(database, general.workers_days)
        leftovers.remove_directories(directories)
    if as_json:
        print_json(
            {
                "applied": apply,
                "planned": [asdict(row) for row in planned],
                "workers": workers or 0,
                "failed_launches": [str(path) for path in directories],
                "removal": record,
            }
        )
        return
    if planned:
        rows = [[r.campaign, r.kind, r.action, r.documents, r.megabytes] for r in planned]
        table("removed" if apply else "would go", ["campaign", "what", "how", "documents", "about MB"], rows)
    say(
        f"{len(planned)} kinds of data, {workers or 0} records of workers and {len(directories)} directories of failed "
        f"launches {'were removed' if apply else 'would go; --apply removes them'}"
    )
    if record is not None and record["file"]:
        say(f"archive: {record['file']}\n  'gapfactory db restore' brings it back; sha256 {record['sha256']}")


def restore(
    archive: Annotated[Path, typer.Argument(help="Archive of 'gapfactory db prune'.", show_default=False)],
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back what an archive holds; again, or after a kill, it completes what is missing.

    Example: gapfactory db restore /archive/gapfactory/gapfactory-silicon-20260101T000000-12345678.tar.gz
    """
    from launchpad.operations.retention import restore as bring_back

    with _progress(quiet=as_json) as progress:
        counts = bring_back(connect(uri, data), archive, progress=progress)
    if as_json:
        print_json({"restored": counts})
        return
    found = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    say(f"brought back: {found or 'nothing, everything is there'}")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that moves a bar on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield tell
