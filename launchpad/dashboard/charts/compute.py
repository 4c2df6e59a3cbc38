"""A process of its own that collects a campaign's report and writes its charts into a directory.

Collecting loads what a worker of the dashboard needs for nothing else (80 MB), and takes seconds of processor time that
the pages of other people would wait for.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import GapFactoryError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "write_charts", "write_picture"]


def write_charts(database: Any, campaign: str, directory: Path) -> None:
    """Write ``<key>.json`` and ``<key>.csv`` of every chart.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    """
    from gapfactory.report.sections import figure_sections
    from gapfactory.report.write import csv_table
    from launchpad.dashboard.charts.catalogue import CHARTS, chart
    from launchpad.reporting import collect_report

    data = collect_report(database, campaign, similarity=False)
    for section in figure_sections(data):
        (directory / f"{section.key}.csv").write_bytes(csv_table(section.header, section.rows))
        if section.key in CHARTS:
            text = json.dumps(chart(section, data), allow_nan=False, separators=(",", ":"))
            (directory / f"{section.key}.json").write_text(text, encoding="utf-8")


def write_picture(database: Any, campaign: str, key: str, kind: str, file: Path) -> None:
    """Draw one figure of the report.

    Raises
    ------
    NotFoundError
        There is no such campaign or figure, or nothing to draw in it.
    """
    from gapfactory.report.sections import drawn, figure_sections
    from launchpad.reporting import collect_report

    data = collect_report(database, campaign, similarity=False)
    section = next((s for s in figure_sections(data) if s.key == key), None)
    if section is None:
        raise NotFoundError(f"the report of {campaign!r} has no figure {key!r}")
    figure, missing = drawn(section)
    if figure is None:
        raise NotFoundError(missing)
    # no date inside: the same data give the same file
    figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})


def main(arguments: Sequence[str]) -> int:
    """Do what standard input asks for; the URI of the database is a secret and no argument."""
    from launchpad.database.connection import open_database

    os.nice(5)
    wanted = json.load(sys.stdin)
    try:
        database = open_database(wanted["uri"])
        if wanted["picture"] is None:
            write_charts(database, wanted["campaign"], Path(arguments[0]))
        else:
            key, kind = wanted["picture"]
            write_picture(database, wanted["campaign"], key, kind, Path(arguments[0]))
    except GapFactoryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
