"""What the selection task tells the funnel about compositions."""

from __future__ import annotations

import pytest
from ase import Atoms

from gapfactory.campaign import Campaign, campaign_from_mapping
from gapfactory.structures import composition_of
from launchpad.tasks.select import _weights


def compound(**weights: float) -> Campaign:
    return campaign_from_mapping({"composition": weights, "gap": {"three_body": {"enabled": False}}})


def test_weights_of_equal_reduced_formulas_add_up() -> None:
    weights = _weights(compound(TiO2=1, Ti2O4=1, Ti2O3=2))
    assert weights == {"TiO2": pytest.approx(0.5), "Ti2O3": pytest.approx(0.5)}


def test_an_element_has_no_weights() -> None:
    assert _weights(campaign_from_mapping({"element": "Si"})) is None


@pytest.mark.parametrize(
    ("formula", "group"),
    [("Si8", "Si"), ("O4Si2", "SiO2"), ("SiO2", "SiO2"), ("SiC", "CSi"), ("H2O", "OH2")],
)
def test_the_key_of_a_composition_group_does_not_depend_on_the_order_of_atoms(
    formula: str, group: str
) -> None:
    assert composition_of(Atoms(formula)) == group
