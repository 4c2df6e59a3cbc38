"""The SOAP term: descriptors as QUIP's, energies, forces, virials, covariances and variances by definition."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine import _dot_product
from gapfactory.potentials.gap.engine.radial import _basis, _exact, radial_table
from gapfactory.potentials.gap.engine.soap import SoapEngine
from gapfactory.potentials.gap.engine.system import build_system
from gapfactory.potentials.gap.model import SoapTerm, empty_term, with_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))


def command(
    species: str = "14",
    n_max: int = 5,
    l_max: int = 4,
    sigma: float = 0.5,
    cutoff: float = 4.0,
    more: str = "",
) -> str:
    return (
        f"soap l_max={l_max} n_max={n_max} atom_sigma={sigma} cutoff={cutoff} cutoff_transition_width=1.1 Z=14 "
        f"n_species={len(species.split())} species_Z={{{species}}} {more}"
    )


def term(
    zeta: float = 4, points: int = 30, seed: int = 0, f0: float = 0.0, species: str = "14", more: str = ""
) -> SoapTerm:
    """Return a term with positive random points, as those of densities are."""
    empty = empty_term(
        command(species, more=more), f"covariance_type=dot_product zeta={zeta}", delta=1.3, f0=f0
    )
    assert isinstance(empty, SoapTerm)
    rng = np.random.default_rng(seed)
    values = rng.random((points, empty.dimension))
    values[:, -1] = 0.0
    values /= np.linalg.norm(values, axis=1)[:, None]
    return with_points(empty, values, rng.normal(size=points), rng.uniform(0.5, 1.0, size=points))


def structures(species: str = "14") -> list[Atoms]:
    """Return a primitive cell, a thin supercell, a slab, a cluster and a free atom."""
    rng = np.random.default_rng(3)
    primitive, cubic = bulk("Si", a=5.2), bulk("Si", a=5.3, cubic=True)
    slab, cluster = cubic.copy(), cubic.copy()
    slab.pbc = (True, True, False)
    cluster.pbc = False
    found = [primitive, primitive * (3, 1, 1), cubic, slab, cluster, Atoms("Si", cell=[15.0] * 3)]
    for atoms in found:
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        if species != "14":
            atoms.numbers[1::2] = 8
    return found


def evaluate(engine: SoapEngine, frames: list[Atoms]) -> tuple[NDArray, NDArray, NDArray]:
    system = build_system(frames, 4.5)
    energies, forces = np.zeros(system.n_atoms), np.zeros((system.n_atoms, 3))
    virials = np.zeros((system.n_cells, 3, 3))
    engine.add(system, energies, forces, virials)
    return energies, forces, virials


@pytest.mark.parametrize(
    ("n_max", "l_max", "sigma", "species"),
    [(8, 8, 0.75, "14"), (12, 12, 0.75, "14"), (12, 12, 0.4, "14"), (6, 4, 0.5, "8 14"), (3, 0, 0.5, "14")],
)
@pytest.mark.parametrize("more", ["", "normalise=F central_weight=0.3", "central_reference_all_species=T"])
def test_descriptors_equal_quips(n_max: int, l_max: int, sigma: float, species: str, more: str) -> None:
    quippy = pytest.importorskip("quippy.descriptors")
    text = command(species, n_max, l_max, sigma, 5.0, more)
    empty = empty_term(text, "covariance_type=dot_product zeta=2", 1.0)
    engine = SoapEngine(empty)
    for scale in (1.0, 0.6):
        atoms = bulk("Si", a=5.43 * scale, cubic=True)
        atoms.rattle(0.05 * scale, seed=1)
        if species != "14":
            atoms.numbers[::3] = 8
        expected = quippy.Descriptor(text).calc(atoms)["data"]
        found = engine.descriptors(build_system([atoms], 5.2))
        assert found.values.shape == expected.shape
        assert np.abs(found.values - expected).max() < 1e-10 * max(1.0, np.abs(expected).max())
        assert found.centre.tolist() == np.flatnonzero(atoms.numbers == 14).tolist()
        assert (found.cutoff == 1.0).all()


@pytest.mark.parametrize("size", [(8, 8, 0.75), (12, 12, 0.75), (10, 3, 0.3)])
def test_table_is_as_good_as_the_functions(size: tuple[int, int, float]) -> None:
    n_max, l_max, sigma = size
    cutoff = 4.7
    table = radial_table(
        n_max=n_max,
        l_max=l_max,
        atom_sigma=sigma,
        cutoff=cutoff,
        central_weight=1.0,
        basis_error_exponent=10.0,
    )
    assert table.error < 1e-12
    spacing, transform, _ = _basis(n_max, l_max, sigma, cutoff, 1.0, 10.0)
    r = np.random.default_rng(0).uniform(0.0, cutoff, 300)
    exact = _exact(r, l_max, 0.5 / sigma**2, spacing, transform)
    k = np.minimum((r * table.scale).astype(int), len(table.coefficients) - 1)
    t = 2.0 * (r * table.scale - k) - 1.0
    values = np.einsum("kp,kpf->kf", t[:, None] ** np.arange(9), table.coefficients[k])
    values = values.reshape(300, l_max + 1, -1)[..., :n_max]
    assert np.abs(values - exact).max() < 1e-12 * np.abs(exact).max()


@pytest.mark.parametrize("zeta", [1, 2, 4, 2.5])
@pytest.mark.parametrize("species", ["14", "8 14"])
def test_energy_is_the_sum_over_points(zeta: float, species: str) -> None:
    # more points than elements, so that zeta = 2 goes through the quadratic form
    chosen = term(zeta, 350 if species == "14" else 40, species=species)
    frames = structures(species)
    energies, _, _ = evaluate(SoapEngine(chosen), frames)
    found = SoapEngine(chosen).descriptors(build_system(frames, 4.5))
    kernel = 1.3**2 * (found.values @ chosen.points.T) ** zeta * chosen.sparse_cutoffs
    expected = np.zeros(len(energies))
    expected[found.centre] = kernel @ chosen.alphas
    scale = (kernel * np.abs(chosen.alphas)).sum(axis=1).max()
    assert np.abs(energies - expected).max() < 1e-14 * scale


@pytest.mark.parametrize("zeta", [1, 2, 4, 2.5])
@pytest.mark.parametrize("species", ["14", "8 14"])
@pytest.mark.parametrize("more", ["", "normalise=F"])
def test_forces_and_virials_are_derivatives(zeta: float, species: str, more: str) -> None:
    engine = SoapEngine(term(zeta, 20, species=species, more=more))
    h = 5e-5
    for atoms in [structures(species)[k] for k in (0, 3)]:
        energies, forces, virials = evaluate(engine, [atoms])
        moved: list[Atoms] = []
        for i in range(2):
            for k in range(3):
                for sign in (1, -1):
                    other = atoms.copy()
                    other.positions[i, k] += sign * h
                    moved.append(other)
        for a, b in zip(*VOIGT, strict=True):
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h
                other = atoms.copy()
                other.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                moved.append(other)
        found, _, _ = evaluate(engine, moved)
        sums = found.reshape(len(moved), -1).sum(axis=1)
        slopes = -(sums[::2] - sums[1::2]) / (2 * h)
        scale = max(np.abs(energies).max(), np.abs(virials).max())
        assert np.abs(slopes[:6] - forces[:2].ravel()).max() < 1e-6 * scale
        assert np.abs(forces).max() > 1e-3 * scale
        assert np.abs(slopes[6:] - virials[0][VOIGT]).max() < 1e-6 * scale
        assert np.abs(virials[0] - virials[0].T).max() < 1e-12 * scale
        assert np.abs(forces.sum(axis=0)).max() < 1e-12 * scale


def test_tiles_of_any_size_are_the_matrix_products() -> None:
    rng = np.random.default_rng(0)
    p, q, k = rng.normal(size=(12, 48)), rng.normal(size=(40, 48)), rng.normal(size=(12, 16))
    for product in (_dot_product.products, _dot_product._products_in_small_tiles):
        out = np.empty(12 * 16)
        product(p.ravel(), 12, q.ravel(), 8, 24, 48, out)
        assert np.abs(out.reshape(12, 16) - p @ q[8:24].T).max() < 1e-13
    for sums in (_dot_product.accumulate, _dot_product._accumulate_in_small_tiles):
        out = np.ones(12 * 48)
        sums(k.ravel(), 12, q.ravel(), 8, 24, 48, out)
        assert np.abs(out.reshape(12, 48) - 1.0 - k @ q[8:24]).max() < 1e-13


def test_harmonics_are_smooth_at_the_poles() -> None:
    engine = SoapEngine(term())
    for tilt in (0.0, 1e-14, 1e-9, 1e-5):
        atoms = Atoms("Si3", positions=[[0, 0, 0], [tilt, 0, 2.3], [0, tilt, -2.1]])
        _, forces, _ = evaluate(engine, [atoms])
        if tilt == 0.0:
            expected = forces
        assert np.abs(forces - expected).max() < 10 * tilt + 1e-13


@pytest.mark.parametrize("zeta", [1, 2, 4, 2.5])
@pytest.mark.parametrize("species", ["14", "8 14"])
@pytest.mark.parametrize("more", ["", "normalise=F"])
def test_rows_times_coefficients_are_the_prediction(zeta: float, species: str, more: str) -> None:
    chosen = term(zeta, 37, species=species, more=more)
    engine = SoapEngine(chosen)
    frames = structures(species)
    system = build_system(frames, 4.5)
    energies, forces, virials = evaluate(engine, frames)
    out = np.ones((7 * system.n_cells + 3 * system.n_atoms, 37))
    engine.rows(system, out)
    found = (out - 1.0) @ chosen.alphas
    expected = []
    for c in range(len(frames)):
        atoms = slice(system.offsets[c], system.offsets[c + 1])
        expected += [[energies[atoms].sum()], forces[atoms].ravel(), virials[c][VOIGT]]
    wanted = np.concatenate(expected)
    assert np.abs(found - wanted).max() < 1e-11 * max(1.0, np.abs(wanted).max())


def test_rows_of_more_neighbours_than_a_block_holds() -> None:
    # 64 distinct neighbours: 192 rows of forces in blocks of 64, and more points than one block of them
    chosen = term(4, 300)
    atoms = bulk("Si", a=4.4, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=2)
    system = build_system([atoms], 4.0)
    energies, forces, virials = evaluate(SoapEngine(chosen), [atoms])
    out = np.zeros((7 + 3 * len(atoms), 300))
    SoapEngine(chosen).rows(system, out)
    wanted = np.concatenate([[energies.sum()], forces.ravel(), virials[0][VOIGT]])
    assert np.abs(out @ chosen.alphas - wanted).max() < 1e-10 * np.abs(wanted).max()


def test_invariant_under_rotation_translation_and_order() -> None:
    engine = SoapEngine(term(species="8 14"))
    atoms = structures("8 14")[2]
    energies, forces, virials = evaluate(engine, [atoms])
    turned = atoms.copy()
    turned.rotate(41.0, (1.0, -2.0, 0.5), rotate_cell=True)
    turned.positions += (0.3, 7.0, -2.0)
    order = np.random.default_rng(0).permutation(len(atoms))
    turned = turned[order]
    again, turned_forces, turned_virials = evaluate(engine, [turned])
    matrix = np.linalg.solve(atoms.cell.array, turned.cell.array)
    assert np.abs(again - energies[order]).max() < 1e-12
    assert np.abs(turned_forces - (forces @ matrix)[order]).max() < 1e-12
    assert np.abs(turned_virials[0] - matrix.T @ virials[0] @ matrix).max() < 1e-11


def test_bits_do_not_depend_on_the_batch_nor_on_threads() -> None:
    engine = SoapEngine(term(points=333))
    frames = structures() * 3
    energies, forces, virials = evaluate(engine, frames)
    at = 0
    for c, atoms in enumerate(frames):
        alone = evaluate(engine, [atoms])
        rows = slice(at, at + len(atoms))
        at += len(atoms)
        assert np.array_equal(alone[0], energies[rows])
        assert np.array_equal(alone[1], forces[rows])
        assert np.array_equal(alone[2][0], virials[c])
    with ThreadPoolExecutor(2) as pool:
        for other in pool.map(lambda _: evaluate(engine, frames), range(4)):
            assert all(np.array_equal(a, b) for a, b in zip(other, (energies, forces, virials), strict=True))


def test_survives_pickling() -> None:
    engine = SoapEngine(term(species="8 14"))
    frames = structures("8 14")
    again = ForkingPickler.loads(ForkingPickler.dumps(engine))
    for a, b in zip(evaluate(engine, frames), evaluate(again, frames), strict=True):
        assert np.array_equal(a, b)


def test_energies_alone_are_the_same() -> None:
    engine = SoapEngine(term())
    system = build_system(structures(), 4.5)
    energies = np.zeros(system.n_atoms)
    engine.add(system, energies, None, None)
    assert np.array_equal(energies, evaluate(engine, structures())[0])


@pytest.mark.parametrize("f0", [0.0, 0.4])
def test_variance_is_that_of_the_gaussian_process(f0: float) -> None:
    chosen = term(2, 12, f0=f0)
    engine = SoapEngine(chosen)
    system = build_system(structures("8 14"), 4.5)
    energies, variances = np.zeros(system.n_atoms), np.zeros(system.n_atoms)
    engine.add(system, energies, None, None, variances, regularisation=0.05)
    found = engine.descriptors(system)
    matrix = 1.3**2 * (chosen.points @ chosen.points.T) ** 2 + f0**2 + 0.05**2 * np.eye(12)
    kernels = 1.3**2 * (found.values @ chosen.points.T) ** 2 * chosen.sparse_cutoffs
    prior = 1.3**2 + f0**2 + 0.05**2
    expected = prior - np.einsum("ij,ji->i", kernels, np.linalg.solve(matrix, kernels.T))
    assert np.abs(variances[found.centre] - expected).max() < 1e-10
    others = np.setdiff1d(np.arange(system.n_atoms), found.centre)
    assert len(others) > 0
    assert (variances[others] == 0.0).all()


def test_no_centres_or_no_points_add_nothing() -> None:
    system = build_system([bulk("Cu")], 4.5)
    energies = np.zeros(1)
    SoapEngine(term()).add(system, energies, None, None)
    assert energies[0] == 0.0
    assert SoapEngine(term()).descriptors(system).values.shape == (0, 76)
    empty = empty_term(command(), "covariance_type=dot_product zeta=4", 1.0)
    assert isinstance(empty, SoapTerm)
    SoapEngine(empty).add(build_system([bulk("Si")], 4.5), np.zeros(2), np.zeros((2, 3)), np.zeros((1, 3, 3)))


def test_what_cannot_be_computed_is_refused_by_name() -> None:
    alone = build_system([bulk("Si"), Atoms("Si", cell=[15.0] * 3)], 4.5)
    null = SoapEngine(term(more="central_weight=0.0"))
    with pytest.raises(PotentialError, match=r"atom 0 of structure 1 has no neighbour.*central_weight"):
        null.add(alone, np.zeros(3), np.zeros((3, 3)), np.zeros((2, 3, 3)))
    with pytest.raises(PotentialError, match="central_weight"):
        null.descriptors(alone)
    with pytest.raises(PotentialError, match="central_weight"):
        null.rows(alone, np.zeros((23, 30)))
    with pytest.raises(PotentialError, match=r"ends at 3\.0 Å"):
        SoapEngine(term()).descriptors(build_system([bulk("Si")], 3.0))
    with pytest.raises(PotentialError, match=r"shape \(3, 3\)"):
        SoapEngine(term()).rows(alone, np.zeros((3, 3)))
    with pytest.raises(PotentialError, match="linearly dependent"):
        SoapEngine(empty_term(command(n_max=40, sigma=9.0), "covariance_type=dot_product zeta=4", 1.0))
