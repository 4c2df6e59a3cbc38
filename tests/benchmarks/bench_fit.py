"""Fit and evaluation speed of the Table 1 potential: `python tests/benchmarks/bench_fit.py [cells ...]`.

Silicon cells of 8 atoms labelled by Stillinger-Weber, fitted by one backend; `bench_gap_fit.py` compares the two. CPU
seconds, children included, are reported beside wall seconds, since only they are meaningful on a shared machine, and
beside the estimate that `plan` prints.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from gapfactory.elements import species
from gapfactory.potentials.gap import GapSettings, LabelledStructure, estimate_memory, fit_gap, load_potential
from gapfactory.potentials.gap.settings import DeltaSettings, SoapSettings
from gapfactory.reference.analytic import StillingerWeberSilicon


def labelled(n: int, seed: int) -> list[LabelledStructure]:
    """Return an isolated atom and `n` strained, rattled 8-atom cells."""
    reference = StillingerWeberSilicon()
    rng = np.random.default_rng(seed)
    data = [LabelledStructure("isolated", Atoms("Si"), 0.0, None, None, "isolated")]
    for k in range(n):
        atoms = bulk("Si", cubic=True)
        strain = np.eye(3) * rng.uniform(0.8, 1.25) ** (1 / 3) + 0.05 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.3 * rng.normal(size=atoms.positions.shape)
        atoms.calc = reference
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        data.append(LabelledStructure(f"cell-{k:05d}", atoms.copy(), energy, forces, stress))
    return data


def cpu() -> float:
    """Return the user CPU seconds of this process and of finished child processes."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> None:
    """Fit at each size, then time the last potential on 8, 64 and 216 atoms; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", type=int, default=[10, 20, 40])
    parser.add_argument("--sparse", type=int, default=300, help="SOAP sparse points (Table 1: 2000)")
    parser.add_argument("--backend", choices=("native", "gap_fit"), default="native")
    arguments = parser.parse_args()
    si = species("Si", radius=1.11, bonding="covalent")
    settings = GapSettings(
        backend=arguments.backend,
        soap=SoapSettings(n_sparse=arguments.sparse),
        delta=DeltaSettings(fixed=(1.0, 0.3, 0.1)),
    )
    rows: dict[str, object] = {"backend": arguments.backend, "sparse": arguments.sparse}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        for n in arguments.cells:
            data = labelled(n, seed=n)
            crystals = data[1:]
            volume = float(np.mean([item.atoms.get_volume() / 8 for item in crystals]))
            estimate = estimate_memory(
                n_structures=n, atoms_per_structure=8, volume_per_atom=volume, species=[si], settings=settings
            )
            before = cpu()
            found = fit_gap(
                data,
                species=[si],
                settings=settings,
                seed=lambda k: np.random.default_rng([1, k]),
                workdir=directory,
            )
            rows[f"fit of {n} cells"] = {
                "wall_s": {name: round(seconds, 2) for name, seconds in found.wall_s.items()},
                "cpu_s of fit and evaluations": round(cpu() - before, 2),
                "estimated cpu_s of fit": round(estimate.cpu_s, 2),
                "estimated peak GB": round(estimate.peak_bytes / 1e9, 3),
                "sparse points": found.stages[-1].n_sparse,
                "rmse meV/atom": round(1000 * found.train_errors.energy_rmse, 2),
            }
            directory = found.directory.parent.parent
        calculator = load_potential(found.directory)
        for repeat in (1, 2, 3):
            atoms = bulk("Si", cubic=True) * (repeat, repeat, repeat)
            times = []
            for k in range(4):
                atoms.rattle(0.01, seed=k)
                start = time.process_time()
                calculator.get_stress(atoms)
                times.append(time.process_time() - start)
            rows[f"evaluation of {len(atoms)} atoms"] = {
                "cpu_ms": round(1000 * min(times), 2),
                "atoms_per_cpu_s": round(len(atoms) / min(times), 1),
            }
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
