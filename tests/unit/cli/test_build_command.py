"""`gapfactory build`: from a seed file to structures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.io import read
from typer.testing import CliRunner

from gapfactory.errors import InputError
from gapfactory.io.res import read_res
from launchpad.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

SEED = "#SPECIES=Si%NUM=4\n#VARVOL=20\n#SYMMOPS=1-2\n#NFORM=1\n#MINSEP=2.0\n#SLACK=0.2\nKPOINTS_MP_SPACING 0.05\n"


def call(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["build", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_structures_summary_and_picture(tmp_path: Path) -> None:
    seed, out, picture = tmp_path / "Si.cell", tmp_path / "cells.extxyz", tmp_path / "cells.png"
    seed.write_text(SEED)
    words = (str(seed), "-n", "6", "--seed", "3", "-o", str(out))
    summary = json.loads(call(*words, "--picture", str(picture), "--json"))
    assert (summary["built"], summary["failed"], summary["atoms"]) == (6, 0, {"4": 6})
    assert summary["passed_over"] == ["KPOINTS_MP_SPACING"]
    first = out.read_text()
    frames = read(out, index=":")
    assert [frame.info["index"] for frame in frames] == list(range(6))
    assert {frame.info["symmetry_operations"] for frame in frames} <= {1, 2}
    assert picture.stat().st_size > 1000
    text = call(*words)
    assert out.read_text() == first
    assert "passed over: KPOINTS_MP_SPACING" in text
    assert "AUTO" not in text
    seed.write_text(SEED.replace("MINSEP=2.0", "MINSEP=2.0 AUTO"))
    assert "the stated separations hold" in " ".join(call(*words).split())
    assert out.read_text() == first


def test_structures_as_airss_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Si.cell").write_text(SEED)
    (tmp_path / "apart").mkdir()
    words = ("Si.cell", "-n", "3", "--seed", "3")
    assert json.loads(call(*words, "--format", "res", "--json"))["file"] == "Si.res"
    call(*words, "-o", "apart")
    packed, apart = read_res(tmp_path / "Si.res"), read_res(tmp_path / "apart")
    assert [s.name for s in packed] == ["Si-0", "Si-1", "Si-2"] == [s.name for s in apart]
    call(*words)
    for given, image in zip(packed, read(tmp_path / "Si.extxyz", index=":"), strict=True):
        assert given.symmetry == image.info["symmetry"].replace("_", "")
        assert f"space_group {image.info['space_group']}" in given.remarks
        assert np.allclose(
            given.atoms().get_all_distances(mic=True), image.get_all_distances(mic=True), atol=1e-10
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--picture", "cells.gif"), "--picture cells.gif: the name must end in .png, .pdf or .svg"),
        (("-o", "cells.cif"), "--output cells.cif: structures are written as extended XYZ"),
        (("-o", "nowhere/cells.xyz"), "there is no directory nowhere"),
        (("--picture", "nowhere/cells.png"), "there is no directory nowhere"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Si.cell").write_text(SEED)
    with pytest.raises(InputError) as refused:
        call("Si.cell", "-n", "2", *words)
    assert said in str(refused.value)
    assert [file.name for file in tmp_path.iterdir()] == ["Si.cell"]


def test_none_built_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    seed, out = tmp_path / "Si.cell", tmp_path / "cells.extxyz"
    seed.write_text("#SPECIES=Si%NUM=4\n#VARVOL=5\n#MINSEP=2.4\n")
    text = call(str(seed), "-n", "2", "-o", str(out), "--json", code=1)
    summary = json.loads(text)
    assert (summary["built"], summary["failed"], summary["file"]) == (0, 2, None)
    assert "cannot be met" in next(iter(summary["reasons"]))
    assert not out.exists()
