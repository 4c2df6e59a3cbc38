"""Frames for vibrations and elasticity: sizes as the paper says, own streams; Bain's path; the classical set."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list

from gapfactory.build.bain import bain_cell
from gapfactory.build.nondiagonal import NondiagonalSettings, nondiagonal_cells
from gapfactory.build.single_displacements import SingleDisplacementSettings, single_displacements
from gapfactory.build.vibration_frames import FrameSettings, frame_count, vibration_frame
from gapfactory.errors import InputError
from gapfactory.seeds import Stage, stream

MG, AL = bulk("Mg"), bulk("Al")
PUBLISHED = NondiagonalSettings(choice="published")


def frames(crystal: Atoms, settings: FrameSettings, more: int = 0):
    cells = nondiagonal_cells(crystal, settings.supercells)
    count = frame_count(cells, settings) + more
    return cells, [
        vibration_frame(crystal, cells, i, stream(5, 0, Stage.SUPERCELL, i), settings) for i in range(count)
    ]


@pytest.mark.parametrize(
    ("crystal", "primitives", "variants", "energies", "atoms"),
    [
        (MG, 500, 42, 1004, 4276),
        (bulk("W"), 500, 42, 836, 1550),
        (bulk("Si"), 600, 42, 936, 3300),
        (AL, 458, 49, 850, 1683),
    ],
    ids=["Mg", "W", "Si", "Al"],
)
def test_counts_are_those_of_table_2(crystal, primitives, variants, energies, atoms):
    """The paper's numbers of energies and atoms, the crystal as it is left out."""
    settings = FrameSettings(supercells=PUBLISHED, primitives=primitives, variants=variants)
    cells = nondiagonal_cells(crystal, settings.supercells)
    assert frame_count(cells, settings) - 1 == energies
    assert len(crystal) * (primitives + variants * cells.size) == atoms


def test_some_primitive_cells_have_displaced_atoms():
    _, plain = frames(MG, FrameSettings(primitives=12, variants=0))
    _, found = frames(MG, FrameSettings(primitives=12, variants=0, primitives_displaced=4))
    assert [f.kind for f in found] == ["crystal"] + ["primitive"] * 12
    assert [f.atoms for f in found[:9]] == [f.atoms for f in plain[:9]]
    for frame in found[1:]:
        move = frame.atoms.positions - MG.positions @ (np.eye(3) + frame.strain)
        assert np.sqrt((move**2).sum(axis=1).mean()) == pytest.approx(frame.displacement, abs=1e-12)
    assert [f.displacement > 0.02 for f in found] == [False] * 9 + [True] * 4
    with pytest.raises(ValueError, match="more than primitives = 3: they are some of these"):
        FrameSettings(primitives=3, primitives_displaced=4)


def test_sizes_are_those_of_the_paper():
    settings = FrameSettings(primitives=150, variants=14)
    cells, found = frames(MG, settings)
    assert [f.kind for f in found] == ["crystal"] + ["primitive"] * 150 + ["supercell"] * 14 * len(
        cells.cells
    )
    assert found[0].atoms == MG
    # each frame, taken back to the crystal's lattice, leaves the displacements, and those are normal
    moves, strains = [], []
    for frame in found[1:]:
        perfect = MG if frame.cell is None else make_supercell(MG, cells.cells[frame.cell].matrix)
        deformation = frame.scale * (np.eye(3) + frame.strain)
        assert frame.atoms.cell.array == pytest.approx(perfect.cell.array @ deformation)
        assert frame.atoms.calc is None
        move = frame.atoms.positions - perfect.positions @ deformation
        if frame.kind == "primitive":
            assert frame.scale == 1
            assert np.abs(move).max() < 1e-12
        else:
            assert np.sqrt((move**2).sum(axis=1).mean()) == pytest.approx(frame.displacement)
            moves.append(move * np.sqrt(len(move) / (len(move) - 1)))
        strains.append(frame.strain)
    coordinates = np.concatenate(moves).ravel()
    assert coordinates.std() == pytest.approx(0.10, rel=0.05)
    assert (coordinates**4).mean() / coordinates.var() ** 2 == pytest.approx(3.0, abs=0.4)
    components = np.array(strains)[:, *np.triu_indices(3)]
    assert np.abs(components).max() <= 0.01
    # uniform, and the six independent: the volume is not kept
    assert components.std(axis=0) == pytest.approx(0.01 / np.sqrt(3), rel=0.12)
    assert np.abs(np.corrcoef(components.T) - np.eye(6)).max() < 0.25
    # each supercell has each scale equally often
    for cell in range(len(cells.cells)):
        scales = sorted(f.scale for f in found if f.cell == cell)
        assert scales == sorted([*settings.scales, *settings.scales])


