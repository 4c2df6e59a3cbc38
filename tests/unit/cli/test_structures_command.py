"""`gapfactory structures rank` of files and directories."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from gapfactory.errors import InputError
from gapfactory.io.res import read_res, res_from_atoms, write_res
from launchpad.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

GPA = 160.2176634


def call(*words: str) -> str:
    done = CliRunner().invoke(app, ["structures", "rank", *words], terminal_width=200)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three times diamond, once fcc and once bcc, as AIRSS leaves them in a directory."""
    directory = tmp_path / "results"
    directory.mkdir()
    diamond, fcc, bcc = bulk("C", "diamond", 3.57), bulk("C", "fcc", 3.0), bulk("C", "bcc", 2.4)
    cubic = bulk("C", "diamond", 3.57, cubic=True)
    given = [
        ("d-1", diamond, -9.0),
        ("d-2", cubic, -8.9995),
        ("d-3", diamond, -8.999),
        ("f", fcc, -5.0),
        ("b", bcc, -5.5),
    ]
    write_res(
        directory,
        [
            res_from_atoms(a, n, enthalpy=e * len(a), pressure=0.5, copies=2 if n == "f" else 1)
            for n, a, e in given
        ],
    )
    return directory


def test_table_numbers_files_and_picture(results: Path, tmp_path: Path) -> None:
    best, sheet, page = tmp_path / "best", tmp_path / "sheet.png", tmp_path / "table.md"
    found = json.loads(
        call(str(results), "--json", "--write", str(best), "--picture", str(sheet), "--out", str(page))
    )
    assert (found["considered"], found["compositions"], found["symprec_A"]) == (5, 1, 0.1)
    shown = [
        (e["name"], e["space_group"], e["copies"], round(e["relative_eV_per_atom"], 6))
        for e in found["entries"]
    ]
    assert shown == [("d-1", "Fd-3m", 3, 0), ("b", "Im-3m", 1, 3.5), ("f", "Fm-3m", 2, 4.0)]
    written = {s.name: s for s in read_res(best)}
    assert (written["d-1"].copies, written["d-1"].symmetry, written["d-1"].enthalpy) == (3, "Fd-3m", -18.0)
    assert written["f"].pressure == 0.5
    assert sheet.stat().st_size > 1000
    lines = page.read_text().splitlines()
    assert lines[0].startswith("| rank | name | formula |")
    assert len(lines) == 5
    text = " ".join(call(str(results)).split())
    assert "-9.000 2 C Fd-3m 227 3" in text
    assert "3.500 1 C Im-3m 229 1" in text
    assert "3 shown of 5 structures" in text


def test_options_narrow_and_convert(results: Path, tmp_path: Path) -> None:
    names = [
        row["name"] for row in csv.DictReader(io.StringIO(call(str(results), "--csv", "--within", "3.6")))
    ]
    assert names == ["d-1", "b"]
    every = json.loads(call(str(results), "--json", "--every", "--top", "4"))["entries"]
    assert [e["name"] for e in every] == ["d-1", "d-2", "d-3", "b"]
    pressed = json.loads(call(str(results), "--json", "--pressure", "100"))["entries"]
    volume = bulk("C", "diamond", 3.57).get_volume() / 2
    assert pressed[0]["enthalpy_eV_per_atom"] == pytest.approx(-9.0 + 100 / GPA * volume)
    assert pressed[0]["pressure_GPa"] == 100.5
    out = tmp_path / "best.extxyz"
    call(str(results), "--top", "1", "--write", str(out))
    (image,) = read(out, index=":")
    assert (image.info["name"], image.info["copies"], image.info["enthalpy_eV"]) == ("d-1", 3, -18.0)
    assert "Fd-3m 227 3" in " ".join(call(str(results), "--per-formula", "--best-per-composition").split())
    labelled = bulk("C", "diamond", 3.57)
    labelled.info["REF_energy"] = -17.5
    write(tmp_path / "labelled.extxyz", labelled, format="extxyz")
    both = json.loads(call(str(results), str(tmp_path / "labelled.extxyz"), "--json"))["entries"]
    assert [(e["search"], e["copies"]) for e in both] == [
        ("results", 3),
        ("labelled.extxyz", 1),
        ("results", 1),
        ("results", 2),
    ]
    assert np.isclose(both[1]["relative_eV_per_atom"], 0.25)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("results", "--component", "hot"), "components and generations are those of a campaign"),
        (("a b/c",), "is no file here, and no campaign"),
        (("results", "--write", "best.cif"), "--write best.cif: structures are written as"),
        (("results", "--out", "best.txt"), "--out best.txt: the name must end in .csv, .json, .html or .md"),
        (("results", "--json", "--csv"), "exclude each other"),
        (("plain.extxyz",), "has no REF_energy"),
    ],
)
def test_what_is_refused(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert results.is_dir()
    write(tmp_path / "plain.extxyz", bulk("C"), format="extxyz")
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        call(*words)
