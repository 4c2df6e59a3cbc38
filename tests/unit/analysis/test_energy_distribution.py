"""Boxes of energies, and whether they still change."""

from __future__ import annotations

import numpy as np
import pytest

from gapfactory.analysis.energy_distribution import DistributionSettings, EnergyBox, energy_box, still_changes
from gapfactory.errors import EvidenceError

SETTINGS = DistributionSettings(median_change_in_eV=0.02, box_change_in_eV=0.05, minimum_structures=10)


def test_the_box_of_a_normal_distribution_ends_one_standard_deviation_from_its_median() -> None:
    box = energy_box(np.random.default_rng(3).normal(-5.0, 0.3, 200_000))
    assert (box.median, box.low, box.high) == pytest.approx((-5.0, -5.3, -4.7), abs=5e-3)
    assert box.least < -6 < -4 < box.most
    assert EnergyBox.from_dict(box.as_dict()) == box


@pytest.mark.parametrize("energies", [[], [1.0, float("nan")], [[1.0]]])
def test_what_is_no_distribution_is_refused(energies: list[float]) -> None:
    with pytest.raises(EvidenceError):
        energy_box(energies)


def box(median: float, width: float = 0.2, n: int = 50) -> EnergyBox:
    return EnergyBox(n, median, median - width, median + width, median - 1, median + 1)


@pytest.mark.parametrize(
    ("boxes", "changes"),
    [
        ([box(-5.0), box(-5.01)], False),
        ([box(-5.0), box(-5.03)], True),
        ([box(-5.0), box(-5.0, width=0.26)], True),
        ([box(-4.0), box(-5.0), box(-5.01)], False),
        ([box(-5.0)], True),
        ([], True),
        ([None, box(-5.0)], True),
        ([box(-5.0), box(-5.0, n=9)], True),
    ],
)
def test_it_changes_until_median_and_box_stay(boxes: list[EnergyBox | None], changes: bool) -> None:
    assert still_changes(boxes, SETTINGS).changes is changes


def test_several_generations_may_be_asked_for() -> None:
    twice = SETTINGS.model_copy(update={"generations": 2})
    assert still_changes([box(-4.0), box(-5.0), box(-5.01)], twice).changes
    assert not still_changes([box(-5.0), box(-5.0), box(-5.01)], twice).changes
