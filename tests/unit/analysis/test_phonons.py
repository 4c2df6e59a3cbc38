"""Phonons: closed forms in SI units, second derivatives, sum rules, ASE's phonons, paths, densities of states."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from ase.build import bulk, make_supercell
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list
from scipy import constants as si

from gapfactory.analysis.force_constants import (
    ForceConstants,
    displacement_set,
    force_constants,
    forces_of,
    oriented_primitive_cell,
)
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.phonons import PhononComparison, Phonons, compare_phonons, phonon_path, phonons
from gapfactory.errors import EvidenceError
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

FAST: dict[str, Any] = {"compare_mesh": (4, 4, 4), "dos_mesh": (12, 12, 12), "path_density": 10.0}


class Springs(Calculator):
    """Springs at rest between nearest neighbours: their curvature alone is known to act."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]  # type: ignore[misc]

    def __init__(self, stiffness: float, rest: float) -> None:
        super().__init__()
        self.stiffness, self.rest = stiffness, rest

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        i, length, vector = neighbor_list("idD", self.atoms, 1.2 * self.rest)
        stretch = length - self.rest
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, (self.stiffness * stretch / length)[:, None] * vector)
        self.results = {"energy": 0.25 * self.stiffness * float(stretch @ stretch), "forces": forces}


def made(crystal: Atoms, calculator: Any, **settings: Any) -> ForceConstants:
    planned = displacement_set(crystal, PhononSettings(**settings))
    return force_constants(planned, forces_of(planned.cells, calculator))


def terahertz(stiffness: float, mass: float) -> float:
    """Return sqrt(k/m)/2 pi in THz of a stiffness in eV/Å^2 and a mass in u, by CODATA values."""
    return float(np.sqrt(stiffness * si.e / si.angstrom**2 / (mass * si.atomic_mass)) / (2 * np.pi) / 1e12)


def springs_fcc() -> tuple[Atoms, Springs, float]:
    crystal = bulk("Al", a=4.0)
    return crystal, Springs(1.7, 4.0 / np.sqrt(2)), 1.7


def test_any_order_of_the_supercells_atoms() -> None:
    """Cells that others planned have their atoms in another order: forces go to the atoms that they act on."""
    crystal = bulk("Al", "hcp", a=2.86, c=4.7)
    planned = displacement_set(crystal, PhononSettings(grid=(2, 2, 2)))
    order = np.random.default_rng(3).permutation(len(planned.supercell))
    mixed = replace(
        planned,
        supercell=planned.supercell[order],
        cells=tuple(cell[order] for cell in planned.cells),
        displaced=tuple(int(np.flatnonzero(order == atom)[0]) for atom in planned.displaced),
    )
    points = [[0.5, 0.0, 0.0], [0.5, 0.0, 0.5], [0.1, 0.2, 0.3]]
    wanted, found = (
        force_constants(p, forces_of(p.cells, EMT())).frequencies(points) for p in (planned, mixed)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    other = replace(planned, matrix=np.diag([2, 2, 1]))
    with pytest.raises(EvidenceError, match="is not"):
        force_constants(other, forces_of(planned.cells, EMT()))


def test_closed_forms_of_the_face_centred_crystal() -> None:
    """Central forces between nearest neighbours: 8k and 4k over the mass at X, 8k and 2k at L; zero at Gamma."""
    crystal, calculator, k = springs_fcc()
    found = made(crystal, calculator, grid=(2, 2, 2), displacement=0.002)
    mass = crystal.get_masses()[0]
    expected = [
        [0.0, 0.0, 0.0],
        [terahertz(f * k, mass) for f in (4, 4, 8)],
        [terahertz(f * k, mass) for f in (2, 2, 8)],
    ]
    np.testing.assert_allclose(
        found.frequencies([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]]), expected, atol=1e-3
    )