def test_first_variants_hold_all_scales():
    """Two of each supercell, as where little is labelled, hold compressed and expanded ones."""
    _, found = frames(AL, FrameSettings(primitives=0, variants=2))
    scales = {f.scale for f in found if f.kind == "supercell"}
    assert {0.985, 1.0, 1.015} <= scales


def test_each_frame_has_its_own_stream():
    settings = FrameSettings(primitives=3, variants=1)
    cells, first = frames(AL, settings)
    _, more = frames(AL, settings, more=5)
    for i in reversed(range(len(first))):
        again = vibration_frame(AL, cells, i, stream(5, 0, Stage.SUPERCELL, i), settings)
        assert again.atoms == first[i].atoms == more[i].atoms
    positions = [f.atoms.positions.tobytes() + f.atoms.cell.array.tobytes() for f in more]
    assert len(set(positions)) == len(positions)
    assert {f.variant for f in more[len(first) :]} == {1}
    assert bulk("Al") == AL
    with pytest.raises(InputError, match="counted from 0"):
        vibration_frame(AL, cells, -1, np.random.default_rng(0), settings)


@pytest.mark.parametrize("eta", np.linspace(0, 1, 9))
def test_the_path_of_bain_keeps_the_volume(eta):
    cell = bain_cell("Al", 3.2, eta)
    assert cell.get_volume() == pytest.approx(3.2**3 / 2)
    assert np.linalg.det(cell.cell) > 0
    rows = cell.cell.array
    # edges of the conventional cell: a1 + a2 = c, and so on
    c, a = np.linalg.norm(rows[0] + rows[1]), np.linalg.norm(rows[1] + rows[2])
    assert c / a == pytest.approx((1 - eta + 2 ** (1 / 3) * eta) ** 1.5)


def test_the_ends_of_the_path_are_cubic():
    def shells(atoms: Atoms) -> list[tuple[float, int]]:
        distances = np.round(neighbor_list("d", atoms, 5.0), 6)
        return list(zip(*map(np.ndarray.tolist, np.unique(distances, return_counts=True)), strict=True))

    bcc, middle, fcc = (bain_cell("Al", 3.2, eta) for eta in (0, 0.5, 1))
    numbers = [
        spglib.get_symmetry_dataset((a.cell.array, [[0, 0, 0]], [13])).number for a in (bcc, middle, fcc)
    ]
    assert numbers == [229, 139, 225]
    assert shells(bcc) == shells(bulk("Al", "bcc", a=3.2))
    assert shells(fcc) == shells(bulk("Al", "fcc", a=3.2 * 2 ** (1 / 3)))


@pytest.mark.parametrize(("a0", "eta"), [(0, 0.5), (float("nan"), 0.5), (3, -0.1), (3, 1.1)])
def test_what_is_not_on_the_path(a0, eta):
    with pytest.raises(InputError):
        bain_cell("Al", a0, eta)


def displaced(crystal: Atoms, found: tuple[Atoms, ...], divisions) -> list[tuple[int, list[float]]]:
    perfect = crystal.repeat(divisions)
    result = []
    for atoms in found:
        assert atoms.cell.array == pytest.approx(perfect.cell.array)
        moves = atoms.positions - perfect.positions
        (atom,) = np.flatnonzero(np.abs(moves).max(axis=1))
        result.append((int(atom), np.round(moves[atom], 12).tolist()))
    return result


