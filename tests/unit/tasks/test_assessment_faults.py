"""What a potential cannot evaluate is listed by name; it ends neither the assessment nor a curve."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk

from gapfactory.analysis.energy_volume import energy_volume_curve
from gapfactory.campaign import campaign_from_mapping
from gapfactory.errors import PotentialError
from gapfactory.reference.analytic import StillingerWeberSilicon
from launchpad import assessment
from launchpad.database.dataset import Item, LabelledItem
from launchpad.database.labels import StoredLabel
from launchpad.database.packing import pack_atoms


class Refusing(StillingerWeberSilicon):
    """Refuses volumes per atom above 22 Å^3 as a fitted potential does."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if atoms.get_volume() / len(atoms) > 22.0:
            raise PotentialError("beyond what the potential knows")
        super().calculate(atoms, properties, system_changes)


def entry(number, a):
    atoms = bulk("Si", a=a)
    oracle = atoms.copy()
    oracle.calc = StillingerWeberSilicon()
    label = StoredLabel(
        id=f"label-{number}",
        status="done",
        reason="",
        kind="crystal",
        structure=pack_atoms(atoms),
        energy=float(oracle.get_potential_energy()),
        forces=oracle.get_forces(),
        stress=oracle.get_stress(),
        seconds=1.0,
    )
    return LabelledItem(Item(f"c/g000/cell/{number:06d}", atoms, f"h{number}", "test", 0, {}), label)


@pytest.fixture
def assessed(monkeypatch):
    entries = [entry(1, 5.43), entry(2, 5.9), entry(3, 5.5)]
    monkeypatch.setattr(assessment, "labelled_picks", lambda *_: entries)
    monkeypatch.setattr(assessment, "pick_items", lambda *_: [])
    monkeypatch.setattr(assessment, "with_labels", lambda *_: entries)
    monkeypatch.setattr(assessment, "noise_of_labels", lambda *_: None)
    monkeypatch.setattr(assessment, "_phase", lambda *_: {"comparison": None})
    campaign = campaign_from_mapping({"preset": "quickstart-Si-analytic"})
    return assessment.assess(SimpleNamespace(), campaign, 1, Refusing(), Refusing())


def test_refused_structures_are_listed_and_the_others_judged(assessed):
    assert assessed["held_out"] == 3
    assert assessed["unusable"] == [
        ["c/g000/cell/000002", "beyond what the potential knows"],
        ["c/g000/cell/000002", "preceding potential: beyond what the potential knows"],
    ]
    rows = [row for row in assessed["errors"] if row["quantity"] == "energy"]
    assert {row["n_structures"] for row in rows} == {2}
    assert len(assessed["scatter"]["predicted"]) == 2
    assert assessed["window"]["energy_rmse_eV"] == pytest.approx(0.0, abs=1e-12)


def test_refused_volumes_become_failed_points():
    atoms = bulk("Si", a=5.43)
    curve = energy_volume_curve(atoms, Refusing(), (0.95, 1.0, 1.05, 1.2), phase="Si-diamond")
    assert len(curve.volumes) == 3
    assert np.isfinite(curve.energies).all()
    ((volume, reason),) = curve.failures
    assert volume == pytest.approx(1.2 * atoms.get_volume() / 2)
    assert "PotentialError: beyond what the potential knows" in reason
