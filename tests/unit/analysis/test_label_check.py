"""Signs, units and origins of labels, told without knowing the material."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from gf_own_data import labelled_silicon

from gapfactory.analysis.label_check import check_data, check_labels, two_populations
from gapfactory.io.extxyz import LabelledFrame
from gapfactory.io.labelled import LabelledData
from gapfactory.reference.analytic import StillingerWeberSilicon

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Labels = tuple[list[Atoms], list[float], list[NDArray[np.float64]], list[NDArray[np.float64]]]


@cache
def labels(kind: str) -> Labels:
    """Return strained and shaken crystals, or such of one volume, or of two phases, or of an alloy."""
    rng = np.random.default_rng(5)
    found: Labels = ([], [], [], [])
    for number in range(50):
        if kind == "alloy":
            atoms = bulk("Cu", cubic=True, a=rng.uniform(3.6, 4.2))
            atoms.symbols[rng.random(4) < 0.5] = "Au"
        elif kind == "phases" and number % 2:
            atoms = bulk("Si", "sc", a=2.6 * rng.uniform(0.95, 1.05), cubic=True) * 2
        else:
            atoms = bulk("Si", cubic=True)
        if kind in {"strained", "phases"}:
            strain = rng.normal(0, 0.03, (3, 3))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT() if kind == "alloy" else StillingerWeberSilicon()
        for part, value in zip(
            found[1:], (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()), strict=True
        ):
            part.append(value)
        found[0].append(atoms)
    return found


KINDS = ("strained", "one volume", "phases", "alloy")


@pytest.mark.parametrize("kind", KINDS)
def test_sound_labels_have_no_fault(kind: str) -> None:
    found = check_labels(*labels(kind))
    assert found.faults == ()
    assert found.agreements["stress"].correlation > 0.5


@pytest.mark.parametrize("with_forces", [True, False], ids=["with forces", "energies and stresses"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_virial_of_the_wrong_sign_is_a_fault(kind: str, with_forces: bool) -> None:
    atoms, energies, forces, stresses = labels(kind)
    found = check_labels(
        atoms, energies, forces if with_forces else [None] * len(atoms), [-s for s in stresses]
    )
    (fault,) = found.faults
    assert fault.startswith("stress have the wrong sign")


@pytest.mark.parametrize(("factor", "told"), [(160.21766, "GPa"), (1602.1766, "kbar")], ids=["GPa", "kbar"])
@pytest.mark.parametrize("kind", ["strained", "alloy"])
def test_stresses_in_another_unit(kind: str, factor: float, told: str) -> None:
    atoms, energies, forces, stresses = labels(kind)
    (fault,) = check_labels(atoms, energies, forces, [factor * s for s in stresses]).faults
    assert f"as if in {told}" in fault


@pytest.mark.parametrize("kind", ["strained", "one volume", "alloy"])
def test_gradients_and_atomic_units_in_place_of_forces(kind: str) -> None:
    atoms, energies, forces, stresses = labels(kind)
    (fault,) = check_labels(atoms, energies, [-f for f in forces], stresses).faults
    assert fault.startswith("forces have the wrong sign")
    (fault,) = check_labels(atoms, energies, [f / 51.422 for f in forces], stresses).faults
    assert "as if in Ha/Bohr" in fault


@pytest.mark.parametrize("kind", ["strained", "one volume"])
def test_energies_of_two_functionals(kind: str) -> None:
    atoms, energies, forces, stresses = labels(kind)
    shifted = [
        e + (0.5 * len(a) if i % 3 == 0 else 0.0)
        for i, (e, a) in enumerate(zip(energies, atoms, strict=True))
    ]
    faults = check_labels(atoms, shifted, forces, stresses).faults
    assert any("two groups 0.5" in fault or "two groups 0.4" in fault for fault in faults), faults


def test_populations() -> None:
    rng = np.random.default_rng(1)
    assert two_populations(rng.normal(size=400)) is None
    assert two_populations(rng.uniform(size=400)) is None
    assert two_populations(np.zeros(3)) is None
    two = np.concatenate([rng.normal(0, 0.01, 40), rng.normal(1, 0.01, 5)])
    np.testing.assert_array_equal(two_populations(two), np.arange(45) >= 40)


def frames(kind: str = "strained") -> tuple[LabelledFrame, ...]:
    return tuple(LabelledFrame(f"s{i}", *label) for i, label in enumerate(zip(*labels(kind), strict=True)))


def test_methods_duplicates_and_contradictions() -> None:
    given = frames()

    def data(chosen: tuple[LabelledFrame, ...], method: str) -> LabelledData:
        return LabelledData(chosen, {}, (method,) * len(chosen), ())

    assert check_data({"a": data(given, "PBE")}).faults == ()
    two = check_data({"a": data(given[:30], "PBE"), "b": data(given[30:], "LDA")})
    assert "30 with PBE; 20 with LDA" in two.faults[0]
    again = check_data({"a": data(given, ""), "b": data(given[:2], "")})
    assert again.faults == ()
    assert "2 structures are there twice" in again.notes[0]
    other = LabelledFrame("x", given[0].atoms, given[0].energy + 0.1)
    assert (
        "a s0 and b x are one structure"
        in check_data({"a": data(given, ""), "b": data((other,), "")}).faults[0]
    )


@pytest.mark.parametrize(("factor", "fault"), [(1.0, False), (8.0, True), (0.3, True)])
def test_a_factor_that_is_no_units_is_a_fault_where_the_model_cannot_be_off_by_it(
    factor: float, fault: bool
) -> None:
    """Thirty sound structures whose stresses the model itself takes for 0.64 times what they are."""
    given = labelled_silicon(30)
    found = check_labels(
        given,
        [atoms.get_potential_energy() for atoms in given],
        [atoms.get_forces() for atoms in given],
        [factor * atoms.get_stress() for atoms in given],
    )
    told = found.faults if fault else found.notes
    assert any("no unit known here fits" in text for text in told), (found.faults, found.notes)
    assert bool(found.faults) is fault
