"""What searches gave, in the report: boxes of energies, errors of crystals, targets found."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from gapfactory.analysis.distorted_errors import DistortedErrors, PhaseError
from gapfactory.analysis.rediscovery import Minimum, SearchCount, rediscovery
from gapfactory.report import ReportData, TrainingPoint, write_report
from launchpad.diagnostics import search_counts

NAN = float("nan")
COUNTS = (
    SearchCount(3, "look", 2, 310, "B-alpha-B12", 50, 48, 0, 0.0, 0.07),
    SearchCount(4, "look", 3, 420, "B-alpha-B12", 50, 47, 12, 0.15, 0.39),
    SearchCount(4, "tight", 4, 420, "B-alpha-B12", 50, 50, 20, 0.28, 0.54),
)
POINTS = tuple(
    TrainingPoint(f"b/g{g}/{origin}/{k}", g, origin, False, 7.0 + k, -6.0 + 0.1 * k, component=component)
    for g, origin, component in (
        (0, "random cell", "free"),
        (1, "end of the relaxation", "free"),
        (1, "end of the relaxation", "twelve"),
    )
    for k in range(3)
)
ERRORS = DistortedErrors(
    (PhaseError("alpha", "0", 3, 0.05, NAN, 0), PhaseError("alpha", "1", 2, 0.01, NAN, 1, trained=2)),
    ("alpha",),
    ("0", "1"),
)


@pytest.fixture
def data() -> ReportData:
    return ReportData(
        campaign="b", system="B", state="done", training=POINTS, crystals=ERRORS, searches=COUNTS
    )


def test_all_three_are_drawn_and_written(data: ReportData, tmp_path) -> None:
    page = write_report(data, tmp_path).read_text()
    for key in ("energy_boxes", "crystal_errors", "searches"):
        assert (tmp_path / f"{key}.png").stat().st_size > 5000
        assert f'src="{key}.png"' in page
    with (tmp_path / "searches.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["generation"], r["potential"], r["labels"], r["found"], r["attempts"]) for r in rows] == [
        ("3", "2", "310", "0", "48"),
        ("4", "3", "420", "12", "47"),
        ("4", "4", "420", "20", "50"),
    ]
    figures = json.loads((tmp_path / "report.json").read_text())["figures"]
    boxes = [
        dict(zip(figures["energy_boxes"]["columns"], row, strict=True))
        for row in figures["energy_boxes"]["rows"]
    ]
    assert {(b["origin"], b["component"], b["generation"]) for b in boxes} == {
        ("random cell", "free", 0),
        ("end of the relaxation", "free", 1),
        ("end of the relaxation", "twelve", 1),
    }
    errors = figures["crystal_errors"]["rows"]
    assert [row[:4] for row in errors] == [
        ["alpha", "0", 3, pytest.approx(50.0)],
        ["alpha", "1", 2, pytest.approx(10.0)],
    ]
    # the newest on the first screen, with potential and number of structures
    first = page[: page.index("<nav")]
    assert (
        "found 20 times in 50 relaxations of search tight with the potential of generation 4, 420 structures"
        in first
    )
    assert "310 structures" not in first


def test_a_campaign_without_them_says_nothing_of_them(data: ReportData, tmp_path) -> None:
    page = write_report(replace(data, crystals=None, searches=()), tmp_path).read_text()
    assert "Diagnostic searches" not in page
    assert "distorted crystals" not in page.lower()
    assert not (tmp_path / "searches.csv").exists()


def test_a_search_without_a_sound_relaxation_is_told_in_words(data: ReportData, tmp_path) -> None:
    none = SearchCount(1, "look", 0, 5, "B-alpha-B12", 50, 0, 0, 0.0, 1.0)
    page = write_report(replace(data, searches=(none,)), tmp_path).read_text()
    assert "no relaxation of a diagnostic search has ended" in page
    assert (tmp_path / "searches.csv").exists()


def test_counts_come_from_stored_metrics_of_this_version_and_the_one_before() -> None:
    from ase.build import bulk

    (found,) = rediscovery([Minimum("m", bulk("Si"), 31)], {"Si-diamond": bulk("Si")})
    stored = {"cells": 2, "ends": 1, "targets": {"Si-diamond": found.as_dict()}}
    metrics = [
        {"generation": 0, "evidence": {}},
        {"generation": 1, "evidence": {"searches": {"look": stored}}},
        {"generation": 2, "evidence": {"searches": {"look": stored | {"potential": 2, "labels": 40}}}},
    ]
    rows = search_counts(metrics)
    assert [(r.generation, r.potential, r.labels, r.found, r.attempts) for r in rows] == [
        (1, 0, 31, 1, 1),
        (2, 2, 40, 1, 1),
    ]
    assert (rows[0].first, rows[0].rank) == ("m", None)
