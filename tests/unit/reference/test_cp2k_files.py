"""CP2K's inputs as text, and outputs that CP2K 2023.1 really wrote (shortened)."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from gapfactory.errors import MissingEngineError
from gapfactory.reference.engines._cp2k_data import data_directory, find_entry
from gapfactory.reference.engines._cp2k_text import abort_message, printed_forces, scf_energies, section_text
from gapfactory.reference.engines.cp2k import Cp2kEngine, Cp2kSettings, _half_of
from gapfactory.reference.faults import CalculationFailedError, Fault
from gapfactory.reference.kpoints import kpoint_grid
from gapfactory.reference.site import ProgramSite

DATA = Path(__file__).parent / "data" / "cp2k"

BASIS = """# comment
 Si SZV-TEST SZV-TEST-q4
  1
  2  0  1  2  1  1
      1.0  0.5  0.5
      0.3  0.5  0.5
#
C  SZV-TEST
  1
  2  0  0  1  1
      1.0  0.5
"""
POTENTIAL = """Si GTH-PBE-q4 GTH-PBE
    2    2
     0.44000000    1    -6.26928833
    2
     0.43563383    2     8.95174150    -2.70627082
                                        3.49378060
     0.49794218    1     2.43127673
#
C GTH-PBE-q4 GTH-PBE
    2    2
     0.33847124    2    -8.80367398     1.33921085
    1
     0.30257575    1     9.62248665
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setattr(Cp2kEngine, "asked_version", lambda *_: " CP2K version 2023.1\n")
    data = tmp_path / "data"
    data.mkdir()
    (data / "BASIS").write_text(BASIS)
    (data / "POTENTIALS").write_text(POTENTIAL)
    settings = Cp2kSettings(
        basis="SZV-TEST", basis_files=("BASIS",), potential_files=("POTENTIALS",), kpoint_grid=(2, 2, 2)
    )
    return Cp2kEngine(settings, ProgramSite(pseudopotentials=data))


def test_a_program_that_does_not_start_is_no_fault_of_a_structure(engine, monkeypatch):
    said = "cp2k.psmp: error while loading shared libraries: libxc.so.9: cannot open shared object file"
    monkeypatch.setattr(Cp2kEngine, "asked_version", lambda *_: said)
    monkeypatch.setattr(Cp2kEngine, "program", lambda _: ["cp2k.psmp"])
    with pytest.raises(MissingEngineError, match=r"libxc\.so\.9"):
        engine.version()


@pytest.fixture
def recorded(tmp_path):
    def place(name):
        here = tmp_path / name
        here.mkdir()
        (here / "stdout.txt").write_text((DATA / f"{name}.txt").read_text())
        return here

    return place


def written(engine, atoms, tmp_path, **numerics):
    here = tmp_path / "run"
    here.mkdir()
    engine.write(atoms, here, numerics, checkpoint=None)
    return (here / "cp2k.inp").read_text()


def test_sections_nest_and_repeat():
    text = section_text(
        {"A": {"": "ON", "B": [1, True], "C": None, "D": [{"E": (0.5, 2)}, {"*": [("Si", 1.0)]}]}}
    )
    assert text == "&A ON\n  B 1\n  B T\n  &D\n    E 0.5 2\n  &END D\n  &D\n    Si 1.0\n  &END D\n&END A\n"


@pytest.mark.parametrize("grid", [(1, 1, 2), (2, 2, 2), (3, 2, 4), (5, 5, 1)])
def test_half_of_a_grid_stands_for_all_of_it(grid):
    points = _half_of(grid)
    assert sum(points.values()) == np.prod(grid)
    assert points[(Fraction(0),) * 3] == 1
    both = {tuple(x % 1 for x in p) for p in points} | {tuple(-x % 1 for x in p) for p in points}
    assert len(both) == np.prod(grid)
    assert all(Fraction(-1, 2) < x <= Fraction(1, 2) for p in points for x in p)


