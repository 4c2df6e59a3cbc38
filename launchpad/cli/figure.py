"""`gapfactory figure`: the figures of the 2018 and 2022 papers for any campaign, as pictures or numbers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption, connect
from launchpad.cli.output import (
    picture_kind,
    print_json,
    save_picture,
    save_table,
    say,
    table,
    table_kind,
)
from launchpad.cli.relabel import changes_from

__all__ = ["figure"]

#: A table with more columns is printed with each row as a column.
_COLUMNS: Final = 12


class _Zero(StrEnum):
    HULL = "hull"
    PHASE = "phase"


class _By(StrEnum):
    ORIGIN = "origin"
    COMPONENT = "component"
    GENERATION = "generation"


def figure(
    name: Annotated[
        str | None, typer.Argument(help="Which figure; --list names them.", show_default=False)
    ] = None,
    campaign: Annotated[str | None, typer.Argument(help="Name of the campaign.", show_default=False)] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(
            help="Further ones in the same figure, as --also. Of searches, each may be CAMPAIGN/COMPONENT, or a file "
            "or directory of AIRSS (.res).",
            show_default=False,
        ),
    ] = None,
    list_figures: Annotated[bool, typer.Option("--list", help="List the figures and stop.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write, .png, .pdf or .svg \\[default: CAMPAIGN-NAME.png]; of a table .csv, .json, .html "
            "or .md \\[default: it is printed].",
            show_default=False,
        ),
    ] = None,
    generation: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Potential to show, or last generation to count \\[default: the newest].",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Another potential beside it: CAMPAIGN@GENERATION, or GENERATION.", show_default=False
        ),
    ] = None,
    structures: Annotated[
        Path | None,
        typer.Option(
            help="Structures to use instead of the campaign's own: extended XYZ or CIF.", show_default=False
        ),
    ] = None,
    crystal: Annotated[
        Path | None,
        typer.Option(
            help="For mixed-occupations: crystal with occupations (CIF) to draw, and to draw models from.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[int, typer.Option(min=1, help="Models to draw from the crystal.")] = 10,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="How models are drawn, key=value (setting, atoms, minimum_separation ...); repeatable.",
            show_default=False,
        ),
    ] = None,
    zero: Annotated[
        _Zero | None,
        typer.Option(
            help="Count energies of the database from the convex hull, or from the lowest named phase "
            "\\[default: energy-boxes hull, energy-volume phase].",
            show_default=False,
        ),
    ] = None,
    by: Annotated[_By, typer.Option(help="What colours mean in energy-volume.")] = _By.ORIGIN,
    label: Annotated[
        bool, typer.Option("--label", help="Compute missing reference energies here, and keep them.")
    ] = False,
    parent: Annotated[
        str | None,
        typer.Option(help="For vibrations: the one crystal to show \\[default: all].", show_default=False),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="For vibrations and searches: another campaign in the same figure, CAMPAIGN or CAMPAIGN@GENERATION; "
            "repeatable.",
            show_default=False,
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="For searches: how far above the lowest structure is shown (eV/atom) \\[default: all].",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="For searches: structures to show.")] = 24,
    smearing: Annotated[
        float | None,
        typer.Option(
            min=1e-4,
            help="For structural-density: width of the Gaussians (eV/atom) \\[default: 0.02].",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the numbers as CSV.")] = False,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Draw a figure of a campaign, or print its numbers.

    With --json or --csv the numbers are printed, and a picture is written only where --out names one.

    Examples
    --------
      gapfactory figure --list

      gapfactory figure energy-boxes si

      gapfactory figure polymorphs si --against si@2 --out curves.pdf

      gapfactory figure distorted-crystals si --csv > errors.csv

      gapfactory figure mixed-occupations b --crystal beta.cif --set atoms=104

      gapfactory figure elastic-constants al --also si --also mg --out table.html

      gapfactory figure structural-density b/plain b/hot ./airss --out states.pdf
    """
    from gapfactory.errors import InputError
    from gapfactory.io.tables import csv_table
    from launchpad.figure_data import FIGURES, TABLES, gather
    from launchpad.figure_data.request import Request

    if list_figures:
        rows = [[key, what] for key, (what, _) in FIGURES.items()]
        if as_json:
            print_json([{"name": key, "shows": what} for key, what in rows])
        else:
            table("figures", ["name", "what it shows"], rows)
        return
    if name is None or campaign is None:
        raise InputError(
            "say which figure of which campaign, e.g. 'gapfactory figure energy-boxes si'; --list names them"
        )
    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other")
    numbers, is_table = as_json or as_csv, name in TABLES
    # a campaign's component, or a directory, gives a plain name
    stem = "-".join(part for part in Path(campaign).parts if part.strip("./"))
    target = out or (None if numbers or is_table else Path(f"{stem}-{name}.png"))
    kind = "" if target is None else (table_kind if is_table else picture_kind)(target, "--out")
    request = Request(
        campaign=campaign,
        generation=generation,
        against=against,
        structures=structures,
        crystal=crystal,
        models=models,
        discrete=changes_from(None, changes, None) if changes else {},
        zero=None if zero is None else zero.value,
        by=by.value,
        label=label,
        parent=parent,
        also=(*(more or ()), *(also or ())),
        within=within,
        top=top,
        smearing=smearing,
    )
    found = gather(connect(uri, data), name, request)
    if target is not None:
        if found.figure is None:
            save_table(found.rows, target, kind)
        else:
            save_picture(found.figure, target, kind)
    if as_json:
        print_json({"figure": name, "campaign": campaign, "rows": found.rows, "notes": list(found.notes)})
        return
    if as_csv:
        numbers_of = [row.values() for row in found.rows]
        typer.echo(csv_table(found.rows[0] if found.rows else (), numbers_of).decode(), nl=False)
    elif target is None:
        _print_table(f"{campaign}: {name}", found.rows)
    else:
        say(f"{target} written ({len(found.rows)} numbers; --json or --csv prints them)")
    for note in found.notes:
        # what was left out is said to whoever takes the numbers, too
        say(f"note: {note}", stderr=as_csv)


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows for people; of many columns, each row is a column."""
    from gapfactory.io.tables import transposed

    shown = transposed(rows, "crystal") if rows and len(rows[0]) > _COLUMNS else rows
    table(title, list(shown[0]) if shown else [], [list(row.values()) for row in shown])