def test_signs_and_units_of_force_constants() -> None:
    """The diagonal resists (+4k), each neighbour pulls along the bond (-k n n)."""
    crystal, calculator, k = springs_fcc()
    found = made(crystal, calculator, grid=(4, 4, 4), displacement=0.002)
    cells = found.sites[:, 1:] @ crystal.cell.array
    lattice = 4 * crystal.cell.array
    for j, way in enumerate(cells):
        fractional = way @ np.linalg.inv(lattice)
        images = (
            fractional
            - np.rint(fractional)
            + np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
        ) @ lattice
        bond = images[np.argmin(np.linalg.norm(images, axis=1))]
        length = np.linalg.norm(bond)
        expected = np.zeros((3, 3))
        if length < 1e-6:
            expected = 4 * k * np.eye(3)
        elif length < 3.0:
            expected = -k * np.outer(bond, bond) / length**2
        np.testing.assert_allclose(found.values[0, j], expected, atol=2e-3)


def test_diatomic_mode_has_the_reduced_mass() -> None:
    """Rock salt with springs: at Gamma both sublattices move against each other with 2k over the reduced mass."""
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    found = made(crystal, Springs(2.0, 2.8), grid=(2, 2, 2), displacement=0.002)
    first, second = crystal.get_masses()
    reduced = first * second / (first + second)
    np.testing.assert_allclose(
        found.frequencies([[0, 0, 0]])[0], [0] * 3 + [terahertz(4.0, reduced)] * 3, atol=1e-3
    )
    heavier = crystal.copy()
    heavier.set_masses(4 * crystal.get_masses())
    np.testing.assert_allclose(
        made(heavier, Springs(2.0, 2.8), grid=(2, 2, 2), displacement=0.002).frequencies([[0.5, 0.5, 0]]),
        found.frequencies([[0.5, 0.5, 0]]) / 2,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("crystal", "calculator"),
    [
        (bulk("Si", a=5.431), StillingerWeberSilicon()),
        (bulk("Ti", "hcp", a=2.93, c=4.66), SecondMomentTitanium()),
    ],
    ids=["diamond", "hcp"],
)
def test_equal_second_derivatives_of_the_energy(crystal: Atoms, calculator: Any) -> None:
    found = made(crystal, calculator, grid=(2, 2, 2), displacement=0.005)
    planned = displacement_set(crystal, PhononSettings(grid=(2, 2, 2)))
    step = 0.01
    basis = found.sites[:, 0]
    for i in range(len(crystal)):
        home = int(np.flatnonzero((basis == i) & (np.abs(found.sites[:, 1:]).sum(axis=1) == 0))[0])
        for j, a, b in ((home, 0, 0), (home, 2, 2), (3, 0, 1), (9, 2, 1), (14, 1, 1)):
            total = 0.0
            for p, q in ((1, 1), (-1, -1), (1, -1), (-1, 1)):
                work = planned.supercell.copy()
                work.positions[home, a] += p * step
                work.positions[j, b] += q * step
                work.calc = calculator
                total += p * q * work.get_potential_energy()
            assert found.values[i, j, a, b] == pytest.approx(total / (4 * step**2), abs=0.01), (i, j, a, b)


def test_acoustic_sum_rule_and_exchange() -> None:
    crystal = bulk("Ti", "hcp", a=2.93, c=4.66)
    planned = displacement_set(crystal, PhononSettings(grid=(3, 3, 2)))
    forces = forces_of(planned.cells, SecondMomentTitanium())
    clean = force_constants(planned, forces)
    assert clean.drift < 1e-6
    # forces that do not sum to zero, as those of a grid of plane waves
    push = np.array([0.0, 0.0, 0.003])
    noisy = force_constants(planned, [f + push for f in forces])
    expected = 0.003 * len(planned.supercell) / np.abs(planned.displacements[0, 2])
    assert noisy.drift > 0.1 * expected
    for found in (clean, noisy):
        np.testing.assert_allclose(found.values.sum(axis=1), 0, atol=1e-8)
        np.testing.assert_allclose(found.frequencies([[0, 0, 0]])[0, :3], 0, atol=1e-3)
        # exchange of two atoms within one cell
        gamma = np.zeros((2, 2, 3, 3))
        for j, atom in enumerate(found.sites[:, 0]):
            gamma[:, atom] += found.values[:, j]
        np.testing.assert_allclose(gamma[0, 1], gamma[1, 0].T, atol=1e-8)


