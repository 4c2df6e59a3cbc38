"""Structures that start from a given one: supercells, vacancies, permutation, strain, displacements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.geometry import find_mic
from ase.io import write
from ase.neighborlist import neighbor_list
from pydantic import ValidationError

from gapfactory.build import BuildSettings, BuiltCell, build_cell
from gapfactory.build.body_settings import AtomShake, StartSettings
from gapfactory.build.shaken import start_from_file, supercell_shapes
from gapfactory.elements import species
from gapfactory.errors import BuildError, InputError
from gapfactory.seeds import Stage, stream
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from ase import Atoms

SI = bulk("Si", cubic=True)
KINDS = {s: species(s) for s in ("C", "H", "O", "Si")}


def start_of(structure: Atoms, **more: object) -> StartSettings:
    content = {
        "symbols": structure.get_chemical_symbols(),
        "positions": structure.positions.tolist(),
        "periodic": structure.pbc.tolist(),
    }
    if structure.cell.rank == 3:
        content["cell"] = structure.cell.array.tolist()
    return StartSettings.model_validate(content | more)


def build(index: int, start: StartSettings, **changes: object) -> BuiltCell:
    settings = BuildSettings.model_validate({"start": start, "slack": 0.0} | changes)
    return build_cell(
        stream(4, 0, Stage.CELL, index),
        composition=dict.fromkeys(set(start.symbols), 1),
        species=KINDS,
        generation=0,
        settings=settings,
    )


def moved(cell: BuiltCell, reference: Atoms) -> np.ndarray:
    """Distance of every atom from the nearest of the reference's sites."""
    vectors = cell.atoms.positions[:, None] - reference.positions[None]
    _, lengths = find_mic(vectors.reshape(-1, 3), reference.cell, pbc=reference.pbc)
    return np.asarray(lengths.reshape(len(cell.atoms), -1).min(axis=1))


def test_positions_are_uniform_in_a_sphere() -> None:
    """Nothing overlaps, nothing is pushed: displacements have the volume of the sphere, so <r^3>/R^3 = 1/2."""
    lengths = np.concatenate([moved(build(i, start_of(SI, position_amplitude=0.12)), SI) for i in range(60)])
    assert lengths.max() <= 0.12 + 1e-9
    assert (lengths**3).mean() / 0.12**3 == pytest.approx(0.5, abs=0.05)
    shell = start_of(SI, atoms=[AtomShake(amplitude=0.12, least=0.1)] * 8)
    lengths = np.concatenate([moved(build(i, shell), SI) for i in range(10)])
    assert lengths.min() >= 0.1 - 1e-9
    assert lengths.max() <= 0.12 + 1e-9


def test_boxes_and_fixed_atoms() -> None:
    shakes = [AtomShake(fixed=True)] * 4 + [AtomShake(amplitude=0.0, box=(None, 0.2, 0.05))] * 4
    seen = []
    for index in range(20):
        cell = build(index, start_of(SI, atoms=shakes))
        _, lengths = find_mic(cell.atoms.positions[:4] - SI.positions[:4], SI.cell)
        assert lengths.max() < 1e-9
        shift, _ = find_mic(cell.atoms.positions[4:] - SI.positions[4:], SI.cell)
        assert np.abs(shift[:, 0]).max() < 1e-9
        assert np.abs(shift[:, 2]).max() <= 0.05 + 1e-9
        seen.append(np.abs(shift[:, 1]).max())
        (constraint,) = cell.atoms.constraints
        assert isinstance(constraint, FixAtoms)
        assert constraint.index.tolist() == [0, 1, 2, 3]
    assert 0.15 < max(seen) <= 0.2 + 1e-9


