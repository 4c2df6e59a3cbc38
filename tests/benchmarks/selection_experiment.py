"""The selection experiment of Bernstein et al. 2019 (Fig. 2) at small size, with an analytic reference.

The same campaign is run with each method of selection and several seeds, nothing else differing:

  random        the funnel with its two CUR steps replaced by uniform random choice (flat histograms stay)
  cur-vectors   leverage-score CUR of the matrix of SOAP vectors
  cur-kernel    leverage-score CUR of the kernel matrix (the paper's choice)
  cur-kernel-soft   (with --soft) the same with a smoother selection SOAP: n_max 10, l_max 4, 0.24 Å, cutoff 4.8 Å

Each run has its own data directory below OUT/runs. A run that is finished is not repeated, a run that was stopped
continues, so the command can be stopped and given again, also with more seeds. OUT then holds results.json,
results.csv and selection-2019.png.

Examples
--------
  python tests/benchmarks/selection_experiment.py --quick --out sel-quick
  python tests/benchmarks/selection_experiment.py --seeds 1 2 3 4 5 --soft --out sel
  python tests/benchmarks/selection_experiment.py --element Ti --generations 8 --out sel-ti
  python tests/benchmarks/selection_experiment.py --collect --out sel      (only tables and figure)
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.io.extxyz import LabelledFrame

#: preset that gives the analytic reference, by element
PRESETS = {"Si": "quickstart-Si-analytic", "Ti": "quickstart-Ti"}
LABELS = {
    "random": "random",
    "cur-vectors": "CUR on vectors",
    "cur-kernel": "CUR on kernel",
    "cur-kernel-soft": "CUR on kernel, softer SOAP",
}
SOFT = {"n_max": 10, "l_max": 4, "atom_sigma": 0.24, "cutoff": 4.8}
#: held-out structures are judged up to this far above the ground state (eV/atom)
WINDOW = 1.0
SYMMETRY_TOLERANCE = 0.1
BOND_FACTOR = 1.2


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; --quick replaces the defaults of the sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("selection-experiment"), help="directory of runs and results")
    add("--element", choices=sorted(PRESETS), default="Si", help="Si: Stillinger-Weber, Ti: second-moment")
    add("--phase", help="ground state to judge by [default: the first named phase of the element]")
    add("--seeds", type=int, nargs="+", help="seeds [default: 1 2 3; quick: 1 2]")
    add(
        "--methods",
        nargs="+",
        choices=[m for m in LABELS if m != "cur-kernel-soft"],
        help="default: all three",
    )
    add("--soft", action="store_true", help="add the row with the smoother selection SOAP")
    add("--generations", type=int, help="default 6; quick 4")
    add("--labels", type=int, help="training labels per generation; default 24, quick 20")
    add("--held-out", type=int, help="held-out labels per generation; default 6, quick 5")
    add("--cells", type=int, help="cells relaxed per generation; default 400, quick 60")
    add("--initial-cells", type=int, help="cells of the first generation; default 400, quick 120")
    add("--workers", type=int, default=1, help="worker processes of a run")
    add("--parallel", type=int, default=2, help="runs at a time")
    add("--quick", action="store_true", help="small sizes: some minutes on two cores")
    add("--collect", action="store_true", help="run nothing; tables and figure of the runs that are finished")
    found = parser.parse_args(given)
    small = found.quick
    for name, value in {
        "seeds": [1, 2] if small else [1, 2, 3],
        "methods": ["random", "cur-vectors", "cur-kernel"],
        "generations": 4 if small else 6,
        "labels": 20 if small else 24,
        "held_out": 5 if small else 6,
        "cells": 60 if small else 400,
        "initial_cells": 120 if small else 400,
    }.items():
        if getattr(found, name) is None:
            setattr(found, name, value)
    found.methods = [*found.methods, *(["cur-kernel-soft"] if found.soft else [])]
    return found


def campaign_content(options: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Return the campaign file of one run; everything but method and seed is the same in all runs."""
    from gapfactory.analysis.phases import named_phases

    phase = options.phase or named_phases(options.element)[0].name
    per_generation = options.labels + options.held_out
    content: dict[str, Any] = {
        "preset": PRESETS[options.element],
        "name": f"{method}-{seed}",
        "seed": seed,
        "schedule": {
            "cells_per_generation": options.cells,
            "initial_cells": options.initial_cells,
            "generations": options.generations,
        },
        "select": {
            "noise_cells": 0,
            "labels_per_generation": options.labels,
            "held_out_per_generation": options.held_out,
            "method": "cur-kernel" if method == "cur-kernel-soft" else method,
        },
        "stop": {"label_budget": per_generation * options.generations},
        "evidence": {"phases": [phase], "stability": {"enabled": False}},
        "execution": {"relax_chunk": max(6, options.cells // 4), "reference_chunk": per_generation},
    }
    if method == "cur-kernel-soft":
        content["similarity"] = SOFT
    if options.quick:
        content["build"] = {"atoms_min": 2, "atoms_max": 6}
        content["relax"] = {"max_steps": 80}
        content["dimers"] = {"bond_lengths": 8}
        content["gap"] = {
            "two_body": {"n_sparse": 10},
            "three_body": {"n_sparse": 30},
            "soap": {"n_sparse": 150, "n_max": 6, "l_max": 4},
        }
    return content


def say(text: str) -> None:
    """Print a progress line with the time of day."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


_RUNNING: set[subprocess.Popen[bytes]] = set()
_STOPPED = threading.Event()


def stop(*_: object) -> None:
    """End the campaigns that run; their workers end with them and everything stays resumable."""
    _STOPPED.set()
    for process in list(_RUNNING):
        process.terminate()


def run_one(directory: Path, content: dict[str, Any], workers: int) -> None:
    """Run or continue one campaign to its end and collect it; nothing happens when that was done before.

    Raises
    ------
    SystemExit
        The directory holds a run of other settings, or the campaign did not end well.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file, result = directory / "campaign.yaml", directory / "run.json"
    text = json.dumps(content, indent=1)  # JSON is YAML
    if file.exists() and file.read_text() != text:
        raise SystemExit(
            f"{file} is of other settings: choose another --out, or give the options it was made with"
        )
    file.write_text(text)
    if result.exists():
        return
    if _STOPPED.is_set():
        raise SystemExit("stopped; the same command goes on here")
    environment = {k: v for k, v in os.environ.items() if k not in ("GAPFACTORY_DB", "GAPFACTORY_SCRATCH")}
    environment["GAPFACTORY_CACHE"] = str((directory / "cache").resolve())
    with (directory / "run.log").open("a") as log:
        process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-c",
                    "from launchpad.cli import main; main()",
                    "campaign",
                    "run",
                    file.name,
                ),
                *("--data", "data", "--out", "report", "--workers", str(workers)),
            ],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _RUNNING.add(process)
        code = process.wait()
        _RUNNING.discard(process)
    if _STOPPED.is_set():
        raise SystemExit("stopped; the same command goes on here")
    if code != 0:
        tail = "\n".join((directory / "run.log").read_text().splitlines()[-12:])
        raise SystemExit(f"{directory}: the campaign ended with status {code}\n{tail}")
    collect_run(directory, content["name"])


