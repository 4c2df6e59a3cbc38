"""What a plan says of cost follows the cells that a campaign really has, group by group."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from gapfactory.build import build_cell
from gapfactory.campaign import campaign_from_mapping
from gapfactory.campaign.cost import CostRow, estimate
from gapfactory.campaign.derived import derived_values
from gapfactory.campaign.label_cost import label_seconds
from gapfactory.campaign.sizes import Cells, built, crystal, labelled, mean, trained
from gapfactory.errors import CampaignFileError
from gapfactory.protocols.planner import generations_of, recipe_of

LETTER, PREPRINT = "boron-2018-prl", "boron-2018-preprint"
COARSE = {"engine": "gpaw", "cutoff_eV": 400.0, "kpoint_density": 2.5}


def reference_hours(**more: object) -> float:
    cost = estimate(campaign_from_mapping({"preset": LETTER, **more}))
    return next(row.core_hours for row in cost.rows if row.what == "reference")


def test_sizes_are_those_of_cells_that_are_made() -> None:
    campaign = campaign_from_mapping({"preset": PREPRINT})
    for name, component in campaign.components.items():
        expected = built(campaign, component.build, 1.0)
        made = [
            build_cell(
                np.random.default_rng(seed),
                composition={"B": 1},
                species=campaign.species_table,
                generation=1,
                settings=component.build,
            ).atoms
            for seed in range(4)
        ]
        assert {float(len(atoms)) for atoms in made} <= {cells.atoms for cells in expected}, name
        volumes = [atoms.get_volume() / len(atoms) for atoms in made]
        assert np.mean(volumes) == pytest.approx(mean(expected).volume, rel=0.5)
    assert mean(built(campaign, campaign.components["units"].build, 1.0)).atoms == 42.0


@pytest.mark.parametrize(("preset", "least"), [(PREPRINT, 210_000), (LETTER, 97_000)])
def test_environments_of_the_labels_are_those_of_the_papers(preset: str, least: int) -> None:
    campaign = campaign_from_mapping({"preset": preset})
    recipes = [recipe_of(campaign, generation) for generation in range(generations_of(campaign))]
    every = [cells for recipe in recipes for cells in labelled(campaign, recipe)]
    assert sum(c.n for c in every) == pytest.approx(campaign.stop.label_budget)
    assert least < sum(c.n * c.atoms for c in every) < 1.03 * least
    # the last fit has all of them
    last = trained(campaign, recipes, recipes[-1])
    assert sum(c.n * c.atoms for c in last) == pytest.approx(sum(c.n * c.atoms for c in every))


def test_a_label_costs_what_was_measured_and_large_cells_cost_far_more() -> None:
    campaign = campaign_from_mapping({"preset": LETTER, "reference": COARSE})
    small, large = (label_seconds(campaign, Cells(1, n, 7.3)) for n in (12, 105))
    # 12 atoms of boron on a quiet core: 7 s
    assert 5.0 < small < 9.0
    # between the second and the third power of the size at the same k-points; a large cell has fewer of them
    one_point = [
        label_seconds(
            campaign_from_mapping({"preset": LETTER, "reference": COARSE | {"kpoint_density": 0.1}}), c
        )
        - 1.0
        for c in (Cells(1, 48, 7.3), Cells(1, 192, 7.3))
    ]
    assert 4.0**1.5 < one_point[1] / one_point[0] < 4.0**3
    assert large > 5 * small


def test_large_crystals_are_seen_in_the_hours() -> None:
    with_beta, without = (
        reference_hours(reference=COARSE),
        reference_hours(reference=COARSE, crystals={"beta": None}),
    )
    campaign = campaign_from_mapping({"preset": LETTER, "reference": COARSE})
    (beta,) = crystal(campaign, "beta")
    assert (beta.n, beta.atoms) == (318.0, 105)
    extra = beta.n * label_seconds(campaign, beta) / 3600
    assert with_beta - without == pytest.approx(extra, rel=0.01)
    # a sixteenth of the labels, and a large part of the hours
    assert extra > 0.3 * with_beta


def test_cells_that_are_not_labelled_cost_no_labels() -> None:
    look = {
        "cells": 5000,
        "labelled": False,
        "targets": ["alpha-B12"],
        "build": {"atoms_min": 48, "atoms_max": 48},
    }
    plain, searching = (
        {
            row.what: row
            for row in estimate(campaign_from_mapping({"preset": LETTER, "components": more})).rows
        }
        for more in ({}, {"look": look})
    )
    assert searching["reference"] == plain["reference"]
    assert searching["fit"] == plain["fit"]
    assert searching["relax"].items == plain["relax"].items + 6 * 5000
    assert searching["relax"].core_hours > 20 * plain["relax"].core_hours


def test_volumes_per_formula_unit_are_those_of_the_whole_units_that_are_made() -> None:
    build = {"units": {"build": {"volume": {"per_formula_unit": 90.0}}}}
    campaign = campaign_from_mapping({"preset": PREPRINT, "components": build})
    settings = campaign.components["units"].build
    assert mean(built(campaign, settings, 1.0)).volume == pytest.approx(7.5)
    assert derived_values(campaign)["components"]["units"]["volume_per_atom_A3"] == {"B12": 7.5}
    made = build_cell(
        np.random.default_rng(1),
        composition={"B": 1},
        species=campaign.species_table,
        generation=1,
        settings=settings,
    ).atoms
    assert made.get_volume() / len(made) == pytest.approx(7.5, rel=0.06)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ({"atoms_min": 37, "atoms_max": 47, "contents": {"formula_units": None}}, "12 atoms.*widen"),
        ({"units": [{"name": "Si12"}]}, r"components\.units\.build\.units: .*'Si12'"),
    ],
)
def test_units_that_cannot_be_made_are_refused_when_the_file_is_read(
    build: dict[str, object], said: str
) -> None:
    with pytest.raises(CampaignFileError, match=said):
        campaign_from_mapping({"preset": PREPRINT, "components": {"units": {"build": build}}})


def test_a_fixed_grid_of_k_points_costs_what_it_has() -> None:
    def row(**reference: object) -> CostRow:
        cost = estimate(campaign_from_mapping({"preset": LETTER, "reference": COARSE | reference}))
        return next(row for row in cost.rows if row.what == "reference")

    one, many = row(kpoint_grid=[1, 1, 1]), row(kpoint_grid=[6, 6, 6])
    assert one.core_hours < row(kpoint_density=2.5).core_hours < many.core_hours
    assert one.basis.endswith("(1, 1, 1) k-points")
    seconds = [
        label_seconds(
            campaign_from_mapping({"preset": LETTER, "reference": COARSE | {"kpoint_grid": grid}}),
            Cells(1, 12, 7.3),
        )
        - 1.0
        for grid in ([1, 1, 1], [6, 6, 6])
    ]
    assert seconds[1] == pytest.approx(6**3 / 2 * seconds[0])


def test_generations_that_select_nothing_are_not_counted_as_selections() -> None:
    cost = estimate(campaign_from_mapping({"preset": LETTER}))
    assert {row.what: row.items for row in cost.rows if row.what in {"select", "fit"}} == {
        "select": 5,
        "fit": 7,
    }


def test_cells_that_are_not_labelled_are_not_selected_from() -> None:
    look = {"cells": 9000, "labelled": False, "build": {"atoms_min": 24, "atoms_max": 24}}
    plain, searching = (
        estimate(campaign_from_mapping({"preset": "quickstart-Si", **more}))
        for more in ({}, {"components": {"look": look}})
    )
    assert searching.select_memory_gb == plain.select_memory_gb
    hours = [{row.what: row.core_hours for row in cost.rows} for cost in (plain, searching)]
    assert hours[0]["select"] == hours[1]["select"]
    assert hours[0]["relax"] < hours[1]["relax"]


def test_the_price_of_a_label_is_that_of_the_stages_that_label() -> None:
    cost = estimate(campaign_from_mapping({"preset": "datum-derived"}))
    row = next(row for row in cost.rows if row.what == "reference")
    # the search labels by its analytic cost, all three stages by DFT, of which the first has single points
    assert row.basis.endswith("400 eV, 2.5 k-points per 1/Å")
    assert row.core_hours > 1.0


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"supercell": [[2, 0, 0], [0, 1, 0], [0, 1, 2]]},
        {"supercell_size": 3, "vacancies": {"Si": 1}},
        {"cell": None, "atoms": [{"anywhere": True}, {"anywhere": True}]},
    ],
    ids=["as it is", "supercell", "vacancy", "no cell"],
)
def test_cells_of_a_given_structure_have_its_size(more) -> None:
    silicon = bulk("Si")
    start = {
        "symbols": silicon.get_chemical_symbols(),
        "positions": silicon.positions.tolist(),
        "cell": silicon.cell.array.tolist(),
    }
    build = {"start": {**start, **more}}
    campaign = campaign_from_mapping(
        {"preset": "airss", "element": "Si", "components": {"given": {"cells": 4, "build": build}}}
    )
    (expected,) = built(campaign, campaign.components["given"].build, 4.0)
    settings, table = campaign.components["given"].build, campaign.species_table
    made = [
        build_cell(
            np.random.default_rng(seed), composition={"Si": 1}, species=table, generation=0, settings=settings
        ).atoms
        for seed in range(20)
    ]
    assert {len(atoms) for atoms in made} == {expected.atoms}
    assert expected.n == 4.0
    # a cell that is made for the contents has a volume drawn around this one
    volumes = [atoms.get_volume() / len(atoms) for atoms in made]
    assert np.mean(volumes) == pytest.approx(expected.volume, rel=0.1 if "cell" in more else 1e-9)
