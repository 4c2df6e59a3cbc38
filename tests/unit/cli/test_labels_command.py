"""`gapfactory structures check`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from gapfactory.io.extxyz import LabelledFrame, write_training_set
from launchpad.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path


def write_labels(path: Path, sign: float) -> None:
    rng = np.random.default_rng(3)
    frames = []
    for number in range(30):
        atoms = bulk("Cu", cubic=True, a=float(rng.uniform(3.4, 3.9)))
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        label = atoms.get_potential_energy(), atoms.get_forces(), sign * atoms.get_stress()
        frames.append(LabelledFrame(f"s{number}", atoms, *label))
    write_training_set(path, frames)


def test_sound_labels_and_wrong_ones(tmp_path: Path) -> None:
    write_labels(tmp_path / "good.xyz", 1.0)
    write_labels(tmp_path / "wrong.xyz", -1.0)
    good = CliRunner().invoke(app, ["structures", "check", str(tmp_path / "good.xyz")])
    assert good.exit_code == 0, good.output
    assert "no fault found in 30 structures with 120 atoms" in good.output
    assert "REF_virial" in good.output
    bad = CliRunner().invoke(app, ["structures", "check", str(tmp_path / "wrong.xyz"), "--json"])
    assert bad.exit_code == 1
    found = json.loads(bad.stdout)
    assert "wrong sign" in found["faults"][0]
    assert found["agreements"]["stress"]["correlation"] < -0.8
