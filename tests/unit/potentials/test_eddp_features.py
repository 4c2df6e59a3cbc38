"""Environment vectors of EDDPs against a plain loop, their derivatives and their symmetry."""

from __future__ import annotations

from itertools import product

import gf_eddp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.errors import PotentialError
from gapfactory.potentials.eddp import Features
from gapfactory.potentials.eddp.features import geometric_series


def plain(atoms: Atoms, vector: Features) -> np.ndarray:
    """Write the full vectors from their definition, image by image."""
    symbols, cutoff = list(vector.symbols), vector.cutoff
    s, n2, n3 = len(symbols), len(vector.two_body), len(vector.three_body)
    pairs = [(x, y) for x in range(s) for y in range(x, s)]
    found = np.zeros((len(atoms), vector.length))
    images = (
        [np.array(n) @ atoms.cell.array for n in product(range(-4, 5), repeat=3)]
        if atoms.pbc.all()
        else [np.zeros(3)]
    )
    for i in range(len(atoms)):
        centre = symbols.index(atoms.symbols[i])
        found[i, centre] = 1.0
        near = []
        for j, image in product(range(len(atoms)), images):
            d = atoms.positions[j] + image - atoms.positions[i]
            if 1e-9 < np.linalg.norm(d) < cutoff:
                near.append((symbols.index(atoms.symbols[j]), d))
        for kind, d in near:
            f = 2 * (1 - np.linalg.norm(d) / cutoff)
            for m in range(n2):
                found[i, s + (centre * s + kind) * n2 + m] += f ** vector.two_body[m]
        for a in range(len(near)):
            for b in range(a):
                far = np.linalg.norm(near[a][1] - near[b][1])
                if far >= cutoff:
                    continue
                sides = [
                    2 * (1 - r / cutoff)
                    for r in (np.linalg.norm(near[a][1]), np.linalg.norm(near[b][1]), far)
                ]
                pair = pairs.index(tuple(sorted((near[a][0], near[b][0]))))
                start = s + s * s * n2 + (centre * len(pairs) + pair) * n3 * n3
                for m, o in product(range(n3), repeat=2):
                    p, q = vector.three_body[m], vector.three_body[o]
                    value = sides[0] ** p * sides[1] ** p * sides[2] ** q
                    found[i, start + m * n3 + o] += vector.three_body_scale * value
    return found


@pytest.mark.parametrize(
    ("symbols", "more"),
    [
        (("Si",), {"cutoff": 4.2}),
        (("Si",), {"cutoff": 4.2, "two_body": 9, "three_body": 2}),
        (("Si",), {"cutoff": 4.2, "three_body": 0}),
        (("O", "Mg", "Si"), {"cutoff": 3.6, "two_body": 3, "three_body": 4, "three_body_scale": 0.7}),
    ],
)
def test_features_are_those_of_a_plain_loop(symbols: tuple[str, ...], more: dict[str, float]) -> None:
    atoms, vector = gf_eddp.skewed(*symbols), gf_eddp.features(*symbols, **more)
    expected = plain(atoms, vector)
    found = vector.full(vector.system([atoms]))
    assert found.shape == (6, vector.length)
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_features_of_a_cluster_and_a_lone_atom() -> None:
    vector = gf_eddp.features("Si", cutoff=4.0)
    cluster = Atoms("Si4", positions=[(0, 0, 0), (2.3, 0, 0), (0, 2.5, 0), (0.5, 0.4, 2.2)])
    found = vector.full(vector.system([cluster, Atoms("Si")]))
    np.testing.assert_allclose(found[:4], plain(cluster, vector), rtol=1e-12)
    assert found[4].tolist() == [1.0] + [0.0] * (vector.length - 1)


def test_the_numbers_of_features_are_those_of_published_files() -> None:
    """One species with 5 exponents: 31 inputs; two: 172; 16 two-body and 4 three-body exponents: 33."""
    assert gf_eddp.features("Li").length == 31
    assert gf_eddp.features("Sc", "H").length == 172
    assert gf_eddp.features("Sc", "H").symbols == ("H", "Sc")
    assert gf_eddp.features("C", two_body=16, three_body=4).length == 33
    np.testing.assert_allclose(geometric_series(2, 10, 5), [2, 2.991, 4.472, 6.687, 10], atol=5e-4)


