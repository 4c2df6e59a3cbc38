"""Records of vibrations: tasks that are killed and run again, equal minima, numbers of generations, other levels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ase.build import bulk

from gapfactory.campaign import Campaign, campaign_from_mapping, to_yaml
from gapfactory.protocols.planner import generations_of, recipe_of
from launchpad import service, studies, vibrations
from launchpad.dashboard.queries.campaigns import campaign_rows
from launchpad.database.campaigns import create_campaign, list_campaigns
from launchpad.database.dataset import (
    atom_items,
    pick_items,
    settings_of,
    store_atoms,
    vibration_items,
)
from launchpad.database.documents import SelectionDocument, StructureDocument, generation_id, structure_id
from launchpad.database.packing import pack_atoms
from launchpad.database.results import save_selection, save_structures
from launchpad.labelling import label_items
from launchpad.parents import parents_of, relax_parent
from launchpad.relabel import relabel
from launchpad.tasks.base import TaskContext
from launchpad.tasks.frames import take_frames

pytestmark = [pytest.mark.database, pytest.mark.timeout(120)]

SMALL = {"primitives": 3, "primitives_displaced": 0, "variants": 1, "supercells": {"divisions": [1, 1, 1]}}
PHONONS = {
    "supercells": "diagonal", "grid": [1, 1, 2], "dos_mesh": [4, 4, 4], "compare_mesh": [2, 2, 2],
}  # fmt: skip


def made(name: str, parents: dict[str, Any], **more: Any) -> Campaign:
    """Return silicon by the potential of Stillinger and Weber, as small as can be."""
    block = {"parents": parents, "frames": SMALL, "phonons": PHONONS, "held_out": 1, **more.pop("block", {})}
    return campaign_from_mapping(
        {
            "preset": "quickstart-vibrations",
            "name": name,
            "vibrations": {"studies": {"primitives": True}, **block},
            "gap": {"soap": {"n_sparse": 20, "n_max": 4, "l_max": 2}},
            "select": {"noise_cells": 0},
            **more,
        }
    )


def chosen(database, campaign: Campaign, directory) -> TaskContext:
    """Relax the crystals and choose frames, as the tasks do."""
    create_campaign(database, campaign, to_yaml(campaign.model_dump(mode="json")), {})
    context = TaskContext(SimpleNamespace(db=database), campaign, 0, directory)
    for name in campaign.vibration_settings.names():
        relax_parent(context, name)
    report = take_frames(context, recipe_of(campaign, 0))
    save_selection(
        database,
        SelectionDocument(
            id=generation_id(campaign.name, 0),
            campaign=campaign.name,
            generation=0,
            train=report.ids("training"),
            test=report.ids("held-out"),
            report=report.to_json(),
        ),
    )
    return context


def labelled(database, campaign: Campaign, directory) -> TaskContext:
    """Label everything as well."""
    context = chosen(database, campaign, directory)
    store_atoms(database, campaign)
    label_items(context, atom_items(database, campaign))
    label_items(context, pick_items(database, campaign, 0))
    label_items(context, vibration_items(database, campaign, "evidence"))
    return context


def test_a_study_that_was_killed_between_crystals_measures_the_others_too(
    database, tmp_path, monkeypatch
) -> None:
    campaign = made("killed", {
        "a": {"prototype": "diamond", "relax": False},
        "diamond": None,
        "b": {"prototype": "diamond", "relax": False, "trained": False},
    })  # fmt: skip
    context = labelled(database, campaign, tmp_path)
    save = vibrations.save_vibrations

    def dying(database, document):
        if document.parent == "b":
            raise KeyboardInterrupt
        save(database, document)

    monkeypatch.setattr(vibrations, "save_vibrations", dying)
    with pytest.raises(KeyboardInterrupt):
        studies.run_study(context, "primitives")
    monkeypatch.setattr(vibrations, "save_vibrations", save)
    assert studies.run_study(context, "primitives")["crystals"] == 2
    assert {d["parent"] for d in database.vibrations.find({"variant": "primitives"})} == {"a", "b"}
    assert studies.run_study(context, "primitives") == {"study": "primitives", "reused": 1}


def test_a_minimum_that_is_another_crystal_says_so_wherever_it_is_asked(database) -> None:
    campaign = made(
        "equal",
        {"dia": {"prototype": "diamond"}, "diamond": None},
        protocol="de-novo-2019",
        schedule={"generations": 2},
        block={"minima": 2},
    )
    crystals = [bulk("Si", a=5.43), bulk("Si", a=5.44), bulk("Si", "bcc", a=3.2)]
    save_structures(
        database,
        [
            StructureDocument(
                id=structure_id("equal", 2, "parent", index),
                campaign="equal",
                generation=2,
                stage="parent",
                index=index,
                composition=str(crystal.symbols),
                hash=str(index),
                atoms=pack_atoms(crystal),
                info={"parent": name, "kpoints": None, "steps": 3, "reason": ""},
            )
            for index, (name, crystal) in enumerate(
                zip(campaign.vibration_settings.names(), crystals, strict=True)
            )
        ],
    )
    reasons = {parent.name: parent.reason for parent in parents_of(database, campaign)}
    assert reasons == {"dia": "", "minimum-1": "relaxed by the reference, it is dia", "minimum-2": ""}


def test_the_last_generation_counts_and_relaxes_no_cells(database) -> None:
    alone = made("alone", {})
    search = made(
        "search",
        {},
        protocol="de-novo-2019",
        schedule={"generations": 3, "cells_per_generation": 200},
    )
    for campaign in (alone, search):
        create_campaign(database, campaign, to_yaml(campaign.model_dump(mode="json")), {})
        assert service.status(database, campaign.name)["generations"] == generations_of(campaign)
    assert {row["name"]: row["generations"] for row in campaign_rows(database)} == {"alone": 1, "search": 4}
    for generation, planned in ((1, 200), (3, 0)):
        database.campaigns.update_one({"_id": "search"}, {"$set": {"generation": generation}})
        assert service.status(database, "search")["relaxations_planned"] == planned


def test_frames_are_labelled_again_at_another_level(database_uri, database, tmp_path) -> None:
    from launchpad.queue import Queue

    campaign = made("first", {"diamond": {"relax": False}}, reference={"engine": "gpaw", "kpoint_density": 2})
    chosen(database, campaign, tmp_path)
    assert settings_of(campaign, pick_items(database, campaign, 0)[0]).kpoint_grid is not None
    with Queue.from_uri(database_uri) as queue:
        other, said = relabel(queue, "first", "second", {"kpoint_density": 5.0})
    assert (said, other.vibrations, other.protocol) == ("new", None, "de-novo-2019")
    # the k-points are those that are asked for now
    for item in pick_items(database, other, 0):
        wanted = settings_of(other, item)
        assert (wanted.kpoint_grid, wanted.kpoint_density) == (None, 5.0)
    assert service.status(database, "second")["generations"] == 1


def test_a_study_says_why_it_is_left_out_and_differs_in_one_thing_only(
    database, tmp_path, monkeypatch
) -> None:
    from gapfactory.errors import FitError
    from gapfactory.potentials import gap

    given = []

    def fit(data, **options):
        given.append(len(options["extra_sparse_structures"]))
        raise FitError("no two environments differ")

    monkeypatch.setattr(gap, "fit_gap", fit)
    campaign = made(
        "left-out",
        {"diamond": {"relax": False}},
        block={"studies": {"static": True, "learning": [2, 400]}, "unlabelled": 3},
    )
    context = labelled(database, campaign, tmp_path)
    for variant in ("static", "learning-0002-own", "learning-0400-all"):
        assert "left out: " in studies.run_study(context, variant)["note"]
    # errors that are constant, and the sparse points of the potential that they are compared with
    assert given == [3, 0]
    reasons = {d["variant"]: d["reason"] for d in database.vibrations.find({"parent": "diamond"})}
    assert reasons == {
        "static": "it cannot be fitted: no two environments differ",
        "learning-0002-own": "it cannot be fitted: no two environments differ",
        "learning-0400-all": "there are not enough labels for it",
    }


@pytest.mark.parametrize(("minima", "taken", "kept"), [(0, False, []), (2, False, [2]), (2, True, [])])
def test_the_search_that_minima_are_taken_from_is_kept(
    database, minima: int, taken: bool, kept: list[int]
) -> None:
    from launchpad.operations.needed import portions_of

    campaign = made(
        "pruned", {}, protocol="de-novo-2019", schedule={"generations": 9}, block={"minima": minima}
    )
    create_campaign(database, campaign, to_yaml(campaign.model_dump(mode="json")), {})
    database.relaxations.insert_many(
        {"_id": f"pruned/g{g:03d}/relaxation/000000", "campaign": "pruned", "generation": g} for g in (1, 2)
    )
    # the search may be over in any generation
    for generation in (0, 1, 2, *([9] if taken else [])):
        save_selection(
            database,
            SelectionDocument(
                id=generation_id("pruned", generation),
                campaign="pruned",
                generation=generation,
                train=[],
                test=[],
                report={},
            ),
        )
    (record,) = list_campaigns(database)
    gone = [p.ids for p in portions_of(database, record, ["trajectories"], newest=1, keep=None)]
    left = [g for g in (1, 2) if f"pruned/g{g:03d}/relaxation/000000" not in {i for ids in gone for i in ids}]
    assert left == kept
