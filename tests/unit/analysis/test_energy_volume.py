"""Equations of state recover what they were made from, and curves keep volume and symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.eos import EquationOfState as AseEquationOfState
from hypothesis import given, settings
from hypothesis import strategies as st

from gapfactory.analysis.energy_volume import (
    EnergyVolumeCurve,
    EnergyVolumeSettings,
    compare_phase,
    energy_volume_curve,
    fit_equation_of_state,
    next_volumes,
)
from gapfactory.errors import EvidenceError
from gapfactory.search import PhaseRelaxSettings

TIGHT = EnergyVolumeSettings(
    relax=PhaseRelaxSettings(force_threshold=0.001, cell_force_threshold=0.0005), extra_volumes=0
)


def birch_murnaghan(volumes, v0, e0, b0, b1):
    eta = (v0 / np.asarray(volumes)) ** (2.0 / 3.0)
    return e0 + 9 * v0 * b0 / 16 * ((eta - 1) ** 3 * b1 + (eta - 1) ** 2 * (6 - 4 * eta))


def make(v0=20.0, e0=-5.4, b0=0.6, b1=4.3, phase="Si-diamond", method="potential", low=0.9, high=1.1, n=7):
    volumes = v0 * np.linspace(low, high, n)
    return EnergyVolumeCurve(phase, method, volumes, birch_murnaghan(volumes, v0, e0, b0, b1))


@settings(max_examples=60, deadline=None)
@given(
    v0=st.floats(5, 60),
    e0=st.floats(-1000, 10),
    b0=st.floats(0.05, 3.0),
    b1=st.floats(2.5, 6.0),
    shift=st.floats(-0.05, 0.05),
)
def test_recovers_the_parameters(v0, e0, b0, b1, shift):
    eos = fit_equation_of_state(make(v0, e0, b0, b1, low=0.9 + shift, high=1.1 + shift))
    assert eos.volume == pytest.approx(v0, rel=1e-5)
    assert eos.energy == pytest.approx(e0, abs=1e-7)
    assert eos.bulk_modulus == pytest.approx(b0, rel=1e-3)
    assert eos.bulk_modulus_derivative == pytest.approx(b1, rel=2e-2)
    assert eos.residual < 1e-7


def test_agrees_with_ase_on_noisy_data():
    rng = np.random.default_rng(0)
    curve = make(n=9)
    noisy = EnergyVolumeCurve("x", "y", curve.volumes, curve.energies + rng.normal(size=9) * 1e-3)
    ours = fit_equation_of_state(noisy)
    v0, e0, b0 = AseEquationOfState(noisy.volumes, noisy.energies, eos="birchmurnaghan").fit(warn=False)
    assert ours.volume == pytest.approx(v0, rel=1e-4)
    assert ours.energy == pytest.approx(e0, abs=1e-5)
    assert ours.bulk_modulus == pytest.approx(b0, rel=1e-2)
    assert ours.bulk_modulus_GPa == pytest.approx(ours.bulk_modulus * 160.21766)
    np.testing.assert_allclose(ours.energies([v0]), [e0], atol=1e-5)


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (make(low=1.02, high=1.2), "smaller volumes"),
        (make(low=0.8, high=0.98), "larger volumes"),
        (make(n=4), "at least 5"),
        (
            EnergyVolumeCurve("Si-diamond", "potential", np.empty(0), np.empty(0), ((20.0, "exploded"),)),
            "1 volumes failed",
        ),
    ],
)
def test_unusable_curves_say_why(curve, words):
    with pytest.raises(EvidenceError, match=words):
        fit_equation_of_state(curve)


def test_noise_that_hides_the_minimum_is_noticed():
    volumes = np.linspace(18, 22, 5)
    with pytest.raises(EvidenceError, match=r"noisy|bracketed"):
        fit_equation_of_state(
            EnergyVolumeCurve("x", "y", volumes, np.array([0.0, 0.2, -0.001, 0.2, -0.0005]))
        )


def test_curves_are_sorted_and_checked():
    curve = EnergyVolumeCurve("x", "y", np.array([2.0, 1.0]), np.array([5.0, 4.0]))
    np.testing.assert_array_equal(curve.volumes, [1.0, 2.0])
    np.testing.assert_array_equal(curve.energies, [4.0, 5.0])
    with pytest.raises(EvidenceError, match="do not pair up"):
        EnergyVolumeCurve("x", "y", np.ones(2), np.ones(3))
    with pytest.raises(EvidenceError, match="NaN"):
        EnergyVolumeCurve("x", "y", np.ones(2), np.array([1.0, np.nan]))


def test_comparison_and_its_verdict():
    reference = make(v0=20.0, e0=-5.400, method="reference")
    close = compare_phase(make(v0=20.4, e0=-5.390), reference)
    assert close.passes
    assert close.energy_error == pytest.approx(0.010, abs=1e-6)
    assert close.volume_error == pytest.approx(2.0, abs=1e-3)
    text = close.sentence(label_noise=0.004)
    assert "Si-diamond passes" in text
    assert "10.0 meV/atom above" in text
    assert "label noise 4.0 meV/atom" in text
    assert not compare_phase(make(v0=20.4, e0=-5.379), reference).passes
    assert not compare_phase(make(v0=19.3, e0=-5.400), reference).passes
    strict = EnergyVolumeSettings(energy_tolerance_meV=5)
    assert "fails" in compare_phase(make(v0=20.4, e0=-5.39), reference, strict).sentence()
    exact = compare_phase(make(method="potential"), make(method="reference"))
    assert exact.drawn_energy_error() == 0.001
    with pytest.raises(EvidenceError, match="different phases"):
        compare_phase(make(phase="other"), reference)


def test_curve_by_a_calculator_against_ase_by_hand():
    """For a cubic crystal nothing relaxes: the curve is the plain energy of the scaled cell."""
    copper = bulk("Cu", "fcc", a=3.6)
    curve = energy_volume_curve(copper, EMT(), [1.05, 0.95, 1.0], phase="Cu-fcc")
    for volume, energy in zip(curve.volumes, curve.energies, strict=True):
        atoms = bulk("Cu", "fcc", a=(4 * volume) ** (1 / 3))
        atoms.calc = EMT()
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    assert curve.failures == ()
    assert copper.calc is None


def test_the_shape_is_relaxed_at_each_volume():
    wrong = bulk("Cu", "hcp", a=2.5, c=4.6)  # c/a too large
    curve = energy_volume_curve(wrong, EMT(), [0.98, 1.0, 1.02], phase="Cu-hcp", settings=TIGHT)
    unrelaxed = wrong.copy()
    unrelaxed.calc = EMT()
    middle = int(np.argmin(np.abs(curve.volumes - wrong.get_volume() / 2)))
    assert curve.energies[middle] < unrelaxed.get_potential_energy() / 2 - 1e-3


class Broken(Calculator):
    """Fails below a volume, and gives NaN above another."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        volume = atoms.get_volume()
        if volume < 11.0:
            raise RuntimeError("exploded")
        energy = np.nan if volume > 13.0 else (volume - 12.0) ** 2
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def test_failing_volumes_are_recorded_and_the_others_stand():
    atoms = bulk("Cu", "fcc", a=48 ** (1 / 3))
    curve = energy_volume_curve(atoms, Broken(), [0.9, 0.95, 1.0, 1.05, 1.1], phase="Cu-fcc")
    assert len(curve.volumes) == 3
    assert [round(v, 1) for v, _ in curve.failures] == [10.8, 13.2]
    assert "exploded" in curve.failures[0][1]
    assert "not finite" in curve.failures[1][1]


