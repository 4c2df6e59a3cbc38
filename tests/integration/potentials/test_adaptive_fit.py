"""Adaptive errors and sparse points without labels in real fits; gap_fit is the oracle of the built-in fit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from numpy.testing import assert_allclose, assert_array_equal

from gapfactory.elements import species
from gapfactory.potentials.gap import GapFit, GapSettings, LabelledStructure, fit_gap, load_potential
from gapfactory.potentials.gap.check import evaluate
from gapfactory.potentials.gap.presets import allen_2022
from gapfactory.potentials.gap.sigmas import AdaptiveSettings, SigmaSettings
from gapfactory.potentials.gap.sparse import soap_vectors
from gapfactory.potentials.gap.terms import terms
from gapfactory.potentials.gap.xml import read_gap
from gapfactory.reference.analytic import StillingerWeberSilicon

if TYPE_CHECKING:
    from pathlib import Path

SI = species("Si")
PRIMITIVE = bulk("Si", a=5.431)
#: small cells of 4, 4, 6 and 8 atoms, two of them not diagonal
SUPERCELLS = (
    np.diag([2, 1, 1]),
    np.array([[1, 0, 0], [0, 1, 1], [0, -1, 1]]),
    np.diag([1, 1, 3]),
    np.array([[2, 0, 0], [1, 2, 0], [0, 0, 1]]),
)
#: the paper's potential, in a size for tests
SMALL = allen_2022(SI).model_copy(
    update={
        "soap": allen_2022(SI).soap.model_copy(
            update={"n_sparse": 80, "n_max": 6, "l_max": 4, "cutoff_covalent_in_r": 4.5 / SI.radius}
        )
    }
)
#: errors of the same size for all components, that of the paper's Figure 7
STATIC = AdaptiveSettings(force_fraction=0.0, force_floor=0.01, virial_fraction=0.0, virial_floor=0.01)
SEEDS = range(5)


def with_errors(adaptive: AdaptiveSettings) -> GapSettings:
    return SMALL.model_copy(update={"sigma": SigmaSettings(rule="adaptive", adaptive=adaptive)})


def labelled(name: str, atoms: Atoms) -> LabelledStructure:
    atoms = atoms.copy()
    atoms.calc = StillingerWeberSilicon()
    return LabelledStructure(
        name, atoms, atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    )


def shaken(cell: Any, rng: np.random.Generator, displacement: float, strain: float = 0.01) -> Atoms:
    """Return a sheared supercell with Gaussian displacements (A)."""
    atoms = make_supercell(PRIMITIVE, cell)
    shear = rng.uniform(-strain, strain, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (shear + shear.T) / 2), scale_atoms=True)
    atoms.positions += displacement * rng.normal(size=(len(atoms), 3))
    return atoms


FREE = LabelledStructure("free", Atoms("Si"), 0.0, None, None, "isolated")


@cache
def training(seed: int, primitive: int, supercells: int, displacements: tuple[float, ...]) -> list[Any]:
    """Return sheared primitive cells and shaken supercells; displacements take turns every four cells."""
    rng = np.random.default_rng(seed)
    data = [FREE]
    data += [labelled(f"p{k:02d}", shaken(np.eye(3, dtype=int), rng, 0.0)) for k in range(primitive)]
    for k in range(supercells):
        size = displacements[(k // 4) % len(displacements)]
        data.append(labelled(f"s{k:02d}", shaken(SUPERCELLS[k % 4], rng, size)))
    return data


def fit(workdir: Path, settings: GapSettings, data: list[Any], seed: int = 0, **more: Any) -> GapFit:
    return fit_gap(
        data,
        species=[SI],
        settings=settings,
        seed=lambda k: np.random.default_rng([seed, k]),
        workdir=workdir,
        **more,
    )


@cache
def judges() -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Return cells with phonon-like displacements of 0.01 A, and the crystal with ten strained ones."""
    rng = np.random.default_rng(99)
    cubic = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    cells = (cubic, 2 * np.eye(3, dtype=int))
    small = [labelled(str(k), shaken(cells[k % 2], rng, 0.01, 0.0)) for k in range(6)]
    strained = [labelled(str(k), shaken(np.eye(3, dtype=int), rng, 0.0, 0.004)) for k in range(10)]
    return small, [labelled("crystal", PRIMITIVE), *strained]


