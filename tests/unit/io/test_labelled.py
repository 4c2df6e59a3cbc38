"""Labels by the conventions of several communities, in several kinds of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from gapfactory.errors import InputError
from gapfactory.io.extxyz import LabelledFrame, write_training_set
from gapfactory.io.labelled import read_labelled

if TYPE_CHECKING:
    from ase import Atoms

RECORDED = Path(__file__).parents[2] / "data" / "recorded"


def labelled(count: int = 3) -> list[Atoms]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True, a=float(rng.uniform(3.5, 3.8)))
        atoms.rattle(0.1, rng=rng)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def equal(path: Path, atoms: list[Atoms], prefix: str | None = None) -> dict[str, str]:
    """Check that a file has the labels of these structures; return the keys they were read from."""
    data = read_labelled(path, prefix)
    assert len(data.frames) == len(atoms)
    for frame, true in zip(data.frames, atoms, strict=True):
        assert frame.energy == pytest.approx(true.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(frame.atoms.positions, true.positions, atol=1e-7)
        np.testing.assert_allclose(frame.forces, true.get_forces(), atol=1e-7)
        np.testing.assert_allclose(frame.stress, true.get_stress(), atol=1e-7)
        assert frame.atoms.calc is None
    return data.keys


def renamed(atoms: Atoms, energy: str, forces: str, tensor: str) -> Atoms:
    """Return a copy with its labels under other names; the tensor in the form that the name stands for."""
    copy = atoms.copy()
    copy.info[energy] = atoms.get_potential_energy()
    copy.arrays[forces] = atoms.get_forces()
    stress = atoms.get_stress(voigt=False)
    copy.info[tensor] = -stress * atoms.get_volume() if "virial" in tensor else stress
    return copy


@pytest.mark.parametrize(
    ("energy", "forces", "tensor"),
    [
        ("REF_energy", "REF_forces", "REF_stress"),
        ("REF_energy", "REF_forces", "REF_virials"),
        ("dft_energy", "dft_force", "dft_virial"),
        ("DFT_energy", "DFT_forces", "DFT_virial"),
        ("energy", "force", "virial"),
    ],
)
def test_conventions_of_extended_xyz(tmp_path: Path, energy: str, forces: str, tensor: str) -> None:
    atoms = labelled()
    write(tmp_path / "a.xyz", [renamed(a, energy, forces, tensor) for a in atoms], format="extxyz")
    assert equal(tmp_path / "a.xyz", atoms) == {
        "energy": energy,
        "forces": forces,
        tensor_kind(tensor): tensor,
    }


def tensor_kind(name: str) -> str:
    return "virial" if "virial" in name else "stress"


def test_what_ase_and_we_write(tmp_path: Path) -> None:
    atoms = labelled()
    write(tmp_path / "ase.extxyz", atoms)
    equal(tmp_path / "ase.extxyz", atoms)
    write_training_set(
        tmp_path / "ours.xyz",
        [
            LabelledFrame(f"s{i}", a, a.get_potential_energy(), a.get_forces(), a.get_stress())
            for i, a in enumerate(atoms)
        ],
    )
    assert equal(tmp_path / "ours.xyz", atoms)["virial"] == "REF_virial"


def test_a_database_of_ase(tmp_path: Path) -> None:
    atoms = labelled()
    with connect(tmp_path / "a.db") as database:
        for a in atoms:
            database.write(a, functional="PBE")
    equal(tmp_path / "a.db", atoms)
    assert read_labelled(tmp_path / "a.db").methods == ("functional PBE",) * 3


def test_predictions_beside_labels_are_not_read(tmp_path: Path) -> None:
    atoms = labelled()
    both = [renamed(a, "REF_energy", "REF_forces", "REF_stress") for a in atoms]
    for a in both:
        a.info["energy"] = 1.0
    write(tmp_path / "a.xyz", both, format="extxyz")
    equal(tmp_path / "a.xyz", atoms)
    assert "energies under bare names were passed over" in read_labelled(tmp_path / "a.xyz").notes[0]
    assert read_labelled(tmp_path / "a.xyz", "").frames[0].energy == 1.0


def test_the_free_energy_is_what_forces_belong_to(tmp_path: Path) -> None:
    atoms = labelled(1)[0]
    free = atoms.get_potential_energy() - 0.3
    atoms.calc.results["free_energy"] = free
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    assert read_labelled(tmp_path / "a.xyz").frames[0].energy == pytest.approx(free)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda a: a[1].info.pop("REF_energy"), r"structure 2 has no REF_energy, as 1 of 3"),
        (lambda a: a[0].info.update(REF_energy=np.nan), r"structure 1: REF_energy .* must be finite"),
        (
            lambda a: a[2].info.update(REF_stress=np.arange(9.0).reshape(3, 3)),
            r"structure 3: .* not symmetric",
        ),
    ],
    ids=["missing", "not finite", "not symmetric"],
)
def test_a_label_that_cannot_be_one_is_named(tmp_path: Path, spoil, reason: str) -> None:
    atoms = [renamed(a, "REF_energy", "REF_forces", "REF_stress") for a in labelled()]
    spoil(atoms)
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    with pytest.raises(InputError, match=reason):
        read_labelled(tmp_path / "a.xyz")


def test_files_without_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", [bulk("Cu")], format="extxyz")
    with pytest.raises(InputError, match="is this a labelled set"):
        read_labelled(tmp_path / "a.xyz")
    odd = bulk("Cu")
    odd.info["pbe_energy"] = 1.0
    write(tmp_path / "b.xyz", [odd], format="extxyz")
    with pytest.raises(InputError, match="name the prefix of one of pbe_energy"):
        read_labelled(tmp_path / "b.xyz")
    (tmp_path / "c.txt").write_text("nothing\n")
    with pytest.raises(InputError, match="labels are read from extended XYZ"):
        read_labelled(tmp_path / "c.txt")
    with pytest.raises(InputError, match="there is no file"):
        read_labelled(tmp_path / "d.xyz")


@pytest.mark.filterwarnings("ignore:.*WARNING:UserWarning", "ignore:.*warnings during this run:UserWarning")
@pytest.mark.parametrize(
    ("name", "count", "energy", "method"),
    [
        ("castep/md.castep", 3, -1351.294716003, "functional Local Density Approximation"),
        ("vasp/vasprun_dfpt.xml", 1, -6.74587304, "functional PE"),
        ("vasp/vasprun_pstress.xml", 1, -20.246959373, "cutoff 400.0"),
    ],
)
def test_outputs_of_codes(name: str, count: int, energy: float, method: str) -> None:
    data = read_labelled(RECORDED / name)
    assert len(data.frames) == count
    assert data.frames[-1].energy == pytest.approx(energy, abs=1e-6)
    assert data.frames[-1].forces is not None
    assert data.frames[-1].stress is not None
    assert method in data.methods[-1]


def test_an_output_that_is_cut_off_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read: ParseError"):
        read_labelled(RECORDED / "vasp" / "convergence_OUTCAR_y_y")
