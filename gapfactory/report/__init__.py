"""The report of a campaign: HTML, PNG, CSV and JSON from plain data."""

from __future__ import annotations

from gapfactory.report.card import card
from gapfactory.report.data import (
    Failure,
    FormationData,
    GenerationSummary,
    HullData,
    NetworkFit,
    PhaseEvidence,
    Quarantined,
    Remedy,
    ReportData,
    ScatterData,
    TrainingPoint,
    VibrationEvidence,
)
from gapfactory.report.verdict import Headline, headline
from gapfactory.report.write import write_report

__all__ = [
    "Failure",
    "FormationData",
    "GenerationSummary",
    "Headline",
    "HullData",
    "NetworkFit",
    "PhaseEvidence",
    "Quarantined",
    "Remedy",
    "ReportData",
    "ScatterData",
    "TrainingPoint",
    "VibrationEvidence",
    "card",
    "headline",
    "write_report",
]
