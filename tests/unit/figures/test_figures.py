"""Figures contain what they claim: artists, labels and scales are checked, not pixels."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from gapfactory import figures
from gapfactory.analysis.energy_volume import EnergyVolumeCurve
from gapfactory.analysis.learning import LearningPoint, PowerLaw
from gapfactory.analysis.similarity_map import SimilarityMap
from gapfactory.errors import EvidenceError


def load_example():
    path = Path(__file__).parents[1] / "report" / "report_example.py"
    spec = importlib.util.spec_from_file_location("report_example", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_example"] = module
    spec.loader.exec_module(module)
    return module


EXAMPLE = load_example().example()


def legend_texts(figure):
    return [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def render(figure):
    """Draw for real: layout problems and missing glyphs are warnings, and warnings are errors here."""
    figure.canvas.draw()
    return figure


def test_no_global_state_is_touched():
    before = dict(mpl.rcParams)
    backend = mpl.get_backend()
    render(figures.learning_curve(EXAMPLE.learning))
    assert dict(mpl.rcParams) == before
    assert mpl.get_backend() == backend
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_learning_curve():
    figure = render(
        figures.learning_curve(EXAMPLE.learning, forecast=EXAMPLE.forecasts, label_noise=0.004, target=0.02)
    )
    energy, forces = figure.axes
    assert energy.get_ylabel() == "error (meV/atom)"
    assert forces.get_ylabel() == "error (eV/Å)"
    assert forces.get_xlabel() == "number of labels"
    assert energy.get_yscale() == forces.get_yscale() == "log"
    assert {"held-out energy", "Si-diamond", "held-out forces", "target", "label noise"} <= set(
        legend_texts(figure)
    )
    line = next(ln for ln in energy.lines if ln.get_label() == "Si-diamond")
    expected = [p.error * 1000 for p in EXAMPLE.learning if p.series == "Si-diamond"]
    np.testing.assert_allclose(line.get_ydata(), np.maximum(expected, 1.0))


def test_learning_curve_floor_is_one_milli_electronvolt_and_visible():
    points = [LearningPoint(g, 10 * (g + 1), "x", e) for g, e in enumerate((0.5, 1e-5, 0.0))]
    figure = render(figures.learning_curve(points))
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [500, 1, 1])
    low, high = ax.get_ylim()
    assert low < 1.0 < 500 < high


def test_learning_curve_of_one_generation_and_of_none():
    figure = render(
        figures.learning_curve([LearningPoint(0, 25, "x", 0.1)], forecast={"y": PowerLaw(1, 1, 0)})
    )
    low, high = figure.axes[0].get_xlim()
    assert low < 25 < high
    with pytest.raises(EvidenceError, match="no learning points"):
        figures.learning_curve([])


def test_phase_curves_solid_and_dashed():
    curves = [c for e in EXAMPLE.phases for c in (e.potential, e.reference) if c is not None]
    figure = render(figures.phase_curves(curves, labels={"Si-beta-tin": "β-tin"}))
    ax = figure.axes[0]
    assert ax.get_xlabel() == "volume (Å$^3$/atom)"
    assert ax.get_ylabel() == "energy (eV/atom)"
    assert {"β-tin", "Si-diamond", "potential", "reference"} <= set(legend_texts(figure))
    styles = [ln.get_linestyle() for ln in ax.lines if len(ln.get_xdata()) > 100]
    assert styles == ["-", "--", "-", "--", "-"]
    lowest = min(
        ln.get_ydata().min() for ln in ax.lines if len(ln.get_xdata()) and ln.get_linestyle() == "None"
    )
    assert lowest == pytest.approx(0.0, abs=0.01)


def test_phase_curve_without_a_minimum_is_still_drawn():
    curve = EnergyVolumeCurve("x", "potential", np.arange(10.0, 16.0), np.arange(6.0))
    figure = render(figures.phase_curves([curve]))
    assert len(figure.axes[0].lines[0].get_xdata()) == 6
    with pytest.raises(EvidenceError, match="no energy-volume points"):
        figures.phase_curves([EnergyVolumeCurve("x", "potential", np.empty(0), np.empty(0))])


def test_scatter_switches_axes():
    reference = np.array([0.0, 0.05, 0.1, 0.3, 2.0])
    figure = render(figures.energy_scatter(reference, reference - 0.02, ["C", "C", "Si", "Si", "Si"]))
    ax = figure.axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "symlog"
    assert ax.xaxis.get_transform().linthresh == 0.1
    assert {"C (2)", "Si (3)", "equal"} <= set(legend_texts(figure))
    ticks = ax.get_xticks()
    assert {0.0, 0.05, 0.1, 1.0} <= set(np.round(ticks, 6))
    # a prediction below the lowest reference energy stays on the axes
    assert ax.get_ylim()[0] < -0.02
    assert ax.get_xlim() == ax.get_ylim()


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [([], [], "cannot draw"), ([1.0], [1.0, 2.0], "cannot draw"), ([1.0], [np.nan], "finite")],
)
def test_scatter_refuses_nonsense(x, y, words):
    with pytest.raises(EvidenceError, match=words):
        figures.energy_scatter(x, y)


def test_energy_distribution():
    figure = render(figures.energy_distribution({0: [0.1, 0.5, 12.0], 2: [0.0, 0.2], 3: []}))
    ax = figure.axes[0]
    assert ax.get_xlabel() == "generation"
    assert "eV/atom" in ax.get_ylabel()
    points = [ln for ln in ax.lines if ln.get_linestyle() == "None"]
    assert [len(p.get_xdata()) for p in points] == [3, 2]
    assert legend_texts(figure) == ["structures", "median", "quartiles"]
    assert ax.get_ylim()[1] > 12
    with pytest.raises(EvidenceError, match="no energies"):
        figures.energy_distribution({0: []})
    with pytest.raises(EvidenceError, match="generation 1"):
        figures.energy_distribution({1: [np.nan]})


def test_selection_histograms_count_every_structure():
    figure = render(figures.selection_histograms(EXAMPLE.selection))
    assert len(figure.axes) == 3
    for ax, stage in zip(figure.axes, EXAMPLE.selection, strict=True):
        assert sum(p.get_height() for p in ax.patches) == len(stage.energies)
        assert stage.name in ax.get_title(loc="left")
    assert "eV/atom" in figure.axes[-1].get_xlabel()
    with pytest.raises(EvidenceError, match="no selection stage"):
        figures.selection_histograms([])


def test_selection_given_as_a_histogram_keeps_its_bins():
    stage = figures.SelectionStage("pool", edges=(0.0, 0.1, 0.2, 0.3, 0.5), counts=(40, 20, 10, 2))
    figure = render(figures.selection_histograms([stage]))
    heights = [p.get_height() for p in figure.axes[0].patches]
    assert heights == [40, 20, 10, 2]


def test_time_budget_adds_up():
    seconds = {0: {"reference": 7200.0, "fit": 3600.0}, 1: {"reference": 9000.0, "relax": 1800.0}}
    figure = render(figures.time_budget(seconds))
    ax = figure.axes[0]
    assert ax.get_xlabel() == "task time (hours)"
    assert sum(p.get_width() for p in ax.patches) == pytest.approx(6.0)
    assert "reference (75 %)" in legend_texts(figure)
    assert figures.time_budget({0: {"fit": 300.0}}).axes[0].get_xlabel() == "task time (minutes)"
    with pytest.raises(EvidenceError, match="no task times"):
        figures.time_budget({0: {}})


def test_similarity_map_has_symbols_and_colours():
    figure = render(figures.similarity_map_plot(EXAMPLE.similarity))
    ax, bar = figure.axes
    assert [len(c.get_offsets()) for c in ax.collections] == [40, 40, 40]
    assert bar.get_ylabel() == "mean coordination number"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["C (40)", "Si (40)", "Ti (40)"]
    assert "48 %" in ax.get_xlabel()
    empty = SimilarityMap((), np.empty((0, 2)), np.empty(0), np.zeros(2), ())
    with pytest.raises(EvidenceError, match="no structures"):
        figures.similarity_map_plot(empty)


@pytest.mark.parametrize(
    ("formulas", "text", "legend"),
    [
        (("Al", "AlNi", "AlNi3"), "fraction of Ni", []),
        (("O", "SiO2", "OH2"), None, ["O (40)", "SiO2 (40)", "OH2 (40)"]),
        (tuple(f"B{n}C{n + 1}N" for n in range(1, 11)), None, ["other (36)"]),
    ],
)
def test_the_map_of_a_compound_shows_compositions_too(formulas, text, legend):
    one = EXAMPLE.similarity
    several = tuple(formulas[k % len(formulas)] for k in range(len(one.groups)))
    figure = render(
        figures.similarity_map_plot(dataclasses.replace(one, groups=("x",) * 120, compositions=several))
    )
    right = figure.axes[1]
    assert sum(len(c.get_offsets()) for c in right.collections) == 120
    bars = [ax.get_ylabel() for ax in figure.axes[2:]]
    assert bars == ["mean coordination number", *([text] if text else [])]
    if legend:
        assert [t.get_text() for t in right.get_legend().get_texts()][: len(legend)] == legend


def test_hull_plot_groups_by_distance():
    h = EXAMPLE.hull
    figure = render(figures.hull_plot(h.volumes, h.energies, h.hull_volumes, h.hull_energies, h.distances))
    ax = figure.axes[0]
    assert "eV/atom" in ax.get_ylabel()
    assert "Å$^3$" in ax.get_xlabel()
    points = sum(len(ln.get_xdata()) for ln in ax.lines if ln.get_linestyle() == "None")
    assert points == len(h.volumes)
    assert "hull" in legend_texts(figure)
    with pytest.raises(EvidenceError, match="cannot draw"):
        figures.hull_plot([], [], [], [], [])


def test_same_data_same_picture():
    one, two = (figures.energy_distribution(EXAMPLE.energies) for _ in range(2))
    np.testing.assert_array_equal(render(one).canvas.buffer_rgba(), render(two).canvas.buffer_rgba())


def test_nothing_is_cut_off():
    """All texts of all figures lie inside the canvas."""
    h = EXAMPLE.hull
    made = [
        figures.learning_curve(EXAMPLE.learning, label_noise=0.004, target=0.02),
        figures.phase_curves(
            [c for e in EXAMPLE.phases for c in (e.potential, e.reference) if c is not None]
        ),
        figures.energy_scatter(EXAMPLE.scatter.reference, EXAMPLE.scatter.predicted),
        figures.energy_distribution(EXAMPLE.energies),
        figures.selection_histograms(EXAMPLE.selection),
        figures.time_budget({g.generation: g.seconds for g in EXAMPLE.generations}),
        figures.similarity_map_plot(EXAMPLE.similarity),
        figures.hull_plot(h.volumes, h.energies, h.hull_volumes, h.hull_energies, h.distances),
    ]
    for figure in made:
        render(figure)
        width, height = figure.canvas.get_width_height()
        for ax in figure.axes:
            box = ax.get_tightbbox()
            assert box.x0 > -2, ax.get_ylabel()
            assert box.y0 > -2, ax.get_xlabel()
            assert box.x1 < width + 2
            assert box.y1 < height + 2
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert box.x1 <= width + 2
            # outside the data
            assert all(box.x0 >= ax.get_window_extent().x1 - 2 for ax in figure.axes)


def test_cells_are_drawn_with_their_contacts():
    from ase import Atoms
    from ase.build import bulk

    close = Atoms("Si2", positions=[[0, 0, 0], [0.9, 0, 0]], cell=[4, 4, 8], pbc=True)
    molecule = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]])
    figure = render(
        figures.cell_pictures(
            [("a", bulk("Si")), ("$b", close), ("c", molecule), ("d", Atoms("O")), ("e", close)]
        )
    )
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == "a\nSi2, shortest 2.35 Å, 20.0 Å³/atom"
    assert titles[1] == "$b\nSi2, shortest 0.90 Å, 64.0 Å³/atom"
    assert titles[2] == "c\nSi2, shortest 2.20 Å"
    assert titles[3] == "d\nO"
    # twelve edges and one contact; a molecule has no cell
    assert [len(ax.lines) for ax in figure.axes[:4]] == [13, 13, 1, 0]
    assert [len(ax.patches) for ax in figure.axes[:4]] == [2, 2, 2, 1]
    assert figure.axes[1].lines[-1].get_color() != figure.axes[0].lines[-1].get_color()
    with pytest.raises(EvidenceError):
        figures.cell_pictures([])


def test_level_differences_show_their_size():
    figure = render(figures.level_differences([-5.0, -4.0], [0.003, -0.004]))
    (ax,) = figure.axes
    assert ax.get_ylabel() == "second minus first level (meV/atom)"
    assert "RMS 3.54 meV/atom" in legend_texts(figure)
    with pytest.raises(EvidenceError):
        figures.level_differences([], [])
