"""The whole loop on silicon: random cells, relaxation, selection, labels, fit, again.

The reference is the Stillinger-Weber potential, which costs nothing, so that what is measured is the programs'. All
make the same number of cells, labels, rounds and sparse points with the same cutoffs, on one process.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .places import median
from .tables import Comparison, Row

if TYPE_CHECKING:
    from ase import Atoms

    from .places import Places

SIDES = {"ASE + quippy": "quippy_loop", "autoplex": "autoplex_loop"}
#: eV per atom above the ground state up to which potentials are judged
WINDOW = 1.0

#: Stillinger and Weber 1985 with the scale of our own implementation, in QUIP's words
REFERENCE = """<SW_params n_types="1" label="Stillinger-Weber 1985">
<per_type_data type="1" atomic_num="14" />
<per_pair_data atnum_i="14" atnum_j="14" AA="7.049556277" BB="0.6022245584" p="4" q="0" a="1.80" sigma="2.0951"
 eps="2.16826" />
<per_triplet_data atnum_c="14" atnum_j="14" atnum_k="14" lambda="21.0" gamma="1.20" eps="2.16826" />
</SW_params>
"""


def task(*, quick: bool, seed: int) -> dict[str, Any]:
    """Return what every side is told."""
    radius = 1.11
    return {
        "kind": "loop",
        "seed": seed,
        "element": "Si",
        "number": 14,
        "atoms": [2, 8],
        "volume_per_atom": 14.5 * radius**3,
        "separation": 1.6 * radius,
        "cells": 12 if quick else 20,
        "labels": 10 if quick else 12,
        "held_out": 2,
        "dimers": 12,
        "rounds": 2 if quick else 3,
        "max_steps": 60 if quick else 100,
        "pressure_GPa": 1.0,
        "terms": {
            "two_body": 15,
            "three_body": 40,
            "soap": 100 if quick else 200,
            "n_max": 8,
            "l_max": 6,
            "cutoff_2b": 9 * radius,
            "cutoff_3b": 2.925 * radius,
            "cutoff_soap": 4.5 * radius,
        },
        # for the choice of structures the common practice takes cheaper vectors than the protocol's
        "soap": {"n_max": 8, "l_max": 6, "atom_sigma": 0.5, "cutoff": 5.0, "cutoff_transition_width": 1.0},
        "soap_rss": {
            "n_max": 12, "l_max": 12, "atom_sigma": 0.0875, "cutoff": 10.5, "cutoff_transition_width": 1.0,
        },
        "reference": REFERENCE,
    }  # fmt: skip


def castep_cell(atoms: Atoms) -> str:
    """Return a structure in the words of buildcell's output."""
    lattice = "\n".join(" ".join(f"{x:.10f}" for x in row) for row in atoms.cell.array)
    sites = "\n".join(
        f"{s} " + " ".join(f"{x:.10f}" for x in row)
        for s, row in zip(atoms.get_chemical_symbols(), atoms.get_scaled_positions(), strict=True)
    )
    return (
        f"%BLOCK LATTICE_CART\n{lattice}\n%ENDBLOCK LATTICE_CART\n\n"
        f"%BLOCK POSITIONS_FRAC\n{sites}\n%ENDBLOCK POSITIONS_FRAC\n"
    )


def buildcell_cells(count: int, seed: int) -> list[str]:
    """Return random cells of 2-8 atoms by our builder, for autoplex."""
    from gapfactory.build import BuildSettings, build_cell
    from gapfactory.elements import species
    from gapfactory.seeds import Stage, stream

    settings = BuildSettings(atoms_min=2, atoms_max=8)
    kinds = {"Si": species("Si", radius=1.11, bonding="covalent")}
    return [
        castep_cell(
            build_cell(
                stream(seed, 0, Stage.CELL, index),
                composition={"Si": 1},
                species=kinds,
                generation=0,
                settings=settings,
            ).atoms
        )
        for index in range(count)
    ]


