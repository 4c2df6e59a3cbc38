"""Diagnostic searches: with which potential, under which pressure, in which generation."""

from __future__ import annotations

import pytest

from gapfactory.campaign import Campaign, campaign_from_mapping
from gapfactory.campaign.generation_rows import generation_rows
from gapfactory.errors import CampaignFileError
from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import generations_of, plan_generation, recipe_of

LETTER = "boron-2018-prl"
LOOK = {
    "cells": 120,
    "labelled": False,
    "targets": ["alpha-B12"],
    "build": {"atoms_min": 12, "atoms_max": 12},
}


def campaign(**components: object) -> Campaign:
    return campaign_from_mapping({"preset": LETTER, "components": components})


def test_a_search_with_the_final_potential_follows_its_fit() -> None:
    wanted = campaign(a=LOOK | {"potential": "final"}, z=LOOK | {"generations": [2, 6]})
    plain = campaign_from_mapping({"preset": LETTER})
    last = generations_of(wanted) - 1
    assert last == generations_of(plain) - 1
    for generation in range(last + 1):
        parts = [part for part in recipe_of(wanted, generation).cells if not part.labelled]
        expected = {2: [("z", False)], 6: [("z", False), ("a", True)]}.get(generation, [])
        assert [(part.component, part.after_fit) for part in parts] == expected
        # no other cell changes its number
        labelled = [part for part in recipe_of(wanted, generation).cells if part.labelled]
        assert labelled == list(recipe_of(plain, generation).cells)
    tasks = {task.key: task for task in plan_generation(wanted, last)}
    assert [key for key in tasks if key.startswith("relax")] == [
        "relax-000000", "relax-000050", "relax-000100", "relax-000120", "relax-000170", "relax-000220",
    ]  # fmt: skip
    ranges = [
        (task.parameters["start"], task.parameters["stop"])
        for task in tasks.values()
        if task.kind is TaskKind.RELAX
    ]
    # no task has cells of both, for it has one potential
    assert ranges == [(0, 50), (50, 100), (100, 120), (120, 170), (170, 220), (220, 240)]
    for key, task in tasks.items():
        if task.kind is TaskKind.RELAX:
            after = task.parameters["start"] >= 120
            assert ("fit" in task.parents) == after, key
            assert "build-000000" in task.parents
            assert key in tasks["assess"].parents
    assert not any(parent.startswith("relax") for parent in tasks["fit"].parents)


def test_a_component_may_say_its_own_pressure() -> None:
    wanted = campaign(look=LOOK | {"pressure_scale_GPa": 0}, free={"pressure_scale_GPa": 50})
    recipe = recipe_of(wanted, 2)
    scales = {part.component: recipe.relax_of(part).pressure_scale_GPa for part in recipe.cells}
    assert scales == {"free": 50.0, "ordered": 100.0, "look": 0.0}
    assert recipe.relax == wanted.relax
    assert all(recipe_of(wanted, 0).relax_of(part) is None for part in recipe_of(wanted, 0).cells)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"components": {"look": LOOK | {"potential": "final", "generations": [3]}}},
            "leave generations out",
        ),
        ({"components": {"free": {"potential": "final"}}}, "set labelled to false"),
        (
            {
                "components": {"look": LOOK | {"potential": "final"}},
                "final_fit": None,
                "stop": {"energy_distribution": {}},
            }
            | {"crystals": dict.fromkeys(("alpha", "beta", "gamma", "alpha-Ga"))},
            "may end before its last generation",
        ),
        ({"components": {"look": LOOK | {"pressure_scale_GPa": -1}}}, "pressure_scale_GPa"),
        *(
            ({"components": {"look": LOOK | {"generations": never}}}, "relaxed in generations 1 to 6")
            for never in ([], [0], [-1], [2, 7])
        ),
        (
            {"components": {"random": LOOK}, "preset": "quickstart-Si", "element": "Si"},
            "call the diagnostic search otherwise",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(CampaignFileError, match=said):
        campaign_from_mapping({"preset": LETTER, **changes})


def test_the_other_protocol_may_end_early_and_has_no_final_potential() -> None:
    components = {"free": {"cells": 200}, "look": {"cells": 5, "labelled": False, "potential": "final"}}
    with pytest.raises(CampaignFileError, match="boron-2018"):
        campaign_from_mapping({"element": "Si", "components": components})


def test_the_plan_tells_the_pressure_of_each_component() -> None:
    tight = LOOK | {"potential": "final", "pressure_scale_GPa": 0}
    rows = {row.title: row.relaxed for row in generation_rows(campaign(tight=tight))}
    assert rows["final fit"] == "no pressure"
    assert (rows["search"], rows["crystals join"]) == ("mean pressure 20 GPa", "")
    beside = generation_rows(campaign(look=LOOK | {"pressure_scale_GPa": 0}))
    assert beside[1].relaxed == "free, ordered: mean pressure 20 GPa; look: no pressure"


def test_enthalpies_under_several_pressures_give_no_order() -> None:
    from ase.build import bulk

    from gapfactory.analysis.rediscovery import rediscovery
    from launchpad.database.packing import pack_array
    from launchpad.diagnostics import minima_of

    def ended(name: str, a: float, energy: float, pressure: float) -> dict[str, object]:
        atoms = bulk("Si", a=a)
        enthalpy = energy * len(atoms) + pressure * atoms.get_volume() / 160.2176634
        return {
            "_id": name,
            "numbers": pack_array(atoms.numbers, "i4"),
            "positions": pack_array([atoms.positions]),
            "cells": pack_array([atoms.cell.array]),
            "enthalpies": pack_array([enthalpy]),
            "pressure_gpa": pressure,
        }

    target = {"Si-diamond": bulk("Si")}
    # the second one is the lower in energy and comes out 2 eV/atom higher, because it was under pressure
    several = [ended("a", 5.43, -4.0, 0.0), ended("b", 5.4, -4.3, 20.0)]
    (found,) = rediscovery(minima_of(several, 31), target)
    assert (found.found, found.first, found.rank) == (2, "a", None)
    alike = [ended("a", 5.43, -4.0, 20.0), ended("b", 5.4, -4.3, 20.0)]
    (found,) = rediscovery(minima_of(alike, 31), target)
    assert (found.found, found.first, found.rank) == (2, "b", 1)
