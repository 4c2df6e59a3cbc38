"""Configuration-averaged SOAP against quippy, against a plain sum, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import complete_cell
from ase.neighborlist import neighbor_list
from scipy.integrate import quad
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y, spherical_in

from gapfactory.descriptors import SimilaritySettings, average_soap, kernel, vector_length
from gapfactory.descriptors._kernels import scaled_bessel
from gapfactory.descriptors.average_soap import radial_basis
from gapfactory.errors import InputError

PAPER = SimilaritySettings()
SMALL = SimilaritySettings(n_max=6, l_max=5, atom_sigma=0.4, cutoff=5.0)
MAP = SimilaritySettings(n_max=16, l_max=16, atom_sigma=0.1, cutoff=2.5)


def random_cell(rng: np.random.Generator, n: int, volume: float, numbers: tuple[int, ...] = (14,)) -> Atoms:
    cell = np.eye(3) + 0.35 * rng.normal(size=(3, 3))
    cell *= (n * volume / abs(np.linalg.det(cell))) ** (1 / 3)
    species = rng.choice(numbers, n)
    species[: len(numbers)] = numbers[:n]
    return Atoms(numbers=species, cell=cell, scaled_positions=rng.random((n, 3)), pbc=True)


def quippy_average(atoms: Atoms, species: list[int], s: SimilaritySettings, centre: int = 0) -> np.ndarray:
    descriptors = pytest.importorskip("quippy.descriptors")
    descriptor = descriptors.Descriptor(
        f"soap average=T n_max={s.n_max} l_max={s.l_max} atom_sigma={s.atom_sigma} cutoff={s.cutoff} "
        f"cutoff_transition_width={s.cutoff_transition_width} central_weight={s.central_weight} "
        f"n_Z=1 Z={centre} n_species={len(species)} species_Z={{{' '.join(map(str, species))}}}"
    )
    return np.asarray(descriptor.calc(atoms)["data"][0])


@pytest.mark.gap
@pytest.mark.parametrize("settings", [PAPER, SMALL, MAP], ids=["paper", "small", "map"])
@pytest.mark.parametrize(("n", "volume"), [(1, 20.0), (2, 12.0), (6, 20.0), (7, 5.0)])
def test_equals_quippy_for_an_element(settings: SimilaritySettings, n: int, volume: float) -> None:
    atoms = random_cell(np.random.default_rng([n, int(volume)]), n, volume)
    ours = average_soap([atoms], species=[14], settings=settings)[0]
    np.testing.assert_allclose(ours, quippy_average(atoms, [14], settings), atol=1e-12)


@pytest.mark.gap
@pytest.mark.parametrize("seed", range(3))
def test_equals_quippy_for_strained_diamond(seed: int) -> None:
    atoms = bulk("Si", cubic=True)
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.1 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(0.1, rng=rng)
    ours = average_soap([atoms], species=[14], settings=PAPER)[0]
    np.testing.assert_allclose(ours, quippy_average(atoms, [14], PAPER), atol=1e-12)


@pytest.mark.gap
@pytest.mark.parametrize("settings", [PAPER, SMALL], ids=["paper", "small"])
@pytest.mark.parametrize("numbers", [(22, 8), (14, 6, 8)])
def test_equals_quippy_for_several_species(settings: SimilaritySettings, numbers: tuple[int, ...]) -> None:
    atoms = random_cell(np.random.default_rng(5), 6, 12.0, numbers)
    ours = average_soap([atoms], species=numbers, settings=settings)[0]
    np.testing.assert_allclose(ours, quippy_average(atoms, list(numbers), settings), atol=1e-12)


@pytest.mark.gap
def test_by_species_concatenates_quippy_averages() -> None:
    settings = SMALL.model_copy(update={"centres": "by-species"})
    atoms = random_cell(np.random.default_rng(6), 5, 12.0, (22, 8))
    parts = [
        (atoms.numbers == z).mean() * quippy_average(atoms, [22, 8], settings, centre=z) for z in (22, 8)
    ]
    expected = np.concatenate(parts)
    ours = average_soap([atoms], species=[22, 8], settings=settings)[0]
    assert ours.shape == (vector_length(2, settings),)
    np.testing.assert_allclose(ours, expected / np.linalg.norm(expected), atol=1e-12)


@pytest.mark.gap
def test_equals_quippy_for_cluster_and_central_weight() -> None:
    settings = SMALL.model_copy(update={"central_weight": 0.3, "cutoff_transition_width": 1.2})
    rng = np.random.default_rng(8)
    cluster = Atoms(
        numbers=[14] * 5, positions=rng.normal(scale=1.5, size=(5, 3)), cell=[30.0] * 3, pbc=False
    )
    ours = average_soap([cluster], species=[14], settings=settings)[0]
    np.testing.assert_allclose(ours, quippy_average(cluster, [14], settings), atol=1e-12)


def plain_sum(atoms: Atoms, species: list[int], s: SimilaritySettings) -> np.ndarray:
    """The definition, written down: ASE's neighbour list, scipy's special functions, complex harmonics."""
    spacing, transform, _ = radial_basis(s)
    alpha = 0.5 / s.atom_sigma**2
    c = np.zeros((len(species), s.n_max, s.l_max + 1, 2 * s.l_max + 1), dtype=complex)
    channel = [species.index(z) for z in atoms.numbers]
    centres = spacing * np.arange(s.n_max)
    for a in channel:
        c[a, :, 0, s.l_max] += s.central_weight * np.exp(-alpha * centres**2) / np.sqrt(4 * np.pi)
    for j, d in zip(*neighbor_list("jD", atoms, s.cutoff), strict=True):
        r = np.linalg.norm(d)
        cut = 1.0
        if r > s.cutoff - s.cutoff_transition_width:
            cut = 0.5 * (
                np.cos(np.pi * (r - s.cutoff + s.cutoff_transition_width) / s.cutoff_transition_width) + 1
            )
        for degree in range(s.l_max + 1):
            bessel = spherical_in(degree, 2 * alpha * r * centres)
            radial = cut * np.exp(-alpha * (r**2 + centres**2)) * bessel
            for m in range(-degree, degree + 1):
                y = sph_harm_y(degree, m, np.arccos(d[2] / r), np.arctan2(d[1], d[0]))
                c[channel[j], :, degree, s.l_max + m] += radial * y
    c = np.einsum("sqlm,qn->snlm", c, transform).reshape(len(species) * s.n_max, s.l_max + 1, -1)
    power = np.einsum("alm,blm->abl", c.conj(), c).real
    a, b = np.tril_indices(len(c))
    degree = np.arange(s.l_max + 1)
    vector = (power[a, b] * np.where(a == b, 1, np.sqrt(2))[:, None] / np.sqrt(2 * degree + 1)).ravel()
    return np.append(vector, 0.0) / np.linalg.norm(vector)


SHAPES = {
    "one atom": ([[2.7, 0, 0], [0, 2.7, 0], [0, 0, 2.7]], True, 1),
    "needle": ([[1.9, 0.1, 0], [0.3, 2.0, 0], [3.0, 4.0, 40.0]], True, 3),
    "plate": ([[12.0, 0, 0], [5.0, 11.0, 0], [7.0, 9.0, 1.5]], True, 4),
    "very skew": ([[3.0, 0, 0], [14.9, 3.0, 0], [-11.0, 20.0, 3.0]], True, 2),
    "left-handed": ([[0, 3.0, 0.4], [3.1, 0, 0], [0, 0.2, 3.5]], True, 2),
    "slab": ([[3.0, 0, 0], [1.0, 3.0, 0], [0, 0, 0]], (True, True, False), 3),
    "wire with vacuum": ([[9.0, 0, 0], [0, 3.0, 0], [0, 0, 9.0]], (False, True, False), 2),
    "cluster": (np.zeros((3, 3)), False, 6),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("species", [[14], [22, 8]], ids=["element", "compound"])
def test_equals_plain_sum_for_every_shape(shape: str, species: list[int]) -> None:
    settings = SimilaritySettings(n_max=4, l_max=4, atom_sigma=0.5, cutoff=4.6)
    cell, pbc, n = SHAPES[shape]
    rng = np.random.default_rng(len(shape))
    frame = np.asarray(complete_cell(np.asarray(cell, dtype=float)))
    spread = 1.0 if np.any(cell) else 2.0
    # atoms outside the cell too: positions need not be wrapped
    positions = spread * rng.uniform(-0.7, 1.6, (n, 3)) @ frame
    atoms = Atoms(numbers=rng.permutation(np.resize(species, n)), positions=positions, cell=cell, pbc=pbc)
    ours = average_soap([atoms], species=species, settings=settings)[0]
    np.testing.assert_allclose(ours, plain_sum(atoms, species, settings), atol=1e-10)


def test_invariances() -> None:
    rng = np.random.default_rng(3)
    atoms = random_cell(rng, 7, 15.0, (22, 8))
    turned = atoms.copy()
    rotation = Rotation.random(random_state=1).as_matrix()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.set_positions(atoms.positions @ rotation.T + 3.3)
    mirrored = atoms.copy()
    mirrored.set_cell(-atoms.cell.array, scale_atoms=True)
    moved = atoms.copy()
    moved.positions[2] += atoms.cell.array[0] - 3 * atoms.cell.array[2]
    other_basis = atoms.copy()
    other_basis.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]]) @ atoms.cell.array)
    variants = [
        atoms, atoms[rng.permutation(7)], turned, mirrored, moved, other_basis, atoms * (2, 1, 1), atoms *
        (1, 3, 2),
    ]  # fmt: skip
    for settings in (PAPER, SMALL, SMALL.model_copy(update={"centres": "by-species"})):
        vectors = average_soap(variants, species=[22, 8], settings=settings)
        np.testing.assert_allclose(vectors, np.broadcast_to(vectors[0], vectors.shape), atol=1e-10)


def test_kernel_of_identical_is_one_and_of_different_is_less() -> None:
    rng = np.random.default_rng(4)
    vectors = average_soap([random_cell(rng, 8, 20.0) for _ in range(6)], species=[14], settings=PAPER)
    matrix = kernel(vectors, vectors, zeta=4)
    np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-12)
    assert matrix[~np.eye(6, dtype=bool)].max() < 1 - 1e-4
    np.testing.assert_allclose(matrix, kernel(vectors, vectors, zeta=1) ** 4)


def test_species_order_and_absent_species() -> None:
    atoms = random_cell(np.random.default_rng(9), 5, 15.0, (22, 8))
    one = average_soap([atoms, bulk("Ti")], species=[22, 8], settings=SMALL)
    other = average_soap([atoms, bulk("Ti")], species=[8, 22], settings=SMALL)
    assert not np.allclose(one, other)
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-12)


def test_results_do_not_depend_on_cores_or_company() -> None:
    rng = np.random.default_rng(10)
    cells = [random_cell(rng, int(rng.integers(1, 9)), 15.0) for _ in range(150)]
    alone = average_soap(cells, species=[14], settings=SMALL)
    np.testing.assert_array_equal(alone, average_soap(cells, species=[14], settings=SMALL, cores=2))
    np.testing.assert_array_equal(alone[77:78], average_soap(cells[77:78], species=[14], settings=SMALL))


def test_extreme_density_needs_no_memory() -> None:
    """16 000 neighbours of each atom: the sum keeps no list of them, and the supercell agrees."""
    atoms = Atoms("Si", cell=0.67 * np.eye(3), pbc=True)
    settings = SimilaritySettings(n_max=4, l_max=2, atom_sigma=0.5, cutoff=10.5)
    vectors = average_soap([atoms, atoms * 3], species=[14], settings=settings)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-9)


def test_coinciding_atoms_are_the_limit_of_close_ones() -> None:
    def pair(distance: float) -> Atoms:
        return Atoms("Si2", positions=[[0, 0, 0], [distance, 0, 0]])

    vectors = average_soap([pair(0.0), pair(1e-6)], species=[14], settings=SMALL)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_radial_basis_is_orthonormal() -> None:
    """Coefficients of a radial Gaussian from its overlaps give back its norm, by numerical integration."""
    spacing, transform, _ = radial_basis(SMALL)
    alpha = 0.5 / SMALL.atom_sigma**2

    def overlap(a: float, b: float) -> float:
        return quad(
            lambda r: r**2 * np.exp(-alpha * ((r - a) ** 2 + (r - b) ** 2)), 0, 12, epsabs=1e-13, limit=200
        )[0]

    centres = spacing * np.arange(SMALL.n_max)
    exact = np.array([[overlap(a, b) for b in centres] for a in centres])
    covariance = np.exp(-alpha * (centres[:, None] - centres[None, :]) ** 2)
    lower = covariance @ transform
    np.testing.assert_allclose(lower @ lower.T, exact, atol=1e-9)
    np.testing.assert_allclose(lower, np.tril(lower), atol=1e-9)


@pytest.mark.parametrize("x", [0.0, 1e-12, 1e-3, 0.7, 5.0, 18.9, 19.1, 33.0, 40.0, 150.0, 3000.0])
def test_scaled_bessel(x: float) -> None:
    out = np.empty(17)
    scaled_bessel(x, 16, out)
    if x < 700:
        np.testing.assert_allclose(out, np.exp(-x) * spherical_in(np.arange(17), x), rtol=1e-11, atol=1e-280)
    else:
        degree = np.arange(17)
        leading = (1 - degree * (degree + 1) / (2 * x)) / (2 * x)
        np.testing.assert_allclose(out, leading, rtol=1e-2)


def bad_cell() -> Atoms:
    return Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2]], cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True)


@pytest.mark.parametrize(
    ("structure", "species", "text"),
    [
        (Atoms(), [14], "no atoms"),
        (Atoms("Si", positions=[[np.nan, 0, 0]], cell=[3, 3, 3], pbc=True), [14], "not finite"),
        (bad_cell(), [14], "dependent cell vector"),
        (Atoms("Si", pbc=True), [14], "null"),
        (bulk("Ge"), [14], "atomic number 32"),
        (bulk("Si"), [], "at least one"),
        (bulk("Si"), [14, 14], "once"),
    ],
)
def test_errors_name_the_structure_and_the_remedy(structure: Atoms, species: list[int], text: str) -> None:
    with pytest.raises(InputError, match=text):
        average_soap([structure], species=species, settings=SMALL)


def test_null_vector_and_dependent_basis_are_errors() -> None:
    with pytest.raises(InputError, match="structure 1 has no neighbours"):
        average_soap(
            [bulk("Si"), Atoms("Si")], species=[14], settings=SMALL.model_copy(update={"central_weight": 0.0})
        )
    broad = SMALL.model_copy(update={"n_max": 40, "atom_sigma": 2.0})
    with pytest.raises(InputError, match="linearly dependent"):
        average_soap([bulk("Si")], species=[14], settings=broad)
    with pytest.raises(ValueError, match="wider than cutoff"):
        SimilaritySettings(cutoff=1.0, cutoff_transition_width=2.0)


def test_no_structures() -> None:
    assert average_soap([], species=[14], settings=SMALL).shape == (0, vector_length(1, SMALL))
