"""`gapfactory campaign relabel`: the structures of one campaign at another level, as a campaign of its own."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any, Literal

import typer

from launchpad.cli.options import DataOption, NameArgument, UriOption, open_queue
from launchpad.cli.output import say

__all__ = ["changes_from", "relabel"]


def relabel(
    name: NameArgument,
    new_name: Annotated[str, typer.Option("--as", help="Name of the new campaign.", show_default=False)],
    k_density: Annotated[
        float | None,
        typer.Option(
            "--k-density", help="reference.kpoint_density at the new level, 1/Å.", show_default=False
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Another reference setting, key=value; may be given again.", show_default=False
        ),
    ] = None,
    engine_file: Annotated[
        Path | None,
        typer.Option(
            "--engine-file",
            help="YAML file with reference settings, e.g. of another code.",
            show_default=False,
        ),
    ] = None,
    which: Annotated[
        Literal["all", "minima"],
        typer.Option(
            help="All structures that were chosen to be labelled, or the relaxed minima among them."
        ),
    ] = "all",
    lowest: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many of lowest energy per atom.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", help="Only this structure, by its id; may be given again.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-n",
            min=1,
            help="Local worker processes \\[default: one per core].",
            show_default=False,
        ),
    ] = None,
    here: Annotated[
        bool, typer.Option("--run/--no-run", help="Also run local workers until the campaign ends.")
    ] = False,
    uri: UriOption = None,
    data: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Directory of the report \\[default: named after it].", show_default=False
        ),
    ] = None,
) -> None:
    """Label structures of a campaign again at another level, and fit and judge a potential on these labels.

    The other campaign is not touched; both levels are compared in the new one's report.

    Examples
    --------
      gapfactory campaign relabel si --k-density 5 --as si-dense --run

      gapfactory campaign relabel si --set xc=PBEsol --which minima --as si-pbesol

      gapfactory campaign relabel si --engine-file espresso.yaml --lowest 50 --as si-espresso
    """
    from launchpad import relabel as service
    from launchpad.cli.campaign import run_here

    wanted = changes_from(k_density, changes or [], engine_file)
    located, queue = open_queue(uri, data)
    campaign, what = service.relabel(
        queue, name, new_name, wanted, which=which, lowest=lowest, labels=label or ()
    )
    number = campaign.stop.label_budget
    said = "is on the queue" if what == "new" else "was submitted before"
    say(f"campaign {new_name!r} {said}: {number} structures of {name!r} at the new level")
    run_here(here, located, data, queue, new_name, workers, out)


def changes_from(k_density: float | None, changes: list[str], engine_file: Path | None) -> dict[str, Any]:
    """Return the changes of the reference settings that the options ask for; options win over the file.

    Raises
    ------
    InputError
        Nothing was given, or something that cannot be read.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from gapfactory.errors import InputError

    reader = YAML(typ="safe", pure=True)
    found: dict[str, Any] = {}
    if engine_file is not None:
        try:
            content = reader.load(engine_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            raise InputError(f"the engine file {engine_file} cannot be read: {error}") from error
        if isinstance(content, dict) and isinstance(content.get("reference"), dict):
            content = content["reference"]
        if not isinstance(content, dict) or not content:
            raise InputError(
                f"the engine file {engine_file} must hold 'key: value' lines such as 'engine: espresso', or a campaign "
                "file's 'reference'"
            )
        found |= content
    if k_density is not None:
        found["kpoint_density"] = k_density
    for change in changes:
        key, equals, value = change.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise InputError(f"--set {change!r} is not key=value, e.g. --set xc=PBEsol")
        try:
            parsed = reader.load(value)
        except YAMLError as error:
            raise InputError(f"--set {change!r}: the value cannot be read: {error}") from error
        place = found
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = parsed
    if not found:
        raise InputError("say what changes: --k-density, --set key=value or --engine-file")
    return found
