"""Non-diagonal supercells: the published counts, nothing of the grid left out, the same phonons, the fewest atoms.

Oracles: the counts of Lloyd-Williams and Monserrat's program, spglib's own irreducible points, enumeration of all
supercells, an integer programme, forces of the diagonal supercell.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import lcm
from time import process_time

import numpy as np
import pytest
import spglib
from ase import Atoms, units
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from gapfactory.build.nondiagonal import (
    NondiagonalSet,
    NondiagonalSettings,
    nondiagonal_cells,
    smallest_supercell,
)
from gapfactory.build.qpoints import q_grid
from gapfactory.build.shaken import supercell_shapes
from gapfactory.errors import InputError

CRYSTALS = {"fcc": bulk("Al"), "bcc": bulk("W"), "diamond": bulk("Si"), "hcp": bulk("Mg")}
#: of low symmetry, and with a grid that is not that of its symmetry
TETRAGONAL = Atoms("TiO", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.4]], cell=[3.0, 3.0, 4.1], pbc=True)
TRICLINIC = Atoms(
    "SiC", scaled_positions=[[0, 0, 0], [0.4, 0.3, 0.2]], cell=[3.0, 3.3, 3.9, 80, 95, 107], pbc=True
)
ALL = CRYSTALS | {"tetragonal": TETRAGONAL, "triclinic": TRICLINIC}
CASES = [(name, (4, 4, 4)) for name in CRYSTALS] + [
    ("fcc", (6, 6, 6)),
    ("hcp", (4, 4, 2)),
    ("hcp", (3, 3, 2)),
    ("fcc", (2, 3, 4)),
]


def found(name: str, divisions=(4, 4, 4), choice="stars") -> NondiagonalSet:
    return nondiagonal_cells(CRYSTALS[name], NondiagonalSettings(divisions=divisions, choice=choice))


def operations(crystal: Atoms):
    return spglib.get_symmetry((crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers))[
        "rotations"
    ]


def left_out(crystal: Atoms, divisions, cells) -> list[tuple[Fraction, ...]]:
    """Return the points of the grid of which no image, under spglib's rotations or -1, is held; in fractions."""
    rotations = [(w.T * sign).tolist() for w in operations(crystal) for sign in (1, -1)]
    matrices = [c.matrix.tolist() for c in cells]
    missing = []
    for n in itertools.product(*(range(k) for k in divisions)):
        q = [Fraction(a, k) for a, k in zip(n, divisions, strict=True)]
        images = ([sum(r * x for r, x in zip(row, q, strict=True)) for row in w] for w in rotations)
        if not any(
            all(sum(s * x for s, x in zip(row, image, strict=True)).denominator == 1 for row in matrix)
            for image in images
            for matrix in matrices
        ):
            missing.append(tuple(q))
    return missing


@pytest.mark.parametrize(
    ("name", "count", "atoms"), [("fcc", 8, 25), ("bcc", 8, 25), ("diamond", 8, 50), ("hcp", 12, 78)]
)
def test_the_published_sets(name, count, atoms):
    cells = found(name, choice="published")
    assert len(cells.cells) == count
    assert cells.size * len(CRYSTALS[name]) == atoms
    assert max(cell.size for cell in cells.cells) == 4


@pytest.mark.parametrize(
    ("name", "count", "atoms"), [("fcc", 5, 20), ("bcc", 5, 20), ("diamond", 5, 40), ("hcp", 8, 64)]
)
def test_stars_need_fewer_atoms(name, count, atoms):
    cells = found(name)
    assert len(cells.cells) == count
    assert cells.size * len(CRYSTALS[name]) == atoms
    assert max(cell.size for cell in cells.cells) == 4


