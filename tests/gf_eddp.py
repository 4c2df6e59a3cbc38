"""Random networks and labelled silicon cells for the tests of EDDPs."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk

from gapfactory.potentials.eddp import Features, Network
from gapfactory.potentials.eddp.network import count_weights
from gapfactory.potentials.eddp.settings import FeatureSettings
from gapfactory.potentials.gap.data import LabelledStructure
from gapfactory.reference.analytic import StillingerWeberSilicon


def features(*symbols: str, **more: float) -> Features:
    return Features.from_settings(FeatureSettings(**more), symbols)


def network(vector: Features, seed: int, hidden: tuple[int, ...] = (4, 3)) -> Network:
    """Return a network with random weights; inputs of the size that crystals give."""
    rng = np.random.default_rng(seed)
    sizes = (vector.length, *hidden, 1)
    return Network(
        vector,
        sizes,
        0.4 * rng.normal(size=count_weights(sizes)),
        rng.uniform(0.0, 2.0, vector.length),
        rng.uniform(1.0, 3.0, vector.length),
        -4.5 + 0.1 * seed,
        0.3,
    )


def skewed(*symbols: str, seed: int = 3) -> Atoms:
    """Return six shaken atoms in a skew cell, smaller than the cutoff in two directions."""
    atoms = Atoms(
        [symbols[k % len(symbols)] for k in range(6)],
        scaled_positions=[
            (0, 0, 0),
            (0.5, 0.5, 0),
            (0.5, 0, 0.5),
            (0, 0.5, 0.5),
            (0.5, 0.5, 0.5),
            (0, 0, 0.5),
        ],
        cell=[[3.9, 0, 0], [1, 4.5, 0], [-1, 0.5, 5]],
        pbc=True,
    )
    atoms.rattle(0.15, rng=np.random.default_rng(seed))
    return atoms


def silicon(parents: int, copies: int) -> tuple[list[LabelledStructure], dict[str, str]]:
    """Return distorted silicon crystals labelled by Stillinger and Weber's potential, and what each is a copy of."""
    rng = np.random.default_rng(11)
    crystals = [
        bulk("Si"),
        bulk("Si", "sc", a=2.6) * (2, 1, 1),
        bulk("Si", "bcc", a=3.2, cubic=True),
        bulk("Si", "fcc", a=4.0, cubic=True),
    ]
    data, parent_of = [], {}
    for number in range(parents):
        parent = crystals[number % 4].copy()
        parent.set_cell(parent.cell.array @ (np.eye(3) + rng.uniform(-0.08, 0.08, (3, 3))), scale_atoms=True)
        parent.positions += rng.uniform(-0.15, 0.15, parent.positions.shape)
        for copy in range(copies):
            atoms = parent.copy()
            if copy:
                atoms.positions += rng.uniform(-0.03, 0.03, atoms.positions.shape)
            name = f"si-{number:03d}-{copy}"
            parent_of[name] = f"si-{number:03d}"
            atoms.calc = StillingerWeberSilicon()
            data.append(
                LabelledStructure(name, atoms, atoms.get_potential_energy(), atoms.get_forces(), None)
            )
    return data, parent_of
