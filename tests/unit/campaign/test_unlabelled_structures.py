"""Structures without labels in the campaign file: read once, kept with the campaign, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from numpy.testing import assert_allclose

from gapfactory.campaign.load import campaign_from_mapping
from gapfactory.errors import CampaignFileError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_structures_of_a_file_become_part_of_the_campaign(tmp_path: Path) -> None:
    frames = [bulk("Si", a=5.4 + 0.01 * k) for k in range(3)]
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    content = {"element": "Si", "gap": {"unlabelled": {"file": "frames.xyz"}, "soap": {"n_sparse": 9}}}
    campaign = campaign_from_mapping(content, directory=tmp_path)
    (tmp_path / "frames.xyz").unlink()
    found = campaign.gap.unlabelled.atoms()
    assert_allclose([a.cell.array for a in found], [a.cell.array for a in frames], atol=1e-8)
    assert campaign.gap.soap.n_sparse == 9
    # as stored and shown, it is read without the file
    again = campaign_from_mapping(campaign.model_dump(mode="json"))
    assert again == campaign
    assert np.array_equal(again.gap.unlabelled.atoms()[1].cell.array, found[1].cell.array)
    assert again.final_potential.unlabelled == campaign.gap.unlabelled


@pytest.mark.parametrize(
    ("unlabelled", "words"),
    [
        ({"file": "nothing.xyz"}, "gap.unlabelled.file is 'nothing.xyz'"),
        ({"structures": "nonsense"}, "no extended XYZ"),
        ({"file": "germanium.xyz"}, "hold Ge, the campaign Si"),
        ({"files": "x"}, "unlabelled"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, unlabelled: dict[str, str], words: str) -> None:
    write(tmp_path / "germanium.xyz", bulk("Ge"), format="extxyz")
    with pytest.raises(CampaignFileError, match=words):
        campaign_from_mapping({"element": "Si", "gap": {"unlabelled": unlabelled}}, directory=tmp_path)


def test_a_file_needs_a_campaign_file() -> None:
    with pytest.raises(CampaignFileError, match="beside a campaign file"):
        campaign_from_mapping({"element": "Si", "gap": {"unlabelled": {"file": "frames.xyz"}}})


def test_by_default_there_are_none() -> None:
    campaign = campaign_from_mapping({"element": "Si"})
    assert campaign.gap.unlabelled.atoms() == ()
    assert campaign.gap.sigma.rule == "hull"
    assert campaign.gap.two_body.enabled