def test_one_displacement_of_a_cubic_crystal():
    """Aluminium at 4 4 4: the paper's two energies and 65 atoms, with the primitive cell."""
    found = single_displacements(AL)
    assert [len(atoms) for atoms in found] == [64]
    assert displaced(AL, found, (4, 4, 4)) == [(0, [0.05, 0, 0])]
    assert bulk("Al") == AL


def test_axes_and_atoms_that_symmetry_does_not_relate():
    x, z = [0.05, 0, 0], [0, 0, 0.05]
    assert displaced(MG, single_displacements(MG), (4, 4, 4)) == [(0, x), (0, z)]
    salt = bulk("NaCl", "rocksalt", a=5.6)
    assert displaced(salt, single_displacements(salt), (4, 4, 4)) == [(0, x), (1, x)]
    low = Atoms(
        "SiC", scaled_positions=[[0, 0, 0], [0.4, 0.3, 0.2]], cell=[3.0, 3.3, 3.9, 80, 95, 107], pbc=True
    )
    settings = SingleDisplacementSettings(divisions=(2, 1, 1))
    assert [atom for atom, _ in displaced(low, single_displacements(low, settings), (2, 1, 1))] == [
        0,
        0,
        0,
        1,
        1,
        1,
    ]
    # the supercell has less symmetry than the crystal
    flat = SingleDisplacementSettings(divisions=(1, 1, 2))
    simple = Atoms("Po", cell=[3.3] * 3, pbc=True)
    assert displaced(simple, single_displacements(simple, flat), (1, 1, 2)) == [(0, x), (0, z)]


def test_the_displacements_determine_all_force_constants():
    """Rotated by the symmetry of the supercell, the forces of the set give those of any small displacement."""
    crystal = bulk("Al", "hcp", a=2.85, c=4.7)
    divisions = (2, 2, 2)
    settings = SingleDisplacementSettings(divisions=divisions, distance=0.01)
    perfect = crystal.repeat(divisions)
    n = len(perfect)
    symmetry = spglib.get_symmetry((perfect.cell.array, perfect.get_scaled_positions(), perfect.numbers))
    rows, right = [], []
    for atoms in single_displacements(crystal, settings):
        atoms.calc = EMT()
        forces = atoms.get_forces()
        (atom,) = np.flatnonzero(np.abs(atoms.positions - perfect.positions).max(axis=1))
        move = (atoms.positions - perfect.positions)[atom]
        for w, t in zip(symmetry["rotations"], symmetry["translations"], strict=True):
            moved = perfect.get_scaled_positions() @ w.T + t
            difference = moved[:, None] - perfect.get_scaled_positions()[None]
            to = np.argmin(((difference - np.rint(difference)) ** 2).sum(axis=2), axis=1)
            rotation = np.linalg.inv(perfect.cell.array) @ w.T @ perfect.cell.array
            if to[atom] == 0:
                turned = np.empty((n, 3))
                turned[to] = forces @ rotation
                rows.append(move @ rotation)
                right.append(turned.ravel())
    solution, _, rank, _ = np.linalg.lstsq(np.array(rows), np.array(right), rcond=1e-6)
    assert rank == 3
    direction = np.array([0.3, -0.5, 0.8]) * 0.01
    check = perfect.copy()
    check.positions[0] += direction
    check.calc = EMT()
    assert direction @ solution == pytest.approx(check.get_forces().ravel(), abs=2e-3)


def test_what_cannot_be_displaced():
    with pytest.raises(InputError, match="not periodic"):
        single_displacements(molecule("H2O"))
    with pytest.raises(InputError, match="at least 1"):
        single_displacements(AL, SingleDisplacementSettings(divisions=(2, 0, 2)))
