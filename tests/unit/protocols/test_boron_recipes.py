"""The two presets of 2018: numbers of the papers, pressures, crystals and fits, as the recipe says them."""

from __future__ import annotations

import numpy as np
import pytest

from gapfactory.analysis.energy_distribution import EnergyBox
from gapfactory.analysis.learning import Evidence
from gapfactory.analysis.phases import named_phases
from gapfactory.campaign import Campaign, campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.campaign.generation_rows import generation_rows
from gapfactory.errors import CampaignFileError, InputError
from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import decide, generations_of, plan_generation, recipe_of
from gapfactory.search import draw_pressure

PREPRINT, LETTER = "boron-2018-preprint", "boron-2018-prl"


def campaign(preset: str, **more: object) -> Campaign:
    return campaign_from_mapping({"preset": preset, **more})


def recipes(wanted: Campaign):
    return [recipe_of(wanted, generation) for generation in range(generations_of(wanted))]


@pytest.mark.parametrize(("preset", "total", "components"), [(PREPRINT, 8388, 3), (LETTER, 5038, 2)])
def test_the_totals_of_the_papers_are_labelled(preset: str, total: int, components: int) -> None:
    wanted = campaign(preset)
    every = recipes(wanted)
    assert sum(recipe.labels for recipe in every) == total == estimate(wanted).labels
    assert [part.stop - part.start for part in every[0].cells] == [500] * components
    assert [part.stop - part.start for part in every[1].cells] == [250] * components
    rows = generation_rows(wanted)
    assert sum(rows[0].labels.values()) == every[0].labels


def test_the_preprint_has_3000_end_points_and_both_snapshots_in_all_four_searches() -> None:
    searches = [r for r in recipes(campaign(PREPRINT)) if r.picks == "snapshots"]
    assert [r.generation for r in searches] == [1, 2, 3, 4]
    assert all(r.early_steps == (5,) for r in searches)
    assert sum(r.n_cells for r in searches) == 3000


@pytest.mark.parametrize(
    ("preset", "least", "atoms"), [(PREPRINT, 210_000, (17, 12, 42)), (LETTER, 97_000, (17, 10))]
)
def test_the_environments_that_the_papers_count_are_met(
    preset: str, least: int, atoms: tuple[int, ...]
) -> None:
    """Mean numbers of atoms as the texts give them: 2 to 32; 12, or 8 and 12; 36 and 48."""
    wanted = campaign(preset)
    sizes = {phase.name: len(phase.atoms) for phase in named_phases("B")}
    crystals = sum(g.count * sizes[wanted.crystal_phase(name)] for name, g in wanted.crystals.items())
    structures = sum(r.labels for r in recipes(wanted)) - sum(g.count for g in wanted.crystals.values())
    environments = crystals + structures * sum(atoms) / len(atoms)
    assert least < environments < 1.02 * least


def test_the_letter_feeds_back_minima_only_in_its_last_two_searches() -> None:
    searches = [r for r in recipes(campaign(LETTER)) if r.picks == "snapshots"]
    assert [r.early_steps for r in searches] == [(5,), (5,), (), ()]
    assert [r.train for r in searches] == [1000, 1000, 500, 500]


def mean_pressure(wanted: Campaign, generation: int) -> float:
    relax = recipe_of(wanted, generation).relax
    assert relax is not None
    rng = np.random.default_rng(1)
    return float(np.mean([draw_pressure(rng, relax) for _ in range(20_000)]))


def test_pressures_are_those_of_each_paper() -> None:
    preprint, letter = campaign(PREPRINT), campaign(LETTER)
    assert [mean_pressure(preprint, g) for g in (1, 2)] == [0.0, 0.0]
    assert [mean_pressure(preprint, g) for g in (3, 4)] == pytest.approx([100.0, 100.0], rel=0.03)
    assert [mean_pressure(letter, g) for g in (1, 2, 3, 4)] == pytest.approx([20.0] * 4, rel=0.03)


def test_crystals_join_when_each_paper_says() -> None:
    small, names = ("alpha", "alpha-Ga", "gamma"), ("alpha", "alpha-Ga", "beta", "gamma")
    preprint, letter = recipes(campaign(PREPRINT)), recipes(campaign(LETTER))
    # the preprint has beta-boron at the end only, the others in every fit
    assert [r.trained_crystals for r in preprint] == [small] * 5 + [names] * 2
    assert preprint[0].test == 222
    assert [r.trained_crystals for r in letter] == [()] * 5 + [names] * 2
    # the Letter's are labelled and held out until then, so that every potential is judged by them
    assert (letter[0].crystals, letter[0].train, letter[0].test) == (names, 1000, 1038)
    assert [r.title for r in letter[5:]] == ["crystals join", "final fit"]
    assert all((r.n_cells, r.labels, r.picks) == (0, 0, "none") for r in letter[5:])


