"""Selection: SOAP vectors and CUR, ours beside quippy with numpy, and beside wfl."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .places import median
from .tables import Comparison, Row, Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .places import Places

SIDES = {"ASE + quippy": "quippy_steps", "wfl": "wfl_steps"}
ZETA = 4


def loss(vectors: NDArray[np.float64], chosen: list[int]) -> float:
    """Return the part of the kernel matrix that the chosen structures do not span (Frobenius norm, Nyström)."""
    kernel = (vectors @ vectors.T) ** ZETA
    columns = kernel[:, chosen]
    spanned = columns @ np.linalg.pinv(kernel[np.ix_(chosen, chosen)], hermitian=True) @ columns.T
    return float(np.linalg.norm(kernel - spanned) / np.linalg.norm(kernel))


def soap() -> dict[str, Any]:
    """Return the vectors of the protocol (its defaults) in the words that quippy has, too."""
    from gapfactory.descriptors import SimilaritySettings

    s = SimilaritySettings()
    names = ("n_max", "l_max", "atom_sigma", "cutoff", "cutoff_transition_width", "central_weight")
    return {name: getattr(s, name) for name in names}


def compare(places: Places) -> Comparison:
    """Run both parts: cells to chosen cells, and CUR alone where there are many."""
    found = Comparison()
    for peer in SIDES:
        if peer in places.missing:
            found.missing.append(f"selection: {peer} ({places.missing[peer]})")
    peers = {peer: script for peer, script in SIDES.items() if peer not in places.missing}
    whole(places, peers, found)
    cur_alone(places, peers, found)
    return found


def whole(places: Places, peers: dict[str, str], found: Comparison) -> None:
    """Descriptors and choice of a tenth of the cells."""
    from ase.io import write

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from bench_select import random_cells

    points: dict[str, list[tuple[float, float]]] = {name: [] for name in ("gapfactory", *peers)}
    sizes = (20, 40) if places.quick else (25, 50, 100, 200)
    for size in sizes:
        file = places.scratch / f"cells-{size}.extxyz"
        write(file, random_cells(size, 3))
        task = {
            "kind": "select", "cells": str(file), "number": 14, "choose": size // 10, "zeta": ZETA, "soap": soap(),
        }  # fmt: skip
        runs = places.by_turns(
            {
                "gapfactory": lambda t=task: places.run(None, "ours", t),
                **{p: lambda p=p, s=s, t=task: places.run(p, s, t) for p, s in peers.items()},
            },
            places.repeats if size <= 25 else 1,
        )
        vectors = vectors_of(places, "ours")
        chosen = {name: results[-1]["chosen"] for name, results in runs.items()}
        for name, results in runs.items():
            points[name].append((size, median(results, "cpu_s")))
        for peer in peers:
            common = len(set(chosen[peer]) & set(chosen["gapfactory"]))
            found.rows.append(
                Row(
                    "SOAP vectors and CUR of the kernel, a tenth chosen",
                    f"{size} cells of 6-24 atoms",
                    peer,
                    "CPU s",
                    points["gapfactory"][-1][1],
                    points[peer][-1][1],
                    check=f"{common} of {size // 10} chosen are the same; not spanned "
                    f"{loss(vectors, chosen['gapfactory']):.4f} and {loss(vectors, chosen[peer]):.4f} of the kernel",
                    repeats=len(runs[peer]),
                )
            )
    found.series += [
        Series("selection", "cells of 6-24 atoms", "CPU s", name, tuple(p)) for name, p in points.items()
    ]


def vectors_of(places: Places, script: str) -> NDArray[np.float64]:
    """Return the vectors of the last run of a side."""
    runs = [p for p in places.scratch.glob(f"{script}-*") if (p / "vectors.npy").exists()]
    loaded: NDArray[np.float64] = np.load(max(runs, key=lambda p: p.stat().st_mtime_ns) / "vectors.npy")
    return loaded


def cur_alone(places: Places, peers: dict[str, str], found: Comparison) -> None:
    """Choose 100 of many vectors, the same for all sides."""
    from gapfactory.descriptors import SimilaritySettings, average_soap

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from bench_select import random_cells

    sizes = (200, 400) if places.quick else (500, 1000, 2000, 4000)
    file = places.scratch / "vectors.npy"
    np.save(file, average_soap(random_cells(sizes[-1], 4), species=[14], settings=SimilaritySettings()))
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in ("gapfactory", *peers)}
    for size in sizes:
        task = {"kind": "cur", "vectors": str(file), "cells": size, "choose": 100, "zeta": ZETA}
        runs = places.by_turns(
            {
                "gapfactory": lambda t=task: places.run(None, "ours", t),
                **{p: lambda p=p, s=s, t=task: places.run(p, s, t) for p, s in peers.items()},
            },
            places.repeats if size <= 1000 else 1,
        )
        for name, results in runs.items():
            points[name].append((size, median(results, "cpu_s")))
        for peer in peers:
            common = len(set(runs[peer][-1]["chosen"]) & set(runs["gapfactory"][-1]["chosen"]))
            found.rows.append(
                Row(
                    "CUR of the kernel alone, 100 chosen",
                    f"{size} vectors",
                    peer,
                    "CPU s",
                    points["gapfactory"][-1][1],
                    points[peer][-1][1],
                    check=f"{common} of 100 chosen are the same; peak memory "
                    f"{median(runs['gapfactory'], 'peak_GB'):.2f} and {median(runs[peer], 'peak_GB'):.2f} GB",
                    repeats=len(runs[peer]),
                )
            )
    found.series += [Series("CUR alone", "vectors", "CPU s", name, tuple(p)) for name, p in points.items()]