def collect_run(directory: Path, name: str) -> None:
    """Export the potentials and sets of a finished campaign and note its evidence; stop its database."""
    from gapfactory.analysis.energy_volume import fit_equation_of_state
    from gapfactory.errors import EvidenceError
    from launchpad.assessment import reference_curve
    from launchpad.cli.options import connect
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.location import stop_local
    from launchpad.database.results import metrics_of
    from launchpad.exporting import export_campaign
    from launchpad.queries import task_seconds

    os.environ.pop("GAPFACTORY_DB", None)
    data = (directory / "data").resolve()
    database = connect(None, data)
    try:
        campaign = campaign_of(require_campaign(database, name))
        phase = campaign.phase_names()[0]
        curve = reference_curve(database, campaign, phase)
        if curve is None:
            raise EvidenceError(f"{name}: no reference curve of {phase}; look at 'campaign why {name}'")
        rows = []
        for entry in metrics_of(database, name):
            generation, evidence = entry["generation"], entry["evidence"]
            export_campaign(database, name, directory / "exports" / f"generation-{generation}", generation)
            measured = evidence["phases"][phase]
            rows.append(
                {
                    "generation": generation,
                    "labels": entry["labels"],
                    "comparison": measured["comparison"],
                    "note": measured["note"],
                    "own_held_out": evidence["headline"],
                }
            )
        times: dict[str, float] = {}
        for row in task_seconds(database, name):
            times[row["kind"]] = times.get(row["kind"], 0.0) + row["seconds"]
        document = {
            "campaign": name,
            "phase": phase,
            "ground_state_eV": fit_equation_of_state(curve).energy,
            "task_s": times,
            "generations": rows,
        }
    finally:
        database.client.close()
        stop_local(data)
    (directory / "run.json").write_text(json.dumps(document, indent=1))


