"""Training sets survive the round trip, and say what gap_fit can read."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read

from gapfactory.errors import InputError
from gapfactory.io import LabelledFrame, read_training_set, write_training_set
from gapfactory.structures import structure_hash


@pytest.fixture
def frames():
    rng = np.random.default_rng(3)
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.1, rng=rng)
    return [
        LabelledFrame(
            "c-2",
            crystal,
            -43.123456789012345,
            rng.normal(size=(8, 3)),
            rng.normal(size=6),
            info=(("energy_sigma", 0.008), ("generation", 2)),
        ),
        LabelledFrame(
            "a-1", Atoms("Si", cell=[20, 20, 20], pbc=False), -0.1, np.zeros((1, 3)), config_type="isolated"
        ),
        LabelledFrame("b-3", bulk("Si"), -10.0),
    ]


def test_round_trip_is_exact_and_sorted(frames, tmp_path):
    path = tmp_path / "train.xyz"
    assert write_training_set(path, frames) == 3
    back = read_training_set(path)
    assert [f.id for f in back] == ["a-1", "b-3", "c-2"]
    for ours, theirs in zip(sorted(frames, key=lambda f: f.id), back, strict=True):
        assert structure_hash(ours.atoms) == structure_hash(theirs.atoms)
        assert theirs.energy == ours.energy
        assert theirs.config_type == ours.config_type
        if ours.forces is None:
            assert theirs.forces is None
        else:
            np.testing.assert_array_equal(theirs.forces, ours.forces)
        if ours.stress is None:
            assert theirs.stress is None
        else:
            np.testing.assert_allclose(theirs.stress, ours.stress, rtol=1e-13)
    assert dict(back[2].info) == {"energy_sigma": 0.008, "generation": 2}


def test_same_set_in_any_order_gives_the_same_bytes(frames, tmp_path):
    write_training_set(tmp_path / "one.xyz", frames)
    write_training_set(tmp_path / "two.xyz", frames[::-1])
    assert (tmp_path / "one.xyz").read_bytes() == (tmp_path / "two.xyz").read_bytes()


def test_virial_is_flat_and_has_the_sign_of_minus_volume_times_stress(frames, tmp_path):
    path = tmp_path / "train.xyz"
    write_training_set(path, frames)
    text = path.read_text()
    assert "_JSON" not in text
    row = text.split('REF_virial="')[1].split('"')[0].split()
    assert len(row) == 9
    volume, stress = frames[0].atoms.get_volume(), frames[0].stress
    # xx, xy and yz of the row-wise 3x3 matrix
    np.testing.assert_allclose(
        [float(row[0]), float(row[1]), float(row[5])],
        [-volume * stress[0], -volume * stress[5], -volume * stress[3]],
    )


def test_ase_and_quip_style_keys(frames, tmp_path):
    path = tmp_path / "train.xyz"
    write_training_set(path, frames)
    with path.open() as stream:
        images = read(stream, index=":", format="extxyz")
    assert images[2].info["REF_energy"] == frames[0].energy
    assert np.shape(images[2].arrays["REF_forces"]) == (8, 3)
    assert np.asarray(images[2].info["REF_virial"]).size == 9
    assert not images[0].pbc.any()


@pytest.mark.gap
def test_quippy_reads_the_same_numbers(frames, tmp_path):
    from quippy.convert import ase_to_quip

    path = tmp_path / "train.xyz"
    write_training_set(path, frames)
    with path.open() as stream:
        atoms = read(stream, index=2, format="extxyz")
    quip = ase_to_quip(atoms)
    assert quip.n == 8
    np.testing.assert_allclose(np.asarray(quip.pos).T, frames[0].atoms.positions, atol=1e-14)


def test_stale_quip_index_is_removed(frames, tmp_path):
    path = tmp_path / "train.xyz"
    index = tmp_path / "train.xyz.idx"
    index.write_text("1\n")
    write_training_set(path, frames)
    assert not index.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energy": float("nan")}, "energy nan"),
        ({"forces": np.full((2, 3), np.inf)}, "forces"),
        ({"forces": np.zeros((3, 3))}, r"finite \(2, 3\)"),
        ({"stress": np.zeros(9)}, r"finite \(6,\)"),
        ({"id": "two words"}, "one word"),
        ({"config_type": 'x" REF_energy=0'}, "one word"),
        ({"info": (("REF_energy", 1.0),)}, "taken"),
        ({"info": (("matrix", np.zeros((3, 3))),)}, "write it flat"),
    ],
)
def test_bad_labels_are_refused_and_harm_nothing(change, words, tmp_path):
    path = tmp_path / "train.xyz"
    path.write_text("what was there before")
    values = {"id": "x", "atoms": bulk("Si"), "energy": -1.0} | change
    with pytest.raises(InputError, match=words):
        write_training_set(path, [LabelledFrame(**values)])
    assert path.read_text() == "what was there before"
    assert [p.name for p in tmp_path.iterdir()] == ["train.xyz"]


def test_duplicates_and_empty_sets_are_refused(frames, tmp_path):
    with pytest.raises(InputError, match="given twice"):
        write_training_set(tmp_path / "x.xyz", [frames[0], frames[0]])
    with pytest.raises(InputError, match="without structures"):
        write_training_set(tmp_path / "x.xyz", [])


def test_reading_something_else(tmp_path):
    path = tmp_path / "x.xyz"
    path.write_text("not a structure\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_training_set(path)
    path.write_text('1\nLattice="1 0 0 0 1 0 0 0 1" Properties=species:S:1:pos:R:3\nSi 0 0 0\n')
    with pytest.raises(InputError, match="REF_energy"):
        read_training_set(path)