def test_forces_at_rest_are_subtracted() -> None:
    """A crystal whose free coordinate is not relaxed: the force at rest is no force constant."""
    crystal = bulk("Si", a=5.431)
    crystal.set_cell(crystal.cell.array @ np.diag([1.0, 1.0, 1.01]), scale_atoms=True)
    crystal.positions[1, 0] += 0.02  # no symmetry makes the force zero
    planned = displacement_set(crystal, PhononSettings(grid=(1, 1, 1), displacement=0.002))
    calculator = StillingerWeberSilicon()
    forces = forces_of(planned.cells, calculator)
    rest = forces_of([planned.supercell], calculator)[0]
    assert np.abs(rest).max() > 0.05
    found = force_constants(planned, forces, at_rest=rest)
    without = force_constants(planned, [f - r for f, r in zip(forces, [rest] * len(forces), strict=True)])
    np.testing.assert_allclose(found.values, without.values)
    step = 1e-4
    for a in range(3):
        up, down = planned.supercell.copy(), planned.supercell.copy()
        up.positions[1, a] += step
        down.positions[1, a] -= step
        slope = np.subtract(*forces_of([up, down], calculator)) / (2 * step)
        np.testing.assert_allclose(-slope[0], found.gamma()[0, :, 1, a], atol=0.05)


def test_equals_phonons_of_ase(tmp_path: Any) -> None:
    from ase.phonons import Phonons as AsePhonons

    crystal = bulk("Cu", "hcp", a=2.55, c=4.16)
    found = made(crystal, EMT(), grid=(3, 3, 2), displacement=0.01)
    theirs = AsePhonons(crystal, EMT(), supercell=(3, 3, 2), delta=0.01, name=str(tmp_path / "ase"))
    theirs.run()
    theirs.read(acoustic=True)
    points = np.array([[1 / 3, 0, 0], [1 / 3, 1 / 3, 0], [0, 0, 0.5], [1 / 3, 0, 0.5], [2 / 3, 1 / 3, 0.5]])
    expected = theirs.band_structure(points) * si.e / si.h / 1e12  # eV of a quantum
    np.testing.assert_allclose(found.frequencies(points), np.sort(expected.real, axis=1), atol=0.02)


def test_imaginary_modes_are_negative() -> None:
    crystal, calculator, k = springs_fcc()
    planned = displacement_set(crystal, PhononSettings(grid=(2, 2, 2), displacement=0.002))
    turned = force_constants(planned, [-f for f in forces_of(planned.cells, calculator)])
    mass = crystal.get_masses()[0]
    np.testing.assert_allclose(
        turned.frequencies([[0.5, 0.5, 0]])[0], [-terahertz(f * k, mass) for f in (8, 4, 4)], atol=1e-3
    )
    found = phonons(turned, settings=PhononSettings(**FAST))
    assert not found.stable
    assert found.lowest < -3
    assert found.imaginary_share > 0.9
    right = phonons(
        made(crystal, calculator, grid=(2, 2, 2), displacement=0.002), settings=PhononSettings(**FAST)
    )
    assert right.stable
    assert right.imaginary_share == 0


def test_path_of_setyawan_and_curtarolo() -> None:
    crystal = bulk("Al", a=4.0)
    path = phonon_path(crystal)
    assert "".join(name for _, name in path.labels) == "GXWKGLUWLKUX"
    assert len(path.breaks) == 1
    reciprocal = 2 * np.pi * np.linalg.inv(crystal.cell.array).T
    unit = 2 * np.pi / 4.0
    lengths = {
        "G": 0.0,
        "X": 1.0,
        "W": np.sqrt(1.25),
        "K": np.sqrt(9 / 8),
        "L": np.sqrt(0.75),
        "U": np.sqrt(9 / 8),
    }
    for k, name in path.labels:
        assert np.linalg.norm(path.wave_vectors[k] @ reciprocal) == pytest.approx(lengths[name] * unit)
    steps = np.linalg.norm(np.diff(path.wave_vectors, axis=0) @ reciprocal, axis=1)
    at_break = path.breaks[0] - 1
    np.testing.assert_allclose(np.delete(np.diff(path.distances), at_break), np.delete(steps, at_break))
    assert np.diff(path.distances)[at_break] == 0


