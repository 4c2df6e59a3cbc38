"""What is said of protocols by their names agrees with their recipes."""

from __future__ import annotations

from typing import get_args

import pytest

from gapfactory.campaign import Campaign, campaign_from_mapping
from gapfactory.campaign.presets import PRESETS
from gapfactory.protocols.kinds import KINDS, kind_of_protocol
from gapfactory.protocols.planner import PROTOCOLS, generations_of, recipe_of


def test_every_protocol_is_of_a_kind() -> None:
    assert set(KINDS) == set(PROTOCOLS) == set(get_args(Campaign.model_fields["protocol"].annotation))


@pytest.mark.parametrize(
    "name",
    ["quickstart-Si-analytic", "boron-2018-prl", "ndsc-2022-Al", "datum-learned", "datum-derived", "airss"],
)
def test_stored_settings_tell_what_the_recipes_do(name: str) -> None:
    campaign = campaign_from_mapping({"preset": name})
    assert PRESETS[name].content.get("protocol", "de-novo-2019") == campaign.protocol
    kind, generations = kind_of_protocol(campaign.model_dump(mode="json")), generations_of(campaign)
    assert kind.generations(campaign.model_dump(mode="json")) == generations
    recipes = [recipe_of(campaign, generation) for generation in range(generations)]
    assert kind.ranks == all(recipe.picks == "ranked" for recipe in recipes[1:] or recipes)
    assert kind.ranks != any(recipe.fits for recipe in recipes)
    assert kind.searches == any(recipe.n_cells for recipe in recipes)


def test_the_vibrations_after_a_search_are_a_generation_more() -> None:
    vibrations = {"parents": {"diamond": {"phase": "diamond"}}}
    campaign = campaign_from_mapping({"preset": "quickstart-Si-analytic", "vibrations": vibrations})
    settings = campaign.model_dump(mode="json")
    assert kind_of_protocol(settings).generations(settings) == generations_of(campaign)
    assert generations_of(campaign) == campaign.schedule.generations + 1