def errors(found: GapFit) -> tuple[float, float]:
    """Return relative errors (rms) of forces at small displacements, and of stresses at small strains."""
    small, strained = judges()
    forces = evaluate(found.directory, [item.atoms for item in small]).forces
    assert forces is not None
    wrong = np.concatenate([(a - item.forces).ravel() for a, item in zip(forces, small, strict=True)])
    right = np.concatenate([np.ravel(item.forces) for item in small])
    stresses = evaluate(found.directory, [item.atoms for item in strained]).stresses
    assert stresses is not None
    truth = np.array([item.stress for item in strained])
    change, true_change = stresses[1:] - stresses[0], truth[1:] - truth[0]
    return (
        float(np.linalg.norm(wrong) / np.linalg.norm(right)),
        float(np.linalg.norm(change - true_change) / np.linalg.norm(true_change)),
    )


# -------------------------------------------------------------------------------- native and gap_fit


def mixed() -> list[Any]:
    """Return crystals with all labels, without forces, and without stress; a free atom; a dimer."""
    data = list(training(1, 4, 8, (0.1,)))
    data[2] = replace(data[2], forces=None)
    data[6] = replace(data[6], stress=None)
    dimer = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.4]])
    dimer.calc = StillingerWeberSilicon()
    forces, energy = dimer.get_forces(), dimer.get_potential_energy()
    return [*data, LabelledStructure("dimer", dimer, energy, forces, None, "dimer")]


@pytest.mark.gap
def test_both_backends_give_every_component_its_own_error(tmp_path: Path) -> None:
    data = mixed()
    # errors that differ much between components, so that a wrong place of one is seen
    settings = with_errors(AdaptiveSettings(force_fraction=0.3, virial_fraction=0.3))
    ours = fit(tmp_path / "native", settings, data)
    theirs = fit(tmp_path / "gap_fit", settings.model_copy(update={"backend": "gap_fit"}), data)
    assert [stage.name for stage in ours.stages] == [stage.name for stage in theirs.stages] == ["soap"]
    assert dict(ours.targets) == dict(theirs.targets)
    log = (theirs.directory.parent / "soap" / "gap_fit.log").read_text()
    with_forces = sum(len(i.atoms) for i in data if i.kind == "crystal" and i.forces is not None)
    assert f"force_component_sigma found:          {3 * with_forces}" in log
    assert "virial_component_sigma found:          99" in log  # 11 crystals with stress, nine numbers each
    unseen = [shaken(cell, np.random.default_rng(k), 0.1) for k, cell in enumerate(SUPERCELLS)]
    static = fit(tmp_path / "static", with_errors(STATIC), data)
    one, two, other = (evaluate(f.directory, unseen) for f in (ours, theirs, static))
    sizes = np.array([len(atoms) for atoms in unseen])
    assert np.abs((one.energies - two.energies) / sizes).max() < 1e-6
    assert np.abs(np.vstack(one.forces or []) - np.vstack(two.forces or [])).max() < 1e-4
    assert np.abs(one.stresses - two.stresses).max() < 1e-6
    # and the errors matter by orders of magnitude more than that
    assert np.abs(np.vstack(one.forces or []) - np.vstack(other.forces or [])).max() > 1e-2
    assert np.abs((one.energies - other.energies) / sizes).max() > 1e-4


@pytest.mark.gap
def test_a_static_error_is_the_same_with_and_without_components(tmp_path: Path) -> None:
    """Fractions of 0 are gap_fit's plain sigmas: its own potential for one number each."""
    data = list(training(1, 3, 4, (0.1,)))
    static = with_errors(STATIC)
    # the rule of the hull with equal ends and a scaling per atom gives per-cell numbers
    sizes = {len(item.atoms) for item in data if item.kind == "crystal"}
    data = [item for item in data if len(item.atoms) in (1, max(sizes))]
    n = max(sizes)
    hull = static.model_copy(
        update={
            "backend": "gap_fit",
            "sigma": SigmaSettings(
                energy_low=1e-3 / n, energy_high=1e-3 / n, force_low=0.01, force_high=0.01,
                virial_low=0.01 / n, virial_high=0.01 / n,
            ),
        }
    )  # fmt: skip
    unseen = [shaken(cell, np.random.default_rng(k), 0.1) for k, cell in enumerate(SUPERCELLS)]
    one = evaluate(fit(tmp_path / "components", static, data).directory, unseen)
    two = evaluate(fit(tmp_path / "plain", hull, data).directory, unseen)
    assert np.abs(one.energies - two.energies).max() < 1e-5
    assert np.abs(np.vstack(one.forces or []) - np.vstack(two.forces or [])).max() < 1e-4


