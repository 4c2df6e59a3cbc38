"""k-grids of supercells: the primitive cell's points and no others, proven with fractions.

Oracles: the points themselves, folded one by one; all bases with small entries; the cell that is known.
"""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction
from math import prod
from time import process_time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from gapfactory.analysis.elasticity import elastic_cells
from gapfactory.build.commensurate import commensurate_cell, commensurate_grid, grid_of
from gapfactory.build.nondiagonal import NondiagonalSettings, nondiagonal_cells
from gapfactory.build.single_displacements import single_displacements
from gapfactory.build.vibration_frames import FrameSettings, frame_count, vibration_frame
from gapfactory.errors import InputError
from gapfactory.reference.kpoints import kpoint_grid, primitive_grid
from gapfactory.reference.settings import DftSettings, EngineSettings

LOW = Atoms("SiC", cell=[[3.1, 0.2, -0.3], [0.7, 4.4, 0.1], [-0.9, 1.1, 5.9]], pbc=True)
LOW.set_scaled_positions([[0.1, 0.2, 0.3], [0.55, 0.71, 0.87]])
CRYSTALS = {
    "fcc": bulk("Al"),
    "bcc": bulk("W"),
    "diamond": bulk("Si"),
    "hcp": bulk("Mg"),
    "triclinic": LOW,
}


def folded(matrix, grid) -> Counter[tuple[Fraction, ...]]:
    """Return how often each point of the supercell's reciprocal cell comes from the primitive cell's grid.

    A point k has the phase k . s along the supercell's vector s: its coordinate there, up to whole numbers.
    """
    rows = np.asarray(matrix).tolist()
    return Counter(
        tuple(
            sum((Fraction(m, n) * s for m, n, s in zip(point, grid, row, strict=True)), Fraction(0)) % 1
            for row in rows
        )
        for point in itertools.product(*(range(n) for n in grid))
    )


def regular(grid) -> set[tuple[Fraction, ...]]:
    return {
        tuple(Fraction(m, n) for m, n in zip(p, grid, strict=True))
        for p in itertools.product(*map(range, grid))
    }


def assert_same_points(matrix, its_grid, grid) -> None:
    size = round(abs(np.linalg.det(matrix)))
    points = folded(matrix, grid)
    assert set(points) == regular(its_grid)
    assert set(points.values()) == {size}
    assert prod(its_grid) * size == prod(grid)


