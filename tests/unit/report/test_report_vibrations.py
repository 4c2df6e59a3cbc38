"""Vibrations and elasticity in the report: verdict, sections, table, and nothing where none are measured."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import pytest
from gf_vibrations import aluminium, bain_path

from gapfactory.analysis.vibration_settings import VibrationLimits
from gapfactory.report import ReportData, VibrationEvidence, headline, write_report


@pytest.fixture(scope="module")
def data() -> ReportData:
    crystals = (aluminium({"": 1.04, "static": 1.05}, name="fcc"), *bain_path((0.25,), 1.02))
    return ReportData(
        "al",
        "Al",
        "done",
        vibrations=VibrationEvidence(crystals, VibrationLimits(), ("hcp: 2 of 9 cells have no label",)),
    )


def test_the_verdict_is_that_of_every_crystal(data: ReportData) -> None:
    first = headline(data)
    assert (first.verdict, first.vibrations) == ("passes", "passes")
    assert first.judgement[0].startswith("fcc passes: frequencies on a 4x4x4 mesh differ by")
    assert first.judgement[2] == "hcp: 2 of 9 cells have no label."
    assert "no named phases" not in " ".join(first.judgement)
    assert data.vibrations is not None
    strict = replace(data.vibrations, limits=VibrationLimits(elastic_percent=3.9))
    first = headline(replace(data, vibrations=strict))
    assert (first.verdict, first.vibrations) == ("fails", "fails")
    first = headline(replace(data, vibrations=None))
    assert (first.verdict, first.vibrations) == ("not judged", "not judged")


def test_page_files_and_table(data: ReportData, tmp_path) -> None:
    page = write_report(data, tmp_path).read_text(encoding="utf-8")
    for key in ("phonons", "elastic_constants", "bain_path", "constant_sigmas"):
        assert (tmp_path / f"{key}.png").stat().st_size > 5000
        assert f'src="{key}.png"' in page
    assert "vibrations: passes" in page
    assert "imaginary frequencies (below zero): by the reference" in page[: page.index("<nav")]
    with (tmp_path / "phonons.csv").open(encoding="utf-8") as stream:
        rows = {row["crystal"]: row for row in csv.DictReader(stream)}
    assert (rows["fcc"]["verdict"], rows["fcc"]["reference_stable"]) == ("passes", "True")
    assert float(rows["Al-bain-0.25"]["reference_lowest_THz"]) < -1
    with (tmp_path / "elastic_constants.csv").open(encoding="utf-8") as stream:
        errors = {
            row["quantity"]: float(row["error_percent"])
            for row in csv.DictReader(stream)
            if row["crystal"] == "fcc"
        }
    assert errors == pytest.approx({"a": 0, "B": 4, "G": 4, "C11": 4, "C12": 4, "C44": 4}, abs=1e-6)
    table = page[page.index('<section id="vibrations">') : page.index('<section id="phases">')]
    assert re.search(r"C44 \(GPa\)</td><td>36\.1</td><td>37\.6</td><td>\+4\.00 %", table)
    assert re.search(r"lowest mode \(THz\), imaginary below zero</td><td>-1\.\d+</td>", table)
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (document["verdict"], document["vibrations"]) == ("passes", "passes")
    assert "phonons_learning" not in document["figures"]


def test_a_campaign_without_them_says_nothing_of_them(data: ReportData, tmp_path) -> None:
    page = write_report(replace(data, vibrations=None), tmp_path).read_text(encoding="utf-8")
    for word in ("honons", "vibrations", "Elastic"):
        assert word not in page
