"""An EDDP against a tuned GAP on the same energies of silicon, by both ways to draw the test set.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_eddp_vs_gap.py [--structures 1000] [--networks 30] [--quick]

Structures: random cells as the builder makes them, and of each three copies shaken out of it (strain 0.05, 0.1 Å),
labelled with energies alone by the potential of Stillinger and Weber; those within 10 eV/atom of the lowest count. The
GAP is fitted to the training set for every combination of the values in `GRID`, and the one with the least error on the
validation set is taken: that is the tuning of a GAP. The EDDP is trained on the same training set, its validation set
stops training and chooses weights. Neither sees the test set. Times are of this process's CPU, tuning and all networks
included; evaluation is of energy, forces and stress of a 64-atom cell. One JSON object in each line.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.build import bulk

from gapfactory.build import BuildSettings, build_cell
from gapfactory.build.distorted import DistortedSettings, distorted_crystal
from gapfactory.elements import species
from gapfactory.errors import BuildError
from gapfactory.potentials import eddp, load_potential
from gapfactory.potentials.gap import GapSettings, LabelledStructure, fit_gap
from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Reach of SOAP in units of r (4.4 and 5.5 Å), smoothness of the density (Å), expected energy error (eV/atom).
GRID: dict[str, tuple[float, ...]] = {
    "cutoff": (4.0, 5.0),
    "atom_sigma": (0.5, 0.75),
    "energy_low": (0.001, 0.01),
}
QUICK: dict[str, tuple[float, ...]] = {"cutoff": (4.0,), "atom_sigma": (0.5, 0.75), "energy_low": (0.01,)}
COPIES = 3
WINDOW = 10.0


def structures(count: int) -> tuple[list[LabelledStructure], dict[str, str]]:
    """Return labelled structures and what each is a copy of."""
    silicon, calculator = species("Si"), StillingerWeberSilicon()
    build = BuildSettings(atoms_min=2, atoms_max=8)
    shake = DistortedSettings(
        volume_low=1.0, volume_high=1.0, keep_volume=False, strain=0.05, displacement=0.1, nearest=0.5
    )
    found: list[LabelledStructure] = []
    parents: dict[str, str] = {}
    for number in itertools.count():
        if len(found) >= count:
            break
        rng = np.random.default_rng([7, number])
        made = build_cell(
            rng, composition={"Si": 1}, species={"Si": silicon}, generation=0, settings=build
        ).atoms
        family = [made]
        for _ in range(COPIES):
            try:
                family.append(distorted_crystal(made, rng, shake).atoms)
            except BuildError:
                continue
        for place, atoms in enumerate(family[: count - len(found)]):
            work = atoms.copy()
            work.calc = calculator
            name = f"si-{number:04d}-{place}"
            found.append(LabelledStructure(name, atoms, work.get_potential_energy(), None, None))
            parents[name] = f"{number:04d} {structure_hash(made)}"
    return found, parents


def tested(
    calculator: Any, items: Sequence[LabelledStructure]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return energies by a potential and the reference, and numbers of atoms."""
    found = calculator.engine.evaluate([item.atoms for item in items], gradients=False).energies
    return found, np.array([i.energy for i in items]), np.array([len(i.atoms) for i in items])


def speed(calculator: Any, repeats: int = 5) -> float:
    """Return microseconds of CPU per atom of energy, forces and stress."""
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, rng=np.random.default_rng(0))
    calculator.engine.evaluate([atoms])
    began = time.process_time()
    for _ in range(repeats):
        calculator.engine.evaluate([atoms])
    return 1e6 * (time.process_time() - began) / repeats / len(atoms)


def gap_settings(cutoff: float, atom_sigma: float, energy_low: float) -> GapSettings:
    return GapSettings.model_validate(
        {
            "two_body": {"n_sparse": 20},
            "three_body": {"n_sparse": 100},
            "soap": {"atom_sigma": atom_sigma, "cutoff_covalent_in_r": cutoff, "n_sparse": 1000},
            "sigma": {"energy_low": energy_low, "energy_high": 10 * energy_low},
        }
    )


