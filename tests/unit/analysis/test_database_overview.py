"""Energies of labelled structures above a common zero, and their boxes, against cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gapfactory.analysis.database_overview import DatabasePoint, database_overview
from gapfactory.errors import EvidenceError


def point(key, volume, energy, *, generation=0, component="", origin="random cell", fractions=()):
    return DatabasePoint(key, generation, component, origin, volume, energy, fractions)


#: A hull from (10, -5) over (12, -6) to (16, -5); at 14 it is at -5.5, at 11 at -5.5.
FOUR = (point("a", 10, -5), point("b", 12, -6), point("c", 16, -5), point("d", 14, -4.5))


def test_heights_above_the_hull_by_hand():
    data = database_overview([*FOUR, point("e", 11, -5.25)])
    assert data.zero == "the convex hull"
    np.testing.assert_allclose(data.heights, [0, 0, 0, 1.0, 0.25], atol=1e-12)


def test_heights_above_a_phase():
    data = database_overview(FOUR, zero=("Si-diamond", -6.25))
    assert data.zero == "Si-diamond"
    np.testing.assert_allclose(data.heights, [1.25, 0.25, 1.25, 1.75])
    assert data.rows()[1]["above_zero_eV_per_atom"] == pytest.approx(0.25)
    assert data.rows()[1]["zero"] == "Si-diamond"


def test_neither_order_nor_a_shift_of_all_energies_matters():
    data = database_overview(FOUR)
    other = database_overview([replace(p, energy=p.energy - 107.25) for p in reversed(FOUR)])
    assert [p.id for p in other.points] == [p.id for p in data.points] == ["a", "b", "c", "d"]
    np.testing.assert_allclose(other.heights, data.heights, atol=1e-12)


def test_the_hull_is_one_of_volume_and_composition():
    # at each composition the lowest is on the hull, however much deeper the others lie
    points = [point("Si", 20, -5, fractions=(0.0,)), point("C", 5, -9, fractions=(1.0,))]
    points += [point("SiC", 10, -8, fractions=(0.5,)), point("bad", 10, -7, fractions=(0.5,))]
    data = database_overview(points)
    heights = {p.id: h for p, h in zip(data.points, data.heights, strict=True)}
    assert heights == pytest.approx({"C": 0.0, "Si": 0.0, "SiC": 0.0, "bad": 1.0}, abs=1e-9)


def test_boxes_stand_by_origin_component_and_generation():
    points = [
        DatabasePoint(
            f"{origin}{component}{generation}{k}",
            generation,
            component,
            origin,
            10.0 + k,
            k * (generation + 1.0),
        )
        for origin, generations in (("minimum", (1, 2)), ("random cell", (0,)))
        for component in ("tight", "loose")
        for generation in generations
        for k in range(101)
    ]
    data = database_overview(points, zero=("x", 0.0))
    assert data.origins == ("random cell", "minimum")
    assert data.components == ("loose", "tight")
    boxes = data.boxes()
    assert [(b.origin, b.component, b.generation) for b in boxes] == [
        ("random cell", "loose", 0),
        ("random cell", "tight", 0),
        ("minimum", "loose", 1),
        ("minimum", "loose", 2),
        ("minimum", "tight", 1),
        ("minimum", "tight", 2),
    ]
    last = boxes[-1].box
    # 0, 3, ... 300: percentiles of one standard deviation are 15.87 and 84.13
    assert (last.n, last.least, last.median, last.most) == (101, 0.0, 150.0, 300.0)
    assert last.low == pytest.approx(3 * 15.865525, abs=1e-4)
    assert last.high == pytest.approx(3 * 84.134475, abs=1e-4)
    row = data.box_rows()[-1]
    assert (row["origin"], row["generation"], row["median_eV_per_atom"]) == ("minimum", 2, 150.0)


def test_origins_go_from_the_random_cell_over_the_steps_to_the_end_whatever_is_labelled_first():
    # the first relaxation ended before step 5: its end comes first by id
    seen = [
        ("b/g001/relaxation/000000/frame/0003", "end of the relaxation"),
        ("b/g001/relaxation/000001/frame/0005", "relaxation at step 5"),
        ("b/g001/relaxation/000001/frame/0020", "relaxation at step 20"),
        ("b/g000/distorted/000000", "distorted crystal"),
        ("b/g000/structure/000000", "random cell"),
    ]
    points = [
        DatabasePoint(key, int(key[3:6]), "", origin, 8.0 + k, -6.0) for k, (key, origin) in enumerate(seen)
    ]
    expected = (
        "random cell",
        "relaxation at step 5",
        "relaxation at step 20",
        "end of the relaxation",
        "distorted crystal",
    )
    assert database_overview(points).origins == expected
    assert {box.origin: None for box in database_overview(points).boxes()} == dict.fromkeys(expected)


def test_what_belongs_to_no_component_comes_last():
    points = [point("a", 10, -5), point("b", 11, -5, component="x"), point("c", 12, -5, component="a")]
    assert database_overview(points).components == ("a", "x", "")


def test_nothing_has_no_overview():
    with pytest.raises(EvidenceError, match="label some first"):
        database_overview([])
