"""Rerun every benchmark of the protocol's speed and write one table, as ratios on this machine.

    python tests/benchmarks/bench_all.py --quick            some minutes, smaller sizes
    python tests/benchmarks/bench_all.py --full             the sizes of the paper, about half an hour
    python tests/benchmarks/bench_all.py --only select queue --full
    python tests/benchmarks/bench_all.py --list             the commands, to run one by hand

Writes benchmarks.json (figures, machine, versions, load) and benchmarks.md (the table) to --out, by default
docs/reference of this repository. With --only, the other benchmarks' last figures are kept, each with its own date.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

#: the paper (Methods): fewer than 5 minutes on 16 cores for 10 000 cells, about a minute for their SOAP vectors
PAPER_CELLS_CORE_SECONDS = 300.0 * 16
PAPER_DESCRIPTORS_SECONDS = 60.0

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Benchmark:
    """One script: how to run it, how to read it, what of it goes into the table."""

    name: str
    measures: str
    script: str
    quick: tuple[str, ...]
    full: tuple[str, ...]
    read: Callable[[str], dict[str, Any]]
    rows: Callable[[dict[str, Any]], list[Row]]

    def command(self, mode: str) -> list[str]:
        """Return the command without the interpreter."""
        return [f"tests/benchmarks/{self.script}", *(self.full if mode == "full" else self.quick)]


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that the output begins with; a line for people may follow."""
    found, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    return dict(found)


def json_lines(text: str) -> dict[str, Any]:
    """Return the JSON objects of an output with one of them in each line."""
    return {"rows": [json.loads(line) for line in text.splitlines() if line.startswith("{")]}


_RELAX = re.compile(
    r"(?P<element>\w+) (?P<preconditioner>\w+)\s*: (?P<converged>\d+)/(?P<cells>\d+) converged, (?P<calls>\d+) calls, "
    r"(?P<frames>\d+) frames each, (?P<per_hour>\d+) relaxations/core-hour, (?P<potential>[\d.]+) ms potential \+ "
    r"(?P<rest>[\d.]+) ms rest"
)


def relax_lines(text: str) -> dict[str, Any]:
    """Return the figures of the relaxation benchmark, which prints sentences."""
    rows = [match.groupdict() for match in _RELAX.finditer(text)]
    if not rows:
        raise SystemExit(f"bench_relax.py printed no line that is understood:\n{text[-500:]}")
    numbers = [
        {k: v if k in ("element", "preconditioner") else float(v) for k, v in row.items()} for row in rows
    ]
    return {"rows": numbers}


def times(ratio: float) -> str:
    """Return a ratio in words."""
    return f"{ratio:.3g} times faster" if ratio >= 1 else f"{1 / ratio:.3g} times slower"


def judged(value: float, target: float, unit: str) -> str:
    """Return a target and whether it is met."""
    return f"{'meets' if value < target else '**misses**'} the target of {target:g} {unit}"


def build_rows(r: dict[str, Any]) -> list[Row]:
    """Cells per second against the paper's, and against other generators where installed."""
    found = []
    for generation, name in (("generation_0", "first generation"), ("generation_1", "later generations")):
        g, cores = r[generation], r["processes"]
        wall = g["seconds_per_10000"]
        found.append(
            (
                f"random cells, {name} ({r['element']}, {g['cells']} made)",
                f"{g['cells_per_second']:.0f} cells/s on {cores} cores; 10 000 in {wall:.1f} s",
                f"{times(PAPER_CELLS_CORE_SECONDS / (wall * cores))} per core than the paper's 5 min on 16 cores; "
                + judged(wall, 30, "s on 2 cores"),
            )
        )
    for key, name in (
        ("pyxtal", "PyXtal, at its own larger volume"),
        ("ase_ga", "ase-ga, without symmetry"),
    ):
        other = r.get(key)
        if other:
            found.append(
                (
                    f"random cells: {name} on the same machine",
                    f"{other['ms_per_cell']} ms each",
                    f"ours is {times(other['times_slower_per_core'])} per core",
                )
            )
    return found


