"""Whole potentials against quippy on random structures: any shape of cell, composition, density and periodicity."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapfactory.potentials.gap.engine.evaluator import Engine
from gapfactory.potentials.gap.engine.system import SkinnedSystem, build_system, pack
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

# Each example is one process of quippy with this many structures.
_BATCH = 14
#: nearest pair, Å: well below any bond of these elements, where relaxations of random cells begin
_NEAREST = 1.4


@cache
def engine_of(name: str) -> Engine:
    return Engine(read_gap(gap_potentials.potential(name) / gap_potentials.XML))


def random_structure(rng: np.random.Generator, numbers: tuple[int, ...]) -> Atoms:
    """Return up to ten atoms at random places, no two of them or their images nearer than _NEAREST."""
    while True:
        n = int(rng.integers(1, 11))
        cell = rng.normal(size=(3, 3)) + np.diag(rng.uniform(0.5, 3.0, 3))
        volume = abs(np.linalg.det(cell))
        if volume < 0.15 * np.prod(np.linalg.norm(cell, axis=1)):
            continue
        cell *= (n * rng.uniform(8.0, 60.0) / volume) ** (1 / 3)
        atoms = Atoms(rng.choice(numbers, n), cell=cell, pbc=rng.random(3) < 0.8)
        # some atoms outside the cell
        atoms.set_scaled_positions(rng.uniform(-0.3, 1.3, (n, 3)))
        if len(build_system([atoms], _NEAREST).neighbour) == 0:
            return atoms


@pytest.mark.parametrize(
    "names",
    [("si_soap8", "si_nb3_closed", "si_core", "si_2b_f0"), ("cuau_soap8", "cuau_nb3", "cuau_2b")],
    ids=["one element", "two elements"],
)
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_random_structures_equal_quippy(names: tuple[str, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [random_structure(rng, gap_potentials.RECIPES[names[0]].numbers) for _ in range(_BATCH)]
    places = [gap_potentials.potential(name) for name in names]
    for name, expected in zip(names, gap_potentials.oracle_of_many(places, frames), strict=True):
        found = engine_of(name).evaluate(frames)
        assert found.forces is not None
        assert found.stresses is not None
        assert max(np.abs(theirs["forces"]).max() for theirs in expected) > 0.1
        for k, (atoms, theirs) in enumerate(zip(frames, expected, strict=True)):
            rows = found.atoms_of(k)
            what = (name, seed, k, str(atoms.symbols), atoms.pbc.tolist())
            assert abs(found.energies[k] - theirs["energy"]) < 1e-8 * len(atoms), what
            assert np.abs(found.local_energies[rows] - theirs["energies"]).max() < 1e-8, what
            assert np.abs(found.forces[rows] - theirs["forces"]).max() < 1e-6, what
            if atoms.pbc.all():
                assert np.abs(found.stresses[k] - theirs["stress"]).max() < 1e-6, what


@pytest.mark.parametrize("name", ["si_soap8", "cuau_nb3"])
def test_remembered_neighbours_change_no_bit(name: str) -> None:
    """Structures drift and strain; the engine sees remembered and fresh neighbours alike."""
    rng = np.random.default_rng(7)
    engine = engine_of(name)
    cells = pack([random_structure(rng, gap_potentials.RECIPES[name].numbers) for _ in range(6)])
    skinned = SkinnedSystem(cells, engine.cutoff, 0.4)
    for _ in range(8):
        strain = np.eye(3) + 0.004 * rng.normal(size=(6, 3, 3))
        moved = np.einsum("nk,nkl->nl", cells.positions, np.repeat(strain, np.diff(cells.offsets), axis=0))
        cells = cells.moved(moved + 0.02 * rng.normal(size=moved.shape), cells.cells @ strain)
        found, fresh = (
            engine.evaluate(system) for system in (skinned.update(cells), build_system(cells, engine.cutoff))
        )
        assert np.array_equal(found.energies, fresh.energies)
        assert np.array_equal(found.forces, fresh.forces)  # type: ignore[arg-type]
        assert np.array_equal(found.virials, fresh.virials)  # type: ignore[arg-type]
    assert skinned.searches < 6 * 9
