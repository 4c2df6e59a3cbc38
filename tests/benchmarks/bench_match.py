"""How well and how fast the structure matcher tells structures apart, and how often pymatgen's agrees.

Run as a script::

    python tests/benchmarks/bench_match.py [--quick] [--json FILE]

Four parts: forms of known phases that must be found (another cell, strain, shaken atoms); random cells of 12 atoms
at the very volume of alpha-B12 that must not be; minima of a potential surface (silicon of Stillinger and Weber)
judged by both matchers; time for 5 000 candidates. Times are those of one core (CPU seconds).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import make_supercell

from gapfactory.analysis.matching import MatchSettings, StructureMatcher
from gapfactory.analysis.phases import named_phase, named_phases
from gapfactory.build import build_cell
from gapfactory.build.distorted import DistortedSettings, distorted_crystal
from gapfactory.build.settings import BuildSettings
from gapfactory.elements import species

PHASES = {p.name: p.atoms for e in ("B", "C", "Si", "Ti") for p in named_phases(e) if len(p.atoms) <= 28}
ALPHA = named_phase("B-alpha-B12").atoms


def recut(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Return the same crystal in another cell, orientation, origin and order of atoms."""
    cell = np.eye(3, dtype=int)
    for _ in range(3):
        shear = np.eye(3, dtype=int)
        i, j = rng.permutation(3)[:2]
        shear[i, j] = rng.choice([-1, 1])
        cell = cell @ shear
    other = make_supercell(atoms, cell)
    other = other[rng.permutation(len(other))]
    other.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
    other.positions += rng.normal(size=3)
    other.wrap()
    return other


def random_cells(
    symbol: str, n: int, sizes: tuple[int, int], seed: int, volume: float | None = None
) -> list[Atoms]:
    """Return random cells of the campaign's builder, scaled to a volume per atom (Å^3) where one is given."""
    settings = BuildSettings(atoms_min=sizes[0], atoms_max=sizes[1], odd_fraction=0)
    found = []
    for i in range(n):
        cell = build_cell(
            np.random.default_rng([seed, i]),
            composition={symbol: 1},
            species={symbol: species(symbol)},
            generation=1,
            settings=settings,
        ).atoms
        if volume is not None:
            cell.set_cell(cell.cell * (volume * len(cell) / cell.get_volume()) ** (1 / 3), scale_atoms=True)
        found.append(cell)
    return found