@pytest.mark.parametrize("symbols", [("Si",), ("Mg", "O")])
def test_derivatives_are_those_of_differences(symbols: tuple[str, ...]) -> None:
    atoms, vector, step = gf_eddp.skewed(*symbols), gf_eddp.features(*symbols, cutoff=4.1, three_body=3), 1e-5
    found = vector.jacobian(vector.system([atoms]))
    kinds = [vector.symbols.index(symbol) for symbol in atoms.symbols]
    columns = np.array([vector.columns(kind) for kind in kinds])
    expected = np.zeros_like(found)
    for j, k in product(range(len(atoms)), range(3)):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[j, k] += sign * step
            sides.append(np.take_along_axis(vector.full(vector.system([moved])), columns, axis=1))
        expected[:, j, k] = (sides[0] - sides[1]) / (2 * step)
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_features_do_not_see_rotation_translation_or_the_choice_of_cell() -> None:
    vector = gf_eddp.features("Mg", "O", cutoff=4.0)
    atoms = gf_eddp.skewed("Mg", "O")
    expected = vector.full(vector.system([atoms]))
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.positions += (0.3, -7.1, 2.2)
    np.testing.assert_allclose(vector.full(vector.system([turned])), expected, rtol=1e-10, atol=1e-11)
    order = [4, 2, 0, 5, 1, 3]
    np.testing.assert_allclose(
        vector.full(vector.system([atoms[order]])), expected[order], rtol=1e-11, atol=1e-12
    )
    doubled = vector.full(vector.system([atoms * (2, 1, 1)]))
    np.testing.assert_allclose(doubled, np.vstack([expected, expected]), rtol=1e-10, atol=1e-11)
    diamond = vector_of_diamond()
    np.testing.assert_allclose(diamond, diamond[:1].repeat(8, axis=0), rtol=1e-11)


def vector_of_diamond() -> np.ndarray:
    vector = gf_eddp.features("C")
    return vector.full(vector.system([bulk("C", cubic=True)]))


@pytest.mark.parametrize(("exponent", "smooth"), [(2.0, True), (1.0, False)])
def test_derivatives_vanish_at_the_cutoff(exponent: float, smooth: bool) -> None:
    """As a neighbour, and as the far side of a triplet, crosses the cutoff; an exponent of 1 shows that it is seen."""
    powers = np.array([exponent, 4.0])
    vector = Features(("Si",), 4.0, powers, powers, 0.2)
    jumps = []
    for far in (4.0 - 1e-7, 4.0 + 1e-7):
        half = np.arcsin(0.5 * far / 3.0)
        sides = [3.0 * np.array([np.cos(half), sign * np.sin(half), 0.0]) for sign in (1, -1)]
        triplet = Atoms("Si3", positions=[np.zeros(3), *sides])
        pair = Atoms("Si2", positions=[(0, 0, 0), (far, 0, 0)])
        jumps.append([vector.jacobian(vector.system([atoms])) for atoms in (triplet, pair)])
    sizes = [np.abs(a - b).max() for a, b in zip(*jumps, strict=True)]
    assert all(size < 1e-6 for size in sizes) if smooth else all(size > 1e-2 for size in sizes)


def test_what_cannot_be_a_vector_is_refused() -> None:
    vector = gf_eddp.features("Si")
    with pytest.raises(PotentialError, match="atom of C, but the potential knows Si only"):
        vector.full(vector.system([bulk("C")]))
    with pytest.raises(PotentialError, match="between 1 and 64"):
        Features(("Si",), 4.0, np.array([0.1, 2.0]), np.array([]), 0.2)
    with pytest.raises(PotentialError, match="each once"):
        Features(("Si", "Si"), 4.0, np.array([2.0]), np.array([]), 0.2)
    with pytest.raises(ValueError, match="exchange them"):
        gf_eddp.features("Si", lowest_exponent=5.0, highest_exponent=3.0)
