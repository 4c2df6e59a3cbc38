"""Labels that a campaign is given in files: read and checked with the campaign file, and who of them is held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ase.build import bulk
from gf_own_data import CONVENTIONS, labelled_silicon, write_data

from gapfactory.campaign import Campaign, campaign_from_mapping, load_campaign, parse_campaign
from gapfactory.campaign.cost import estimate
from gapfactory.campaign.generation_rows import generation_rows
from gapfactory.campaign.own_data import files_of, given_frames
from gapfactory.errors import CampaignFileError
from gapfactory.protocols.own_data import data_joined, level_of, shares_of
from gapfactory.protocols.planner import generations_of, plan_generation, recipe_of

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

BASE = """
preset: quickstart-Si-analytic
name: x
schedule: {cells_per_generation: 10, initial_cells: %s, generations: 3}
select: {noise_cells: 1, labels_per_generation: 4, held_out_per_generation: 2}
stop: {label_budget: 18}
data:
  mine: {file: mine.xyz%s}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with 20 labelled structures in ``mine.xyz``."""
    write_data(tmp_path / "mine.xyz", labelled_silicon())
    return tmp_path


def campaign_at(directory: Path, more: str = "", cells: int = 10) -> Campaign:
    path = directory / "x.yaml"
    path.write_text(BASE % (cells, more))
    return load_campaign(path)


def test_the_file_is_read_with_the_campaign_and_then_no_more(here: Path) -> None:
    campaign = campaign_at(here)
    entry = campaign.data["mine"]
    assert (entry.structures, len(entry.sha256 or "")) == (20, 64)
    assert entry.atoms == sum(len(atoms) for atoms in labelled_silicon())
    (here / "mine.xyz").unlink()
    assert campaign_from_mapping(campaign.model_dump(mode="json")) == campaign


def test_free_atoms_and_copies_do_not_count(here: Path) -> None:
    structures = labelled_silicon()
    write_data(here / "mine.xyz", [*structures, structures[3]])
    with (here / "mine.xyz").open("a") as stream:
        stream.write(
            '1\nProperties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-0.5 config_type=isolated_atom pbc="F F F"\n'
            "Si 0 0 0 0 0 0\n"
        )
    assert campaign_at(here).data["mine"].structures == 20


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_labels_of_any_convention_are_the_same(tmp_path: Path, convention: str) -> None:
    structures = labelled_silicon(6)
    write_data(tmp_path / "a.xyz", structures, convention)
    for atoms, frame in zip(structures, given_frames([tmp_path / "a.xyz"], None), strict=True):
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        assert frame.forces == pytest.approx(atoms.get_forces(), abs=1e-7)
        assert frame.stress == pytest.approx(atoms.get_stress(), abs=1e-8)


def test_who_is_held_out_does_not_depend_on_other_data(here: Path) -> None:
    campaign = campaign_at(here, ", held_out: 0.25}\n  more: {file: mine.xyz, joins: 1")
    train, test = shares_of(campaign, "mine")
    assert (len(train), len(test)) == (15, 5)
    assert sorted([*train, *test]) == list(range(20))
    assert shares_of(campaign_at(here, ", held_out: 0.25"), "mine") == (train, test)
    assert shares_of(campaign, "more")[1] != test
    assert (data_joined(campaign, 0), data_joined(campaign, 1)) == (["mine"], ["mine", "more"])
    # one that is all there is stays in the training set
    assert shares_of(campaign_at(here, ", held_out: 0.99"), "mine")[0]


def test_the_same_file_under_two_names_has_the_same_labels(here: Path) -> None:
    campaign = campaign_at(here, "}\n  more: {file: mine.xyz, joins: 1")
    assert level_of(campaign.data["mine"]) == level_of(campaign.data["more"])
    write_data(here / "mine.xyz", labelled_silicon(seed=4))
    assert level_of(campaign_at(here).data["mine"]) != level_of(campaign.data["mine"])


def test_a_campaign_may_begin_with_nothing_else(here: Path) -> None:
    campaign = campaign_at(here, cells=0)
    assert [task.key for task in plan_generation(campaign, 0)] == [
        "reference-atoms",
        "reference-phase-Si-diamond",
        "select",
        "reference-data",
        "fit",
        "assess",
    ]
    # the budget is spent by the generations that label
    assert [recipe_of(campaign, g).labels for g in range(generations_of(campaign))] == [0, 6, 6]
    assert "reference-data" not in {task.key for task in plan_generation(campaign, 1)}
    assert "reference-data" not in {
        t.key for t in plan_generation(campaign_at(here, ", verify: 0", cells=0), 0)
    }
    first, *_ = generation_rows(campaign)
    assert (first.title, first.labels) == ("own labels", {})
    assert first.fit.startswith("with mine (20); ")


def test_a_plan_knows_how_much_there_is_to_fit(here: Path) -> None:
    few = estimate(campaign_at(here, ", joins: 2"))
    structures = labelled_silicon(300)
    write_data(here / "mine.xyz", structures)
    many = estimate(campaign_at(here))
    seconds = {
        which: next(row.core_hours for row in cost.rows if row.what == "fit")
        for which, cost in (("few", few), ("many", many))
    }
    assert seconds["many"] > 1.3 * seconds["few"]


def test_labels_with_a_fault_are_refused_with_the_reason(here: Path) -> None:
    structures = labelled_silicon(40)
    write_data(here / "mine.xyz", structures, sign=-1.0)
    with pytest.raises(
        CampaignFileError, match=r"data\.mine\.file is 'mine\.xyz': stress have the wrong sign"
    ):
        campaign_at(here)
    write_data(here / "mine.xyz", structures, "GAP", sign=-1.0)
    with pytest.raises(CampaignFileError, match="a virial is minus volume times that"):
        campaign_at(here)
    text = "".join(
        line.replace("REF_energy", f"functional={'PBE' if k % 2 else 'LDA'} REF_energy")
        for k, line in enumerate(_lines(here, structures))
    )
    (here / "mine.xyz").write_text(text)
    with pytest.raises(CampaignFileError, match=r"several methods .*functional LDA.*a file of its own"):
        campaign_at(here)


def _lines(here: Path, structures: list[Atoms]) -> list[str]:
    """Return the structures as texts that begin with their number of atoms."""
    write_data(here / "mine.xyz", structures)
    lines = (here / "mine.xyz").read_text().splitlines(keepends=True)
    found: list[str] = []
    at = 0
    while at < len(lines):
        found.append("".join(lines[at : at + int(lines[at]) + 2]))
        at += int(lines[at]) + 2
    return found


@pytest.mark.parametrize(
    ("cells", "more", "words"),
    [
        (
            10,
            ", joins: 3",
            r"data\.mine\.joins is 3, but no generation 3 chooses labels: the last one that may is 2",
        ),
        (0, ", joins: 1", "initial_cells is 0: a campaign begins without random cells only with"),
        (10, ", prefix: PBE_", "no structure has PBE_energy"),
        (10, ", held_out: 1.0", "held_out: Input should be less than 1"),
        (10, ", verfy: 2", "unknown key 'data.mine.verfy'; did you mean 'data.mine.verify'"),
    ],
)
def test_what_cannot_be_is_said(here: Path, cells: int, more: str, words: str) -> None:
    with pytest.raises(CampaignFileError, match=words):
        campaign_at(here, more, cells)


def test_files_are_found_beside_a_campaign_file(here: Path) -> None:
    with pytest.raises(CampaignFileError, match="files are found beside a campaign file"):
        parse_campaign(BASE % (10, ""))
    with pytest.raises(ValueError, match=r"data\.mine has no 'sha256' and 'structures'"):
        Campaign.model_validate({"name": "x", "element": "Si", "data": {"mine": {"file": "mine.xyz"}}})


def test_forces_are_needed(here: Path) -> None:
    atoms = bulk("Si")
    atoms.info["REF_energy"] = -8.0
    from ase.io import write

    write(here / "mine.xyz", [atoms], format="extxyz")
    with pytest.raises(CampaignFileError, match=r"1 of 1 structures have no forces \(1\): leave them out"):
        campaign_at(here)


def test_a_pattern_stands_for_many_files(here: Path) -> None:
    structures = labelled_silicon()
    for number in range(4):
        (here / f"run{number}").mkdir()
        write_data(here / f"run{number}" / "out.xyz", structures[number::4])
    (here / "x.yaml").write_text((BASE % (10, "")).replace("mine.xyz", "run*/out.xyz"))
    campaign = load_campaign(here / "x.yaml")
    assert campaign.data["mine"].structures == 20
    frames = given_frames(files_of(here, "run*/out.xyz"), None)
    assert [frame.id for frame in frames[:6]] == [
        *(f"run0/out.xyz {k}" for k in range(1, 6)),
        "run1/out.xyz 1",
    ]
    # one file less is another set
    (here / "run2" / "out.xyz").unlink()
    assert load_campaign(here / "x.yaml").data["mine"].sha256 != campaign.data["mine"].sha256
    (here / "x.yaml").write_text((BASE % (10, "")).replace("mine.xyz", "no*/out.xyz"))
    with pytest.raises(CampaignFileError, match=r"data\.mine\.file is 'no\*/out\.xyz': no file in"):
        load_campaign(here / "x.yaml")


@pytest.mark.parametrize("preset", ["ndsc-2022-Si", "airss"])
def test_who_fits_nothing_of_a_search_takes_none(here: Path, preset: str) -> None:
    path = here / "x.yaml"
    path.write_text(f"preset: {preset}\nelement: Si\ndata: {{mine: {{file: mine.xyz}}}}\n")
    with pytest.raises(CampaignFileError, match=r"data\.mine: only campaigns that search and fit take data"):
        load_campaign(path)
