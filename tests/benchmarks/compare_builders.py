"""Distributions of our random cells beside PyXtal's: volume, shape, symmetry, coordination, time. Figure and JSON.

    python tests/benchmarks/compare_builders.py --cells 200 --ours 2000 --out docs/evidence

PyXtal is no dependency: make a virtual environment with gapfactory and `pip install pyxtal` in it, and run this there.
Three sets of boron cells with 8-24 atoms, 1-8 operations and no distance below 1.5 Å, space groups drawn alike (number
of operations first, then a group):

- ours, at 7.5 Å^3/atom, the density of real boron phases;
- PyXtal's `from_random` at its volume factor `--factor`, which is as dense as it gets within about a second per cell;
- ours again, one for each of PyXtal's, with its number of atoms, number of operations and volume.

Coordination counts neighbours within 1.25 times the cube root of the volume per atom, so that it does not depend on the
density.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.neighborlist import neighbor_list

from gapfactory._spglib import quiet_spglib
from gapfactory.build import BuildSettings, build_cell
from gapfactory.build.lattice import reduce_lattice
from gapfactory.build.symmetry import groups_by_order, space_group
from gapfactory.elements import species
from gapfactory.errors import BuildError
from gapfactory.seeds import Stage, stream

SEPARATION = 1.5
VOLUME = 7.5
ORDERS = (1, 2, 3, 4, 6, 8)
REACH = 1.25
#: CPU seconds after which one of PyXtal's attempts is given up: some take minutes
ATTEMPT = 10.0


@dataclass(frozen=True)
class Cell:
    """One cell, the number of operations asked for, and the CPU seconds it took."""

    atoms: Atoms
    operations: int
    seconds: float


def ours(index: int, atoms: tuple[int, int], operations: object, volume: dict[str, Any]) -> Cell:
    """Build one of ours."""
    began = time.process_time()
    cell = build_cell(
        stream(5, 1, Stage.CELL, index),
        composition={"B": 1},
        species={"B": species("B")},
        generation=1,
        settings=BuildSettings(
            atoms_min=atoms[0],
            atoms_max=atoms[1],
            odd_fraction=0.47,  # 8 of the 17 sizes
            volume=volume,
            separations={"value": SEPARATION},
            symmetry={"operations": operations},
            slack=0.0,
        ),
    )
    return Cell(cell.atoms, cell.symmetry_operations, time.process_time() - began)


def pyxtal_cells(count: int, factor: float, limit: float) -> tuple[list[Cell], dict[str, int]]:
    """Build cells with PyXtal and return them and how its attempts ended; stop after `limit` CPU seconds."""
    from pyxtal import pyxtal
    from pyxtal.msg import Comp_CompatibilityError
    from pyxtal.tolerance import Tol_matrix

    rng = np.random.default_rng(0)
    tolerance = Tol_matrix(("B", "B", SEPARATION))
    made: list[Cell] = []
    ends = {"made": 0, "sites do not add up": 0, "failed": 0, f"more than {ATTEMPT:g} s": 0}

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, too_long)
    began = time.process_time()
    while len(made) < count and time.process_time() - began < limit:
        order = int(rng.choice(ORDERS))
        number = int(rng.choice(groups_by_order(order)))
        size = int(rng.integers(8, 25))
        crystal = pyxtal()
        start = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_PROF, ATTEMPT)
            crystal.from_random(
                3, number, ["B"], [size], factor, conventional=False, tm=tolerance, random_state=rng
            )
        except Comp_CompatibilityError:
            ends["sites do not add up"] += 1
            continue
        except TimeoutError:
            ends[f"more than {ATTEMPT:g} s"] += 1
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if not crystal.valid:
            ends["failed"] += 1
            continue
        seconds = time.process_time() - start
        ends["made"] += 1
        atoms = primitive(crystal)
        if len(atoms) != size:
            raise RuntimeError(f"PyXtal made {len(atoms)} atoms where {size} were asked for")
        made.append(Cell(atoms, order, seconds))
    return made, ends


def primitive(crystal: Any) -> Atoms:
    """Return the primitive cell of the group that PyXtal imposed (its own cell is the conventional one)."""
    atoms = crystal.to_ase(resort=False)
    basis = space_group(crystal.group.number).primitive
    cell, _ = reduce_lattice(basis @ atoms.cell.array)
    fractional = atoms.positions @ np.linalg.inv(cell)
    kept: list[np.ndarray] = []
    for point in fractional % 1.0:
        delta = np.array(kept).reshape(-1, 3) - point
        if not len(kept) or np.linalg.norm((delta - np.rint(delta)) @ cell, axis=1).min() > 1e-3:
            kept.append(point)
    return Atoms("B" * len(kept), scaled_positions=kept, cell=cell, pbc=True)


def described(cells: list[Cell]) -> dict[str, list[float]]:
    """Return what is compared, for each cell (coordination for each atom)."""
    result: dict[str, list[float]] = {
        k: [] for k in ("volume", "aspect", "nearest", "asked", "found", "coordination", "seconds")
    }
    for cell in cells:
        atoms = cell.atoms
        lattice, _ = reduce_lattice(atoms.cell.array)
        lengths = np.linalg.norm(lattice, axis=1)
        volume = atoms.get_volume() / len(atoms)
        reach = REACH * volume ** (1 / 3)
        i, d = neighbor_list("id", atoms, 2.0 * reach)
        with quiet_spglib():
            found = spglib.get_symmetry(
                (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-2
            )
        result["volume"].append(volume)
        result["aspect"].append(lengths.max() / lengths.min())
        result["nearest"].append(float(d.min()))
        result["asked"].append(cell.operations)
        result["found"].append(len(np.unique(found["rotations"], axis=0)))
        result["coordination"] += np.bincount(i[d < reach], minlength=len(atoms)).tolist()
        result["seconds"].append(cell.seconds)
    return result


def summary(data: dict[str, list[float]]) -> dict[str, Any]:
    """Return the numbers of the table."""
    q = {k: np.array(v) for k, v in data.items()}
    return {
        "cells": len(q["volume"]),
        "ms_median": round(1e3 * float(np.median(q["seconds"])), 2),
        "ms_mean": round(1e3 * float(q["seconds"].mean()), 2),
        "volume_median": round(float(np.median(q["volume"])), 2),
        "volume_range": [round(float(q["volume"].min()), 2), round(float(q["volume"].max()), 2)],
        "aspect_median": round(float(np.median(q["aspect"])), 2),
        "aspect_95": round(float(np.quantile(q["aspect"], 0.95)), 2),
        "nearest_min": round(float(q["nearest"].min()), 4),
        "nearest_median": round(float(np.median(q["nearest"])), 3),
        "no_symmetry": round(float((q["found"] == 1).mean()), 3),
        "more_symmetry_than_asked": round(float((q["found"] > q["asked"]).mean()), 3),
        "less_symmetry_than_asked": round(float((q["found"] % q["asked"] != 0).mean()), 3),
        "coordination_mean": round(float(q["coordination"].mean()), 2),
        "coordination_sd": round(float(q["coordination"].std()), 2),
    }


def draw(sets: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the four distributions."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    colours = dict(zip(sets, ("#1b6ca8", "#d1495b", "#66a182"), strict=False))
    figure, axes = plt.subplots(2, 2, figsize=(9.0, 6.4), constrained_layout=True)
    # every cell is in a bin: PyXtal's are from half to three times as large as ours
    every = np.concatenate([data["volume"] for data in sets.values()])
    volumes = np.arange(np.floor(every.min()), np.ceil(every.max()) + 0.5, 0.5)
    dashes = dict(zip(sets, ("-", "-", "--"), strict=False))
    for name, data in sets.items():
        style = {"histtype": "step", "density": True, "color": colours[name], "linewidth": 1.6, "label": name}
        style["linestyle"] = dashes[name]
        axes[0, 0].hist(data["volume"], bins=volumes, **style)
        axes[0, 1].hist(data["aspect"], bins=np.linspace(1, 6, 41), **style)
    width = 0.8 / len(sets)
    for k, (name, data) in enumerate(sets.items()):
        shift = (k - (len(sets) - 1) / 2) * width
        orders = [1, 2, 3, 4, 6, 8, 12]
        share = [float(np.mean(np.array(data["found"]) == o)) for o in orders]
        share.append(1.0 - sum(share))
        axes[1, 0].bar(np.arange(len(share)) + shift, share, width, color=colours[name])
        axes[1, 0].set_xticks(range(len(share)), [*map(str, orders), "more"])
        numbers = np.arange(0, 15)
        share = [float(np.mean(np.array(data["coordination"]) == n)) for n in numbers]
        axes[1, 1].bar(numbers + shift, share, width, color=colours[name])
    axes[0, 0].set(xlabel="volume (Å³/atom)", ylabel="density of cells")
    axes[0, 1].set(xlabel="longest over shortest vector, reduced cell", ylabel="density of cells")
    axes[1, 0].set(xlabel="symmetry operations found by spglib", ylabel="fraction of cells")
    axes[1, 1].set(
        xlabel=f"neighbours within {REACH} × (volume per atom)$^{{1/3}}$", ylabel="fraction of atoms"
    )
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=200, help="cells of PyXtal")
    parser.add_argument("--ours", type=int, default=2000, help="cells of ours at the density of boron")
    parser.add_argument("--factor", type=float, default=0.55, help="PyXtal's volume factor")
    parser.add_argument("--limit", type=float, default=400.0, help="CPU seconds for PyXtal at the most")
    parser.add_argument("--out", type=Path, required=True, help="directory for builder.json and builder.png")
    arguments = parser.parse_args()
    ours(10**6, (8, 24), "1-8", {"per_atom": VOLUME})
    dense = [ours(k, (8, 24), "1-8", {"per_atom": VOLUME}) for k in range(arguments.ours)]
    theirs, ends = pyxtal_cells(arguments.cells, arguments.factor, arguments.limit)
    paired, unpaired = [], 0
    for k, cell in enumerate(theirs):
        n = len(cell.atoms)
        volume = {"per_atom": cell.atoms.get_volume() / n, "exact": True}
        try:
            paired.append(ours(k, (n, n), cell.operations, volume))
        except BuildError:
            unpaired += 1
    sets = {
        f"gapfactory, {VOLUME} Å³/atom": described(dense),
        f"PyXtal, factor {arguments.factor}": described(theirs),
        "gapfactory, PyXtal's volumes": described(paired),
    }
    result = {
        "settings": {"separation": SEPARATION, "factor": arguments.factor, "reach": REACH},
        "pyxtal_attempts": ends,
        "not_built_at_pyxtal_volume": unpaired,
        "sets": {name: summary(data) for name, data in sets.items()},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "builder.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    draw(sets, arguments.out / "builder.png")
    print(json.dumps(result, indent=2, ensure_ascii=False))  # noqa: T201


if __name__ == "__main__":
    main()
