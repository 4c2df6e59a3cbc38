"""Charts of vibrations say what their rows say."""

from __future__ import annotations

import json
import re

import pytest
from gf_vibrations import aluminium, bain_path

from gapfactory.analysis.vibration_overview import elastic_rows, elastic_table, learning_rows, phonon_rows
from launchpad.dashboard.charts.published import PUBLISHED, VIBRATIONS, published_chart
from launchpad.dashboard.charts.style import COLOURS
from launchpad.figure_data import TABLES
from launchpad.figure_data import VIBRATIONS as COMMANDS


@pytest.fixture(scope="module")
def rows():
    crystal = aluminium({"": 1.21, "learning-0008-all": 0.81, "learning-0008-own": 0.25}, name="fcc")
    quarter = bain_path((0.25,), 1.0)[0]
    both = phonon_rows(
        [("potential", crystal.by("").vibrations.phonons), ("reference", crystal.reference.phonons)],
        crystal="fcc",
    )
    path = phonon_rows(
        [("reference", quarter.reference.phonons), ("potential", quarter.by("").vibrations.phonons)],
        crystal="quarter",
        eta=0.25,
        trained=False,
    )
    elastic, _ = elastic_rows([crystal], {"": "potential"})
    return {
        "phonons": both,
        "phonons-bain": path,
        "phonons-learning": learning_rows(crystal),
        "elastic": elastic,
        "elastic-constants": elastic_table([crystal], {"": "potential"}),
    }


def drawn(rows, name):
    return published_chart(name, rows[name], (), {})["figure"]


def test_every_figure_of_the_command_has_its_place():
    assert set(VIBRATIONS) == set(COMMANDS)
    assert not set(VIBRATIONS) & set(PUBLISHED)


@pytest.mark.parametrize("name", ["phonons", "phonons-bain", "phonons-learning", "elastic"])
def test_a_chart_is_plain_json_in_colours_that_everybody_tells_apart(rows, name):
    found = published_chart(name, rows[name], ("fcc passes",), {})
    text = json.dumps(found, allow_nan=False)
    assert found["missing"] == ""
    assert found["caption"].endswith("Fcc passes.")
    assert set(re.findall(r"#[0-9A-Fa-f]{6}", text)) <= set(COLOURS)
    assert found["n_rows"] == len(rows[name])


def test_bands_are_drawn_branch_by_branch_with_their_wave_vectors(rows):
    found = drawn(rows, "phonons")
    potential, _, reference, states = found["data"]
    assert [t["name"] for t in found["data"] if t["showlegend"]] == ["potential", "reference"]
    shown = [y for y in reference["y"] if y is not None]
    bands = [r["frequency_THz"] for r in rows["phonons"] if r["kind"] == "bands"]
    assert sorted(shown) == pytest.approx(sorted(bands[len(bands) // 2 :]), abs=1e-4)
    # three branches in two pieces: five gaps
    assert reference["y"].count(None) == 5
    ratios = [a / b for a, b in zip(potential["y"], reference["y"], strict=True) if b is not None and b > 1]
    assert ratios == pytest.approx([1.1] * len(ratios), rel=1e-3)
    assert potential["customdata"][0] == "Γ (0, 0, 0)"
    assert potential["customdata"][1].startswith("q = (")
    assert potential["hovertemplate"].startswith("%{y:.3f} THz<br>%{customdata}")
    axis = found["layout"]["xaxis"]
    assert [text.removeprefix("<br>") for text in axis["ticktext"]] == [*"ΓXWKΓLUWL", "K|U", "X"]
    assert found["layout"]["yaxis"]["range"][0] == 0
    assert states["xaxis"] == "x2"
    assert states["x"] == pytest.approx(
        [
            r["states_per_THz"]
            for r in rows["phonons"]
            if r["kind"] == "states" and r["method"] == "reference"
        ],
        abs=1e-4,
    )


def test_imaginary_modes_have_room_and_a_shade(rows):
    found = drawn(rows, "phonons-bain")
    low = found["layout"]["yaxis"]["range"][0]
    lowest = min(r["frequency_THz"] for r in rows["phonons-bain"] if r["kind"] == "bands")
    assert low == pytest.approx(1.1 * lowest)
    assert [shape["y0"] for shape in found["layout"]["shapes"]] == [0, low]
    assert found["layout"]["annotations"][0]["text"] == "η = 0.25, not trained on"


def test_panels_do_not_cover_each_other(rows):
    twice = [*rows["phonons"], *({**row, "crystal": "other"} for row in rows["phonons"])]
    layout = published_chart("phonons", twice, (), {})["figure"]["layout"]
    upper, lower = layout["yaxis"]["domain"], layout["yaxis2"]["domain"]
    assert 0 <= lower[0] < lower[1] < upper[0] < upper[1] <= 1
    assert (layout["xaxis3"]["anchor"], layout["xaxis4"]["anchor"]) == ("y2", "y2")
    assert [layout[f"xaxis{n}"]["title"]["text"] for n in (2, 4)] == ["", "states/THz"]


def test_learning_curves_fall_and_say_sparse_points(rows):
    found = drawn(rows, "phonons-learning")
    every, own = found["data"]
    assert every["x"] == own["x"] == [8, 64]
    assert every["y"][0] < own["y"][0]
    assert every["text"][0].startswith("150 sparse points")


def test_bars_are_the_errors(rows):
    (trace,) = drawn(rows, "elastic")["data"]
    assert trace["x"] == ["B", "G", "C11", "C12", "C44"]
    assert trace["y"] == pytest.approx([21.0] * 5, abs=1e-6)


def test_a_table_is_shown_without_a_figure(rows):
    found = published_chart("elastic-constants", rows["elastic-constants"], (), {})
    assert found["figure"] is None
    assert found["missing"] == "The table is all there is."
    assert found["header"][:3] == ["crystal", "method", "B_GPa"]
    assert set(VIBRATIONS) & TABLES == {"elastic-constants", "vibration-fits"}
    assert published_chart("elastic-constants", [], (), {}, "Nothing yet.")["missing"] == "Nothing yet."
