"""The same campaign with one worker, with four, and with four that are killed ends in the same bits.

The reference is analytic; the queue, the database, the relaxations and the fits are real.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.database, pytest.mark.timeout(1500)]

CAMPAIGN = """
preset: quickstart-Si-analytic
name: same-bits
seed: 11
schedule: {cells_per_generation: 32, initial_cells: 24, generations: 2}
select: {noise_cells: 1, labels_per_generation: 6, held_out_per_generation: 2}
stop: {label_budget: 16}
build: {atoms_min: 2, atoms_max: 4}
dimers: {bond_lengths: 5}
relax: {max_steps: 60}
gap:
  two_body: {n_sparse: 8}
  three_body: {n_sparse: 10}
  soap: {n_sparse: 20, n_max: 4, l_max: 3}
evidence: {stability: {duration_ps: 0.04, nve_ps: 0.02, n_atoms: 8}}
execution: {build_chunk: 8, relax_chunk: 2, reference_chunk: 2}
"""
LIMIT_S = 420.0
MAIN = (sys.executable, "-c", "from launchpad.cli import main; main()")


def gapfactory(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAIN, *arguments],
        cwd=cwd,
        env=environment(cwd),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(cwd: Path) -> dict[str, str]:
    own = {"GAPFACTORY_DATA": str(cwd / "db"), "GAPFACTORY_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    return {key: value for key, value in os.environ.items() if key != "GAPFACTORY_DB"} | own


def worker_pids(cwd: Path) -> list[int]:
    """Return the worker processes of this run: they have this run's scratch as working directory or below."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                place = str((entry / "cwd").readlink())
            except OSError:
                continue
            if b"launchpad.workers" in command and place.startswith(str(cwd)):
                found.append(int(entry.name))
    return sorted(found)


def run(cwd: Path, workers: int, *, kills: int = 0, kill_server: bool = False) -> dict[str, str]:
    """Run the campaign to its end, killing what is asked on the way; return its digests."""
    cwd.mkdir()
    (cwd / "c.yaml").write_text(CAMPAIGN)
    chance = random.Random(5)
    with (cwd / "out.log").open("w") as log:
        process = subprocess.Popen(
            [*MAIN, "campaign", "run", "c.yaml", "--workers", str(workers)],
            cwd=cwd,
            env=environment(cwd),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        killed = 0
        try:
            end, next_kill = time.monotonic() + LIMIT_S, time.monotonic() + 3.0
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
                if time.monotonic() >= next_kill:
                    next_kill = time.monotonic() + 0.4 + 1.2 * chance.random()
                    victims = worker_pids(cwd)
                    if killed < kills and victims:
                        os.kill(chance.choice(victims), signal.SIGKILL)
                        killed += 1
                    if kill_server and killed >= kills // 2:
                        kill_server = False
                        status = json.loads(gapfactory("db", "status", "--json", cwd=cwd).stdout)
                        os.kill(status["pid"], signal.SIGKILL)
            code = process.poll()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)
    text = (cwd / "out.log").read_text()
    assert code == 0, f"exit code {code}:\n{text[-3000:]}"
    assert killed >= min(kills, 3), (
        f"only {killed} workers were killed: the run was over too soon\n{text[-1500:]}"
    )
    assert not kill_server, "the server was never killed"
    found = gapfactory("campaign", "digest", "same-bits", "--json", cwd=cwd)
    whole = gapfactory("db", "check", cwd=cwd)
    gapfactory("db", "stop", cwd=cwd)
    assert found.returncode == 0, found.stderr
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert (cwd / "same-bits-report" / "index.html").is_file()
    return dict(json.loads(found.stdout))


def test_one_worker_four_workers_and_killed_workers_end_in_the_same_bits(tmp_path: Path) -> None:
    alone = run(tmp_path / "one", 1)
    assert {"structures", "relaxations", "selections", "labels", "training set", "potential 1"} <= set(alone)
    assert run(tmp_path / "four", 4) == alone
    assert run(tmp_path / "killed", 4, kills=10, kill_server=True) == alone
