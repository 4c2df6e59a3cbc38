"""Relaxations per core-hour with a Table 1 potential: batches and the compiled engine against ASE and quippy.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_relax_gap.py [--cells 100] [--oracle 5] [--potential DIR]

Both relax the same random silicon cells of 6-16 atoms under the same pressures with the same potential, to the same
thresholds: ASE's PreconLBFGS on its FrechetCellFilter with quippy, one cell after the other, and `relax_batch` with
`Engine`. Times are CPU seconds of one core; what compiling takes is reported apart. Prints one JSON object. Without
--potential one is fitted to frames of relaxations with Stillinger-Weber, which takes some minutes.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize.precon import PreconLBFGS
from ase.units import GPa

sys.path.insert(0, str(Path(__file__).parent))

from bench_relax import random_cells

from gapfactory.elements import species
from gapfactory.potentials.gap import GapSettings, LabelledStructure, fit_gap
from gapfactory.potentials.gap.settings import DeltaSettings, SoapSettings
from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.search import RelaxSettings, draw_pressure, relax_batch
from gapfactory.search.evaluator import EngineEvaluator, OneByOne


class AsePath(PreconLBFGS):
    """ASE's optimiser with our two thresholds; like ours it learns nothing from a step that curves downwards."""

    def __init__(self, moving, pressure, settings):
        self.moving, self.pressure, self.settings = moving, pressure, settings
        filtered = FrechetCellFilter(moving, scalar_pressure=pressure)
        super().__init__(filtered, logfile=None, maxstep=settings.max_step, precon=None)

    def gradient_converged(self, gradient):
        virial = self.moving.get_volume() * (self.moving.get_stress(voigt=False) + self.pressure * np.eye(3))
        return (
            np.linalg.norm(self.moving.get_forces(), axis=1).max() < self.settings.force_threshold
            and np.linalg.norm(virial, axis=1).max() / len(self.moving) < self.settings.cell_force_threshold
        )

    def update(self, r, f, r0, f0):
        if self._just_reset_hessian or np.vdot(f0 - f, r - r0) > 0.0:
            super().update(r, f, r0, f0)

    def log(self, gradient):
        pass


class Quippy(Calculator):
    """quippy at its best: energy, forces and stress from one call per geometry; adds up CPU seconds and atoms."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, path):
        from quippy.potential import Potential

        super().__init__()
        self.inner = Potential("", param_filename=str(path))
        self.inner.calculation_always_required = True
        self.inner.set_default_properties(["energy", "forces", "stress"])
        self.seconds, self.atoms_done = 0.0, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        started = time.process_time()
        self.inner.results = {}
        self.inner.calculate(atoms.copy(), ["energy"])
        self.seconds += time.process_time() - started
        self.atoms_done += len(atoms)
        self.results = {**self.inner.results, "free_energy": self.inner.results["energy"]}


def training_set(n_cells):
    """Return an isolated atom and frames of relaxations of random cells, labelled by Stillinger-Weber."""
    rng = np.random.default_rng(1)
    calculator = StillingerWeberSilicon()
    cells = random_cells("Si", 19.0, 1.9, n_cells, rng)
    settings = RelaxSettings(max_steps=60)
    data = [
        LabelledStructure(
            "isolated", random_cells("Si", 19.0, 1.9, 1, rng)[0][:1], 0.0, None, None, "isolated"
        )
    ]
    data[0].atoms.set_pbc(False)
    for k, path in enumerate(relax_batch(cells, [1.0] * n_cells, OneByOne(calculator), settings)):
        for frame in sorted({0, 3, 7, len(path) - 1} & set(range(len(path)))):
            atoms = path.frame(frame)
            atoms.calc = calculator
            energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
            data.append(LabelledStructure(f"{k:04d}-{frame:03d}", atoms.copy(), energy, forces, stress))
    return data


def fitted(directory, sparse, n_cells):
    """Fit a potential of Table 1 and return its directory."""
    settings = GapSettings(soap=SoapSettings(n_sparse=sparse), delta=DeltaSettings(fixed=(1.0, 0.3, 0.1)))
    found = fit_gap(
        training_set(n_cells),
        species=[species("Si", radius=1.11, bonding="covalent")],
        settings=settings,
        seed=lambda k: np.random.default_rng([1, k]),
        workdir=directory,
    )
    return Path(found.directory)


def with_quippy(path, cells, pressures, settings):
    """Relax with ASE and quippy; return enthalpies per atom, steps, CPU seconds, and quippy's CPU ms per atom."""
    enthalpies, steps = [], 0
    calculator = Quippy(path)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for atoms, pressure in zip(cells, pressures, strict=True):
            moving = atoms.copy()
            moving.calc = calculator
            optimiser = AsePath(moving, pressure * GPa, settings)
            try:
                optimiser.run(steps=settings.max_steps)
                enthalpy = moving.get_potential_energy() + pressure * GPa * moving.get_volume()
            except RuntimeError:
                enthalpy = np.nan
            enthalpies.append(enthalpy / len(atoms))
            steps += optimiser.nsteps
    return enthalpies, steps, time.process_time() - started, 1e3 * calculator.seconds / calculator.atoms_done


