"""The figure of the selection experiment shows medians, ranges, the floor and what failed."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from gapfactory.errors import EvidenceError
from gapfactory.figures.selection_experiment import CycleStructure, MethodErrors, _ball, selection_experiment


def errors(method, scale, *, seeds=3):
    table = scale * np.arange(1, seeds + 1)[:, None] * np.array([[0.2, 0.04, 0.008]])
    return MethodErrors(method, method, np.array([10, 20, 30]), table, 2 * table)


def structure(point, labels):
    return CycleStructure(point, labels, bulk("Si"), 0.012, 4.0, 227, 2.8)


def draw(figure):
    figure.canvas.draw()
    return figure


def test_medians_ranges_and_colours():
    methods = [errors("random", 1.0), errors("cur-vectors", 0.5), errors("cur-kernel", 0.01)]
    figure = draw(selection_experiment(methods, [structure("A", 10), structure("B", 30)], phase="diamond"))
    left, right = figure.subfigs[0].axes
    assert left.get_yscale() == right.get_yscale() == "log"
    assert "diamond" in left.get_ylabel()
    lines = {line.get_label(): line for line in left.lines}
    np.testing.assert_allclose(lines["random (3 seeds)"].get_ydata(), [400, 80, 16])
    np.testing.assert_allclose(
        lines["cur-kernel (3 seeds)"].get_ydata(), [4, 1, 1], err_msg="below the floor"
    )
    assert lines["random (3 seeds)"].get_color() == "#6b6b6b"
    assert len({line.get_color() for name, line in lines.items() if "seeds" in name}) == 3
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {
        "random (3 seeds)",
        "cur-vectors (3 seeds)",
        "cur-kernel (3 seeds)",
    }
    marks = {t.get_text() for t in left.texts}
    assert {"A", "B"} <= marks
    assert len(figure.subfigs[1].axes) == 2
    assert "space group 227" in figure.subfigs[1].axes[0].get_title()


def test_a_potential_without_a_minimum_is_shown_as_such():
    table = np.array([[np.inf, 0.1], [0.2, 0.1], [0.3, 0.1]])
    failed = MethodErrors("random", "random", np.array([10, 20]), table, np.full((3, 2), 0.1))
    figure = draw(selection_experiment([failed]))
    left, right = figure.axes
    assert any("no minimum" in t.get_text() for t in left.texts)
    assert not right.texts
    crosses = [line for line in left.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert len(crosses) == 1
    np.testing.assert_allclose(crosses[0].get_xdata(), [10])


def test_there_is_no_median_where_half_of_the_runs_failed():
    table = np.array([[np.inf, 0.1], [np.inf, 0.1], [0.3, 0.1]])
    figure = draw(selection_experiment([MethodErrors("random", "random", np.array([1, 2]), table, table)]))
    median = next(line for line in figure.axes[0].lines if "seeds" in line.get_label())
    np.testing.assert_allclose(median.get_ydata(), [np.nan, 100])


def test_the_drawn_ball_is_the_crystal():
    points, bonds = _ball(structure("A", 10))
    neighbours = np.bincount(np.ravel(bonds), minlength=len(points))
    inner = np.linalg.norm(points, axis=1) < 3.0
    assert inner.sum() == 5, "an atom of diamond and its four neighbours"
    assert (neighbours[inner] == 4).all()
    lengths = [np.linalg.norm(points[i] - points[j]) for i, j in bonds]
    np.testing.assert_allclose(lengths, 5.43 * np.sqrt(3) / 4, rtol=1e-6)


def test_wrong_input_is_refused():
    with pytest.raises(EvidenceError, match="at least one"):
        selection_experiment([])
    with pytest.raises(EvidenceError, match="once"):
        selection_experiment([errors("random", 1.0), errors("random", 2.0)])
    with pytest.raises(EvidenceError, match="shape"):
        MethodErrors("random", "r", np.array([1, 2]), np.ones((3, 3)), np.ones((3, 2)))
    with pytest.raises(EvidenceError, match="NaN"):
        MethodErrors("random", "r", np.array([1]), np.array([[np.nan]]), np.ones((1, 1)))
