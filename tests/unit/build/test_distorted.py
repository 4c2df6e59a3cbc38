"""Distorted crystals: sizes as the settings say, nothing too near, one structure for each stream."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy import constants

from gapfactory.analysis.matching import same_structure
from gapfactory.analysis.phases import named_phase
from gapfactory.build.distorted import DistortedSettings, distorted_crystal
from gapfactory.errors import BuildError, InputError
from gapfactory.seeds import Stage, stream

ALPHA = named_phase("B-alpha-B12").atoms


def many(n: int, settings: DistortedSettings | None = None):
    return [distorted_crystal(ALPHA, stream(1, 0, Stage.CELL, i), settings) for i in range(n)]


def test_sizes_are_those_of_the_settings():
    found = many(300)
    volumes = np.array([f.atoms.get_volume() for f in found]) / ALPHA.get_volume()
    assert volumes == pytest.approx([f.volume_factor for f in found])
    assert 0.85 <= volumes.min() < 0.87
    assert 1.13 < volumes.max() <= 1.15
    strains = np.array([f.strain for f in found])
    assert np.abs(np.trace(strains, axis1=1, axis2=2)).max() < 1e-12
    assert np.abs(strains - strains.transpose(0, 2, 1)).max() == 0
    assert 0.028 < np.abs(strains[:, 0, 1]).max() <= 0.03
    # root mean square over three coordinates, one atom's worth of freedom gone with the centre
    expected = 0.05 * np.sqrt(3 * 11 / 12)
    assert np.sqrt(np.mean([f.displacement**2 for f in found])) == pytest.approx(expected, rel=0.03)


def test_cell_and_positions_are_what_is_said():
    """The crystal is recovered from the strain; what is left are the displacements."""
    for found in many(20):
        deformation = np.eye(3) + found.strain
        deformation *= (found.volume_factor / np.linalg.det(deformation)) ** (1 / 3)
        assert found.atoms.cell.array == pytest.approx(ALPHA.cell.array @ deformation)
        moves = found.atoms.positions - ALPHA.positions @ deformation
        assert np.abs(moves.mean(axis=0)).max() < 1e-12
        assert np.sqrt((moves**2).sum(axis=1).mean()) == pytest.approx(found.displacement)


def test_strain_that_does_not_keep_the_volume():
    settings = DistortedSettings(volume_low=0.95, volume_high=1.05, strain=0.02, keep_volume=False)
    traces = []
    for i in range(20):
        found = distorted_crystal(ALPHA, stream(1, 0, Stage.CRYSTAL, i), settings)
        assert found.atoms.get_volume() / ALPHA.get_volume() == pytest.approx(found.volume_factor)
        factor = found.volume_factor / np.linalg.det(np.eye(3) + found.strain)
        assert 0.95 <= factor <= 1.05
        traces.append(np.trace(found.strain))
    assert np.std(traces) > 0.01


def test_the_seed_fixes_each_structure():
    first, second = many(3), many(3)
    for a, b in zip(first, second, strict=True):
        assert a.atoms == b.atoms
    assert first[0].atoms != first[1].atoms
    assert named_phase("B-alpha-B12").atoms == ALPHA


def test_scaling_alone_keeps_the_crystal():
    only_volume = DistortedSettings(strain=0, displacement=0)
    for found in many(5, only_volume):
        assert found.atoms.get_scaled_positions() == pytest.approx(ALPHA.get_scaled_positions(), abs=1e-9)
        assert same_structure(ALPHA, found.atoms)


def test_the_default_displacement_is_the_zero_point_motion_of_boron():
    """Debye model at 0 K: <u^2> of one coordinate = 3 hbar^2 / (4 m k theta), theta = 1300 K."""
    mass = 10.81 * constants.atomic_mass
    u2 = 3 * constants.hbar**2 / (4 * mass * constants.k * 1300)
    assert np.sqrt(u2) * 1e10 == pytest.approx(DistortedSettings().displacement, rel=0.05)


def test_atoms_are_never_too_near():
    rough = DistortedSettings(displacement=0.25, strain=0, volume_low=1, volume_high=1)
    shortest = ALPHA.get_all_distances(mic=True)[np.triu_indices(12, 1)].min()
    for found in many(20, rough):
        distances = found.atoms.get_all_distances(mic=True)[np.triu_indices(12, 1)]
        assert distances.min() >= 0.8 * shortest - 1e-9
    with pytest.raises(BuildError, match="lower displacement or strain"):
        many(1, DistortedSettings(displacement=1.0, tries=5))


def test_a_single_atom_is_strained_only():
    found = distorted_crystal(bulk("Cu"), np.random.default_rng(0))
    assert found.displacement == 0
    assert np.abs(found.strain).max() > 0


def test_what_cannot_be_distorted():
    with pytest.raises(InputError, match="not periodic"):
        distorted_crystal(molecule("H2O"), np.random.default_rng(0))
    with pytest.raises(ValueError, match="above volume_high"):
        DistortedSettings(volume_low=1.2)
