"""Does a learned cost rank structures like the cost itself? An ensemble of networks on the datum cost of diamond.

    OMP_NUM_THREADS=1 python tests/benchmarks/datum_learned.py [--structures 500] [--networks 4]

Random cells of 2-12 atoms, as built, and as many shaken diamond cells (positions and cell by 0.1) are labelled with
their costs; networks of the paper's features learn them. Tested on random cells that no network has seen. One JSON
object; times are of this process's CPU. Pickard, Faraday Discuss. (2024), doi:10.1039/d4fd00134f, section VIII A.
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

sys.path.insert(0, str(Path(__file__).resolve().parent))
import datum_carbon

from gapfactory.analysis.phases import named_phase
from gapfactory.potentials import eddp
from gapfactory.potentials.datum import CostSettings, DatumCalculator, DatumCost
from gapfactory.potentials.gap.data import LabelledStructure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms


def shaken(atoms: Atoms, rng: np.random.Generator, amplitude: float = 0.1) -> Atoms:
    """Return a copy with positions (Å) and cell vectors (relative) moved by up to the amplitude."""
    atoms = atoms.copy()
    strain = np.eye(3) + rng.uniform(-amplitude, amplitude, (3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.uniform(-amplitude, amplitude, atoms.positions.shape)
    return atoms


def labelled(structures: Sequence[Atoms], calculator: DatumCalculator) -> list[LabelledStructure]:
    """Return structures with their costs, without forces."""
    costs = calculator.engine.evaluate(structures, gradients=False).energies
    return [
        LabelledStructure(f"{k:05d}", atoms, float(cost), None, None)
        for k, (atoms, cost) in enumerate(zip(structures, costs, strict=True))
    ]


def main() -> None:
    """Label, train, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--structures", type=int, default=500, help="random cells, and shaken ones")
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--hidden", type=int, nargs="+", default=[10])
    parser.add_argument("--max-steps", type=int, default=150)
    parser.add_argument("--unseen", type=int, default=300)
    options = parser.parse_args()
    diamond = named_phase("C-diamond").atoms
    calculator = DatumCalculator(DatumCost.from_targets([diamond], CostSettings()))
    rng = np.random.default_rng(0)
    random_cells = [atoms for _, atoms in datum_carbon.cells_of("small", range(options.structures), 2)]
    shakes = [shaken(diamond * (1, 1, 1 + k % 2), rng) for k in range(options.structures)]
    settings = eddp.EddpSettings.model_validate(
        {
            "features": CostSettings().features.model_dump(),
            "network": {"hidden": options.hidden},
            "training": {"max_steps": options.max_steps, "patience": 30},
        }
    )
    began = time.process_time()
    vector = eddp.Features.from_settings(settings.features, ["C"])
    data = eddp.prepare(labelled([*random_cells, *shakes], calculator), vector, settings.training)
    split = eddp.split_structures(data.parents, settings.training, rng)
    trained = [
        eddp.train_network(data, split, settings, np.random.default_rng(seed))
        for seed in range(options.networks)
    ]
    found = eddp.combine([t.network for t in trained], data, split, settings.ensemble)
    seconds = time.process_time() - began
    first = 10 * options.structures
    unseen = [a for _, a in datum_carbon.cells_of("small", range(first, first + options.unseen), 2)]
    direct = calculator.engine.evaluate(unseen, gradients=False).energies
    learned = eddp.EddpCalculator(found.ensemble).engine.evaluate(unseen, gradients=False).energies
    errors = eddp.energy_errors(learned, direct, np.array([len(a) for a in unseen]))
    print(
        json.dumps(
            {
                "random": len(random_cells),
                "shaken": len(shakes),
                "networks": options.networks,
                "kept": len(found.kept),
                "seconds": round(seconds, 1),
                "unseen": errors.n_structures,
                "spearman": errors.spearman,
                "mae": errors.mae,
                "rmse": errors.rmse,
                "test_mae": found.errors["test"].mae,
                "spread_of_costs": float((direct / [len(a) for a in unseen]).std()),
            }
        )
    )


if __name__ == "__main__":
    main()
