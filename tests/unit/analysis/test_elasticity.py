"""Elastic constants against numerical second derivatives of the energy, closed forms, and rotations of the crystal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from gapfactory.analysis.elastic_tensor import (
    ElasticTensor,
    from_mandel,
    independent_names,
    mandel,
    mandel_rotation,
    symmetrised,
)
from gapfactory.analysis.elasticity import (
    ElasticComparison,
    ElasticConstants,
    ElasticSettings,
    compare_elasticity,
    elastic_cells,
    elastic_constants,
    elastic_constants_by,
)
from gapfactory.errors import EvidenceError
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

GPA = 160.21766208
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def turn(seed: int) -> NDArray[np.float64]:
    """Return a random proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def four_index(voigt: NDArray[np.float64]) -> NDArray[np.float64]:
    full = np.zeros((3, 3, 3, 3))
    for a, (i, j) in enumerate(VOIGT):
        for b, (k, m) in enumerate(VOIGT):
            for x, y in {(i, j), (j, i)}:
                for v, w in {(k, m), (m, k)}:
                    full[x, y, v, w] = voigt[a, b]
    return full


def energy(crystal: Atoms, calculator: Any, strain: NDArray[np.float64], *, relax: bool) -> float:
    """Return the energy at a Lagrangian strain, nothing but energies and ASE's optimiser involved."""
    values, vectors = np.linalg.eigh(np.eye(3) + 2 * strain)
    work = crystal.copy()
    work.set_cell(crystal.cell.array @ (vectors * np.sqrt(values)) @ vectors.T, scale_atoms=True)
    work.calc = calculator
    if relax:
        assert BFGS(work, logfile=None).run(fmax=1e-5, steps=100)
    return float(work.get_potential_energy())


def numerical(crystal: Atoms, calculator: Any, a: int, b: int, *, relax: bool, step: float = 4e-3) -> float:
    """Return one constant in GPa as the mixed second derivative of the energy, by central differences."""
    unit = []
    for k in (a, b):
        i, j = VOIGT[k]
        e = np.zeros((3, 3))
        e[i, j] = e[j, i] = 1.0 if i == j else 0.5
        unit.append(step * e)
    total = 0.0
    for p, q in ((1, 1), (-1, -1), (1, -1), (-1, 1)):
        total += p * q * energy(crystal, calculator, p * unit[0] + q * unit[1], relax=relax)
    return total / (4 * step**2) / crystal.get_volume() * GPA


def triclinic_silicon() -> Atoms:
    """Return a crystal without symmetry beyond inversion, under stress, its atoms at rest."""
    atoms = bulk("Si", a=5.45)
    shape = np.eye(3) + np.array([[0.02, 0.01, -0.02], [0.01, -0.03, 0.015], [-0.02, 0.015, 0.01]])
    atoms.set_cell(atoms.cell.array @ shape, scale_atoms=True)
    atoms.calc = StillingerWeberSilicon()
    assert BFGS(atoms, logfile=None).run(fmax=1e-6, steps=200)
    return atoms


@pytest.mark.parametrize(
    ("crystal", "calculator", "some"),
    [
        (bulk("Si", a=5.431), StillingerWeberSilicon(), [(0, 0), (0, 1), (3, 3)]),
        (
            bulk("Ti", "hcp", a=2.93, c=4.66),
            SecondMomentTitanium(),
            [(0, 0), (0, 1), (0, 2), (2, 2), (3, 3), (5, 5)],
        ),
    ],
    ids=["diamond", "hcp"],
)
@pytest.mark.parametrize("internal", ["relaxed", "clamped"])
def test_equals_second_derivatives_of_the_energy(
    crystal: Atoms, calculator: Any, some: list[tuple[int, int]], internal: Any
) -> None:
    found = elastic_constants_by(calculator, crystal, ElasticSettings(internal=internal, strain=0.002))
    for a, b in some:
        expected = numerical(crystal, calculator, a, b, relax=internal == "relaxed")
        assert found.tensor.values[a, b] == pytest.approx(expected, abs=0.25), (a, b)


def test_published_constants_of_stillinger_and_weber() -> None:
    """E. R. Cowley, Phys. Rev. Lett. 60, 2379 (1988): 151.4, 76.4 and 56.4 GPa."""
    found = elastic_constants_by(StillingerWeberSilicon(), bulk("Si", a=5.431), ElasticSettings(strain=0.001))
    assert found.constants() == pytest.approx({"C11": 151.4, "C12": 76.4, "C44": 56.4}, abs=0.1)
    assert found.point_group == "m-3m"


