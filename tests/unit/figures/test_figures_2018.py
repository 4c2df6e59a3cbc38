"""The figures of 2018 contain what they claim: artists, labels and scales are checked, not pixels."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from gapfactory import figures
from gapfactory.analysis.database_overview import DatabasePoint, database_overview
from gapfactory.analysis.distorted_errors import TestCrystal, distorted_errors
from gapfactory.analysis.energy_volume import EnergyVolumeCurve
from gapfactory.analysis.local_energies import LocalEnergies
from gapfactory.analysis.mixed_occupation import mixed_occupation
from gapfactory.analysis.polymorphs import polymorphs
from gapfactory.errors import EvidenceError

POINTS = [
    DatabasePoint(f"{component}{generation}{k}", generation, component, origin, 10.0 + k, float(k * k))
    for component in ("loose", "tight")
    for generation, origin in ((0, "random cell"), (1, "minimum"), (2, "minimum"))
    for k in range(1, 6)
] + [DatabasePoint("known", 0, "", "distorted crystal", 10.0, 0.0)]


def legend_texts(figure):
    return [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def render(figure):
    """Draw for real, and check that nothing leaves the picture: problems of the layout are warnings, hence errors."""
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for box in [a.get_tightbbox() for a in figure.axes] + [a.get_window_extent() for a in figure.legends]:
        assert -1 <= box.x0 < box.x1 <= width + 1
        assert -1 <= box.y0 < box.y1 <= height + 1
    return figure


def overview(**how):
    return database_overview(POINTS, **how)


@pytest.mark.parametrize(
    ("by", "entries"),
    [
        ("origin", ["random cell, loose (5)", "minimum, loose (10)", "random cell, tight (5)"]),
        ("component", ["loose, random cell (5)", "tight, random cell (5)", "distorted crystal (1)"]),
        ("generation", ["loose (15)", "tight (15)", "of no component (1)"]),
    ],
)
def test_every_labelled_structure_is_drawn_over_its_volume(by, entries):
    figure = render(figures.database_energy_volume(overview(zero=("Si-diamond", 0.0)), by=by))
    ax = figure.axes[0]
    drawn = np.concatenate([c.get_offsets().data for c in ax.collections])
    assert sorted(map(tuple, drawn)) == sorted((p.volume, p.energy) for p in POINTS)
    assert set(entries) <= set(legend_texts(figure))
    assert ax.get_ylabel() == "energy above Si-diamond (eV/atom)"
    assert ax.get_yscale() == "symlog"
    assert len(figure.axes) == (2 if by == "generation" else 1)


def test_a_narrow_range_is_drawn_linearly():
    points = [DatabasePoint(str(k), 0, "", "random cell", 10.0 + k, 0.1 * k) for k in range(3)]
    figure = render(figures.database_energy_volume(database_overview(points, zero=("x", 0.0))))
    assert figure.axes[0].get_yscale() == "linear"
    assert legend_texts(figure) == ["random cell (3)"]


def test_boxes_have_a_panel_for_each_origin_and_a_place_for_each_component():
    data = overview(zero=("x", 0.0))
    figure = render(figures.database_boxes(data))
    assert [ax.get_title(loc="left").replace("\n", " ").strip() for ax in figure.axes] == [
        "random cell",
        "minimum",
        "distorted crystal",
    ]
    assert [[t.get_text() for t in ax.get_xticklabels()] for ax in figure.axes] == [["0"], ["1", "2"], ["0"]]
    assert [len(ax.patches) for ax in figure.axes] == [2, 4, 1]
    box = data.boxes()[0].box
    drawn = figure.axes[0].patches[0]
    assert (drawn.get_y(), drawn.get_y() + drawn.get_height()) == pytest.approx((box.low, box.high))
    # boxes of one generation do not touch
    left, right = figure.axes[1].patches[0], figure.axes[1].patches[2]
    assert left.get_x() + left.get_width() < right.get_x()
    assert legend_texts(figure) == ["loose", "tight"]
    assert figure.axes[0].get_ylabel() == "energy above x (eV/atom)"


def test_a_campaign_of_one_component_needs_no_legend():
    points = [DatabasePoint(str(k), k % 25, "", "minimum", 10.0 + k, 0.1 * k) for k in range(100)]
    figure = render(figures.database_boxes(database_overview(points)))
    assert legend_texts(figure) == []
    assert len(figure.axes[0].patches) == 25


def test_errors_on_distorted_crystals():
    crystals = [TestCrystal(f"{p}{k}", p, -5.0) for p in ("a", "b") for k in range(2)]
    predicted = {
        "0": {"a0": -4.9, "a1": -4.9, "b0": None, "b1": -4.8},
        "0 + C": dict.fromkeys(("a0", "a1", "b0", "b1"), -5.0),
    }
    data = distorted_errors(crystals, predicted, {"0 + C": {c.id for c in crystals}})
    figure = render(figures.distorted_crystal_errors(data, labels={"a": "alpha"}))
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "0 + C"]
    assert ax.get_ylabel() == "RMSE of energies (meV/atom)"
    line = next(ln for ln in ax.lines if ln.get_label() == "alpha (2)")
    # what is below 0.1 meV/atom is drawn there
    np.testing.assert_allclose(line.get_ydata(), [100.0, 0.1])
    assert {"b (2)", "some refused", "hollow: trained on"} <= set(legend_texts(figure))
    with pytest.raises(EvidenceError):
        figures.distorted_crystal_errors(distorted_errors(crystals[:1], {"0": {"a0": None}}))


def test_polymorphs_have_symbols_of_the_reference_and_lines_of_the_potentials():
    volumes = np.array([10.0, 11.0, 12.0])
    data = polymorphs(
        [
            EnergyVolumeCurve(phase, method, volumes, np.array([1.0, 0.0, 1.0]) + shift)
            for phase, up in (("x", 0.0), ("y", 0.5))
            for method, shift in (("tight", up), ("smooth", up + 0.1), ("reference", up))
        ],
        labels=[("x", "α-x")],
    )
    figure = render(figures.polymorph_curves(data))
    (ax,) = figure.axes
    curves = [ln for ln in ax.lines if len(ln.get_xdata()) == 3]
    assert [(ln.get_linestyle(), ln.get_marker()) for ln in curves[:3]] == [
        ("-", "None"), ("--", "None"), ("None", "^"),
    ]  # fmt: skip
    assert curves[0].get_linewidth() > 1.5 * curves[1].get_linewidth()
    assert len({ln.get_color() for ln in curves[:2]}) == 1
    np.testing.assert_allclose(curves[1].get_ydata(), [1.1, 0.1, 1.1])
    assert legend_texts(figure) == ["α-x", "y", "symbols: reference", "tight", "smooth"]
    assert ax.get_ylabel() == "energy above the lowest of α-x by the reference (eV/atom)"


def test_partial_sites_are_large_and_black_beside_the_energies_of_the_models():
    crystal = bulk("Si", cubic=True)
    partial = np.arange(8) < 3
    data = mixed_occupation([("a", 8, -1.0), ("b", 8, None)], {"p": [-1.001, -1.002]})
    figure = render(figures.occupation_models(data, crystal, partial))
    left, right = figure.axes
    black = [c for c in left.patches if c.get_facecolor()[:3] == (0, 0, 0)]
    light = [c for c in left.patches if c not in black]
    assert (len(black), len(light)) == (3, 5)
    assert min(c.radius for c in black) > 1.5 * max(c.radius for c in light)
    reference, potential = right.lines
    np.testing.assert_allclose(reference.get_xdata(), [1])
    np.testing.assert_allclose(potential.get_ydata(), [-1.0, -2.0])
    assert len(render(figures.occupation_models(data)).axes) == 1
    with pytest.raises(EvidenceError, match="marks of partial sites"):
        figures.occupation_models(data, crystal, partial[:3])


def test_two_structures_share_one_scale_of_colours():
    atoms = bulk("Si")
    low = LocalEnergies("$low", "p", atoms, np.array([-5.0, -4.0]), np.arange(2))
    high = LocalEnergies("high", "p", atoms, np.array([-4.0, -3.0]), np.arange(2))
    figure = render(figures.local_energy_pictures([low, high]))
    left, right, bar = figure.axes
    assert left.get_title().startswith("$low\nSi2, mean -4.500 eV/atom\np")
    assert bar.get_ylim() == (-5.0, -3.0)
    colours = [{c.get_facecolor() for c in ax.patches} for ax in (left, right)]
    # the energy that both have, has one colour
    assert len(colours[0] & colours[1]) == 1
    assert len(colours[0] | colours[1]) == 3
