"""The built-in fit against gap_fit, one run on one machine: `python tests/benchmarks/bench_gap_fit.py`.

300 silicon cells of 8 to 16 atoms with forces and virials, Table 1 settings, all scales fixed so that each backend
makes one fit. Each runs in a process of its own; peak memory is the operating system's highest resident size
(getrusage) of the process that holds the linear system. gap_fit of the quippy wheels is serial; the built-in engine
uses `--threads`. `--large` fits 5000 cells of 16 atoms with the built-in engine alone; `--part 20` takes a
twentieth of them, from which time extrapolates in proportion and memory hardly changes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = (8, 10, 12, 14, 16)


def child(arguments: argparse.Namespace) -> dict[str, object]:
    """Fit with one backend in this process."""
    sys.path.insert(0, str(Path(__file__).parent))
    from fit_cells import labelled

    from gapfactory.elements import species
    from gapfactory.potentials.gap import GapSettings, fit_gap
    from gapfactory.potentials.gap.settings import DeltaSettings, ProgramSettings, SoapSettings

    start = time.monotonic()
    data = labelled(arguments.cells, (16,) if arguments.large else SIZES, seed=1)
    labels = time.monotonic() - start
    settings = GapSettings(
        backend=arguments.child,
        soap=SoapSettings(n_sparse=arguments.sparse),
        delta=DeltaSettings(fixed=(1.0, 0.3, 0.1)),
        program=ProgramSettings(fit_threads=arguments.threads, timeout_s=7 * 86400.0),
    )
    before = resource.getrusage(resource.RUSAGE_SELF)
    memory_before = before.ru_maxrss
    with tempfile.TemporaryDirectory() as scratch:
        found = fit_gap(
            data,
            species=[species("Si", radius=1.11, bonding="covalent")],
            settings=settings,
            seed=lambda k: np.random.default_rng([1, k]),
            workdir=Path(scratch),
        )
    own, program = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    solver = program if arguments.child == "gap_fit" else own
    solving = sum(s for name, s in found.wall_s.items() if name.split()[-1] in {"fit", "rows", "solve"})
    diagnostics = found.stages[-1].diagnostics
    return {
        "backend": arguments.child,
        "sparse points": found.stages[-1].n_sparse,
        "targets": dict(found.targets),
        "labelling_s": round(labels, 1),
        "solve_wall_s": round(solving, 2),
        # Of the whole fit, the choice of sparse points and the proofs included; no busy machine changes it much.
        "cpu_s": round(own.ru_utime - before.ru_utime + program.ru_utime, 2),
        "wall_s": {name: round(seconds, 2) for name, seconds in found.wall_s.items()},
        "peak_memory_gb": round(solver.ru_maxrss * 1024 / 1e9, 3),
        "memory_before_fit_gb": round(memory_before * 1024 / 1e9, 3),
        "energy_rmse_meV": round(1000 * found.train_errors.energy_rmse, 4),
        "force_rmse_eV_A": round(found.train_errors.force_rmse or 0.0, 5),
        "condition": diagnostics.condition if diagnostics else None,
        "effective_parameters": diagnostics.effective_parameters if diagnostics else None,
        "digest": found.digest,
    }


def run(backend: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Run `child` in a fresh process and return what it printed."""
    command = [
        sys.executable, __file__, "--child", backend, "--cells", str(arguments.cells), "--sparse",
        str(arguments.sparse), "--threads", str(arguments.threads), *(["--large"] if arguments.large else []),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env=dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run both backends, or the built-in one on the large set, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, help="default 300, with --large 5000")
    parser.add_argument("--sparse", type=int, default=2000, help="SOAP sparse points (Table 1: 2000)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--large", action="store_true", help="5000 cells of 16 atoms, built-in engine only")
    parser.add_argument(
        "--part", type=int, default=1, help="with --large: one part in this many of the cells"
    )
    parser.add_argument("--child", choices=("native", "gap_fit"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cells is None:
        arguments.cells = 5000 // arguments.part if arguments.large else 300
    if arguments.child:
        sys.stdout.write(json.dumps(child(arguments)))
        return
    rows: dict[str, object] = {
        "cells": arguments.cells,
        "sparse": arguments.sparse,
        "threads": arguments.threads,
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "machine": platform.processor() or platform.machine(),
    }
    native = rows["native"] = run("native", arguments)
    if not arguments.large:
        program = rows["gap_fit"] = run("gap_fit", arguments)
        rows["ratio of solving, wall"] = round(program["solve_wall_s"] / native["solve_wall_s"], 2)  # type: ignore[operator]
        rows["ratio of whole fits, wall"] = round(
            program["wall_s"]["total"] / native["wall_s"]["total"],  # type: ignore[index]
            2,
        )
        rows["ratio of whole fits, processor time"] = round(program["cpu_s"] / native["cpu_s"], 2)  # type: ignore[operator]
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