def test_relaxation_of_atoms_matters_where_it_should() -> None:
    silicon = elastic_constants_by(StillingerWeberSilicon(), bulk("Si", a=5.431))
    assert silicon.clamped["C44"] - silicon.tensor["C44"] > 30
    np.testing.assert_allclose(silicon.clamped.values[:3, :3], silicon.tensor.values[:3, :3], atol=1e-3)
    titanium = elastic_constants_by(SecondMomentTitanium(), bulk("Ti", "hcp", a=2.93, c=4.66))
    # atoms of hcp move under strain within the basal plane only
    assert titanium.clamped["C66"] - titanium.tensor["C66"] > 1
    for name in ("C13", "C33", "C44"):
        assert titanium.clamped[name] == pytest.approx(titanium.tensor[name], abs=1e-3)


@pytest.mark.parametrize("internal", ["relaxed", "clamped"])
def test_all_21_constants_under_stress(internal: Any) -> None:
    crystal = triclinic_silicon()
    calculator = StillingerWeberSilicon()
    found = elastic_constants_by(calculator, crystal, ElasticSettings(internal=internal, strain=0.002))
    assert len(found.independent) == 21
    assert abs(found.pressure_GPa) > 0.5
    for a, b in [(0, 0), (1, 2), (0, 3), (2, 4), (3, 5), (4, 4)]:
        expected = numerical(crystal, calculator, a, b, relax=internal == "relaxed")
        assert found.tensor.values[a, b] == pytest.approx(expected, abs=0.3), (a, b)


def test_stress_at_rest() -> None:
    crystal = bulk("Al", a=3.9)
    found = elastic_constants_by(EMT(), crystal, ElasticSettings(strain=0.001))
    crystal.calc = EMT()
    np.testing.assert_allclose(found.stress_GPa, crystal.get_stress() * GPA, atol=2e-3)
    assert found.pressure_GPa > 1


def test_bulk_modulus_is_that_of_the_volume() -> None:
    crystal = bulk("Al", a=3.994)
    found = elastic_constants_by(EMT(), crystal)
    crystal.calc = EMT()
    pressures, volumes = [], []
    for factor in (0.999, 1.001):
        work = bulk("Al", a=3.994 * factor)
        work.calc = EMT()
        pressures.append(-np.trace(work.get_stress(voigt=False)) / 3 * GPA)
        volumes.append(work.get_volume())
    expected = -crystal.get_volume() * (pressures[1] - pressures[0]) / (volumes[1] - volumes[0])
    for modulus in (found.tensor.bulk_voigt, found.tensor.bulk_reuss, found.tensor.bulk):
        assert modulus == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("name", ["silicon", "titanium"])
def test_rotated_crystal_has_rotated_constants(name: str) -> None:
    crystal, calculator = {
        "silicon": (bulk("Si", a=5.431), StillingerWeberSilicon()),
        "titanium": (bulk("Ti", "hcp", a=2.93, c=4.66), SecondMomentTitanium()),
    }[name]
    rotation = turn(3)
    turned = crystal.copy()
    turned.set_cell(crystal.cell.array @ rotation.T, scale_atoms=True)
    first, second = elastic_constants_by(calculator, crystal), elastic_constants_by(calculator, turned)
    assert np.abs(first.tensor.values - second.tensor.values).max() > 5
    np.testing.assert_allclose(first.tensor.rotated(rotation).values, second.tensor.values, atol=0.05)
    assert first.independent == second.independent
    for constant, value in first.constants().items():
        assert second.constants()[constant] == pytest.approx(value, abs=0.05)


def test_conventional_cell_gives_the_same() -> None:
    calculator = StillingerWeberSilicon()
    small = elastic_constants_by(calculator, bulk("Si", a=5.431))
    large = elastic_constants_by(calculator, bulk("Si", a=5.431, cubic=True))
    np.testing.assert_allclose(small.tensor.values, large.tensor.values, atol=1e-6)


