"""Comparisons that scripts of their own make: energies and forces, fits, the queue, matching. Here they become rows."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import ONE_THREAD, REPOSITORY, gap_fit_program
from .tables import Comparison, Row, Series

if TYPE_CHECKING:
    from .places import Places

BENCHMARKS = Path(__file__).resolve().parents[1]


def output(script: str, *arguments: str, limit: float = 1800.0) -> str:
    """Run a script of the benchmarks on one thread and return what it prints.

    Raises
    ------
    RuntimeError
        It failed.
    """
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{script} ended with status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def engine(places: Places) -> Comparison:
    """Energies, forces and stresses of the same file by our engine and by quippy."""
    found = Comparison()
    sizes = ("8", "64") if places.quick else ("8", "64", "216")
    figures = json.loads(output("bench_gap_engine.py", "--sizes", *sizes, "--quippy-repeats", "3"))
    points: dict[str, list[tuple[float, float]]] = {"gapfactory": [], "quippy": []}
    for size, row in figures["sizes"].items():
        ours, theirs = (1e-3 * row[f"{name} us/atom"] * int(size) for name in ("ours", "quippy"))
        found.rows.append(
            Row(
                "energy, forces and stress, potential of Table 1",
                f"{size} atoms",
                "quippy",
                "CPU ms",
                ours,
                theirs,
                check=f"largest differences: energy {row['energy difference eV/atom']:.0e} eV per atom, force "
                f"{row['force difference eV/A']:.0e} eV/Å, stress {row['stress difference eV/A^3']:.0e} eV/Å^3",
                repeats=3,
            )
        )
        points["gapfactory"].append((float(size), ours))
        points["quippy"].append((float(size), theirs))
    found.series = [
        Series("energy, forces and stress", "atoms", "CPU ms", name, tuple(p)) for name, p in points.items()
    ]
    return found


def fit(places: Places) -> Comparison:
    """Fits of the same cells with the same settings by ours and by gap_fit, from labels to a proven potential."""
    found = Comparison()
    if gap_fit_program() is None:
        found.missing.append("fit: gap_fit (quippy-ase is not installed beside gapfactory)")
        return found
    sizes: tuple[tuple[int, int], ...] = (
        ((10, 100), (20, 100)) if places.quick else ((20, 500), (40, 500), (80, 500), (160, 500), (20, 2000))
    )
    points: dict[str, list[tuple[float, float]]] = {"gapfactory": [], "gap_fit": []}
    for cells, sparse in sizes:
        turns = places.repeats if cells <= 20 and sparse <= 500 else 1
        runs = [
            json.loads(
                output("bench_gap_fit.py", "--cells", str(cells), "--sparse", str(sparse), "--threads", "1")
            )
            for _ in range(turns)
        ]
        ours, theirs = (statistics.median(r[side]["cpu_s"] for r in runs) for side in ("native", "gap_fit"))
        last = runs[-1]
        errors = [
            f"{last[s]['energy_rmse_meV']:.3g} meV per atom and {last[s]['force_rmse_eV_A']:.3g} eV/Å"
            for s in ("native", "gap_fit")
        ]
        what = f"{cells} cells, {sum(last['native']['sparse points'])} sparse points"
        found.rows.append(
            Row("fit", what, "gap_fit", "CPU s", ours, theirs, check=f"training errors {errors[0]}; {errors[1]}",
                repeats=turns)
        )  # fmt: skip
        memory = [last[s]["peak_memory_gb"] for s in ("native", "gap_fit")]
        found.rows.append(Row("fit, peak memory", what, "gap_fit", "GB", *memory, repeats=turns))
        if sparse == sizes[0][1]:
            points["gapfactory"].append((cells, ours))
            points["gap_fit"].append((cells, theirs))
    found.series = [
        Series("fit", "labelled cells of 8-16 atoms", "CPU s", name, tuple(p)) for name, p in points.items()
    ]
    return found


def queue(places: Places) -> Comparison:
    """Empty tasks through the queue, ours and FireWorks' own, on the same databases in turns."""
    found = Comparison()
    waiting = ("100", "1000") if places.quick else ("1000", "10000", "30000")
    nodes = ("60", "120") if places.quick else ("100", "300", "1000")
    for task, x, arguments in (
        (
            "empty task through the queue",
            "tasks waiting",
            ("--tasks", "20" if places.quick else "60", "--preload", *waiting),
        ),
        (
            "empty task of one workflow",
            "tasks in the workflow",
            ("--tasks", "10" if places.quick else "30", "--one-workflow", "--preload", *nodes),
        ),
    ):
        lines = output("bench_queue.py", "--stock", *arguments).splitlines()
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
        sides = {
            name: {row["preloaded"]: row for row in rows if row["launcher"] == launcher}
            for name, launcher in (("gapfactory", "gapfactory"), ("FireWorks", "fireworks"))
        }
        for size, ours in sides["gapfactory"].items():
            theirs = sides["FireWorks"][size]
            found.rows.append(
                Row(task, f"{size} {x}", "FireWorks", "ms", ours["ms_per_task"], theirs["ms_per_task"],
                    check=f"same database; {ours['commands_per_task']:.0f} and {theirs['commands_per_task']:.0f} "
                    "commands to it", repeats=ours["tasks"])
            )  # fmt: skip
        found.series += [
            Series(task, x, "ms per task", name, tuple((float(k), v["ms_per_task"]) for k, v in side.items()))
            for name, side in sides.items()
        ]
    return found


def matching(places: Places) -> Comparison:
    """Which minima are which: our structure matcher beside pymatgen's, on the same pairs."""
    found = Comparison()
    if importlib.util.find_spec("pymatgen") is None:
        found.missing.append("matching of structures: pymatgen (not installed beside gapfactory)")
        return found
    sys.path.insert(0, str(BENCHMARKS))
    from bench_match import against_pymatgen, silicon_minima

    points: dict[str, list[tuple[float, float]]] = {"gapfactory": [], "pymatgen": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minima = silicon_minima(20 if places.quick else 80)
        against_pymatgen(minima[:12])  # compiles
        for part in (2, 1) if places.quick else (4, 2, 1):
            some = minima[: max(12, len(minima) // part)]
            runs = [against_pymatgen(some) for _ in range(places.repeats)]
            ours, theirs = (
                statistics.median(run[f"cpu_seconds_{side}"] for run in runs) for side in ("ours", "theirs")
            )
            last = runs[-1]
            found.rows.append(
                Row(
                    "which structures are the same crystal",
                    f"{last['pairs']} pairs of 2-8 atoms",
                    "pymatgen",
                    "CPU s",
                    ours,
                    theirs,
                    check=f"the same verdict on {last['both'] + last['neither']} of {last['pairs']} pairs",
                    repeats=places.repeats,
                )
            )
            points["gapfactory"].append((last["pairs"], ours))
            points["pymatgen"].append((last["pairs"], theirs))
    found.series = [
        Series("matching", "pairs of structures", "CPU s", name, tuple(p)) for name, p in points.items()
    ]
    return found
