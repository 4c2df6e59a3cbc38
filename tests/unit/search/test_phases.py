"""Relaxation of named phases: symmetry kept, volume kept, known minima found."""

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk

from gapfactory.errors import RelaxationError
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon
from gapfactory.search import PhaseRelaxSettings, relax_at_fixed_volume, relax_phase


def beta_tin(a=4.9, ratio=0.55):
    return Atoms("Si2", scaled_positions=[[0, 0, 0], [0.75, 0.25, 0.5]], cell=_bct(a, a * ratio), pbc=True)


def _bct(a, c):
    return [[-a / 2, a / 2, c / 2], [a / 2, -a / 2, c / 2], [a / 2, a / 2, -c / 2]]


def test_diamond_needs_one_evaluation_at_fixed_volume():
    path = relax_at_fixed_volume(
        bulk("Si"), StillingerWeberSilicon(), volume_per_atom=20.0, settings=PhaseRelaxSettings()
    )
    assert (path.status, path.n_evaluations, path.n_steps) == ("converged", 1, 0)
    assert path.frame(-1).get_volume() / 2 == pytest.approx(20.0, rel=1e-12)


def test_diamond_lattice_constant_and_cohesive_energy():
    path = relax_phase(bulk("Si", a=5.6), StillingerWeberSilicon(), settings=PhaseRelaxSettings())
    assert path.status == "converged"
    assert (path.frame(-1).get_volume() * 4) ** (1 / 3) == pytest.approx(5.431, abs=5e-3)
    # Stillinger and Weber: exactly -2 epsilon per atom
    assert path.energies[-1] / 2 == pytest.approx(-2 * 2.16826, abs=2e-4)


def test_beta_tin_shape_relaxes_at_fixed_volume_and_keeps_its_space_group():
    start = beta_tin()
    number = spglib.get_spacegroup((start.cell.array, start.get_scaled_positions(), start.numbers))
    assert "I4_1/amd" in number
    settings = PhaseRelaxSettings(force_threshold=1e-4, cell_force_threshold=1e-4)
    path = relax_at_fixed_volume(start, StillingerWeberSilicon(), volume_per_atom=15.0, settings=settings)
    last = path.frame(-1)
    assert path.status == "converged"
    assert last.get_volume() == pytest.approx(30.0, rel=1e-10)
    found = spglib.get_spacegroup((last.cell.array, last.get_scaled_positions(), last.numbers))
    assert found == number
    # independent: scan c/a at the same volume
    energies = []
    for ratio in np.linspace(0.40, 0.70, 61):
        a = (4 * 15.0 / ratio) ** (1 / 3)
        trial = beta_tin(a, ratio)
        assert trial.get_volume() == pytest.approx(30.0)
        trial.calc = StillingerWeberSilicon()
        energies.append(trial.get_potential_energy())
    assert path.energies[-1] <= min(energies) + 1e-4
    assert path.energies[-1] == pytest.approx(min(energies), abs=2e-3)


def test_hexagonal_titanium_relaxes_both_axes():
    settings = PhaseRelaxSettings(force_threshold=1e-4, cell_force_threshold=1e-4)
    path = relax_phase(bulk("Ti", a=3.1, c=4.6), SecondMomentTitanium(), settings=settings)
    last = path.frame(-1)
    assert path.status == "converged"
    last.calc = SecondMomentTitanium()
    np.testing.assert_allclose(last.get_stress(), 0.0, atol=1e-5)
    assert "P6_3/mmc" in spglib.get_spacegroup((last.cell.array, last.get_scaled_positions(), last.numbers))


def test_volume_must_be_positive():
    with pytest.raises(RelaxationError, match="not positive"):
        relax_at_fixed_volume(
            bulk("Si"), StillingerWeberSilicon(), volume_per_atom=0.0, settings=PhaseRelaxSettings()
        )
