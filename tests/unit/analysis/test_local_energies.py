"""Local energies: they add up, follow the symmetry of the crystal, and share one scale."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from gapfactory.analysis.local_energies import LocalEnergies, common_scale, local_energies
from gapfactory.errors import EvidenceError
from gapfactory.reference.analytic import StillingerWeberSilicon


def vacancy():
    """Diamond silicon of 64 atoms without one."""
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    del atoms[0]
    return atoms


def test_shares_add_up_and_equivalent_atoms_have_equal_ones():
    atoms = vacancy()
    found = local_energies("vacancy", "SW", atoms, StillingerWeberSilicon())
    work = atoms.copy()
    work.calc = StillingerWeberSilicon()
    assert found.energies.sum() == pytest.approx(work.get_potential_energy())
    assert found.mean == pytest.approx(work.get_potential_energy() / 63)
    assert 5 < len(set(found.sites)) < 20
    for site in set(found.sites):
        assert np.ptp(found.energies[found.sites == site]) < 1e-9
    # the four neighbours of the vacancy are one site, and the least favourable
    near = [k for k in range(63) if np.linalg.norm(atoms.cell.array.T @ _nearest(atoms, k)) < 2.4]
    assert len(near) == 4
    assert len(set(found.sites[near])) == 1
    assert found.energies[near].min() == pytest.approx(found.energies.max())
    assert atoms.calc is None
    assert found.atoms.calc is None


def _nearest(atoms, k):
    scaled = atoms.get_scaled_positions()[k]
    return scaled - np.rint(scaled)


def test_turning_moving_and_renumbering_change_nothing():
    atoms = vacancy()
    plain = local_energies("x", "SW", atoms, StillingerWeberSilicon())
    order = np.random.default_rng(0).permutation(len(atoms))
    other = atoms.copy()[order]
    other.rotate(37.0, (1, 2, 3), rotate_cell=True)
    other.translate((0.3, -1.0, 5.0))
    turned = local_energies("x", "SW", other, StillingerWeberSilicon())
    np.testing.assert_allclose(turned.energies, plain.energies[order], atol=1e-9)


def test_energies_count_from_the_free_atoms():
    class WithFreeAtoms(StillingerWeberSilicon):
        e0: ClassVar = {"Si": -1.5, "C": 3.0}

    atoms = bulk("Si")
    plain = local_energies("x", "SW", atoms, StillingerWeberSilicon())
    np.testing.assert_allclose(
        local_energies("x", "SW", atoms, WithFreeAtoms()).energies, plain.energies + 1.5
    )
    row = plain.rows()[1]
    assert (row["atom"], row["element"], row["site"]) == (1, "Si", 0)
    assert row["local_energy_eV"] == pytest.approx(-4.3364, abs=1e-3)


def test_without_shares_there_is_nothing_to_draw():
    class OnlyTotal(Calculator):
        implemented_properties: ClassVar = ["energy"]

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results = {"energy": 1.0}

    class Wrong(EMT):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["energies"] = self.results["energies"] + 0.1

    with pytest.raises(EvidenceError, match="does not share"):
        local_energies("x", "total", bulk("Cu"), OnlyTotal())
    with pytest.raises(EvidenceError, match="add up to"):
        local_energies("x", "wrong", bulk("Cu"), Wrong())


def test_one_scale_holds_all_structures():
    def model(*energies):
        return LocalEnergies("x", "y", bulk("Si"), np.array(energies), np.arange(len(energies)))

    assert common_scale([model(-5.0, -4.0), model(-4.5, -3.5)]) == (-5.0, -3.5)
    assert common_scale([model(-5.0, -5.0)]) == (-5.001, -4.999)
    with pytest.raises(EvidenceError):
        common_scale([])
