"""An EDDP against a GAP on the same energies of silicon; settings of both are chosen on other structures.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_eddp_vs_gap.py [--structures 1000] [--networks 30] [--quick]

Structures: random cells as the builder makes them, and of each three copies shaken out of it (strain 0.05, 0.1 Å),
labelled with energies alone by the potential of Stillinger and Weber; those within 10 eV/atom of the lowest count.

Tuning: on structures of one seed, every combination of the values in `GAPS` is fitted to the training set, and of each
of the settings in `NETWORKS` a few networks are trained on it, which the validation set stops; the mean absolute error
on the third set, which neither has seen, decides for both. Final: on structures of another seed, the chosen networks
are trained and weighed as a campaign does it; the chosen GAP is fitted to the training and validation sets, so that
both have seen the same energies; the test set is looked at once. Times are of this process's CPU; evaluation is of
energy, forces and stress of a 64-atom cell. What was tried goes to the standard error output as it comes; one JSON
object in each line of the standard output.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass
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
GAPS: dict[str, tuple[float, ...]] = {
    "cutoff": (4.0, 5.0),
    "atom_sigma": (0.5, 0.75),
    "energy_low": (0.001, 0.01),
}
QUICK: dict[str, tuple[float, ...]] = {"cutoff": (4.0,), "atom_sigma": (0.5, 0.75), "energy_low": (0.01,)}
#: Networks, as a first choice and what differs from it.
FIRST: dict[str, dict[str, Any]] = {
    "features": {"cutoff": 5.5, "two_body": 8, "three_body": 6},
    "network": {"hidden": [5]},
}
NETWORKS: tuple[dict[str, dict[str, Any]], ...] = (
    {},
    {"features": {"cutoff": 5.0}},
    {"features": {"cutoff": 6.0}},
    {"features": {"cutoff": 6.5}},
    {"features": {"two_body": 12}},
    {"features": {"three_body": 8}},
    {"features": {"highest_exponent": 20.0}},
    {"network": {"hidden": [10]}},
    {"training": {"norm": 1.25}},
    {"training": {"atoms_exponent": 1.0}},
)
#: Seeds of the structures. The final ones have had no say in any setting.
TUNING, FINAL = 101, 303
COPIES = 3
WINDOW = 10.0


def structures(count: int, seed: int) -> tuple[list[LabelledStructure], dict[str, str]]:
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
        rng = np.random.default_rng([seed, number])
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


def fitted_gap(items: Sequence[LabelledStructure], chosen: dict[str, float], workdir: Path) -> Any:
    """Return the calculator of a GAP fitted to these energies."""
    atom = bulk("Si", cubic=True)[:1]
    atom.set_cell(np.eye(3) * 15.0)
    atom.pbc = False
    free = LabelledStructure("atom", atom, 0.0, None, None, "isolated")
    fit = fit_gap(
        [free, *items],
        species=(species("Si"),),
        settings=gap_settings(**chosen),
        seed=np.random.default_rng,
        workdir=workdir,
    )
    return load_potential(fit.directory)


def summary(errors: eddp.EnergyErrors) -> dict[str, float]:
    return {
        "test_mae_meV": 1e3 * errors.mae,
        "test_rmse_meV": 1e3 * errors.rmse,
        "test_spearman": errors.spearman,
    }


@dataclass(frozen=True)
class Divided:
    """Labelled structures, and their sets as the networks know them."""

    items: list[LabelledStructure]
    parents: dict[str, str]
    way: str

    def prepared(self, changes: dict[str, Any]) -> tuple[eddp.EddpSettings, eddp.TrainingSet, eddp.Split]:
        """Return settings with these changes, and the sets; the same structures in each whatever the changes."""
        training = {"split": self.way, "energy_window": WINDOW}
        settings = eddp.EddpSettings.model_validate(merged(changes, {"training": training}))
        data = eddp.training_set(self.items, ["Si"], settings, parents=self.parents)
        return (
            settings,
            data,
            eddp.split_structures(data.parents, settings.training, np.random.default_rng(0)),
        )

    def sets(self) -> tuple[list[LabelledStructure], ...]:
        """Return the structures of the training, validation and test sets."""
        _, data, split = self.prepared({})
        by_id = {item.id: item for item in self.items}
        return tuple([by_id[data.ids[k]] for k in chosen] for chosen in vars(split).values())


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return blocks of settings with those of the second put over the first."""
    return {key: {**first.get(key, {}), **second.get(key, {})} for key in {**first, **second}}