@pytest.mark.parametrize("choice", ["stars", "published"])
@pytest.mark.parametrize(("name", "divisions"), CASES)
def test_every_q_point_is_held_up_to_symmetry(name, divisions, choice):
    cells = found(name, divisions, choice)
    assert left_out(CRYSTALS[name], divisions, cells.cells) == []
    assert max(cell.size for cell in cells.cells) <= lcm(*divisions)
    # and what each is said to hold is what it holds
    points, star = cells.grid.points, cells.grid.star
    for cell in cells.cells:
        phases = points @ cell.matrix.T
        assert set(star[(np.abs(phases - np.rint(phases)) < 1e-9).all(axis=1)]) == set(cell.stars)


@pytest.mark.parametrize("choice", ["stars", "published"])
def test_a_missing_supercell_is_seen(choice):
    """The proof can fail: without its last supercell the set is incomplete."""
    cells = found("fcc", choice=choice).cells
    assert left_out(CRYSTALS["fcc"], (4, 4, 4), cells[:-1])


#: grids that the crystal's rotations keep: spglib counts no others
KEPT = [
    *((name, divisions) for name in CRYSTALS for divisions in [(2, 2, 2), (4, 4, 4), (5, 5, 5)]),
    *(("hcp", divisions) for divisions in [(3, 3, 2), (4, 4, 1)]),
    *(("tetragonal", divisions) for divisions in [(2, 2, 4), (4, 4, 3)]),
    *(("triclinic", divisions) for divisions in [(4, 4, 4), (2, 3, 4)]),
]


@pytest.mark.parametrize(("name", "divisions"), KEPT)
def test_stars_are_those_of_spglib(name, divisions):
    crystal = ALL[name]
    grid = q_grid(crystal, divisions, 1e-3)
    mapping, addresses = spglib.get_ir_reciprocal_mesh(
        divisions, (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    )
    steps = grid.denominator // np.array(divisions)
    here = grid.index(addresses * steps)
    assert sorted(here.tolist()) == list(range(len(mapping)))
    assert len(grid.representatives) == len(np.unique(mapping))
    # the same points are together
    assert len(set(zip(mapping.tolist(), grid.star[here].tolist(), strict=True))) == len(grid.weights)
    assert grid.weights.sum() == len(mapping)


@pytest.mark.parametrize(
    ("name", "divisions"),
    [("hcp", (4, 4, 4)), ("fcc", (6, 6, 6)), ("tetragonal", (2, 4, 4)), ("triclinic", (4, 4, 3))],
)
def test_no_choice_of_smallest_supercells_has_fewer_atoms(name, divisions):
    """Against an integer programme over the smallest supercell of every point of the grid, each found among all."""
    cells = nondiagonal_cells(ALL[name], NondiagonalSettings(divisions=divisions))
    points, star = cells.grid.points, cells.grid.star
    shapes = {n: supercell_shapes(n) for n in range(1, lcm(*divisions) + 1)}
    holds = set()
    for q in points:
        size, matrix = next(
            (n, m) for n, all_of_it in shapes.items() for m in all_of_it if np.allclose(m @ q, np.rint(m @ q))
        )
        phases = points @ matrix.T
        holds.add((size, frozenset(star[(np.abs(phases - np.rint(phases)) < 1e-9).all(axis=1)].tolist())))
    sizes, sets = zip(*sorted(holds, key=str), strict=True)
    table = np.array([[s in held for held in sets] for s in range(star.max() + 1)], dtype=float)
    whole = np.ones(len(sizes))
    best = milp(
        np.array(sizes), constraints=LinearConstraint(table, 1), bounds=Bounds(0, 1), integrality=whole
    )
    assert best.success
    assert cells.size == round(best.fun)


fractions = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.lists(st.integers(-20, 20), min_size=3, max_size=3), st.just(n))
)


@settings(max_examples=300, deadline=None)
@given(fractions)
def test_the_smallest_supercell_is_the_only_one(drawn):
    """Of all supercells of its size one holds the point, and none of a smaller size does."""
    n, denominator = drawn
    matrix = smallest_supercell(n, denominator)
    size = lcm(*(Fraction(k, denominator).denominator for k in n))
    assert round(np.linalg.det(matrix)) == size

    def holding(cells: int) -> list[list[list[int]]]:
        return [m.tolist() for m in supercell_shapes(cells) if not (m @ np.array(n) % denominator).any()]

    assert holding(size) == [matrix.tolist()]
    assert not any(holding(k) for k in range(1, size))


