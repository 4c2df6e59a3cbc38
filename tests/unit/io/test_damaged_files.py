"""Damaged files of every format: an error of ours, or a reading that is sound; soon, and in bounded memory.

benchmarks/fuzz.py goes on from here with other numbers for as long as it is told.
"""

from __future__ import annotations

import pytest
from gf_damage import bounded, trial, write_whole
from gf_formats import FORMATS, sound_labels

from gapfactory.build.seed_file import read_seed
from gapfactory.errors import InputError
from gapfactory.io.extxyz import read_training_set
from gapfactory.io.labelled import read_labelled

#: Cases of each format in every run of the tests.
CASES = 25


# CASTEP's own remarks, which ASE repeats
@pytest.mark.filterwarnings("ignore:.*WARNING:UserWarning", r"ignore:.*There were at least:UserWarning")
@pytest.mark.parametrize("name", list(FORMATS))
def test_whole_files_are_read(name, tmp_path):
    write_whole(FORMATS[name], tmp_path)
    assert FORMATS[name].read(tmp_path) is not None


@pytest.mark.parametrize("name", list(FORMATS))
def test_damaged_files_are_refused_or_read(name):
    found = [finding for number in range(CASES) if (finding := trial(FORMATS[name], number)) is not None]
    assert not found, "\n\n".join(f"{finding}\n{finding.trace}" for finding in found)


# ---- what the fuzzer has found -----------------------------------------------------------------------------------

LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4" pbc="T T T"'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # these two kept ASE's reader busy for hours
        (
            f"999999999999\n{LATTICE} REF_energy=-1\nSi 0 0 0\n",
            "999999999999 atoms by its first line, and 1 lines",
        ),
        (f"1\n{LATTICE} Properties=species:S:1:pos:R:99999999999 REF_energy=-1\nSi 0 0 0\n", "has 4 columns"),
        (f"1\n{LATTICE} REF_energy=-1\nSi 0 0 nan\n", "not a finite number"),
        (f"1\n{LATTICE} REF_energy=nan\nSi 0 0 0\n", "energy"),
        (f'1\n{LATTICE} REF_energy=-1 REF_virial="1 2 3}} 4 5 6 7 8 9"\nSi 0 0 0\n', "virial|right shapes"),
        ('1\nREF_energy=-1 REF_virial="1 2 3 4 5 6 7 8 9" pbc="T T T"\nSi 0 0 0\n', "right shapes|no cell"),
        (
            f"1\n{LATTICE} Properties=species:S:1:pos:R:3:REF_forces:R:2 REF_energy=-1\nSi 0 0 0 1 2\n",
            r"shape \(1, 2\)",
        ),
    ],
)
@pytest.mark.parametrize("read", [read_training_set, read_labelled])
def test_labelled_structures_that_say_what_is_not_so(tmp_path, read, content, words):
    path = tmp_path / "labels.xyz"
    path.write_text(content, encoding="utf-8")
    with bounded(seconds=5), pytest.raises(InputError, match=words):
        read(path)


def test_a_plain_xyz_with_its_lattice_behind_the_atoms_is_read(tmp_path):
    path = tmp_path / "labels.xyz"
    path.write_text("1\nold\nSi 0 0 0\nVEC1 4 0 0\nVEC2 0 4 0\nVEC3 0 0 4\n" * 2, encoding="utf-8")
    with pytest.raises(InputError, match="no structure has"):
        read_labelled(path)


@pytest.mark.parametrize("number", ["99999999999", "1e300", "1e999", "-1"])
def test_numbers_of_atoms_that_no_seed_has(tmp_path, number):
    path = tmp_path / "a.cell"
    path.write_text(
        f"%BLOCK POSITIONS_FRAC\nB 0 0 0 # x % NUM={number}\n%ENDBLOCK POSITIONS_FRAC\n", encoding="utf-8"
    )
    with bounded(seconds=5), pytest.raises(InputError, match=r"NUM="):
        read_seed(path)


def test_labels_of_a_database_that_is_no_database(tmp_path):
    path = tmp_path / "labels.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(4000))
    with pytest.raises(InputError, match="cannot be read"):
        read_labelled(path)


@pytest.mark.parametrize(("name", "number"), [("engine-castep", 5012), ("engine-castep", 5020)])
def test_outputs_that_the_fuzzer_has_found(name, number):
    """A line of 100 kB, on which a pattern of ASE's took minutes; and numbers before what they belong to."""
    assert trial(FORMATS[name], number) is None


def test_sound_labels_are_judged():
    """The judge of the fuzzer must be able to fail."""
    from gf_formats import _frames

    frames = _frames()
    sound_labels(frames)
    frames[1].atoms.positions[0, 0] = float("nan")
    with pytest.raises(AssertionError, match="a coordinate"):
        sound_labels(frames)
