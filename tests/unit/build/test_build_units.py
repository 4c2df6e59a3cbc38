"""Units: their own symmetry, special positions, rigidity, separations, cells of B12 icosahedra."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
import spglib
from ase.build import molecule
from ase.io import write
from ase.neighborlist import neighbor_list

from gapfactory._spglib import quiet_spglib
from gapfactory.analysis.phases import named_phases
from gapfactory.build import BuildSettings, BuiltCell, build_cell, minimum_separations
from gapfactory.build.body_settings import UnitSettings
from gapfactory.build.confinement import cluster_groups
from gapfactory.build.units import orientations, oriented, random_rotation, unit_from_file, unit_of
from gapfactory.elements import Species, species
from gapfactory.errors import BuildError, InputError
from gapfactory.seeds import Stage, stream
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from pathlib import Path

B = {"B": species("B")}
B12 = UnitSettings()
PREPRINT = BuildSettings(
    atoms_min=36, atoms_max=48, symmetry_operations_min=3, symmetry_operations_max=4, units=(B12,)
)


def build(
    index: int,
    settings: BuildSettings = PREPRINT,
    kinds: dict[str, Species] = B,
    unit: dict[str, int] | None = None,
) -> BuiltCell:
    return build_cell(
        stream(3, 0, Stage.CELL, index),
        composition=unit or dict.fromkeys(kinds, 1),
        species=kinds,
        generation=0,
        settings=settings,
    )


def ratio_between_bodies(cell: BuiltCell, kinds: dict[str, Species], settings: BuildSettings) -> float:
    """Smallest distance over minimum separation by ASE's neighbour list, pairs within a body left out.

    Bodies are whole, so a pair within one is one of zero cell shift.
    """
    symbols = sorted(kinds)
    separations = minimum_separations([kinds[s] for s in symbols], settings)
    index = np.array([symbols.index(s) for s in cell.atoms.get_chemical_symbols()])
    bodies = np.array(cell.bodies)
    i, j, d, shift = neighbor_list("ijdS", cell.atoms, 2.0 * separations.max())
    between = (bodies[i] != bodies[j]) | shift.any(axis=1)
    return float((d / separations[index[i], index[j]])[between].min(initial=2.0))


def distances(positions: np.ndarray) -> np.ndarray:
    return np.sort([np.linalg.norm(a - b) for a, b in combinations(positions, 2)])


def rotations_found(cell: BuiltCell) -> int:
    data = (cell.atoms.cell.array, cell.atoms.get_scaled_positions(), cell.atoms.numbers)
    with quiet_spglib():
        found = spglib.get_symmetry(data, symprec=1e-4)
    assert found is not None
    return len(np.unique(found["rotations"], axis=0))


def operations_hold(cell: BuiltCell) -> bool:
    """Whether every operation maps every atom on one of its species, to 1e-7 Å."""
    fractional = cell.atoms.get_scaled_positions(wrap=False)
    numbers = cell.atoms.numbers
    for rotation, translation in zip(cell.rotations, cell.translations, strict=True):
        moved = fractional @ rotation.T + translation
        difference = moved[:, None] - fractional[None]
        difference -= np.rint(difference) * cell.atoms.pbc
        distance = np.linalg.norm(difference @ cell.atoms.cell.array, axis=2)
        distance[numbers[:, None] != numbers[None]] = np.inf
        if distance.min(axis=1).max() > 1e-7:
            return False
    return len(cell.rotations) == cell.symmetry_operations


def test_point_groups_of_units_have_their_known_orders() -> None:
    kinds = {s: species(s) for s in ("B", "C", "H", "O", "N")}
    known = {"B12": 120, "CH4": 24, "H2O": 4, "C6H6": 24, "NH3": 6, "C2H4": 8, "CH3OH": 2}
    for name, order in known.items():
        group = unit_of(UnitSettings(name=name), kinds).point_group
        assert len(group) == order, name
        assert np.abs(np.einsum("nij,nkj->nik", group, group) - np.eye(3)).max() < 1e-6


def test_the_icosahedron_has_the_edges_of_alpha_boron() -> None:
    """Its 30 edges are the mean of those within the icosahedra of the published crystal, within 2 %."""
    crystal = next(phase for phase in named_phases("B") if phase.name == "B-alpha-B12").atoms
    # bonds between icosahedra are shorter (1.71 Å) or longer (2.0 Å) than those within
    within = [d for d in neighbor_list("d", crystal, 1.9) if d > 1.72]
    assert len(within) == 12 * 5
    edge = np.mean(within)
    unit = unit_of(B12, B)
    own = distances(unit.positions)
    assert np.isclose(own[:30], own[0]).all()
    assert own[30] > 1.5 * own[0]
    assert own[0] == pytest.approx(edge, rel=0.02)


@pytest.mark.parametrize(
    ("name", "fits"),
    [("Ci", True), ("C2h", True), ("D2h", True), ("D3d", True), ("Th", True), ("D5d", True), ("Ih", True),
     ("C4", False), ("D6", False), ("Oh", False), ("D3h", False)],
)  # fmt: skip
def test_a_unit_fits_the_sites_of_subgroups_of_its_own_symmetry(name: str, fits: bool) -> None:
    """An icosahedron has neither four-fold nor six-fold axes; the answer does not depend on the axes of the site."""
    rng = np.random.default_rng(5)
    unit = unit_of(B12, B)
    group = next(s for groups in cluster_groups().values() for s in groups if s.name == name).rotations
    turn = random_rotation(rng)
    site = turn @ group @ turn.T
    assert bool(orientations(unit, site)) == fits
    atoms = oriented(rng, unit, site)
    assert (atoms is not None) == fits
    if atoms is not None:
        assert np.allclose(distances(atoms), distances(unit.positions), atol=1e-9)
        for matrix in site:
            moved = np.linalg.norm((atoms @ matrix.T)[:, None] - atoms[None], axis=2)
            assert moved.min(axis=1).max() < 1e-9


def test_cells_of_icosahedra_have_36_or_48_atoms_and_rigid_units() -> None:
    """Issue 7: 36- and 48-atom cells built from B12 units; everything checked with ASE and spglib."""
    template = distances(unit_of(B12, B).positions)
    sizes, orders, special = set(), set(), 0
    for index in range(24):
        cell = build(index)
        n = len(cell.atoms)
        sizes.add(n)
        orders.add(cell.symmetry_operations)
        bodies = np.array(cell.bodies)
        assert sorted(np.unique(bodies, return_counts=True)[1]) == [12] * (n // 12)
        for body in range(n // 12):
            own = distances(cell.atoms.positions[bodies == body])
            assert np.abs(own - template).max() < 1e-8
        ratio = ratio_between_bodies(cell, B, PREPRINT)
        assert ratio == pytest.approx(cell.shortest_ratio, abs=1e-8)
        assert ratio >= 1 - PREPRINT.slack - 1e-8
        assert rotations_found(cell) % cell.symmetry_operations == 0, cell
        assert operations_hold(cell)
        special += cell.symmetry_operations != n // 12
    assert sizes == {36, 48}
    assert orders == {3, 4}
    assert special > 2  # three units under four operations: some sit on special positions


def test_units_on_special_positions_only() -> None:
    """One icosahedron under 2 to 12 operations sits where the site has all of them."""
    settings = BuildSettings(
        atoms_min=12, atoms_max=12, symmetry_operations_min=2, symmetry_operations_max=12, units=(B12,)
    )
    orders = set()
    for index in range(18):
        cell = build(index, settings)
        orders.add(cell.symmetry_operations)
        assert rotations_found(cell) % cell.symmetry_operations == 0
        assert ratio_between_bodies(cell, B, settings) >= 1 - settings.slack - 1e-8
    assert orders >= {2, 3, 4, 6, 8, 12}


def test_extra_sites_put_units_on_special_positions() -> None:
    """Four icosahedra in P-1: two general orbits, or with two more sites also some on centres of inversion."""
    found = set()
    for index in range(12):
        settings = BuildSettings(
            atoms_min=50,
            atoms_max=50,
            symmetry={"space_groups": [2], "extra_sites": 2},
            units=(UnitSettings(count=4),),
        )
        cell = build(index, settings, unit={"B": 50})
        assert rotations_found(cell) % 2 == 0
        assert operations_hold(cell)
        assert ratio_between_bodies(cell, B, settings) >= 1 - settings.slack - 1e-8
        bodies = np.array(cell.bodies)
        scaled = cell.atoms.get_scaled_positions(wrap=False)
        units = [body for body in set(cell.bodies) if (bodies == body).sum() == 12]
        assert len(units) == 4
        centres = np.array([scaled[bodies == body].mean(axis=0) for body in units])
        delta = centres @ cell.rotations[1].T + cell.translations[1] - centres
        found.add(int((np.abs(delta - np.rint(delta)).max(axis=1) < 1e-6).sum()))
    assert found == {0, 2, 4}


def test_molecules_with_free_atoms() -> None:
    """Methane hydrate in small: one CH4 and two H2O in each formula unit, and an argon atom left free."""
    kinds = {s: species(s) for s in ("Ar", "C", "H", "O")}
    unit = {"Ar": 1, "C": 1, "H": 8, "O": 2}
    settings = BuildSettings(
        atoms_min=12,
        atoms_max=24,
        symmetry_operations_min=1,
        symmetry_operations_max=2,
        minimum_separation_in_r=2.2,
        volume_in_r3_covalent=45,
        units=(UnitSettings(name="CH4", count=1), UnitSettings(name="H2O", count=2)),
    )
    for index in range(10):
        cell = build(index, settings, kinds, unit)
        formulas = len(cell.atoms) // 12
        bodies = np.array(cell.bodies)
        names = sorted(
            str(cell.atoms[bodies == body].symbols.formula.format("hill")) for body in set(cell.bodies)
        )
        assert names == sorted(["Ar", "CH4", "H2O", "H2O"] * formulas)
        assert ratio_between_bodies(cell, kinds, settings) >= 1 - settings.slack - 1e-8
        assert rotations_found(cell) % cell.symmetry_operations == 0


def test_a_flexible_unit_is_deformed_by_at_most_its_amplitude_and_keeps_the_symmetry() -> None:
    amplitude = 0.2
    settings = PREPRINT.model_copy(update={"units": (UnitSettings(amplitude=amplitude),)})
    template = distances(unit_of(B12, B).positions)
    changes = []
    for index in range(10):
        cell = build(index, settings)
        bodies = np.array(cell.bodies)
        own = distances(cell.atoms.positions[bodies == 0])
        changes.append(np.abs(own - template).max())
        assert rotations_found(cell) % cell.symmetry_operations == 0
    assert 0.05 < max(changes) <= 2 * amplitude


def test_limited_rotation_and_mirror_images() -> None:
    """By at most 10 degrees no atom moves further than 2 R sin(5 deg) from its place in the unit."""
    kinds = {s: species(s) for s in ("C", "H", "F", "Cl", "Br")}
    chiral = UnitSettings(
        name="CHFClBr",
        symbols=("C", "H", "F", "Cl", "Br"),
        positions=((0, 0, 0), (0.6, 0.6, 0.6), (0.8, -0.8, -0.8), (-1.0, 1.0, -1.0), (-1.1, -1.1, 1.1)),
        rotation_max=10,
        flip=True,
    )
    unit = unit_of(chiral, kinds)
    rng = np.random.default_rng(0)
    hands = []
    reach = 2 * np.linalg.norm(unit.positions, axis=1).max() * np.sin(np.radians(5)) + 1e-9
    for _ in range(200):
        atoms = oriented(rng, unit, np.eye(3)[None])
        assert atoms is not None
        hand = np.sign(np.linalg.det(atoms[1:4] - atoms[0]))
        hands.append(hand * np.sign(np.linalg.det(unit.positions[1:4] - unit.positions[0])))
        assert np.linalg.norm(hands[-1] * atoms - unit.positions, axis=1).max() <= reach
    assert 60 < (np.array(hands) > 0).sum() < 140


def test_random_rotations_are_uniform() -> None:
    """The images of an axis are uniform on the sphere, and the angle has density (1 - cos) / pi."""
    rng = np.random.default_rng(1)
    turns = np.array([random_rotation(rng) for _ in range(4000)])
    assert np.abs(turns[:, :, 2].mean(axis=0)).max() < 0.04
    assert np.allclose((turns[:, :, 2] ** 2).mean(axis=0), 1 / 3, atol=0.02)
    angles = np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert angles.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.03)


def test_a_fragment_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "benzene.xyz"
    write(file, molecule("C6H6"))
    kinds = {s: species(s) for s in ("C", "H")}
    settings = BuildSettings(
        atoms_min=12,
        atoms_max=24,
        minimum_separation_in_r=2.2,
        volume_in_r3_covalent=40,
        units=(unit_from_file(file),),
        symmetry_operations_max=2,
    )
    cell = build(0, settings, kinds)
    own = distances(cell.atoms.positions[np.array(cell.bodies) == 0])
    assert np.abs(own - distances(molecule("C6H6").positions)).max() < 1e-5
    with pytest.raises(InputError, match="there is no file"):
        unit_from_file(tmp_path / "missing.xyz")


def test_a_seed_fixes_each_cell() -> None:
    assert [structure_hash(build(i).atoms) for i in range(5)] == [
        structure_hash(build(i).atoms) for i in range(5)
    ]
    assert len({structure_hash(build(i).atoms) for i in range(5)}) == 5


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(InputError, match="there is no unit 'CH5'"):
        build(0, BuildSettings(units=(UnitSettings(name="CH5"),)))
    with pytest.raises(InputError, match="unit 'CH4' holds C, H, which the composition does not"):
        build(0, BuildSettings(units=(UnitSettings(name="CH4"),)))
    with pytest.raises(InputError, match="units B12 do not fit into B"):
        build(0, BuildSettings(atoms_min=6, atoms_max=8, units=(UnitSettings(count=1),)))
    crowded = PREPRINT.model_copy(update={"volume_in_r3_covalent": 7.0, "tries": 3, "slack": 0.0})
    with pytest.raises(BuildError, match=r"cannot be met by . B12 at"):
        build(0, crowded)
    lonely = BuildSettings(
        atoms_min=12, atoms_max=12, symmetry_operations_min=48, symmetry_operations_max=48, units=(B12,)
    )
    with pytest.raises(BuildError, match="no space group with 48 to 48 operations holds 1 B12"):
        build(0, lonely)