@st.composite
def lattices(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    cell = np.diag(rng.uniform(2.0, 9.0, 3)) + rng.uniform(-1.5, 1.5, (3, 3))
    n = draw(st.integers(1, 3))
    return Atoms(f"Si{n}", scaled_positions=rng.random((n, 3)), cell=cell, pbc=True)


@settings(max_examples=60, deadline=None)
@given(lattices(), st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from(["stars", "published"]))
def test_any_lattice_and_grid(crystal, divisions, choice):
    cells = nondiagonal_cells(crystal, NondiagonalSettings(divisions=divisions, choice=choice))
    points = cells.grid.points
    star_held = set()
    for cell in cells.cells:
        assert cell.matrix.dtype.kind == "i"
        assert round(np.linalg.det(cell.matrix)) == cell.size
        phases = points @ cell.matrix.T
        here = (np.abs(phases - np.rint(phases)) < 1e-9).all(axis=1)
        star_held |= set(cells.grid.star[here].tolist())
        # reduction keeps the lattice: a unimodular change of the basis in Hermite normal form, held points are the same
        assert here.sum() == cell.size
        generator = cells.grid.numerators[here & (cells.grid.sizes == cell.size)][0]
        change = cell.matrix @ np.linalg.inv(smallest_supercell(generator.tolist(), cells.grid.denominator))
        assert np.abs(change - np.rint(change)).max() < 1e-9
        assert abs(np.linalg.det(change)) == pytest.approx(1.0)
        # each vector is the shortest that, with the ones before, belongs to a basis (Minkowski)
        a, b, c = sorted(cell.matrix @ crystal.cell.array, key=np.linalg.norm)
        for p, q in itertools.product((-1, 0, 1), repeat=2):
            assert np.linalg.norm(b + p * a) > np.linalg.norm(b) * (1 - 1e-9)
            assert np.linalg.norm(c + p * a + q * b) > np.linalg.norm(c) * (1 - 1e-9)
    assert star_held == set(cells.grid.star.tolist())


def test_the_supercell_is_the_crystal():
    for name, crystal in CRYSTALS.items():
        for cell in found(name).cells:
            atoms = cell.atoms(crystal)
            assert len(atoms) == cell.size * len(crystal)
            assert atoms.get_volume() == pytest.approx(cell.size * crystal.get_volume())
            primitive = spglib.find_primitive((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers))
            assert len(primitive[1]) == len(crystal)
            again = Atoms(primitive[2], cell=primitive[0], scaled_positions=primitive[1], pbc=True)
            assert spglib.get_spacegroup(
                (again.cell.array, again.get_scaled_positions(), again.numbers)
            ) == spglib.get_spacegroup((crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers))


def frequencies(crystal: Atoms, matrix, q) -> np.ndarray:
    """Return the frequencies in THz at a q-point that the supercell holds, by central differences of its forces."""
    atoms = make_supercell(crystal, matrix, wrap=False)
    atoms.calc = EMT(asap_cutoff=False)
    # whole cells between each atom and the first one of its kind
    shifts = (atoms.positions - np.tile(crystal.positions, (len(atoms) // len(crystal), 1))) @ np.linalg.inv(
        crystal.cell
    )
    assert np.abs(shifts - np.rint(shifts)).max() < 1e-6
    phase = np.exp(2j * np.pi * (np.rint(shifts) @ q))
    n, h = len(crystal), 0.01
    constants = np.zeros((3 * n, 3 * n), dtype=complex)
    # the atoms of the first copy are displaced, wherever it lies
    for i, k in itertools.product(range(n), range(3)):
        forces = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[i, k] += sign * h
            forces.append(moved.get_forces())
        column = -(forces[0] - forces[1]) / (2 * h) * (phase * phase[i].conj())[:, None]
        constants[3 * i + k] = column.reshape(-1, n, 3).sum(axis=0).reshape(-1)
    masses = np.repeat(crystal.get_masses(), 3)
    dynamical = constants / np.sqrt(np.outer(masses, masses))
    values = np.linalg.eigvalsh((dynamical + dynamical.conj().T) / 2)
    return np.sign(values) * np.sqrt(np.abs(values)) / (2 * np.pi) * units.s * 1e-12


@pytest.mark.parametrize("lattice", ["fcc", "bcc", "hcp", "diamond"])
def test_phonons_are_those_of_the_diagonal_supercell(lattice):
    """At each point of the grid, from a supercell of at most four primitive cells and from that of 64."""
    structure = {
        "fcc": bulk("Al"),
        "bcc": bulk("Ni", "bcc", a=2.8),
        "hcp": bulk("Al", "hcp", a=2.85, c=4.7),
        "diamond": bulk("Ni", "diamond", a=5.0),
    }[lattice]
    cells = nondiagonal_cells(structure)
    rotations = operations(structure)
    largest, highest = 0.0, 0.0
    for star, first in enumerate(cells.grid.representatives):
        q = cells.grid.points[first]
        cell = next(c for c in cells.cells if star in c.stars)
        image = next(
            r
            for r in np.concatenate([q @ rotations, -q @ rotations])
            if np.abs(cell.matrix @ r - np.rint(cell.matrix @ r)).max() < 1e-9
        )
        small = frequencies(structure, cell.matrix, image)
        large = frequencies(structure, np.diag([4, 4, 4]), q)
        largest, highest = max(largest, np.abs(small - large).max()), max(highest, large.max())
    assert largest < 1e-3
    assert 3.0 < highest < 30.0


def test_a_hundred_atoms_without_symmetry_take_seconds():
    rng = np.random.default_rng(0)
    places = np.array(list(itertools.product(range(5), repeat=3)))[:100]
    crystal = Atoms(
        "Si100",
        scaled_positions=(places + 0.2 * rng.random((100, 3))) / 5,
        cell=np.eye(3) * 12 + rng.normal(size=(3, 3)),
        pbc=True,
    )
    nondiagonal_cells(CRYSTALS["fcc"])
    start = process_time()
    cells = nondiagonal_cells(crystal, NondiagonalSettings(divisions=(8, 8, 8)))
    frames = [cell.atoms(crystal) for cell in cells.cells]
    assert process_time() - start < 5.0
    # the cyclic groups of order 8 on the grid: 8^3 - 4^3 points, four in each
    assert len(frames) == 112
    assert {len(frame) for frame in frames} == {800}
    assert len(cells.grid.representatives) == 260


def test_a_cell_that_is_not_primitive():
    cube = bulk("Al", cubic=True)
    cells = nondiagonal_cells(cube, NondiagonalSettings(divisions=(2, 2, 2)))
    assert left_out(cube, (2, 2, 2), cells.cells) == []
    assert cells.size == 6


def test_left_handed_crystals_stay_left_handed():
    crystal = bulk("Al")
    crystal.set_cell(crystal.cell.array[[1, 0, 2]])
    assert crystal.cell.volume > 0 > np.linalg.det(crystal.cell)
    for cell in nondiagonal_cells(crystal).cells:
        assert round(np.linalg.det(cell.matrix)) == cell.size


def test_what_has_no_supercells():
    with pytest.raises(InputError, match="not periodic"):
        nondiagonal_cells(Atoms("Si", cell=[3, 3, 3]))
    with pytest.raises(InputError, match="at least 1"):
        found("fcc", (4, 0, 4))
    with pytest.raises(InputError, match="fewer divisions"):
        found("fcc", (100, 100, 100))
    with pytest.raises(InputError, match="do two atoms coincide"):
        nondiagonal_cells(Atoms("Si2", positions=[[0, 0, 0]] * 2, cell=[3, 3, 3], pbc=True))
