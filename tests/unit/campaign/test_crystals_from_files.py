"""Crystals that a campaign is given in files: a part of it from the moment when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from gapfactory.campaign import Campaign, campaign_from_mapping, load_campaign, to_yaml
from gapfactory.campaign.cost import estimate
from gapfactory.campaign.crystals import crystals_of
from gapfactory.errors import CampaignFileError
from gapfactory.protocols.planner import recipe_of
from launchpad.database.campaigns import science_digest

if TYPE_CHECKING:
    from pathlib import Path

#: Two sites, one of them half full.
CIF = """data_half
_cell_length_a 5.0
_cell_length_b 5.0
_cell_length_c 5.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 Si 0.0 0.0 0.0 1.0
Si2 Si 0.5 0.5 0.0 %(share)s
Si3 Si 0.5 0.0 0.5 %(share)s
Si4 Si 0.0 0.5 0.5 %(share)s
"""
BASE = """preset: boron-2018-prl
element: Si
name: x
crystals: {alpha: null, beta: null, gamma: null, alpha-Ga: null, %s}
"""


def campaign_at(directory: Path, crystals: str) -> Campaign:
    path = directory / "x.yaml"
    path.write_text(BASE % crystals)
    return load_campaign(path)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A directory with two structures in ``models.extxyz``; the positions have all their digits."""
    rattled = bulk("Si", cubic=True)
    rattled.rattle(0.1, seed=3)
    write(tmp_path / "models.extxyz", [bulk("Si"), rattled], format="extxyz")
    return tmp_path


def test_the_campaign_has_the_structures_and_needs_the_file_no_more(two: Path) -> None:
    from ase.io import read

    given = read(two / "models.extxyz", ":")
    campaign = campaign_at(two, "given: {file: models.extxyz, count: 5}")
    (two / "models.extxyz").unlink()
    stored = Campaign.model_validate(campaign.model_dump(mode="json"))
    again = load_written(two, campaign)
    for found in (campaign, stored, again):
        crystals = crystals_of(found, "given")
        assert len(crystals) == 2
        for crystal, expected in zip(crystals, given, strict=True):
            assert (crystal.numbers == expected.numbers).all()
            np.testing.assert_array_equal(crystal.positions, expected.positions)
            np.testing.assert_array_equal(crystal.cell.array, expected.cell.array)
    assert science_digest(stored) == science_digest(campaign)


def load_written(directory: Path, campaign: Campaign) -> Campaign:
    """Return the campaign as its settings are written, without the preset that is below them, and read again."""
    path = directory / "again.yaml"
    path.write_text(to_yaml(campaign.model_dump(mode="json") | {"preset": None}))
    return load_campaign(path)


def test_another_file_is_another_campaign(two: Path) -> None:
    crystals = "given: {file: models.extxyz, count: 5}"
    first = science_digest(campaign_at(two, crystals))
    assert science_digest(campaign_at(two, crystals)) == first
    moved = bulk("Si")
    moved.positions[1, 0] += 1e-6
    write(two / "models.extxyz", moved, format="extxyz")
    assert science_digest(campaign_at(two, crystals)) != first


def test_labels_and_sizes_are_planned(two: Path) -> None:
    campaign = campaign_at(two, "given: {file: models.extxyz, count: 6, joins: first}")
    recipe = recipe_of(campaign, 0)
    assert (recipe.train, recipe.crystals, recipe.trained_crystals) == (1006, ("given",), ("given",))
    none = campaign_at(two, "given: null")
    assert estimate(campaign).labels == estimate(none).labels + 6


def test_models_are_drawn_from_occupations_and_the_same_ones_again(tmp_path: Path) -> None:
    (tmp_path / "half.cif").write_text(CIF % {"share": "0.5"})
    crystals = "given: {file: half.cif, count: 8, models: {atoms: 3}}"
    campaign = campaign_at(tmp_path, crystals)
    models = crystals_of(campaign, "given")
    assert [len(model) for model in models] == [3] * 8
    # three of them are possible
    assert len({tuple(np.round(model.positions, 3).ravel()) for model in models}) == 3
    assert science_digest(campaign_at(tmp_path, crystals)) == science_digest(campaign)
    other = (tmp_path / "x.yaml").read_text() + "seed: 2\n"
    (tmp_path / "x.yaml").write_text(other)
    assert load_campaign(tmp_path / "x.yaml").crystals["given"] != campaign.crystals["given"]
    (tmp_path / "full.cif").write_text(CIF % {"share": "1.0"})
    assert [
        len(c) for c in crystals_of(campaign_at(tmp_path, "given: {file: full.cif, count: 2}"), "given")
    ] == [4]