def test_rotation_is_that_of_a_tensor_of_rank_four() -> None:
    rng = np.random.default_rng(5)
    random = rng.normal(size=(6, 6))
    values = random @ random.T
    rotation = turn(7)
    found = four_index(ElasticTensor(values).rotated(rotation).values)
    r = rotation
    np.testing.assert_allclose(
        found, np.einsum("ai,bj,ck,dl,ijkl->abcd", r, r, r, r, four_index(values)), atol=1e-10
    )
    tensor = rng.normal(size=(3, 3))
    tensor = tensor + tensor.T
    np.testing.assert_allclose(from_mandel(mandel(tensor)), tensor)
    np.testing.assert_allclose(mandel_rotation(r) @ mandel(tensor), mandel(r @ tensor @ r.T))
    np.testing.assert_allclose(mandel_rotation(r) @ mandel_rotation(r).T, np.eye(6), atol=1e-12)


def test_isotropic_solid() -> None:
    first, second = 60.0, 35.0  # Lamé's constants
    values = np.zeros((6, 6))
    values[:3, :3] = first
    values += np.diag([2 * second] * 3 + [second] * 3)
    tensor = ElasticTensor(values)
    assert tensor["C11"] - tensor["C12"] == pytest.approx(2 * tensor["C44"])
    np.testing.assert_allclose(tensor.rotated(turn(1)).values, values, atol=1e-10)
    for bulk_modulus in (tensor.bulk_voigt, tensor.bulk_reuss, tensor.bulk):
        assert bulk_modulus == pytest.approx(first + 2 * second / 3)
    for shear in (tensor.shear_voigt, tensor.shear_reuss, tensor.shear):
        assert shear == pytest.approx(second)
    assert tensor.anisotropy == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(tensor.eigenvalues, [2 * second] * 5 + [3 * first + 2 * second])


def test_averages_of_a_cubic_crystal() -> None:
    """Closed forms for cubic crystals (Hill, Proc. Phys. Soc. A 65, 349 (1952))."""
    c11, c12, c44 = 165.7, 63.9, 79.6
    values = np.diag([c11 - c12] * 3 + [c44] * 3)
    values[:3, :3] += c12
    tensor = ElasticTensor(values)
    assert tensor.bulk == pytest.approx((c11 + 2 * c12) / 3)
    assert tensor.shear_voigt == pytest.approx((c11 - c12 + 3 * c44) / 5)
    assert tensor.shear_reuss == pytest.approx(5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12)))
    assert tensor.stable
    assert tensor.shear_reuss < tensor.shear < tensor.shear_voigt
    turned = tensor.rotated(turn(2))
    assert turned.moduli() == pytest.approx(tensor.moduli())


def test_hexagonal_averages_of_the_paper() -> None:
    """Allen and Bartók (2022), Table 3, DFT of Mg: B = 36.5 GPa."""
    c11, c12, c13, c33, c44 = 64.2, 20.2, 23.7, 64.7, 17.1
    values = np.diag([c11 - c12, c11 - c12, 0, c44, c44, (c11 - c12) / 2])
    values[:2, :2] += c12
    values[:2, 2] = values[2, :2] = c13
    values[2, 2] = c33
    assert ElasticTensor(values).bulk == pytest.approx(36.5, abs=0.05)


def about(axis: list[float], degrees: float) -> NDArray[np.float64]:
    n = np.array(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]])
    t = np.radians(degrees)
    return np.eye(3) + np.sin(t) * cross + (1 - np.cos(t)) * cross @ cross


