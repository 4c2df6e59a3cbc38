"""The figures of the 2018 papers, gathered once for page, table and pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from gapfactory.errors import EvidenceError, InputError, NotFoundError
from launchpad.dashboard.works import Made, as_json

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.works import Tell

__all__ = ["published_figures"]


def published_figures(database: Database[Any], tell: Tell, campaign: str, names: list[str]) -> Made:
    """Return ``<name>.json``, ``<name>.csv`` and, of what can be drawn, ``<name>.png`` and ``<name>.svg``."""
    parts: dict[str, bytes] = {}
    for number, name in enumerate(names):
        tell(name, number, len(names))
        parts |= {f"{name}.{kind}": data for kind, data in _figure(database, campaign, name).items()}
    return Made(parts)


def _figure(database: Database[Any], campaign: str, name: str) -> dict[str, bytes]:
    """Return a figure in each form."""
    from gapfactory.io.tables import csv_table
    from launchpad.dashboard.charts.published import published_chart
    from launchpad.dashboard.charts.style import plotly_text
    from launchpad.figure_data import gather
    from launchpad.figure_data.crystals import phase_label
    from launchpad.figure_data.request import Request

    try:
        found = gather(database, name, Request(campaign))
    except (EvidenceError, InputError, NotFoundError) as error:
        # what a campaign has not, or not yet, is said in place of the figure
        said = str(error)
        missing = f"{said[:1].upper()}{said[1:].rstrip('.')}."
        return {"json": as_json(published_chart(name, [], (), {}, missing)), "csv": b""}
    rows = found.rows
    phases = {str(row[key]) for row in rows for key in ("phase", "zero") if key in row}
    labels = {phase: plotly_text(phase_label(phase)) for phase in phases}
    chart = published_chart(name, rows, found.notes, labels)
    parts = {"json": as_json(chart), "csv": csv_table(chart["header"], [row.values() for row in rows])}
    if found.figure is None:
        return parts
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        file = io.BytesIO()
        # no date inside: the same data give the same file
        found.figure.savefig(file, format=kind, metadata=metadata)
        parts[kind] = file.getvalue()
    return parts
