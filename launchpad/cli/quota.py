"""`gapfactory db usage` and `gapfactory db quota`: how much there is, and how much there may be."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption, connect
from launchpad.cli.output import print_json, say, table

__all__ = ["app", "usage"]

app = typer.Typer(no_args_is_help=True, help="How much a group may have.")


def usage(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show documents and size by campaign and kind, and how much of the quota is used.

    Example: gapfactory db usage --json
    """
    from launchpad.operations import quotas

    database = connect(uri, data)
    used, limits = quotas.usage(database), quotas.measure(database)
    if as_json:
        print_json({"usage": [asdict(use) for use in used], "quota": [_plain(limit) for limit in limits]})
        return
    rows = [[use.campaign or "(shared)", use.kind, use.documents, use.megabytes] for use in used]
    table("usage", ["campaign", "kind", "documents", "about MB"], rows)
    _show(limits)


def _plain(limit: Any) -> dict[str, Any]:
    return {**asdict(limit), "share": round(limit.share, 4)}


def _show(limits: list[Any]) -> None:
    rows = [
        [u.name, float(u.used), u.limit, f"{u.share:.0%}" if u.limit is not None else "-"] for u in limits
    ]
    table("quota", ["what", "used", "limit", "share"], rows)


@app.command()
def show(uri: UriOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the limits and how much of them is used.

    Example: gapfactory db quota show
    """
    from launchpad.operations import quotas

    limits = quotas.measure(connect(uri, data))
    if as_json:
        print_json([_plain(limit) for limit in limits])
    else:
        _show(limits)


@app.command("set")
def set_(
    structures: Annotated[
        int | None, typer.Option(min=0, help="Structures stored.", show_default=False)
    ] = None,
    labels: Annotated[
        int | None, typer.Option(min=0, help="Labels with a result.", show_default=False)
    ] = None,
    gigabytes: Annotated[
        float | None, typer.Option(min=0, help="Size of the database (1e9 bytes).", show_default=False)
    ] = None,
    core_hours: Annotated[
        float | None, typer.Option(min=0, help="Time of completed tasks, one core each.", show_default=False)
    ] = None,
    warn_at: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Share from which on people are warned.", show_default=False),
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Set limits of the group (its owners may); those that are not named stay as they are.

    Example: gapfactory db quota set --labels 50000 --gigabytes 200
    """
    from launchpad.operations.stored import quota_of, store_quota

    database = connect(uri, data)
    given = {
        "structures": structures,
        "labels": labels,
        "gigabytes": gigabytes,
        "core_hours": core_hours,
        "warn_at": warn_at,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    quota = quota_of(database).model_copy(update=changes)
    store_quota(database, quota)
    say(", ".join(f"{name} {value:g}" for name, value in quota.model_dump().items() if value is not None))


@app.command()
def clear(uri: UriOption = None, data: DataOption = None) -> None:
    """Take all limits away.

    Example: gapfactory db quota clear
    """
    from launchpad.operations.settings import Quota
    from launchpad.operations.stored import store_quota

    store_quota(connect(uri, data), Quota())
    say("no limits")
