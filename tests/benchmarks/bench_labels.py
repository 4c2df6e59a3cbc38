"""Seconds per GPAW label, and label noise, for random silicon cells of 2-8 atoms at the default settings.

Run: ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_labels.py [cells] [cutoff_eV]``. The noise is measured against
1.6 times the k-point density; set it against the figures in the documentation before trusting a smaller density.
"""

# ruff: noqa: T201

import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from gapfactory.reference import GpawSettings, label_noise, label_structures


def random_cells(n_cells, rng):
    """Return cells of 2, 4, 6, 8, 2, ... atoms, pushed apart to 2.1 Å."""
    cells = []
    while len(cells) < n_cells:
        n = 2 * (len(cells) % 4 + 1)
        box = np.eye(3) + 0.15 * rng.normal(size=(3, 3))
        box *= (n * 19.0 / abs(np.linalg.det(box))) ** (1 / 3)
        atoms = Atoms(f"Si{n}", scaled_positions=rng.random((n, 3)), cell=box, pbc=True)
        for _ in range(60):
            first, length, vector = neighbor_list("idD", atoms, 2.1)
            if len(length) == 0:
                cells.append(atoms)
                break
            np.add.at(atoms.positions, first, -0.5 * vector / length[:, None] * (2.2 - length)[:, None])
    return cells


def main(n_cells, cutoff):
    settings = GpawSettings(cutoff_eV=cutoff)
    cells = random_cells(n_cells, np.random.default_rng(8))
    items = [(f"cell-{k:03d}", atoms) for k, atoms in enumerate(cells)]
    dimers = [
        (f"dimer-{d}", Atoms("Si2", positions=[[0, 0, 0], [0, 0, d]], cell=[20.0] * 3))
        for d in (1.8, 2.4, 3.6)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = label_structures(items + dimers, settings, Path(scratch) / "work")
        higher = label_structures(items, settings.with_higher_density(), Path(scratch) / "higher")
    for (name, atoms), outcome in zip(items + dimers, outcomes, strict=True):
        seconds = outcome.label.walltime_s if outcome.label else float("nan")
        grid = outcome.label.details["kpoints"] if outcome.label else outcome.reason
        print(f"{name}: {len(atoms)} atoms, {grid}, {seconds:.1f} s", flush=True)
    seconds = [o.label.walltime_s for o in outcomes[: len(items)] if o.label]
    print(
        f"mean {np.mean(seconds):.1f} s per crystal label; 100 labels on 2 cores: {50 * np.mean(seconds):.0f} s"
    )
    low, high = ({o.id: o.label for o in group if o.label} for group in (outcomes, higher))
    print(label_noise(low, high))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 8,
        float(sys.argv[2]) if len(sys.argv) > 2 else GpawSettings().cutoff_eV,
    )
