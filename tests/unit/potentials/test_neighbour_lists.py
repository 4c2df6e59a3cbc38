"""Neighbour lists: complete, ordered, and the same whatever else is in the batch or how they were searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from gapfactory.errors import InputError
from gapfactory.potentials.gap.engine._neighbours import fill_candidates
from gapfactory.potentials.gap.engine.system import Cells, SkinnedSystem, System, build_system, pack

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_structure(seed: int, most: int = 8) -> Atoms:
    """Return atoms in a skew cell, some of them outside, periodic in any directions."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, most + 1))
    while True:
        cell = rng.normal(size=(3, 3)) + np.diag(rng.uniform(0.0, 3.0, 3))
        volume = abs(np.linalg.det(cell))
        # the oracle, not the code, needs bounded skewness
        if volume > 0.1 * np.prod(np.linalg.norm(cell, axis=1)):
            break
    cell *= (n * rng.uniform(6.0, 40.0) / volume) ** (1 / 3)
    atoms = Atoms(numbers=rng.integers(1, 90, n), cell=cell, pbc=rng.random(3) < 0.7)
    atoms.set_scaled_positions(rng.uniform(-1.5, 2.5, (n, 3)))
    if not atoms.pbc.any() and rng.random() < 0.5:
        atoms.cell = np.zeros((3, 3))
    return atoms