# ------------------------------------------------------------------------------------- the potential


def test_forces_and_stress_are_derivatives_of_the_energy(tmp_path: Path) -> None:
    found = fit(tmp_path, SMALL, training(2, 4, 8, (0.1,)))
    atoms = shaken(SUPERCELLS[1], np.random.default_rng(4), 0.1)
    atoms.calc = load_potential(found.directory)
    forces, stress = atoms.get_forces(), atoms.get_stress()

    def slope(energy_at: Any, step: float) -> float:
        """Return the derivative at 0, of fourth order: coefficients of 1e5 leave 1e-9 eV of rounding in an energy."""
        near, far = (energy_at(k * step) - energy_at(-k * step) for k in (1, 2))
        return float((8 * near - far) / (12 * step))

    def energy(positions: Any, cell: Any) -> float:
        moved = atoms.copy()
        moved.set_cell(cell)
        moved.positions = positions
        moved.calc = atoms.calc
        return float(moved.get_potential_energy())

    for i in range(len(atoms)):
        for k in range(3):

            def moved_by(x: float, i: int = i, k: int = k) -> float:
                positions = atoms.positions.copy()
                positions[i, k] += x
                return energy(positions, atoms.cell.array)

            assert forces[i, k] == pytest.approx(-slope(moved_by, 1e-3), abs=5e-6)
    for voigt, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):

        def strained_by(x: float, a: int = a, b: int = b) -> float:
            deformed = np.eye(3)
            deformed[a, b] += x / 2
            deformed[b, a] += x / 2
            return energy(atoms.positions @ deformed, atoms.cell.array @ deformed)

        assert stress[voigt] == pytest.approx(slope(strained_by, 3e-4) / atoms.get_volume(), abs=1e-6)
    assert np.abs(forces).max() > 0.1


# ------------------------------------------------------------------------------ claims of the paper


def test_adaptive_errors_are_better_at_small_displacements_and_strains(tmp_path: Path) -> None:
    """Where small displacements (0.02 A) are trained beside large ones (0.2 A): medians of five seeds."""
    adaptive, static, as_large = [], [], []
    for seed in SEEDS:
        data = training(seed, 8, 8, (0.02, 0.2))
        found = fit(tmp_path / f"a{seed}", SMALL, data, seed)
        own = [sigma for key, sigma in found.sigmas.items() if key != "free"]
        rms = [
            float(np.sqrt(np.mean(np.concatenate([np.ravel(part) for part in parts]) ** 2)))
            for parts in ([s.force_components for s in own], [s.virial_components for s in own])
        ]
        # static errors of the same root-mean-square are no better than a small static one
        same = STATIC.model_copy(update={"force_floor": rms[0], "virial_floor": rms[1]})
        adaptive.append(errors(found))
        static.append(errors(fit(tmp_path / f"s{seed}", with_errors(STATIC), data, seed)))
        as_large.append(errors(fit(tmp_path / f"r{seed}", with_errors(same), data, seed)))
    ours = np.median(adaptive, axis=0)
    for other in (static, as_large):
        forces, stresses = np.median(other, axis=0)
        assert ours[0] < 0.75 * forces
        assert ours[1] < 0.5 * stresses
    assert ours[0] < 0.1
    assert ours[1] < 0.1


