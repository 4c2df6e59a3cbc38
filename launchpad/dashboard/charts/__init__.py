"""Figures of the pages: analysis results in, Plotly figures as plain JSON out.

Every chart is a pure function of the `gapfactory.report.ReportData` that the report draws with matplotlib, so that both
show the same numbers under the same title, and the CSV beside them is the report's. A colour written ``var(--ink)`` is
the page's own, light or dark; the script puts it in. Axes that are linear up to a value and logarithmic above are
described in ``layout.meta.bent``: the data stay as they are, the script bends them and can show them straight.
"""

from __future__ import annotations

from launchpad.dashboard.charts.catalogue import CHARTS, chart

__all__ = ["CHARTS", "chart"]
