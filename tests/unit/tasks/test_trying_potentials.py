"""What a campaign's potential is tried on, what is kept of it, and when it is tried at all."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.analysis.energy_volume import EnergyVolumeCurve
from gapfactory.analysis.stability import stability_from_dict
from gapfactory.campaign import campaign_from_mapping
from gapfactory.reference.analytic import StillingerWeberSilicon
from launchpad import stability
from launchpad.database.dataset import Item, LabelledItem
from launchpad.database.packing import unpack_atoms

QUICK = {"duration_ps": 0.03, "nve_ps": 0.0, "n_atoms": 8, "contacts_to": 0.6}
CAMPAIGN = campaign_from_mapping({"preset": "quickstart-Si-analytic", "evidence": {"stability": QUICK}})
DATABASE = SimpleNamespace()


def labelled(key, atoms, energy, role="train", status="done"):
    label = None if energy is None else SimpleNamespace(energy=energy, status=status)
    return LabelledItem(Item(key, atoms, key, role, 0, {}), label)


def dimer(length, energy, **more):
    atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, length]], cell=[15.0] * 3)
    return labelled(f"d{length}", atoms, energy, "dimer", **more)


@pytest.fixture
def known(monkeypatch):
    """Set what the campaign knows: labelled picks, dimers, and the lowest energy of the phase (None: no curve)."""

    def make(picks=(), dimers=(), phase=None):
        curve = None
        if phase is not None:
            curve = EnergyVolumeCurve(
                "Si-diamond", "reference", np.array([19.0, 20.0]), np.array([phase + 0.1, phase])
            )
        monkeypatch.setattr(stability, "labelled_picks", lambda *_: list(picks))
        monkeypatch.setattr(stability, "atom_items", lambda *_: [])
        monkeypatch.setattr(stability, "with_labels", lambda *_: list(dimers))
        monkeypatch.setattr(stability, "reference_curve", lambda *_: curve)

    return make


PICKS = [labelled("high", bulk("Si"), 2 * -4.0), labelled("low", bulk("Si", cubic=True), 8 * -4.33)]


@pytest.mark.parametrize(
    ("phase", "name", "energy", "is_phase"),
    [
        (-4.336, "Si-diamond", -4.336, True),
        # as good as the same: the phase stands for it
        (-4.327, "Si-diamond", -4.33, True),
        (-4.2, "structure low", -4.33, False),
        (None, "structure low", -4.33, False),
    ],
)
def test_the_most_stable_structure_by_the_reference_is_taken(known, phase, name, energy, is_phase):
    known(PICKS, phase=phase)
    found = stability.most_stable(DATABASE, CAMPAIGN, 1)
    assert found[1:] == (name, pytest.approx(energy), is_phase)
    assert len(found[0]) == (2 if is_phase else 8)


def test_everything_is_kept_as_plain_data(known):
    known(
        PICKS,
        [dimer(2.1, -2.0), dimer(2.4, -2.2), dimer(3.0, -1.0), dimer(1.8, -9.0, status="failed")],
        -4.336,
    )
    said = []
    found = stability.measure_stability(
        DATABASE, CAMPAIGN, 1, StillingerWeberSilicon(), np.random.default_rng(1), said.append
    )
    assert found["headline"] == "survives 0.03 ps at 1350 K, and close contacts"
    assert said
    back = stability_from_dict(found)
    assert back.survives
    # the lowest labelled dimer is 2.4 Å long, more than the radii say
    assert back.contacts[0].equilibrium == pytest.approx(2.22)
    assert len(found["frames"]) >= 1
    for frame in found["frames"]:
        atoms = unpack_atoms(frame["atoms"])
        assert len(atoms) == back.dynamics.n_atoms
        assert 0 <= frame["time_ps"] <= 0.03


def test_a_campaign_without_any_crystal_is_a_result_too(known):
    known()
    found = stability.measure_stability(
        DATABASE, CAMPAIGN, 1, StillingerWeberSilicon(), np.random.default_rng(1)
    )
    assert found["headline"].startswith(
        "was not tried: campaign 'si-quickstart-Si-analytic' has no labelled crystal"
    )
    assert not stability_from_dict(found).survives


@pytest.mark.parametrize(
    ("settings", "decision", "wanted"),
    [
        ({}, "stop", True),
        ({}, "continue", False),
        ({"when": "every"}, "continue", True),
        ({"when": "every", "enabled": False}, "stop", False),
    ],
)
def test_when_a_potential_is_tried(settings, decision, wanted):
    campaign = campaign_from_mapping(
        {"preset": "quickstart-Si-analytic", "evidence": {"stability": settings}}
    )
    assert stability.stability_wanted(campaign, decision) is wanted


def test_the_newest_trial_is_the_one_that_is_reported():
    plain = {
        "crystal": "x",
        "temperature_K": 1.0,
        "melting_point_K": 1.0,
        "note": "",
        "dynamics": None,
        "contacts": [],
    }
    metrics = [
        {"generation": 0, "evidence": {"stability": plain | {"problem": "first"}}},
        {"generation": 1, "evidence": {"stability": plain | {"problem": "second"}}},
        {"generation": 2, "evidence": {}},
    ]
    found, generation = stability.stored_stability(metrics)
    assert (found.problem, generation) == ("second", 1)
    # assessments of earlier versions have none
    assert stability.stored_stability(metrics[2:]) == (None, None)
