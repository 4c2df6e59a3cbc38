"""How the CLI prints: tables for people, JSON for programs, one clear screen for an error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from gapfactory.errors import GapFactoryError

__all__ = ["console", "print_json", "say", "show_error", "table"]


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output (or error)."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for people."""
    console().print(text, markup=False)


def print_json(data: Any) -> None:
    """Print data as JSON for programs."""
    sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")


def show_error(error: GapFactoryError) -> None:
    """Print an error with its code; no traceback, because its text says what to do."""
    from rich.panel import Panel
    from rich.text import Text

    console(stderr=True).print(
        Panel(Text(str(error)), title=f"error: {error.code}", title_align="left", border_style="red")
    )


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table; numbers to the right."""
    from rich.table import Table
    from rich.text import Text

    out = Table(title=title, title_justify="left", header_style="bold")
    for position, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[position], int | float | None) for row in rows)
        out.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        out.add_row(*(Text(_cell(value)) for value in row))
    console().print(out)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
