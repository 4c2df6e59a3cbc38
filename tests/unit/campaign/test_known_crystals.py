"""Crystals of a group's own that a campaign is judged by: of compounds, all there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ase.build import bulk
from ase.io import write
from ase.lattice.compounds import L1_2

from gapfactory.campaign import Campaign, campaign_from_mapping, load_campaign
from gapfactory.campaign.cost import estimate
from gapfactory.errors import CampaignFileError
from gapfactory.protocols.planner import plan_generation

if TYPE_CHECKING:
    from pathlib import Path

ALLOY = """
composition: {Cu3Au: 1}
name: alloy
reference: {engine: ase, calculator: emt}
evidence: {known: {L12: {file: L12.cif}%s}}
%s
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with two cells of one crystal in ``L12.cif``."""
    write(tmp_path / "L12.cif", L1_2(("Au", "Cu"), latticeconstant=3.74).repeat((2, 1, 1)))
    return tmp_path


def campaign_at(directory: Path, known: str = "", more: str = "") -> Campaign:
    path = directory / "x.yaml"
    path.write_text(ALLOY % (known, more))
    return load_campaign(path)


def test_a_compound_is_judged_by_what_it_is_given(here: Path) -> None:
    campaign = campaign_at(here)
    assert campaign.phase_names() == ("L12",)
    phase = campaign.phase_of("L12")
    # the smallest cell, whatever the file has
    assert (len(phase.atoms), phase.space_group, phase.source) == (4, 221, "L12.cif")
    assert phase.shortest_contact == pytest.approx(3.74 / 2**0.5, abs=1e-3)
    assert "reference-phase-L12" in {task.key for task in plan_generation(campaign, 0)}
    assert not any("no crystal to judge by" in warning for warning in estimate(campaign).warnings)
    # the campaign has it from now on
    (here / "L12.cif").unlink()
    assert campaign_from_mapping(campaign.model_dump(mode="json")) == campaign


def test_an_element_has_them_beside_its_tabulated_phases(here: Path) -> None:
    write(here / "mine.xyz", bulk("Si", "hcp", a=2.7, c=4.4), format="extxyz")
    (here / "x.yaml").write_text("element: Si\nname: x\nevidence: {known: {mine: {file: mine.xyz}}}\n")
    campaign = load_campaign(here / "x.yaml")
    assert campaign.phase_names()[-1] == "mine"
    assert "Si-diamond" in campaign.phase_names()
    assert campaign.phase_of("Si-diamond").space_group == 227
    (here / "x.yaml").write_text(
        "element: Si\nname: x\nevidence: {phases: none, known: {mine: {file: mine.xyz}}}\n"
    )
    assert load_campaign(here / "x.yaml").phase_names() == ("mine",)


def test_a_search_may_look_for_them(here: Path) -> None:
    search = "components: {look: {cells: 5, labelled: false, targets: [L12]}}"
    assert campaign_at(here, more=search).target_phases("look") == ("L12",)
    with pytest.raises(CampaignFileError, match="no named phase 'L13' for compounds"):
        campaign_at(here, more=search.replace("L12", "L13"))


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (", B2: {file: two.xyz}", r"evidence\.known\.B2 holds 2 crystals, not one"),
        (
            ", B2: {file: Si.xyz}",
            r"evidence\.known\.B2 has Si: give a file with one crystal of the campaign's",
        ),
        (", B2: {file: no.cif}", r"evidence\.known\.B2\.file is 'no\.cif'"),
        (", B2: {}", "give 'file'"),
        (", 'B 2': {file: Si.xyz}", "'B 2' is no name"),
    ],
)
def test_what_cannot_be_is_said(here: Path, known: str, words: str) -> None:
    write(here / "two.xyz", [bulk("Cu"), bulk("Au")], format="extxyz")
    write(here / "Si.xyz", bulk("Si"), format="extxyz")
    with pytest.raises(CampaignFileError, match=words):
        campaign_at(here, known)


def test_a_tabulated_name_is_taken(here: Path) -> None:
    write(here / "mine.xyz", bulk("Si"), format="extxyz")
    (here / "x.yaml").write_text("element: Si\nname: x\nevidence: {known: {diamond: {file: mine.xyz}}}\n")
    with pytest.raises(CampaignFileError, match="a tabulated phase has this name"):
        load_campaign(here / "x.yaml")
