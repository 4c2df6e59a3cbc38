"""Time of energy, forces and stress with our engine and with quippy, in one process on one core.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_gap_engine.py [--out engine.json]

The potential has the terms of the protocol's Table 1 for silicon (2b cutoff 9 r, 3b 2.925 r, SOAP 8/8 with 2000 sparse
points at 4.5 r). Sparse points are descriptors of random crystals; coefficients are small random numbers, which cost
what fitted ones cost. Both programs read the same file, and the largest differences between them are reported.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.build import bulk

from gapfactory.elements import species
from gapfactory.potentials.gap.engine.evaluator import Engine, term_engine
from gapfactory.potentials.gap.engine.system import SkinnedSystem, build_system, pack
from gapfactory.potentials.gap.model import GapModel, SoapTerm, empty_term, with_points
from gapfactory.potentials.gap.settings import GapSettings
from gapfactory.potentials.gap.terms import terms
from gapfactory.potentials.gap.xml import write_gap

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

    from gapfactory.potentials.gap.model import Term

WANTED = ["energy", "forces", "stress"]


def crystals(count: int, seed: int) -> list[Atoms]:
    """Return strained, rattled silicon crystals of 8 atoms at 0.8 to 1.5 of the volume of diamond."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Si", cubic=True)
        strain = np.eye(3) * rng.uniform(0.8, 1.5) ** (1 / 3) + 0.05 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.25 * rng.normal(size=atoms.positions.shape)
        found.append(atoms)
    return found


def table_1(seed: int = 0) -> GapModel:
    """Return a potential of the published size."""
    settings = GapSettings()
    counts = [settings.two_body.n_sparse, settings.three_body.n_sparse, settings.soap.n_sparse]
    rng = np.random.default_rng(seed)
    chosen: list[Term] = []
    for description, delta in zip(terms([species("Si")], settings), (2.0, 0.5, 0.2), strict=True):
        empty = empty_term(description.descriptor, description.covariance, delta)
        system = build_system(crystals(3 * counts[description.stage] // 20 + 10, seed), empty.cutoff)
        values = term_engine(empty).descriptors(system).values
        points = values[rng.choice(len(values), counts[description.stage], replace=False)]
        size = 0.01 if isinstance(empty, SoapTerm) else 0.02
        chosen.append(with_points(empty, points, size * rng.normal(size=len(points))))
    return GapModel(terms=tuple(chosen), e0={14: -1.0})


def timed(call: Callable[[], Any], repeats: int, least: float = 0.05) -> float:
    """Return the median processor time of a call in seconds, after one that is not counted.

    Processor time, because other programs may share the machine; short calls are grouped.
    """
    start = time.process_time()
    call()
    group = max(1, int(least / max(time.process_time() - start, 1e-6)))
    samples = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(group):
            call()
        samples.append((time.process_time() - start) / group)
    return statistics.median(samples)


def split(engine: Engine, atoms: Atoms, repeats: int) -> dict[str, float]:
    """Return our time by part, microseconds per atom."""
    system = engine.system([atoms])
    scale = 1e6 / len(atoms)
    energies, forces = np.zeros(system.n_atoms), np.zeros((system.n_atoms, 3))
    virials = np.zeros((system.n_cells, 3, 3))
    found = {"neighbour list": scale * timed(lambda: engine.system([atoms]), repeats)}
    skinned = SkinnedSystem([atoms], engine.cutoff)
    cells = pack([atoms])
    found["neighbour list, skin"] = scale * timed(lambda: skinned.update(cells), repeats)
    for term, part in zip(engine.model.terms, engine.terms, strict=True):
        found[term.kind] = scale * timed(
            lambda p=part: p.add(system, energies, forces, virials, None), repeats
        )
    found["rest"] = (
        scale * timed(lambda: engine.evaluate([atoms]), repeats)
        - sum(found.values())
        + found["neighbour list, skin"]
    )
    return found


def rates(engine: Engine, atoms: Atoms, soap_us: float) -> dict[str, float]:
    """Return how fast the SOAP term is in units of the machine: useful flops of the kernel, and its BLAS."""
    (soap,) = (term for term in engine.model.terms if isinstance(term, SoapTerm))
    matrix = np.random.default_rng(0).random((1200, 1200))
    blas = 2.0 * 1200**3 / timed(lambda: matrix @ matrix, 3)
    useful = 4.0 * soap.n_sparse * (soap.dimension - 1)
    return {
        "kernel Mflop per atom": useful / 1e6,
        "Gflop/s of the whole SOAP term": useful / soap_us / 1e3,
        "Gflop/s of BLAS on a 1200 x 1200 product": blas / 1e9,
    }


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quippy-repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 64, 216])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: times are per core")
    from quippy.potential import Potential

    start = time.perf_counter()
    model = table_1()
    print(f"potential made in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    engine = Engine(model)
    start = time.perf_counter()
    Engine(model)
    result: dict[str, Any] = {
        "quippy": importlib.metadata.version("quippy-ase"),
        "numba": importlib.metadata.version("numba"),
        "terms": [f"{term.kind}, {term.n_sparse} points, cutoff {term.cutoff} A" for term in model.terms],
        "engine construction ms": 1e3 * (time.perf_counter() - start),
        "load average": os.getloadavg()[0],
        "sizes": {},
    }
    with tempfile.TemporaryDirectory() as place:
        write_gap(model, Path(place) / "gap.xml")
        theirs = Potential("", param_filename=str(Path(place) / "gap.xml"))
        theirs.calculation_always_required = True
        for size in arguments.sizes:
            n = round((size / 8) ** (1 / 3))
            if 8 * n**3 != size:
                parser.error(f"--sizes {size}: not a cubic silicon cell")
            atoms = bulk("Si", cubic=True) * (n, n, n)
            atoms.rattle(0.05, seed=1)
            quippy_s = timed(
                lambda a=atoms: theirs.calculate(a, WANTED, ["positions"]), arguments.quippy_repeats, 0.0
            )
            ours_s = timed(lambda a=atoms: engine.evaluate([a]), arguments.repeats)
            batch = [atoms] * max(1, 512 // size)
            batch_s = timed(lambda b=batch: engine.evaluate(b), arguments.repeats) / len(batch)
            energy_s = timed(lambda a=atoms: engine.evaluate([a], gradients=False), arguments.repeats)
            found = engine.evaluate([atoms])
            assert found.forces is not None
            assert found.stresses is not None
            parts = split(engine, atoms, arguments.repeats)
            row = {
                "quippy us/atom": 1e6 * quippy_s / size,
                "ours us/atom": 1e6 * ours_s / size,
                "ours in a batch of 512 atoms us/atom": 1e6 * batch_s / size,
                "ours energy only us/atom": 1e6 * energy_s / size,
                "ratio": quippy_s / ours_s,
                "ratio in a batch": quippy_s / batch_s,
                "split us/atom": parts,
                "rates": rates(engine, atoms, parts["soap"]),
                "energy difference eV/atom": float(abs(found.energies[0] - theirs.results["energy"]) / size),
                "force difference eV/A": float(np.abs(found.forces - theirs.results["forces"]).max()),
                "stress difference eV/A^3": float(np.abs(found.stresses[0] - theirs.results["stress"]).max()),
            }
            result["sizes"][str(size)] = row
            print(f"{size} atoms: ratio {row['ratio']:.1f}", file=sys.stderr)
    print(json.dumps(result, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