@pytest.mark.parametrize("preset", [PREPRINT, LETTER])
def test_all_fits_are_smooth_and_the_last_one_differs_in_three_numbers(preset: str) -> None:
    wanted = campaign(preset)
    *searching, last = recipes(wanted)
    assert all(r.potential == wanted.gap for r in searching)
    soap = wanted.gap.soap
    assert (soap.atom_sigma, soap.n_max, soap.l_max) == (0.75, 8, 8)
    tight = soap.model_copy(update={"atom_sigma": 0.5, "n_max": 12, "l_max": 12})
    assert last.potential == wanted.gap.model_copy(update={"soap": tight})
    from gapfactory.potentials.gap.terms import terms

    found = {term.name: term.cutoff for term in terms(tuple(wanted.species_table.values()), wanted.gap)}
    assert len(found) == 3
    assert list(found.values()) == pytest.approx([3.7] * 3, abs=1e-3)


@pytest.mark.parametrize("preset", [PREPRINT, LETTER])
def test_every_generation_is_one_graph_that_ends_in_assess(preset: str) -> None:
    wanted = campaign(preset)
    for recipe in recipes(wanted):
        plan = plan_generation(wanted, recipe.generation)
        seen: set[str] = set()
        for task in plan:
            assert set(task.parents) <= seen
            seen.add(task.key)
        children = {parent for task in plan for parent in task.parents}
        assert [t.key for t in plan if t.key not in children] == ["assess"]
        if recipe.picks == "none":
            assert [t.kind for t in plan] == [TaskKind.FIT, TaskKind.ASSESS]
    cost = estimate(wanted)
    tasks = sum(len(plan_generation(wanted, r.generation)) for r in recipes(wanted))
    assert sum(row.tasks for row in cost.rows) == tasks


def test_cells_belong_to_components_in_the_order_of_their_names() -> None:
    wanted = campaign(LETTER, components={"free": {"cells": 3}, "ordered": {"initial_cells": 4}})
    first, later = recipe_of(wanted, 0), recipe_of(wanted, 1)
    assert [(p.component, p.start, p.stop) for p in first.cells] == [("free", 0, 500), ("ordered", 500, 504)]
    assert [(p.component, p.start, p.stop) for p in later.cells] == [("free", 0, 3), ("ordered", 3, 253)]
    assert [later.cell_range(index).component for index in (0, 2, 3, 252)] == ["free"] * 2 + ["ordered"] * 2
    assert later.cell_range(0).build == wanted.components["free"].build
    with pytest.raises(IndexError, match="none has the number 253"):
        later.cell_range(253)


LOOKS = {
    "cells": 5000,
    "labelled": False,
    "targets": ["alpha-B12"],
    "build": {"atoms_min": 12, "atoms_max": 12},
}


def test_a_diagnostic_search_is_relaxed_and_counted_and_changes_nothing_else() -> None:
    plain = campaign(LETTER)
    # first in alphabetical order, and yet numbered last
    wanted = campaign(LETTER, components={"a-search": LOOKS})
    assert wanted.target_phases("a-search") == ("B-alpha-B12",)
    for generation in range(generations_of(wanted)):
        ours, theirs = recipe_of(wanted, generation), recipe_of(plain, generation)
        assert ours.labels == theirs.labels
        assert ours.n_labelled == theirs.n_cells == theirs.n_labelled
        assert ours.cells[: len(theirs.cells)] == theirs.cells
        looked = [(p.component, p.stop - p.start) for p in ours.cells if not p.labelled]
        assert looked == ([("a-search", 5000)] if generation else [])
    plan = plan_generation(wanted, 1)
    parents = {task.key: set(task.parents) for task in plan}
    relaxed = {t.key for t in plan if t.kind is TaskKind.RELAX}
    assert relaxed == (parents["select"] | parents["assess"]) - {"fit"}
    assert not parents["select"] & parents["assess"]
    some = campaign(LETTER, components={"a": LOOKS | {"generations": [2, 5]}})
    assert [recipe_of(some, g).n_cells for g in (2, 4, 5)] == [5500, 500, 5000]


