"""`gapfactory structures`: what searches found, and labels of others."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from launchpad.cli.labels import check
from launchpad.cli.options import DataOption, JsonOption, UriOption, connect
from launchpad.cli.output import (
    console,
    picture_kind,
    print_json,
    save_picture,
    save_table,
    say,
    table,
    table_kind,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from gapfactory.analysis.ranking import Ranked, Ranking

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Structures: what searches found, ranked; labels of others, checked."
)

#: Structures in a picture at the most.
_DRAWN: Final = 24


app.command()(check)


@app.command()
def rank(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="CAMPAIGN, CAMPAIGN/COMPONENT or CAMPAIGN@GENERATION; or a file or directory of AIRSS (.res), or "
            "extended XYZ with REF_energy.",
            show_default=False,
        ),
    ],
    within: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Only structures so far above the lowest (eV/atom) \\[default: all].",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Lines to show; 0 shows all.")] = 20,
    unique: Annotated[
        bool,
        typer.Option("--unique/--every", help="One line for equal structures, or one for each encounter."),
    ] = True,
    component: Annotated[
        list[str] | None,
        typer.Option(help="Of a campaign: only this component; repeatable.", show_default=False),
    ] = None,
    generation: Annotated[
        list[int] | None,
        typer.Option(
            help="Of a campaign: this generation; repeatable \\[default: the newest with relaxations].",
            show_default=False,
        ),
    ] = None,
    best_per_composition: Annotated[
        bool, typer.Option("--best-per-composition", help="Only the lowest structure of each composition.")
    ] = False,
    pressure: Annotated[
        float | None,
        typer.Option(
            help="Compare enthalpies at this pressure (GPa): of a campaign E + pV, in files p V is added.",
            show_default=False,
        ),
    ] = None,
    unconverged: Annotated[
        bool, typer.Option("--unconverged", help="Of a campaign: also relaxations that did not converge.")
    ] = False,
    symprec: Annotated[
        float, typer.Option(min=1e-5, help="Tolerance with which space groups are looked for (Å).")
    ] = 0.1,
    per_formula: Annotated[
        bool, typer.Option("--per-formula", help="Volumes and energies per formula unit, not per atom.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write the structures shown: a directory (a .res file for each), or one .res or .extxyz file.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the table, .csv, .json, .html or .md.", show_default=False),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help=f"Draw the first {_DRAWN} structures, .png, .pdf or .svg.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    uri: UriOption = None,
    data: DataOption = None,
) -> None:
    """Rank structures by enthalpy, equal ones united and counted, as AIRSS's `ca -u -r` does.

    Energies count from the lowest structure of the same composition; with several compositions the order is that of the
    height above their convex hull. Energies of a campaign are those of the potential that relaxed the structures.

    Examples
    --------
      gapfactory structures rank boron --component hot --within 0.2

      gapfactory structures rank ./results --top 10 --write best

      gapfactory structures rank boron/hot@3 --picture best.png --out frameworks.md
    """
    from gapfactory.analysis.ranking import RankSettings, rank_structures
    from gapfactory.errors import InputError
    from gapfactory.io.structures import require_writable
    from gapfactory.io.tables import csv_table
    from launchpad.searches import searches_in

    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other")
    table_as = "" if out is None else table_kind(out, "--out")
    picture_as = "" if picture is None else picture_kind(picture, "--picture")
    if write is not None and write.suffix and not write.is_dir():
        require_writable(write, "--write")
    with _progress(quiet=as_json or as_csv) as tell, _opened(uri, data) as database:
        searches = [
            search
            for source in sources
            for search in searches_in(
                database,
                source,
                components=component or (),
                generations=generation or (),
                pressure=pressure,
                unconverged=unconverged,
                within=within,
            )
        ]
        ranking = rank_structures(
            [one for search in searches for one in search.found],
            RankSettings(symprec=symprec),
            within=within,
            top=top or None,
            unite=unique,
            best_per_composition=best_per_composition,
            progress=tell,
        )
    rows = [entry.row(place) for place, entry in enumerate(ranking.entries, 1)]
    notes = [note for search in searches for note in search.notes]
    if write is not None:
        notes.append(_write(write, ranking))
    if out is not None:
        save_table(rows, out, table_as)
    if picture is not None:
        from gapfactory.figures import best_structures

        save_picture(best_structures(ranking.entries[:_DRAWN], symprec), picture, picture_as)
    if as_json:
        summary = {"sources": sources, "considered": ranking.considered, "compositions": ranking.compositions}
        print_json({**summary, "symprec_A": symprec, "entries": rows, "notes": notes})
        return
    if as_csv:
        header = rows[0] if rows else ()
        typer.echo(csv_table(header, [row.values() for row in rows]).decode(), nl=False)
    else:
        _show(ranking, ", ".join(sources), per_formula=per_formula)
    for note in notes:
        say(f"note: {note}", stderr=as_csv)


@contextmanager
def _opened(uri: str | None, data: Path | None) -> Iterator[Callable[[], Database[Any]]]:
    """Yield what opens the database, once and only when it is asked for."""
    with ExitStack() as stack:

        @cache
        def database() -> Database[Any]:
            found = connect(uri, data)
            stack.callback(found.client.close)
            return found

        yield database


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows how many structures have been compared."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(
        *columns, console=screen, disable=quiet or not screen.is_terminal, transient=True
    ) as progress:
        bar = progress.add_task("reading", total=None)

        def tell(done: int, of: int) -> None:
            progress.update(bar, description="comparing", completed=done, total=of)

        yield tell


def _beginning(names: list[str]) -> str:
    """Return what all names begin with, up to their last slash: a narrow terminal has no room for it in every row."""
    beginnings = {name.rpartition("/")[0] for name in names}
    return f"{beginnings.pop()}/" if len(beginnings) == 1 and all("/" in name for name in names) else ""


def _show(ranking: Ranking, title: str, *, per_formula: bool) -> None:
    several = ranking.compositions > 1
    unit = "f.u." if per_formula else "atom"
    columns = ["", "name", "P/GPa", f"Å³/\n{unit}", f"eV/\n{unit}", *(["hull"] if several else [])]
    columns += ["f.u.", "formula", "space group", "no.", "found"]
    shared = _beginning([entry.structure.name for entry in ranking.entries])
    rows = []
    for place, entry in enumerate(ranking.entries, 1):
        s = entry.structure
        size = len(s.numbers) / s.formula_units if per_formula else 1.0
        # as AIRSS shows it: the lowest by itself, the others above it
        energy = s.enthalpy * size if entry.relative == 0 else entry.relative * size
        hull = [] if entry.above_hull is None else [f"{entry.above_hull * size:.3f}"]
        rows.append(
            [
                place,
                s.name.removeprefix(shared),
                f"{s.pressure:.2f}",
                f"{s.volume * size:.3f}",
                f"{energy:.3f}",
                *hull,
                s.formula_units,
                s.formula,
                entry.symbol or "-",
                entry.number,
                entry.copies,
            ]
        )
    table(f"{title}: {shared}..." if shared else title, columns, rows)
    say(
        f"{len(ranking.entries)} shown of {ranking.considered} structures, {ranking.compositions} composition(s)"
    )


def _write(target: Path, ranking: Ranking) -> str:
    from gapfactory.io.structures import write_structures

    kept = [entry for entry in ranking.entries if entry.structure.atoms is not None]
    if not target.suffix:
        target.mkdir(parents=True, exist_ok=True)
    write_structures(target, [_described(entry) for entry in kept])
    left = len(ranking.entries) - len(kept)
    return f"{len(kept)} structures written to {target}" + (
        f", {left} without geometry left out" if left else ""
    )


def _described(entry: Ranked) -> tuple[str, Any, dict[str, Any]]:
    s = entry.structure
    info = {
        "pressure_GPa": s.pressure,
        "enthalpy_eV": s.enthalpy * len(s.numbers),
        "symmetry": entry.symbol,
        "copies": entry.copies,
        "search": s.search,
        "relative_eV_per_atom": entry.relative,
        "above_hull_eV_per_atom": entry.above_hull,
    }
    return s.name, s.atoms, info
