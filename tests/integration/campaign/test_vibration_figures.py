"""Figs. 1-8 and Tables 2 and 3 of Allen and Bartók (2022) from a database: every format, and what is missing."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pytest
from gf_browser import colours
from gf_vibrations import aluminium, bain_path, named_database, stored_campaign

from gapfactory.errors import GapFactoryError
from launchpad.figure_data import FIGURES, TABLES, VIBRATIONS, gather
from launchpad.figure_data.request import Request

pytestmark = pytest.mark.database
FACTORS = {
    "": 1.04,
    "primitives": 0.64,
    "equal-cost": 1.1,
    "diagonal": -0.2,
    "static": 1.09,
    "learning-0016-all": 0.9,
    "learning-0016-own": 0.5,
    "learning-0032-all": 0.98,
    "learning-0032-own": 0.81,
}
NAMES = {0.0: "bcc", 0.25: "quarter", 0.5: "half", 0.75: "three-quarters"}
#: Words that a drawing of each figure must hold.
WORDS = {
    "phonons": ("fcc", "potential", "reference", "frequency (THz)", "states per THz"),
    "phonons-primitives": ("all frames", "primitive cells only"),
    "phonons-diagonal": ("non-diagonal supercells", "imaginary below zero"),
    "phonons-learning": ("(a) sparse points of all frames", "sparse points of the labelled", "RMSE (THz)"),
    "phonons-bain": ("body-centred cubic", "trained on", "not trained on"),
    "phonons-static": ("sigmas by component", "constant sigmas"),
    "elastic": ("error (% of the reference)", "fcc"),
    "elastic-static": ("sigmas by component", "constant sigmas"),
}


@pytest.fixture(scope="module")
def database(database_server):
    with named_database(database_server, "gf_test_vibration_figures") as (_, opened):
        fcc = aluminium(FACTORS, name="fcc")
        path = bain_path(tuple(NAMES), 1.06, names=NAMES)
        stored_campaign(opened, "al", "ndsc-2022-Al-Bain", [fcc, *path])
        stored_campaign(opened, "other", "ndsc-2022-Al", [aluminium({"": 0.9}, name="fcc")])
        yield opened


@pytest.fixture
def invoke(database, monkeypatch, tmp_path):
    """Return a function that runs `gapfactory figure` in this process; a refusal is raised as it is."""
    from typer.testing import CliRunner

    from launchpad.cli.app import app

    monkeypatch.setattr(sys.modules["launchpad.cli.figure"], "connect", lambda uri, data: database)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object):
        done = CliRunner().invoke(app, ["figure", *map(str, arguments)])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return run


def test_there_is_a_check_of_every_figure():
    assert {*WORDS, *(set(VIBRATIONS) & TABLES)} == set(VIBRATIONS) <= set(FIGURES)


@pytest.mark.parametrize("name", sorted(WORDS))
def test_every_format_holds_the_figure(invoke, tmp_path, name):
    found = json.loads(invoke(name, "al", "--json", "--out", "x.png"))
    printed = invoke(name, "al", "--csv", "--out", "x.svg")
    table = list(csv.DictReader(io.StringIO(printed)))
    assert len(table) == len(found["rows"]) >= 5
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in found["rows"]] == table
    assert colours((tmp_path / "x.png").read_bytes()) > 20
    invoke(name, "al", "--out", "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    drawing = (tmp_path / "x.svg").read_text(encoding="utf-8")
    for words in WORDS[name]:
        assert words in drawing, words


def test_phonons_are_those_that_are_stored(database):
    found = gather(database, "phonons", Request("al"))
    bands = {row["method"]: [] for row in found.rows}
    for row in found.rows:
        if row["kind"] == "bands":
            bands[row["method"]].append(row["frequency_THz"])
    assert {row["crystal"] for row in found.rows} == {"fcc"}
    np.testing.assert_allclose(bands["potential"], np.sqrt(1.04) * np.array(bands["reference"]), atol=1e-4)
    (note,) = found.notes
    assert note.startswith("potential: fcc passes: frequencies on a 4x4x4 mesh differ by")
    assert "agree to 4.0 %" in note
    stored = database.vibrations.find_one({"_id": "al/g000/vibrations/fcc/potential"})["comparison"]
    assert f"{stored['rmse_THz']:.3f} THz RMS (limit 0.5)" in note


def test_the_verdict_obeys_the_limits_of_the_campaign(database):
    database.campaigns.update_one(
        {"_id": "al"}, {"$set": {"settings.vibrations.limits.elastic_percent": 3.0}}
    )
    try:
        (note,) = gather(database, "phonons", Request("al")).notes
    finally:
        database.campaigns.update_one(
            {"_id": "al"}, {"$set": {"settings.vibrations.limits.elastic_percent": 6.0}}
        )
    assert note.startswith("potential: fcc fails")
    assert "(limit 3 %)" in note


def test_imaginary_modes_are_said_in_words(database):
    notes = gather(database, "phonons-diagonal", Request("al")).notes
    assert "imaginary" not in notes[0]
    assert notes[1].startswith("diagonal supercells: fcc fails")
    assert "imaginary frequencies (below zero): by the reference none; by the potential" in notes[1]


def test_the_path_has_its_places_in_order(database):
    rows = gather(database, "phonons-bain", Request("al")).rows
    places = list(dict.fromkeys((row["eta"], row["crystal"], row["trained"]) for row in rows))
    assert places == [
        (0.0, "bcc", True),
        (0.25, "quarter", False),
        (0.5, "half", True),
        (0.75, "three-quarters", False),
        # whose volume the others have
        (1.0, "fcc", True),
    ]


def test_learning_has_both_ways(database):
    rows = gather(database, "phonons-learning", Request("al")).rows
    # the potential itself is the last of both
    assert [(r["labels"], r["sparse_points_of"]) for r in rows] == [
        (n, ways) for n in (16, 32, 64) for ways in ("all frames", "the labelled frames")
    ]
    errors = {(r["labels"], r["sparse_points_of"]): r["rmse_THz"] for r in rows}
    assert errors[16, "all frames"] < errors[16, "the labelled frames"]
    assert errors[64, "all frames"] == errors[64, "the labelled frames"]


def test_elastic_errors_of_several_campaigns_stand_side_by_side(database):
    found = gather(database, "elastic", Request("al", also=("other",)))
    errors = {(r["crystal"], r["constant"]): r["error_percent"] for r in found.rows}
    assert errors["fcc (al)", "C44"] == pytest.approx(4.0, abs=1e-6)
    assert errors["fcc (other)", "B"] == pytest.approx(-10.0, abs=1e-6)
    static = gather(database, "elastic-static", Request("al")).rows
    assert {r["method"]: round(r["error_percent"]) for r in static} == {
        "constant sigmas": 9,
        "sigmas by component": 4,
    }


def test_tables_are_printed_and_written(invoke, tmp_path):
    printed = invoke("elastic-constants", "al")
    assert "primitive cells only" in printed
    assert "Vallin" in printed
    rows = json.loads(invoke("elastic-constants", "al", "--also", "other", "--json"))["rows"]
    assert [(r["crystal"], r["method"]) for r in rows if "measured" not in r["method"]] == [
        ("fcc (al)", "potential"),
        ("fcc (al)", "primitive cells only"),
        ("fcc (al)", "reference"),
        ("fcc (other)", "potential"),
        ("fcc (other)", "reference"),
    ]
    invoke("elastic-constants", "al", "--out", "t.html")
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 5
    assert "<td>82</td><td>–</td><td>116.3</td>" in page
    printed = invoke("vibration-fits", "al", "--parent", "fcc")
    assert "cutoff_A" in printed
    invoke("vibration-fits", "al", "--out", "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8") as stream:
        rows = {row["crystal"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["bcc", "fcc", "half", "quarter", "three-quarters"]
    fcc = rows["fcc"]
    # Table 2
    assert [float(fcc[k]) for k in ("cutoff_A", "n_max", "l_max", "atom_sigma_A")] == [10.0, 10, 8, 0.5]
    assert (fcc["virial_sigma_fraction"], fcc["least_virial_sigma_eV"]) == ("0.005", "0.0005")
    assert (fcc["n_energies"], fcc["n_atoms"]) == ("64", "192")
    assert float(fcc["a_reference_A"]) == pytest.approx(3.99493, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("phonons", "al", "--parent", "hcp"), "no vibrations of a crystal 'hcp'; there are: bcc, fcc"),
        (("phonons", "al", "--generation", "3"), "no vibrations of generation 3, only of 0"),
        (("phonons-primitives", "other"), r"no study 'primitives': switch vibrations.studies.primitives on"),
        (("phonons-learning", "other"), r"no study 'learning'"),
        (("phonons-bain", "other"), r"add some to vibrations.parents"),
        (("elastic", "al", "--also", "al"), "campaign 'al' is there already"),
        (("elastic", "al", "--also", "other@x"), "is not CAMPAIGN or CAMPAIGN@GENERATION"),
        (("phonons-bain", "al", "--also", "other"), "--also changes nothing in phonons-bain"),
        (("elastic-constants", "al", "--out", "t.png"), "must end in .csv, .json, .html or .md"),
        (("energy-boxes", "al", "--parent", "fcc"), "--parent changes nothing in energy-boxes"),
        (("phonons", "nobody"), "nobody"),
    ],
)
def test_what_cannot_be_drawn_is_said(invoke, arguments, words):
    with pytest.raises(GapFactoryError, match=words):
        invoke(*arguments)


@pytest.mark.parametrize("name", sorted(VIBRATIONS))
def test_a_campaign_without_vibrations_is_told_how_to_get_them(database, name):
    for campaign, preset, words in (
        ("plain", "quickstart-Si-analytic", r"a block 'vibrations'.*docs/how-to/vibrations.md"),
        ("new", "ndsc-2022-Al", "'gapfactory campaign status new' shows how far it is"),
    ):
        stored_campaign(database, campaign, preset, [])
        try:
            with pytest.raises(GapFactoryError, match=words):
                gather(database, name, Request(campaign))
        finally:
            database.campaigns.delete_one({"_id": campaign})


def test_a_crystal_that_could_not_be_measured_is_named(database):
    key = "al/g000/vibrations/quarter/reference"
    before = database.vibrations.find_one({"_id": key})
    database.vibrations.update_one({"_id": key}, {"$set": {"data": None, "reason": "2 of 9 have no label"}})
    try:
        found = gather(database, "phonons-bain", Request("al"))
    finally:
        database.vibrations.replace_one({"_id": key}, before)
    assert "quarter is left out: 2 of 9 have no label" in found.notes
    assert {row["eta"] for row in found.rows} == {0.0, 0.5, 0.75, 1.0}


def test_a_crystal_that_was_never_measured_is_named(database):
    from launchpad.database.documents import MetricsDocument

    evidence = {"vibrations": {"minimum-1": {"reason": "relaxes to fcc"}, "fcc": {"rmse_THz": 0.1}}}
    metrics = MetricsDocument(
        id="other/g000",
        campaign="other",
        generation=0,
        labels=9,
        decision="stop",
        reason="",
        evidence=evidence,
    ).to_bson()
    database.metrics.insert_one(metrics)
    try:
        notes = gather(database, "phonons", Request("other")).notes
    finally:
        database.metrics.delete_one({"_id": "other/g000"})
    assert "minimum-1 is left out: relaxes to fcc" in notes


def test_the_report_has_them(database, tmp_path):
    from launchpad.reporting import report_campaign

    page = report_campaign(database, "al", tmp_path).read_text(encoding="utf-8")
    for key in ("phonons", "elastic_constants", "bain_path", "phonons_learning", "constant_sigmas"):
        assert (tmp_path / f"{key}.png").stat().st_size > 5000
        assert f'id="{key}"' in page
    assert "Mach. Learn.: Sci. Technol. 3, 045031" in page
    assert "fcc passes: frequencies on a 4x4x4 mesh differ by" in page[: page.index("<nav")]
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["verdict"] == "passes"
