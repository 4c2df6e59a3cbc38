"""Labelled silicon cells for the benchmarks of fits: strained, rattled, labelled by Stillinger-Weber."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk

from gapfactory.potentials.gap import LabelledStructure
from gapfactory.reference.analytic import StillingerWeberSilicon

REPEATS = {8: (2, 2, 1), 10: (5, 1, 1), 12: (3, 2, 1), 14: (7, 1, 1), 16: (2, 2, 2)}


def cell(rng: np.random.Generator, atoms: int) -> Atoms:
    """Return a diamond supercell far from its symmetry: volume 0.8 to 1.25, strain, rattle up to 0.4 A."""
    made = bulk("Si") * REPEATS[atoms]
    strain = np.eye(3) * rng.uniform(0.8, 1.25) ** (1 / 3) + 0.06 * rng.normal(size=(3, 3))
    made.set_cell(made.cell.array @ strain, scale_atoms=True)
    made.positions += rng.uniform(0.05, 0.4) * rng.normal(size=made.positions.shape) / 3**0.5
    return made


def labelled(n: int, sizes: tuple[int, ...], seed: int) -> list[LabelledStructure]:
    """Return an isolated atom and `n` cells of the given sizes in turn."""
    rng = np.random.default_rng(seed)
    calculator = StillingerWeberSilicon()
    data = [LabelledStructure("isolated", Atoms("Si"), 0.0, None, None, "isolated")]
    for k in range(n):
        atoms = cell(rng, sizes[k % len(sizes)])
        atoms.calc = calculator
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        data.append(LabelledStructure(f"cell-{k:05d}", atoms.copy(), energy, forces, stress))
    return data
