"""Errors by group, and the choice of structures from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from gapfactory.descriptors.settings import SimilaritySettings
from gapfactory.errors import InputError, SelectionError
from gapfactory.files import Evaluated, NamedStructure, choose_structures, errors_by_group, read_named
from gapfactory.io.extxyz import LabelledFrame
from gapfactory.select import SelectSettings

if TYPE_CHECKING:
    from pathlib import Path

SMALL = SimilaritySettings(n_max=4, l_max=4, atom_sigma=0.4, cutoff=5.0)


def evaluated(group: str, error: float, force_error: float | None = None) -> Evaluated:
    atoms = bulk("Si")
    forces = None if force_error is None else np.zeros((2, 3))
    label = LabelledFrame("x", atoms, -10.0, forces, config_type=group)
    return Evaluated(
        NamedStructure("x", atoms, label),
        -10.0 + 2 * error,
        np.full((2, 3), force_error or 0.0),
        np.zeros(6),
        None,
        "",
    )


def test_errors_by_hand() -> None:
    refused = Evaluated(
        NamedStructure("r", bulk("Si"), evaluated("b", 0.0).structure.label), None, None, None, None, "far"
    )
    bare = Evaluated(NamedStructure("n", bulk("Si"), None), -1.0, np.zeros((2, 3)), None, None, "")
    rows = errors_by_group(
        [evaluated("a", 0.3, 0.2), evaluated("a", -0.1), evaluated("b", 0.5), refused, bare]
    )
    assert [row.group for row in rows] == ["a", "b", "all"]
    first, second, everything = rows
    assert first.energy_mean == pytest.approx(0.1)
    assert first.energy_rmse == pytest.approx(np.sqrt((0.09 + 0.01) / 2))
    assert first.energy_mae == pytest.approx(0.2)
    assert first.force_rmse == pytest.approx(0.2)
    assert first.stress_rmse is None
    assert (second.structures, second.refused, second.force_rmse) == (1, 1, None)
    assert (everything.structures, everything.refused) == (3, 1)
    assert errors_by_group([bare]) == []


def random_cells(n: int, symbols: str = "Si4") -> list[Atoms]:
    rng = np.random.default_rng(8)
    cells = []
    for _ in range(n):
        count = len(Atoms(symbols))
        cell = np.diag(rng.uniform(4.0, 5.5, 3))
        cells.append(Atoms(symbols, scaled_positions=rng.random((count, 3)), cell=cell, pbc=True))
    return cells


def chosen(names: list[str], cells: list[Atoms], n: int, **more: object) -> list[str]:
    settings = SelectSettings(labels_per_generation=n, held_out_per_generation=0, noise_cells=0)
    return choose_structures(names, cells, settings, SMALL, seed=3, **more).ids()  # type: ignore[arg-type]


def test_the_choice_depends_on_no_order_and_takes_no_duplicate() -> None:
    cells = random_cells(12)
    cells += [cells[0].copy(), cells[0].copy()]
    names = [f"s{k:02d}" for k in range(len(cells))]
    picked = chosen(names, cells, 12)
    # twelve different ones: of the three equal ones exactly one
    assert len(set(picked) & {"s00", "s12", "s13"}) == 1
    assert len(picked) == 12
    few = chosen(names, cells, 4)
    assert chosen(names[::-1], cells[::-1], 4) == few


def test_each_composition_has_its_share_and_low_energies_are_preferred() -> None:
    cells = random_cells(40) + random_cells(20, "Si2Ge2")
    names = [f"s{k:02d}" for k in range(60)]
    picked = chosen(names, cells, 9)
    assert sum(name >= "s40" for name in picked) == 3
    energies = [0.05 * k * 4 for k in range(40)] + [0.0] * 20
    low = [int(name[1:]) for name in chosen(names, cells, 9, energies=energies, kT=0.02) if name < "s40"]
    # a histogram keeps half of forty at the most, biased by 0.05 eV/atom per structure against 0.02
    assert len(low) == 6
    assert max(low) < 25
    with pytest.raises(SelectionError, match="energy of every structure"):
        chosen(names, cells, 9, kT=0.1)
    with pytest.raises(SelectionError, match="no structures"):
        chosen([], [], 2)


def test_files_with_labels_without_and_partly(tmp_path: Path) -> None:
    images = random_cells(3)
    images[1].info["REF_energy"] = -2.0
    write(tmp_path / "part.xyz", images, format="extxyz")
    write(tmp_path / "bare.cif", images[0])
    read = read_named([tmp_path / "part.xyz", tmp_path / "bare.cif"])
    assert [one.label is not None for one in read] == [False, True, False, False]
    assert read[1].label is not None
    assert read[1].label.energy == -2.0
    assert len({one.name for one in read}) == 4
    with pytest.raises(InputError, match="PBE_energy"):
        read_named([tmp_path / "part.xyz"], "PBE_")