def said(**words: Any) -> dict[str, Any]:
    """Report a point of the tuning at once, and return it."""
    print(json.dumps(words), file=sys.stderr, flush=True)
    return words


def tuned_networks(
    tuning: Divided, changes: Sequence[dict[str, Any]], members: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of networks that err least, and what was tried: each change on top of those that helped."""
    began, tried = time.process_time(), []
    best, lowest = FIRST, np.inf
    for change in changes:
        settings = merged(best, change)
        trial, data, split = tuning.prepared(settings)
        networks = [
            eddp.train_network(data, split, trial, np.random.default_rng([2, k])) for k in range(members)
        ]
        rows, offsets = data.rows(split.test)
        mean = np.mean([item.network.energies(rows, offsets) for item in networks], axis=0)
        mae = eddp.energy_errors(mean, data.energies[split.test], data.counts[split.test]).mae
        tried.append(said(change=change, mae_meV=round(1e3 * mae, 1)))
        if mae < lowest:
            best, lowest = settings, mae
    return best, {"chosen": best, "tried": tried, "tuning_cpu_s": time.process_time() - began}


def tuned_gap(
    tuning: Divided, grid: dict[str, tuple[float, ...]], scratch: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the settings of the GAP that errs least, and what was tried."""
    began, tried = time.process_time(), []
    train, _, test = tuning.sets()
    best: tuple[float, dict[str, float]] = (np.inf, {})
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        calculator = fitted_gap(train, chosen, scratch / f"tuning-{len(tried)}")
        mae = eddp.energy_errors(*tested(calculator, test)).mae
        tried.append(said(gap=chosen, mae_meV=round(1e3 * mae, 1)))
        best = min(best, (mae, chosen), key=lambda pair: pair[0])
    return best[1], {"chosen": best[1], "tried": tried, "tuning_cpu_s": time.process_time() - began}


def final_networks(final: Divided, changes: dict[str, Any], members: int, scratch: Path) -> dict[str, Any]:
    """Return the errors of the chosen networks, weighed."""
    began = time.process_time()
    settings, data, split = final.prepared(changes)
    networks = [
        eddp.train_network(data, split, settings, np.random.default_rng([1, k])) for k in range(members)
    ]
    spent = time.process_time() - began
    fit = eddp.fit_eddp(
        [item.network for item in networks], final.items, data, split, settings, scratch / "eddp"
    )
    return {
        "kept": len(fit.kept),
        "trained": fit.trained,
        "cpu_s": time.process_time() - began,
        "cpu_s_per_network": spent / len(networks),
        "single_test_mae_meV": 1e3 * float(np.median([item.errors["test"].mae for item in networks])),
        **summary(fit.errors["test"]),
        "us_per_atom": speed(load_potential(fit.directory)),
    }


def final_gap(final: Divided, chosen: dict[str, float], scratch: Path) -> dict[str, Any]:
    """Return the errors of the chosen GAP."""
    began = time.process_time()
    train, validation, test = final.sets()
    calculator = fitted_gap([*train, *validation], chosen, scratch / "gap")
    spent = time.process_time() - began
    return {
        "cpu_s": spent,
        **summary(eddp.energy_errors(*tested(calculator, test))),
        "us_per_atom": speed(calculator),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--trial", type=int, default=3, help="networks trained to judge settings")
    parser.add_argument("--quick", action="store_true", help="few settings are tried, one way to split")
    options = parser.parse_args()
    grid, changes = (QUICK, NETWORKS[:2]) if options.quick else (GAPS, NETWORKS)
    tuning = Divided(*structures(options.structures, TUNING), "parent")
    items, parents = structures(options.structures, FINAL)
    with tempfile.TemporaryDirectory() as place:
        network, networks_tried = tuned_networks(tuning, changes, options.trial)
        gap, gaps_tried = tuned_gap(tuning, grid, Path(place))
        for way in ("parent",) if options.quick else ("parent", "plain"):
            final = Divided(items, parents, way)
            scratch = Path(place) / way
            scratch.mkdir()
            sets = final.sets()
            result = {
                "structures": sum(map(len, sets)),
                "tested": len(sets[2]),
                "split": way,
                "eddp": {
                    **networks_tried,
                    **final_networks(final, network, options.networks, scratch),
                },
                "gap": {**gaps_tried, **final_gap(final, gap, scratch)},
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