def assert_same_lattice(matrix, other) -> None:
    change = np.asarray(matrix) @ np.linalg.inv(other)
    assert np.abs(change - np.rint(change)).max() < 1e-9
    assert abs(np.linalg.det(change)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("choice", ["stars", "published"])
@pytest.mark.parametrize("grid", [(4, 4, 4), (8, 8, 8), (12, 8, 4)], ids=str)
def test_supercells_have_the_primitive_points(name, choice, grid):
    crystal, asked = CRYSTALS[name], NondiagonalSettings(choice=choice)
    cells = nondiagonal_cells(crystal, asked, kpoints=grid)
    plain = nondiagonal_cells(crystal, asked)
    assert cells.kpoints == grid
    assert plain.kpoints is None
    assert [c.stars for c in cells.cells] == [c.stars for c in plain.cells]
    for cell, shortest in zip(cells.cells, plain.cells, strict=True):
        assert cell.matrix.dtype.kind == "i"
        assert round(np.linalg.det(cell.matrix)) == cell.size == shortest.size
        assert shortest.grid is None
        assert_same_lattice(cell.matrix, shortest.matrix)
        assert_same_points(cell.matrix, cell.grid, grid)


def test_the_shortest_vectors_often_have_no_such_grid():
    """Why another basis is needed: none of fcc's five shortest ones does, and the density's grid has other points."""
    al = CRYSTALS["fcc"]
    for cell in nondiagonal_cells(al).cells:
        with pytest.raises(InputError, match="take the basis that `commensurate_cell` gives"):
            commensurate_grid(cell.matrix, (8, 8, 8))
        density = 8 / (2 * np.pi * np.linalg.norm(al.cell.reciprocal().array[0]))
        assert kpoint_grid(al, density) == (8, 8, 8)
        assert set(folded(cell.matrix, (8, 8, 8))) != regular(kpoint_grid(cell.atoms(al), density))


lattices = st.integers(0, 2**32).map(
    lambda seed: (
        np.diag(np.random.default_rng(seed).uniform(2.0, 9.0, 3))
        + np.random.default_rng(seed + 1).uniform(-1.5, 1.5, (3, 3))
    )
)


@settings(max_examples=60, deadline=None)
@given(
    lattices,
    st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=3, max_size=3),
    st.tuples(*[st.integers(1, 4)] * 3),
)
def test_any_supercell_and_grid(cell, rows, times):
    """A grid exists exactly where each point of the folded one comes equally often, i.e. N_i a_i is in the lattice."""
    matrix = np.array(rows)
    size = round(abs(np.linalg.det(matrix)))
    if not 1 <= size <= 12:
        return
    steps = [
        next(n for n in range(1, size + 1) if not (n * np.rint(size * row).astype(int) % size).any())
        for row in np.linalg.inv(matrix)
    ]
    grid = tuple(n * t for n, t in zip(steps, times, strict=True))
    if prod(grid) > 3000:
        grid = tuple(steps)
    found, its_grid = commensurate_cell(matrix, grid, cell)
    assert round(np.linalg.det(found)) == size
    assert_same_lattice(found, matrix)
    assert_same_points(found, its_grid, grid)
    assert commensurate_grid(found, grid) == its_grid
    # one vector's number less: no basis at all
    for axis in range(3):
        if steps[axis] > 1:
            less = tuple(n - (k == axis) for k, n in enumerate(grid))
            with pytest.raises(InputError, match="give multiples of " + "x".join(map(str, steps))):
                commensurate_cell(matrix, less, cell)
            assert set(folded(matrix, less).values()) != {size}


