"""Clusters, slabs and layers: confinement, vacuum, symmetry."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase.neighborlist import neighbor_list
from pydantic import ValidationError

from gapfactory._spglib import quiet_spglib
from gapfactory.build import BuildSettings, BuiltCell, build_cell, minimum_separations
from gapfactory.build.body_settings import ConfinementSettings, UnitSettings
from gapfactory.build.confinement import cluster_groups, slab_groups
from gapfactory.elements import species
from gapfactory.seeds import Stage, stream

B = {"B": species("B")}


def build(index: int, confinement: ConfinementSettings, **changes: object) -> tuple[BuiltCell, BuildSettings]:
    settings = BuildSettings.model_validate(
        {"confinement": confinement, "symmetry_operations_max": 4, "slack": 0.1} | changes
    )
    cell = build_cell(
        stream(9, 0, Stage.CELL, index),
        composition={"B": 1},
        species=B,
        generation=0,
        settings=settings,
    )
    fractional = cell.atoms.get_scaled_positions(wrap=False)
    for rotation, translation in zip(cell.rotations, cell.translations, strict=True):
        difference = (fractional @ rotation.T + translation)[:, None] - fractional[None]
        difference -= np.rint(difference) * cell.atoms.pbc
        assert np.linalg.norm(difference @ cell.atoms.cell.array, axis=2).min(axis=1).max() < 1e-7
    shortest = neighbor_list("d", cell.atoms, 2.0).min(initial=2.0)
    separation = float(minimum_separations([B["B"]], settings)[0, 0])
    if not settings.units:
        assert shortest >= 0.9 * separation - 1e-8
        assert (
            min(shortest / separation, 2.0) == pytest.approx(cell.shortest_ratio, abs=1e-8) or shortest == 2.0
        )
    return cell, settings


def test_point_groups_have_their_known_orders() -> None:
    orders = {g.name: g.order for groups in cluster_groups().values() for g in groups}
    known = {"C1": 1, "Ci": 2, "Cs": 2, "C5": 5, "C3v": 6, "D5d": 20, "D6h": 24, "S4": 4, "S12": 12, "T": 12}
    known |= {"Td": 24, "Th": 24, "O": 24, "Oh": 48, "I": 60, "Ih": 120}
    assert {name: orders[name] for name in known} == known


def test_layer_groups_are_all_there() -> None:
    """spglib's own table of layer groups names all 80 from the operations of a general position."""
    found = set()
    for groups in slab_groups().values():
        for group in groups:
            w = group.rotations
            metric = np.einsum(
                "nji,jk,nkl->il", w, np.diag([1.0, 1.7, 9.0]) + 0.21 * (1 - np.eye(3)), w
            ) / len(w)
            points = np.concatenate(
                [w @ p + group.translations for p in ([0.13, 0.27, 0.04], [0.41, 0.08, 0.11])]
            )
            data = (5 * np.linalg.cholesky(metric), points, [1] * len(w) + [2] * len(w))
            with quiet_spglib():
                layer = spglib.get_symmetry_layerdataset(data, aperiodic_dir=2, symprec=1e-4)
            assert layer is not None
            found.add(int(layer["number"] if isinstance(layer, dict) else layer.number))
    assert found == set(range(1, 81))


def test_clusters_are_inside_their_sphere_and_have_their_symmetry() -> None:
    orders = set()
    for index in range(30):
        cell, settings = build(
            index, ConfinementSettings(kind="cluster", radius=3.6, vacuum=8.0), symmetry_operations_max=12
        )
        orders.add(cell.symmetry_operations)
        atoms = cell.atoms
        assert not atoms.pbc.any()
        assert np.allclose(atoms.cell.array, np.eye(3) * (2 * 3.6 + 8.0))
        relative = atoms.positions - atoms.cell.array.sum(axis=0) / 2
        assert np.linalg.norm(relative, axis=1).max() <= 3.6 + 2e-6
        group = next(
            s for groups in cluster_groups().values() for s in groups if s.name == cell.group
        ).rotations
        assert len(group) == cell.symmetry_operations <= settings.symmetry_operations_max
        for matrix in group:
            moved = np.linalg.norm((relative @ matrix.T)[:, None] - relative[None], axis=2)
            assert moved.min(axis=1).max() < 1e-7
    assert len(orders) >= 5


