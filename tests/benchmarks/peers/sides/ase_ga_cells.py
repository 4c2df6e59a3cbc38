"""The side of cells of ASE's genetic algorithm: its generator of starting structures, which knows no symmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write
from ase_ga.startgenerator import StartGenerator
from ase_ga.utilities import CellBounds
from clock import Clock, side


def generator(task: dict[str, Any], rng: np.random.Generator) -> StartGenerator:
    """Return a generator of cells of free shape with the bounds of ASE's tutorial for bulk crystals."""
    number = Atoms(task["element"]).numbers[0]
    return StartGenerator(
        Atoms("", pbc=True),
        [(task["element"], task["atoms"])],
        {(number, number): task["separation"]},
        box_volume=task["atoms"] * task["volume_per_atom"],
        number_of_variable_cell_vectors=3,
        cellbounds=CellBounds(
            {**{angle: [35, 145] for angle in ("phi", "chi", "psi")}, **{side_: [2, 50] for side_ in "abc"}}
        ),
        rng=rng,
    )


def build(task: dict[str, Any]) -> dict[str, Any]:
    """Make random cells."""
    made = generator(task, np.random.default_rng(task["seed"]))
    clock = Clock()
    cells, seconds = [], []
    while len(cells) < task["cells"] and clock.read()["cpu_s"] < task["limit_s"]:
        candidate = made.get_new_candidate(maxiter=None)
        if candidate is not None:
            cells.append(candidate)
            seconds.append(clock.read()["cpu_s"])
    figures = clock.read()
    write("cells.extxyz", [Atoms(c.numbers, c.positions, cell=c.cell, pbc=True) for c in cells])
    return {**figures, "made": len(cells), "seconds": seconds}


if __name__ == "__main__":
    side({"build": build})
