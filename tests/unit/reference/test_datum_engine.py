"""The reference engine `datum`: labels are costs, targets are phases or files that the campaign keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from pydantic import ValidationError

from gapfactory.analysis.phases import named_phase
from gapfactory.campaign import Campaign, campaign_from_mapping, load_campaign, to_yaml
from gapfactory.errors import CampaignFileError, MissingEngineError
from gapfactory.io.structure_text import text_of_crystals
from gapfactory.potentials.datum import CostSettings, DatumCalculator, DatumCost
from gapfactory.reference import (
    check_engine,
    data_hashes,
    label_structures,
    make_engine,
    parse_settings,
    settings_hash,
)
from gapfactory.reference.faults import CalculationFailedError

if TYPE_CHECKING:
    from pathlib import Path

DIAMOND = parse_settings({"engine": "datum", "targets": ["C-diamond"]})


def shaken(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=seed)
    return atoms


def test_a_label_is_the_cost_with_its_derivatives() -> None:
    atoms = shaken(bulk("C", cubic=True))
    raw = make_engine(DIAMOND).calculate(atoms)
    atoms.calc = DatumCalculator(DatumCost.from_targets([named_phase("C-diamond").atoms], CostSettings()))
    assert raw.energy == atoms.get_potential_energy() > 0.1
    assert np.array_equal(raw.forces, atoms.get_forces())
    assert np.array_equal(raw.stress, atoms.get_stress())


def test_structures_are_labelled_in_a_process_of_their_own(tmp_path: Path) -> None:
    items = [
        ("diamond", named_phase("C-diamond").atoms),
        ("shaken", shaken(bulk("C"))),
        ("atom", Atoms("C")),
        ("silicon", bulk("Si")),
    ]
    found = {o.id: o for o in label_structures(items, DIAMOND, tmp_path)}
    assert found["diamond"].label.energy == pytest.approx(0.0, abs=1e-10)
    assert found["shaken"].label.energy > 0.01
    assert found["shaken"].label.stress is not None
    assert found["atom"].label.energy > 3.0
    assert found["atom"].label.stress is None
    assert found["silicon"].label is None
    assert "atom of Si" in found["silicon"].reason


def test_species_that_no_target_has() -> None:
    assert check_engine(DIAMOND, ["C"]).engine == "datum"
    with pytest.raises(MissingEngineError, match=r"no target has O: .* C-diamond have C"):
        check_engine(DIAMOND, ["C", "O"])
    with pytest.raises(CalculationFailedError, match="atom of O"):
        make_engine(DIAMOND).calculate(bulk("MgO", "rocksalt", a=4.2))


def test_data_and_settings_tell_targets_apart() -> None:
    other = parse_settings({"engine": "datum", "targets": ["C-lonsdaleite"]})
    assert data_hashes(DIAMOND, ["C"])["C"] != data_hashes(other, ["C"])["C"]
    assert settings_hash(DIAMOND, "crystal") != settings_hash(other, "crystal")
    harder = parse_settings({"engine": "datum", "alpha": 50})
    assert settings_hash(DIAMOND, "crystal") != settings_hash(harder, "crystal")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"targets": []}, "at least 1"),
        ({"targets": ["C-diamnd"]}, "no named phase"),
        ({"structures": "2"}, "all targets are named phases"),
        ({"alpha": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_be_used(wrong: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        parse_settings({"engine": "datum", **wrong})


# ---- targets from files ----------------------------------------------------------------------------------------------

BASE = "element: C\nname: x\nreference: {engine: datum, targets: [C-diamond, mine.extxyz]}\n"


def test_the_campaign_has_the_targets_of_files_and_needs_them_no_more(tmp_path: Path) -> None:
    given = [shaken(bulk("C"), 1), shaken(bulk("C", cubic=True), 2)]
    write(tmp_path / "mine.extxyz", given, format="extxyz")
    (tmp_path / "x.yaml").write_text(BASE)
    campaign = load_campaign(tmp_path / "x.yaml")
    (tmp_path / "mine.extxyz").unlink()
    (tmp_path / "again.yaml").write_text(to_yaml(campaign.model_dump(mode="json")))
    expected = [named_phase("C-diamond").atoms, *given]
    for found in (
        campaign,
        Campaign.model_validate(campaign.model_dump(mode="json")),
        load_campaign(tmp_path / "again.yaml"),
    ):
        crystals = found.reference.crystals()
        assert [len(c) for c in crystals] == [2, 2, 8]
        for crystal, atoms in zip(crystals, expected, strict=True):
            np.testing.assert_allclose(crystal.positions, atoms.positions, atol=1e-7)
        # the two atoms of diamond, and of any other cell of two, have the same surroundings
        details = make_engine(found.reference).calculate(bulk("C")).details
        assert details == {"target_environments": 12, "distinct_environments": 10}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(BASE)
    with pytest.raises(CampaignFileError, match=r"reference\.targets has 'mine\.extxyz'"):
        load_campaign(tmp_path / "x.yaml")
    with pytest.raises(CampaignFileError, match="beside a campaign file"):
        campaign_from_mapping({"element": "C", "reference": {"engine": "datum", "targets": ["a.cif"]}})


def test_the_learned_route_is_a_campaign_of_the_chain() -> None:
    campaign = campaign_from_mapping({"preset": "datum-learned"})
    assert campaign.potential == "eddp"
    # the features that are learned from and those whose distance is learned are the same
    ours, theirs = campaign.eddp.features, campaign.reference.features
    assert ours.model_dump() == theirs.model_dump()


def test_the_derived_search_takes_either_route() -> None:
    direct = campaign_from_mapping({"preset": "datum-derived"})
    learned = campaign_from_mapping(
        {"preset": "datum-derived", "search": {"potential": {"campaign": "learned"}}}
    )
    assert direct.search.potential == "reference"
    assert learned.search.potential.campaign == "learned"
    assert learned.search.ranking == direct.search.ranking


def test_targets_without_files() -> None:
    text = text_of_crystals([bulk("C")])
    campaign = campaign_from_mapping(
        {"element": "C", "reference": {"engine": "datum", "targets": ["mine"], "structures": text}}
    )
    assert len(campaign.reference.crystals()) == 1
