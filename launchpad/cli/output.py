"""How the CLI prints: tables for people, JSON for programs, one clear screen for an error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from rich.console import Console

    from gapfactory.errors import GapFactoryError

__all__ = [
    "console",
    "picture_kind",
    "print_json",
    "save_picture",
    "save_table",
    "say",
    "show_error",
    "table",
    "table_kind",
]

#: Kinds of pictures by the ending of a file's name, and what each leaves out: the same data give the same file.
_PICTURES: Final[dict[str, dict[str, None]]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


def console(*, stderr: bool = False, wrap: bool = False) -> Console:
    """Return a console on standard output (or error); lines are wrapped at its width, or left to the terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not wrap)


def say(text: str, *, stderr: bool = False) -> None:
    """Print a line for people; on standard error beside what programs read."""
    console(stderr=stderr).print(text, markup=False)


def picture_kind(path: Path, option: str) -> str:
    """Return the kind of picture that a file is to be.

    Raises
    ------
    InputError
        Its name says none, or its directory is not there; names the option that gave it.
    """
    return _kind(path, option, tuple(_PICTURES))


def table_kind(path: Path, option: str) -> str:
    """Return the kind of table that a file is to be.

    Raises
    ------
    InputError
        As `picture_kind`.
    """
    return _kind(path, option, ("csv", "json", "html", "md"))


def _kind(path: Path, option: str, kinds: tuple[str, ...]) -> str:
    from gapfactory.errors import InputError

    kind = path.suffix.lstrip(".")
    if kind not in kinds:
        known = " or ".join((", ".join(f".{k}" for k in kinds[:-1]), f".{kinds[-1]}"))
        raise InputError(f"{option} {path}: the name must end in {known}")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no directory {path.parent}; make it first")
    return kind


def save_picture(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure as `picture_kind` says."""
    figure.savefig(path, format=kind, metadata=_PICTURES[kind])


def save_table(rows: Sequence[Mapping[str, Any]], path: Path, kind: str) -> None:
    """Write rows, all with the same keys, as `table_kind` says."""
    from gapfactory.io.tables import csv_table, html_table, markdown_table

    header, values = tuple(rows[0]) if rows else (), [row.values() for row in rows]
    if kind == "csv":
        path.write_bytes(csv_table(header, values))
    elif kind == "html":
        path.write_text(html_table(header, values), encoding="utf-8")
    elif kind == "md":
        path.write_text(markdown_table(header, values), encoding="utf-8")
    else:
        path.write_text(json.dumps(list(rows), indent=2) + "\n", encoding="utf-8")


def print_json(data: Any) -> None:
    """Print data as JSON for programs."""
    sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")


def show_error(error: GapFactoryError) -> None:
    """Print an error with its code; no traceback, because its text says what to do."""
    from rich.panel import Panel
    from rich.text import Text

    # wrapped: a panel on a console that does not wrap is cut at its right edge, and the remedy stands last
    console(stderr=True, wrap=True).print(
        Panel(
            Text(str(error), overflow="fold"),
            title=f"error: {error.code}",
            title_align="left",
            border_style="red",
        )
    )


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table that fits the width of the terminal; numbers to the right and never broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for position, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[position], int | float | None) for row in rows)
        out.add_column(Text(name), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        out.add_row(*(Text(_cell(value)) for value in row))
    console(wrap=True).print(out)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