def test_input_of_a_crystal(engine, tmp_path):
    atoms = Atoms("SiCSi", positions=[[0, 0, 0], [1.5, 1.5, 1.5], [0.1, 2, 3]], cell=[4, 4, 5], pbc=True)
    text = written(engine, atoms, tmp_path, precision=1e-12, mixing=1, iterations=2.0)
    symbols = [
        line.split()[0]
        for line in text.split("&COORD")[1].split("&END COORD")[0].splitlines()
        if line.strip()
    ]
    assert symbols == ["Si", "C", "Si"]
    for line in (
        *(
            "SCHEME GENERAL",
            "EPS_DEFAULT 1e-12",
            "MAX_SCF 240",
            "STRESS_TENSOR ANALYTICAL",
            "SCF_GUESS ATOMIC",
        ),
        *("ALPHA 0.1", "NBROYDEN 16", "WALLTIME 1800"),
    ):
        assert f"  {line}\n" in text
    assert "LSD" not in text
    assert (tmp_path / "run" / "potentials.txt").read_text().count("GTH-PBE-q4") == 2
    cutoff = next(line.split()[1] for line in text.splitlines() if line.split()[:1] == ["CUTOFF"])
    assert float(cutoff) == pytest.approx(4000 / 13.605693, abs=1e-4)


def test_spin_of_isolated_structures(engine, tmp_path):
    text = written(engine, Atoms("Si", cell=[20.0] * 3), tmp_path)
    assert "MULTIPLICITY 3\n" in text
    assert "FIXED_MAGNETIC_MOMENT 2.0\n" in text
    assert "KPOINTS" not in text
    assert "STRESS_TENSOR ANALYTICAL" not in text
    (tmp_path / "run").rename(tmp_path / "atom")
    text = written(engine, Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]]), tmp_path)
    assert "MULTIPLICITY 5\n" in text
    assert "FIXED_MAGNETIC_MOMENT" not in text


def test_a_checkpoint_is_copied_and_named(engine, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for directory in (before, after):
        directory.mkdir()
    (before / "label-RESTART.kp").touch()
    assert not engine.has_checkpoint(before)
    (before / "label-RESTART.kp").write_text("x")
    assert engine.has_checkpoint(before)
    engine.write(bulk("Si"), after, {}, checkpoint=before)
    text = (after / "cp2k.inp").read_text()
    assert "WFN_RESTART_FILE_NAME continued.kp\n" in text
    assert "SCF_GUESS RESTART\n" in text
    assert (after / "continued.kp").read_text() == "x"


def test_what_a_finished_crystal_says(engine, recorded):
    atoms = bulk("Si", a=5.4)
    atoms.positions[1] += [0.10, -0.05, 0.15]
    raw = engine.read(atoms, recorded("crystal"))
    assert raw.energy == pytest.approx(-7.709835538106668 * 27.211386245988, abs=1e-9)
    assert raw.details["energy_extrapolated"] == pytest.approx(
        raw.energy + 0.5 * 2.885642e-5 * 27.2114, abs=1e-7
    )
    assert raw.forces[0, 2] == pytest.approx(0.071683526439 * 51.422067, abs=1e-6)
    assert raw.stress[0, 0] == pytest.approx(-18.7004967666 / 160.2176634, abs=1e-9)
    assert raw.stress[0, 1] == raw.stress[1, 0] > 0
    assert raw.details["iterations"] == 8
    np.testing.assert_allclose(raw.echo.cell.array, atoms.cell.array, atol=1e-5)
    np.testing.assert_allclose(raw.echo.positions, atoms.positions, atol=1e-7)


def test_what_a_finished_dimer_says(engine, recorded):
    raw = engine.read(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]]), recorded("dimer"))
    assert raw.stress is None
    assert raw.details["magnetic_moment"] == pytest.approx(2.0, abs=0.01)
    assert raw.details["iterations"] > 8