def tuned_gap(
    train: Sequence[LabelledStructure],
    validation: Sequence[LabelledStructure],
    test: Sequence[LabelledStructure],
    grid: dict[str, tuple[float, ...]],
    scratch: Path,
) -> dict[str, Any]:
    """Return the errors of the GAP that is best on the validation set."""
    atom = bulk("Si", cubic=True)[:1]
    atom.set_cell(np.eye(3) * 15.0)
    atom.pbc = False
    free = LabelledStructure("atom", atom, 0.0, None, None, "isolated")
    best: tuple[float, Path, dict[str, float]] | None = None
    began = time.process_time()
    fits = 0
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        workdir = scratch / f"gap-{fits}"
        fit = fit_gap(
            [free, *train],
            species=(species("Si"),),
            settings=gap_settings(**chosen),
            seed=np.random.default_rng,
            workdir=workdir,
        )
        fits += 1
        mae = eddp.energy_errors(*tested(load_potential(fit.directory), validation)).mae
        if best is None or mae < best[0]:
            best = (mae, fit.directory, chosen)
    spent = time.process_time() - began
    assert best is not None
    calculator = load_potential(best[1])
    return {
        "fits": fits,
        "chosen": best[2],
        "cpu_s": spent,
        "cpu_s_per_fit": spent / fits,
        **summary(eddp.energy_errors(*tested(calculator, test))),
        "us_per_atom": speed(calculator),
    }


def summary(errors: eddp.EnergyErrors) -> dict[str, float]:
    return {
        "test_mae_meV": 1e3 * errors.mae,
        "test_rmse_meV": 1e3 * errors.rmse,
        "test_spearman": errors.spearman,
    }


def trained_eddp(
    items: Sequence[LabelledStructure],
    parents: dict[str, str],
    settings: eddp.EddpSettings,
    scratch: Path,
) -> tuple[dict[str, Any], tuple[list[str], list[str], list[str]]]:
    """Return the errors of the EDDP, and the ids of the three sets."""
    began = time.process_time()
    training = eddp.training_set(items, ["Si"], settings, parents=parents)
    split = eddp.split_structures(training.parents, settings.training, np.random.default_rng(0))
    networks = [
        eddp.train_network(training, split, settings, np.random.default_rng([1, k]))
        for k in range(settings.ensemble.members)
    ]
    spent = time.process_time() - began
    fit = eddp.fit_eddp(
        [item.network for item in networks], items, training, split, settings, scratch / "eddp"
    )
    sets = tuple([training.ids[k] for k in chosen] for chosen in vars(split).values())
    found = {
        "kept": len(fit.kept),
        "trained": fit.trained,
        "cpu_s": spent + fit.seconds,
        "cpu_s_per_network": spent / len(networks),
        "single_test_mae_meV": 1e3 * float(np.median([item.errors["test"].mae for item in networks])),
        **summary(fit.errors["test"]),
        "us_per_atom": speed(load_potential(fit.directory)),
    }
    return found, (sets[0], sets[1], sets[2])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--cutoff", type=float, default=5.5, help="of the EDDP, in angstrom")
    parser.add_argument("--hidden", type=int, nargs="+", default=[5])
    parser.add_argument("--quick", action="store_true", help="two GAPs instead of eight, one way to split")
    options = parser.parse_args()
    items, parents = structures(options.structures)
    by_id = {item.id: item for item in items}
    for way in ("parent",) if options.quick else ("parent", "plain"):
        settings = eddp.EddpSettings.model_validate(
            {
                "features": {"cutoff": options.cutoff, "two_body": 8, "three_body": 6},
                "network": {"hidden": options.hidden},
                "training": {"split": way, "energy_window": WINDOW},
                "ensemble": {"members": options.networks},
            }
        )
        with tempfile.TemporaryDirectory() as place:
            networks, sets = trained_eddp(items, parents, settings, Path(place))
            train, validation, test = ([by_id[key] for key in chosen] for chosen in sets)
            gap = tuned_gap(train, validation, test, QUICK if options.quick else GRID, Path(place))
        result = {
            "structures": sum(map(len, sets)),
            "tested": len(test),
            "split": way,
            "eddp": networks,
            "gap": gap,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