class Finished:
    """A finished run as it lies on disk."""

    def __init__(self, directory: Path, method: str, seed: int) -> None:
        from gapfactory.io.extxyz import read_training_set

        self.directory, self.method, self.seed = directory, method, seed
        self.document: dict[str, Any] = json.loads((directory / "run.json").read_text())
        last = directory / "exports" / f"generation-{self.document['generations'][-1]['generation']}"
        self.train = [f for f in read_training_set(last / "train.xyz") if f.config_type == "crystal"]
        held_out = last / "held-out.xyz"
        self.held_out = read_training_set(held_out) if held_out.exists() else []

    def errors(self, tests: list[LabelledFrame], key: str) -> list[dict[str, float | None]]:
        """Return the errors of each generation's potential on the common test set, from disk when known."""
        from gapfactory.potentials.gap import load_potential

        file = self.directory / f"errors-{key[:12]}.json"
        if not file.exists():
            rows = []
            for entry in self.document["generations"]:
                place = self.directory / "exports" / f"generation-{entry['generation']}" / "potential"
                rows.append(errors_on(tests, load_potential(place), self.document["ground_state_eV"]))
            file.write_text(json.dumps(rows))
        return list(json.loads(file.read_text()))

    def lowest(self, generation: int) -> LabelledFrame:
        """Return the structure of lowest reference energy per atom that was labelled in a generation."""
        members = [f for f in self.train + self.held_out if dict(f.info)["generation"] == generation]
        return min(members, key=lambda f: (f.energy / len(f.atoms), f.id))


def errors_on(tests: list[LabelledFrame], calculator: Any, ground_state: float) -> dict[str, float | None]:
    """Return energy (eV/atom) and force (eV/Å) RMSE on all test structures and on those of low energy."""
    energy, force, near = [], [], []
    for frame in tests:
        atoms = frame.atoms.copy()
        atoms.calc = calculator
        energy.append((atoms.get_potential_energy() - frame.energy) / len(atoms))
        force.append(np.asarray(atoms.get_forces() - frame.forces).ravel())
        near.append(frame.energy / len(atoms) - ground_state <= WINDOW)
    chosen = np.array(near)

    def rms(values: Any) -> float | None:
        array = np.asarray(values, dtype=float)
        return float(np.sqrt(np.mean(array**2))) if array.size and np.isfinite(array).all() else None

    low_forces = [f for f, n in zip(force, near, strict=True) if n]
    return {
        "energy_rmse_all": rms(energy),
        "energy_rmse": rms(np.array(energy)[chosen]),
        "energy_mae": float(np.abs(np.array(energy)[chosen]).mean()) if chosen.any() else None,
        "force_rmse": rms(np.concatenate(low_forces) if low_forces else []),
    }


def common_test_set(runs: list[Finished]) -> tuple[list[LabelledFrame], str]:
    """Return the held-out structures of all runs that no run was trained on, and a digest of their ids."""
    from gapfactory.structures import structure_hash

    trained = {structure_hash(f.atoms) for run in runs for f in run.train}
    pool = {structure_hash(f.atoms): f for run in runs for f in run.held_out}
    keys = sorted(set(pool) - trained)
    return [pool[key] for key in keys], hashlib.sha256("".join(keys).encode()).hexdigest()


