"""A section of a report: a figure with its words and its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import EvidenceError
from gapfactory.io.tables import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.figure import Figure

__all__ = ["Row", "Section", "drawn", "make_section"]

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Section:
    """One figure of the report.

    Parameters
    ----------
    key
        Stem of the file names and anchor in the page.
    title, caption
        Heading, and what the figure shows.
    missing
        Why there is no figure, in words; empty when there is one.
    draw
        Makes the figure.
    header, rows
        The same data as a table.
    """

    key: str
    title: str
    caption: str
    missing: str
    draw: Callable[[], Figure] | None
    header: tuple[str, ...]
    rows: tuple[Row, ...]


def make_section(
    key: str,
    title: str,
    caption: str,
    *,
    missing: str,
    draw: Callable[[], Figure] | None,
    header: tuple[str, ...],
    rows: Iterable[Row],
) -> Section:
    """Return a section; `missing` is said where there is nothing to draw."""
    table = tuple(tuple(plain(v) for v in row) for row in rows)
    return Section(key, title, caption, missing if draw is None else "", draw, header, table)


def drawn(section: Section) -> tuple[Figure | None, str]:
    """Return the figure of a section, or None with the reason in words."""
    if section.draw is None:
        return None, section.missing
    try:
        return section.draw(), ""
    except EvidenceError as error:
        return None, f"Not drawn: {error}."
