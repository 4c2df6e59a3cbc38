"""Random streams: their own for every decision, the same wherever they are drawn.

The trap: a program that rattled every structure with the same seed gave all of them the same displacements.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gapfactory.search import draw_pressure
from gapfactory.search.settings import RelaxSettings
from gapfactory.seeds import Stage, stream

NAMES = list(itertools.product((0, 1, 7), (0, 1, 25), Stage, (0, 1, 2, 9999)))


def test_no_two_decisions_share_their_numbers() -> None:
    drawn = [tuple(stream(*name).random(4)) for name in NAMES]
    assert len(set(drawn)) == len(NAMES)
    # not even in part: a first number that comes back elsewhere betrays a shifted copy of the stream
    assert len({number for numbers in drawn for number in numbers}) == 4 * len(NAMES)


def test_a_stream_is_the_same_in_any_order() -> None:
    forwards = {name: stream(*name).random() for name in NAMES}
    assert {name: stream(*name).random() for name in reversed(NAMES)} == forwards


def test_displacements_of_different_structures_are_uncorrelated() -> None:
    rattles = np.array([stream(3, 1, Stage.CELL, index).normal(size=24) for index in range(200)])
    correlations = np.corrcoef(rattles) - np.eye(200)
    # 19 900 pairs of 24 numbers: the largest of independent ones is near 0.75, a repeated pattern has 1
    assert np.abs(correlations).max() < 0.95


def test_pressures_differ_between_relaxations_and_generations() -> None:
    settings = RelaxSettings()
    pressures = [
        draw_pressure(stream(1, generation, Stage.PRESSURE, index), settings)
        for generation in (1, 2, 3)
        for index in range(500)
    ]
    assert len(set(pressures)) == len(pressures)


def test_the_contract_of_the_numbers() -> None:
    """These numbers are part of every stored campaign: a change of the streams must not go unnoticed."""
    assert [int(stage) for stage in Stage] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    expected = np.random.default_rng(np.random.SeedSequence([5, 2, 3, 8])).random(3)
    np.testing.assert_array_equal(stream(5, 2, Stage.SELECT, 8).random(3), expected)


@pytest.mark.parametrize("name", [(-1, 0, Stage.CELL, 0), (0, -1, Stage.CELL, 0), (0, 0, Stage.CELL, -1)])
def test_negative_numbers_are_refused(name) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        stream(*name)
