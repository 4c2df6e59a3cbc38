"""Charts say what the report's data say, as JSON that browsers read."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gapfactory.report import ReportData, TrainingPoint
from gapfactory.report.sections import figure_sections
from launchpad.dashboard.charts import CHARTS, chart
from launchpad.dashboard.charts.style import COLOURS


def example():
    path = Path(__file__).parents[1] / "report" / "report_example.py"
    spec = importlib.util.spec_from_file_location("report_example", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("report_example", module)
    spec.loader.exec_module(module)
    return module


EXAMPLE = example()
RNG = np.random.default_rng(3)
TRAINING = tuple(
    TrainingPoint(
        f"si/g{k // 20:03d}/cell/{k:06d}",
        k // 20,
        ("random cell", "minimum", "on the way to a minimum")[k % 3],
        k % 5 == 0,
        20 + RNG.normal(),
        -5.4 + RNG.exponential(0.3),
        0.01 * RNG.normal(),
        0.1,
    )
    for k in range(100)
)
DATA = replace(
    EXAMPLE.example(),
    training=TRAINING,
    enthalpies={3: RNG.exponential(0.5, 300), 4: RNG.exponential(0.4, 300)},
)


def charts_of(data):
    return {s.key: chart(s, data) for s in figure_sections(data) if s.key in CHARTS}


def traces(figure, **equal):
    return [t for t in figure["data"] if all(t.get(k) == v for k, v in equal.items())]


def test_every_chart_of_a_full_campaign_is_drawn_as_plain_json():
    found = charts_of(DATA)
    assert set(found) >= set(CHARTS) - {"levels"}
    for key, drawn in found.items():
        assert drawn["figure"] is not None, key
        assert drawn["missing"] == "", key
        assert drawn["caption"], key
        text = json.dumps(drawn, allow_nan=False)
        assert "NaN" not in text
        assert len(drawn["rows"]) == min(drawn["n_rows"], 200)


def test_every_axis_that_measures_something_names_its_unit():
    without = {"number of labels", "generation", "structures", "distance / equilibrium distance"}
    for key, drawn in charts_of(DATA).items():
        layout = drawn["figure"]["layout"]
        for name in [n for n in layout if n[1:].startswith("axis")]:
            title = layout[name]["title"]["text"]
            assert title, (key, name)
            assert "(" in title or title in without, (key, name, title)


def test_a_new_campaign_has_no_charts_and_says_why():
    for key, drawn in charts_of(ReportData(campaign="new", system="Si", state="running")).items():
        assert drawn["figure"] is None, key
        assert drawn["missing"].endswith("."), key


def test_charts_and_matplotlib_agree_on_what_is_missing():
    """Where the report draws a figure the page draws a chart, and the other way round."""
    for data in (
        DATA,
        EXAMPLE.example(generations=1),
        ReportData(campaign="new", system="Si", state="running"),
    ):
        for section in figure_sections(data):
            if section.key in CHARTS:
                assert (section.draw is None) == (chart(section, data)["figure"] is None), section.key


def test_the_learning_curve_shows_small_errors_over_labels():
    figure = charts_of(DATA)["learning_curve"]["figure"]
    (line,) = traces(figure, name="held-out energy", mode="lines+markers")
    points = sorted((p for p in DATA.learning if p.series == "held-out energy"), key=lambda p: p.n_labels)
    assert line["x"] == [p.n_labels for p in points]
    assert line["y"] == pytest.approx([1000 * max(p.error, 0.001) for p in points])
    (forecast,) = traces(figure, name="held-out energy: forecast")
    assert forecast["x"][-1] == pytest.approx(2 * points[-1].n_labels)
    assert {t["yaxis"] for t in figure["data"]} == {"y", "y2"}
    assert figure["layout"]["yaxis"]["type"] == "log"
    (target,) = traces(figure, name="target")
    assert target["y"][0] == pytest.approx(DATA.phase_settings.energy_tolerance_meV)


def test_a_series_without_bounds_has_no_band():
    learning = tuple(replace(p, low=float("nan")) for p in DATA.learning)
    figure = charts_of(replace(DATA, learning=learning))["learning_curve"]["figure"]
    assert not [t for t in figure["data"] if t.get("fill")]
    assert [t for t in charts_of(DATA)["learning_curve"]["figure"]["data"] if t.get("fill")]


def test_curves_of_phases_count_from_the_lowest_reference():
    figure = charts_of(DATA)["energy_volume"]["figure"]
    (points,) = traces(figure, name="diamond, reference", mode="markers")
    assert min(points["y"]) == pytest.approx(0)
    (tin,) = traces(figure, name="β-tin, reference", mode="markers")
    assert min(tin["y"]) == pytest.approx(5.42 - 5.13, abs=0.01)
    (line,) = traces(figure, name="β-tin, potential", mode="lines")
    assert line["x"] == sorted(line["x"])


def test_the_scatter_keeps_its_numbers_and_tells_how_its_axes_bend():
    figure = charts_of(DATA)["energy_scatter"]["figure"]
    assert figure["layout"]["meta"]["bent"] == {"axes": ["x", "y"], "linear_to": 0.1}
    shown = [v for t in figure["data"] if t["mode"] == "markers" for v in t["x"]]
    assert sorted(shown) == pytest.approx(sorted(DATA.scatter.reference))


def test_histograms_of_the_selection_count_every_structure():
    figure = charts_of(DATA)["selection"]["figure"]
    assert [sum(t["y"]) for t in figure["data"]] == [len(s.energies) for s in DATA.selection]


def test_an_exploded_cell_does_not_squeeze_the_histogram():
    stages = tuple(replace(s, energies=(*s.energies, 1e6)) for s in DATA.selection)
    figure = charts_of(replace(DATA, selection=stages))["selection"]["figure"]
    assert max(figure["data"][0]["x"]) < 100
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    assert all("beyond the axis" in title for title in titles)


def test_the_hull_colours_each_structure_once():
    figure = charts_of(DATA)["hull"]["figure"]
    drawn = traces(figure, mode="markers")
    assert sum(len(t["x"]) for t in drawn) == len(DATA.hull.volumes)
    assert len({t["marker"]["color"] for t in drawn}) == len(drawn)


def test_times_add_up():
    figure = charts_of(DATA)["time"]["figure"]
    minutes = sum(sum(t["x"]) for t in figure["data"])
    seconds = sum(sum(g.seconds.values()) for g in DATA.generations)
    unit = {"hours": 3600, "minutes": 60, "seconds": 1}
    name = figure["layout"]["xaxis"]["title"]["text"].split("(")[1].rstrip(")")
    assert minutes * unit[name] == pytest.approx(seconds)


def test_colours_are_those_that_everybody_tells_apart():
    assert len(set(COLOURS)) == len(COLOURS)
    for drawn in charts_of(DATA).values():
        text = json.dumps(drawn["figure"])
        found = set(re.findall(r"#[0-9A-Fa-f]{6}", text))
        assert found <= set(COLOURS)


def test_values_that_are_not_finite_become_null():
    scatter = replace(DATA.scatter, predicted=np.full(len(DATA.scatter.reference), np.nan))
    section = next(s for s in figure_sections(DATA) if s.key == "energy_scatter")
    drawn = chart(section, replace(DATA, scatter=scatter))
    assert drawn["figure"]["data"][0]["y"][0] is None


def test_labelled_structures_are_coloured_by_generation_marked_by_origin_and_lead_to_their_pages():
    figure = charts_of(DATA)["training_set"]["figure"]
    shown = {
        key: (generation, trace["name"].rpartition(" (")[0])
        for trace in figure["data"]
        for key, generation in zip(trace["customdata"], trace["marker"]["color"], strict=True)
    }
    assert shown == {p.id: (p.generation, p.origin) for p in TRAINING}
    assert len({trace["marker"]["symbol"] for trace in figure["data"]}) == 3
    assert all(trace["meta"]["structures"] for trace in figure["data"])
    assert min(min(trace["y"]) for trace in figure["data"]) == pytest.approx(0)


def test_errors_on_the_training_set_leave_out_what_was_held_out():
    figure = charts_of(DATA)["fit_errors"]["figure"]
    shown = {k: y for t in figure["data"] for k, y in zip(t["customdata"], t["y"], strict=True)}
    assert shown == pytest.approx({p.id: 1000 * p.energy_error for p in TRAINING if not p.held_out})


def test_errors_by_energy_have_a_line_for_each_window():
    figure = charts_of(DATA)["error_windows"]["figure"]
    energies = [t for t in figure["data"] if t["yaxis"] == "y"]
    assert {t["name"] for t in energies} == {"all", "0-0.1 eV", "0.1-1 eV", "above 1 eV"}
    (line,) = [t for t in energies if t["name"] == "all"]
    rows = [next(r for r in g.errors if (r.quantity, r.group) == ("energy", "all")) for g in DATA.generations]
    assert line["y"] == pytest.approx([1000 * r.summary.rmse for r in rows])
    assert [t["name"] for t in energies] == ["all", "0-0.1 eV", "0.1-1 eV", "above 1 eV"]


def test_enthalpies_are_counted_by_generation_from_its_own_lowest():
    figure = charts_of(DATA)["enthalpies"]["figure"]
    assert [sum(t["y"]) for t in figure["data"]] == [300, 300]
    assert all(t["y"][0] > 0 for t in figure["data"])


def test_many_points_are_drawn_by_webgl():
    many = tuple(replace(TRAINING[0], id=f"x{k}") for k in range(2000))
    (trace,) = charts_of(replace(DATA, training=many))["training_set"]["figure"]["data"]
    assert trace["type"] == "scattergl"


def test_matplotlib_draws_every_section():
    for section in figure_sections(replace(DATA, similarity=None)):
        if section.key in {"training_set", "fit_errors", "error_windows", "enthalpies"}:
            assert section.draw().axes, section.key
            assert section.rows


def named(data):
    """The same data with the names that campaigns of this version keep."""
    ids = tuple(f"si/g004/cell/{k:06d}" for k in range(len(data.scatter.reference)))
    hull = tuple(f"si/g001/cell/{k:06d}" for k in range(len(data.hull.volumes)))
    return replace(data, scatter=replace(data.scatter, ids=ids), hull=replace(data.hull, ids=hull))


def leading(figure):
    return [t for t in figure["data"] if (t.get("meta") or {}).get("structures")]


@pytest.mark.parametrize("key", ["energy_scatter", "hull", "held_out_errors", "fit_errors", "training_set"])
def test_points_lead_to_their_structures_by_click_and_by_the_table(key):
    """What a click on a point opens is also a link in the table, row by row, with the same numbers."""
    data = named(DATA)
    (section,) = [s for s in figure_sections(data) if s.key == key]
    drawn = chart(section, data)
    shown = [name for t in leading(drawn["figure"]) for name in t["customdata"]]
    assert len(shown) == sum(len(t["x"]) for t in leading(drawn["figure"])) == len(set(shown))
    at = section.header.index("structure")
    assert sorted(row[at] for row in section.rows) == sorted(shown)


def test_a_point_has_the_name_of_its_own_structure():
    data = named(DATA)
    found = charts_of(data)
    (trace,) = leading(found["energy_scatter"]["figure"])
    assert dict(zip(trace["customdata"], trace["y"], strict=True)) == pytest.approx(
        dict(zip(data.scatter.ids, data.scatter.predicted, strict=True))
    )
    volumes = {
        n: x for t in leading(found["hull"]["figure"]) for n, x in zip(t["customdata"], t["x"], strict=True)
    }
    assert volumes == pytest.approx(dict(zip(data.hull.ids, data.hull.volumes, strict=True)))


def test_campaigns_of_an_earlier_version_have_points_without_names():
    found = charts_of(DATA)
    assert not leading(found["energy_scatter"]["figure"])
    assert not leading(found["hull"]["figure"])


def test_held_out_structures_are_drawn_with_the_error_of_their_window():
    figure = charts_of(DATA)["held_out_errors"]["figure"]
    held_out = {p.id: p for p in TRAINING if p.held_out}
    shown = {n: y for t in leading(figure) for n, y in zip(t["customdata"], t["y"], strict=True)}
    assert shown == pytest.approx({n: 1000 * abs(p.energy_error) for n, p in held_out.items()})
    newest = max(DATA.generations, key=lambda g: g.generation)
    wanted = [
        r.summary.rmse
        for r in newest.errors
        if r.quantity == "energy" and r.group != "all" and ":" not in r.group
    ]
    lines = traces(figure, mode="lines")
    assert [t["y"][0] for t in lines] == pytest.approx([1000 * e for e in wanted])
    assert [t["x"][0] for t in lines] == [0.0, 0.1, 1.0]
    assert lines[0]["x"][-1] == pytest.approx(0.1)


def test_colour_can_be_switched_from_generation_to_origin():
    figure = charts_of(DATA)["training_set"]["figure"]
    assert figure["layout"]["meta"]["by"] == ["generation", "origin"]
    other = [t["meta"]["by"]["origin"] for t in figure["data"]]
    assert len({m["color"] for m in other}) == len(other) == 3
    assert not any(m["showscale"] for m in other)
    assert [t["marker"]["showscale"] for t in figure["data"]] == [True, False, False]


def test_a_stage_that_was_counted_keeps_its_own_bins():
    from gapfactory.figures import SelectionStage

    stages = (
        SelectionStage("all minima", edges=(0.0, 0.5, 1.0, 1.5), counts=(5, 0, 2)),
        SelectionStage("frames", edges=(-0.1, 0.9, 40.0), counts=(60, 7)),
        SelectionStage("chosen", (0.2, 0.7), ("si/a", "si/b")),
    )
    section = next(s for s in figure_sections(replace(DATA, selection=stages)) if s.key == "selection")
    figure = chart(section, replace(DATA, selection=stages))["figure"]
    minima, frames, chosen = figure["data"]
    # everything counts from the lowest of all, which is a frame
    assert [x + w / 2 for x, w in zip(minima["x"], minima["width"], strict=True)] == pytest.approx(
        [0.6, 1.1, 1.6]
    )
    assert minima["y"] == [5, 0, 2]
    assert sum(frames["y"]) == 67
    assert sum(chosen["y"]) == 2
    assert [n["text"] for n in figure["layout"]["annotations"]] == [
        "all minima: 7",
        "frames: 67",
        "chosen: 2",
    ]
    assert section.rows[-1] == ("chosen", "si/b", 0.7, 0.7, 1)
    assert section.draw().axes