def test_set() -> tuple[list[Atoms], list[float]]:
    """Return structures that nobody was trained on, and their energies per atom by the reference.

    Frames of relaxations of random cells with the reference itself, and diamond and beta-tin around their volumes.
    """
    from ase.build import bulk
    from ase.spacegroup import crystal

    from gapfactory.reference.analytic import StillingerWeberSilicon
    from gapfactory.search import RelaxSettings, relax_batch
    from gapfactory.search.evaluator import OneByOne

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from bench_relax import random_cells

    calculator = StillingerWeberSilicon()
    starts = random_cells("Si", 19.0, 1.9, 16, np.random.default_rng(77))
    tests: list[Atoms] = []
    for path in relax_batch(starts, [0.0] * len(starts), OneByOne(calculator), RelaxSettings(max_steps=200)):
        tests += [path.frame(k) for k in sorted({len(path) // 3, len(path) // 2, len(path) - 1})]
    for scale in np.linspace(0.94, 1.06, 7):
        tests.append(bulk("Si", "diamond", a=5.431 * scale))
        tin = crystal("Si", [(0, 0, 0)], spacegroup=141, cellpar=[4.83, 4.83, 2.67, 90, 90, 90])
        tin.set_cell(tin.cell * scale, scale_atoms=True)
        tests.append(tin)
    energies = []
    for atoms in tests:
        atoms.calc = calculator
        energies.append(float(atoms.get_potential_energy()) / len(atoms))
        atoms.calc = None
    low = min(energies) + WINDOW
    kept = [(a, e) for a, e in zip(tests, energies, strict=True) if e < low]
    return [a for a, _ in kept], [e for _, e in kept]


def errors(potential: str, tests: list[Atoms], energies: list[float]) -> float:
    """Return the RMSE of the energies in meV per atom, as quippy evaluates the potential's file."""
    from quippy.potential import Potential

    calculator = Potential("", param_filename=potential)
    wrong = []
    for atoms, energy in zip(tests, energies, strict=True):
        atoms.calc = calculator
        wrong.append(float(atoms.get_potential_energy()) / len(atoms) - energy)
        atoms.calc = None
    return 1e3 * float(np.sqrt(np.mean(np.square(wrong))))


def common_practice(places: Places) -> Comparison:
    """Ours beside a script of ASE, quippy and gap_fit."""
    return compare(places, "ASE + quippy")


def autoplex(places: Places) -> Comparison:
    """Ours beside autoplex."""
    return compare(places, "autoplex")


def compare(places: Places, peer: str) -> Comparison:
    """Run the loop on both sides, each turn with a seed of its own, and judge the last potentials alike."""
    found = Comparison()
    if peer in places.missing:
        found.missing.append(f"whole loop: {peer} ({places.missing[peer]})")
        return found
    tests, energies = test_set()
    runs: dict[str, list[dict[str, Any]]] = {"gapfactory": [], peer: []}
    for seed in range(1, (1 if places.quick else places.repeats) + 1):
        given = task(quick=places.quick, seed=seed)
        cells = buildcell_cells(given["rounds"] * given["cells"], seed) if peer == "autoplex" else []
        for name in runs:
            quiet = idle()
            if name == "gapfactory":
                result = places.run(None, "ours_loop", given)
            else:
                result = places.run(name, SIDES[name], {**given, "buildcell": cells})
            result["quiet"] = quiet and idle()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result["rmse"] = errors(result["potential"], tests, energies)
            runs[name].append(result)
            places.say(
                f"  loop, seed {seed}, {name}: {result['cpu_s']:.1f} CPU s, {result['wall_s']:.1f} s, "
                f"{result['labels']} labels, {result['rmse']:.1f} meV per atom"
            )
    found.rows = rows(runs, peer, task(quick=places.quick, seed=1), len(tests))
    if not all(run["quiet"] for results in runs.values() for run in results):
        found.missing.append(f"whole loop, {peer}: wall time, because other programs had the processors")
    return found


def idle() -> bool:
    """Return whether a processor is free for a run of one process; else its wall time says nothing."""
    return os.getloadavg()[0] < (os.cpu_count() or 1) + 0.5


def rows(runs: dict[str, list[dict[str, Any]]], peer: str, given: dict[str, Any], tests: int) -> list[Row]:
    """Return what becomes of the runs of both sides: time, and the error of the last potentials."""
    size = (
        f"{given['rounds']} rounds of {given['cells']} cells and {given['labels'] + given['held_out']} labels"
    )
    counts = [f"{median(runs[name], 'labels'):.0f}" for name in ("gapfactory", peer)]
    scatter = ["; ".join(f"{run['rmse']:.0f}" for run in runs[name]) for name in ("gapfactory", peer)]
    same = f"{counts[0]} and {counts[1]} labels trained on, the same terms and cutoffs"
    judged = f"RMSE of {tests} structures within {WINDOW} eV per atom; by seed {scatter[0]} and {scatter[1]}"
    quiet = all(run["quiet"] for results in runs.values() for run in results)
    return [
        Row(what, size, peer, unit, median(runs["gapfactory"], key), median(runs[peer], key), check=check,
            repeats=len(runs[peer]))
        for what, unit, key, check in (
            ("whole loop, processor time", "CPU s", "cpu_s", same),
            ("whole loop, wall time on one process", "s", "wall_s", same),
            ("whole loop, energy error of its potential", "meV per atom", "rmse", judged),
        )
        if quiet or key != "wall_s"
    ]  # fmt: skip


__all__ = ["REFERENCE", "autoplex", "castep_cell", "common_practice", "errors", "rows", "task", "test_set"]

if __name__ == "__main__":
    raise SystemExit(f"run {Path(__file__).resolve().parents[1] / 'bench_peers.py'}")