@pytest.mark.parametrize("change", [[[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [1, 1, 0], [2, -1, 1]]])
def test_bands_do_not_depend_on_the_choice_of_the_cell(change: Any) -> None:
    crystal = bulk("Al", a=4.0)
    other = make_supercell(crystal, np.array(change))
    settings = PhononSettings(**FAST)
    first = phonons(made(crystal, EMT(), grid=(3, 3, 3), displacement=0.01), settings=settings)
    second = phonons(made(other, EMT(), grid=(3, 3, 3), displacement=0.01), settings=settings)
    assert first.path.labels == second.path.labels
    np.testing.assert_allclose(first.path.distances, second.path.distances, atol=1e-8)
    np.testing.assert_allclose(first.bands, second.bands, atol=2e-3)


def test_primitive_cell_keeps_its_orientation() -> None:
    crystal = bulk("Si", a=5.431, cubic=True)
    small = oriented_primitive_cell(crystal)
    assert len(small) == 2
    ratio = crystal.cell.array @ np.linalg.inv(small.cell.array)
    np.testing.assert_allclose(ratio, np.rint(ratio), atol=1e-8)
    same = oriented_primitive_cell(small)
    np.testing.assert_array_equal(same.cell.array, small.cell.array)
    np.testing.assert_array_equal(same.positions, small.positions)


def test_density_of_states() -> None:
    """3n states, and their mean square frequency is the trace of the dynamical matrix."""
    crystal = bulk("Ti", "hcp", a=2.93, c=4.66)
    constants = made(crystal, SecondMomentTitanium(), grid=(3, 3, 2))
    settings = PhononSettings(**{**FAST, "dos_mesh": (16, 16, 12), "dos_points": 801})
    found = phonons(constants, settings=settings)
    assert np.trapezoid(found.dos, found.dos_frequencies) == pytest.approx(6, rel=0.01)
    home = [
        int(np.flatnonzero((constants.sites == [i, 0, 0, 0]).all(axis=1))[0]) for i in range(len(crystal))
    ]
    trace = sum(np.trace(constants.values[i, j]) for i, j in enumerate(home)) / crystal.get_masses()[0]
    mean = np.trapezoid(found.dos * found.dos_frequencies**2, found.dos_frequencies)
    assert mean == pytest.approx(terahertz(trace, 1.0) ** 2, rel=0.02)
    assert found.weights.sum() == pytest.approx(1)


def test_rmse_is_that_of_the_full_mesh() -> None:
    crystal = bulk("Ti", "hcp", a=2.93, c=4.66)
    reference = made(crystal, SecondMomentTitanium(), grid=(2, 2, 2))
    other = bulk("Ti", "hcp", a=2.90, c=4.66)
    potential = made(other, SecondMomentTitanium(), grid=(2, 2, 2))
    settings = PhononSettings(**{**FAST, "compare_mesh": (3, 4, 2)})
    theirs = phonons(reference, method="reference", settings=settings)
    ours = phonons(potential, like=theirs, settings=settings)
    compared = compare_phonons(ours, theirs)
    full = np.array([[i / 3, j / 4, k / 2] for i in range(3) for j in range(4) for k in range(2)])
    difference = potential.frequencies(full) - reference.frequencies(full)
    assert compared.rmse_THz == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-5)
    assert abs(compared.largest_THz) == pytest.approx(np.abs(difference).max(), rel=1e-5)
    assert compared.rmse_THz > 0.05
    assert "THz RMS" in compared.sentence()
    stored = json.loads(json.dumps(compared.as_dict()))
    assert PhononComparison.from_dict(stored).as_dict() == compared.as_dict()
    # the stiffer crystal has states above the other's highest frequency, and loses none of them
    assert ours.highest > theirs.highest
    for found in (ours, theirs):
        assert found.dos_frequencies[-1] > found.highest
        assert np.trapezoid(found.dos, found.dos_frequencies) == pytest.approx(6, rel=0.02)
    with pytest.raises(EvidenceError, match="like=reference"):
        compare_phonons(phonons(potential, settings=PhononSettings(**FAST)), theirs)


