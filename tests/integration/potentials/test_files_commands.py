"""`gapfactory fit`, `evaluate`, `select` and `build`: files in, files out, also where no database can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import chdir
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from typer.testing import CliRunner

from gapfactory.errors import GapFactoryError
from gapfactory.potentials import load_potential
from launchpad.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

#: The command where the service's libraries are not installed.
WITHOUT_DATABASE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pymongo", "bson", "gridfs", "fireworks", "flask"}:
            raise ModuleNotFoundError(name + " is not installed here", name=name)
sys.meta_path.insert(0, Absent())
from launchpad.cli import main
main()
"""
SETTINGS = """
composition: {CuAu: 1}
seed: 7
gap: {soap: {n_sparse: 40, n_max: 4, l_max: 4}, three_body: {enabled: false}}
evidence: {phases: none}
"""
SEED = "#SPECIES=Cu%NUM=2,Au%NUM=2\n#VARVOL=60\n#MINSEP=2.3\n"
NETWORKS = """
composition: {CuAu: 1}
potential: eddp
eddp: {ensemble: {members: 2}, training: {energy_window: 10}}
evidence: {phases: none}
"""


def command(directory: Path, *words: str) -> str:
    """Run the command line in this process; return the text of its error, or nothing."""
    with chdir(directory):
        done = CliRunner().invoke(app, list(words))
    assert isinstance(done.exception, GapFactoryError), done.output
    return str(done.exception)


def answer(directory: Path, *words: str, status: int = 0) -> dict[str, Any]:
    with chdir(directory):
        done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == status, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def labelled(n: int, seed: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True, a=float(rng.uniform(3.6, 4.1)))
        atoms.set_chemical_symbols(rng.choice(["Cu", "Au"], 4).tolist())
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        atoms.info = {"REF_energy": atoms.get_potential_energy(), "config_type": "alloy"}
        atoms.info["REF_stress"] = atoms.get_stress()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        images.append(atoms)
    return images


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with labels, and a potential fitted to them by the command."""
    directory: Path = tmp_path_factory.mktemp("files")
    free = []
    for symbol in ("Cu", "Au"):
        atom = Atoms(symbol, info={"config_type": "isolated_atom"})
        atom.calc = EMT()
        atom.info["REF_energy"] = atom.get_potential_energy()
        atom.calc = None
        free.append(atom)
    write(directory / "train.xyz", [*free, *labelled(40, 1)], format="extxyz")
    write(directory / "test.xyz", labelled(12, 2), format="extxyz")
    (directory / "settings.yaml").write_text(SETTINGS)
    (directory / "networks.yaml").write_text(NETWORKS)
    report = answer(directory, "fit", "train.xyz", "-o", "alloy", "--settings", "settings.yaml")
    assert report["structures"] == 40
    return directory


def test_the_potential_is_good_and_its_files_are_sealed(place: Path) -> None:
    calculator = load_potential(place / "alloy")
    [atoms] = labelled(1, 9)
    expected = atoms.info["REF_energy"]
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=4 * 0.03)
    report = json.loads((place / "alloy" / "report.json").read_text())
    assert report["family"] == "gap"
    assert report["digest"] == json.loads((place / "alloy" / "manifest.json").read_text())["digest"]
    assert report["settings"]["soap"]["n_sparse"] == 40
    again = answer(place, "fit", "train.xyz", "-o", "again", "--settings", "settings.yaml")
    assert again["digest"] == report["digest"]
    assert "is there already" in command(place, "fit", "train.xyz", "-o", "again")


def test_evaluation_writes_what_the_calculator_gives_and_measures_it(place: Path) -> None:
    found = answer(
        place, "evaluate", "alloy", "test.xyz", "-o", "evaluated.extxyz", "--picture", "parity.png"
    )
    images = read(place / "evaluated.extxyz", ":")
    calculator = load_potential(place / "alloy")
    errors = []
    for image, given in zip(images, labelled(12, 2), strict=True):
        assert image.info["REF_energy"] == pytest.approx(given.info["REF_energy"], abs=1e-12)
        given.calc = calculator
        assert image.get_potential_energy() == pytest.approx(given.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(image.get_forces(), given.get_forces(), atol=1e-5)
        np.testing.assert_allclose(image.get_stress(), given.get_stress(), atol=1e-5)
        errors.append((given.get_potential_energy() - given.info["REF_energy"]) / 4)
    [row] = found["errors"]
    assert row["energy_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), abs=1e-6)
    assert row["group"] == "alloy"
    assert (place / "parity.png").stat().st_size > 5000
    # a second evaluation reads the labels, not the predictions beside them
    assert answer(place, "evaluate", "alloy", "evaluated.extxyz")["errors"][0] == pytest.approx(row, abs=1e-5)


def test_what_the_potential_does_not_know_is_refused_by_name(place: Path) -> None:
    images = [*labelled(1, 3), bulk("Al", cubic=True)]
    write(place / "strange.xyz", images, format="extxyz", columns=["symbols", "positions"])
    found = answer(place, "evaluate", "alloy/gap.xml", "strange.xyz", status=1)
    [(name, reason)] = found["refused"].items()
    assert name == "2"
    assert "atomic number 13" in reason
    assert "no potential" in command(place, "evaluate", "nothing", "test.xyz")


def test_networks_are_fitted_too(place: Path) -> None:
    report = answer(place, "fit", "train.xyz", "-o", "networks", "--settings", "networks.yaml")
    assert report["family"] == "eddp"
    assert report["test_errors"]["n_structures"] > 0
    found = answer(place, "evaluate", "networks", "test.xyz", "-o", "spread.extxyz")
    assert found["errors"][0]["structures"] == 12
    assert all(image.info["uncertainty"] >= 0 for image in read(place / "spread.extxyz", ":"))


def test_labels_with_a_wrong_sign_are_not_fitted(place: Path) -> None:
    images = labelled(30, 4)
    for image in images:
        image.arrays["REF_forces"] *= -1
    write(place / "wrong.xyz", images, format="extxyz")
    assert "wrong sign" in command(place, "fit", "wrong.xyz", "-o", "wrong", "--free-atom", "fitted")
    assert not (place / "wrong").exists()


def test_cells_are_built_evaluated_and_selected(place: Path) -> None:
    (place / "CuAu.cell").write_text(SEED)
    assert answer(place, "build", "CuAu.cell", "-n", "12", "-o", "cells.extxyz")["built"] == 12
    refused = command(place, "select", "cells.extxyz", "-n", "4", "--kt", "0.2")
    assert "gapfactory evaluate" in refused
    answer(place, "evaluate", "alloy", "cells.extxyz", "-o", "energies.extxyz")
    found = answer(place, "select", "energies.extxyz", "-n", "4", "--kt", "0.2", "-o", "picked.extxyz")
    names = [image.info["name"] for image in read(place / "picked.extxyz", ":")]
    assert names == found["chosen"]
    assert len(set(names)) == 4
    again = answer(place, "select", "energies.extxyz", "-n", "4", "--kt", "0.2", "-o", "picked.extxyz")
    assert again["chosen"] == found["chosen"]


def test_none_of_them_needs_a_database(place: Path) -> None:
    lines = (
        "build CuAu.cell -n 3 -o few.extxyz",
        "fit train.xyz -o alone --settings settings.yaml",
        "evaluate alone few.extxyz -o few-energies.extxyz",
        "select few-energies.extxyz -n 2 -o two.extxyz",
    )
    (place / "CuAu.cell").write_text(SEED)
    for line in lines:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_DATABASE, *line.split()],
            cwd=place, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(read(place / "two.extxyz", ":")) == 2