def select_rows(r: dict[str, Any]) -> list[Row]:
    """Return time and memory of the selection, and the descriptor against quippy's."""
    s, d = r["selection"], r["descriptors"]
    full = s["cells"] >= 10000
    scaled = s["descriptor_seconds"] * 10000 / s["cells"]
    return [
        (
            f"selection of 100 from {s['cells']} cells, descriptors and CUR",
            (
                f"{s['seconds']:.1f} s on {s['cores']} cores ({s['cells'] / s['seconds']:.0f} structures/s), peak "
                f"{s['peak_GB']:.2f} GB"
            ),
            f"{judged(s['seconds'], 90, 's')}, {judged(s['peak_GB'], 2, 'GB')}"
            if full
            else "targets (90 s, 2 GB) are for 10 000",
        ),
        (
            "of this, descriptors (n_max 12, l_max 12, 10.5 Å)",
            f"{s['descriptor_seconds']:.1f} s" + ("" if full else f"; {scaled:.0f} s for 10 000 by scaling"),
            (
                f"{times(PAPER_DESCRIPTORS_SECONDS / scaled)} than the paper's about one minute for 10 000 "
                "(cores not said there)"
            ),
        ),
        (
            "descriptor of one cell, one core, CPU time",
            f"{d['ours_ms_per_cell']:.2f} ms; quippy {d['quippy_ms_per_cell']:.1f} ms",
            f"{times(d['ratio'])} than quippy; largest difference {d['largest_difference']:.1e}",
        ),
    ]


def relax_rows(r: dict[str, Any]) -> list[Row]:
    """Relaxations per core-hour with the analytic potentials, and the share that is not the potential's."""
    return [
        (
            f"relaxations, {row['element']} of 6-16 atoms, preconditioner {row['preconditioner']}",
            (
                f"{row['per_hour']:.0f} per core-hour; {row['calls']:.0f} calls each, {row['converged']:.0f} of "
                f"{row['cells']:.0f} converged"
            ),
            f"optimiser {row['rest']:.2f} ms beside {row['potential']:.2f} ms of the analytic potential per call",
        )
        for row in r["rows"]
    ]


def relax_gap_rows(r: dict[str, Any]) -> list[Row]:
    """Relaxations per core-hour with a fitted potential, against ASE and quippy on the same cells."""
    same = r["same_cells"]
    return [
        (
            f"relaxations, Si of 6-16 atoms, fitted potential of {r['sparse_points']} sparse points",
            (
                f"{r['relaxations_per_core_hour']:.0f} per core-hour; {r['calls_per_relaxation']:.0f} calls each, "
                f"{r['converged']} of {r['cells']} converged; {r['engine_ms_per_atom']:.3f} ms per atom and call, "
                f"optimiser {r['rest_ms_per_cell_and_step']:.3f} ms per cell and call"
            ),
            (
                f"ASE and quippy on {same['cells']} of these cells: "
                f"{same['quippy_relaxations_per_core_hour']:.0f} per core-hour, "
                f"{same['same_minimum_within_1_meV_per_atom']} to the same minimum in {same['quippy_steps']} steps "
                f"(ours {same['ours_steps']}); ours is {times(same['speed_up'])}"
            ),
        )
    ]


def engine_rows(r: dict[str, Any]) -> list[Row]:
    """Energy, forces and stress per atom, ours and quippy's."""
    return [
        (
            f"energy, forces and stress of {size} atoms, potential of Table 1, one core",
            f"{row['ours us/atom']:.0f} µs per atom; {row['ours in a batch of 512 atoms us/atom']:.0f} in a batch",
            (
                f"quippy {r['quippy']}: {row['quippy us/atom']:.0f} µs; ours is {times(row['ratio'])} (target 20); "
                f"largest force difference {row['force difference eV/A']:.0e} eV/Å"
            ),
        )
        for size, row in r["sizes"].items()
    ]


def fit_rows(r: dict[str, Any]) -> list[Row]:
    """Time and memory of a fit, ours and `gap_fit`'s where it could run."""
    ours, sparse = r["native"], sum(r["native"]["sparse points"])
    what = f"fit of {r['cells']} cells with forces and virials, {sparse} sparse points, {r['threads']} cores"
    measured = (
        f"{ours['solve_wall_s']:.0f} s to solve, {ours['wall_s']['total']:.0f} s with sparse points and proofs; peak "
        f"{ours['peak_memory_gb']:.2f} GB"
    )
    if "gap_fit" not in r:
        return [(what, measured, judged(ours["peak_memory_gb"], 4, "GB"))]
    other = r["gap_fit"]
    return [
        (
            what,
            measured,
            (
                f"gap_fit: {other['solve_wall_s']:.0f} s, peak {other['peak_memory_gb']:.2f} GB; ours is "
                f"{times(r['ratio of solving, wall'])} (target 8)"
            ),
        )
    ]


