"""Labels of files as fits take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones

from gapfactory.errors import InputError
from gapfactory.files import training_structures
from gapfactory.files.reading import unique_names
from gapfactory.io.extxyz import LabelledFrame
from gapfactory.io.labelled import LabelledData

FILE, OTHER = Path("a.xyz"), Path("b.xyz")


def data_of(*frames: LabelledFrame) -> LabelledData:
    return LabelledData(frames, {}, ("",) * len(frames), ())


def frame(
    name: str, atoms: Atoms, energy: float, config_type: str = "crystal", **more: object
) -> LabelledFrame:
    return LabelledFrame(name, atoms, energy, config_type=config_type, **more)  # type: ignore[arg-type]


def in_box(symbols: str) -> Atoms:
    return Atoms(
        symbols, positions=[[0, 0, 1.9 * k] for k in range(len(symbols) // 2)], cell=[12] * 3, pbc=True
    )


def test_each_kind_is_recognised() -> None:
    frames = [
        frame("free", Atoms("Si"), -0.8),
        frame("boxed", in_box("Ge"), -0.7, "IsolatedAtom"),
        frame("pair", Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]]), -2.0),
        frame("pair in a box", in_box("SiSi"), -2.1, "dimer", stress=np.ones(6)),
        frame("primitive", bulk("Si"), -10.0, stress=np.ones(6)),
        # one atom that is periodic is a crystal, unless it is called otherwise
        frame("simple cubic", bulk("Ge", "sc", a=2.6), -3.0),
    ]
    found = training_structures({FILE: data_of(*frames)}, cutoff=5.0)
    kinds = {item.id: item.kind for item in found.structures}
    assert kinds == {
        "free atom Ge": "isolated",
        "free atom Si": "isolated",
        "pair": "dimer",
        "pair in a box": "dimer",
        "primitive": "crystal",
        "simple cubic": "crystal",
    }
    assert found.free_atoms == {"Ge": -0.7, "Si": -0.8}
    by_id = {item.id: item for item in found.structures}
    assert not by_id["pair in a box"].atoms.pbc.any()
    assert by_id["pair in a box"].stress is None
    np.testing.assert_array_equal(by_id["primitive"].stress, np.ones(6))


@pytest.mark.parametrize("periodic", [[False, False, False], [True, True, False], [True, False, False]])
def test_a_box_changes_no_energy(periodic: list[bool]) -> None:
    rng = np.random.default_rng(5)
    atoms = Atoms("Ar4", positions=rng.uniform(0, 5, (4, 3)), cell=[6.0, 6.5, 7.0], pbc=periodic)
    potential = LennardJones(sigma=2.5, epsilon=0.02, rc=5.0, smooth=True)
    atoms.calc = potential
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    found = training_structures(
        {FILE: data_of(frame("x", atoms, energy, stress=np.ones(6)))}, cutoff=5.0, free_atoms={"Ar": 0.0}
    )
    boxed = next(item for item in found.structures if item.id == "x")
    assert boxed.atoms.pbc.all()
    assert boxed.stress is None
    assert found.notes == ("1 structures that are not periodic were put into boxes",)
    inside = boxed.atoms.copy()
    inside.calc = potential
    assert inside.get_potential_energy() == pytest.approx(energy, abs=1e-12)
    np.testing.assert_allclose(inside.get_forces(), forces, atol=1e-12)


def test_free_atoms_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for k in range(12):
        symbols = ["Cu"] * (1 + k % 4) + ["Au"] * (1 + k % 3)
        atoms = Atoms(symbols, positions=rng.uniform(0, 8, (len(symbols), 3)), cell=[8] * 3, pbc=True)
        frames.append(frame(str(k), atoms, -3.0 * symbols.count("Cu") - 4.5 * symbols.count("Au")))
    found = training_structures({FILE: data_of(*frames)}, cutoff=4.0, free_atoms="fitted")
    assert found.free_atoms == pytest.approx({"Au": -4.5, "Cu": -3.0})


def test_what_is_missing_or_contradicts_is_said() -> None:
    crystal = frame("c", bulk("Si"), -10.0)
    with pytest.raises(InputError, match=r"no free atom of Si .*--free-atom Si="):
        training_structures({FILE: data_of(crystal)}, cutoff=5.0)
    two = [frame("one", Atoms("Si"), -0.8), frame("two", Atoms("Si"), -0.9), crystal]
    with pytest.raises(InputError, match=r"two: the free atom of Si has -0\.9 eV here and -0\.8 eV before"):
        training_structures({FILE: data_of(*two)}, cutoff=5.0)
    with pytest.raises(InputError, match="only free atoms"):
        training_structures({FILE: data_of(two[0])}, cutoff=5.0)
    given = training_structures({FILE: data_of(two[0], crystal)}, cutoff=5.0, free_atoms={"Si": -1.5})
    assert given.free_atoms == {"Si": -1.5}


def test_names_become_unique() -> None:
    files = [Path("run1/vasprun.xml"), Path("run2/vasprun.xml"), Path("set.xyz")]
    names = unique_names(files, [["1", "2"], ["1"], ["diamond", "1"]])
    assert names == ["1:1:vasprun:1", "2", "2:1:vasprun:1", "diamond", "set:1"]
    assert len(set(names)) == 5
