"""Charts of the 2018 figures say what their rows say."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest

from gapfactory.analysis.database_overview import DatabasePoint, database_overview
from gapfactory.analysis.distorted_errors import TestCrystal, distorted_errors
from gapfactory.analysis.energy_volume import EnergyVolumeCurve
from gapfactory.analysis.polymorphs import polymorphs
from launchpad.dashboard.charts.published import PUBLISHED, published_chart
from launchpad.dashboard.charts.style import COLOURS, plotly_text

RNG = np.random.default_rng(5)
ORIGINS = ("random cell", "relaxation at step 5", "end of the relaxation", "distorted crystal")
POINTS = [
    DatabasePoint(
        f"b/g{g:03d}/{origin}/{component}{k}",
        g,
        "" if origin == ORIGINS[3] else component,
        origin,
        7 + RNG.random(),
        -6 + RNG.exponential(2.0),
    )
    for g, origins in ((0, (ORIGINS[3], ORIGINS[0])), (1, ORIGINS[1:3]), (2, ORIGINS[2:3]))
    for origin in origins
    for component in ("free", "ordered")
    for k in range(7)
]
OVERVIEW = database_overview(POINTS, zero=("B-alpha-B12", -6.0))
CRYSTALS = [TestCrystal(f"{phase}/{k}", phase, -6.0) for phase in ("alpha", "beta") for k in range(3)]
ERRORS = distorted_errors(
    CRYSTALS,
    {
        "4": {c.id: -5.9 if c.phase == "alpha" else None for c in CRYSTALS},
        "4 + C": {c.id: -5.99 for c in CRYSTALS},
        "final": {c.id: -6.0 for c in CRYSTALS},
    },
    {"4 + C": {c.id for c in CRYSTALS}, "final": {c.id for c in CRYSTALS}},
)
VOLUMES = np.linspace(6, 9, 5)
CURVES = polymorphs(
    [
        EnergyVolumeCurve(phase, method, VOLUMES[::-1], -6.0 + shift + (VOLUMES[::-1] - 7.2) ** 2)
        for phase, shift in (("B-alpha-B12", 0.0), ("B-gamma-B28", 0.1))
        for method in ("generation 6", "generation 5, same data", "reference")
    ]
)
ROWS = {
    "energy-volume": OVERVIEW.rows(),
    "energy-boxes": OVERVIEW.box_rows(),
    "distorted-crystals": ERRORS.rows(),
    "polymorphs": CURVES.rows(),
}
LABELS = {"B-alpha-B12": plotly_text("α-B$_{12}$"), "B-gamma-B28": plotly_text("γ-B$_{28}$")}


def drawn(name):
    return published_chart(name, ROWS[name], (), LABELS)["figure"]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_chart_is_plain_json_with_units_and_colours_that_everybody_tells_apart(name):
    found = published_chart(name, ROWS[name], ("something is missing",), LABELS)
    text = json.dumps(found, allow_nan=False)
    assert found["missing"] == ""
    assert found["caption"].endswith("Something is missing.")
    assert found["n_rows"] == len(ROWS[name])
    assert set(re.findall(r"#[0-9A-Fa-f]{6}", text)) <= set(COLOURS)
    assert "$" not in text
    layout = found["figure"]["layout"]
    for key in [key for key in layout if key[1:].startswith("axis")]:
        title = layout[key]["title"]["text"]
        assert "(" in title or "generation" in title, title


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_without_numbers_the_reason_is_said(name):
    found = published_chart(name, [], (), {}, "Nothing yet.")
    assert (found["figure"], found["missing"], found["rows"]) == (None, "Nothing yet.", [])


def test_each_structure_is_a_point_that_leads_to_its_page_and_can_be_coloured_in_three_ways():
    found = drawn("energy-volume")
    assert found["layout"]["meta"]["by"] == ["origin", "component", "generation"]
    assert found["layout"]["yaxis"]["title"]["text"] == "energy above α-B<sub>12</sub> (eV/atom)"
    shown = {
        key: (x, y)
        for trace in found["data"]
        for key, x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
    }
    assert shown == {p.id: pytest.approx((p.volume, p.energy + 6.0)) for p in POINTS}
    names = list(dict.fromkeys(trace["name"].partition(",")[0].partition(" (")[0] for trace in found["data"]))
    assert names == list(ORIGINS)
    colours = {trace["marker"]["color"] for trace in found["data"]}
    assert len(colours) == len(ORIGINS)
    scales = [trace["meta"]["by"]["generation"] for trace in found["data"]]
    assert [scale["showscale"] for scale in scales] == [True] + [False] * (len(scales) - 1)
    assert len({trace["meta"]["by"]["component"]["color"] for trace in found["data"]}) == 3


def test_boxes_are_those_of_the_command_and_do_not_cover_each_other():
    found = drawn("energy-boxes")
    boxes = [trace for trace in found["data"] if trace["type"] == "box"]
    keys = ("lowerfence", "q1", "median", "q3", "upperfence")
    shown = sorted(values for box in boxes for values in zip(*(box[key] for key in keys), strict=True))
    ends = ("lowest", "percentile_16", "median", "percentile_84", "highest")
    assert shown == sorted(tuple(row[f"{end}_eV_per_atom"] for end in ends) for row in ROWS["energy-boxes"])
    assert len({box["yaxis"] for box in boxes}) == len(ORIGINS)
    for panel in {box["yaxis"] for box in boxes}:
        spans = sorted(
            (x - b["width"] / 2, x + b["width"] / 2) for b in boxes if b["yaxis"] == panel for x in b["x"]
        )
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
    # what belongs to no component stands at its generation
    (crystals,) = [box for box in boxes if box["name"] == "of no component"]
    assert crystals["x"] == [0]
    assert [box["name"] for box in boxes if box["showlegend"]] == ["free", "ordered", "of no component"]


def test_errors_are_in_the_order_of_the_fits_hollow_where_trained_and_absent_where_refused():
    found = drawn("distorted-crystals")
    assert found["layout"]["xaxis"]["categoryarray"] == ["4", "4 + C", "final"]
    assert found["layout"]["showlegend"]
    alpha, beta = found["data"]
    assert alpha["x"] == ["4", "4 + C", "final"]
    # an error of nothing is drawn at the least one
    assert alpha["y"] == pytest.approx([100.0, 10.0, 0.1])
    assert [symbol.endswith("-open") for symbol in alpha["marker"]["symbol"]] == [False, True, True]
    assert beta["x"] == ["4 + C", "final"]


def test_curves_are_drawn_by_volume_and_named_once():
    found = drawn("polymorphs")
    curves = [trace for trace in found["data"] if trace["x"] != [None]]
    assert len(curves) == 6
    assert all(trace["x"] == sorted(trace["x"]) == pytest.approx(VOLUMES) for trace in curves)
    references = [trace for trace in curves if trace["mode"] == "markers"]
    assert min(references[0]["y"]) == pytest.approx(0.0)
    widths = {trace["line"]["dash"]: trace["line"]["width"] for trace in curves if trace["mode"] == "lines"}
    assert widths["solid"] > widths["dash"]
    legend = [trace["name"] for trace in found["data"] if trace.get("showlegend", True)]
    assert legend == [*LABELS.values(), "generation 6", "generation 5, same data", "reference"]
