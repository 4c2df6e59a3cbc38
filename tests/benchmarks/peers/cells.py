"""Random cells: ours beside PyXtal (with symmetry) and ASE's genetic algorithm (without)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .places import median
from .tables import Comparison, Row, Series

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

    from .places import Places

#: Silicon: the shortest distance is 1.6 times the radius of 1.11 Å, as in the protocol; the volume is that of diamond.
SEPARATION, VOLUME = 1.776, 20.0
ORDERS = (1, 2, 3, 4, 6, 8)
TASK = "random cells, made per second of one core"


def task(atoms: int, cells: int, **more: Any) -> dict[str, Any]:
    """Return what every side is told."""
    from gapfactory.build.symmetry import groups_by_order

    return {
        "kind": "build",
        "element": "Si",
        "atoms": atoms,
        "cells": cells,
        "keep": 200,
        "separation": SEPARATION,
        "volume_per_atom": VOLUME,
        "groups": [[int(g) for g in groups_by_order(order)] for order in ORDERS],
        "limit_s": 120.0,
        "seed": 1,
        **more,
    }


def judged(cells: list[Atoms]) -> tuple[float, float]:
    """Return the shortest distance in all cells (Å) and the median volume per atom (Å^3), both by ASE."""
    from ase.neighborlist import neighbor_list

    shortest = min(float(neighbor_list("d", atoms, 1.5 * SEPARATION).min(initial=9.0)) for atoms in cells)
    return shortest, float(np.median([atoms.get_volume() / len(atoms) for atoms in cells]))


def cells_of(places: Places, script: str) -> list[Atoms]:
    """Return the cells of the last run of a side."""
    from ase.io import read

    runs: list[Path] = [p for p in places.scratch.glob(f"{script}-*") if (p / "cells.extxyz").exists()]
    last = max(runs, key=lambda p: p.stat().st_mtime_ns)
    return list(read(last / "cells.extxyz", ":"))


def marks(runs: list[dict[str, Any]]) -> tuple[tuple[float, float], ...]:
    """Return the medians of the seconds after 1/8, 1/4, 1/2 and all of the cells."""
    made = min(len(run["seconds"]) for run in runs)
    counts = sorted({max(1, made // part) for part in (8, 4, 2, 1)})
    return tuple((n, float(np.median([run["seconds"][n - 1] for run in runs]))) for n in counts)


def compare(places: Places) -> Comparison:
    """Run the comparison."""
    found = Comparison()
    sizes = (8, 16) if places.quick else (6, 12, 24)
    theirs, ours = (8, 200) if places.quick else (24, 480)
    for peer, script, operations in (
        ("PyXtal", "pyxtal_cells", "1-8"),
        ("ASE + quippy", "ase_ga_cells", 1),
    ):
        name = "PyXtal" if peer == "PyXtal" else "ase-ga"
        if peer in places.missing:
            found.missing.append(f"random cells: {name} ({places.missing[peer]})")
            continue
        growth: dict[str, list[tuple[float, float]]] = {"gapfactory": [], name: []}
        for size in sizes:
            runs = places.by_turns(
                {
                    "ours": lambda n=size, o=operations: places.run(
                        None, "ours", task(n, ours, operations=o)
                    ),
                    "theirs": lambda n=size, p=peer, s=script: places.run(p, s, task(n, theirs)),
                }
            )
            for results in runs.values():
                for one in results:
                    one["ms"] = 1e3 * one["cpu_s"] / max(one["made"], 1)
            a, b = median(runs["ours"], "ms"), median(runs["theirs"], "ms")
            judgements = [judged(cells_of(places, s)) for s in ("ours", script)]
            low, volumes = [f"{j[0]:.3f}" for j in judgements], [f"{j[1]:.1f}" for j in judgements]
            symmetry = "1-8 operations" if peer == "PyXtal" else "no symmetry"
            made = int(median(runs["theirs"], "made"))
            found.rows.append(
                Row(
                    TASK,
                    f"{size} atoms, {symmetry}",
                    name,
                    "/s",
                    1e3 / a,
                    1e3 / b,
                    more_is_better=True,
                    check=f"shortest distance {low[0]} and {low[1]} Å of {SEPARATION} asked for; {volumes[0]} and "
                    f"{volumes[1]} Å^3 per atom; {ours} and {made} cells",
                    repeats=places.repeats,
                )
            )
            growth["gapfactory"].append((size, a))
            growth[name].append((size, b))
        label = "with symmetry" if peer == "PyXtal" else "without symmetry"
        found.series += [
            Series(
                f"cells {label}",
                "atoms in the cell",
                "CPU ms per cell",
                "gapfactory" if n == "gapfactory" else n,
                tuple(points),
            )
            for n, points in growth.items()
        ]
        found.series += [
            Series(f"number of cells, {label}", f"cells of {sizes[-1]} atoms", "CPU s", n, marks(results))
            for n, results in (("gapfactory", runs["ours"]), (name, runs["theirs"]))
        ]
    return found