def found_again(repeats: int) -> dict[str, float]:
    """Return the share of distorted and re-cut forms of each phase that is found, by strain and displacement."""
    matcher = StructureMatcher(list(PHASES.values()))
    result = {}
    for strain, displacement in (
        (0.0, 0.0),
        (0.01, 0.02),
        (0.02, 0.04),
        (0.03, 0.04),
        (0.03, 0.06),
        (0.03, 0.08),
    ):
        settings = DistortedSettings(
            strain=strain, displacement=displacement, volume_low=0.9, volume_high=1.1
        )
        rng = np.random.default_rng(1)
        forms = [
            recut(distorted_crystal(atoms, rng, settings).atoms, rng)
            for atoms in PHASES.values()
            for _ in range(repeats)
        ]
        right = [m is not None and m.target == k // repeats for k, m in enumerate(matcher.match(forms))]
        result[f"strain {strain}, displacement {displacement} A"] = float(np.mean(right))
    return result


def false_positives(n: int) -> dict[str, Any]:
    """Return how many random cells of 12 atoms are taken for alpha-B12, and how many reach each step."""
    cells = random_cells("B", n, (12, 12), 2, ALPHA.get_volume() / 12)
    matcher = StructureMatcher([ALPHA])
    similarities = matcher.similarities(cells)[:, 0]
    started = time.process_time()
    matches = matcher.match(cells)
    seconds = time.process_time() - started
    bare = StructureMatcher([ALPHA], MatchSettings(least_similarity=0.0))
    few = cells[: n // 10] + disordered(ALPHA, n // 10, 1.3)
    started = time.process_time()
    without = bare.match(few)
    return {
        "cells": n,
        "matched": sum(m is not None for m in matches),
        "pass_the_prefilter": float((similarities >= matcher.settings.least_similarity).mean()),
        "largest_similarity": float(similarities.max()),
        "cpu_seconds": seconds,
        "without_prefilter": {
            "cells": len(few),
            "matched": sum(m is not None for m in without),
            "cpu_seconds": time.process_time() - started,
        },
    }


def disordered(crystal: Atoms, n: int, separation: float) -> list[Atoms]:
    """Return random arrangements of the crystal's atoms in its own cell, none nearer than the separation (Å)."""
    rng = np.random.default_rng(6)
    shifts = np.array(list(product((-1, 0, 1), repeat=3)))
    found: list[Atoms] = []
    while len(found) < n:
        points = np.empty((0, 3))
        for trial in rng.random((400, 3)):
            images = (points[:, None, :] + shifts - trial).reshape(-1, 3) @ crystal.cell.array
            if np.linalg.norm(images, axis=1).min(initial=9.0) >= separation:
                points = np.vstack([points, trial])
        if len(points) >= len(crystal):
            points = points[: len(crystal)]
            found.append(Atoms(crystal.numbers, scaled_positions=points, cell=crystal.cell, pbc=True))
    return found


def silicon_minima(n: int) -> list[Atoms]:
    """Return minima of Stillinger-Weber silicon with 2 to 8 atoms, from random cells."""
    from gapfactory.reference.analytic import StillingerWeberSilicon
    from gapfactory.search.relax import relax
    from gapfactory.search.settings import RelaxSettings

    minima = []
    for cell in random_cells("Si", n, (2, 8), 3):
        found = relax(cell, StillingerWeberSilicon(), pressure_GPa=0.0, settings=RelaxSettings())
        if found.status == "converged":
            minima.append(found.frame(-1))
    return minima


def against_pymatgen(minima: list[Atoms]) -> dict[str, Any]:
    """Return the verdicts of both matchers on minima and phases, and on pairs of minima."""
    from pymatgen.analysis.structure_matcher import StructureMatcher as TheirMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    theirs = TheirMatcher()
    targets = {k: v for k, v in PHASES.items() if k.startswith("Si")}
    plain = [
        AseAtomsAdaptor.get_structure(Atoms(m.numbers, m.positions, cell=m.cell, pbc=True)) for m in minima
    ]
    rows = []
    ours_seconds = theirs_seconds = 0.0
    chosen = list(targets.items()) + [(f"minimum {i}", minima[i]) for i in range(12)]
    for name, atoms in chosen:
        started = time.process_time()
        ours = [m is not None for m in StructureMatcher([atoms]).match(minima)]
        ours_seconds += time.process_time() - started
        structure = AseAtomsAdaptor.get_structure(
            Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        )
        started = time.process_time()
        other = [bool(theirs.fit(structure, p)) for p in plain]
        theirs_seconds += time.process_time() - started
        rows += [(name, i, a, b) for i, (a, b) in enumerate(zip(ours, other, strict=True))]
    return {
        "pairs": len(rows),
        "both": sum(a and b for _, _, a, b in rows),
        "neither": sum(not a and not b for _, _, a, b in rows),
        "only_ours": [(name, i) for name, i, a, b in rows if a and not b],
        "only_theirs": [(name, i) for name, i, a, b in rows if b and not a],
        "cpu_seconds_ours": ours_seconds,
        "cpu_seconds_theirs": theirs_seconds,
    }


def speed(n: int) -> dict[str, float]:
    """Return the CPU time for n candidates of 12 atoms, one in a hundred of which is the target."""
    rng = np.random.default_rng(4)
    mild = DistortedSettings(strain=0.01, displacement=0.02, volume_low=0.97, volume_high=1.03)
    cells = random_cells("B", n - n // 100, (12, 12), 5)
    cells += [recut(distorted_crystal(ALPHA, rng, mild).atoms, rng) for _ in range(n // 100)]
    started = time.process_time()
    matches = StructureMatcher([ALPHA]).match(cells)
    return {
        "candidates": n,
        "targets_among_them": n // 100,
        "matched": sum(m is not None for m in matches),
        "cpu_seconds": time.process_time() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the structures")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    warnings.simplefilter("ignore")
    minima = silicon_minima(80 // scale)
    result = {
        "found_again": found_again(40 // scale),
        "false_positives": false_positives(5000 // scale),
        "silicon": {"minima": len(minima)} | against_pymatgen(minima),
        "speed": speed(5000 // scale),
    }
    text = json.dumps(result, indent=1)
    print(text)  # noqa: T201
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
