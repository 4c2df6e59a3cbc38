"""The similarity map against dense formulas and known crystals."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.analysis.phases import named_phases
from gapfactory.analysis.similarity_map import (
    MapSettings,
    coordination_number,
    kernel_pca,
    rescale_to_unit_bond,
    shortest_bond,
    similarity_map,
)
from gapfactory.errors import EvidenceError


def test_kernel_pca_of_a_linear_kernel_is_pca():
    """With k = x.y the components are those of the singular value decomposition of the centred data."""
    x = np.random.default_rng(0).normal(size=(30, 6)) * [5, 3, 1, 0.5, 0.2, 0.1]
    coordinates, explained = kernel_pca(x @ x.T)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(coordinates), np.abs(u[:, :2] * s[:2]), atol=1e-8)
    np.testing.assert_allclose(explained, s[:2] ** 2 / np.sum(s**2), atol=1e-10)


def test_kernel_pca_against_the_explicit_centring_matrix():
    """Schoelkopf's formula with H = 1 - 1/n, on a kernel that is not linear; distances are what must
    agree."""
    x = np.random.default_rng(1).normal(size=(12, 3))
    kernel = np.exp(-0.5 * np.sum((x[:, None] - x[None]) ** 2, axis=-1))
    h = np.eye(12) - np.full((12, 12), 1 / 12)
    centred = h @ kernel @ h
    coordinates, _ = kernel_pca(kernel, n_components=11)
    np.testing.assert_allclose(coordinates @ coordinates.T, centred, atol=1e-10)


def test_kernel_pca_signs_are_fixed_and_rows_may_be_reordered():
    x = np.random.default_rng(2).normal(size=(9, 4))
    one, _ = kernel_pca(x @ x.T)
    order = np.random.default_rng(3).permutation(9)
    two, _ = kernel_pca((x @ x.T)[np.ix_(order, order)])
    np.testing.assert_allclose(one[order], two, atol=1e-9)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (np.ones((3, 2)), "square"),
        (np.triu(np.ones((4, 4))), "symmetric"),
        (np.eye(2), "too few"),
        (np.ones((5, 5)), "identical"),
    ],
)
def test_bad_kernels(kernel, words):
    with pytest.raises(EvidenceError, match=words):
        kernel_pca(kernel)


def test_shortest_bond_sees_images():
    assert shortest_bond(bulk("Cu", "fcc", a=3.6)) == pytest.approx(3.6 / np.sqrt(2))
    assert shortest_bond(Atoms("Si", cell=[7.0, 9.0, 9.0], pbc=True)) == pytest.approx(7.0)
    assert shortest_bond(Atoms("Si2", [[0, 0, 0], [0, 0, 9.0]], pbc=False)) == pytest.approx(9.0)
    with pytest.raises(EvidenceError, match="vacuum"):
        shortest_bond(Atoms("Si"))


def test_coordination_of_known_crystals():
    expected = {
        "C-diamond": 4,
        "C-graphite": 3,
        "Si-diamond": 4,
        "Si-beta-tin": 6,
        "Ti-hcp": 12,
        "Ti-bcc": 14,
    }
    for element in ("C", "Si", "Ti"):
        for phase in named_phases(element):
            if phase.name in expected:
                assert coordination_number(phase.atoms) == expected[phase.name], phase.name


def test_rescaling_makes_the_shortest_bond_one_and_forgets_species():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    scaled = rescale_to_unit_bond(atoms)
    assert shortest_bond(scaled) == pytest.approx(1.0)
    assert len(set(scaled.numbers)) == 1
    assert atoms.cell.lengths()[0] == pytest.approx(5.6 / np.sqrt(2))


def test_diamonds_of_carbon_and_silicon_fall_on_one_point():
    """The paper says so: with normalised bonds, diamond carbon and diamond silicon are the same structure."""
    small = MapSettings(n_max=8, l_max=6)
    groups = {e: [p.atoms for p in named_phases(e)] for e in ("C", "Si", "Ti")}
    result = similarity_map(groups, small)
    assert result.groups == ("C",) * 3 + ("Si",) * 3 + ("Ti",) * 3
    assert result.coordinates.shape == (9, 2)
    names = [p.name for e in groups for p in named_phases(e)]
    where = dict(zip(names, result.coordinates, strict=True))
    spread = np.linalg.norm(np.ptp(result.coordinates, axis=0))
    assert np.linalg.norm(where["C-diamond"] - where["Si-diamond"]) < 1e-3 * spread
    assert np.linalg.norm(where["C-graphite"] - where["Ti-hcp"]) > 0.3 * spread
    assert (result.explained > 0).all()
    assert result.explained.sum() <= 1


def test_too_few_structures():
    with pytest.raises(EvidenceError, match="at least 3"):
        similarity_map({"Si": [bulk("Si")]})
