"""A core installation, without quippy and gap_fit, runs a whole campaign."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.database, pytest.mark.timeout(600)]

CAMPAIGN = """
preset: quickstart-Si-analytic
name: core-only
seed: 5
schedule: {cells_per_generation: 12, initial_cells: 24, generations: 2}
select: {noise_cells: 1, labels_per_generation: 6, held_out_per_generation: 2}
stop: {label_budget: 16}
build: {atoms_min: 2, atoms_max: 4}
dimers: {bond_lengths: 5}
relax: {max_steps: 40}
gap:
  soap: {n_sparse: 20, n_max: 4, l_max: 3}
evidence: {stability: {duration_ps: 0.04, nve_ps: 0.02, n_atoms: 8}}
"""
MAIN = (sys.executable, "-c", "from launchpad.cli import main; main()")


def run(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {
        "GAPFACTORY_DATA": str(cwd / "db"),
        "GAPFACTORY_CACHE": str(cwd / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(cwd / "absent"), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        ),
    }
    environment = {key: value for key, value in os.environ.items() if key != "GAPFACTORY_DB"} | own
    return subprocess.run(
        [*MAIN, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_core_installation_runs_a_campaign(tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "quippy"
    absent.mkdir(parents=True)
    # stands before the installed package on the path of every process, and tells who asked for it
    absent.joinpath("__init__.py").write_text(
        "import pathlib, sys\n"
        f"pathlib.Path({str(tmp_path / 'asked')!r}).write_text(' '.join(sys.argv))\n"
        "raise ImportError('quippy is not installed')\n"
    )
    (tmp_path / "c.yaml").write_text(CAMPAIGN)
    try:
        done = run(tmp_path, "campaign", "run", "c.yaml", "--workers", "1", "--out", "report")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        exported = run(tmp_path, "campaign", "export", "core-only", "--out", "exported")
        assert exported.returncode == 0, exported.stdout + exported.stderr
        state = json.loads(run(tmp_path, "campaign", "status", "core-only", "--json").stdout)
    finally:
        run(tmp_path, "db", "stop")
    asked = tmp_path / "asked"
    assert not asked.exists(), f"quippy was imported by: {asked.read_text()}"
    assert state["state"] == "done"
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "exported" / "potential" / "gap.xml").is_file()
    # the same block does stop what needs quippy
    probe = subprocess.run(
        [sys.executable, "-c", "import quippy"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "quippy is not installed" in probe.stderr
