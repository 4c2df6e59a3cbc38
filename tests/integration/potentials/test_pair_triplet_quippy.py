"""Descriptors and variances of two- and three-body terms against quippy's."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import write

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.evaluator import Engine, term_engine
from gapfactory.potentials.gap.engine.system import build_system
from gapfactory.potentials.gap.model import empty_term
from gapfactory.potentials.gap.xml import read_gap

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


def run_quippy(code: str, place: Path, *arguments: str, cwd: Path) -> None:
    """Run code in a process of its own: quippy may end it."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(place), *arguments],
        cwd=cwd,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "complete" in done.stdout, (done.stdout + done.stderr)[-2000:]


_DESCRIPTORS = """
import json
import sys
import numpy as np
from ase.io import read
from quippy.descriptors import Descriptor
place = sys.argv[1]
rows = {}
for d, text in enumerate(json.loads(sys.argv[2])):
    descriptor = Descriptor(text)
    for k, atoms in enumerate(read(place + "/frames.traj", ":")):
        found = descriptor.calc(atoms)
        cutoff = found.get("covariance_cutoff", np.empty(0))
        rows[f"data {d} {k}"] = found.get("data", np.empty((0, 1)))
        rows[f"cutoff {d} {k}"] = cutoff
        atoms_of = np.array(found.get("ci", []), dtype=int).ravel()
        rows[f"atom {d} {k}"] = atoms_of[:: max(1, len(atoms_of) // max(1, len(cutoff)))] - 1
np.savez(place + "/found.npz", **rows)
print("complete")
"""

STRINGS = (
    "distance_2b Z1=29 Z2=29 cutoff=4.2 cutoff_transition_width=1.0",
    "distance_2b Z1=29 Z2=79 cutoff=4.2 cutoff_transition_width=1.0",
    "distance_Nb order=2 Z={29 79} cutoff=4.2 cutoff_transition_width=1.0",
    "angle_3b Z=29 Z1=29 Z2=79 cutoff=3.5 cutoff_transition_width=0.8",
    "angle_3b Z=79 Z1=29 Z2=29 cutoff=3.5 cutoff_transition_width=0.8",
    "distance_Nb order=3 Z={79 79 79} cutoff=3.5 cutoff_transition_width=0.8",
    "distance_Nb order=3 Z={29 29 79} cutoff=3.5 cutoff_transition_width=0.8",
    "distance_Nb order=3 Z={29 79 79} cutoff=3.5 cutoff_transition_width=0.8 compact_clusters=F",
)


def sorted_rows(values: np.ndarray, cutoff: np.ndarray, atom: np.ndarray) -> np.ndarray:
    """Return the descriptors with their factors and atoms in an order that rounding does not change."""
    rows = np.column_stack([atom, cutoff, values]) if len(atom) else np.empty((0, 2 + values.shape[1]))
    return rows[np.lexsort(np.round(rows, 7).T[::-1])] if len(rows) else rows


def test_descriptors_are_quippys(tmp_path: Path) -> None:
    kinds = ("rattled", "strained", "two_atoms", "slab", "cluster", "isolated", "dimer")
    material = gap_potentials.structures((29, 79), 3)
    frames = [material[kind] for kind in kinds]
    write(tmp_path / "frames.traj", frames)
    run_quippy(_DESCRIPTORS, tmp_path, json.dumps(STRINGS), cwd=tmp_path)
    seen = 0
    with np.load(tmp_path / "found.npz") as theirs:
        for d, text in enumerate(STRINGS):
            term = empty_term(text, "covariance_type=ard_se theta_uniform=1.0", 1.0)
            for k, atoms in enumerate(frames):
                ours = term_engine(term).descriptors(build_system([atoms], term.cutoff))
                expected = (theirs[f"{name} {d} {k}"] for name in ("data", "cutoff", "atom"))
                data, cutoff, atom = expected
                assert len(ours.cutoff) == len(cutoff), (text, kinds[k])
                if "compact_clusters=F" in text:
                    # of equal atoms in a closed cluster either may come first, which changes no kernel
                    data, values = data.copy(), ours.values.copy()
                    if len(data):
                        data[:, :2].sort(axis=1)
                        values[:, :2].sort(axis=1)
                    nobody = np.zeros(len(cutoff), dtype=np.int64)
                    a, b = sorted_rows(data, cutoff, nobody), sorted_rows(values, ours.cutoff, nobody)
                else:
                    a, b = sorted_rows(data, cutoff, atom), sorted_rows(ours.values, ours.cutoff, ours.centre)
                if len(a):
                    assert np.allclose(a, b, rtol=0.0, atol=1e-10), (text, kinds[k])
                seen += len(a)
    assert seen > 500


_VARIANCE = """
import sys
import numpy as np
from ase.io import read
from quippy.potential import Potential
place = sys.argv[1]
potential = Potential(param_filename="gap.xml")
rows = []
for atoms in read(place + "/frames.traj", ":"):
    potential.calculate(atoms, ["energy"], calc_args="local_gap_variance=v gap_variance_regularisation=0.05")
    rows.append(np.array(potential.extra_results["atoms"]["v"]))
np.save(place + "/variance.npy", np.concatenate(rows))
print("complete")
"""


@pytest.mark.parametrize("name", ["si_nb3", "si_nb3_closed", "cuau_2b_3b", "cuau_nb3"])
def test_variances_are_quippys(name: str, tmp_path: Path) -> None:
    frames = gap_potentials.structures(gap_potentials.RECIPES[name].numbers)
    frames.pop("collapsed")
    write(tmp_path / "frames.traj", list(frames.values()))
    place = gap_potentials.potential(name)
    run_quippy(_VARIANCE, tmp_path, cwd=place)
    expected = np.load(tmp_path / "variance.npy")
    engine = Engine(read_gap(place / gap_potentials.XML))
    found = engine.evaluate(list(frames.values()), variances=True, regularisation=0.05).variances
    assert found is not None
    assert expected.max() > 1e-3
    assert np.abs(found - expected).max() < 1e-8 * max(1.0, expected.max())


def test_negative_variance_is_refused_as_by_quippy(tmp_path: Path) -> None:
    """QUIP takes f0 with the points' cutoff factors in one matrix and without in the other."""
    place = gap_potentials.potential("si_2b_f0")
    engine = Engine(read_gap(place / gap_potentials.XML))
    frame = gap_potentials.structures((14,))["rattled"]
    with pytest.raises(PotentialError, match="negative variance"):
        engine.evaluate([frame], variances=True, regularisation=0.05)
    write(tmp_path / "frames.traj", [frame])
    with pytest.raises(AssertionError, match="negative variance"):
        run_quippy(_VARIANCE, tmp_path, cwd=place)
