"""Random cells generated per second, for the sizes of the 2019 paper. Prints JSON and one line.

    python tests/benchmarks/bench_build.py [--cells 10000] [--element Si] [--processes 2] [--compare 20] [--check]

The paper's AIRSS run took 5 minutes on 16 cores for 10 000 cells; the target here is 30 s on 2 cores. With `--check`
every cell is made once more and checked by other programs (separations by ASE's neighbour list, symmetry by spglib),
and so are as many boron cells from a range of volumes with a separation in Å; a failure ends the script with status 1.
With
`--compare n`, n cells each of the same kind from PyXtal and from ase-ga, where installed, give ratios on the same
machine: PyXtal at its own default volume (it has no pushing and cannot reach the real density in reasonable time),
ase-ga without symmetry.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import sys
import time
from typing import Any

import numpy as np

from gapfactory.build import BuildSettings, build_cell, minimum_separations
from gapfactory.build.volumes import volume_interval
from gapfactory.elements import species
from gapfactory.seeds import Stage, stream

BORON = BuildSettings(
    volume={"per_atom": [6.5, 9.0]}, separations={"value": 1.5}, symmetry={"operations": "1-8"}
)


def check_range(job: tuple[str, BuildSettings, int, int]) -> list[str]:
    """Build cells start..stop of generation 0 and return what is wrong with them."""
    import spglib
    from ase.neighborlist import neighbor_list

    from gapfactory._spglib import quiet_spglib

    element, settings, start, stop = job
    one = species(element)
    wrong = []
    for index in range(start, stop):
        cell = build_cell(
            stream(0, 0, Stage.CELL, index),
            composition={element: 1},
            species={element: one},
            generation=0,
            settings=settings,
        )
        atoms = cell.atoms
        separation = minimum_separations([one], settings)[0, 0]
        distances = neighbor_list("d", atoms, separation * 1.2)
        nearest = distances.min() / separation if len(distances) else np.inf
        low, high = volume_interval([one], [1], settings)
        spread = 0.0 if low < high else settings.wide_volume_spread
        volume = atoms.get_volume() / len(atoms)
        with quiet_spglib():
            found = spglib.get_symmetry(
                (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3
            )
        missing = 0
        for rotation, shift in zip(cell.rotations, cell.translations, strict=True):
            same = (found["rotations"] == np.rint(rotation)).all(axis=(1, 2))
            delta = found["translations"][same] - shift
            delta -= np.rint(delta)
            distance = np.linalg.norm(delta @ atoms.cell.array, axis=1)
            missing += not (len(distance) and distance.min() < 2e-3)
        for name, good in (
            ("composition", set(atoms.get_chemical_symbols()) == {element}),
            ("number of atoms", settings.atoms_min <= len(atoms) <= settings.atoms_max),
            ("separation", nearest >= 1 - settings.slack - 1e-6),
            ("ratio reported", abs(min(nearest, 1.2) - min(cell.shortest_ratio, 1.2)) < 1e-6),
            ("volume", low * (1 - spread) * (1 - 1e-9) <= volume <= high * (1 + spread) * (1 + 1e-9)),
            ("number of operations", len(cell.rotations) == cell.symmetry_operations <= 8),
            ("symmetry", missing == 0),
        ):
            if not good:
                wrong.append(f"{element} cell {index}: {name}")
    return wrong


def check_all(cells: int, element: str, processes: int) -> dict[str, Any]:
    """Check all cells by other programs and return how many of each kind were right."""
    result = {}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for name, symbol, settings in (("paper", element, BuildSettings()), ("range", "B", BORON)):
            jobs = [(symbol, settings, k, min(k + 100, cells)) for k in range(0, cells, 100)]
            wrong = [text for part in pool.map(check_range, jobs, chunksize=1) for text in part]
            result[name] = {"element": symbol, "cells": cells, "wrong": wrong[:20], "n_wrong": len(wrong)}
    return result


def build_range(job: tuple[str, int, int, int]) -> list[tuple[float, int, int]]:
    """Build cells start..stop and return (shortest ratio, attempts, atoms) of each."""
    element, generation, start, stop = job
    settings, kinds = BuildSettings(), {element: species(element)}
    rows = []
    for index in range(start, stop):
        cell = build_cell(
            stream(0, generation, Stage.CELL, index),
            composition={element: 1},
            species=kinds,
            generation=generation,
            settings=settings,
        )
        rows.append((cell.shortest_ratio, cell.attempts, len(cell.atoms)))
    return rows


def time_ours(element: str, cells: int, processes: int) -> dict[str, Any]:
    """Time both generations' recipes in worker processes whose kernels are compiled (and cached) beforehand."""
    build_range((element, 0, 0, 2))
    chunk = max(1, cells // (10 * processes))
    result: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(build_range, [(element, 0, 0, 2)] * processes)
        for generation in (0, 1):
            jobs = [(element, generation, k, min(k + chunk, cells)) for k in range(0, cells, chunk)]
            began, cpu = time.perf_counter(), time.process_time()
            rows = np.array([row for part in pool.map(build_range, jobs, chunksize=1) for row in part])
            wall = time.perf_counter() - began
            result[f"generation_{generation}"] = {
                "cells": len(rows),
                "seconds": round(wall, 3),
                "cells_per_second": round(len(rows) / wall, 1),
                "seconds_per_10000": round(1e4 * wall / len(rows), 2),
                "parent_cpu_seconds": round(time.process_time() - cpu, 3),
                "attempts_mean": round(float(rows[:, 1].mean()), 3),
                "shortest_ratio_min": round(float(rows[:, 0].min()), 4),
                "fraction_at_full_separation": round(float((rows[:, 0] >= 1 - 1e-8).mean()), 4),
            }
    return result


def time_pyxtal(element: str, cells: int) -> float | None:
    """Return seconds per successful cell of PyXtal, or None when it is not installed."""
    if importlib.util.find_spec("pyxtal") is None:
        return None
    from pyxtal import pyxtal
    from pyxtal.msg import Comp_CompatibilityError
    from pyxtal.tolerance import Tol_matrix

    from gapfactory.build.symmetry import groups_by_order

    separation = BuildSettings().minimum_separation_in_r * species(element).radius
    tolerance = Tol_matrix((element, element, separation))
    rng = np.random.default_rng(0)
    orders = [1, 2, 3, 4, 6, 8]
    made, began = 0, time.perf_counter()
    while made < cells:
        number = int(rng.choice(groups_by_order(int(rng.choice(orders)))))
        crystal = pyxtal()
        try:
            crystal.from_random(
                3,
                number,
                [element],
                [int(rng.integers(6, 25))],
                conventional=False,
                tm=tolerance,
                random_state=rng,
            )
        except Comp_CompatibilityError:
            continue
        made += bool(crystal.valid)
    return (time.perf_counter() - began) / cells


def time_ase_ga(element: str, cells: int) -> float | None:
    """Return seconds per cell of ase-ga's StartGenerator (no symmetry), or None when it is not installed."""
    if importlib.util.find_spec("ase_ga") is None:
        return None
    from ase import Atoms
    from ase_ga.startgenerator import StartGenerator
    from ase_ga.utilities import CellBounds

    one = species(element)
    settings = BuildSettings()
    factor = settings.volume_in_r3_covalent if one.bonding == "covalent" else settings.volume_in_r3_metallic
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    for _ in range(cells):
        n = int(rng.integers(6, 25))
        volume = n * factor * one.radius**3
        bounds = CellBounds({k: [30, 150] for k in ("phi", "chi", "psi")} | {k: [2, 50] for k in "abc"})
        slab = Atoms("", pbc=True)
        distances = {(one.number, one.number): settings.minimum_separation_in_r * one.radius}
        generator = StartGenerator(
            slab,
            [(one.symbol, n)],
            distances,
            box_volume=volume,
            number_of_variable_cell_vectors=3,
            cellbounds=bounds,
            rng=rng,
        )
        if generator.get_new_candidate() is None:
            raise RuntimeError("ase-ga found no candidate")
    return (time.perf_counter() - began) / cells


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=10000)
    parser.add_argument("--element", default="Si")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--compare", type=int, default=0, help="cells of PyXtal and ase-ga to time, where installed"
    )
    parser.add_argument("--check", action="store_true", help="check every cell by ASE and spglib")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "element": arguments.element,
        "processes": arguments.processes,
        **time_ours(arguments.element, arguments.cells, arguments.processes),
    }
    first = result["generation_0"]
    ours = first["seconds"] * arguments.processes / first["cells"]
    if arguments.compare:
        for name, timer in (("pyxtal", time_pyxtal), ("ase_ga", time_ase_ga)):
            theirs = timer(arguments.element, arguments.compare)
            result[name] = (
                None
                if theirs is None
                else {"ms_per_cell": round(1e3 * theirs, 2), "times_slower_per_core": round(theirs / ours, 1)}
            )
    if arguments.check:
        result["checked"] = check_all(arguments.cells, arguments.element, arguments.processes)
    print(json.dumps(result, indent=2))  # noqa: T201
    print(  # noqa: T201
        f"{first['cells']} {arguments.element} cells in {first['seconds']:.1f} s on {arguments.processes} processes "
        f"({1e3 * ours:.2f} ms each on one core; target 30 s per 10 000 on 2)"
    )
    if any(part["n_wrong"] for part in result.get("checked", {}).values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
