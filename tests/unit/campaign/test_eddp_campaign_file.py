"""`potential: eddp` in the campaign file: which tasks it plans, what it costs, and what it refuses."""

from __future__ import annotations

import pytest

from gapfactory.campaign import campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.errors import CampaignFileError
from gapfactory.potentials.eddp import EddpSettings
from gapfactory.potentials.gap import GapSettings
from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import plan_generation, recipe_of

BASE = {"preset": "quickstart-Si-analytic", "name": "made-up"}


def campaign(**more):
    return campaign_from_mapping({**BASE, "potential": "eddp", **more})


def chain(**more):
    return campaign_from_mapping({"preset": "quickstart-eddp", "name": "made-up", **more})


def test_networks_are_trained_between_labels_and_fit() -> None:
    wanted = campaign(eddp={"ensemble": {"members": 12}}, execution={"train_chunk": 5})
    tasks = {task.key: task for task in plan_generation(wanted, 1)}
    trained = [task for task in tasks.values() if task.kind is TaskKind.TRAIN]
    assert [(t.parameters["start"], t.parameters["stop"]) for t in trained] == [(0, 5), (5, 10), (10, 12)]
    labelled = {key for key, task in tasks.items() if task.kind is TaskKind.REFERENCE}
    assert labelled
    assert all(set(task.parents) == labelled for task in trained)
    assert set(tasks["fit"].parents) == {task.key for task in trained}
    assert not [t for t in plan_generation(campaign_from_mapping(BASE), 1) if t.kind is TaskKind.TRAIN]


def test_the_family_is_in_the_recipe() -> None:
    assert isinstance(recipe_of(campaign(), 1).potential, EddpSettings)
    assert isinstance(recipe_of(campaign_from_mapping(BASE), 1).potential, GapSettings)


def test_free_atoms_are_labelled_for_several_compositions_only() -> None:
    keys = {task.key for task in plan_generation(campaign(), 0)}
    assert "reference-atoms" not in keys
    several = campaign_from_mapping(
        {
            "name": "made-up",
            "potential": "eddp",
            "composition": {"Cu": 1, "CuAu": 1},
            "reference": {"engine": "ase", "calculator": "emt"},
        }
    )
    assert "reference-atoms" in {task.key for task in plan_generation(several, 0)}
    from launchpad.database.dataset import make_atoms

    assert [stage for stage, _ in make_atoms(several)] == ["isolated"]
    assert make_atoms(campaign()) == []


def test_the_cost_counts_networks() -> None:
    found = estimate(campaign(eddp={"ensemble": {"members": 12}}, execution={"train_chunk": 5}))
    rows = {row.what: row for row in found.rows}
    generations = rows["fit"].items
    assert rows["train"].items == 12 * generations
    assert rows["train"].tasks == 3 * generations
    assert rows["train"].core_hours > 0.0
    assert found.atom_labels == 0
    more = {row.what: row for row in estimate(campaign(eddp={"ensemble": {"members": 24}})).rows}
    work = [row["train"].core_hours - row["train"].tasks * 0.1 / 3600 for row in (rows, more)]
    assert work[1] == pytest.approx(2 * work[0])
    assert "train" not in {row.what for row in estimate(campaign_from_mapping(BASE)).rows}


def test_the_chain_labels_ends_and_copies() -> None:
    wanted = chain(chain={"best": 20, "copies": 3})
    first, later = recipe_of(wanted, 0), recipe_of(wanted, 1)
    assert (first.picks, first.train, first.relax) == ("cells", 200 + 20, None)
    assert (later.picks, later.train, later.test, later.early_steps) == ("ends", 80, 0, ())
    assert recipe_of(chain(chain={"label_ends": False}), 1).train == 60
    # no more ends than cells
    assert recipe_of(chain(chain={"best": 500}, stop={"label_budget": 5000}), 1).train == 60 * 4
    labels = estimate(wanted).generations[1].labels
    assert labels == {"end": 20, "shaken copy": 60}


def test_pressures_of_the_chain_are_uniform_and_a_component_may_have_none() -> None:
    import numpy as np

    from gapfactory.search import draw_pressure

    wanted = chain()
    relax = recipe_of(wanted, 1).relax
    assert relax is not None
    drawn = [draw_pressure(np.random.default_rng(k), relax) for k in range(400)]
    assert 0.0 <= min(drawn) < 0.1
    assert 4.9 < max(drawn) <= 5.0
    assert np.mean(drawn) == pytest.approx(relax.mean_pressure, abs=0.25)
    none = chain(
        components={"a": {"cells": 60, "pressure_scale_GPa": 0, "build": {"atoms_min": 2, "atoms_max": 4}}},
        stop={"label_budget": 5000},
    )
    recipe = recipe_of(none, 1)
    still = recipe.relax_of(recipe.cells[0])
    assert still is not None
    assert draw_pressure(np.random.default_rng(0), still) == 0.0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"relax": {"max_uncertainty": 0.5}}, r"relax\.max_uncertainty is 0\.5.*set relax\.max_spread"),
        ({"relax": {"max_spread": 0.2}, "eddp": {"ensemble": {"members": 1}}}, "spread of several networks"),
        ({"potential": "gap", "relax": {"max_spread": 0.2}}, r"relax\.max_spread is 0\.2"),
        ({"potential": "gap", "eddp": {"network": {"hidden": [9]}}}, "the block 'eddp' is not used"),
        ({"relax": {"max_uncertainty": 0.5, "max_spread": 0.2}}, "leave one of them out"),
        ({"relax": {"pressure_range_GPa": [5, 1]}}, "exchange them"),
        ({"crystals": {"a": {"phase": "diamond", "count": 2}}}, "'protocol: boron-2018' or 'eddp-chain'"),
        ({"eddp": {"ensemble": {"member": 1}}}, "members"),
    ],
)
def test_what_does_not_go_together_is_refused(more, words) -> None:
    with pytest.raises(CampaignFileError, match=words):
        campaign(**more)