def describe(atoms: Atoms, bond_length: float) -> tuple[float, int | None]:
    """Return the mean coordination within a bond length (Å) and the space group."""
    from ase.neighborlist import neighbor_list

    from gapfactory._spglib import space_group_number

    neighbours = len(neighbor_list("i", atoms, bond_length)) / len(atoms)
    return neighbours, space_group_number(atoms, SYMMETRY_TOLERANCE)


def table_of(runs: list[Finished], tests: list[LabelledFrame], key: str, bond: float) -> list[dict[str, Any]]:
    """Return one row for each method, seed and generation."""
    rows = []
    for run in runs:
        say(f"errors of {run.method}, seed {run.seed}, on {len(tests)} common held-out structures")
        for entry, errors in zip(run.document["generations"], run.errors(tests, key), strict=True):
            comparison = entry["comparison"] or {}
            lowest = run.lowest(entry["generation"])
            coordination, group = describe(lowest.atoms, bond)
            above = lowest.energy / len(lowest.atoms) - run.document["ground_state_eV"]
            rows.append(
                {
                    "method": run.method,
                    "seed": run.seed,
                    "generation": entry["generation"],
                    "labels": entry["labels"],
                    "ground_state_error_meV": comparison.get("energy_error_meV_per_atom"),
                    "ground_state_volume_error_percent": comparison.get("volume_error_percent"),
                    "held_out_energy_rmse_meV": _milli(errors["energy_rmse"]),
                    "held_out_energy_mae_meV": _milli(errors["energy_mae"]),
                    "held_out_energy_rmse_all_meV": _milli(errors["energy_rmse_all"]),
                    "held_out_force_rmse_eV_A": errors["force_rmse"],
                    "own_held_out_energy_rmse_meV": entry["own_held_out"].get("energy_rmse_meV"),
                    "lowest_above_ground_state_meV": 1000 * above,
                    "lowest_coordination": coordination,
                    "lowest_space_group": group,
                }
            )
    return rows


def _milli(value: float | None) -> float | None:
    return None if value is None else 1000 * value


