"""The k-points of supercells are those of the primitive cell: real DFT on an undistorted metal says so.

Aluminium at few k-points, where the error of the k-grid is hundreds of meV/atom: it is the same in all cells, or it is
not.
"""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from gapfactory.build.nondiagonal import NondiagonalSettings, nondiagonal_cells
from gapfactory.reference import GpawSettings, label_structures, primitive_grid

AL = bulk("Al", a=4.04)
#: gives the primitive cell 4x4x4
DENSITY = 1.45
SETTINGS = GpawSettings(cutoff_eV=200.0, kpoint_density=DENSITY, smearing_width_eV=0.2)


@pytest.mark.gpaw
def test_energies_of_undistorted_supercells(tmp_path):
    grid = primitive_grid(AL, DENSITY, (4, 4, 4))
    assert grid == (4, 4, 4)
    asked = NondiagonalSettings(choice="published")
    cells = {c.size: c for c in nondiagonal_cells(AL, asked, kpoints=grid).cells}
    shortest = {c.size: c for c in nondiagonal_cells(AL, asked).cells}
    assert set(cells) == {1, 2, 4}

    def per_atom(name, atoms, settings):
        (outcome,) = label_structures([(name, atoms)], settings, tmp_path / name)
        assert outcome.label, outcome.reason
        return outcome.label.energy / len(atoms), outcome.label.stress

    crystal, stress = per_atom("crystal", AL, SETTINGS)
    for size in (2, 4):
        cell = cells[size]
        energy, its_stress = per_atom(f"same-{size}", cell.atoms(AL), SETTINGS.with_grid(cell.grid))
        # eV/atom: 0.003 meV at the most was found
        assert energy == pytest.approx(crystal, abs=1e-4)
        # eV/Å^3; 6e-4 is 0.1 GPa
        assert its_stress == pytest.approx(stress, abs=6e-4)
    by_density, _ = per_atom("density", shortest[4].atoms(AL), SETTINGS)
    assert abs(by_density - crystal) > 0.05
    assert np.abs(stress[:3] - stress[0]).max() < 1e-4
