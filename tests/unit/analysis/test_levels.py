"""Two levels of theory on the same structures: constants per species are no difference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms

from gapfactory.analysis.levels import LevelComparison, compare_levels
from gapfactory.errors import EvidenceError
from gapfactory.reference import Label


def labels(structures, energies, forces=0.0):
    return {
        name: Label(energy, np.full((len(atoms), 3), forces), None, 1.0, "x", "1", {})
        for (name, atoms), energy in zip(structures.items(), energies, strict=True)
    }


def alloys():
    return {name: Atoms(name, cell=[9, 9, 9], pbc=True) for name in ("Cu3Au", "CuAu", "CuAu3", "Cu4", "Au2")}


def test_constants_per_species_are_taken_out() -> None:
    structures = alloys()
    rng = np.random.default_rng(1)
    first = rng.normal(size=5)
    constants = {"Cu": -30.0, "Au": 12.5}
    shift = np.array([sum(constants[s] for s in a.get_chemical_symbols()) for a in structures.values()])
    found = compare_levels(structures, labels(structures, first), labels(structures, first + shift, 0.25))
    assert found.shifts_eV == pytest.approx(constants)
    assert found.aligned_rms_meV == pytest.approx(0.0, abs=1e-9)
    assert found.energy_rms_meV > 10_000
    assert (found.force_rms, found.force_max) == (pytest.approx(0.25), pytest.approx(0.25))
    assert [row.id for row in found.rows] == sorted(structures)
    assert LevelComparison.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_what_is_left_is_the_difference() -> None:
    structures = {f"s{k}": Atoms(f"Si{2 + 2 * (k % 2)}", cell=[9, 9, 9], pbc=True) for k in range(8)}
    sizes = np.array([len(a) for a in structures.values()])
    noise = 0.004 * np.array([1, 1, -1, -1, 1, 1, -1, -1])
    found = compare_levels(
        structures, labels(structures, -5.0 * sizes), labels(structures, (2.0 + noise) * sizes)
    )
    assert found.shifts_eV == pytest.approx({"Si": 7.0})
    assert found.aligned_rms_meV == pytest.approx(4.0)
    assert found.aligned_max_meV == pytest.approx(4.0)
    assert "energies differ by 4 meV/atom" in found.sentence()


def test_one_stoichiometry_has_one_constant() -> None:
    structures = {f"s{k}": Atoms("SiO2", cell=[9, 9, 9], pbc=True) for k in range(3)}
    found = compare_levels(structures, labels(structures, [0, 1, 2]), labels(structures, [9, 10, 11]))
    assert found.aligned_rms_meV == pytest.approx(0.0, abs=1e-9)
    assert found.shifts_eV["Si"] + 2 * found.shifts_eV["O"] == pytest.approx(9.0)


def test_only_what_has_both_labels_counts() -> None:
    structures = alloys()
    every = labels(structures, range(5))
    some = {name: every[name] for name in ("CuAu", "Cu4")}
    assert compare_levels(structures, every, some).n_structures == 2
    with pytest.raises(EvidenceError, match="no structure"):
        compare_levels(structures, every, {})
