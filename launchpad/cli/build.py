"""`gapfactory build`: random structures from a seed file of AIRSS."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchpad.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations
from launchpad.cli.output import console, picture_kind, print_json, save_picture, say, table

if TYPE_CHECKING:
    from gapfactory.build.cells import BuiltCell
    from gapfactory.build.from_seed import Failure
    from gapfactory.build.seed_translation import Seed

__all__ = ["build"]

#: structures in a picture, and reasons of failure in a summary, at the most
_DRAWN, _REASONS = 12, 5


class _Format(StrEnum):
    EXTXYZ = "extxyz"
    RES = "res"


def build(
    seed_file: Annotated[
        Path, typer.Argument(metavar="SEED.cell", help="Seed file of AIRSS.", show_default=False)
    ],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Structures to build.")] = 10,
    random_seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of every random draw: same seed, same structures.")
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write, .extxyz, .xyz or .res, or a directory for a .res file of each structure "
            "\\[default: SEED.extxyz].",
            show_default=False,
        ),
    ] = None,
    file_format: Annotated[
        _Format, typer.Option("--format", help="What SEED is written as where --output is not given.")
    ] = _Format.EXTXYZ,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            help="Also draw the first structures to this file, .png, .pdf or .svg.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build random structures from a seed file of AIRSS (docs/reference/airss-keywords.md).

    Structure number i depends on the seed and on i alone. One that cannot be built within its tries is left out and
    counted, with the reason. Exit code 1 when none could be built.

    Examples
    --------
      gapfactory build B12.cell -n 100 --seed 1 -o cells.extxyz

      gapfactory build C.cell -n 20 --picture cells.png --json

      gapfactory build C.cell -n 20 --format res
    """
    from gapfactory.build.from_seed import Failure
    from gapfactory.build.seed_file import read_seed
    from gapfactory.io.structures import require_writable, write_structures

    target = output or Path(f"{seed_file.stem}.{file_format}")
    # before anything is built
    if not target.is_dir():
        require_writable(target, "--output")
    kind = "" if picture is None else picture_kind(picture, "--picture")
    seed = read_seed(seed_file)
    results = _build(seed, number, random_seed, quiet=as_json)
    built = {index: cell for index, cell in enumerate(results) if not isinstance(cell, Failure)}
    failures = [cell.reason for cell in results if isinstance(cell, Failure)]
    if built:
        write_structures(
            target,
            [
                (f"{seed.name.removesuffix('.cell')}-{index}", cell.atoms, _info(seed, index, cell))
                for index, cell in built.items()
            ],
        )
    if picture is not None and built:
        from gapfactory.figures.cells import cell_pictures

        shown = list(built.items())[:_DRAWN]
        drawn = cell_pictures([(f"{i} {cell.group}".strip(), cell.atoms) for i, cell in shown])
        save_picture(drawn, picture, kind)
    summary = _summary(seed, target if built else None, list(built.values()), failures)
    if as_json:
        print_json(summary)
    else:
        _show(summary)
    raise typer.Exit(0 if built else 1)


def _build(seed: Seed, number: int, random_seed: int, *, quiet: bool) -> list[BuiltCell | Failure]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gapfactory.build.from_seed import structures_of

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as progress:
        bar = progress.add_task(f"building {seed.name}", total=number)
        found: list[BuiltCell | Failure] = []
        for result in structures_of(seed, number, random_seed):
            found.append(result)
            progress.advance(bar)
    return found


def _info(seed: Seed, index: int, cell: BuiltCell) -> dict[str, Any]:
    """Return what the file says of a structure beside its atoms."""
    return {
        "seed_file": seed.name,
        "index": index,
        "space_group": cell.space_group,
        "symmetry": cell.group,
        "symmetry_operations": cell.symmetry_operations,
        "shortest_ratio": round(cell.shortest_ratio, 6),
        "attempts": cell.attempts,
    }


def _summary(seed: Seed, target: Path | None, cells: list[BuiltCell], failures: list[str]) -> dict[str, Any]:
    def counted(values: list[Any]) -> dict[str, int]:
        return {str(value): n for value, n in sorted(Counter(values).items())}

    return {
        "seed_file": seed.name,
        "built": len(cells),
        "failed": len(failures),
        "file": None if target is None else str(target),
        "atoms": counted([len(cell.atoms) for cell in cells]),
        "symmetry_operations": counted([cell.symmetry_operations for cell in cells]),
        "attempts": sum(cell.attempts for cell in cells),
        "shortest_ratio": min((cell.shortest_ratio for cell in cells), default=None),
        "passed_over": list(seed.passed_over),
        # there is nothing to measure on: the stated separations hold
        "auto_unused": any(variant.settings.separations.auto for variant in seed.variants),
        "reasons": dict(Counter(failures).most_common(_REASONS)),
    }


def _show(summary: dict[str, Any]) -> None:
    words = {"built": "structures", "failed": "not built", "atoms": "atoms in a cell: structures"}
    words |= {
        "symmetry_operations": "operations: structures",
        "shortest_ratio": "shortest contact / separation",
    }
    shown = ("built", "failed", "atoms", "symmetry_operations", "shortest_ratio", "attempts", "file")
    rows = [[words.get(key, key), _text(summary[key])] for key in shown]
    table(f"build {summary['seed_file']}", ["what", "value"], rows)
    if summary["passed_over"]:
        say(f"not about the structure, passed over: {', '.join(summary['passed_over'])}")
    if summary["auto_unused"]:
        say("MINSEP=AUTO: only a campaign has earlier structures to measure; the stated separations hold")
    for reason, count in summary["reasons"].items():
        say(f"{count} not built: {reason}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {number}" for key, number in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)
