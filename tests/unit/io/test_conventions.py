"""Data sets for other programs, read back by each program's own rule."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.db import connect
from ase.io import read
from optimade.adapters import Structure
from optimade.models import StructureResource

from gapfactory.errors import InputError
from gapfactory.io.conventions import DATA_FORMATS, write_data
from gapfactory.io.extxyz import LabelledFrame
from gapfactory.io.labelled import read_labelled

STRESS = np.array([0.1, -0.2, 0.3, 0.04, -0.05, 0.06])


@pytest.fixture
def frames() -> list[LabelledFrame]:
    """A sheared crystal of two elements with everything, a free atom, and a molecule with forces alone."""
    rng = np.random.default_rng(3)
    crystal = bulk("NaCl", "rocksalt", 5.64) * (1, 1, 2)
    crystal.set_cell(crystal.cell.array @ (np.eye(3) + 0.1 * rng.random((3, 3))), scale_atoms=True)
    atom = Atoms("Na", cell=[12.0] * 3, pbc=True)
    water = molecule("H2O")
    return [
        LabelledFrame("c/2", water, -14.2, rng.normal(size=(3, 3)), None, "molecule"),
        LabelledFrame("c/1", crystal, -1 / 3, rng.normal(size=(4, 3)), STRESS, "cell"),
        LabelledFrame("c/0", atom, -0.1, np.zeros((1, 3)), None, "isolated"),
    ]


def same(found: Atoms, frame: LabelledFrame) -> None:
    assert found.get_chemical_symbols() == frame.atoms.get_chemical_symbols()
    np.testing.assert_array_equal(found.positions, frame.atoms.positions)
    np.testing.assert_array_equal(found.cell.array, frame.atoms.cell.array)
    assert (found.pbc == frame.atoms.pbc).all()


def test_mace(tmp_path, frames) -> None:
    """Its loader: `info` and `arrays` by name, E0s from what `config_type` calls IsolatedAtom."""
    assert write_data(tmp_path / "m.xyz", frames, "mace") == 3
    images = read(tmp_path / "m.xyz", ":")
    for atoms, frame in zip(images, sorted(frames, key=lambda f: f.id), strict=True):
        same(atoms, frame)
        assert atoms.info["REF_energy"] == frame.energy
        np.testing.assert_array_equal(atoms.arrays["REF_forces"], frame.forces)
    assert [atoms.info["config_type"] for atoms in images] == ["IsolatedAtom", "cell", "molecule"]
    # six, nine or 3 by 3 numbers, eV/Å^3, ASE's sign; nine are taken row by row
    stress = images[1].info["REF_stress"].reshape(3, 3)
    np.testing.assert_array_equal(stress, stress.T)
    np.testing.assert_array_equal(
        [stress[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], STRESS
    )
    assert "REF_stress" not in images[0].info


def test_gap(tmp_path, frames) -> None:
    """gap_fit reads nine flat numbers as a virial, in eV; our own reader knows the sign."""
    write_data(tmp_path / "g.xyz", frames, "gap")
    text = (tmp_path / "g.xyz").read_text()
    assert text.count("config_type=isolated_atom") == 1
    (line,) = (line for line in text.splitlines() if "dft_virial" in line)
    flat = [float(x) for x in line.partition('dft_virial="')[2].partition('"')[0].split()]
    assert len(flat) == 9
    crystal = frames[1]
    assert flat[0] == pytest.approx(-crystal.atoms.get_volume() * STRESS[0], rel=1e-14)
    data = read_labelled(tmp_path / "g.xyz")
    assert data.keys == {"energy": "dft_energy", "forces": "dft_forces", "virial": "dft_virial"}
    np.testing.assert_allclose(data.frames[1].stress, STRESS, rtol=1e-13)


def test_nequip(tmp_path, frames) -> None:
    """Through ASE's reader, which makes a calculator of the bare names."""
    write_data(tmp_path / "n.xyz", frames, "nequip")
    images = read(tmp_path / "n.xyz", ":")
    for atoms, frame in zip(images, sorted(frames, key=lambda f: f.id), strict=True):
        same(atoms, frame)
        assert atoms.get_potential_energy() == frame.energy
        np.testing.assert_array_equal(atoms.get_forces(), frame.forces)
    np.testing.assert_array_equal(images[1].get_stress(), STRESS)


def test_database_of_ase(tmp_path, frames) -> None:
    # what an earlier call, or one that was killed, has left is replaced
    for _ in range(2):
        write_data(tmp_path / "a.db", frames, "ase")
    with connect(tmp_path / "a.db") as database:
        rows = list(database.select(sort="gapfactory_id"))
    assert [row.config_type for row in rows] == ["isolated", "cell", "molecule"]
    for row, frame in zip(rows, sorted(frames, key=lambda f: f.id), strict=True):
        same(row.toatoms(), frame)
        assert row.energy == frame.energy
        np.testing.assert_array_equal(row.forces, frame.forces)
    np.testing.assert_array_equal(rows[1].stress, STRESS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_optimade(tmp_path, frames) -> None:
    """By the models of its own Python tools, and as atoms by their adapter."""

    write_data(tmp_path / "o.jsonl", frames, "optimade")
    header, *lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert header == {"x-optimade": {"meta": {"api_version": "1.2.0"}}}
    assert [line["id"] for line in lines] == ["c/0", "c/1", "c/2"]
    for line, frame in zip(lines, sorted(frames, key=lambda f: f.id), strict=True):
        StructureResource(**line)
        atoms = Structure(line).as_ase
        assert atoms.get_chemical_symbols() == frame.atoms.get_chemical_symbols()
        np.testing.assert_array_equal(atoms.positions, frame.atoms.positions)
        if frame.atoms.pbc.all():
            np.testing.assert_array_equal(atoms.cell.array, frame.atoms.cell.array)
        assert line["attributes"]["_gapfactory_energy"] == frame.energy
    crystal = lines[1]["attributes"]
    assert crystal["chemical_formula_reduced"] == "ClNa"
    assert crystal["chemical_formula_anonymous"] == "AB"
    assert lines[2]["attributes"]["chemical_formula_anonymous"] == "A2B"
    assert np.array(crystal["_gapfactory_stress"])[1, 2] == STRESS[3]


def test_what_cannot_be_written_is_said(tmp_path, frames) -> None:
    with pytest.raises(
        InputError, match="no form 'vasp' of data; there are mace, gap, nequip, ase, optimade"
    ):
        write_data(tmp_path / "x", frames, "vasp")
    for form in DATA_FORMATS:
        with pytest.raises(InputError, match="no structures"):
            write_data(tmp_path / "x", [], form)