class Timed:
    """Adds up the CPU seconds of an evaluator."""

    def __init__(self, evaluate):
        self.evaluate, self.seconds, self.atoms = evaluate, 0.0, 0

    def __call__(self, structures):
        started = time.process_time()
        answers = self.evaluate(structures)
        self.seconds += time.process_time() - started
        self.atoms += sum(len(atoms) for atoms in structures)
        return answers


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=100, help="relaxed by ours")
    parser.add_argument("--oracle", type=int, default=5, help="of these, relaxed by ASE and quippy, too")
    parser.add_argument("--sparse", type=int, default=2000, help="SOAP sparse points of the fitted potential")
    parser.add_argument("--train", type=int, default=70, help="relaxations that give the training set")
    parser.add_argument("--potential", type=Path, help="directory of a potential, instead of fitting one")
    parser.add_argument("--keep", type=Path, help="where to leave the fitted potential")
    parser.add_argument("--width", type=int, default=16, help="cells per call")
    arguments = parser.parse_args()
    if arguments.potential is None and arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        arguments.potential = fitted(arguments.keep, arguments.sparse, arguments.train)
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.potential or fitted(Path(scratch), arguments.sparse, arguments.train)
        print(json.dumps(measure(directory / "gap.xml", arguments)))


def measure(path, arguments):
    """Return the figures."""
    from gapfactory.potentials.gap.engine.evaluator import Engine
    from gapfactory.potentials.gap.xml import read_gap

    settings = RelaxSettings()
    rng = np.random.default_rng(5)
    cells = random_cells("Si", 19.0, 1.9, arguments.cells, rng)
    pressures = [draw_pressure(rng, settings) for _ in cells]
    model = read_gap(path)
    evaluate = Timed(EngineEvaluator(Engine(model), model.e0, 1000.0))
    started = time.process_time()
    relax_batch(cells[:2], pressures[:2], evaluate, RelaxSettings(max_steps=2))
    warm = time.process_time() - started
    evaluate.seconds, evaluate.atoms = 0.0, 0
    started = time.process_time()
    paths = relax_batch(cells, pressures, evaluate, settings, width=arguments.width)
    total = time.process_time() - started
    n_oracle = min(arguments.oracle, len(cells))
    theirs, their_steps, their_seconds, their_ms = with_quippy(
        path, cells[:n_oracle], pressures[:n_oracle], settings
    )
    # the same cells on both sides: they differ in size and in the steps they take
    started = time.process_time()
    same = relax_batch(
        cells[:n_oracle], pressures[:n_oracle], evaluate.evaluate, settings, width=arguments.width
    )
    same_seconds = time.process_time() - started
    ends = [p.enthalpies[-1] / len(p.numbers) if len(p) else np.nan for p in same]
    calls = sum(p.n_evaluations for p in paths)
    return {
        "sparse_points": int(sum(len(term.points) for term in model.terms)),
        "cells": len(cells),
        "width": arguments.width,
        "converged": sum(p.status == "converged" for p in paths),
        "failed": sum(p.status == "failed" for p in paths),
        "first_call_s": round(warm, 2),
        "calls_per_relaxation": round(calls / len(paths), 1),
        "relaxations_per_core_hour": round(3600 * len(paths) / total, 1),
        "engine_ms_per_atom": round(1e3 * evaluate.seconds / evaluate.atoms, 4),
        "rest_ms_per_cell_and_step": round(1e3 * (total - evaluate.seconds) / calls, 4),
        "same_cells": {
            "cells": n_oracle,
            "ours_s": round(same_seconds, 2),
            "quippy_s": round(their_seconds, 2),
            "quippy_ms_per_atom": round(their_ms, 3),
            "speed_up": round(their_seconds / same_seconds, 1),
            "ours_steps": sum(p.n_steps for p in same),
            "quippy_steps": their_steps,
            "quippy_relaxations_per_core_hour": round(3600 * n_oracle / their_seconds, 1),
            "same_minimum_within_1_meV_per_atom": int(
                sum(abs(a - b) < 1e-3 for a, b in zip(ends, theirs, strict=True))
            ),
        },
    }


if __name__ == "__main__":
    main()
