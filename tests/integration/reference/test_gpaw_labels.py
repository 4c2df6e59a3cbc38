"""Real density-functional theory with GPAW on one and two atoms."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import GPa

from gapfactory.reference import (
    GpawSettings,
    check_engine,
    energy_volume_reference,
    label_structures,
)
from gapfactory.search import PhaseRelaxSettings

pytestmark = pytest.mark.gpaw
pytest.importorskip("gpaw")

# few k-points and a low cutoff: the derivative is that of this very energy, converged or not
FAST = GpawSettings(cutoff_eV=200.0, kpoint_grid=(2, 2, 2), vacuum_isolated=3.0, vacuum_dimer=3.0)


def rattled_silicon():
    atoms = bulk("Si", a=5.4)
    atoms.positions[1] += [0.10, -0.05, 0.15]
    return atoms


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """One batch for all questions that need no batch of their own."""
    base = rattled_silicon()
    items = [("base", base)]
    for sign, name in ((1, "plus"), (-1, "minus")):
        moved = base.copy()
        moved.positions[1, 2] += sign * 0.01
        items.append((f"moved-{name}", moved))
        strained = base.copy()
        strained.set_cell(base.cell.array * (1 + sign * 0.002), scale_atoms=True)
        items.append((f"strained-{name}", strained))
    on_top = base.copy()
    on_top.positions[1] = on_top.positions[0] + [0.0, 0.0, 0.05]
    items.append(("on-top", on_top))
    items.append(("carbon", Atoms("C", cell=[20.0] * 3)))
    items.append(("dimer", Atoms("C2", positions=[[0, 0, 0], [0, 0, 1.9]], cell=[20.0] * 3)))
    outcomes = label_structures(items, FAST, tmp_path_factory.mktemp("gpaw"))
    return dict(items), {o.id: o for o in outcomes}


def test_force_is_the_derivative_of_the_stored_energy(labels):
    _, outcomes = labels
    derivative = -(outcomes["moved-plus"].label.energy - outcomes["moved-minus"].label.energy) / 0.02
    force = outcomes["base"].label.forces[1, 2]
    assert abs(force) > 0.5
    assert derivative == pytest.approx(force, abs=0.02)


def test_stress_is_the_derivative_of_the_stored_energy(labels):
    atoms, outcomes = labels
    label = outcomes["base"].label
    # uniform scaling by (1 + e): dE/de = V trace(stress); a fixed cutoff leaves a Pulay part of a few GPa at 200 eV
    derivative = (outcomes["strained-plus"].label.energy - outcomes["strained-minus"].label.energy) / 0.004
    pressure = -label.stress[:3].sum() / 3 / GPa
    assert -derivative / (3 * atoms["base"].get_volume()) / GPa == pytest.approx(pressure, abs=6.0)


def test_label_is_complete(labels):
    _, outcomes = labels
    label = outcomes["base"].label
    assert label.forces.shape == (2, 3)
    assert label.stress.shape == (6,)
    assert label.engine == "gpaw"
    assert label.version == check_engine(FAST).version
    assert label.details["kpoints"] == [2, 2, 2]
    assert label.details["recovery"] == "plain"
    assert len(label.details["setups_sha256"]["Si"]) == 64
    # smeared occupations: the free energy is the lower of the two
    assert label.energy <= label.details["energy_extrapolated"]
    assert np.abs(label.forces.sum(axis=0)).max() < 0.05


def test_another_process_gives_the_same_bits(labels, tmp_path):
    _, outcomes = labels
    (again,) = label_structures([("again", rattled_silicon())], FAST, tmp_path)
    assert again.label.energy == outcomes["base"].label.energy
    np.testing.assert_array_equal(again.label.forces, outcomes["base"].label.forces)
    np.testing.assert_array_equal(again.label.stress, outcomes["base"].label.stress)


def test_carbon_atom_is_a_triplet_without_stress(labels):
    _, outcomes = labels
    label = outcomes["carbon"].label
    assert label.stress is None
    assert label.details["magnetic_moment"] == pytest.approx(2.0, abs=0.01)
    assert label.details["kpoints"] == [1, 1, 1]
    np.testing.assert_allclose(label.forces, 0.0, atol=0.05)


def test_dimer_has_forces_along_its_axis_and_no_stress(labels):
    _, outcomes = labels
    label = outcomes["dimer"].label
    assert label.stress is None
    # 1.9 Å is far beyond the bond length of C2: the atoms attract each other
    assert label.forces[0, 2] > 1.0
    assert label.forces[0, 2] == pytest.approx(-label.forces[1, 2], abs=0.05)
    assert label.energy < 2 * outcomes["carbon"].label.energy


def test_atoms_inside_each_other_are_refused_at_once(labels):
    _, outcomes = labels
    # GPAW would converge to +332 eV with its mixing damped
    assert outcomes["on-top"].label is None
    assert outcomes["on-top"].attempts == 1
    assert "0.05 Å apart" in outcomes["on-top"].reason


def test_recovery_finds_the_undisturbed_label(labels, tmp_path):
    _, outcomes = labels
    # ten iterations are too few: the first recovery step has twice as many and other mixing
    hurried = FAST.model_copy(update={"max_iterations": 10})
    (outcome,) = label_structures([("base", rattled_silicon())], hurried, tmp_path)
    assert outcome.attempts > 1
    assert "KohnShamConvergenceError" in outcome.history[0]
    assert outcome.label.details["recovery"] != "plain"
    undisturbed = outcomes["base"].label
    assert outcome.label.energy == pytest.approx(undisturbed.energy, abs=1e-3)
    np.testing.assert_allclose(outcome.label.forces, undisturbed.forces, atol=5e-3)


def test_energy_volume_curve_of_diamond_and_its_resumption(tmp_path):
    settings = GpawSettings(cutoff_eV=200.0, kpoint_density=1.2)
    volumes = [18.5, 20.5, 22.5]
    relax_settings = PhaseRelaxSettings(force_threshold=0.05, cell_force_threshold=0.05)
    points = energy_volume_reference(
        bulk("Si"), volumes[:2], settings, tmp_path, relax_settings=relax_settings
    )
    seen = []
    points = energy_volume_reference(
        bulk("Si"), volumes, settings, tmp_path, relax_settings=relax_settings, on_point=seen.append
    )
    assert [p.volume_per_atom for p in points] == volumes
    assert len(seen) == 3
    energies = [p.energy_per_atom for p in points]
    assert energies[1] < min(energies[0], energies[2])
    assert {tuple(p.outcome.label.details["kpoints"]) for p in points} == {(3, 3, 3)}
    for point in points:
        assert point.atoms.get_volume() / 2 == pytest.approx(point.volume_per_atom)
        assert point.n_steps == 0
    # the last job calculated the new volume only
    jobs = sorted(tmp_path.glob("job-*.json"))
    assert len(jobs) == 2
    assert jobs[-1].read_text().count('"numbers"') == 1