def queue_rows(r: dict[str, Any]) -> list[Row]:
    """Overhead per task, ours and FireWorks' own."""
    found = []
    stock = {row["preloaded"]: row for row in r["rows"] if row["launcher"] == "fireworks"}
    for row in r["rows"]:
        if row["launcher"] != "gapfactory":
            continue
        other = stock.get(row["preloaded"])
        found.append(
            (
                f"empty task through the queue, {row['preloaded']} other tasks waiting",
                f"{row['ms_per_task']:.1f} ms, {row['commands_per_task']:.1f} database commands",
                f"FireWorks' own launcher, same database: {other['ms_per_task']:.1f} ms, "
                f"{other['commands_per_task']:.1f} commands; ours is {times(other['ms_per_task'] / row['ms_per_task'])}"
                if other
                else "",
            )
        )
    return found


def eddp_rows(r: dict[str, Any]) -> list[Row]:
    """Energies, forces and steps of dynamics per atom, and training."""
    found = []
    for row in r["rows"]:
        if "members" in row:
            hidden = "x".join(map(str, row["hidden"]))
            found.append(
                (
                    f"EDDP of {row['members']} networks of {hidden}, {row['neighbours']:.0f} neighbours",
                    f"{row['dynamics_step_us_per_atom']:.1f} us/atom for a step of dynamics",
                    f"energy alone {row['energy_us_per_atom']:.1f} us/atom; features {row['features_us_per_atom']:.1f}",
                )
            )
        else:
            found.append(
                (
                    f"training of an EDDP, {row['structures']} structures of distorted silicon",
                    f"{row['training_s_per_network']:.2f} s a network",
                    f"test MAE {row['test_mae_meV']:.1f} meV/atom, {row['kept']} of {row['networks']} networks kept",
                )
            )
    return found


def eddp_gap_rows(r: dict[str, Any]) -> list[Row]:
    """An EDDP against a tuned GAP on the same energies, for each way to draw the test set."""
    found = []
    for row in r["rows"]:
        ours, gap = row["eddp"], row["gap"]
        ratio = ours["test_mae_meV"] / gap["test_mae_meV"]
        what = f"EDDP against GAP, {row['structures']} structures of silicon, {row['split']} split"
        errors = f"test MAE {ours['test_mae_meV']:.1f} against {gap['test_mae_meV']:.1f} meV/atom"
        ranks = f"rank correlation {ours['test_spearman']:.3f} against {gap['test_spearman']:.3f}"
        speeds = f"{ours['us_per_atom']:.1f} against {gap['us_per_atom']:.1f} us/atom"
        words = f"{judged(ratio, 1.5, 'times the GAP')} ({ratio:.2f}); {ranks}; {speeds}"
        found.append((what, f"{errors} in {ours['cpu_s']:.0f} against {gap['cpu_s']:.0f} s", words))
    return found


BENCHMARKS = (
    Benchmark(
        "build",
        "random cells per second",
        "bench_build.py",
        ("--cells", "1000", "--compare", "5"),
        ("--cells", "10000", "--compare", "20"),
        json_object,
        build_rows,
    ),
    Benchmark(
        "select",
        "selection of 100 from 10 000: time, memory; descriptor against quippy",
        "bench_select.py",
        ("--quick",),
        (),
        json_object,
        select_rows,
    ),
    Benchmark(
        "relax", "relaxations per core-hour", "bench_relax.py", ("6",), ("20",), relax_lines, relax_rows
    ),
    Benchmark(
        "relax-gap",
        "relaxations per core-hour with a fitted potential, against ASE and quippy",
        "bench_relax_gap.py",
        ("--cells", "30", "--oracle", "2", "--sparse", "500", "--train", "20"),
        ("--cells", "100", "--oracle", "8"),
        json_object,
        relax_gap_rows,
    ),
    Benchmark(
        "engine",
        "energy, forces and stress of a potential against quippy",
        "bench_gap_engine.py",
        ("--sizes", "8", "64", "--quippy-repeats", "3"),
        (),
        json_object,
        engine_rows,
    ),
    Benchmark(
        "eddp",
        "an EDDP's energies, forces and training",
        "bench_eddp.py",
        ("--structures", "100", "--networks", "2"),
        (),
        json_lines,
        eddp_rows,
    ),
    Benchmark(
        "eddp-gap",
        "an EDDP against a tuned GAP on the same energies",
        "bench_eddp_vs_gap.py",
        ("--structures", "80", "--networks", "3", "--quick"),
        (),
        json_lines,
        eddp_gap_rows,
    ),
    Benchmark(
        "fit",
        "time and memory of a fit against gap_fit",
        "bench_gap_fit.py",
        ("--cells", "40", "--sparse", "500"),
        (),
        json_object,
        fit_rows,
    ),
    Benchmark(
        "fit-large",
        "time and memory of a fit of 5 000 cells",
        "bench_gap_fit.py",
        ("--large", "--part", "50"),
        ("--large",),
        json_object,
        fit_rows,
    ),
    Benchmark(
        "queue",
        "overhead per task",
        "bench_queue.py",
        ("--tasks", "60", "--preload", "0", "1000", "--stock"),
        ("--stock",),
        json_lines,
        queue_rows,
    ),
)


