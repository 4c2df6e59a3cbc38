"""Numbers and tables for other programs: plain data for JSON, text for spreadsheets."""

from __future__ import annotations

import csv
import io
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["csv_table", "html_table", "markdown_table", "plain", "transposed"]


def plain(value: Any) -> Any:
    """Return a number, text or container as plain JSON-able data; NaN and infinity become None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def csv_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """Return a table as CSV in which no text is a formula; missing values are empty."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if v is None else _cell(v) for v in row])
    return buffer.getvalue().encode()


def html_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table as HTML, five digits of a number at the most; missing values are dashes."""
    lines = ["<table>", f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr></thead>"]
    lines.append("<tbody>")
    lines += [f"<tr>{''.join(f'<td>{escape(_shown(v))}</td>' for v in row)}</tr>" for row in rows]
    lines += ["</tbody>", "</table>", ""]
    return "\n".join(lines)


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table as Markdown, numbers as in `html_table`."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    names = list(header)
    shown = [line([_shown(v) for v in row]) for row in rows]
    return "\n".join((line(names), line(["---"] * len(names)), *shown, ""))


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def transposed(rows: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    """Return rows as columns, named by what each has under `key`; names that come twice are numbered.

    Parameters
    ----------
    rows
        All with the same keys.
    """
    names: list[str] = []
    for row in rows:
        name = str(row[key])
        names.append(f"{name} ({names.count(name) + 1})" if name in names else name)
    fields = [field for field in rows[0] if field != key] if rows else []
    return [{key: field, **{n: row[field] for n, row in zip(names, rows, strict=True)}} for field in fields]


def _cell(value: Any) -> Any:
    # a spreadsheet would run text that starts like a formula
    if isinstance(value, str) and value[:1] in "=+-@\t\r" and value[:1]:
        return "'" + value
    return value