def closed(generators: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    group = [np.eye(3)]
    grew = True
    while grew:
        grew = False
        for a in list(group):
            for b in generators:
                new = a @ b
                if min(np.abs(new - g).max() for g in group) > 1e-8:
                    group.append(new)
                    grew = True
    return group


@pytest.mark.parametrize(
    ("generators", "names"),
    [
        ([], "11 12 13 33 44 66 22 23 55 14 15 16 24 25 26 34 35 36 45 46 56"),
        ([about([0, 1, 0], 180)], "11 12 13 33 44 66 22 23 55 15 25 35 46"),
        ([about([0, 0, 1], 180), about([1, 0, 0], 180)], "11 12 13 33 44 66 22 23 55"),
        ([about([0, 0, 1], 90)], "11 12 13 33 44 66 16"),
        ([about([0, 0, 1], 90), about([1, 0, 0], 180)], "11 12 13 33 44 66"),
        ([about([0, 0, 1], 120)], "11 12 13 33 44 14 15"),
        ([about([0, 0, 1], 120), about([1, 0, 0], 180)], "11 12 13 33 44 14"),
        ([about([0, 0, 1], 60)], "11 12 13 33 44"),
        ([about([0, 0, 1], 90), about([1, 1, 1], 120)], "11 12 44"),
    ],
    ids=["triclinic", "monoclinic", "orthorhombic", "4", "422", "3", "32", "hexagonal", "cubic"],
)
def test_independent_constants_of_every_laue_class(generators: Any, names: str) -> None:
    """Nye, Physical Properties of Crystals, Table 9."""
    group = closed(generators)
    assert independent_names(group) == tuple(f"C{n}" for n in names.split())
    random = np.random.default_rng(0).normal(size=(6, 6))
    tensor = ElasticTensor.from_mandel(symmetrised(random + random.T, group))
    for rotation in generators:
        np.testing.assert_allclose(tensor.rotated(rotation).values, tensor.values, atol=1e-10)


@pytest.mark.parametrize(
    ("crystal", "strained", "displaced"),
    [(bulk("Al"), 3, 0), (bulk("Si"), 3, 1), (bulk("Ti"), 5, 1), (bulk("W"), 3, 0)],
    ids=["fcc", "diamond", "hcp", "bcc"],
)
def test_symmetry_saves_cells(crystal: Atoms, strained: int, displaced: int) -> None:
    planned = elastic_cells(crystal)
    assert len(planned.strains) == strained
    assert len(planned.cells) == strained + displaced
    again = elastic_cells(crystal)
    for a, b in zip(planned.cells, again.cells, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.cell.array, b.cell.array)


def test_unstable_against_strain() -> None:
    """Body-centred copper turns into the face-centred crystal along the Bain path: C11 < C12."""
    found = elastic_constants_by(EMT(), bulk("Cu", "bcc", a=2.865))
    assert found.tensor["C11"] < found.tensor["C12"]
    assert not found.stable
    assert found.tensor.eigenvalues[0] < 0
    assert np.isnan(found.tensor.shear_reuss)


def test_atoms_that_would_run_away() -> None:
    """With the sign of every force turned, each arrangement of atoms at rest is a maximum."""
    planned = elastic_cells(bulk("Si", a=5.431))
    stresses, forces = [], []
    for cell in planned.cells:
        cell.calc = StillingerWeberSilicon()
        stresses.append(-cell.get_stress())
        forces.append(-cell.get_forces())
    with pytest.raises(EvidenceError, match=r"not stable against displacements.*internal='clamped'"):
        elastic_constants(planned, stresses, forces)


def test_labels_that_do_not_fit() -> None:
    planned = elastic_cells(bulk("Si", a=5.431))
    stresses = [np.zeros(6)] * len(planned.strains)
    with pytest.raises(EvidenceError, match="3 strained cells, but stresses of 2"):
        elastic_constants(planned, stresses[:2], [])
    with pytest.raises(EvidenceError, match="4 cells, but forces of 1"):
        elastic_constants(planned, stresses, [np.zeros((2, 3))])
    with pytest.raises(EvidenceError, match="strained cell 1"):
        elastic_constants(planned, [stresses[0], np.full(6, np.nan), stresses[0]], [])
    with pytest.raises(EvidenceError, match="symmetric"):
        ElasticTensor(np.arange(36.0).reshape(6, 6))


def test_comparison_and_storage() -> None:
    crystal = bulk("Si", a=5.431)
    reference = elastic_constants_by(StillingerWeberSilicon(), crystal, method="reference")
    softer = ElasticConstants.from_dict(
        {**reference.as_dict(), "tensor": {"values_GPa": (0.95 * reference.tensor.values).tolist()}}
    )
    compared = compare_elasticity(softer, reference)
    assert [r["constant"] for r in compared.rows()] == ["B", "G", "C11", "C12", "C44"]
    assert all(r["error_percent"] == pytest.approx(-5) for r in compared.rows())
    assert compared.largest_error_percent == pytest.approx(5)
    assert "agree to 5.0 %" in compared.sentence()
    stored = json.loads(json.dumps(compared.as_dict()))
    assert ElasticComparison.from_dict(stored).as_dict() == compared.as_dict()
    clamped = elastic_constants_by(StillingerWeberSilicon(), crystal, ElasticSettings(internal="clamped"))
    with pytest.raises(EvidenceError, match="do not pair up"):
        compare_elasticity(clamped, reference)