def test_atoms_are_pushed_apart_and_fixed_ones_stay() -> None:
    """Large displacements: separations hold again; one atom dropped anywhere finds its place among fixed ones."""
    for index in range(20):
        cell = build(index, start_of(SI, position_amplitude=1.5))
        assert neighbor_list("d", cell.atoms, 3.0).min() >= 1.8 * KINDS["Si"].radius - 1e-8
    crowd = start_of(
        SI * (2, 2, 2),
        vacancies={},
        atoms=[AtomShake(anywhere=True)] + [AtomShake(fixed=True)] * 63,
    )
    for index in range(5):
        cell = build(index, crowd, minimum_separation_in_r=1.5)
        assert neighbor_list("d", cell.atoms, 3.0).min() >= 1.5 * KINDS["Si"].radius - 1e-8
        assert (moved(cell, SI * (2, 2, 2)) < 1e-9).sum() >= 63


def test_strain_is_symmetric_and_bounded() -> None:
    strains = []
    for index in range(100):
        cell = build(index, start_of(SI, cell_amplitude=0.1))
        strain = np.linalg.inv(SI.cell.array) @ cell.atoms.cell.array - np.eye(3)
        assert np.allclose(strain, strain.T, atol=1e-12)
        assert np.allclose(cell.atoms.get_scaled_positions(), SI.get_scaled_positions(), atol=1e-9)
        strains.append(strain)
    diagonal = np.abs(np.diagonal(strains, axis1=1, axis2=2))
    others = np.abs(np.array(strains)[:, [0, 0, 1], [1, 2, 2]])
    assert 0.09 < diagonal.max() <= 0.1
    assert 0.045 < others.max() <= 0.05


def test_supercells_of_random_shape_are_supercells() -> None:
    """Every sublattice of an index occurs once: 1, 7, 13, 35 of index 1 to 4; in the plane 1, 3, 4, 7."""
    assert [len(supercell_shapes(n)) for n in (1, 2, 3, 4)] == [1, 7, 13, 35]
    assert [len(supercell_shapes(n, flat=True)) for n in (1, 2, 3, 4)] == [1, 3, 4, 7]
    assert all(round(np.linalg.det(m)) == 6 for m in supercell_shapes(6))
    shapes = set()
    for index in range(20):
        cell = build(index, start_of(bulk("Si"), supercell_size=3))
        atoms = cell.atoms
        assert len(atoms) == 6
        assert atoms.get_volume() == pytest.approx(3 * bulk("Si").get_volume())
        bonds = neighbor_list("d", atoms, 2.6)
        assert len(bonds) == 4 * 6
        assert np.allclose(bonds, np.sqrt(3) / 4 * 5.43)
        shapes.add(np.round(np.sort(atoms.cell.lengths()), 3).tobytes())
    assert len(shapes) > 2
    skew = build(0, start_of(bulk("Si"), supercell=[[1, 1, 0], [0, 2, 0], [1, 0, -1]]))
    assert len(skew.atoms) == 4
    assert len(neighbor_list("d", skew.atoms, 2.6)) == 16


def test_vacancies_and_permutations() -> None:
    mixed = SI.copy()
    mixed.symbols[:4] = "C"
    removed = set()
    for index in range(10):
        cell = build(index, start_of(mixed, vacancies={"Si": 1, "C": 2}), minimum_separation_in_r=1.0)
        assert str(cell.atoms.symbols.formula.format("hill")) == "C2Si3"
        removed.add(structure_hash(cell.atoms))
    assert len(removed) > 3
    orders = set()
    for index in range(10):
        cell = build(index, start_of(mixed, permute=True), minimum_separation_in_r=1.0)
        assert str(cell.atoms.symbols.formula.format("hill")) == "C4Si4"
        assert moved(cell, mixed).max() < 1e-9
        orders.add(structure_hash(cell.atoms))
    assert len(orders) > 5
    marked = [AtomShake(permute=i in (0, 7)) for i in range(8)]
    both = {
        structure_hash(
            build(i, start_of(mixed, permute=True, atoms=marked), minimum_separation_in_r=1.0).atoms
        )
        for i in range(12)
    }
    assert len(both) == 2


