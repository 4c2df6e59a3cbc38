"""Numbers and tables for other programs: plain data for JSON, text for spreadsheets."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["csv_table", "plain"]


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


def _cell(value: Any) -> Any:
    # a spreadsheet would run text that starts like a formula
    if isinstance(value, str) and value[:1] in "=+-@\t\r" and value[:1]:
        return "'" + value
    return value