@pytest.mark.parametrize(("name", "number"), [("fcc", 0), ("fcc", 4), ("hcp", 3)])
def test_no_small_basis_is_more_compact(name, number):
    """Against all bases whose vectors are at most twice each of the shortest ones, up to signs."""
    crystal = CRYSTALS[name]
    grid = (4, 4, 4)
    shortest = nondiagonal_cells(crystal).cells[number].matrix
    found = nondiagonal_cells(crystal, kpoints=grid).cells[number]
    vectors = np.array([v for v in itertools.product(range(-2, 3), repeat=3) if v > (0, 0, 0)])
    lengths = np.linalg.norm(vectors @ shortest @ crystal.cell.array, axis=1)
    best = np.inf
    for triple in itertools.combinations(range(len(vectors)), 3):
        length = float(np.prod(lengths[list(triple)]))
        if length < best and round(abs(np.linalg.det(vectors[list(triple)]))) == 1:
            matrix = vectors[list(triple)] @ shortest
            orders = [np.lcm.reduce(4 // np.gcd(row, 4)) for row in matrix]
            if np.prod(orders) * found.size == prod(grid):
                best = length
    assert np.isfinite(best)
    assert np.prod(np.linalg.norm(found.matrix @ crystal.cell.array, axis=1)) <= best * (1 + 1e-9)


def test_known_cells():
    """Four layers in a basis that hides them, and a cell of six that is 1 x 3 x 2, not 1 x 1 x 6."""
    cell = np.eye(3)
    found, grid = commensurate_cell([[4, 0, 0], [4, 1, 0], [-8, 3, 1]], (4, 8, 12), cell)
    assert sorted(np.abs(found).tolist()) == [[0, 0, 1], [0, 1, 0], [4, 0, 0]]
    assert grid[2] == 1
    assert sorted(grid[:2]) == [8, 12]
    found, grid = commensurate_cell([[1, 0, 0], [0, 1, 1], [0, 0, 6]], (6, 6, 6), cell)
    assert sorted(grid) == [1, 6, 6]
    found, grid = commensurate_cell([[1, 0, 0], [0, 2, 0], [0, 0, 3]], (6, 6, 6), cell)
    assert (np.abs(found).tolist(), grid) == ([[1, 0, 0], [0, 2, 0], [0, 0, 3]], (6, 3, 2))


def test_frames_carry_their_grid():
    al = CRYSTALS["fcc"]
    asked = FrameSettings(primitives=2, variants=1)
    cells = nondiagonal_cells(al, asked.supercells, kpoints=(8, 8, 8))
    rng = np.random.default_rng(1)
    frames = [vibration_frame(al, cells, n, rng, asked) for n in range(frame_count(cells, asked))]
    assert [f.grid for f in frames] == [(8, 8, 8)] * 3 + [(8, 8, 2)] * 5
    # also from the deformed cells alone
    assert [grid_of(f.atoms, al, (8, 8, 8)) for f in frames] == [f.grid for f in frames]
    bare = nondiagonal_cells(al, asked.supercells)
    assert {vibration_frame(al, bare, n, rng, asked).grid for n in range(8)} == {None}


def test_strained_and_diagonal_cells():
    si = CRYSTALS["diamond"]
    assert {grid_of(cell, si, (8, 8, 8)) for cell in elastic_cells(si).cells} == {(8, 8, 8)}
    assert {grid_of(cell, si, (8, 8, 8)) for cell in single_displacements(si)} == {(2, 2, 2)}
    assert commensurate_grid(np.diag([4, 2, 1]), (8, 8, 8)) == (2, 4, 8)
    with pytest.raises(InputError, match="no supercell"):
        grid_of(bulk("Si", cubic=True), LOW, (8, 8, 8))


def test_what_has_no_grid():
    cell = np.eye(3)
    with pytest.raises(InputError, match="multiples of 1x1x4"):
        commensurate_cell(np.diag([1, 1, 4]), (8, 8, 6), cell)
    with pytest.raises(InputError, match="not singular"):
        commensurate_cell([[1, 0, 0], [1, 0, 0], [0, 0, 1]], (4, 4, 4), cell)
    with pytest.raises(InputError, match="at least 1"):
        commensurate_grid(np.eye(3), (4, 0, 4))
    with pytest.raises(InputError, match="give multiples of"):
        nondiagonal_cells(CRYSTALS["fcc"], kpoints=(6, 6, 6))


def test_the_primitive_grid():
    al, mg = CRYSTALS["fcc"], CRYSTALS["hcp"]
    for density in (1.0, 2.5, 4.0, 5.5):
        for crystal, divisions in [(al, (4, 4, 4)), (mg, (4, 4, 2)), (mg, (3, 3, 2))]:
            least, found = kpoint_grid(crystal, density), primitive_grid(crystal, density, divisions)
            for n, k, d in zip(found, least, divisions, strict=True):
                assert n % d == 0
                assert k <= n < k + d
    with pytest.raises(InputError, match="at least 1"):
        primitive_grid(al, 3.0, (4, 4, 0))


def test_settings_with_a_grid():
    dft = DftSettings(engine="gpaw").with_grid((8, 8, 2))
    assert dft.kpoint_grid == (8, 8, 2)
    plain = EngineSettings(engine="analytic")
    assert plain.with_grid((8, 8, 2)) is plain


def test_large_and_long_crystals_take_moderate_time():
    rng = np.random.default_rng(0)
    for cell in (np.eye(3) * 12 + rng.normal(size=(3, 3)), np.diag([3.0, 4, 25]) + rng.random((3, 3))):
        asked = NondiagonalSettings(divisions=(8, 8, 8))
        crystal = Atoms("SiCGe", scaled_positions=rng.random((3, 3)), cell=cell, pbc=True)
        start = process_time()
        cells = nondiagonal_cells(crystal, asked, kpoints=(8, 8, 8))
        assert process_time() - start < 10.0
        assert len(cells.cells) == 112
        for one in cells.cells[::20]:
            assert_same_points(one.matrix, one.grid, (8, 8, 8))
