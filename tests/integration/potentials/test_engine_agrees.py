"""The engine against quippy on potentials fitted by gap_fit, on every kind of structure, and its own guarantees."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.io import write

from gapfactory.potentials.gap.engine.evaluator import Engine
from gapfactory.potentials.gap.xml import read_gap

if TYPE_CHECKING:
    from ase import Atoms

pytest.importorskip("quippy")


def _material() -> Any:
    if "gap_potentials" not in sys.modules:
        path = Path(__file__).parent / "gap_potentials.py"
        spec = importlib.util.spec_from_file_location("gap_potentials", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["gap_potentials"] = module
        spec.loader.exec_module(module)
    return sys.modules["gap_potentials"]


gap_potentials = _material()
pytestmark = pytest.mark.gap

RECIPES = gap_potentials.RECIPES


@cache
def engine_of(name: str) -> Engine:
    return Engine(read_gap(gap_potentials.potential(name) / gap_potentials.XML))


def frames_of(name: str) -> dict[str, Atoms]:
    return dict(gap_potentials.structures(RECIPES[name].numbers))


@pytest.mark.parametrize("name", RECIPES)
def test_equals_quippy(name: str) -> None:
    frames = frames_of(name)
    expected = gap_potentials.oracle(gap_potentials.potential(name), list(frames.values()))
    found = engine_of(name).evaluate(list(frames.values()))
    assert found.forces is not None
    assert found.stresses is not None
    for k, (kind, atoms) in enumerate(frames.items()):
        rows, theirs = found.atoms_of(k), expected[k]
        assert abs(found.energies[k] - theirs["energy"]) < 1e-8 * len(atoms), kind
        assert np.abs(found.local_energies[rows] - theirs["energies"]).max() < 1e-8, kind
        assert np.abs(found.forces[rows] - theirs["forces"]).max() < 1e-6, kind
        if atoms.pbc.all():
            assert np.abs(found.stresses[k] - theirs["stress"]).max() < 1e-6, kind
        else:
            assert np.isnan(found.stresses[k]).all(), kind


@pytest.mark.parametrize("name", ["si_2b_f0", "si_soap8", "cuau_soap12", "si_core", "si_nb3"])
def test_forces_and_stress_are_derivatives(name: str) -> None:
    engine = engine_of(name)
    h = 1e-4
    for kind in ("two_atoms", "strained", "collapsed"):
        atoms = frames_of(name)[kind]
        found = engine.evaluate([atoms])
        assert found.forces is not None
        assert found.stresses is not None
        moved: list[Atoms] = []
        for k in range(3):
            for step in (2, 1, -1, -2):
                other = atoms.copy()
                other.positions[1, k] += step * h
                moved.append(other)
        for a, b in zip((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1), strict=True):
            for step in (2, 1, -1, -2):
                strain = np.eye(3)
                strain[a, b] += step * h
                other = atoms.copy()
                other.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                moved.append(other)
        energies = engine.evaluate(moved, gradients=False).energies.reshape(-1, 4)
        slopes = (-energies[:, 0] + 8 * energies[:, 1] - 8 * energies[:, 2] + energies[:, 3]) / (12 * h)
        size = max(1.0, np.abs(found.forces).max())
        assert np.abs(slopes[:3] + found.forces[1]).max() < 1e-6 * size, kind
        stress = slopes[3:] / atoms.get_volume()
        assert np.abs(stress - found.stresses[0]).max() < 1e-6 * max(1.0, np.abs(stress).max()), kind


@pytest.mark.parametrize("name", ["si_soap8", "cuau_soap12", "si_core", "cuau_nb3"])
def test_a_structure_does_not_depend_on_its_batch(name: str) -> None:
    engine = engine_of(name)
    frames = list(frames_of(name).values())
    together = engine.evaluate(frames * 2, variances=True)
    assert together.forces is not None
    assert together.stresses is not None
    for k, atoms in enumerate(frames):
        alone = engine.evaluate([atoms], variances=True)
        assert alone.forces is not None
        assert alone.stresses is not None
        rows = together.atoms_of(k)
        assert alone.energies[0] == together.energies[k]
        assert np.array_equal(alone.forces, together.forces[rows])
        assert np.array_equal(alone.stresses[0], together.stresses[k], equal_nan=True)


def test_threads_and_copies_give_the_same_bits() -> None:
    engine = engine_of("si_soap8")
    again: Engine = ForkingPickler.loads(ForkingPickler.dumps(engine))
    frames = list(frames_of("si_soap8").values()) * 4
    expected = engine.evaluate(frames)
    assert expected.forces is not None
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda e: e.evaluate(frames), [engine, again] * 3):
            assert np.array_equal(found.energies, expected.energies)
            assert np.array_equal(found.forces, expected.forces)


_VARIANCE = """
import sys
import numpy as np
from ase.io import read
from quippy.potential import Potential
potential = Potential(param_filename="gap.xml", calc_args="local_gap_variance gap_variance_regularisation=0.01")
rows = []
for atoms in read(sys.argv[1], ":"):
    potential.calculate(atoms, ["energy"], calc_args="local_gap_variance=v gap_variance_regularisation=0.01")
    rows.append(np.array(potential.extra_results["atoms"]["v"]))
np.save(sys.argv[2], np.concatenate(rows))
print("complete")
"""


@pytest.mark.parametrize("name", ["si_2b_3b", "si_soap8", "si_soap_linear", "cuau_soap8"])
def test_variance_equals_quippys(name: str, tmp_path: Path) -> None:
    frames = frames_of(name)
    frames.pop("collapsed")
    write(tmp_path / "frames.traj", list(frames.values()))
    done = subprocess.run(
        [sys.executable, "-c", _VARIANCE, str(tmp_path / "frames.traj"), str(tmp_path / "variance.npy")],
        cwd=gap_potentials.potential(name),
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "complete" in done.stdout, (done.stdout + done.stderr)[-2000:]
    expected = np.load(tmp_path / "variance.npy")
    found = engine_of(name).evaluate(list(frames.values()), variances=True, regularisation=0.01).variances
    assert found is not None
    assert expected.max() > 1e-3
    assert np.abs(found - expected).max() < 1e-8 * max(1.0, expected.max())