@pytest.mark.parametrize(
    ("crystals", "said"),
    [
        (
            "given: {file: nothing.extxyz, count: 2}",
            "crystals.given.file is 'nothing.extxyz': there is no file",
        ),
        ("given: {file: x.yaml, count: 2}", ".xyz, .extxyz, .cif and .res"),
        ("given: {file: models.extxyz, count: 1}", "are 2, but count is 1"),
        ("given: {file: models.extxyz, phase: diamond, count: 2}", "exactly one of 'phase' and 'file'"),
        ("given: {count: 2}", "exactly one of 'phase' and 'file'"),
        ("given: {phase: diamond, models: {atoms: 2}, count: 2}", "models are drawn from a file"),
        ("given: {file: models.extxyz, models: {atoms: 2}, count: 2}", "leave 'models' out"),
        ("given: {file: half.cif, count: 2}", "Si2, Si3, Si4 are occupied in part; 'models'"),
        (
            "given: {file: half.cif, count: 2, models: {atoms: 9}}",
            "no model has 8 atoms in all",
        ),
        ("given: {file: full.cif, count: 2, models: {}}", "every site is full"),
        ("given: {file: carbon.extxyz, count: 2}", "hold C, the campaign Si"),
        ("given: {file: molecule.extxyz, count: 2}", "not periodic in three directions"),
        ("given: {structures: nonsense, count: 2}", "no extended XYZ"),
        ("given: {file: models.extxyz, count: 2, jons: end}", "did you mean"),
    ],
)
def test_mistakes_are_told_with_their_key(two: Path, crystals: str, said: str) -> None:
    from ase import Atoms

    (two / "half.cif").write_text(CIF % {"share": "0.5"})
    (two / "full.cif").write_text(CIF % {"share": "1.0"})
    write(two / "carbon.extxyz", bulk("C"), format="extxyz")
    write(two / "molecule.extxyz", Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]]), format="extxyz")
    with pytest.raises(CampaignFileError) as error:
        campaign_at(two, crystals)
    assert said in str(error.value)
    assert "crystals.given" in str(error.value)


def test_a_file_needs_a_campaign_file_beside_it() -> None:
    crystals = {"given": {"file": "models.extxyz", "count": 2}}
    with pytest.raises(CampaignFileError, match="beside a campaign file"):
        campaign_from_mapping({"preset": "boron-2018-prl", "crystals": crystals})


def test_what_is_too_much_for_a_campaign_is_refused(two: Path) -> None:
    large = bulk("Si", cubic=True) * (3, 3, 3)
    large.rattle(0.1)
    write(two / "models.extxyz", [large] * 300, format="extxyz")
    with pytest.raises(CampaignFileError, match="a campaign takes 2 MB"):
        campaign_at(two, "given: {file: models.extxyz, count: 300}")


@pytest.mark.parametrize("seed", ["5", "'5'", "5.0"])
def test_models_are_drawn_by_the_seed_of_the_campaign_however_it_is_written(
    tmp_path: Path, seed: str
) -> None:
    (tmp_path / "half.cif").write_text(CIF % {"share": 0.5})
    group = "half: {file: half.cif, count: 20, models: {setting: as-given}}"
    (plain,) = campaign_at(tmp_path, group + "}\nseed: 5 #").crystals.values()
    (other,) = campaign_at(tmp_path, group).crystals.values()
    campaign = campaign_at(tmp_path, f"{group}}}\nseed: {seed} #")
    assert campaign.seed == 5
    assert campaign.crystals["half"].structures == plain.structures != other.structures


@pytest.mark.parametrize(
    ("third", "x", "words"),
    [
        ("0 0 3", "nan", r"structure 1 has a coordinate .* not a finite number"),
        ("3 3 0", "1.5", r"structure 1 \(Si2\) has .*volume"),
        ("0 0 nan", "1.5", r"structure 1 has .* a cell vector that is not a finite number"),
        ("0 0 0.01", "1.5", r"structure 1 \(Si2\) has .*volume"),
    ],
)
def test_structures_that_are_no_crystals_are_refused(tmp_path: Path, third: str, x: str, words: str) -> None:
    text = '2\nLattice="3 0 0 0 3 0 {}" Properties=species:S:1:pos:R:3 pbc="T T T"\nSi 0 0 0\nSi {} 1.5 0\n'
    (tmp_path / "given.xyz").write_text(text.format("0 0 3", "1.5"))
    campaign_at(tmp_path, "q: {file: given.xyz, count: 2}")
    (tmp_path / "given.xyz").write_text(text.format(third, x))
    with pytest.raises(CampaignFileError, match=rf"crystals\.q.*{words}"):
        campaign_at(tmp_path, "q: {file: given.xyz, count: 2}")


def test_a_directory_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "given.xyz").mkdir()
    with pytest.raises(CampaignFileError, match=r"crystals\.q\.file is 'given.xyz': no .res file in"):
        campaign_at(tmp_path, "q: {file: given.xyz, count: 2}")


def test_every_structure_of_a_cif_must_have_whole_atoms(tmp_path: Path) -> None:
    full, half = CIF % {"share": "1.0"}, (CIF % {"share": "0.5"}).replace("data_half", "data_second")
    (tmp_path / "both.cif").write_text(full + half.replace(" 0.5\n", " 1.0\n"))
    assert len(crystals_of(campaign_at(tmp_path, "q: {file: both.cif, count: 2}"), "q")) == 2
    (tmp_path / "both.cif").write_text(full + half)
    with pytest.raises(CampaignFileError, match="Si2, Si3, Si4 are occupied in part"):
        campaign_at(tmp_path, "q: {file: both.cif, count: 2}")
