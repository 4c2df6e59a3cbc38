"""Isolated atoms and dimers."""

from __future__ import annotations

import numpy as np
import pytest

from gapfactory.build import DimerSettings, bond_lengths, dimers, isolated_atoms
from gapfactory.elements import species
from gapfactory.errors import InputError


def test_isolated_atoms() -> None:
    atoms = isolated_atoms([species("Si"), species("O")], 12.0)
    assert [a.get_chemical_formula() for a in atoms] == ["Si", "O"]
    for a in atoms:
        assert not a.pbc.any()
        assert np.array_equal(a.cell.array, 12.0 * np.eye(3))
        assert np.array_equal(a.positions, [[6.0, 6.0, 6.0]])
    with pytest.raises(InputError, match="largest cutoff"):
        isolated_atoms([species("Si")], 0.0)


def test_dimers_cover_all_pairs_and_the_range() -> None:
    kinds = [species("Si"), species("O")]
    settings = DimerSettings()
    cutoff = 9.99
    all_dimers = dimers(kinds, settings, cutoff)
    assert len(all_dimers) == 3 * 40
    formulas = [d.get_chemical_symbols() for d in all_dimers]
    assert formulas[::40] == [["Si", "Si"], ["Si", "O"], ["O", "O"]]
    lengths = np.array([d.get_distance(0, 1) for d in all_dimers]).reshape(3, 40)
    for row, r in zip(lengths, (1.11, (1.11 + 0.66) / 2, 0.66), strict=True):
        assert row[[0, -1]] == pytest.approx([0.65 * 1.8 * r, 2.5 * 1.8 * r])
        assert np.diff(row) == pytest.approx(np.full(39, (row[-1] - row[0]) / 39))
    for dimer, bond in zip(all_dimers, lengths.ravel(), strict=True):
        assert not dimer.pbc.any()
        edges = dimer.cell.lengths()
        assert dimer.cell.angles() == pytest.approx([90] * 3)
        assert edges == pytest.approx([edges[0]] * 3)
        assert edges[0] >= cutoff + bond - 1e-9
        # the nearest periodic image is beyond the cutoff of either atom
        assert edges[0] - bond >= cutoff - 1e-9
        assert dimer.positions.mean(axis=0) == pytest.approx(edges / 2)


def test_bond_lengths_follow_the_settings() -> None:
    si = species("Si")
    settings = DimerSettings(bond_lengths=3, shortest_in_r=1.0, longest_in_r=3.0)
    assert bond_lengths(si, si, settings) == pytest.approx([1.11, 2.22, 3.33])
    with pytest.raises(ValueError, match=r"shortest_in_r = 3\.0 is not below"):
        DimerSettings(shortest_in_r=3.0, longest_in_r=2.0)
    with pytest.raises(InputError, match="largest_cutoff"):
        dimers([si], settings, -1.0)