def expected(atoms: Atoms, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return first atoms, second atoms and vectors from ASE, sorted by atom, neighbour and image."""
    i, j, image, vector = primitive_neighbor_list(
        "ijSD", atoms.pbc, atoms.cell.complete(), atoms.positions, cutoff
    )
    order = np.lexsort((image[:, 2], image[:, 1], image[:, 0], j, i))
    return i[order], j[order], vector[order]


def first_atoms(system: System) -> NDArray[np.int64]:
    return np.repeat(np.arange(system.n_atoms), np.diff(system.first))


def same(a: System, b: System) -> bool:
    """Return whether two systems are equal to the last bit."""
    names = ("offsets", "cell_of", "numbers", "volumes", "first", "neighbour", "vector", "distance")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32), cutoff=st.floats(0.5, 7.0))
def test_lists_agree_with_ase(seed: int, cutoff: float) -> None:
    atoms = random_structure(seed)
    system = build_system([atoms], cutoff)
    i, j, vector = expected(atoms, cutoff)
    assert np.array_equal(first_atoms(system), i)
    assert np.array_equal(system.neighbour, j)
    assert np.allclose(system.vector, vector, rtol=0.0, atol=1e-9)
    assert np.allclose(system.distance, np.linalg.norm(vector, axis=1), rtol=0.0, atol=1e-9)
    if atoms.pbc.all():
        assert system.volumes[0] == pytest.approx(atoms.get_volume())


@pytest.mark.parametrize("periodic", [(True, True, True), (True, True, False), (False, False, False)])
def test_a_large_cell_agrees_with_ase(periodic: tuple[bool, bool, bool]) -> None:
    atoms = bulk("Si", cubic=True) * (3, 4, 3)
    atoms.pbc = periodic
    atoms.rattle(0.2, seed=1)
    atoms.positions += 40.0 * np.random.default_rng(0).normal(size=3)
    system = build_system([atoms], 5.0)
    i, j, vector = expected(atoms, 5.0)
    assert np.array_equal(first_atoms(system), i)
    assert np.array_equal(system.neighbour, j)
    assert np.allclose(system.vector, vector, rtol=0.0, atol=1e-9)


def candidates(cells: Cells, reach: float, many: int) -> tuple[NDArray[np.int64], ...]:
    """Return the rows of the compiled search with bins from `many` atoms on."""
    chosen = np.ones(len(cells.volumes), dtype=np.bool_)
    first = np.zeros(len(cells.numbers) + 1, dtype=np.int64)
    neighbour, image = np.empty(0, dtype=np.int64), np.empty((0, 3), dtype=np.int32)
    where = (cells.offsets, cells.positions, cells.cells, cells.periodic, chosen, reach, many)
    fill_candidates(*where, first[1:], False, neighbour, image)
    np.cumsum(first, out=first)
    neighbour, image = np.empty(first[-1], dtype=np.int64), np.empty((first[-1], 3), dtype=np.int32)
    fill_candidates(*where, first[:-1], True, neighbour, image)
    return first, neighbour, image


def near(cells: Cells, reach: float, many: int) -> set[tuple[int, ...]]:
    """Return the pairs well within reach: the two searches may differ in what else they include."""
    first, neighbour, image = candidates(cells, reach, many)
    i = np.repeat(np.arange(len(cells.numbers)), np.diff(first))
    vector = cells.positions[neighbour] - cells.positions[i] + image @ cells.cells[0]
    inside = (vector**2).sum(axis=1) < reach**2
    rows = [tuple(map(int, row)) for row in np.column_stack([i, neighbour, image])[inside]]
    assert rows == sorted(rows)
    return set(rows)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), reach=st.floats(0.5, 7.0))
def test_both_searches_find_the_same_in_the_same_order(seed: int, reach: float) -> None:
    cells = pack([random_structure(seed, 30)])
    assert near(cells, reach, 10**6) == near(cells, reach, 1)


def test_a_pair_and_its_reverse_are_exact_opposites() -> None:
    for seed in range(30):
        system = build_system([random_structure(seed)], 5.0)
        i = first_atoms(system)
        there = {(a, b, *v) for a, b, v in zip(i, system.neighbour, system.vector, strict=True)}
        back = {(b, a, *-v) for a, b, v in zip(i, system.neighbour, system.vector, strict=True)}
        assert there == back
        assert len(there) == len(i)


def test_a_structure_does_not_see_its_batch() -> None:
    frames = [random_structure(seed) for seed in range(12)] + [bulk("Si", cubic=True) * (3, 3, 4)]
    whole = build_system(frames, 4.5)
    for c, atoms in enumerate(frames):
        alone = build_system([atoms], 4.5)
        rows = slice(whole.first[whole.offsets[c]], whole.first[whole.offsets[c + 1]])
        assert np.array_equal(whole.vector[rows], alone.vector)
        assert np.array_equal(whole.distance[rows], alone.distance)
        assert np.array_equal(whole.neighbour[rows] - whole.offsets[c], alone.neighbour)
        assert np.all(whole.cell_of[whole.offsets[c] : whole.offsets[c + 1]] == c)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), skin=st.floats(0.0, 1.0))
def test_a_skin_never_misses_a_pair(seed: int, skin: float) -> None:
    """Atoms and cells walk at random, each cell at its own pace; every step must equal a fresh list bitwise."""
    rng = np.random.default_rng(seed)
    frames = [random_structure(int(rng.integers(2**32)), 6) for _ in range(4)]
    cells = pack(frames)
    pace = np.array([0.0, 0.003, 0.02, 0.1])
    skinned = SkinnedSystem(cells, 4.0, skin)
    per_atom = np.repeat(pace, np.diff(cells.offsets))[:, None]
    for _ in range(25):
        strain = np.eye(3) + pace[:, None, None] * 0.3 * rng.normal(size=(4, 3, 3))
        moved = np.einsum("nk,nkl->nl", cells.positions, np.repeat(strain, np.diff(cells.offsets), axis=0))
        moved += per_atom * rng.normal(size=moved.shape) + per_atom * rng.normal(size=3)
        cells = cells.moved(moved, cells.cells @ strain)
        assert same(skinned.update(cells), build_system(cells, 4.0))


def test_a_skin_saves_searches_and_each_cell_searches_on_its_own() -> None:
    still, restless = bulk("Si", cubic=True), bulk("Si", cubic=True)
    skinned = SkinnedSystem([still, restless], 5.0, 0.6)
    assert skinned.searches == 2
    for step in range(10):
        restless.positions[0, 0] += 0.08
        # what moves all atoms alike changes no distance
        still.positions += 1.0
        assert same(skinned.update([still, restless]), build_system([still, restless], 5.0)), step
    assert 3 <= skinned.searches <= 4
    still.set_cell(still.cell.array * 1.2, scale_atoms=True)
    before = skinned.searches
    skinned.update([still, restless])
    assert skinned.searches == before + 1


def test_a_skin_is_left_in_time() -> None:
    """Two atoms approach from just beyond cutoff + skin: the worst case of the bound."""
    atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 4.51]], cell=[20.0] * 3, pbc=True)
    skinned = SkinnedSystem([atoms], 4.0, 0.5)
    for _ in range(60):
        atoms.positions[0, 2] += 0.005
        atoms.positions[1, 2] -= 0.005
        assert len(skinned.update([atoms]).neighbour) == (2 if atoms.get_distance(0, 1) < 4.0 else 0)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms(), "no atoms"),
        (Atoms("Si", positions=[[np.nan, 0, 0]], cell=[3.0] * 3), "not finite"),
        (Atoms("Si", cell=[[3, 0, 0], [0, np.inf, 0], [0, 0, 3]], pbc=True), "not finite"),
        (Atoms("Si", cell=[np.inf] * 3), "not finite"),
        (Atoms("Si", pbc=True), "null or dependent"),
        (Atoms("Si", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), "null or dependent"),
        (Atoms("Si", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 0]], pbc=(True, True, False)), "null or dependent"),
        (Atoms("Si2", positions=[[0, 0, 0], [0, 0, 5]], cell=[5.0] * 3, pbc=True), "sits on atom 0"),
        (Atoms("Si", cell=[0.01] * 3, pbc=True), "neighbours per atom"),
    ],
)
def test_what_cannot_be_searched_is_refused(atoms: Atoms, words: str) -> None:
    fine = bulk("Si")
    with pytest.raises(InputError, match=rf"structure 1.*{words}"):
        build_system([fine, atoms], 5.0)


@pytest.mark.parametrize(
    "cell",
    [
        np.zeros((3, 3)),
        [[0, 0, 0], [1.0, 3.0, 0.2], [0, 0, 0]],
        [[0, 0, 0], [1.0, 3.0, 0.2], [2.0, -1.0, 2.5]],
        [[2.0, 6.0, 0.4], [1.0, 3.0, 0.2], [2.0, -1.0, 2.5]],
    ],
)
def test_directions_without_a_vector_are_not_periodic(cell: list[list[float]]) -> None:
    atoms = Atoms("Si3", positions=np.random.default_rng(0).normal(size=(3, 3)) * 2.0, cell=cell)
    atoms.pbc = atoms.cell.any(axis=1) & [False, True, True]
    system = build_system([atoms], 5.0)
    full = atoms.copy()
    full.cell = pack([atoms]).cells[0]
    assert np.array_equal(full.cell.array[atoms.pbc], atoms.cell.array[atoms.pbc])
    i, j, vector = expected(full, 5.0)
    assert np.array_equal(first_atoms(system), i)
    assert np.array_equal(system.neighbour, j)
    assert np.allclose(system.vector, vector, rtol=0.0, atol=1e-9)


def test_arguments_are_checked() -> None:
    fine = bulk("Si")
    for cutoff in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="cutoff"):
            build_system([fine], cutoff)
    with pytest.raises(InputError, match="skin"):
        SkinnedSystem([fine], 5.0, -0.1)
    skinned = SkinnedSystem([fine], 5.0)
    with pytest.raises(InputError, match="same atoms"):
        skinned.update([bulk("Si", cubic=True)])
    with pytest.raises(InputError, match="shapes"):
        pack([fine]).moved(np.zeros((3, 3)), np.zeros((1, 3, 3)))
    assert build_system([], 5.0).n_cells == 0
