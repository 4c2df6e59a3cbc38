"""Relaxations per core-hour: random silicon and titanium cells with the small analytic potentials.

Run: ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_relax.py [cells]``. Times are CPU seconds of one core, split
into the potential's own and everything else, so that the overhead per step can be compared between machines as a
ratio. The preconditioners are measured against each other on the same cells.
"""

# ruff: noqa: T201

import sys
import time

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon
from gapfactory.search import RelaxSettings, draw_pressure, relax


def random_cells(symbol, volume, separation, n_cells, rng):
    """Return cells of 6-16 atoms whose atoms were pushed apart to the separation (Å)."""
    cells = []
    while len(cells) < n_cells:
        n = 2 * int(rng.integers(3, 9))
        box = np.eye(3) + 0.2 * rng.normal(size=(3, 3))
        box *= (n * volume / abs(np.linalg.det(box))) ** (1 / 3)
        atoms = Atoms(f"{symbol}{n}", scaled_positions=rng.random((n, 3)), cell=box, pbc=True)
        for _ in range(60):
            first, length, vector = neighbor_list("idD", atoms, separation)
            if len(length) == 0:
                cells.append(atoms)
                break
            np.add.at(
                atoms.positions,
                first,
                -0.5 * vector / length[:, None] * (1.05 * separation - length)[:, None],
            )
    return cells


def timed(calculator):
    """Make the calculator add its CPU seconds to the list that is returned."""
    spent = [0.0]
    original = calculator.calculate

    def calculate(*args, **kwargs):
        started = time.process_time()
        original(*args, **kwargs)
        spent[0] += time.process_time() - started

    calculator.calculate = calculate
    return spent


def main(n_cells):
    for symbol, volume, separation, calculator in (
        ("Si", 19.0, 1.9, StillingerWeberSilicon()),
        ("Ti", 17.0, 2.3, SecondMomentTitanium()),
    ):
        spent = timed(calculator)
        for preconditioner in ("none", "exponential"):
            rng = np.random.default_rng(5)
            settings = RelaxSettings(preconditioner=preconditioner)
            cells = random_cells(symbol, volume, separation, n_cells, rng)
            relax(cells[0], calculator, pressure_GPa=0.0, settings=RelaxSettings(max_steps=2))  # compiles
            spent[0] = 0.0
            started = time.process_time()
            paths = [
                relax(a, calculator, pressure_GPa=draw_pressure(rng, settings), settings=settings)
                for a in cells
            ]
            total = time.process_time() - started
            calls = sum(p.n_evaluations for p in paths)
            converged = sum(p.status == "converged" for p in paths)
            print(
                f"{symbol} {preconditioner:11s}: {converged}/{len(paths)} converged, {calls / len(paths):.0f} calls, "
                f"{np.mean([len(p) for p in paths]):.0f} frames each, {3600 * len(paths) / total:.0f} "
                f"relaxations/core-hour, {1e3 * spent[0] / calls:.2f} ms potential + "
                f"{1e3 * (total - spent[0]) / calls:.2f} ms rest per call"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