def test_a_unit_turns_as_a_rigid_body() -> None:
    methane = molecule("CH4")
    methane.set_cell([6, 6, 6])
    methane.pbc = True
    template = np.sort(methane.get_all_distances().ravel())
    for index in range(10):
        cell = build(
            index,
            start_of(methane, units=[0] * 5, atoms=[AtomShake(amplitude=0.5, angle=20)] * 5),
            minimum_separation_in_r=1.5,
        )
        assert np.allclose(np.sort(cell.atoms.get_all_distances().ravel()), template, atol=1e-9)
    loose = build(0, start_of(methane, position_amplitude=0.3), minimum_separation_in_r=0.5)
    assert not np.allclose(np.sort(loose.atoms.get_all_distances().ravel()), template, atol=1e-3)


def test_the_last_displacement_breaks_the_symmetry_only() -> None:
    cell = build(0, start_of(SI, break_amplitude=0.01))
    assert 0 < moved(cell, SI).max() <= 0.01


def test_a_random_cell_for_atoms_anywhere() -> None:
    free = StartSettings(
        symbols=("Si",) * 5,
        positions=((0, 0, 0),) * 5,
        atoms=(AtomShake(anywhere=True),) * 5,
        vacancies={"Si": 1},
    )
    for index in range(5):
        cell = build(index, free)
        assert len(cell.atoms) == 4
        assert neighbor_list("d", cell.atoms, 3.0).min(initial=3.0) >= 1.8 * KINDS["Si"].radius - 1e-8
        assert cell.atoms.get_volume() / 4 == pytest.approx(14.5 * KINDS["Si"].radius ** 3, rel=0.051)


def test_a_start_from_a_file(tmp_path) -> None:
    file = tmp_path / "si.cif"
    write(file, SI)
    start = start_from_file(file, position_amplitude=0.1)
    cell = build(0, start)
    assert 0 < moved(cell, SI).max() <= 0.1 + 1e-5
    assert structure_hash(cell.atoms) == structure_hash(build(0, start).atoms)
    with pytest.raises(InputError, match="cannot be read"):
        start_from_file(tmp_path / "missing.cif")


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(InputError, match="9 vacancies of Si, of which there are 8"):
        build(0, start_of(SI, vacancies={"Si": 9}))
    with pytest.raises(BuildError, match="shaken structure of 8 atoms"):
        build(0, start_of(SI), minimum_separation_in_r=3.0, tries=3)
    with pytest.raises(ValidationError, match="keep one"):
        start_of(SI, supercell_size=2, supercell=np.eye(3, dtype=int).tolist())
    with pytest.raises(InputError, match="has no volume"):
        build(0, start_of(SI, supercell=[[1, 0, 0], [1, 0, 0], [0, 0, 1]]))
    with pytest.raises(InputError, match="mark its atoms `anywhere`"):
        build(0, StartSettings(symbols=("Si",), positions=((0, 0, 0),)))


def shortest(atoms: Atoms, cutoff: float) -> float:
    return float(min(neighbor_list("d", atoms, cutoff), default=cutoff))


def test_atoms_that_are_placed_anew_keep_apart_though_none_is_pushed() -> None:
    start = StartSettings(
        symbols=("Si",) * 6,
        positions=((0.0, 0.0, 0.0),) * 6,
        atoms=(AtomShake(anywhere=True, no_move=True),) * 6,
    )
    for index in range(5):
        cell = build(index, start, separations={"value": 1.5}, tries=2000)
        assert shortest(cell.atoms, 3.0) >= 1.5 - 1e-6
        assert cell.shortest_ratio == pytest.approx(shortest(cell.atoms, 9.0) / 1.5)
    # two that stay where they were are taken as given
    given = start.model_copy(update={"atoms": (AtomShake(fixed=True),) * 6, "cell": SI.cell.array.tolist()})
    assert shortest(build(0, given, separations={"value": 1.5}).atoms, 3.0) == 0.0


def test_the_shortest_contact_is_that_of_the_structure_that_is_returned() -> None:
    cell = build(1, start_of(SI, break_amplitude=1.0), separations={"value": 1.6})
    assert cell.shortest_ratio == pytest.approx(shortest(cell.atoms, 5.0) / 1.6)
