"""Vibrations of a crystal: two kinds of supercells, phonopy's own path, ASE's strains, crystals that are unstable."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from gapfactory.analysis.elasticity import ElasticSettings
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.vibration_settings import VibrationLimits
from gapfactory.analysis.vibrations import (
    VibrationCells,
    VibrationComparison,
    Vibrations,
    compare_vibrations,
    vibration_cells,
    vibrations_by,
    vibrations_from_labels,
)
from gapfactory.errors import EvidenceError
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon
from gapfactory.search.settings import PhaseRelaxSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAST: dict[str, Any] = {"compare_mesh": (4, 4, 4), "dos_mesh": (6, 6, 6), "path_density": 8.0}
TIGHT = PhaseRelaxSettings(force_threshold=1e-4, cell_force_threshold=1e-5)
SILICON = bulk("Si", a=5.4309)


def settings(n: int = 2, **more: Any) -> PhononSettings:
    return PhononSettings(grid=(n, n, n), **{**FAST, "displacement": 0.01, **more})


def labels(planned: VibrationCells, calculator: Any) -> tuple[list[Any], list[Any]]:
    forces, stresses = [], []
    for cell in planned.cells:
        work = cell.copy()
        work.calc = calculator
        forces.append(work.get_forces())
        stresses.append(work.get_stress())
    return forces, stresses


def reference(planned: VibrationCells, calculator: Any, **more: Any) -> Vibrations:
    return vibrations_from_labels(planned, *labels(planned, calculator), **more)


def phonopy_frequencies(crystal: Atoms, calculator: Any, n: int, points: NDArray[np.float64]) -> Any:
    """Return THz by phonopy alone: its displacements in the diagonal supercell, its force constants."""
    by = Phonopy(
        PhonopyAtoms(
            symbols=crystal.get_chemical_symbols(),
            cell=crystal.cell.array,
            scaled_positions=crystal.get_scaled_positions(),
            # phonopy's own table is another edition than ASE's
            masses=crystal.get_masses(),
        ),
        supercell_matrix=np.diag([n, n, n]),
        primitive_matrix=np.eye(3),
        log_level=0,
    )
    by.generate_displacements(distance=0.01)
    forces = []
    for cell in by.supercells_with_displacements:
        work = Atoms(cell.symbols, cell=cell.cell, positions=cell.positions, pbc=True, calculator=calculator)
        forces.append(work.get_forces())
    by.forces = forces
    by.produce_force_constants()
    by.symmetrize_force_constants(level=3)
    return np.sort(by.run_qpoints(points).frequencies, axis=1)


@pytest.mark.filterwarnings("ignore:.*OLD_ERROR_HANDLING.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("crystal", "calculator", "n"),
    [
        (SILICON, StillingerWeberSilicon(), 3),
        (bulk("Ti", "hcp", a=2.93, c=4.66), SecondMomentTitanium(), 2),
    ],
    ids=["diamond", "hcp"],
)
def test_both_kinds_of_supercells_give_phonopys_frequencies(crystal: Atoms, calculator: Any, n: int) -> None:
    # titanium is not at rest at these vectors
    strained = ElasticSettings(stress_limit=1.0)
    small = vibration_cells(crystal, settings(n), strained)
    large = vibration_cells(crystal, settings(n, supercells="diagonal"), strained)
    assert small.diagonal is None
    assert large.diagonal is not None
    assert max(map(len, small.phonon)) == n * len(crystal)
    assert {len(cell) for cell in large.phonon} == {n**3 * len(crystal)}
    one = reference(small, calculator)
    other = reference(large, calculator, like=one)
    # where both are exact; in between force constants of the diagonal supercell are interpolated alike
    np.testing.assert_allclose(one.phonons.bands, other.phonons.bands, atol=0.01)
    np.testing.assert_allclose(one.phonons.mesh_frequencies, other.phonons.mesh_frequencies, atol=0.01)
    expected = phonopy_frequencies(crystal, calculator, n, one.phonons.path.wave_vectors)
    np.testing.assert_allclose(other.phonons.bands, expected, atol=1e-4)
    np.testing.assert_allclose(one.phonons.bands, expected, atol=0.01)
    assert one.elastic is not None
    assert other.elastic is not None
    np.testing.assert_allclose(one.elastic.tensor.values, other.elastic.tensor.values, atol=1e-9)


def test_elastic_constants_are_those_of_strained_and_relaxed_cells() -> None:
    """C11, C12 and C44 by ASE: strain, let its optimiser move the atoms, take the stress."""
    found = reference(vibration_cells(SILICON, settings(1)), StillingerWeberSilicon())
    assert found.elastic is not None
    for voigt, step in ((0, 2e-3), (3, 2e-3)):
        stresses = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            i, j = (0, 0) if voigt == 0 else (1, 2)
            strain[i, j] = strain[j, i] = sign * (step if voigt == 0 else step / 2)
            work = SILICON.copy()
            work.set_cell(work.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            work.calc = StillingerWeberSilicon()
            assert BFGS(work, logfile=None).run(fmax=1e-5, steps=100)
            stresses.append(work.get_stress() / GPa)
        slope = (stresses[0] - stresses[1]) / (2 * step)
        names = {0: "C11", 1: "C12"} if voigt == 0 else {3: "C44"}
        for k, name in names.items():
            assert found.elastic.constants()[name] == pytest.approx(slope[k], rel=0.005), name


def test_the_calculators_own_crystal_has_the_elastic_constants() -> None:
    """The planned crystal is compressed: phonons are of it, elastic constants of the one at rest."""
    squeezed = bulk("Si", a=5.41)
    planned = vibration_cells(squeezed, settings())
    loose = vibrations_by(StillingerWeberSilicon(), planned, method="SW", relax=TIGHT)
    fixed = vibrations_by(StillingerWeberSilicon(), planned, method="SW", relax=None)
    # Stillinger and Weber's own: a = 5.431 Å; C11 of Cowley (1988)
    assert loose.crystal.cell.cellpar()[0] * np.sqrt(2) == pytest.approx(5.431, abs=1e-3)
    np.testing.assert_allclose(fixed.crystal.cell.array, squeezed.cell.array)
    assert loose.elastic is not None
    assert fixed.elastic is not None
    assert loose.elastic.constants()["C11"] == pytest.approx(151.4, abs=0.5)
    assert fixed.elastic.constants()["C11"] - loose.elastic.constants()["C11"] > 1
    assert fixed.elastic.pressure_GPa > 0.5
    np.testing.assert_array_equal(loose.phonons.bands, fixed.phonons.bands)


def triclinic() -> Atoms:
    """Return a crystal in which symmetry leaves coordinates free."""
    return Atoms(
        "Ar2Kr",
        scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.55, 0.85], [0.2, 0.7, 0.6]],
        cell=[4.4, 4.9, 5.4],
        pbc=True,
    )


class Argon(LennardJones):
    """Lennard-Jones with the same constants for every species."""

    def __init__(self) -> None:
        super().__init__(sigma=3.0, epsilon=0.05, rc=8.0, smooth=True)


@pytest.mark.parametrize("supercells", ["non-diagonal", "diagonal"])
def test_forces_at_rest_do_not_matter(supercells: str) -> None:
    """A potential's atoms are not at rest on the reference's crystal where symmetry leaves them free."""
    crystal = triclinic()
    crystal.calc = Argon()
    assert BFGS(FrechetCellFilter(crystal), logfile=None).run(fmax=1e-4, steps=500)
    planned = vibration_cells(crystal, settings(1, supercells=supercells))
    forces, stresses = labels(planned, Argon())
    push = np.random.default_rng(0).normal(scale=0.05, size=(len(crystal), 3))
    assert all(len(cell) == len(crystal) for cell in planned.phonon)
    moved = [f + push for f in forces]
    clean = vibrations_from_labels(planned, forces, stresses)
    pushed = vibrations_from_labels(planned, moved, stresses, like=clean)
    np.testing.assert_allclose(clean.phonons.bands, pushed.phonons.bands, atol=1e-4)
    assert clean.phonons.highest > 0.5


def test_an_unstable_crystal_has_no_elastic_constants_and_says_so() -> None:
    """Copper by EMT: the body-centred crystal, and the simple cubic one, are not stable against strain."""
    bcc = bulk("Cu", "bcc", a=(2 * 11.57) ** (1 / 3))
    found = vibrations_by(EMT(), vibration_cells(bcc, settings()), method="EMT", relax=TIGHT)
    assert found.elastic is None
    assert found.no_elastic.startswith("not stable against strain: the lowest of its Kelvin moduli is -")
    fcc = reference(vibration_cells(bulk("Cu", a=3.59), settings()), EMT())
    assert fcc.elastic is not None
    assert fcc.no_elastic == ""
    # a good reference, a potential without elastic constants
    bad = replace(fcc, method="bad", elastic=None, no_elastic="its relaxation failed: it collapsed")
    both = compare_vibrations(bad, fcc)
    assert not both.passed()
    assert "no elastic constants by the potential: its relaxation failed" in both.sentence()
    assert both.summary()["elastic_percent"] is None
    # where the reference has none, phonons decide
    assert compare_vibrations(fcc, replace(fcc, elastic=None, no_elastic="unstable")).passed()


def test_atoms_that_cannot_relax_and_crystals_under_stress() -> None:
    far = bulk("Si", a=5.4309)
    # Stillinger-Weber silicon stretched so far that its atoms run apart
    stretched = vibrations_by(
        StillingerWeberSilicon(),
        vibration_cells(bulk("Si", a=6.9), settings()),
        method="stretched",
        relax=None,
    )
    assert stretched.elastic is None
    assert "not stable" in stretched.no_elastic
    squeezed = far.copy()
    squeezed.set_cell(far.cell.array * 0.95, scale_atoms=True)
    under = vibrations_by(
        StillingerWeberSilicon(), vibration_cells(squeezed, settings()), method="SW", relax=None
    )
    assert under.elastic is None
    assert "under a stress of" in under.no_elastic
    more = vibration_cells(squeezed, settings(), ElasticSettings(stress_limit=1.0))
    assert vibrations_by(StillingerWeberSilicon(), more, method="SW", relax=None).elastic is not None


def test_a_relaxation_that_does_not_end_is_told() -> None:
    planned = vibration_cells(bulk("Si", a=5.3), settings())
    short = PhaseRelaxSettings(max_steps=1)
    found = vibrations_by(StillingerWeberSilicon(), planned, method="SW", relax=short)
    assert found.elastic is None
    assert found.no_elastic.startswith("its relaxation is unconverged")


def test_comparison() -> None:
    planned = vibration_cells(bulk("Cu", a=3.61), settings())
    true = reference(planned, EMT())
    stiff = vibrations_by(EMT(), planned, method="EMT", like=true, relax=TIGHT)
    # all frequencies 10 % too high
    off = replace(
        stiff,
        phonons=replace(
            stiff.phonons,
            bands=1.1 * stiff.phonons.bands,
            mesh_frequencies=1.1 * stiff.phonons.mesh_frequencies,
        ),
    )
    both = compare_vibrations(off, true)
    squares = (true.phonons.mesh_frequencies**2).mean(axis=1)
    expected = 0.1 * np.sqrt(true.phonons.weights @ squares)
    assert both.phonons.rmse_THz == pytest.approx(expected)
    ((name, theirs, ours),) = both.lattice
    assert name == "a"
    assert theirs == pytest.approx(3.61)
    # ASE's EMT: 3.59 Å
    assert ours == pytest.approx(3.59, abs=0.01)
    rows = {row["quantity"]: row for row in both.rows()}
    assert list(rows) == ["a", "B", "G", "C11", "C12", "C44"]
    assert rows["a"]["error_percent"] == pytest.approx(100 * (ours - theirs) / theirs)
    assert rows["C44"]["unit"] == "GPa"
    assert both.elastic is not None
    worst = both.elastic.largest_error_percent
    assert both.passed(VibrationLimits(phonon_rmse_THz=1.01 * expected, elastic_percent=1.01 * worst))
    assert not both.passed(VibrationLimits(phonon_rmse_THz=0.99 * expected, elastic_percent=1.01 * worst))
    assert not both.passed(VibrationLimits(phonon_rmse_THz=1.01 * expected, elastic_percent=0.99 * worst))
    again = VibrationComparison.from_dict(json.loads(json.dumps(both.as_dict())))
    assert again.summary() == both.summary()
    back = Vibrations.from_dict(json.loads(json.dumps(true.as_dict())))
    assert compare_vibrations(off, back).summary() == both.summary()
    assert len(json.dumps(both.summary())) < 2000


def test_an_imaginary_mode_that_the_reference_has_not_fails() -> None:
    planned = vibration_cells(bulk("Cu", a=3.59), settings())
    true = reference(planned, EMT())
    low = true.phonons.mesh_frequencies.copy()
    low[3, 0] = -0.3
    soft = replace(true, phonons=replace(true.phonons, mesh_frequencies=low))
    limits = VibrationLimits(phonon_rmse_THz=100.0)
    assert compare_vibrations(true, true).passed(limits)
    assert not compare_vibrations(soft, true).passed(limits)
    assert compare_vibrations(soft, soft).passed(limits)


@pytest.mark.parametrize(
    ("crystal", "free"),
    [
        (bulk("Ti", "hcp", a=2.93, c=4.66), {"a": 2.93, "c": 4.66}),
        (
            Atoms("TiO", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.4]], cell=[3.0, 3.0, 4.1], pbc=True),
            {"a": 3.0, "c": 4.1},
        ),
        (
            Atoms(
                "TiO2",
                scaled_positions=[[0, 0, 0], [0.3, 0, 0.4], [0.7, 0, 0.6]],
                cell=[3.0, 3.5, 4.1, 90, 100, 90],
                pbc=True,
            ),
            {"a": 3.0, "b": 3.5, "c": 4.1, "beta": 100.0},
        ),
    ],
    ids=["hcp", "tetragonal", "monoclinic"],
)
def test_lattice_parameters_that_symmetry_leaves_free(crystal: Atoms, free: dict[str, float]) -> None:
    planned = vibration_cells(bulk("Cu", a=3.59), settings())
    any_phonons = reference(planned, EMT())
    larger = crystal.copy()
    larger.set_cell(crystal.cell.array * 1.01, scale_atoms=True)
    both = compare_vibrations(
        replace(any_phonons, crystal=larger, elastic=None),
        replace(any_phonons, crystal=crystal, elastic=None),
    )
    assert {name: pytest.approx(a) for name, a, _ in both.lattice} == free
    for name, a, b in both.lattice:
        assert b == pytest.approx(a * (1.01 if len(name) == 1 else 1.0)), name


def test_what_cannot_be_is_refused() -> None:
    planned = vibration_cells(SILICON, settings())
    forces, stresses = labels(planned, StillingerWeberSilicon())
    with pytest.raises(EvidenceError, match="label them all"):
        vibrations_from_labels(planned, forces[:-1], stresses)
    # a grid along which an axis differs from one that symmetry makes equal
    with pytest.raises(EvidenceError, match="has not the symmetry of Si2: give equal divisions"):
        vibration_cells(SILICON, PhononSettings(grid=(4, 4, 2)))
    assert vibration_cells(SILICON, PhononSettings(grid=(2, 2, 1), supercells="diagonal")).diagonal
    # hcp has no such operation
    assert vibration_cells(bulk("Ti", "hcp", a=2.93, c=4.66), PhononSettings(grid=(2, 2, 1))).phonon