def test_faults_are_told_apart(engine, recorded):
    for name, fault, words in (
        ("not-converged", Fault.SCF, "NOT converged"),
        ("cholesky", Fault.DIAGONALISER, "not positive definite or ill-conditioned"),
        ("stopped", Fault.UNKNOWN, "asked"),
    ):
        here = recorded(name)
        found = engine.diagnose(here, 0)
        assert found.fault is fault
        assert words in found.text
        assert len(engine.iterations(here)) == {"not-converged": 10, "cholesky": 0, "stopped": 1}[name]
        with pytest.raises(CalculationFailedError, match="before its results are complete"):
            engine.read(bulk("Si"), here)


def test_message_of_an_unknown_abort_is_kept(engine, tmp_path):
    text = (DATA / "cholesky.txt").read_text().replace("Cholesky decompose failed", "Something else happened")
    (tmp_path / "stdout.txt").write_text(text)
    found = engine.diagnose(tmp_path, 1)
    assert found.fault is Fault.CRASH
    assert abort_message(text) in found.text
    assert abort_message("all is well") == ""


def test_forces_of_later_versions():
    # as the source of 2025.1 and later writes them; not recorded
    text = (
        " FORCES| Atomic forces [hartree/bohr]\n FORCES|   Atom     x    y    z    |f|\n"
        " FORCES|      1     1.000000E-01  -2.000000E-01   3.000000E-01    3.741657E-01\n"
        " FORCES| Sum        1.000000E-01  -2.000000E-01   3.000000E-01\n"
    )
    assert printed_forces(text, 1).tolist() == [[0.1, -0.2, 0.3]]
    assert printed_forces(text, 2) is None


def test_iterations_of_every_method():
    text = (
        "     2 Kerker/Diag.0.50E-01    0.2     0.00014886        -7.8649989070 -5.78E-02\n"
        "     8 DIIS/Diag.  0.13E-02    0.5     0.05269291        -7.6562093181 -7.48E-04\n"
        "     9 P_Mix/Diag. 0.30E+00    0.5     0.58643428               NaN NaN\n"
    )
    assert scf_energies(text)[:2] == (-7.864998907, -7.6562093181)
    assert np.isnan(scf_energies(text)[2])


def test_data_are_found_by_name_and_hashed(engine, tmp_path):
    data = tmp_path / "data"
    entry = find_entry(data, ["BASIS"], "Si", "szv-test", what="basis set")
    assert entry.names == ("SZV-TEST", "SZV-TEST-q4")
    assert len(entry.lines) == 5
    hashes = engine.data_hashes(["Si", "C", "Si"])
    assert sorted(hashes) == ["C", "Si"]
    (data / "POTENTIALS").write_text(POTENTIAL.replace("2.43127673", "2.43127674"))
    assert engine.data_hashes(["Si"])["Si"] != hashes["Si"]
    with pytest.raises(MissingEngineError, match=r"no basis set TZVP for Si in BASIS.*there are SZV-TEST-q4"):
        find_entry(data, ["BASIS"], "Si", "TZVP", what="basis set")
    with pytest.raises(MissingEngineError, match="none for this element"):
        find_entry(data, ["POTENTIALS"], "Og", "GTH-PBE", what="pseudopotential")
    with pytest.raises(MissingEngineError, match="NOTHING"):
        find_entry(data, ["NOTHING"], "Si", "GTH-PBE", what="pseudopotential")
    with pytest.raises(MissingEngineError, match="cp2k-data"):
        data_directory(tmp_path / "nowhere", "")


def test_unknown_functional_is_refused():
    with pytest.raises(ValidationError, match="knows PBE, PBEsol"):
        Cp2kSettings(xc="B3LYP")


def test_default_grid_contains_gamma_and_follows_the_density(engine):
    settings = Cp2kSettings()
    atoms = bulk("Si")
    assert Cp2kEngine(settings, ProgramSite()).grid(atoms) == kpoint_grid(atoms, settings.kpoint_density)
