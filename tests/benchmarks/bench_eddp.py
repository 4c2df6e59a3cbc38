"""Time of an EDDP's features, energies and forces per atom, and of its training, on one core.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_eddp.py [--structures 1000] [--networks 30]

Throughput: shaken simple cubic boron of 7.3 Å^3 per atom, cutoff 3.75 Å, 5 + 25 features, random weights, which cost
what trained ones cost. Training: distorted silicon crystals labelled by the potential of Stillinger and Weber, copies
kept on one side of the split. Times are of this process's CPU; one JSON object in each line.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import gf_eddp

from gapfactory.potentials import eddp

if TYPE_CHECKING:
    from collections.abc import Callable


def microseconds(call: Callable[[], object], atoms: int, repeats: int) -> float:
    """Return CPU time per atom; the first call compiles and is not counted."""
    call()
    started = time.process_time()
    for _ in range(repeats):
        call()
    return 1e6 * (time.process_time() - started) / repeats / atoms


def throughput(members: int, hidden: tuple[int, ...], repeats: int = 20) -> None:
    vector = gf_eddp.features("B")
    networks = tuple(gf_eddp.network(vector, seed, hidden) for seed in range(members))
    calculator = eddp.EddpCalculator(eddp.Ensemble(networks, (1.0 / members,) * members), limit=1e9)
    rng = np.random.default_rng(0)
    atoms = Atoms("B", cell=np.eye(3) * 7.3 ** (1 / 3), pbc=True) * (4, 4, 4)
    atoms.rattle(0.2, rng=rng)
    atoms.calc = calculator
    system = calculator.engine.system([atoms])

    def step() -> None:
        atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
        atoms.get_forces()

    result = {
        "members": members,
        "hidden": hidden,
        "neighbours": len(system.neighbour) / len(atoms),
        "features_us_per_atom": microseconds(lambda: vector.local(system), len(atoms), repeats),
        "energy_us_per_atom": microseconds(
            lambda: calculator.engine.evaluate(system, gradients=False), len(atoms), repeats
        ),
        "dynamics_step_us_per_atom": microseconds(step, len(atoms), repeats),
    }
    print(json.dumps(result))


def training(structures: int, networks: int) -> None:
    labels, parents = gf_eddp.silicon(structures // 2, 2)
    settings = eddp.EddpSettings.model_validate({"features": {"cutoff": 4.5}})
    vector = eddp.Features.from_settings(settings.features, ["Si"])
    started = time.process_time()
    data = eddp.prepare(labels, vector, settings.training, parents=parents)
    prepared = time.process_time()
    split = eddp.split_structures(data.parents, settings.training, np.random.default_rng(0))
    trained = [
        eddp.train_network(data, split, settings, np.random.default_rng(seed)) for seed in range(networks)
    ]
    done = time.process_time()
    found = eddp.combine([item.network for item in trained], data, split, settings.ensemble)
    result = {
        "structures": len(data.ids),
        "networks": networks,
        "kept": len(found.kept),
        "features_s": prepared - started,
        "training_s_per_network": (done - prepared) / networks,
        "single_test_mae_meV": 1e3 * float(np.median([item.errors["test"].mae for item in trained])),
        "test_mae_meV": 1e3 * found.errors["test"].mae,
        "test_rmse_meV": 1e3 * found.errors["test"].rmse,
        "test_spearman": found.errors["test"].spearman,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=30)
    options = parser.parse_args()
    throughput(1, (5,))
    throughput(12, (5,))
    throughput(18, (20, 20))
    training(options.structures, options.networks)
