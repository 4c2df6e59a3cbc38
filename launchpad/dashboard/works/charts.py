"""Charts of a campaign and their tables, and the report's own pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError
from launchpad.dashboard.works import Made, as_json

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.works import Tell

__all__ = ["all_charts", "picture"]


def all_charts(database: Database[Any], tell: Tell, campaign: str) -> Made:
    """Return ``<key>.json`` and ``<key>.csv`` of every chart.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    """
    from gapfactory.io.tables import csv_table
    from gapfactory.report.sections import figure_sections
    from launchpad.dashboard.charts.catalogue import CHARTS, chart
    from launchpad.reporting import collect_report

    tell("collecting what was measured", 0, 0)
    data = collect_report(database, campaign, similarity=False)
    sections = figure_sections(data)
    parts = {}
    for number, section in enumerate(sections):
        tell(section.title, number, len(sections))
        parts[f"{section.key}.csv"] = csv_table(section.header, section.rows)
        if section.key in CHARTS:
            parts[f"{section.key}.json"] = as_json(chart(section, data))
    return Made(parts)


def picture(database: Database[Any], tell: Tell, campaign: str, key: str, kind: str) -> Made:
    """Draw one figure of the report.

    Raises
    ------
    NotFoundError
        There is no such campaign or figure, or nothing to draw in it.
    """
    from gapfactory.report.sections import drawn, figure_sections
    from launchpad.reporting import collect_report

    tell("drawing", 0, 0)
    data = collect_report(database, campaign, similarity=False)
    section = next((s for s in figure_sections(data) if s.key == key), None)
    if section is None:
        raise NotFoundError(f"the report of {campaign!r} has no figure {key!r}")
    figure, missing = drawn(section)
    if figure is None:
        raise NotFoundError(missing)
    file = io.BytesIO()
    # no date inside: the same data give the same file
    figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return Made({"file": file.getvalue()})
