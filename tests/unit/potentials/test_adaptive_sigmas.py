"""Expected errors by magnitude, the potential of Allen and Bartók (2022), and what sparse points are chosen from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from gapfactory.elements import species
from gapfactory.errors import FitError, InputError
from gapfactory.io.structure_text import given_crystals, text_of_crystals
from gapfactory.potentials.gap import LabelledStructure
from gapfactory.potentials.gap.data import pool
from gapfactory.potentials.gap.deltas import stage_delta
from gapfactory.potentials.gap.fit import structure_sigmas
from gapfactory.potentials.gap.model import empty_term
from gapfactory.potentials.gap.presets import ALLEN_2022, allen_2022
from gapfactory.potentials.gap.program import read_counts
from gapfactory.potentials.gap.settings import (
    DeltaSettings,
    GapSettings,
    SoapSettings,
    ThreeBodySettings,
    TwoBodySettings,
    UnlabelledSettings,
)
from gapfactory.potentials.gap.sigmas import AdaptiveSettings, Sigmas, SigmaSettings, adaptive_sigmas
from gapfactory.potentials.gap.solve.blocks import block_key
from gapfactory.potentials.gap.solve.design import Design, targets_of
from gapfactory.potentials.gap.terms import largest_cutoff, terms
from gapfactory.potentials.gap.trainfile import write_training_file

if TYPE_CHECKING:
    from pathlib import Path

SI = species("Si")
ADAPTIVE = SigmaSettings(rule="adaptive")
#: eV/A
FORCES = np.array([[0.05, -2.0, 0.0], [-0.3, 0.1, 31.0]])
#: eV/A^3, of a cell of 40.04 A^3; the virial is minus volume times this
STRESS = np.array([0.1, -0.02, 0.001, 0.0, -0.005, 0.2])


def crystal(name: str = "a", forces: np.ndarray | None = FORCES, seed: int = 0) -> LabelledStructure:
    atoms = bulk("Si", a=5.431)
    atoms.positions += 0.05 * np.random.default_rng(seed).normal(size=(2, 3))
    return LabelledStructure(name, atoms, -8.0, forces, STRESS)


FREE = LabelledStructure("free", Atoms("Si"), -1.0, np.zeros((1, 3)), None, "isolated")
DIMER = LabelledStructure(
    "dimer", Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]]), -4.0, FORCES, None, "dimer"
)


# ------------------------------------------------------------------------------------------- by hand


def test_errors_of_components_are_the_papers() -> None:
    found = adaptive_sigmas(FORCES, np.array([-12.0, 0.02, 0.0, 0.1, 0.11, 3.0]), 2, ADAPTIVE)
    # 1 % of each component, at least 1 meV/A
    assert_allclose(found.force_components, [[1e-3, 2e-2, 1e-3], [3e-3, 1e-3, 0.31]], rtol=1e-14)
    assert_allclose(found.virial_components, [0.12, 1e-3, 1e-3, 1e-3, 1.1e-3, 0.03], rtol=1e-14)
    assert found.energy == 1e-3
    squares = 3 * 1e-6 + 4e-4 + 9e-6 + 0.31**2
    assert found.force == pytest.approx(np.sqrt(squares / 6), rel=1e-14)
    assert found.least == 1e-3
    # Al of Table 2: half the fraction, half the floor
    aluminium = allen_2022(species("Al")).sigma
    virial = adaptive_sigmas(None, np.array([-12.0, 0.02, 0.0, 0.1, 0.11, 3.0]), 2, aluminium)
    assert_allclose(virial.virial_components, [0.06, 5e-4, 5e-4, 5e-4, 5.5e-4, 0.015], rtol=1e-14)
    assert virial.force_components is None


@pytest.mark.parametrize(("per", "energy"), [("cell", 1e-3), ("root-atoms", 2e-3), ("atom", 4e-3)])
def test_the_error_of_the_energy_is_constant_of_what_is_said(per: str, energy: float) -> None:
    settings = SigmaSettings.model_validate({"rule": "adaptive", "adaptive": {"energy_per": per}})
    assert adaptive_sigmas(None, None, 4, settings).energy == pytest.approx(energy, rel=1e-14)
    noisy = settings.model_copy(update={"energy_noise_floor": 0.01, "force_noise_floor": 0.02})
    found = adaptive_sigmas(FORCES, None, 2, noisy)
    assert found.energy == pytest.approx(0.02)
    assert_allclose(found.force_components, [[0.02, 0.02, 0.02], [0.02, 0.02, 0.31]])


def test_without_fractions_the_errors_are_static() -> None:
    static = AdaptiveSettings(force_fraction=0.0, force_floor=0.03, virial_fraction=0.0, virial_floor=0.01)
    found = adaptive_sigmas(FORCES, STRESS, 2, SigmaSettings(rule="adaptive", adaptive=static))
    assert_array_equal(found.force_components, np.full((2, 3), 0.03))
    assert_array_equal(found.virial_components, np.full(6, 0.01))
    assert (found.force, found.virial) == pytest.approx((0.03, 0.01), rel=1e-14)


def test_crystals_get_errors_of_their_labels_and_nothing_else_does() -> None:
    data = [FREE, DIMER, crystal(), crystal("b", forces=None), replace(crystal("c"), stress=None)]
    found = structure_sigmas(data, [14], ADAPTIVE)
    volume = data[2].atoms.get_volume()
    assert_allclose(
        found["a"].virial_components, np.maximum(0.01 * volume * np.abs(STRESS), 1e-3), rtol=1e-12
    )
    assert_allclose(found["a"].force_components, np.maximum(0.01 * np.abs(FORCES), 1e-3), rtol=1e-14)
    assert found["b"].force_components is None
    assert found["c"].virial_components is None
    for key in ("free", "dimer"):
        assert found[key] == structure_sigmas(data, [14], SigmaSettings())[key]
        assert found[key].force_components is None
    assert found["a"] == structure_sigmas(data, [14], ADAPTIVE)["a"]
    assert found["a"] != found["c"]
    assert found["a"].summary() == {
        "energy": 1e-3,
        "force": found["a"].force,
        "virial": found["a"].virial,
        "above_hull": 0.0,
    }


def test_labels_without_errors_are_refused() -> None:
    with pytest.raises(InputError, match="expected"):
        adaptive_sigmas(FORCES, None, 3, ADAPTIVE)
    with pytest.raises(InputError, match="finite"):
        adaptive_sigmas(None, np.full(6, np.nan), 3, ADAPTIVE)
    with pytest.raises(InputError, match="0 atoms"):
        adaptive_sigmas(None, None, 0, ADAPTIVE)


# ------------------------------------------------------------------------------------ in both backends


def test_every_row_has_the_weight_of_its_component() -> None:
    data = [crystal()]
    sigmas = structure_sigmas(data, [14], ADAPTIVE)
    found = targets_of(data, sigmas, {"Si": -1.0})
    volume = data[0].atoms.get_volume()
    assert_allclose(
        1.0 / found.weights,
        [1e-3, 1e-3, 2e-2, 1e-3, 3e-3, 1e-3, 0.31, *np.maximum(0.01 * volume * np.abs(STRESS), 1e-3)],
        rtol=1e-12,
    )
    assert_allclose(found.values, [-6.0, *FORCES.ravel(), *(-volume * STRESS)], rtol=1e-14)


@pytest.mark.parametrize(
    "changes",
    [
        {"force_components": np.zeros((2, 3))},
        {"virial_components": np.array([1.0, 1, 1, 1, 1, -1])},
        {"force_components": np.ones((3, 3))},
        {"virial_components": np.full(6, np.nan)},
    ],
)
def test_unusable_errors_of_components_are_refused(changes: dict[str, np.ndarray]) -> None:
    sigmas = {"a": replace(Sigmas(1.0, 1.0, 1.0, 0.0), **changes)}
    with pytest.raises(FitError, match="expected errors"):
        targets_of([crystal()], sigmas, {"Si": -1.0})


def test_stored_rows_depend_on_the_errors_of_components() -> None:
    term = replace(
        empty_term("distance_2b Z1=14 Z2=14 cutoff=4.0", "covariance_type=ard_se theta_uniform=1.0", 1.0),
        points=np.ones((1, 1)),
        alphas=np.zeros(1),
        sparse_cutoffs=np.ones(1),
    )
    design = Design([term], {"Si": 0.0})
    plain = Sigmas(1.0, 2.0, 3.0, 0.0)
    variants = [
        plain,
        replace(plain, force_components=np.full((2, 3), 2.0)),
        replace(plain, virial_components=np.full(6, 3.0)),
        replace(plain, virial_components=np.array([3.0, 3, 3, 3, 3, 4])),
    ]
    keys = {block_key(design, [crystal()], {"a": sigma}) for sigma in variants}
    assert len(keys) == 4


def test_the_training_file_holds_the_error_of_every_component(tmp_path: Path) -> None:
    data = [crystal(), DIMER, FREE]
    sigmas = structure_sigmas(data, [14], ADAPTIVE)
    write_training_file(tmp_path / "t.xyz", data, sigmas, 5.0)
    lines = (tmp_path / "t.xyz").read_text().splitlines()
    assert "Properties=species:S:1:pos:R:3:ref_forces:R:3:force_component_sigma:R:3 " in lines[1]
    rows = np.array([line.split()[1:] for line in lines[2:4]], dtype=float)
    assert_array_equal(rows[:, 6:], sigmas["a"].force_components)
    nine = lines[1].split('virial_component_sigma="')[1].split('"')[0].split()
    xx, yy, zz, yz, xz, xy = sigmas["a"].virial_components
    assert_array_equal(np.array(nine, dtype=float), [xx, xy, xz, xy, yy, yz, xz, yz, zz])
    # a dimer has one error for all forces, and gap_fit must not take it for components
    assert "Properties=species:S:1:pos:R:3:ref_forces:R:3 " in lines[5]
    assert "component" not in "".join(lines[4:])


def test_counts_of_components_are_read_where_the_program_prints_them() -> None:
    log = (
        "Number of target energies (property name: e) found:  3\n"
        "Number of target forces (property name: f) found:  12\n"
        "Number of target virials (property name: v) found:  6\n"
        "Number of per-configuration setting of energy_sigma found:     3\n"
        "Number of per-configuration setting of force_sigma found:      2\n"
        "Number of per-configuration setting of virial_sigma found:     1\n"
    )
    assert read_counts(log)["errors of force components"] == 0
    log += "Number of per-component setting of force_component_sigma found:          6\n"
    log += "Number of per-component setting of virial_component_sigma found:          9\n"
    assert read_counts(log)["errors of force components"] == 6
    assert read_counts(log)["errors of virial components"] == 9


# ------------------------------------------------------------------------------------------ the preset


@pytest.mark.parametrize(
    ("symbol", "cutoff", "n_max", "l_max"),
    [("Mg", 8, 8, 6), ("Al", 10, 10, 8), ("Si", 6, 8, 6), ("W", 6, 8, 6)],
)
def test_the_preset_is_table_2(symbol: str, cutoff: float, n_max: int, l_max: int) -> None:
    element = species(symbol)
    settings = allen_2022(element)
    (term,) = terms([element], settings)
    assert term.name == f"soap-{symbol}"
    assert largest_cutoff([element], settings) == cutoff
    assert f"l_max={l_max} n_max={n_max} atom_sigma=0.5 cutoff={cutoff:.1f} " in term.descriptor
    assert term.covariance == "covariance_type=dot_product zeta=4"
    assert settings.soap.n_sparse == 1400
    assert settings.delta.fixed == (2.0,)
    adaptive = settings.sigma.adaptive
    assert (settings.sigma.rule, adaptive.energy, adaptive.force_fraction) == ("adaptive", 1e-3, 1e-2)
    assert adaptive.force_floor == 1e-3
    expected = (5e-3, 5e-4) if symbol == "Al" else (1e-2, 1e-3)
    assert (adaptive.virial_fraction, adaptive.virial_floor) == expected
    assert GapSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_elements_that_the_paper_has_not_follow_a_rule() -> None:
    copper = species("Cu")
    assert "Cu" not in ALLEN_2022
    assert largest_cutoff([copper], allen_2022(copper)) == pytest.approx(5.5 * copper.radius, abs=1e-5)


def test_any_term_may_be_left_out_but_not_all() -> None:
    off = {"two_body": TwoBodySettings(enabled=False), "three_body": ThreeBodySettings(enabled=False)}
    only = GapSettings(**off)
    assert only.enabled == (False, False, True)
    with pytest.raises(ValidationError, match="switched off"):
        GapSettings(**off, soap=SoapSettings(enabled=False))
    with pytest.raises(ValidationError, match="1 terms"):
        GapSettings(**off, delta=DeltaSettings(fixed=(1.0, 2.0)))
    # the first term spans the deviations from the mean, whichever it is
    data = [crystal("a"), replace(crystal("b", seed=1), energy=-9.0)]
    residuals = np.array([-6.0, -7.0])
    assert stage_delta(2, data, residuals, [SI], only) == pytest.approx(0.5)
    assert stage_delta(2, data, residuals, [SI], GapSettings()) == pytest.approx(np.sqrt(42.5))


# ---------------------------------------------------------------------------- structures without labels


def test_the_pool_does_not_depend_on_who_has_a_label() -> None:
    data = [FREE, *(crystal(f"c{k}", seed=k) for k in range(6))]
    atoms = [item.atoms for item in data[1:]]
    few, many = pool(data[:3], atoms[::-1], ["Si"]), pool(data, atoms, ["Si"])
    assert [a.positions.tobytes() for a in few[1]] == [a.positions.tobytes() for a in many[1]]
    assert len(few[1]) == 7
    assert set(many[0]) == {item.id for item in data}
    # without any, the data are in their order
    assert pool(data, [], ["Si"]) == ([item.id for item in data], [item.atoms for item in data])


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (bulk("Ge"), "contains Ge"),
        (Atoms(cell=np.eye(3), pbc=True), "no atoms"),
        (Atoms("Si", positions=[[0, 0, np.nan]]), "not finite"),
    ],
)
def test_an_unusable_structure_without_label_is_named(atoms: Atoms, words: str) -> None:
    with pytest.raises(FitError, match="2 of those without label.*" + words):
        pool([FREE], [bulk("Si"), atoms], ["Si"])


def test_structures_in_the_settings_keep_every_digit() -> None:
    atoms = [crystal(seed=k).atoms for k in range(3)]
    text = text_of_crystals(atoms)
    assert UnlabelledSettings().atoms() == ()
    again = UnlabelledSettings(structures=text).atoms()
    for one, two in zip(atoms, again, strict=True):
        assert_array_equal(one.positions, two.positions)
        assert_array_equal(one.cell.array, two.cell.array)
    assert text_of_crystals(given_crystals(text)) == text
    with pytest.raises(InputError, match="were not read"):
        UnlabelledSettings(file="frames.xyz").atoms()