def cpu_model() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for name in (
        "gapfactory",
        "numpy",
        "scipy",
        "numba",
        "ase",
        "quippy-ase",
        "fireworks",
        "pymongo",
        "pyxtal",
        "ase-ga",
    ):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def measure(benchmark: Benchmark, mode: str) -> dict[str, Any]:
    """Run one script and return its figures with date and load.

    Raises
    ------
    SystemExit
        The script failed; status 1 with figures (a missed target) is not a failure.
    """
    command = [sys.executable, str(REPOSITORY / benchmark.command(mode)[0]), *benchmark.command(mode)[1:]]
    before, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gf-bench-") as scratch:
        done = subprocess.run(
            command,
            cwd=scratch,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1) or (done.returncode == 1 and "{" not in done.stdout):
        raise SystemExit(f"{shlex.join(command)} ended with status {done.returncode}\n{done.stderr[-2000:]}")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "mode": mode,
        "command": shlex.join(["python", *benchmark.command(mode)]),
        "seconds": round(time.monotonic() - began, 1),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": versions(),
        "figures": benchmark.read(done.stdout),
    }


def page(results: dict[str, Any]) -> str:
    """Return the page of the table."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python tests/benchmarks/bench_all.py --full` (or `--quick`); do not edit. Wall times grow with",
        "the load of the machine, which is given; CPU times and ratios taken in the same minute hardly do. The paper",
        "is Bernstein, Csányi and Deringer, npj Comput. Mater. 5, 99 (2019): fewer than 5 minutes on 16 cores for",
        "10 000 cells, about one minute for their descriptors, on its authors' machine.",
        "",
        "| what | measured | against |",
        "|---|---|---|",
    ]
    ordered = [b for b in BENCHMARKS if b.name in results]
    lines += [f"| {' | '.join(row)} |" for b in ordered for row in b.rows(results[b.name]["figures"])]
    lines += [
        "",
        "| benchmark | rerun with | measured on | took | load before, after |",
        "|---|---|---|---|---|",
    ]
    for b in BENCHMARKS:
        if b.name in results:
            r = results[b.name]
            load = " and ".join(f"{value:g}" for value in r["load"])
            lines.append(f"| {b.measures} | `{r['command']}` | {r['date']} | {r['seconds']:.0f} s | {load} |")
        else:
            lines.append(f"| {b.measures} | `{shlex.join(['python', *b.command('full')])}` | not yet | | |")
    machines = {json.dumps([r["machine"], r["versions"]], sort_keys=True): r for r in results.values()}
    lines.append("")
    for r in machines.values():
        m = r["machine"]
        lines.append(f"Machine: {m['cpu']}, {m['cores']} cores, {m['system']}.")
        lines.append(f"Versions: {', '.join(f'{k} {v}' for k, v in r['versions'].items())}.")
    lines += [
        "",
        "Not in the table: seconds per DFT label and their noise (`python tests/benchmarks/bench_labels.py`, needs",
        "GPAW), the embedded server under load (`python tests/benchmarks/embedded_server.py`), and the selection",
        "experiment (`python tests/benchmarks/selection_experiment.py`, see",
        "[selection-2019.md](../evidence/selection-2019.md)).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller sizes (default)")
    size.add_argument("--full", action="store_true", help="the sizes of the paper")
    parser.add_argument("--only", nargs="+", choices=[b.name for b in BENCHMARKS], help="only these")
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "reference")
    options = parser.parse_args()
    mode = "full" if options.full else "quick"
    chosen = [b for b in BENCHMARKS if options.only is None or b.name in options.only]
    if options.list:
        for benchmark in chosen:
            print(f"{benchmark.measures}:\n  {shlex.join(['python', *benchmark.command(mode)])}")
        return
    file = options.out / "benchmarks.json"
    results: dict[str, Any] = json.loads(file.read_text()) if options.only and file.exists() else {}
    for benchmark in chosen:
        print(f"{datetime.now(UTC):%H:%M:%S} {shlex.join(benchmark.command(mode))} ...", flush=True)
        results[benchmark.name] = measure(benchmark, mode)
        for what, value, against in benchmark.rows(results[benchmark.name]["figures"]):
            print(f"  {what}: {value}; {against}", flush=True)
        # after each, so that a run that is stopped keeps what it has
        file.write_text(json.dumps(results, indent=1) + "\n")
        (options.out / "benchmarks.md").write_text(page(results))
    print(f"{options.out / 'benchmarks.md'} and .json written")


if __name__ == "__main__":
    main()