def test_a_cluster_of_icosahedral_symmetry() -> None:
    """Twelve atoms under 120 operations can only be on the five-fold axes: an icosahedron with its 30 equal edges."""
    cell, _ = build(
        0,
        ConfinementSettings(kind="cluster", radius=2.5),
        atoms_min=12,
        atoms_max=12,
        symmetry={"operations": 120},
    )
    assert cell.group == "Ih"
    lengths = np.sort(cell.atoms.get_all_distances()[np.triu_indices(12, k=1)])
    assert np.allclose(lengths[:30], lengths[0])
    assert lengths[30] == pytest.approx(lengths[0] * (1 + 5**0.5) / 2)


def test_radius_from_the_number_of_atoms_or_the_volume() -> None:
    for index in range(5):
        cell, _ = build(index, ConfinementSettings(kind="cluster", radius_per_root=1.6, vacuum=5.0))
        assert cell.atoms.cell[0, 0] == pytest.approx(2 * 1.6 * len(cell.atoms) ** (1 / 3) + 5.0)
        whole, _ = build(index, ConfinementSettings(kind="cluster", vacuum=0.0))
        volume = 4 / 3 * np.pi * (whole.atoms.cell[0, 0] / 2) ** 3 / len(whole.atoms)
        assert 0.7 < volume / (14.5 * B["B"].radius ** 3) < 1.3


def test_an_ellipsoid_keeps_its_axes_apart() -> None:
    for index in range(10):
        cell, _ = build(index, ConfinementSettings(kind="cluster", half_axes=(2.5, 3.5, 5.0)))
        relative = cell.atoms.positions - cell.atoms.cell.array.sum(axis=0) / 2
        assert ((relative / (2.5, 3.5, 5.0)) ** 2).sum(axis=1).max() <= 1 + 1e-5
        assert np.allclose(np.diag(cell.atoms.cell.array), [15.0, 17.0, 20.0])


@pytest.mark.parametrize("width", [0.0, 2.5])
def test_slabs_keep_width_and_vacuum_and_never_mix_z(width: float) -> None:
    found = set()
    for index in range(25):
        cell, _ = build(
            index, ConfinementSettings(kind="slab", width=width, vacuum=9.0), symmetry_operations_max=8
        )
        atoms = cell.atoms
        found.add(cell.symmetry_operations)
        assert atoms.pbc.tolist() == [True, True, False]
        assert np.allclose(atoms.cell.array[2], [0, 0, width + 9.0])
        assert np.allclose(atoms.cell.array[:2, 2], 0)
        assert np.ptp(atoms.positions[:, 2]) <= width + 1e-5
        data = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        with quiet_spglib():
            layer = spglib.get_symmetry_layerdataset(data, aperiodic_dir=2, symprec=1e-4)
        assert layer is not None
        rotations = np.unique(layer["rotations"] if isinstance(layer, dict) else layer.rotations, axis=0)
        assert len(rotations) % cell.symmetry_operations == 0
    assert len(found) >= 3


def test_the_sides_of_a_surface_stay() -> None:
    assert all((s.rotations[:, 2, 2] > 0).all() for g in slab_groups(keep_sides=True).values() for s in g)
    # 17 plane groups have 17 layer groups that keep the sides
    cell, _ = build(1, ConfinementSettings(kind="slab", width=3.0, keep_sides=True))
    assert cell.symmetry_operations in (1, 2, 3, 4)


def test_a_layer_of_icosahedra() -> None:
    cell, settings = build(
        2,
        ConfinementSettings(kind="slab", width=5.0, vacuum=10.0),
        atoms_min=12,
        atoms_max=24,
        units=(UnitSettings(),),
        symmetry_operations_max=2,
    )
    assert len(cell.atoms) in (12, 24)
    assert np.ptp(cell.atoms.positions[:, 2]) <= 5.0 + 1e-5
    assert cell.shortest_ratio >= 1 - settings.slack - 1e-8


def test_settings_that_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="radius belongs to a cluster, not to a slab"):
        ConfinementSettings(kind="slab", radius=3.0)
    with pytest.raises(ValidationError, match="radius and half_axes both give the size"):
        ConfinementSettings(kind="cluster", radius=3.0, half_axes=(1, 2, 3))
