"""Vibrations by EDDPs and by the datum cost: our way from a calculator to frequencies against phonopy's own."""

from __future__ import annotations

import gf_eddp
import gf_phonopy
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces

from gapfactory.analysis.elasticity import ElasticSettings
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.vibrations import vibration_cells, vibrations_by
from gapfactory.potentials.datum import CostSettings, DatumCalculator, DatumCost
from gapfactory.potentials.eddp import Baseline, EddpCalculator, Ensemble

GRID = (2, 2, 2)
PHONONS = {"grid": GRID, "displacement": 0.01, "dos_mesh": (4, 4, 4), "compare_mesh": (2, 2, 2)}


def networks():
    """An ensemble of random networks: whatever its forces are, they are derivatives."""
    vector = gf_eddp.features("Si", cutoff=4.3, three_body=3)
    members = tuple(gf_eddp.network(vector, seed) for seed in range(3))
    return EddpCalculator(Ensemble(members, (0.5, 0.3, 0.2), Baseline(0.0, 1.0)))


def cost():
    """The cost of diamond, of a crystal that is none: of diamond itself many modes have no frequency."""
    chosen = CostSettings.model_validate({"features": {"cutoff": 4.3, "two_body": 6, "three_body": 3}})
    return DatumCalculator(DatumCost.from_targets([bulk("Si", a=5.43)], chosen))


def wurtzite():
    """Four atoms, with bonds that are not all equal."""
    crystal = bulk("SiSi", "wurtzite", a=3.84, c=6.4, u=0.37)
    crystal.set_masses([20.0, 28.0, 20.0, 28.0])
    return crystal


@pytest.mark.parametrize("supercells", ["diagonal", "non-diagonal"])
@pytest.mark.parametrize("make", [networks, cost])
def test_frequencies_are_phonopys(make, supercells) -> None:
    crystal, calculator = bulk("Si", a=5.5), make()
    planned = vibration_cells(
        crystal, PhononSettings(**PHONONS, supercells=supercells), ElasticSettings(internal="clamped")
    )
    found = vibrations_by(calculator, planned, method="ours", relax=None).phonons
    vectors = np.concatenate([found.mesh_vectors, found.path.wave_vectors[::7]])
    ours = np.concatenate([found.mesh_frequencies, found.bands[::7]])
    theirs = gf_phonopy.frequencies(planned.crystal, calculator, GRID, vectors, displacement=0.01)
    assert np.abs(theirs).max() > 1.0
    # force constants of small cells are fitted; one displacement has other cubic terms in each supercell
    np.testing.assert_allclose(ours, theirs, atol=1e-4 if supercells == "diagonal" else 0.05)


@pytest.mark.parametrize("make", [networks, cost])
def test_a_crystal_of_several_orbits_and_masses(make) -> None:
    crystal, calculator = wurtzite(), make()
    planned = vibration_cells(
        crystal, PhononSettings(**PHONONS, supercells="diagonal"), ElasticSettings(internal="clamped")
    )
    assert len(planned.crystal) == 4
    found = vibrations_by(calculator, planned, method="ours", relax=None).phonons
    theirs = gf_phonopy.frequencies(planned.crystal, calculator, GRID, found.mesh_vectors, displacement=0.01)
    assert np.abs(theirs).max() > 1.0
    np.testing.assert_allclose(found.mesh_frequencies, theirs, atol=1e-4)
    shaken = crystal.copy()
    shaken.rattle(0.1, seed=4)
    shaken.calc = calculator
    np.testing.assert_allclose(shaken.get_forces(), calculate_numerical_forces(shaken, eps=1e-4), atol=2e-5)