def by_seed(rows: list[dict[str, Any]], method: str, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a table (seed, generation) of absolute values of a column; infinite where there is no value."""
    seeds = sorted({r["seed"] for r in rows if r["method"] == method})
    return np.array(
        [
            [
                np.inf if r[column] is None else abs(r[column])
                for r in rows
                if (r["method"], r["seed"]) == (method, s)
            ]
            for s in seeds
        ]
    )


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return median and range of the last generation by method, and what of it exceeds the spread of the seeds."""
    methods = list(dict.fromkeys(r["method"] for r in rows))
    found: dict[str, Any] = {}
    for column in ("ground_state_error_meV", "held_out_energy_rmse_meV", "held_out_force_rmse_eV_A"):
        last = {m: by_seed(rows, m, column)[:, -1] for m in methods}
        found[column] = {
            m: {"median": _json(np.median(v)), "best": _json(v.min()), "worst": _json(v.max())}
            for m, v in last.items()
        }
        found[f"{column}: seeds in which the first is lower than the second"] = {
            f"{a} < {b}": f"{int((last[a] < last[b]).sum())} of {len(last[a])}"
            + ("" if last[a].max() < last[b].min() or last[b].max() < last[a].min() else " (ranges overlap)")
            for i, b in enumerate(methods)
            for a in methods[i + 1 :]
        }
    return found


def _json(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def write_results(options: argparse.Namespace, runs: list[Finished]) -> None:
    """Write results.json, results.csv and the figure."""
    from gapfactory.analysis.phases import named_phases
    from gapfactory.figures.selection_experiment import CycleStructure, MethodErrors, selection_experiment

    phase = next(p for p in named_phases(options.element) if p.name == runs[0].document["phase"])
    bond = BOND_FACTOR * phase.shortest_contact
    tests, key = common_test_set(runs)
    if not tests:
        raise SystemExit("no held-out structures in these runs: give --held-out at least 1")
    rows = table_of(runs, tests, key, bond)
    near = [f for f in tests if f.energy / len(f.atoms) - runs[0].document["ground_state_eV"] <= WINDOW]
    document = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count()},
        "versions": {name: metadata.version(name) for name in ("gapfactory", "numpy", "ase", "quippy-ase")},
        "settings": {m: campaign_content(options, m, options.seeds[0]) for m in options.methods},
        "seeds": sorted({run.seed for run in runs}),
        "test_set": {
            "structures": len(tests),
            "within_window": len(near),
            "window_eV": WINDOW,
            "digest": key,
        },
        "bond_length_A": bond,
        "symmetry_tolerance_A": SYMMETRY_TOLERANCE,
        "task_s": {f"{run.method}-{run.seed}": round(sum(run.document["task_s"].values())) for run in runs},
        "last_generation": summary_of(rows),
        "rows": rows,
    }
    (options.out / "results.json").write_text(json.dumps(document, indent=1))
    with (options.out / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    methods = []
    for method in options.methods:
        mine = [r for r in rows if r["method"] == method]
        methods.append(
            MethodErrors(
                method,
                LABELS[method],
                np.array(sorted({r["labels"] for r in mine})),
                by_seed(rows, method, "ground_state_error_meV") / 1000,
                by_seed(rows, method, "held_out_energy_rmse_meV") / 1000,
            )
        )
    shown = next((r for r in runs if r.method == "cur-kernel"), runs[0])
    count = len(shown.document["generations"])
    structures = []
    for point, generation in zip("ABC", sorted({0, count // 2, count - 1}), strict=False):
        row = next(
            r
            for r in rows
            if (r["method"], r["seed"], r["generation"]) == (shown.method, shown.seed, generation)
        )
        structures.append(
            CycleStructure(
                point,
                row["labels"],
                shown.lowest(generation).atoms,
                row["lowest_above_ground_state_meV"] / 1000,
                row["lowest_coordination"],
                row["lowest_space_group"],
                bond,
            )
        )
    figure = selection_experiment(methods, structures, phase=phase.name)
    figure.savefig(options.out / "selection-2019.png", dpi=95)
    print(json.dumps(document["last_generation"], indent=1))
    say(f"results.json, results.csv and selection-2019.png in {options.out}")


def cpu_model() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def run_all(options: argparse.Namespace, jobs: list[tuple[int, str]], places: dict[Any, Path]) -> None:
    """Run what is missing, some runs at a time, seed by seed."""
    missing = [job for job in jobs if not (places[job] / "run.json").exists()]
    began, done = time.monotonic(), 0
    say(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them finished before")

    def run(job: tuple[int, str]) -> tuple[int, str]:
        if job in missing and not _STOPPED.is_set():
            say(f"starting {job[1]}, seed {job[0]}")
        run_one(places[job], campaign_content(options, job[1], job[0]), options.workers)
        return job

    with ThreadPoolExecutor(options.parallel) as pool:
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            seed, method = future.result()
            if (seed, method) in missing:
                done += 1
                left = (time.monotonic() - began) / done * (len(missing) - done)
                say(f"finished {method}, seed {seed}; {len(missing) - done} to go, about {left / 60:.0f} min")


def main() -> None:
    """Run what is missing, then write tables and figure of the seeds that are complete."""
    options = arguments_of()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    jobs = [(seed, method) for seed in options.seeds for method in options.methods]
    places = {job: options.out / "runs" / f"{job[1]}-{job[0]}" for job in jobs}
    if not options.collect:
        run_all(options, jobs, places)
    complete = [
        s for s in options.seeds if all((places[s, m] / "run.json").exists() for m in options.methods)
    ]
    if not complete:
        raise SystemExit(f"no seed has all its runs finished in {options.out}; run without --collect")
    if len(complete) < len(options.seeds):
        say(f"only seeds {complete} have all their runs finished; the others are left out")
    write_results(options, [Finished(places[s, m], m, s) for m in options.methods for s in complete])


if __name__ == "__main__":
    main()