def test_an_unconverged_relaxation_is_a_failed_point():
    settings_ = EnergyVolumeSettings(relax=PhaseRelaxSettings(max_steps=1), extra_volumes=0)
    curve = energy_volume_curve(bulk("Cu", "hcp", a=2.5, c=4.6), EMT(), [1.0], phase="x", settings=settings_)
    assert len(curve.volumes) == 0
    assert "not relaxed" in curve.failures[0][1]


def test_points_far_from_the_minimum_do_not_bend_the_fit():
    volumes = 20.0 * np.array([0.7, 0.8, 0.9, 0.94, 0.97, 1.0, 1.03, 1.06, 1.1, 1.3])
    energies = birch_murnaghan(volumes, 20.0, -5.0, 0.6, 4.3)
    energies[[0, 1, 9]] += [3.0, 0.5, 1.0]
    eos = fit_equation_of_state(EnergyVolumeCurve("x", "y", volumes, energies))
    assert eos.volume == pytest.approx(20.0, rel=1e-4)
    assert eos.residual < 1e-6


def test_curves_are_extended_until_the_minimum_is_inside():
    """Copper started 20 % too large in volume: volumes are added at the lower end only."""
    atoms = bulk("Cu", "fcc", a=3.6 * 1.2 ** (1 / 3))
    curve = energy_volume_curve(atoms, EMT(), phase="Cu-fcc")
    first = EnergyVolumeSettings().volume_factors
    assert len(curve.volumes) > len(first)
    assert curve.volumes[-1] == pytest.approx(max(first) * atoms.get_volume())
    eos = fit_equation_of_state(curve)
    right = fit_equation_of_state(energy_volume_curve(bulk("Cu", "fcc", a=3.6), EMT(), phase="Cu-fcc"))
    assert eos.volume == pytest.approx(right.volume, rel=2e-3)
    assert eos.energy == pytest.approx(right.energy, abs=2e-3)


def test_extension_has_an_end():
    settings_ = EnergyVolumeSettings(extra_volumes=2)
    volumes = 20.0 * np.array(settings_.volume_factors)
    falling = EnergyVolumeCurve("x", "y", volumes, -volumes)
    (added,) = next_volumes(falling, settings_)
    assert added == pytest.approx(volumes[-1] ** 2 / volumes[-2])
    (added,) = next_volumes(EnergyVolumeCurve("x", "y", volumes, volumes), settings_)
    assert added == pytest.approx(volumes[0] ** 2 / volumes[1])
    spent = np.append(volumes, [24.0, 25.0])
    assert next_volumes(EnergyVolumeCurve("x", "y", spent, -spent), settings_) == []
    # a failure beyond the end says that there is nothing more to be had there
    assert (
        next_volumes(EnergyVolumeCurve("x", "y", volumes, -volumes, ((24.0, "exploded"),)), settings_) == []
    )
    inside = EnergyVolumeCurve("x", "y", volumes, (volumes - 20.0) ** 2)
    assert next_volumes(inside, settings_) == []


def test_a_structure_that_becomes_another_phase_is_noticed():
    """Tetragonal copper with its symmetry kept slides into fcc at constant volume (c/a -> sqrt 2)."""
    from ase import Atoms

    a = (2 * 11.6 / 1.3) ** (1 / 3)
    tetragonal = Atoms("Cu2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[a, a, 1.3 * a], pbc=True)
    curve = energy_volume_curve(tetragonal, EMT(), [1.0], phase="Cu-bct", settings=TIGHT)
    assert len(curve.volumes) == 0
    assert "139 became 225" in curve.failures[0][1]
