"""Which of many structures are worth a reference calculation."""

from __future__ import annotations

from gapfactory.select.cur import CurChoice, choose, cur, leverage_scores
from gapfactory.select.funnel import Funnel, TrajectorySummary
from gapfactory.select.histogram import flat_histogram, histogram_counts
from gapfactory.select.initial import select_initial
from gapfactory.select.report import HistogramReport, Pick, SelectionReport, StageReport
from gapfactory.select.settings import SelectSettings

__all__ = [
    "CurChoice",
    "Funnel",
    "HistogramReport",
    "Pick",
    "SelectSettings",
    "SelectionReport",
    "StageReport",
    "TrajectorySummary",
    "choose",
    "cur",
    "flat_histogram",
    "histogram_counts",
    "leverage_scores",
    "select_initial",
]
