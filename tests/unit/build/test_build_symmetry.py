"""Space groups and their special positions against spglib and the International Tables."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase.geometry import minkowski_reduce

from gapfactory._spglib import quiet_spglib
from gapfactory.build.lattice import random_lattice, reduce_lattice
from gapfactory.build.settings import ShapeSettings
from gapfactory.build.sites import fill, sites
from gapfactory.build.symmetry import groups_by_order, space_group

ALL = range(1, 231)


def test_every_group_has_one_order() -> None:
    listed = sorted(n for order in range(1, 49) for n in groups_by_order(order))
    assert listed == list(ALL)
    assert groups_by_order(5) == ()


def test_operations_are_integer_groups_of_the_right_order() -> None:
    for number in ALL:
        group = space_group(number)
        order = next(o for o in range(1, 49) if number in groups_by_order(o))
        assert group.order == order, number
        assert np.array_equal(group.rotations[0], np.eye(3)), number
        assert np.array_equal(np.abs(np.rint(np.linalg.det(group.rotations))), np.ones(order)), number
        # integer without rounding: recomputed from the conventional setting
        reduced = np.linalg.inv(group.primitive.T) @ group.conventional_rotations @ group.primitive.T
        assert np.abs(reduced - group.rotations).max() < 1e-12, number
        # closed: the product of two operations is an operation, up to a lattice translation
        products = np.einsum("aij,bjk->abik", group.rotations, group.rotations).reshape(-1, 3, 3)
        shifts = (
            np.einsum("aij,bj->abi", group.rotations, group.translations) + group.translations[:, None]
        ).reshape(-1, 3)
        table = {r.tobytes(): t for r, t in zip(group.rotations, group.translations, strict=True)}
        for product, shift in zip(products, shifts, strict=True):
            difference = shift - table[np.ascontiguousarray(product).tobytes()]
            assert np.abs(difference - np.rint(difference)).max() < 1e-9, number


def test_spglib_recognises_every_group_on_a_random_lattice() -> None:
    rng = np.random.default_rng(1)
    for number in ALL:
        group = space_group(number)
        lattice = random_lattice(rng, group, 100.0, ShapeSettings())
        assert np.linalg.det(lattice) == pytest.approx(100.0)
        # the lattice obeys the group: rotations are isometries
        cartesian = lattice.T @ group.rotations @ np.linalg.inv(lattice.T)
        assert np.abs(cartesian @ cartesian.transpose(0, 2, 1) - np.eye(3)).max() < 1e-9, number
        with quiet_spglib():
            kind = spglib.get_spacegroup_type_from_symmetry(
                group.rotations, group.translations, lattice, symprec=1e-5
            )
        assert kind is not None
        assert kind.number == number


def test_special_positions_are_the_wyckoff_positions() -> None:
    """International Tables A: 1731 positions in 230 groups; some groups by their number of letters."""
    letters = {
        1: 1,
        2: 9,
        19: 1,
        47: 27,
        62: 4,
        139: 15,
        148: 6,
        166: 9,
        194: 12,
        221: 14,
        225: 12,
        227: 9,
        230: 8,
    }
    assert {n: len(sites(space_group(n))) for n in letters} == letters
    assert sum(len(sites(space_group(n))) for n in ALL) == 1731


def test_points_of_a_site_have_its_multiplicity() -> None:
    rng = np.random.default_rng(2)
    for number in (5, 12, 62, 82, 122, 146, 148, 167, 190, 199, 227):
        group = space_group(number)
        for site in sites(space_group(number)):
            point = site.origin + rng.random(site.dimension) @ site.directions
            images = (group.rotations @ point + group.translations) % 1.0
            delta = images[:, None] - images[None]
            same = np.abs(delta - np.rint(delta)).max(axis=2) < 1e-9
            assert len(np.unique(same.argmax(axis=1))) == site.multiplicity, number


def test_fill_uses_general_positions_first_and_fixed_ones_once() -> None:
    assert fill(space_group(1), (7,)) == ((1,) * 7,)
    assert fill(space_group(19), (10,)) is None  # P2_12_12_1 has the general position only
    assert fill(space_group(19), (8,)) == ((4, 4),)
    assert fill(space_group(47), (9,)) == ((8, 1),)
    assert fill(space_group(2), (8, 1)) == ((2, 2, 2, 2), (1,))
    # Ia-3d has no more than two 8-fold and two 12-fold fixed sites; 16-fold along the threefold axis
    assert fill(space_group(230), (8, 8, 8)) is None
    assert fill(space_group(230), (16, 16)) == ((16,), (16,))


def test_impossible_fillings_are_found_quickly() -> None:
    assert fill(space_group(47), (198, 198, 199)) is not None
    assert fill(space_group(62), (196, 196, 199)) is None


def test_reduction_keeps_the_lattice() -> None:
    rng = np.random.default_rng(3)
    for number in (1, 2, 5, 12, 71, 146, 194, 225, 229) * 10:
        lattice = random_lattice(rng, space_group(number), 60.0, ShapeSettings())
        reduced, transformation = reduce_lattice(lattice)
        assert np.array_equal(transformation, np.rint(transformation))
        assert np.linalg.det(reduced) == pytest.approx(60.0)
        expected, _ = minkowski_reduce(lattice)  # ASE's
        assert np.linalg.norm(reduced, axis=1) == pytest.approx(np.sort(np.linalg.norm(expected, axis=1)))