def test_a_search_with_networks_that_exist_trains_none() -> None:
    found = campaign_from_mapping(
        {
            "element": "Si",
            "protocol": "search",
            "potential": "eddp",
            "relax": {"max_spread": 0.2},
            "search": {"potential": {"campaign": "nets"}},
        }
    )
    assert "train" not in {row.what for row in estimate(found).rows}
    words = r"relax\.max_spread needs a fitted potential: leave it out, or name one in search\.potential"
    with pytest.raises(CampaignFileError, match=words):
        campaign_from_mapping(
            {
                "element": "Si",
                "protocol": "search",
                "potential": "eddp",
                "relax": {"max_spread": 0.2},
                "reference": {"engine": "ase", "calculator": "stillinger-weber"},
                "search": {"potential": "reference"},
            }
        )


def test_ends_are_chosen_by_uncertainty_only_where_it_is_known() -> None:
    assert chain(chain={"uncertain": 0.3}).chain.uncertain == 0.3
    with pytest.raises(
        CampaignFileError, match=r"nothing tells how certain an end is: set relax\.max_spread"
    ):
        chain(chain={"uncertain": 0.3}, relax={"max_spread": None})
    with pytest.raises(CampaignFileError, match=r"less than or equal to 1|at most 1"):
        chain(chain={"uncertain": 1.3})


def test_the_chain_refuses_what_labels_nothing_and_what_it_cannot_judge() -> None:
    with pytest.raises(CampaignFileError, match="nothing would be labelled"):
        chain(chain={"label_ends": False, "copies": 0})
    with pytest.raises(CampaignFileError, match=r"'eddp-chain' has stop\.energy_distribution"):
        chain(stop={"label_budget": 460, "convergence": {"energy_error_in_eV": 0.01}})
    rule = {"label_budget": 460, "energy_distribution": {}}
    chain(stop=rule)
    with pytest.raises(CampaignFileError, match=r"chain\.label_ends is false"):
        chain(stop=rule, chain={"label_ends": False})
    with pytest.raises(CampaignFileError, match="but the campaign labels"):
        chain(stop={"label_budget": 459})


def test_studies_of_gaps_are_refused() -> None:
    vibrations = {"parents": {"diamond": {"phase": "diamond"}}, "studies": {"primitives": True}}
    with pytest.raises(CampaignFileError, match="compare Gaussian approximation potentials"):
        campaign(vibrations=vibrations)
    vibrations = {"parents": {"diamond": {"phase": "diamond"}}, "unlabelled": 3}
    with pytest.raises(CampaignFileError, match="sparse points, which an EDDP has not"):
        campaign(vibrations=vibrations)


def test_the_frames_of_one_crystal_are_divided_one_by_one() -> None:
    alone = {
        "element": "Si",
        "protocol": "ndsc-2022",
        "potential": "eddp",
        "reference": {"engine": "ase", "calculator": "stillinger-weber"},
        "evidence": {"phases": "none", "stability": {"enabled": False}},
        "vibrations": {"parents": {"dia": {"phase": "diamond"}}},
    }
    with pytest.raises(CampaignFileError, match="but 1 crystal is trained on: set it to plain"):
        campaign_from_mapping(alone)
    assert campaign_from_mapping({**alone, "eddp": {"training": {"split": "plain"}}})


def test_a_final_fit_changes_the_settings_of_the_family() -> None:
    wanted = chain(final_fit={"network": {"hidden": [20, 20]}}, schedule={"generations": 5})
    last = recipe_of(wanted, 4)
    assert last.title == "final fit"
    assert isinstance(last.potential, EddpSettings)
    assert last.potential.network.hidden == (20, 20)
    assert last.potential.features == wanted.eddp.features
    with pytest.raises(CampaignFileError, match=r"final_fit\.soap"):
        chain(final_fit={"soap": {"n_max": 4}}, schedule={"generations": 5})


def test_the_report_cites_what_the_campaign_used() -> None:
    from launchpad.citations import citations

    networks, gap = " ".join(citations(chain())), " ".join(citations(campaign_from_mapping(BASE)))
    assert "106, 014102" in networks
    assert "136403" not in networks
    assert "136403" in gap
    assert "106, 014102" not in gap
    assert "npj" in gap
