"""Force constants from non-diagonal supercells against those of the diagonal one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from gapfactory.analysis.force_constant_fit import fit_force_constants, supercell_matrix
from gapfactory.analysis.force_constants import displacement_set, force_constants, forces_of
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.errors import EvidenceError
from gapfactory.reference.analytic import SecondMomentTitanium

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray


def every_wave_vector(n: int) -> list[tuple[int, int, int]]:
    return [(i, j, k) for i in range(n) for j in range(n) for k in range(n)]


def supercells(n: int) -> list[NDArray[np.int64]]:
    """Return for each wave vector of an n x n x n grid one smallest supercell, without any use of symmetry."""
    chosen: list[NDArray[np.int64]] = []
    for q in every_wave_vector(n):
        # of a power of two, or a prime, the least common multiple of the denominators is the largest of them
        size = max(n // int(np.gcd(n, c)) if c else 1 for c in q)
        if any(round(np.linalg.det(s)) == size and not np.any(s @ q % n) for s in chosen):
            continue
        chosen.append(next(s for s in normal_forms(size) if not np.any(s @ q % n)))
    return chosen


def normal_forms(size: int) -> Any:
    for a in range(1, size + 1):
        for c in range(1, size // a + 1):
            if size % (a * c):
                continue
            f = size // (a * c)
            for b in range(c):
                for d in range(f):
                    for e in range(f):
                        yield np.array([[a, b, d], [0, c, e], [0, 0, f]])


@pytest.mark.parametrize(
    ("crystal", "calculator", "n"),
    [(bulk("Al", a=4.0), EMT(), 4), (bulk("Ti", "hcp", a=2.93, c=4.66), SecondMomentTitanium(), 2)],
    ids=["fcc", "hcp"],
)
def test_small_supercells_hold_what_the_large_one_does(crystal: Atoms, calculator: Any, n: int) -> None:
    settings = PhononSettings(grid=(n, n, n), displacement=0.01)
    large = displacement_set(crystal, settings)
    expected = force_constants(large, forces_of(large.cells, calculator))
    small = [
        cell for matrix in supercells(n) for cell in displacement_set(crystal, settings, matrix=matrix).cells
    ]
    assert max(len(cell) for cell in small) == n * len(crystal)
    found = fit_force_constants(crystal, small, forces_of(small, calculator), settings)
    points = np.array(every_wave_vector(n)) / n
    assert np.abs(found.frequencies(points) - expected.frequencies(points)).max() < 0.01
    np.testing.assert_allclose(found.values.sum(axis=1), 0, atol=1e-10)
    assert found.residual is not None
    assert found.residual < 1e-3
    assert expected.residual is None
    # symfc lets functions of the whole process call themselves 100 000 times: endless recursion then ends in a crash
    assert sys.getrecursionlimit() < 50_000


def test_random_displacements_of_all_atoms() -> None:
    crystal = bulk("Al", a=4.0)
    settings = PhononSettings(grid=(2, 2, 2), displacement=0.01)
    large = displacement_set(crystal, settings)
    expected = force_constants(large, forces_of(large.cells, EMT()))
    rng = np.random.default_rng(0)
    cells = []
    for k in range(6):
        matrix = [np.diag([2, 1, 1]), np.array([[1, 0, 1], [0, 1, 1], [0, 0, 2]]), np.diag([2, 2, 1])][k % 3]
        at_rest = displacement_set(crystal, settings, matrix=matrix).supercell
        move = rng.normal(scale=0.01, size=(len(at_rest), 3))
        for sign in (1, -1):
            cell = at_rest.copy()
            cell.positions += sign * move
            # a cell that went through an engine: atoms in another order, wrapped into the cell
            cell = cell[rng.permutation(len(cell))]
            cell.wrap()
            cells.append(cell)
    found = fit_force_constants(crystal, cells, forces_of(cells, EMT()), settings)
    points = np.array(every_wave_vector(2)) / 2
    assert np.abs(found.frequencies(points) - expected.frequencies(points)).max() < 0.01


def test_too_little_is_refused() -> None:
    crystal = bulk("Al", a=4.0)
    settings = PhononSettings(grid=(2, 2, 2), displacement=0.01)
    line = displacement_set(crystal, settings, matrix=np.diag([2, 1, 1])).cells
    with pytest.raises(EvidenceError, match=r"determine \d+ of the \d+ independent force constants"):
        fit_force_constants(crystal, line, forces_of(line, EMT()), settings)
    three = displacement_set(crystal, settings, matrix=np.diag([3, 1, 1])).cells
    with pytest.raises(EvidenceError, match="does not fit into the grid"):
        fit_force_constants(crystal, three, forces_of(three, EMT()), settings)
    with pytest.raises(EvidenceError, match="give one for each"):
        fit_force_constants(crystal, line, [], settings)
    strained = line[0].copy()
    strained.set_cell(strained.cell.array * 1.01, scale_atoms=True)
    with pytest.raises(EvidenceError, match="unstrained"):
        fit_force_constants(crystal, [strained], [np.zeros((2, 3))], settings)


def test_matrix_of_a_supercell() -> None:
    crystal = bulk("Ti", "hcp", a=2.93, c=4.66)
    matrix = np.array([[1, 1, 0], [-1, 2, 1], [0, 0, 2]])
    cell = displacement_set(crystal, PhononSettings(), matrix=matrix).supercell
    np.testing.assert_array_equal(supercell_matrix(crystal, cell), matrix)
