"""Time and memory of selecting 100 of 10 000 cells, and the speed of descriptors relative to quippy.

Run as a script::

    python tests/benchmarks/bench_select.py [--quick] [--cores 2] [--json FILE]

The selection runs in a process of its own, whose peak memory is reported. Targets at full size on 2 cores:
below 90 s and 2 GB. The paper needed about a minute for 10 000 descriptors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

TARGET_SECONDS = 90.0
TARGET_GB = 2.0


def random_cells(n: int, seed: int) -> list[Atoms]:
    """Return n random cells of 6-24 silicon atoms, 15-25 Å^3 per atom, moderately skew."""
    rng = np.random.default_rng(seed)
    cells = []
    for _ in range(n):
        atoms = int(rng.integers(6, 25))
        cell = np.eye(3) + 0.25 * rng.normal(size=(3, 3))
        cell *= (atoms * rng.uniform(15, 25) / abs(np.linalg.det(cell))) ** (1 / 3)
        cells.append(
            Atoms(numbers=[14] * atoms, cell=cell, scaled_positions=rng.random((atoms, 3)), pbc=True)
        )
    return cells


def select(n_cells: int, cores: int) -> dict[str, Any]:
    """Select 100 of `n_cells`; return seconds and this process's peak memory."""
    from gapfactory.descriptors import SimilaritySettings, average_soap
    from gapfactory.seeds import Stage, stream
    from gapfactory.select import SelectSettings, select_initial

    similarity = SimilaritySettings()
    cells = random_cells(n_cells, 1)
    average_soap(
        cells[:1], species=[14], settings=similarity
    )  # compiled code is loaded before the clock starts
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    vectors = average_soap(cells, species=[14], settings=similarity, cores=cores)
    described = time.perf_counter()
    report = select_initial(
        [f"{i:06d}" for i in range(n_cells)],
        vectors,
        settings=SelectSettings(labels_per_generation=100, held_out_per_generation=0),
        zeta=similarity.zeta,
        streams=lambda k: stream(1, 0, Stage.SELECT, k),
        cores=cores,
    )
    done = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cells": n_cells,
        "cores": cores,
        "chosen": len(report.picks),
        "descriptor_seconds": described - started,
        "cur_seconds": done - described,
        "seconds": done - started,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_GB": after.ru_maxrss * 1024 / 1e9,
    }


def ratio_to_quippy(n_cells: int) -> dict[str, Any]:
    """Return CPU seconds per cell of quippy's descriptor and of ours on the same cells, one core."""
    from quippy.descriptors import Descriptor

    from gapfactory.descriptors import SimilaritySettings, average_soap

    s = SimilaritySettings()
    cells = random_cells(n_cells, 2)
    average_soap(cells[:1], species=[14], settings=s)
    begin = time.process_time()
    ours = average_soap(cells, species=[14], settings=s)
    own_seconds = time.process_time() - begin
    descriptor = Descriptor(
        f"soap average=T n_max={s.n_max} l_max={s.l_max} atom_sigma={s.atom_sigma} cutoff={s.cutoff} "
        f"cutoff_transition_width={s.cutoff_transition_width} central_weight={s.central_weight} "
        "n_Z=1 Z=14 n_species=1 species_Z=14"
    )
    begin = time.process_time()
    theirs = np.array([descriptor.calc(cell)["data"][0] for cell in cells])
    their_seconds = time.process_time() - begin
    return {
        "cells": n_cells,
        "ours_ms_per_cell": 1e3 * own_seconds / n_cells,
        "quippy_ms_per_cell": 1e3 * their_seconds / n_cells,
        "ratio": their_seconds / own_seconds,
        "largest_difference": float(np.abs(ours - theirs).max()),
    }


def main() -> int:
    """Run the benchmark; exit status 1 when a target is missed at full size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 000 cells, a few seconds")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(select(arguments.child, arguments.cores)))  # noqa: T201
        return 0
    n = 1000 if arguments.quick else 10000
    child = subprocess.run(
        [sys.executable, __file__, "--child", str(n), "--cores", str(arguments.cores)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    selection = json.loads(child.stdout)
    result = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "selection": selection,
        "descriptors": ratio_to_quippy(10 if arguments.quick else 40),
    }
    text = json.dumps(result, indent=2)
    print(text)  # noqa: T201
    if arguments.json:
        arguments.json.write_text(text + "\n")
    met = selection["seconds"] < TARGET_SECONDS and selection["peak_GB"] < TARGET_GB
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
