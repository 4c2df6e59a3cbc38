"""Does a learned cost rank structures like the cost itself? An ensemble of networks on the datum cost of diamond.

    OMP_NUM_THREADS=1 python tests/benchmarks/datum_learned.py [--structures 400] [--networks 4] [--cycles 2]

Random cells of 2-12 atoms, as built, and as many shaken diamond cells (positions and cell by 0.1) are labelled with
their costs; networks on the paper's features learn them. Each cycle relaxes new cells with what was learned, and adds
the ends and a shaken copy of each. Tested on cells that no network has seen, as built, and relaxed with the cost
itself. One JSON object in each line; times are of this process's CPU. Pickard, Faraday Discuss. (2024),
doi:10.1039/d4fd00134f, section VIII A.
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
from gapfactory.search import relax_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.potentials.calculator import EngineCalculator

SEED = 2


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


def relaxed(cells: Sequence[Atoms], calculator: EngineCalculator) -> list[Atoms]:
    """Return where relaxations without pressure end; those that fail are left out."""
    paths = relax_batch(cells, [0.0] * len(cells), calculator.evaluate_batch, datum_carbon.RELAX)
    return [path.frame(-1) for path in paths if path.status != "failed"]


def trained(
    labels: list[LabelledStructure], settings: eddp.EddpSettings, networks: int
) -> eddp.EddpCalculator:
    """Return an ensemble of networks trained on energies."""
    vector = eddp.Features.from_settings(settings.features, ["C"])
    data = eddp.prepare(labels, vector, settings.training)
    split = eddp.split_structures(data.parents, settings.training, np.random.default_rng(0))
    found = [
        eddp.train_network(data, split, settings, np.random.default_rng(seed)).network
        for seed in range(networks)
    ]
    return eddp.EddpCalculator(eddp.combine(found, data, split, settings.ensemble).ensemble)


def compared(
    structures: Sequence[Atoms], direct: EngineCalculator, learned: EngineCalculator
) -> dict[str, float]:
    """Return how the learned cost agrees with the cost, per atom."""
    energies = [c.engine.evaluate(structures, gradients=False).energies for c in (learned, direct)]
    errors = eddp.energy_errors(*energies, np.array([len(atoms) for atoms in structures]))
    return {"n": errors.n_structures, "spearman": round(errors.spearman, 4), "mae": round(errors.mae, 4)}


def main() -> None:
    """Label, train, relax, learn again; compare each time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--structures", type=int, default=400, help="random cells, shaken ones, new ones of a cycle"
    )
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--hidden", type=int, nargs="+", default=[10])
    parser.add_argument("--max-steps", type=int, default=150)
    parser.add_argument(
        "--cycles", type=int, default=2, help="of relaxing cells with what was learned, and learning on"
    )
    parser.add_argument("--unseen", type=int, default=300)
    options = parser.parse_args()
    diamond = named_phase("C-diamond").atoms
    calculator = DatumCalculator(DatumCost.from_targets([diamond], CostSettings()))
    rng = np.random.default_rng(0)
    random_cells = [atoms for _, atoms in datum_carbon.cells_of("small", range(options.structures), SEED)]
    data = [*random_cells, *(shaken(diamond * (1, 1, 1 + k % 2), rng) for k in range(options.structures))]
    first = 10**5
    unseen = [a for _, a in datum_carbon.cells_of("small", range(first, first + options.unseen), SEED)]
    ends = relaxed(unseen, calculator)
    settings = eddp.EddpSettings.model_validate(
        {
            "features": CostSettings().features.model_dump(),
            "network": {"hidden": options.hidden},
            "training": {"max_steps": options.max_steps, "patience": 30},
        }
    )
    learned: eddp.EddpCalculator | None = None
    for cycle in range(options.cycles + 1):
        began = time.process_time()
        if learned is not None:
            numbers = range(cycle * 10**4, cycle * 10**4 + options.structures)
            cells = [atoms for _, atoms in datum_carbon.cells_of("small", numbers, SEED)]
            found = relaxed(cells, learned)
            data += [*found, *(shaken(atoms, rng) for atoms in found)]
        learned = trained(labelled(data, calculator), settings, options.networks)
        result = {"cycle": cycle, "structures": len(data), "seconds": round(time.process_time() - began, 1)}
        result["random cells"] = compared(unseen, calculator, learned)
        result["relaxed cells"] = compared(ends, calculator, learned)
        low = [atoms for atoms in ends if calculator.engine.evaluate([atoms]).energies[0] < len(atoms)]
        result["relaxed cells that cost less than 1"] = compared(low, calculator, learned)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
