"""`gapfactory share`: what groups grant each other, and the audit trail."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption, connect, locate
from launchpad.cli.output import print_json, say, table
from launchpad.cli.users import opened

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Share labels, potentials or one campaign with another group; who did what (the audit trail).",
)

GroupArgument = Annotated[str, typer.Argument(help="The other group.", show_default=False)]
LabelsOption = Annotated[bool, typer.Option("--labels", help="Labels, with the data sets behind them.")]
PotentialsOption = Annotated[bool, typer.Option("--potentials", help="Potentials of all campaigns.")]
CampaignOption = Annotated[
    str | None,
    typer.Option("--campaign", help="A copy of this campaign, in a database of its own.", show_default=False),
]


def _parts(labels: bool, potentials: bool) -> list[str]:
    return [name for name, wanted in (("labels", labels), ("potentials", potentials)) if wanted]


@app.command()
def grant(
    group: GroupArgument,
    labels: LabelsOption = False,
    potentials: PotentialsOption = False,
    campaign: CampaignOption = None,
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user",
            help="Only this user of the other group; repeatable [default: all that it has now, which only the "
            "server's administrator can see].",
            show_default=False,
        ),
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Let users of another group read labels or potentials of this one, or a copy of one campaign.

    The group that gives is the database of the URI. Labels and potentials: its owner; a campaign: the server's
    administrator. Users that the other group gets later need the grant again.

    Examples
    --------
      gapfactory share grant copper --labels --user cluster-b --user anna

      gapfactory share grant copper --campaign si-quickstart
    """
    from gapfactory.errors import InputError
    from launchpad.database import sharing

    parts = _parts(labels, potentials)
    if not parts and campaign is None:
        msg = "say what: --labels, --potentials or --campaign NAME"
        raise InputError(msg)
    database = connect(uri, data)
    if parts:
        names = sharing.grant(database.client, database.name, group, parts, user or ())
        say(f"{', '.join(names)} of {group} may read {' and '.join(parts)} of {database.name}")
        if labels:
            say(f"there, an owner says: gapfactory share accept {database.name}")
    if campaign is not None:
        copy = sharing.grant_campaign(database.client, database.name, group, campaign, user or ())
        say(
            f"a copy of {campaign} is in the database {copy}; there: gapfactory share open {copy} --to {copy}.uri"
        )


@app.command()
def revoke(
    group: GroupArgument,
    labels: LabelsOption = False,
    potentials: PotentialsOption = False,
    campaign: CampaignOption = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Take back a grant; what the other group has taken over already stays there.

    Example: gapfactory share revoke copper --labels
    """
    from launchpad.database import sharing

    parts = _parts(labels, potentials) + ([f"campaign {campaign}"] if campaign is not None else [])
    database = connect(uri, data)
    gone = sharing.revoke(database.client, database.name, group, parts)
    say(f"{group} reads {' and '.join(gone)} no more" if gone else f"nothing of this was granted to {group}")


@app.command()
def accept(
    group: GroupArgument,
    no_more: Annotated[bool, typer.Option("--no-more", help="Use them no more.")] = False,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Use the labels of another group where it grants them, instead of computing them again.

    Example: gapfactory share accept silicon
    """
    from launchpad.database import sharing

    database = connect(uri, data)
    if no_more:
        used = sharing.decline(database, group)
        say(f"labels of {group} are used no more" if used else f"labels of {group} were not used")
        return
    sharing.accept(database, group)
    say(f"{database.name} uses labels of {group} as far as they are granted")


@app.command("list")
def list_(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List what this group grants to others, and from whom it accepts labels.

    Example: gapfactory share list
    """
    from dataclasses import asdict

    from launchpad.database.sharing import list_shares

    shares = list_shares(connect(uri, data))
    if as_json:
        print_json([asdict(share) for share in shares])
        return
    table(
        "shares",
        ["", "group", "what", "users", "database"],
        [[s.direction, s.group, s.what, ", ".join(s.users), s.database] for s in shares],
    )


@app.command()
def log(
    newest: Annotated[int, typer.Option("--newest", "-n", min=0, help="So many of the newest; 0: all.")] = 50,
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the audit trail: users, grants, campaigns, imports, deletions; who and when.

    Example: gapfactory share log --newest 20
    """
    from launchpad.database.audit import read_audit

    entries = [entry.as_json() for entry in read_audit(connect(uri, data), newest=newest)]
    if as_json:
        print_json(entries)
        return
    rows = [
        [e["when"][:19], e["who"], e["event"], ", ".join(f"{k}: {v}" for k, v in e["details"].items())]
        for e in entries
    ]
    table("audit trail (UTC)", ["when", "who", "event", "details"], rows)


@app.command("open")
def open_(
    database: Annotated[
        str, typer.Argument(help="The database of a copied campaign, or a group.", show_default=False)
    ],
    to: Annotated[
        Path, typer.Option("--to", help="File for the URI; only you may read it.", show_default=False)
    ],
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Write the URI by which you read a campaign that was shared with you, or as the administrator reach a group.

    Example: gapfactory share open silicon--si --to si.uri && GAPFACTORY_DB_FILE=si.uri gapfactory campaign status si
    """
    from launchpad.database.users import elsewhere, write_secret

    write_secret(to, elsewhere(locate(uri, data).uri, database))
    say(f"GAPFACTORY_DB_FILE={to} reaches {database}")


@app.command()
def potential(
    group: GroupArgument,
    campaign: Annotated[str, typer.Argument(help="The campaign that fitted it.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for its files.", show_default=False)],
    generation: Annotated[
        int | None, typer.Option(help="Of this generation [default: the newest].", show_default=False)
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Fetch a potential that another group shares, each file checked against its sha256.

    Example: gapfactory share potential silicon si-quickstart --out si-potential
    """
    from gapfactory.errors import NotFoundError
    from launchpad.database.potentials import fetch_potential, latest_potential, require_potential

    for client, _ in opened(uri, data):
        theirs = client[group]
        record = (
            latest_potential(theirs, campaign)
            if generation is None
            else require_potential(theirs, campaign, generation)
        )
        if record is None:
            msg = f"group {group!r} has no potential of a campaign {campaign!r}"
            raise NotFoundError(msg)
        fetch_potential(theirs, record, out)
        say(f"potential of generation {record['generation']} is in {out}")