def test_any_element_with_crystals_of_its_own() -> None:
    wanted = campaign(
        LETTER,
        element="Si",
        crystals={
            "alpha": None,
            "beta": None,
            "gamma": None,
            "alpha-Ga": None,
            "diamond": {"phase": "diamond", "count": 5},
        },
    )
    assert recipe_of(wanted, 0).crystals == ("diamond",)
    assert wanted.crystal_phase("diamond") == "Si-diamond"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"element": "Si"}, r"crystals\.\w.*no named phase 'alpha-B12' for Si.*null"),
        ({"stop": {"label_budget": 5000}}, "label_budget is 5000, but the campaign labels 5038"),
        ({"schedule": {"generations": 2}}, "2 come after the last search"),
        ({"snapshots": {"early_steps": [50]}}, "steps 0 to 10 are kept"),
        ({"final_fit": {"soap": {"atom_sgma": 0.5}}}, "final_fit.soap.atom_sgma"),
        ({"components": {"free": {"buld": {}}}}, "did you mean 'components.free.build'"),
        (
            {"components": {"free": {"build": {"atoms_mx": 3}}}},
            "did you mean 'components.free.build.atoms_max'",
        ),
        ({"components": {"a b": {"cells": 3}}}, "is no name"),
        ({"components": {"a": {"cells": 3, "targets": ["alpha-B12"]}}}, "set labelled to false"),
        (
            {"components": {"a": {"cells": 3, "labelled": False, "initial_cells": 3}}},
            "leave initial_cells out",
        ),
        (
            {"components": {"a": {"cells": 3, "labelled": False, "targets": ["beta"]}}},
            "components.a.targets .* no named phase 'beta'",
        ),
        ({"protocol": "de-novo-2019"}, "needs 'protocol: boron-2018'"),
        ({"stop": {"convergence": {"energy_error_in_eV": 0.01}}}, "stop.energy_distribution instead"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(more: dict[str, object], message: str) -> None:
    with pytest.raises(CampaignFileError, match=message):
        campaign(LETTER, **more)


def test_there_is_no_generation_after_the_last() -> None:
    with pytest.raises(InputError, match="no generation 7"):
        recipe_of(campaign(LETTER), 7)


def test_settings_survive_a_round_trip_through_json() -> None:
    wanted = campaign(PREPRINT)
    again = Campaign.model_validate(wanted.model_dump(mode="json"))
    assert again == wanted
    assert [recipe_of(again, g) for g in range(7)] == recipes(wanted)


def test_components_and_pressures_serve_the_other_protocol_too() -> None:
    wanted = campaign_from_mapping(
        {
            "preset": "quickstart-Si-analytic",
            "components": {"a": {"cells": 30}, "b": {"cells": 30, "initial_cells": 50}},
            "relax": {"pressure_from_generation": 2},
        }
    )
    assert [recipe_of(wanted, g).n_cells for g in (0, 1)] == [80, 60]
    assert (mean_pressure(wanted, 1), mean_pressure(wanted, 2) > 0) == (0.0, True)


def ends(generation: int, median: float, n: int = 100) -> Evidence:
    box = EnergyBox(n, median, median - 0.2, median + 0.2, median - 0.3, median + 1.0)
    return Evidence(generation, 100, 0, float("nan"), ends=box)


def test_the_search_goes_on_to_the_end_unless_a_rule_is_set() -> None:
    wanted = campaign(LETTER)
    history = [Evidence(0, 100, 0, float("nan")), ends(1, -5.0), ends(2, -5.0)]
    assert decide(wanted, 2, history).action == "continue"
    assert decide(wanted, 2, history).go_to is None
    assert decide(wanted, 4, history).go_to is None
    assert decide(wanted, 4, history).reason == "next: crystals join"
    assert decide(wanted, 6, history).action == "stop"


def test_energies_that_no_longer_change_end_the_search_and_the_rest_follows() -> None:
    wanted = campaign(LETTER, stop={"energy_distribution": {"median_change_in_eV": 0.02}})
    start = [Evidence(0, 100, 0, float("nan")), ends(1, -5.0)]
    assert decide(wanted, 1, start).go_to is None
    moved = decide(wanted, 2, [*start, ends(2, -5.1)])
    assert (moved.action, moved.go_to) == ("continue", None)
    settled = decide(wanted, 2, [*start, ends(2, -5.01)])
    assert (settled.action, settled.go_to) == ("continue", 5)
    assert "10 meV/atom" in settled.reason
    few = decide(wanted, 2, [*start, ends(2, -5.01, n=5)])
    assert few.go_to is None
    nothing_after = campaign(
        LETTER,
        crystals={"alpha": None, "beta": None, "gamma": None, "alpha-Ga": None},
        final_fit=None,
        stop={"energy_distribution": {}},
    )
    assert decide(nothing_after, 2, [*start, ends(2, -5.01)]).action == "stop"
