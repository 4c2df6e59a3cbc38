"""The built-in fit against gap_fit on 200 unseen structures: `python tests/benchmarks/compare_fit.py`.

Both backends get the same data, sparse points, scales and expected errors (Table 1 settings, fewer SOAP points, so
that gap_fit ends in minutes). Prints the largest and root-mean-square differences of their predictions as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from fit_cells import cell, labelled

from gapfactory.elements import species
from gapfactory.potentials.gap import GapSettings, fit_gap
from gapfactory.potentials.gap.check import evaluate
from gapfactory.potentials.gap.settings import SoapSettings


def main() -> None:
    """Fit twice, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--unseen", type=int, default=200)
    parser.add_argument("--sparse", type=int, default=300, help="SOAP sparse points (Table 1: 2000)")
    arguments = parser.parse_args()
    data = labelled(arguments.cells, (8, 12, 16), seed=2)
    rng = np.random.default_rng(77)
    unseen = [cell(rng, (8, 10, 12, 14, 16)[k % 5]) for k in range(arguments.unseen)]
    with tempfile.TemporaryDirectory() as scratch:
        fits = {
            backend: fit_gap(
                data,
                species=[species("Si", radius=1.11, bonding="covalent")],
                settings=GapSettings(backend=backend, soap=SoapSettings(n_sparse=arguments.sparse)),
                seed=lambda k: np.random.default_rng([1, k]),
                workdir=Path(scratch) / backend,
            )
            for backend in ("native", "gap_fit")
        }
        ours, theirs = (evaluate(found.directory, unseen) for found in fits.values())
    sizes = np.array([len(atoms) for atoms in unseen])
    energy = (ours.energies - theirs.energies) / sizes
    force = np.vstack(ours.forces or []) - np.vstack(theirs.forces or [])
    stress = np.asarray(ours.stresses) - np.asarray(theirs.stresses)

    def size(values: np.ndarray) -> dict[str, float]:
        return {"largest": float(np.abs(values).max()), "rms": float(np.sqrt(np.mean(values**2)))}

    rows = {
        "cells": arguments.cells,
        "unseen": len(unseen),
        "sparse points": fits["native"].stages[-1].n_sparse,
        "deltas": {backend: dict(found.deltas) for backend, found in fits.items()},
        "energy difference, eV/atom": size(energy),
        "force difference, eV/A": size(force),
        "stress difference, eV/A^3": size(stress),
        "wall_s": {backend: round(found.wall_s["total"], 1) for backend, found in fits.items()},
        "agrees (1e-6 eV/atom, 1e-4 eV/A)": bool(np.abs(energy).max() < 1e-6 and np.abs(force).max() < 1e-4),
    }
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
