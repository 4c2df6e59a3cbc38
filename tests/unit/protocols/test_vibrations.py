"""The protocol of 2022: numbers of the paper, the graph of tasks, a search that ends with it, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from gapfactory.analysis.learning import Evidence
from gapfactory.campaign import Campaign, campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.campaign.parents import given_parent, idealised, place_on_path, planned_frames
from gapfactory.errors import CampaignFileError, InputError
from gapfactory.protocols.plan import TaskKind
from gapfactory.protocols.planner import decide, generations_of, plan_generation, recipe_of

SMALL = {"primitives": 3, "variants": 2, "supercells": {"divisions": [2, 2, 2]}}
DIAMOND = {"parents": {"dia": {"prototype": "diamond"}}, "frames": SMALL}


def campaign(**more: object) -> Campaign:
    return campaign_from_mapping({"element": "Si", "protocol": "ndsc-2022", "vibrations": DIAMOND, **more})


@pytest.mark.parametrize(("element", "energies", "atoms"), [
    ("Mg", 1004, 4276), ("Al", 850, 1683), ("Si", 936, 3300), ("W", 836, 1550),
])  # fmt: skip
def test_the_presets_have_the_numbers_of_table_2(element: str, energies: int, atoms: int) -> None:
    wanted = campaign_from_mapping({"preset": f"ndsc-2022-{element}"})
    (plan,) = wanted.planned_frames.values()
    assert plan.labels == energies == recipe_of(wanted, 0).train == sum(n for n, _, _ in plan.sizes)
    assert sum(n * size for n, size, _ in plan.sizes) == atoms
    assert wanted.gap.soap.n_sparse == 1400
    assert wanted.gap.delta.fixed == (2.0,)
    assert wanted.gap.sigma.rule == "adaptive"
    assert estimate(wanted).labels == energies + wanted.vibration_settings.held_out
    # it is judged by phonons and elastic constants, not by what was held out
    assert estimate(wanted).warnings == ()


def test_the_graph_relaxes_first_measures_all_and_ends_in_assess() -> None:
    bain = {"of": "dia", "eta": 0.5}
    wanted = campaign(
        vibrations={
            "parents": {"dia": {"prototype": "diamond"}, "a-path": {"bain": bain, "trained": False}},
            "frames": SMALL,
            "studies": {"primitives": True, "diagonal": True, "learning": [4]},
        }
    )
    tasks = {task.key: task for task in plan_generation(wanted, 0)}
    assert set(tasks["select"].parents) == {"reference-parent-dia", "reference-parent-a-path"}
    # its volume is that of the other, whatever the order of their names
    assert tasks["reference-parent-a-path"].parents == ("reference-parent-dia",)
    assert tasks["reference-vibrations-dia-0"].parents == ("select",)
    assert "reference-diagonal" in tasks["study-diagonal"].parents
    # whatever the campaign says by the time the task runs
    assert [tasks[f"reference-vibrations-dia-{k}"].parameters["parts"] for k in range(6)] == [6] * 6
    studies = {key for key in tasks if key.startswith("study-")}
    assert studies == {
        "study-primitives", "study-diagonal", "study-equal-cost", "study-learning-0004-own",
        "study-learning-0004-all",
    }  # fmt: skip
    assert studies < set(tasks["assess"].parents)
    for key in studies:
        assert {k for k in tasks if k.startswith("reference-vibrations-")} < set(tasks[key].parents)
        assert tasks[key].kind is TaskKind.ASSESS
    known: set[str] = set()
    for task in tasks.values():
        assert set(task.parents) <= known, task.key
        known.add(task.key)
    # nothing is labelled for training of what is measured only
    assert set(wanted.planned_frames) == {"dia"}


def evidence(generation: int) -> Evidence:
    return Evidence(generation=generation, n_labels=10, n_structures=50, energy_rmse=0.01)


def search(**more: object) -> Campaign:
    return campaign_from_mapping(
        {"element": "Si", "schedule": {"generations": 4}, "vibrations": {**DIAMOND, "minima": 2}, **more}
    )


def test_a_search_ends_with_a_generation_for_vibrations() -> None:
    plain = campaign_from_mapping({"element": "Si", "schedule": {"generations": 4}})
    wanted = search()
    assert generations_of(wanted) == generations_of(plain) + 1 == 5
    last = recipe_of(wanted, 4)
    assert (last.picks, last.n_cells, last.potential) == ("frames", 0, wanted.gap)
    # two minima that nobody knows yet, as many frames as there can be at the most
    plans = wanted.planned_frames
    assert set(plans) == {"dia", "minimum-1", "minimum-2"}
    assert last.train == sum(plan.labels for plan in plans.values())
    assert plans["minimum-1"].labels == 1 + 3 + 2 * 8
    for generation in range(4):
        assert recipe_of(wanted, generation) == recipe_of(plain, generation)
        assert plan_generation(wanted, generation) == plan_generation(plain, generation)


def test_a_search_that_is_over_early_goes_on_with_its_vibrations() -> None:
    wanted = search(
        stop={"convergence": {"energy_error_in_eV": 0.5, "generations": 1, "minimum_structures": 1}}
    )
    early = decide(wanted, 2, [evidence(0), evidence(1), evidence(2)])
    assert (early.action, early.go_to) == ("continue", 4)
    assert early.reason.startswith("the search is over: ")
    late = decide(wanted, 3, [evidence(k) for k in range(4)])
    assert (late.action, late.go_to) == ("continue", 4)
    assert decide(wanted, 4, []).action == "stop"
    assert decide(campaign(), 0, []).action == "stop"


def test_boron_ends_with_the_final_settings_and_its_crystals() -> None:
    wanted = campaign_from_mapping(
        {
            "preset": "boron-2018-prl",
            "vibrations": {
                "parents": {"alpha": {"phase": "alpha-B12"}},
                "frames": {"primitives": 5, "variants": 1},
            },
        }
    )
    last = recipe_of(wanted, 7)
    assert last.potential == wanted.final_potential
    assert last.trained_crystals == recipe_of(wanted, 6).trained_crystals == tuple(sorted(wanted.crystals))


def test_there_is_one_generation() -> None:
    assert generations_of(campaign()) == 1
    with pytest.raises(InputError, match="number 0"):
        recipe_of(campaign(), 1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"vibrations": None}, "needs a block 'vibrations'"),
        ({"vibrations": {"frames": SMALL}}, "needs a crystal to train on"),
        ({"vibrations": {**DIAMOND, "minima": 1}}, "no generation of this campaign searches"),
        ({"crystals": {"a": {"phase": "diamond", "count": 1}}}, "'crystals' is for searches"),
        ({"final_fit": {"soap": {"n_max": 4}}}, "'final_fit' is for searches"),
        ({"vibrations": {"parents": {"x": {"phase": "nowhere"}}}}, "parents.x: no named phase 'nowhere'"),
        ({"vibrations": {"parents": {"x": {}}}}, "exactly one of 'prototype', 'phase', 'file' and 'bain'"),
        ({"vibrations": {"parents": {"minimum-1": {"prototype": "fcc"}}}}, "are those of the minima"),
        (
            {"vibrations": {"parents": {"a": {"prototype": "fcc"}, "x": {"bain": {"of": "b", "eta": 0}}}}},
            "parents.x.bain.of is 'b', which is none of a",
        ),
        ({"vibrations": {"parents": {"x": {"file": "gone.cif"}}}}, "files are found beside a campaign file"),
        ({"vibrations": {"parents": {"x": {"structures": "2\n\nSi 0 0 0\n"}}}}, "parents.x: no extended XYZ"),
        ({"vibrations": {"limits": {"phonons": 1}}}, "unknown key 'vibrations.limits.phonons'"),
        (
            {
                "vibrations": {
                    "parents": {"x": {"structures": '2\nLattice="3 0 0 0 3 0 0 0 3"\nSi 0 0 0\nSi 0 0 0\n'}}
                }
            },
            "parents.x: no symmetry found",
        ),
        ({"vibrations": {"parents": {"a/b": {"prototype": "diamond"}}}}, "'a/b' is no name"),
        ({"vibrations": {"parents": {"$a": {"prototype": "diamond"}}}}, "is no name: take letters"),
        # found out after everything was labelled, before
        ({"vibrations": {**DIAMOND, "studies": {"static": True}}}, "gap.sigma.rule is 'hull'"),
        ({"vibrations": {**DIAMOND, "phonons": {"grid": [4, 4, 2]}}}, "4x4x2 has not the symmetry of Si2"),
        (
            {"vibrations": DIAMOND, "reference": {"engine": "gpaw", "kpoint_grid": [6, 6, 6]}},
            r"a multiple of \[4, 4, 4\]",
        ),
        (
            {
                "protocol": "de-novo-2019",
                "schedule": {"generations": 2},
                "vibrations": {**DIAMOND, "minima": 1, "phonons": {"grid": [4, 4, 2]}},
            },
            "the symmetry of vibrations.minima is not known before",
        ),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(CampaignFileError, match=said.replace("(", r"\(").replace("$", r"\$")):
        campaign(**more)


def test_null_takes_a_crystal_of_a_preset_away() -> None:
    wanted = campaign_from_mapping(
        {
            "preset": "quickstart-vibrations",
            "vibrations": {"parents": {"diamond": None, "other": {"prototype": "diamond"}}},
        }
    )
    assert wanted.vibration_settings.names() == ("other",)


def test_all_cells_of_a_crystal_can_share_its_k_points() -> None:
    from gapfactory.build.commensurate import commensurate_grid
    from launchpad.parents import _primitive_grid

    wanted = campaign(
        vibrations={**DIAMOND, "phonons": {"grid": [3, 3, 3]}, "studies": {"diagonal": True}},
        reference={"engine": "gpaw", "kpoint_density": 2.5},
    )
    crystal = given_parent(wanted, "dia")
    grid = _primitive_grid(wanted, "dia", crystal)
    # the diagonal supercells of the studies too: 4x4x4 by default
    assert commensurate_grid(4 * np.eye(3, dtype=int), grid) == (3, 3, 3)


def test_a_slab_is_no_crystal(tmp_path) -> None:
    from ase.build import fcc111
    from ase.io import write

    from gapfactory.campaign import load_campaign

    slab = fcc111("Al", (1, 1, 3), vacuum=6.0)
    slab.info.clear()
    write(tmp_path / "slab.xyz", slab, format="extxyz")
    text = "element: Al\nprotocol: ndsc-2022\nvibrations: {parents: {x: {file: slab.xyz}}}\n"
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(CampaignFileError, match="not periodic in three directions"):
        load_campaign(tmp_path / "c.yaml")


def test_a_crystal_is_taken_as_its_primitive_cell_in_its_orientation(tmp_path) -> None:
    from ase.io import write

    from gapfactory.campaign import load_campaign

    cubic = bulk("Si", a=5.4, cubic=True)
    cubic.rotate(20, "z", rotate_cell=True)
    write(tmp_path / "cubic.xyz", cubic, format="extxyz")
    text = "element: Si\nprotocol: ndsc-2022\nvibrations: {parents: {x: {file: cubic.xyz}}}\n"
    (tmp_path / "c.yaml").write_text(text)
    wanted = load_campaign(tmp_path / "c.yaml")
    (tmp_path / "cubic.xyz").unlink()
    found = given_parent(wanted, "x")
    assert found is not None
    assert len(found) == 2
    # whole vectors of the primitive cell make the cubic one as it was given
    ratio = cubic.cell.array @ found.cell.reciprocal().array.T
    assert abs(ratio - ratio.round()).max() < 1e-6
    assert planned_frames(wanted, "x").labels == 1 + 500 + 42 * 5


def test_places_on_the_path_have_the_volume_of_the_other_crystal() -> None:
    other = bulk("Al", "fcc", a=4.1, cubic=True)
    for eta in (0.0, 0.3, 1.0):
        found = place_on_path(other, eta)
        assert len(found) == 1
        assert found.get_volume() == pytest.approx(other.get_volume() / 4, rel=1e-12)
    with pytest.raises(InputError, match="that of an element, not of Cl, Na"):
        place_on_path(bulk("NaCl", "rocksalt", a=5.6), 0.5)


def test_a_relaxed_structure_is_given_the_symmetry_that_it_nearly_has() -> None:
    from gapfactory._spglib import space_group_number

    shaken = bulk("Si", cubic=True)
    shaken.rattle(0.004, seed=1)
    assert space_group_number(shaken, 1e-4) == 1
    found = idealised(shaken)
    assert found is not None
    assert len(found) == 2
    assert space_group_number(found, 1e-4) == 227
    assert found.get_volume() / 2 == pytest.approx(shaken.get_volume() / 8, rel=1e-3)


@pytest.mark.parametrize("divisions", [(1, 1, 1), (2, 2, 1), (2, 2, 2), (3, 2, 1)])
@pytest.mark.parametrize("choice", ["stars", "published"])
def test_no_minimum_has_more_or_larger_frames_than_are_planned(
    divisions: tuple[int, int, int], choice: str
) -> None:
    from gapfactory.build.nondiagonal import nondiagonal_cells

    frames = {**SMALL, "supercells": {"divisions": divisions, "choice": choice}}
    wanted = search(vibrations={"minima": 1, "frames": frames})
    plan = planned_frames(wanted, "minimum-1")
    crooked = bulk("SiC", "rocksalt", a=4.0)
    crooked.set_cell([[3.0, 0.2, 0.1], [0.5, 3.7, 0.3], [0.2, 0.9, 4.1]], scale_atoms=True)
    crooked += bulk("C", "sc", a=1.0)
    crooked.positions[-1] += (0.7, 0.8, 0.9)
    cells = nondiagonal_cells(crooked, wanted.vibration_settings.frames.supercells).cells
    assert 1 + 3 + 2 * len(cells) <= plan.labels
    assert choice == "stars" or 1 + 3 + 2 * len(cells) == plan.labels
    ((_, atoms, _),) = plan.sizes
    assert atoms == 12 * max(cell.size for cell in cells)
    assert any("of vibrations.minima is not known before" in text for text in estimate(wanted).warnings)


def test_quotas_and_costs_count_what_the_crystals_are_measured_by() -> None:
    from gapfactory.analysis.vibrations import vibration_cells
    from launchpad.operations.quotas import planned_for

    block = {**DIAMOND, "unlabelled": 4, "held_out": 2}
    both = {
        "dia": {"prototype": "diamond"},
        "as-it-is": {"prototype": "fcc", "relax": False, "trained": False},
    }
    wanted = campaign(vibrations={**block, "parents": both}, evidence={"phases": "none"})
    settings = wanted.vibration_settings
    measured = sum(
        len(vibration_cells(given_parent(wanted, name), settings.phonons, settings.elastic).cells)
        for name in settings.names()
    )
    frames = planned_frames(wanted, "dia").labels + 2
    beside = estimate(wanted).atom_labels
    planned = planned_for(wanted, 0)
    assert planned["labels"] == frames + measured + beside
    # and the crystals, and what is for sparse points only
    assert planned["structures"] == planned["labels"] + 2 + 4
    (reference,) = [row for row in estimate(wanted).rows if row.what == "reference"]
    # one of them is relaxed
    assert reference.items == frames + measured + beside + wanted.select.noise_cells + 15


@pytest.mark.parametrize("digits", [3, 4, 5])
def test_rounding_of_a_file_is_no_loss_of_symmetry(digits: int) -> None:
    from gapfactory.analysis.vibrations import vibration_cells
    from gapfactory.io.structure_text import text_of_crystals

    exact = bulk("Mg", "hcp", a=3.21, c=5.21)
    exact.rotate(20, "z", rotate_cell=True)
    rounded = exact.copy()
    rounded.set_scaled_positions(exact.get_scaled_positions().round(digits))
    found = []
    for crystal in (exact, rounded):
        wanted = campaign(
            element="Mg", vibrations={"parents": {"x": {"structures": text_of_crystals([crystal])}}}
        )
        taken = given_parent(wanted, "x")
        assert taken is not None
        # it stays where it is
        np.testing.assert_allclose(taken.cell.array, exact.cell.array, atol=1e-9)
        planned = vibration_cells(taken, wanted.vibration_settings.phonons)
        found.append((len(planned.phonon), len(planned.elastic.cells)))
    assert found[0] == found[1] == (18, 6)


def test_a_study_needs_what_a_fit_needs_and_is_counted_as_one() -> None:
    from launchpad.workflows.generation import generation_workflow

    more = {"studies": {"primitives": True, "learning": [4, 5]}}
    wanted = campaign(
        vibrations={**DIAMOND, **more},
        execution={"resources": {"fit": {"memory_gb": 50}, "assess": {"cores": 2}}},
    )
    needs = {fw.name.split(" ", 2)[2]: fw.spec.get("needs") for fw in generation_workflow(wanted, 0).fws}
    assert needs["study-primitives"] == needs["fit"] == {"memory_gb": 50}
    assert needs["assess"] == {"cores": 2}
    hours = [
        next(row.core_hours - row.tasks * 0.1 / 3600 for row in estimate(c).rows if row.what == "fit")
        for c in (wanted, campaign())
    ]
    assert hours[0] == pytest.approx(6 * hours[1])
