"""Rounds of molecular dynamics after a search: their recipe and tasks, and how they end."""

from __future__ import annotations

import pytest

from gapfactory.analysis.learning import Evidence
from gapfactory.campaign import Campaign, campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.errors import CampaignFileError
from gapfactory.protocols.kinds import kind_of_protocol
from gapfactory.protocols.plan import Decision, TaskKind
from gapfactory.protocols.planner import (
    after_trial,
    decide,
    generations_of,
    plan_generation,
    recipe_of,
    searches_of,
    tried_first,
)


def campaign(robustness: object = None, **more: object) -> Campaign:
    return campaign_from_mapping(
        {
            "preset": "quickstart-Si-analytic",
            "schedule": {"generations": 3},
            "robustness": {} if robustness is None else robustness,
            **more,
        }
    )


def evidence(generation: int) -> Evidence:
    return Evidence(generation=generation, n_labels=20, n_structures=5, energy_rmse=0.1, ends=None)


def test_rounds_come_after_the_search_and_before_the_vibrations() -> None:
    wanted = campaign({"rounds": 2}, vibrations={"parents": {"dia": {"prototype": "diamond"}}, "held_out": 2})
    assert searches_of(wanted) == 3
    assert generations_of(wanted) == 6
    assert [recipe_of(wanted, g).title for g in range(6)] == [
        "first labels", "search", "search", "robustness", "robustness", "vibrations",
    ]  # fmt: skip
    settings = wanted.model_dump(mode="json")
    assert kind_of_protocol(settings).generations(settings) == 6
    assert Campaign.model_validate(settings) == wanted


def test_a_round_runs_every_kind_of_cell_hot_enough_and_labels_some_frames() -> None:
    wanted = campaign({"time_ps": 1.5, "labels": 10, "held_out": 2})
    recipe = recipe_of(wanted, 3)
    assert [part.component for part in recipe.cells] == ["bulk", "liquid", "surfaces", "vacancies"]
    hot = {part.component: recipe.relax_of(part).anneal for part in recipe.cells}
    assert {name: round(run.temperature_K / 1687, 2) for name, run in hot.items()} == {
        "bulk": 0.8, "liquid": 1.5, "surfaces": 0.6, "vacancies": 0.8,
    }  # fmt: skip
    assert {run.n_steps for run in hot.values()} == {750}  # 1.5 ps in steps of 2 fs
    assert {run.cell for run in hot.values()} == {"fixed"}
    assert recipe.relax.max_steps == 0
    assert (recipe.train, recipe.test, recipe.fits) == (10, 2, True)
    tasks = plan_generation(wanted, 3)
    kinds = [task.kind for task in tasks]
    assert kinds.count(TaskKind.SELECT) == kinds.count(TaskKind.FIT) == kinds.count(TaskKind.ASSESS) == 1
    assert {task.key for task in tasks if task.kind is TaskKind.BUILD} == {"build-000000"}
    assert estimate(wanted).labels == sum(
        sum((recipe_of(wanted, g).train, recipe_of(wanted, g).test)) for g in range(8)
    )


def test_networks_are_stopped_by_their_spread_and_gaps_by_their_variance() -> None:
    assert recipe_of(campaign(), 3).relax.max_uncertainty == 0.5
    assert recipe_of(campaign(), 3).relax.max_spread is None
    networks = campaign_from_mapping(
        {"element": "Si", "potential": "eddp", "robustness": {"max_spread": 0.1}}
    )
    relax = recipe_of(networks, searches_of(networks)).relax
    assert (relax.max_uncertainty, relax.max_spread) == (None, 0.1)


def test_a_potential_that_survives_ends_the_rounds_and_one_that_does_not_goes_on() -> None:
    wanted = campaign({"rounds": 2})
    history = [evidence(g) for g in range(3)]
    over = decide(wanted, 2, history)
    assert (over.action, over.go_to) == ("continue", 3)
    assert "the search is over" in over.reason
    assert tried_first(wanted, 2, over)
    assert not tried_first(wanted, 1, decide(wanted, 1, history[:2]))
    # a round is made anyhow
    assert after_trial(wanted, 2, over, survives=True) == over
    first = decide(wanted, 3, history)
    assert first.action == "continue"
    assert tried_first(wanted, 3, first)
    assert after_trial(wanted, 3, first, survives=False) == first
    passed = after_trial(wanted, 3, first, survives=True)
    assert (passed.action, passed.go_to) == ("stop", None)
    assert "in round 1 of robustness" in passed.reason
    last = decide(wanted, 4, history)
    assert last == Decision("stop", "all 2 rounds of robustness are done")
    assert after_trial(wanted, 4, last, survives=False) == last


def test_where_asked_for_a_potential_that_is_sound_already_has_no_rounds() -> None:
    wanted = campaign(
        {"when": "failed", "rounds": 2}, vibrations={"parents": {"dia": {"prototype": "diamond"}}}
    )
    over = decide(wanted, 2, [evidence(g) for g in range(3)])
    assert after_trial(wanted, 2, over, survives=False) == over
    sound = after_trial(wanted, 2, over, survives=True)
    # on to the vibrations, which are the last generation
    assert (sound.action, sound.go_to) == ("continue", 5)
    assert decide(wanted, 5, []).action == "stop"


def test_a_search_that_ends_early_goes_to_the_first_round() -> None:
    wanted = campaign(stop={"label_budget": 42})
    # 21 labels in a generation: the budget is spent after the second
    assert searches_of(wanted) == 2
    assert decide(wanted, 1, [evidence(0), evidence(1)]).go_to == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"protocol": "ndsc-2022", "vibrations": {"parents": {"dia": {"prototype": "diamond"}}}},
            "follow a search",
        ),
        ({"evidence": {"stability": {"enabled": False}}}, "evidence.stability.enabled is false"),
        ({"robustness": {"starts": {}}}, "starts is empty"),
    ],
)
def test_rounds_without_a_search_or_a_trial_are_refused(more: dict[str, object], words: str) -> None:
    with pytest.raises(CampaignFileError, match=words):
        campaign_from_mapping({"element": "Si", "robustness": {}, **more})


def test_rounds_after_a_single_search_need_no_cells_of_a_second_one() -> None:
    single = {"schedule": {"generations": 1, "initial_cells": 40}, "stop": {"label_budget": 50}}
    labels = {"labels_per_generation": 30, "held_out_per_generation": 5}
    # fifteen runs, thirty-five labels of the search
    campaign = campaign_from_mapping({"element": "Si", "robustness": {}, "select": labels, **single})
    assert recipe_of(campaign, 1).n_cells < 35
    with pytest.raises(CampaignFileError, match="initial_cells is 40, but 45 of them"):
        campaign_from_mapping({"element": "Si", "select": {**labels, "labels_per_generation": 40}, **single})