def test_comparison_scales() -> None:
    """Force constants larger by 21 % are frequencies larger by 10 %."""
    crystal, calculator, _ = springs_fcc()
    planned = displacement_set(crystal, PhononSettings(grid=(2, 2, 2), displacement=0.002))
    forces = forces_of(planned.cells, calculator)
    settings = PhononSettings(**FAST)
    reference = phonons(force_constants(planned, forces), settings=settings)
    stiffer = phonons(force_constants(planned, [1.21 * f for f in forces]), like=reference, settings=settings)
    compared = compare_phonons(stiffer, reference)
    size = np.sqrt(reference.weights @ (reference.mesh_frequencies**2).mean(axis=1))
    assert compared.rmse_THz == pytest.approx(0.1 * size, rel=1e-4)
    assert compared.path_rmse_THz == pytest.approx(0.1 * np.sqrt(np.mean(reference.bands**2)), rel=1e-4)


def test_same_set_again_and_storage() -> None:
    crystal = bulk("Si", a=5.431)
    first, second = displacement_set(crystal), displacement_set(crystal)
    assert len(first.cells) == 1
    assert len(first.supercell) == 128
    for a, b in zip(first.cells, second.cells, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    moved = first.cells[0].positions - first.supercell.positions
    assert np.linalg.norm(moved) == pytest.approx(0.05)
    constants = made(crystal, StillingerWeberSilicon(), grid=(2, 2, 2))
    stored = ForceConstants.from_dict(json.loads(json.dumps(constants.as_dict())))
    points = np.random.default_rng(1).random((5, 3))
    np.testing.assert_array_equal(stored.frequencies(points), constants.frequencies(points))
    # what is stored does not depend on the order of phonopy's supercell
    order: NDArray[np.int64] = np.random.default_rng(2).permutation(len(stored.sites))
    shuffled = replace(stored, sites=stored.sites[order], values=stored.values[:, order])
    np.testing.assert_allclose(shuffled.frequencies(points), constants.frequencies(points))
    found = phonons(constants, settings=PhononSettings(**FAST))
    assert Phonons.from_dict(json.loads(json.dumps(found.as_dict()))).as_dict() == found.as_dict()


def test_what_cannot_be_used() -> None:
    crystal = bulk("Al", a=4.0)
    planned = displacement_set(crystal, PhononSettings(grid=(2, 2, 2)))
    with pytest.raises(EvidenceError, match="label them all"):
        force_constants(planned, [])
    with pytest.raises(EvidenceError, match="expected"):
        force_constants(planned, [np.zeros((7, 3))])
    with pytest.raises(EvidenceError, match="expected"):
        force_constants(planned, [np.full((8, 3), np.nan)])
    with pytest.raises(EvidenceError, match="no matrix of a supercell"):
        displacement_set(crystal, matrix=[[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    with pytest.raises(EvidenceError, match="no matrix of a supercell"):
        displacement_set(crystal, matrix=np.diag([1.5, 1, 1]))
    with pytest.raises(ValueError, match="at least one point"):
        PhononSettings(grid=(0, 1, 1))


def test_a_grid_without_any_vibration_is_refused() -> None:
    crystal = bulk("Al")
    settings = PhononSettings(grid=(1, 1, 1))
    planned = displacement_set(crystal, settings)
    constants = force_constants(planned, [np.zeros((1, 3)) for _ in planned.cells])
    with pytest.raises(EvidenceError, match=r"holds no vibration; give a larger phonons\.grid"):
        phonons(constants, settings=settings)
