"""Coordination sequences and dimensionalities against published ones, and against paths in a large piece of crystal."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule, nanotube
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import shortest_path

from gapfactory.analysis.coordination import BondNetwork
from gapfactory.analysis.phases import named_phase
from gapfactory.errors import InputError


def bct_c4() -> Atoms:
    return crystal(["C"], [(0.1803, 0.1803, 0)], spacegroup=139, cellpar=(4.371, 4.371, 2.507, 90, 90, 90))


def sodalite() -> Atoms:
    return crystal(["C"], [(0.25, 0.5, 0)], spacegroup=229, cellpar=(4.39, 4.39, 4.39, 90, 90, 90))


@pytest.mark.parametrize(
    ("atoms", "cutoff", "sequence"),
    [
        (bulk("C"), 1.7, (4, 12, 24, 42, 64, 92)),
        (named_phase("C-lonsdaleite").atoms, 1.7, (4, 12, 25, 44, 67, 96)),
        (named_phase("C-graphite").atoms, 1.7, (3, 6, 9, 12, 15, 18)),
        (sodalite(), 1.7, (4, 10, 20, 34, 52, 74)),
        (bulk("Cu"), 2.8, (12, 42, 92, 162)),
        (bulk("Po", "sc", a=3.3), 3.5, (6, 18, 38, 66)),
    ],
)
def test_published_sequences(atoms: Atoms, cutoff: float, sequence: tuple[int, ...]) -> None:
    found = BondNetwork.within(atoms, cutoff).sequences(len(sequence))
    assert {tuple(row) for row in found.tolist()} == {sequence}


@pytest.mark.parametrize("atoms", [bct_c4(), named_phase("B-alpha-B12").atoms, bulk("C", orthorhombic=True)])
def test_sequences_are_those_of_shortest_paths_in_a_large_piece(atoms: Atoms) -> None:
    cutoff, shells, n = 2.1 if atoms.symbols[0] == "B" else 1.7, 3, 7
    piece = atoms * (n, n, n)
    piece.pbc = False
    i, j = neighbor_list("ij", piece, cutoff)
    middle = (n**3 // 2) * len(atoms) + np.arange(len(atoms))
    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(piece), len(piece))).tocsr()
    lengths = shortest_path(graph, unweighted=True, indices=middle)
    expected = [[int((row == k).sum()) for k in range(1, shells + 1)] for row in lengths]
    assert BondNetwork.within(atoms, cutoff).sequences(shells).tolist() == expected


def test_sequences_do_not_depend_on_the_cell() -> None:
    atoms = bct_c4()
    sheared = Atoms(
        atoms.symbols,
        positions=atoms.positions,
        cell=np.array([[1, 0, 0], [3, 1, 0], [-2, 5, 1]]) @ atoms.cell.array,
        pbc=True,
    )
    sheared.wrap()
    expected = BondNetwork.within(atoms, 1.7).sequences(6)
    assert (BondNetwork.within(sheared, 1.7).sequences(6) == expected).all()
    assert (BondNetwork.within(atoms * (1, 2, 1), 1.7).sequences(6) == np.vstack([expected, expected])).all()


def boxed(atoms: Atoms, *vacuum: int) -> Atoms:
    """Return atoms in a cell that goes right through them."""
    atoms.center(vacuum=5.0, axis=vacuum)
    atoms.pbc = True
    atoms.positions += 0.5 * atoms.cell.array.sum(axis=0)
    atoms.wrap()
    return atoms


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (boxed(molecule("C60"), 0, 1, 2), [(60, 0)]),
        (boxed(nanotube(5, 0, length=2), 0, 1), [(40, 1)]),
        (named_phase("C-graphite").atoms, [(2, 2), (2, 2)]),
        (named_phase("C-graphite").atoms * (1, 2, 2), [(4, 2)] * 4),
        (bulk("C"), [(2, 3)]),
        (Atoms("C", cell=np.eye(3) * 9, pbc=True), [(1, 0)]),
        # one atom, bonded to its own images along one direction
        (Atoms("C", cell=(1.4, 9, 9), pbc=True), [(1, 1)]),
        # two diagonal chains in a cell where every direction has a bond across its face
        (Atoms("C", cell=[(1.4, 0, 0), (0.3, 9, 0), (2.8, 0, 9)], pbc=True), [(1, 1)]),
    ],
)
def test_dimensionality(atoms: Atoms, expected: list[tuple[int, int]]) -> None:
    network = BondNetwork.within(atoms, 1.65)
    assert [(len(part.atoms), part.dimensionality) for part in network.components] == expected
    assert network.dimensionality == max(dimensionality for _, dimensionality in expected)


def test_two_frameworks_through_each_other_are_two() -> None:
    """Cuprite's copper and oxygen form two nets that no bond connects; they differ by a vector of the small cell."""
    cuprite = crystal(
        ["O", "Cu"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=224, cellpar=(4.27, 4.27, 4.27, 90, 90, 90)
    )
    network = BondNetwork.within(cuprite, 2.0)
    assert [(len(part.atoms), part.dimensionality) for part in network.components] == [(6, 3)]
    doubled = BondNetwork.within(cuprite * 2, 2.0)
    assert [(len(part.atoms), part.dimensionality) for part in doubled.components] == [(24, 3), (24, 3)]
    assert sorted(network.coordination.tolist()) == [2, 2, 2, 2, 4, 4]


def test_refusals() -> None:
    with pytest.raises(InputError, match="positive length"):
        BondNetwork.within(bulk("C"), 0.0)
    with pytest.raises(InputError, match="between 1 and 1000"):
        BondNetwork.within(bulk("C"), 1.7).sequences(0)
