"""SHELX .res files as AIRSS writes them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from ase.neighborlist import neighbor_list

from gapfactory.errors import InputError
from gapfactory.io.res import ResStructure, parse_res, read_res, res_from_atoms, write_res
from gapfactory.io.structures import read_atoms, read_structures, write_structures

if TYPE_CHECKING:
    from pathlib import Path

MGO = """TITL MgO-1-2 -0.0135 37.586400 -2.32031388E+003 0 0 4 (P42/nmc) n - 7
REM
REM Run started: Wed, 14 Sep 2022 in somewhere
REM MgO.cell (f606ebee495da009bb8a9e4ef3b1b06d)
CELL 1.54180    3.05491    3.05491    4.12920   94.94645  109.26602  102.38406
LATT -1
SFAC Mg O
Mg     1 -0.1631495696838 -0.5406700968233 -0.4502843391811 1.0
Mg     1  0.2335154505364 -0.1221052108572 -0.2596835666599 1.0
O      2 -0.3993041424951 -0.0002289451090  0.0472362668594 1.0
O      2  1.2803534066963 -0.0938843472904  2.758475459314D-01 1.0
END
"""
OTHER = MGO.replace("MgO-1-2", "MgO-3-4").replace("37.586400", "0.37586400E+02").replace(" n - 7", " n - 1")
#: 6 significant digits less than the coordinates have
SPINS = MGO.replace(" 1.0\n", " 1.0 0.50\n").replace("MgO-1-2", "spun")


def test_everything_in_the_file_is_read() -> None:
    (found,) = parse_res(MGO)
    assert (found.name, found.pressure, found.volume, found.enthalpy) == (
        "MgO-1-2",
        -0.0135,
        37.5864,
        -2320.31388,
    )
    assert (found.symmetry, found.copies, found.symbols) == ("P42/nmc", 7, ("Mg", "Mg", "O", "O"))
    assert found.cell == (3.05491, 3.05491, 4.1292, 94.94645, 109.26602, 102.38406)
    assert found.positions[3].tolist() == [1.2803534066963, -0.0938843472904, 0.2758475459314]
    assert found.remarks[1:] == (
        "Run started: Wed, 14 Sep 2022 in somewhere",
        "MgO.cell (f606ebee495da009bb8a9e4ef3b1b06d)",
    )
    (spun,) = parse_res(SPINS)
    assert spun.spins == (0.5,) * 4


def test_atoms_are_those_that_ase_reads(tmp_path: Path) -> None:
    path = tmp_path / "one.res"
    path.write_text(MGO.replace("2.758475459314D-01", "0.2758475459314"))
    ours, theirs = read_atoms(path, "crystal"), read(path)
    assert ours.get_chemical_symbols() == theirs.get_chemical_symbols()
    assert np.array_equal(ours.cell.array, theirs.cell.array)
    assert np.allclose(ours.positions, theirs.positions, rtol=0, atol=1e-14)
    assert ours.pbc.all()


def test_writing_and_reading_keeps_every_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ragged = ResStructure(
        name="ragged",
        symbols=("B", "Cl", "B"),
        cell=(*(2 + rng.random(3)).tolist(), *(80 + 20 * rng.random(3)).tolist()),
        positions=rng.normal(size=(3, 3)) * np.array([1e-17, 1.0, 1e3]),
        pressure=1 / 3,
        volume=1e2 / 3,
        enthalpy=-1e4 / 7,
        spin=-0.1,
        abs_spin=0.3,
        symmetry="P-1",
        copies=12,
        remarks=("", "two words"),
        spins=(0.1, -0.2, 1e-9),
    )
    given = [*parse_res(MGO + OTHER + SPINS), ragged]
    path = tmp_path / "packed.res"
    assert write_res(path, given) == 4
    again = read_res(path)
    for before, after in zip(given, again, strict=True):
        assert np.array_equal(before.positions, after.positions)
        assert replace(before, positions=0) == replace(after, positions=0)
    apart = tmp_path / "apart"
    apart.mkdir()
    write_res(apart, given)
    assert sorted(p.name for p in apart.iterdir()) == ["MgO-1-2.res", "MgO-3-4.res", "ragged.res", "spun.res"]
    seen: list[tuple[int, int]] = []
    assert [s.name for s in read_res(apart, lambda *n: seen.append(n))] == [
        "MgO-1-2",
        "MgO-3-4",
        "ragged",
        "spun",
    ]
    assert seen == [(k, 4) for k in (1, 2, 3, 4)]
    with pytest.raises(InputError, match="two structures are called 'spun'"):
        write_res(apart, [given[2], given[2]])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_structure_keeps_distances_and_chirality(mirrored: bool) -> None:
    rng = np.random.default_rng(7)
    cell = rng.normal(size=(3, 3)) + 4 * np.eye(3)[[1, 0, 2] if mirrored else [1, 2, 0]]
    assert (np.linalg.det(cell) < 0) == mirrored
    atoms = Atoms("SiO2C", scaled_positions=rng.random((4, 3)), cell=cell, pbc=True)
    (back,) = parse_res(res_from_atoms(atoms, "x").text())
    after = back.atoms()
    assert np.allclose(
        sorted(neighbor_list("d", atoms, 5.0)), sorted(neighbor_list("d", after, 5.0)), atol=1e-12
    )

    def handed(which: Atoms) -> float:
        # of the same three vectors between atoms: a rotation keeps it, a mirror turns its sign
        scaled = which.get_scaled_positions(wrap=False)
        steps = (scaled[1:] - scaled[0]) @ which.cell.array
        return float(np.linalg.det(steps))

    # as given, without wrapping: the same atoms
    assert np.isclose(handed(after), handed(atoms))


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("TITL a", ("a", 0.0, None, None, "", 1)),
        ("TITL a 37.5 -12.0 (P1)", ("a", 0.0, 37.5, -12.0, "P1", 1)),
        ("TITL a 2.5 37.5 -12.0 (P1) n - 3", ("a", 2.5, 37.5, -12.0, "P1", 3)),
        ("TITL cabal-cell2res 0.0 64.0 0.0 0 4 (n/a) n - 1", ("cabal-cell2res", 0.0, 64.0, 0.0, "", 1)),
        ("TITL a 2.5 37.5 -12.0 0 0 4 n - 3", ("a", 2.5, 37.5, -12.0, "", 3)),
        ("TITL a 2.5 37.5 -12.0 0 0 0.01 4 (P 21/c) n - 3", ("a", 2.5, 37.5, -12.0, "P 21/c", 3)),
    ],
)
def test_titles_of_several_programs_and_years(title: str, expected: tuple[object, ...]) -> None:
    (found,) = parse_res(MGO.replace(MGO.splitlines()[0], title))
    assert (
        found.name,
        found.pressure,
        found.volume,
        found.enthalpy,
        found.symmetry,
        found.copies,
    ) == expected
    assert (found.spin, found.abs_spin) == (0, 0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-2.32031388E+003", "*******", r"line 1: '\*{7}' is not a number"),
        ("0 0 4 (P42", "0 0 5 (P42", "line 1: the title states 5 atoms, 4 follow"),
        (" 0 0 4 (P42/nmc) n - 7", " in Fm-3m and more words", "line 1: .* is no title of AIRSS"),
        ("LATT -1", "LATT 4", "line 6: 'LATT 4' means symmetry"),
        ("LATT -1\n", "", "line 11: the structure ends without LATT -1"),
        ("SFAC Mg O", "SFAC Mg O\nSYMM -X,-Y,Z", "line 8: 'SYMM"),
        ("109.26602", "5.26602", "line 5: CELL .* has no volume"),
        ("  102.38406", "", "line 5: CELL has 6 numbers"),
        ("O      2 -0.3", "Xx     2 -0.3", "line 10: 'Xx' is no chemical element"),
        ("O      2 -0.3", "O      1 -0.3", "line 10: O 1: SFAC has Mg O"),
        ("0.0472362668594 1.0", "0.0472362668594 0.5", r"line 10: O is there 0.5 times"),
        ("0.0472362668594 1.0", "nan 1.0", "line 10: 'nan' is not a number"),
        ("0.0472362668594 1.0", "0.0472362668594 1.0 0.5", "line 12: 1 of 4 atoms have a spin"),
        ("REM\n", "hello\n", "line 2: 'hello' is neither an atom nor"),
        ("END\n", "", "line 1: the structure 'MgO-1-2 .* has no END"),
        ("END\n", MGO, "line 1: the structure 'MgO-1-2 .* has no END"),
        ("TITL", "MTIL", "line 1: a structure begins with TITL"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in MGO
    path = tmp_path / "bad.res"
    path.write_text(MGO.replace(old, new, 1))
    with pytest.raises(InputError, match=r"bad\.res, " + said):
        read_res(path)


def test_nothing_to_read_and_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.res file in"):
        read_res(tmp_path)
    with pytest.raises(InputError, match="there is no file"):
        read_res(tmp_path / "none.res")
    (tmp_path / "bin.res").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_res(tmp_path / "bin.res")
    (tmp_path / "empty.res").write_text("")
    with pytest.raises(InputError, match="no line begins with TITL"):
        read_res(tmp_path / "empty.res")
    with pytest.raises(InputError, match="no cell of three vectors"):
        res_from_atoms(Atoms("H"), "h")
    with pytest.raises(InputError, match="must be one word"):
        replace(parse_res(MGO)[0], name="a b").text()


def test_every_reader_and_writer_of_structures_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "given.res"
    path.write_text(MGO + OTHER)
    first, second = read_structures(path)
    assert (first.id, second.id, first.energy, first.group) == ("MgO-1-2", "MgO-3-4", None, "")
    with pytest.raises(InputError, match="holds 2 structures: give a file with one crystal"):
        read_atoms(path, "crystal")
    info = {"pressure_GPa": 1.5, "enthalpy_eV": -10.25, "symmetry": "P6_3/mmc", "copies": 4, "index": 3}
    out = tmp_path / "out.res"
    write_structures(out, [("campaign/g001/relaxation/000001", bulk("Si"), info)])
    (written,) = read_res(out)
    assert (written.name, written.remarks) == ("campaign-g001-relaxation-000001", ("index 3",))
    assert (written.pressure, written.enthalpy, written.symmetry, written.copies) == (
        1.5,
        -10.25,
        "P63/mmc",
        4,
    )
    write_structures(tmp_path / "out.extxyz", [("a", bulk("Si"), info)])
    (image,) = read(tmp_path / "out.extxyz", index=":")
    assert image.info == {"name": "a", **info}
    write(tmp_path / "plain.extxyz", bulk("Si"))
    assert read_structures(tmp_path)[0].id == "MgO-1-2"
