"""Which charts there are, in the order of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from launchpad.dashboard.charts import campaign, quality, stability, training

if TYPE_CHECKING:
    from collections.abc import Callable

    from gapfactory.report import ReportData
    from gapfactory.report.section import Section

__all__ = ["CHARTS", "chart"]

#: Key of the report's section -> its chart. The map of structures has a page of its own.
CHARTS: Final[dict[str, Callable[[ReportData], dict[str, Any] | None]]] = {
    "learning_curve": quality.learning_curve,
    "energy_scatter": quality.energy_scatter,
    "error_windows": training.error_windows,
    "training_set": training.training_set,
    "held_out_errors": training.held_out_errors,
    "fit_errors": training.fit_errors,
    "energy_volume": quality.energy_volume,
    "selection": campaign.selection,
    "enthalpies": training.enthalpies,
    "energy_distribution": campaign.energy_distribution,
    "hull": campaign.hull,
    "dynamics": stability.dynamics,
    "close_contacts": stability.close_contacts,
    "levels": campaign.levels,
    "time": campaign.time_budget,
}

#: Rows of the table that goes with a chart; the CSV has all.
TABLE_ROWS: Final = 200


def chart(section: Section, data: ReportData) -> dict[str, Any]:
    """Return a section of the report as a page shows it: words, Plotly figure and the first rows of its table."""
    drawn = CHARTS[section.key](data)
    return {
        "key": section.key,
        "title": section.title,
        "caption": section.caption,
        "missing": "" if drawn is not None else section.missing or "There is nothing to draw.",
        "figure": drawn,
        "header": list(section.header),
        "rows": [list(row) for row in section.rows[:TABLE_ROWS]],
        "n_rows": len(section.rows),
    }
