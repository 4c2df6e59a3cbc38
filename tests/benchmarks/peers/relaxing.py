"""Relaxations with one fitted potential: ours beside ASE's optimiser with quippy, and beside wfl's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .places import median
from .tables import Comparison, Row

if TYPE_CHECKING:
    from .places import Places

SIDES = {"ASE + quippy": "quippy_steps", "wfl": "wfl_steps"}
#: Å^3 per atom of the cells: makes a threshold of stress out of ours, which is for V (stress + p) / N
VOLUME = 19.0


def compare(places: Places) -> Comparison:
    """Fit a potential, then relax the same cells under the same pressures with every program."""
    from ase.io import write

    from gapfactory.search import RelaxSettings, draw_pressure

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from bench_relax import random_cells
    from bench_relax_gap import fitted

    found = Comparison()
    potential = places.scratch / "relax-potential"
    potential.mkdir()
    sparse, train, number = (200, 8, 2) if places.quick else (500, 20, 6)
    directory = fitted(potential, sparse, train)
    settings = RelaxSettings()
    rng = np.random.default_rng(5)
    cells = random_cells("Si", VOLUME, 1.9, number, rng)
    for atoms in cells:
        atoms.info["pressure_GPa"] = draw_pressure(rng, settings)
    file = places.scratch / "to-relax.extxyz"
    write(file, cells)
    task = {
        "kind": "relax",
        "cells": str(file),
        "potential": str(directory / "gap.xml"),
        "max_steps": settings.max_steps,
        "max_step": settings.max_step,
        "fmax": settings.force_threshold,
        "smax": settings.cell_force_threshold / VOLUME,
        "precon": None,
    }
    peers = {peer: script for peer, script in SIDES.items() if peer not in places.missing}
    found.missing += [f"relaxations: {p} ({places.missing[p]})" for p in SIDES if p in places.missing]
    runs = places.by_turns(
        {
            "gapfactory": lambda: places.run(None, "ours", task),
            **{p: lambda p=p, s=s: places.run(p, s, task) for p, s in peers.items()},
        },
        1,
    )
    for results in runs.values():
        for one in results:
            one["per_hour"] = 3600.0 * sum(one["converged"]) / one["cpu_s"]
    ours = runs["gapfactory"][-1]
    for peer in peers:
        theirs = runs[peer][-1]
        same = sum(abs(a - b) < 1e-3 for a, b in zip(ours["enthalpies"], theirs["enthalpies"], strict=True))
        found.rows.append(
            Row(
                "relaxations with a fitted potential, per core-hour",
                f"{number} cells of 6-16 Si, {sparse} SOAP points",
                peer,
                "/h",
                median(runs["gapfactory"], "per_hour"),
                median(runs[peer], "per_hour"),
                more_is_better=True,
                check=f"{sum(ours['converged'])} and {sum(theirs['converged'])} of {number} converged in "
                f"{ours['steps']} and {theirs['steps']} steps; {same} to the same minimum within 1 meV per atom",
                repeats=len(runs[peer]),
            )
        )
    return found
