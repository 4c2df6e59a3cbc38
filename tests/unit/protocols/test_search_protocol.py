"""The protocol `search`: its settings, recipes, plan and cost."""

from __future__ import annotations

import pytest

from gapfactory.campaign import campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.campaign.generation_rows import generation_rows
from gapfactory.errors import CampaignFileError, InputError
from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import decide, generations_of, plan_generation, recipe_of
from gapfactory.protocols.search import rank_pressure

STAGES = [
    {"do": "single-points", "within_eV": 1.0, "most": 7, "reference": {"parameters": {}}},
    {"do": "relax", "within_eV": 0.4, "most": 5, "pressure_GPa": 2.0},
]


def campaign(**changes):
    return campaign_from_mapping(
        {
            "element": "Si",
            "protocol": "search",
            "schedule": {"cells_per_generation": 40},
            "reference": {"engine": "ase", "calculator": "stillinger-weber"},
            "search": {"ranking": STAGES},
            "execution": {"build_chunk": 20, "relax_chunk": 15, "reference_chunk": 3},
            **changes,
        }
    )


def test_a_generation_for_the_search_and_one_for_each_stage() -> None:
    found = campaign()
    assert generations_of(found) == 3
    search, points, relaxed = (recipe_of(found, g) for g in range(3))
    assert (search.n_cells, search.relax, search.picks) == (40, found.relax, "none")
    assert (points.n_cells, points.picks, points.labels, points.reference_relaxations) == (0, "ranked", 7, 0)
    assert (relaxed.picks, relaxed.labels, relaxed.reference_relaxations) == ("ranked", 0, 5)
    assert not any(recipe.fits for recipe in (search, points, relaxed))
    with pytest.raises(InputError, match="2 stages"):
        recipe_of(found, 3)


def test_nothing_is_fitted_and_nothing_labelled_that_only_fits_need() -> None:
    found = campaign()
    plans = [plan_generation(found, g) for g in range(3)]
    assert [[t.key for t in plan] for plan in plans] == [
        ["build-000000", "build-000020", "relax-000000", "relax-000015", "relax-000030", "assess"],
        ["select", "reference-000000", "reference-000003", "reference-000006", "assess"],
        ["select", "reference-relax-000000", "reference-relax-000003", "assess"],
    ]
    for plan in plans:
        # the assessment waits for everything that is calculated
        (last,) = [t for t in plan if t.kind is TaskKind.ASSESS]
        calculated = {t.key for t in plan if t.key.startswith(("relax-", "reference-"))}
        assert set(last.parents) == calculated
    assert plans[2][1].parameters == {"what": "relaxations", "start": 0, "stop": 3}


def test_the_search_goes_on_stage_by_stage() -> None:
    found = campaign()
    words = [decide(found, g, ()) for g in range(3)]
    assert [w.action for w in words] == ["continue", "continue", "stop"]
    assert "at most 5 structures within 0.4 eV/atom" in words[1].reason
    assert decide(campaign(search={}), 0, ()).action == "stop"


def test_a_stage_has_its_own_reference_and_pressure() -> None:
    gpaw = {"engine": "gpaw", "cutoff_eV": 300.0, "kpoint_density": 2.0}
    stages = [
        {"reference": {"cutoff_eV": 500.0}},
        {"reference": {"engine": "ase", "calculator": "stillinger-weber"}, "pressure_GPa": 5.0},
        {},
    ]
    found = campaign(
        reference=gpaw,
        relax={"pressure_scale_GPa": 10.0, "pressure_beta": 0.2},
        search={"potential": {"campaign": "other"}, "ranking": stages},
    )
    first, second, third = (found.reference_in(g) for g in (1, 2, 3))
    assert (first.engine, first.cutoff_eV, first.kpoint_density) == ("gpaw", 500.0, 2.0)
    assert second.engine == "ase"
    assert third == found.reference == found.reference_in(0)
    assert [rank_pressure(found, g) for g in range(4)] == [2.0, 2.0, 5.0, 2.0]


def test_cells_that_are_never_ranked_come_last() -> None:
    found = campaign(
        components={
            "a-plain": {"cells": 3, "labelled": False},
            "b": {"cells": 4, "pressure_scale_GPa": 0.0},
            "c": {"cells": 5, "initial_cells": 50},
        }
    )
    recipe = recipe_of(found, 0)
    assert [(p.component, p.start, p.stop) for p in recipe.cells] == [
        ("b", 0, 4),
        ("c", 4, 9),
        ("a-plain", 9, 12),
    ]
    assert (recipe.n_labelled, recipe.n_cells) == (9, 12)
    assert recipe.relax_of(recipe.cell_range(0)).pressure_scale_GPa == 0.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": None}, "needs a block 'search'"),
        ({"protocol": "de-novo-2019"}, "needs 'protocol: search'"),
        ({"reference": {"engine": "gpaw"}}, "no potential to relax random cells"),
        ({"search": {"potential": {}}}, "exactly one of 'campaign' and 'file'"),
        ({"search": {"potential": {"campaign": "a", "generation": -1}}}, "count from 0"),
        ({"search": {"potential": {"file": "nowhere"}}}, "search.potential.file"),
        ({"search": {"targets": ["nonsense"]}}, "no named phase 'nonsense'"),
        ({"search": {"ranking": [{"reference": {"cutof": 3}}]}}, "search.ranking.0.reference"),
        ({"vibrations": {"parents": {"d": {"phase": "diamond"}}}}, "'vibrations' is for campaigns that fit"),
        ({"components": {"x": {"cells": 2, "labelled": False, "potential": "final"}}}, "one potential"),
        ({"search": {"rankin": []}}, "did you mean 'search.ranking'"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words) -> None:
    with pytest.raises(CampaignFileError, match=words):
        campaign(**changes)


def test_the_plan_counts_relaxations_single_points_and_reference_relaxations() -> None:
    found = estimate(campaign())
    rows = {row.what: row for row in found.rows}
    assert (rows["build"].items, rows["relax"].items, rows["reference"].items) == (40, 40, 12)
    assert (rows["fit"].tasks, rows["fit"].items, found.labels, found.atom_labels) == (0, 0, 7, 0)
    assert rows["reference"].tasks == 5
    labels = [row.labels for row in generation_rows(campaign())]
    assert labels == [{}, {"single point": 7}, {"relaxation": 5}]
    assert found.fit_memory_gb == 0.0
    # more relaxations by the reference cost more
    more = estimate(campaign(search={"ranking": [*STAGES[:1], {**STAGES[1], "most": 50}]}))
    assert {r.what: r for r in more.rows}["reference"].core_hours > 2 * rows["reference"].core_hours


def test_a_search_without_stages_is_planned_too() -> None:
    found = estimate(campaign(search={}))
    assert {row.what: row.items for row in found.rows}["reference"] == 0
