"""The measure of reference cost against numbers by hand."""

from __future__ import annotations

import pytest

from gapfactory.analysis.reference_cost import affordable, reference_cost
from gapfactory.errors import InputError


def test_cost_by_hand() -> None:
    # 2 primitive cells of 8 x 8 x 8 k-points, a pair of 4 x 8 x 8, a diagonal supercell of 64 atoms with 2 x 2 x 2
    found = reference_cost([1, 64, 2, 1], [(8, 8, 8), (2, 2, 2), (4, 8, 8), (8, 8, 8)])
    assert [(row.cells, row.atoms, row.total) for row in found.rows] == [
        (2, 1, 2 * 512),
        (1, 2, 256 * 8),
        (1, 64, 8 * 262144),
    ]
    assert found.total == 1024 + 2048 + 2097152
    assert found.cells == 4


def test_with_a_constant_density_of_k_points_the_cost_grows_as_the_square() -> None:
    grid = {1: (4, 4, 4), 2: (2, 4, 4), 4: (2, 2, 4), 8: (2, 2, 2)}
    assert [reference_cost([n], [grid[n]]).total for n in grid] == [64 * n**2 for n in grid]


def test_the_table_names_every_size_and_ends_with_the_total() -> None:
    lines = reference_cost([4, 1], [(1, 2, 2), (4, 4, 4)]).text().splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["1", "1", "4x4x4", "64"],
        ["1", "4", "1x2x2", "256"],
        ["2", "320"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_as_many_cells_as_a_budget_allows() -> None:
    atoms, grids = [1, 2, 2, 1], [(1, 1, 1)] * 4
    assert [affordable(atoms, grids, budget) for budget in (0, 1, 8.9, 9, 17, 100)] == [0, 1, 1, 2, 3, 4]


@pytest.mark.parametrize(("atoms", "grids"), [([1], []), ([0], [(1, 1, 1)]), ([1], [(1, 0, 1)])])
def test_nonsense_has_no_cost(atoms: list[int], grids: list[tuple[int, int, int]]) -> None:
    with pytest.raises(InputError):
        reference_cost(atoms, grids)
