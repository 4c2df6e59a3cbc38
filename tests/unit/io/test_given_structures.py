"""Structures that a person gives in a file."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from gapfactory.errors import InputError
from gapfactory.io.structures import read_structures


def test_extended_xyz_with_and_without_labels(tmp_path):
    first, second = bulk("Si"), bulk("Si", cubic=True)
    first.info |= {"REF_energy": -8.5, "phase": "Si-diamond", "config_type": "crystal", "name": "one"}
    first.set_array("occupancy", np.array([1.0, 0.25]))
    second.info["config_type"] = "cubic"
    path = tmp_path / "given.xyz"
    write(path, [first, second], format="extxyz")
    one, two = read_structures(path)
    assert (one.id, one.group, one.energy) == ("one", "Si-diamond", -8.5)
    assert one.partial.tolist() == [False, True]
    assert set(one.atoms.arrays) == {"numbers", "positions"}
    assert (two.id, two.group, two.energy, two.partial) == ("2", "cubic", None, None)
    assert np.array_equal(two.atoms.positions, second.positions)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("none.xyz", None, "there is no file"),
        ("x.traj", "", "are read from .xyz"),
        ("x.xyz", "2\nx\nSi 0 0 0\n", "cannot be read"),
        ("x.xyz", "", "holds no structure"),
        ("x.cif", "hello", "cannot be read"),
        ("x.xyz", "1\nname=a\nSi 0 0 0\n1\nname=a\nSi 0 0 0\n", "two structures are called 'a'"),
    ],
)
def test_what_cannot_be_used(tmp_path, name, content, text):
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=text):
        read_structures(path)