def test_adaptive_virials_give_better_elasticity_at_the_papers_displacements(tmp_path: Path) -> None:
    """All supercells with 0.10 A, as in the paper; forces at small displacements are then much the same."""
    found = [
        [
            errors(fit(tmp_path / f"{name}{seed}", settings, training(seed, 8, 16, (0.1,)), seed))
            for seed in SEEDS
        ]
        for name, settings in (("adaptive", SMALL), ("static", with_errors(STATIC)))
    ]
    adaptive, static = np.median(found, axis=1)
    assert adaptive[1] < 0.75 * static[1]
    assert adaptive[0] < 0.1
    assert static[0] < 0.1


def test_sparse_points_without_labels_make_a_small_set_better(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"soap": SMALL.soap.model_copy(update={"n_sparse": 150})})
    without, with_extra = [], []
    for seed in SEEDS:
        data = training(seed, 4, 4, (0.1,))
        rng = np.random.default_rng([seed, 5])
        extra = [shaken(SUPERCELLS[k % 4], rng, 0.1) for k in range(24)]
        without.append(errors(fit(tmp_path / f"n{seed}", settings, data, seed)))
        with_extra.append(
            errors(fit(tmp_path / f"e{seed}", settings, data, seed, extra_sparse_structures=extra))
        )
    assert (np.median(with_extra, axis=0) < 0.7 * np.median(without, axis=0)).all()


# ------------------------------------------------------------------------ structures without labels


def points_of(found: GapFit) -> np.ndarray:
    (term,) = read_gap(found.directory / "gap.xml").terms
    return np.asarray(term.points)


def test_structures_without_labels_change_the_sparse_points_and_nothing_else(tmp_path: Path) -> None:
    data = training(3, 4, 4, (0.1,))
    rng = np.random.default_rng(8)
    extra = [shaken(SUPERCELLS[k % 4], rng, 0.1) for k in range(8)]
    plain = fit(tmp_path / "plain", SMALL, data)
    found = fit(tmp_path / "extra", SMALL, data, extra_sparse_structures=extra)
    assert (plain.pool, found.pool) == (len(data), len(data) + 8)
    for name in ("targets", "sigmas", "e0", "deltas", "descriptors", "duplicates", "skipped"):
        assert getattr(found, name) == getattr(plain, name), name
    # every sparse point is an environment of a structure of either kind, and some only of the unlabelled
    (term,) = terms([SI], SMALL)
    of_data = soap_vectors(term, [item.atoms for item in data])
    of_extra = soap_vectors(term, extra)

    def within(points: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        return np.abs(points[:, None] - vectors[None]).max(axis=2).min(axis=1) < 1e-12

    points = points_of(found)
    ours, theirs = within(points, of_data), within(points, of_extra)
    assert (ours | theirs).all()
    assert ours.any()
    assert (theirs & ~ours).any()
    assert within(points_of(plain), of_data).all()
    assert (
        fit(tmp_path / "turned", SMALL, data[::-1], extra_sparse_structures=extra[::-1]).sha256
        == found.sha256
    )


def test_the_same_structures_give_the_same_sparse_points_whoever_is_labelled(tmp_path: Path) -> None:
    """Figure 4a: learning curves with one set of sparse points, that of the largest data set."""
    data = training(3, 4, 8, (0.1,))
    everyone = [item.atoms for item in data[1:]]
    whole = fit(tmp_path / "whole", SMALL, data, extra_sparse_structures=everyone)
    half = fit(tmp_path / "half", SMALL, data[:7], extra_sparse_structures=everyone)
    assert_array_equal(points_of(half), points_of(whole))
    assert half.targets["energies"] == 7
    assert half.digest != whole.digest


def test_structures_in_the_settings_are_those_of_the_call(tmp_path: Path) -> None:
    from gapfactory.io.structure_text import text_of_crystals
    from gapfactory.potentials.gap.settings import UnlabelledSettings

    data = training(3, 4, 4, (0.1,))
    rng = np.random.default_rng(8)
    extra = [shaken(SUPERCELLS[k % 4], rng, 0.1) for k in range(3)]
    given = SMALL.model_copy(update={"unlabelled": UnlabelledSettings(structures=text_of_crystals(extra))})
    one = fit(tmp_path / "settings", given, data)
    two = fit(tmp_path / "call", SMALL, data, extra_sparse_structures=extra)
    assert one.sha256 == two.sha256
    assert_allclose(points_of(one), points_of(two), rtol=0, atol=0)
