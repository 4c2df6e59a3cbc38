"""What pw.x writes and reads: recorded outputs of 6.7 (shortened), inputs, and the choice of pseudopotentials."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.errors import MissingEngineError
from gapfactory.reference.engines._espresso_pseudo import Pseudopotential, find_pseudopotential
from gapfactory.reference.engines.espresso import BOHR, HARTREE, EspressoEngine, EspressoSettings, _symmetries
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault
from gapfactory.reference.site import ProgramSite

DATA = Path(__file__).parent / "data" / "espresso"

VERSION_2 = """<UPF version="2.0.1">
<PP_HEADER generated="" element="{element}" pseudo_type="NC" has_so="{so}" functional="{functional}"
   z_valence="4.000000000000e0" wfc_cutoff="0.0"/>
"""
VERSION_1 = """<PP_HEADER>
   0                   Version Number
  Si                   Element
   NC                  Norm - Conserving pseudopotential
    F                  Nonlinear Core Correction
 SLA  PW   PBX  PBC    PBE  Exchange-Correlation functional
    4.00000000000      Z valence
</PP_HEADER>
"""


def made(directory, name, functional="PBE", element="Si", so="false"):
    text = VERSION_2.format(element=element, functional=functional, so=so)
    (directory / name).write_text(text)


@pytest.fixture
def pseudo(tmp_path):
    directory = tmp_path / "collection"
    directory.mkdir()
    made(directory, "Si.pbe.UPF")
    return directory


@pytest.fixture
def engine(pseudo):
    return EspressoEngine(EspressoSettings(), ProgramSite(pseudopotentials=pseudo))


def ended(tmp_path, name):
    """Return the directory of an attempt with a recorded output."""
    here = tmp_path / name
    here.mkdir()
    source = DATA / f"{name}.txt"
    shutil.copyfile(source, here / ("stderr.txt" if name == "memory" else "stdout.txt"))
    return here


@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        ("s_matrix", Fault.DIAGONALISER, "cdiaghg: S matrix not positive definite"),
        ("bands", Fault.DIAGONALISER, "c_bands: too many bands are not converged"),
        ("charge", Fault.SCF, "electrons: charge is wrong"),
        ("not_converged", Fault.SCF, "convergence NOT achieved after 3 iterations"),
        ("lattice_vector", Fault.OVERLAP, "atoms # 1 and # 2 differ by lattice vector"),
        ("same_place", Fault.OVERLAP, "atoms # 1 and # 2 overlap"),
        ("sticks", Fault.GRID, "fft_type_set: inconsistent number of sticks"),
        ("r_vectors", Fault.GRID, "rgen: too many r-vectors"),
        ("too_many_bands", Fault.INPUT, "more bands than PWs"),
        ("keyword", Fault.INPUT, 'bad line in namelist &electrons: " nonsense=3"'),
    ],
)
def test_recorded_faults_are_recognised(engine, tmp_path, name, fault, words):
    found = engine.diagnose(ended(tmp_path, name), 1)
    assert found is not None
    assert found.fault is fault
    assert words in found.text
    assert found.hopeless == (fault in {Fault.OVERLAP, Fault.INPUT})


def test_an_unknown_error_is_quoted(engine, tmp_path):
    (tmp_path / "stdout.txt").write_text(
        (DATA / "bands.txt").read_text().replace("too many bands are not converged", "something else")
    )
    found = engine.diagnose(tmp_path, 1)
    assert found == Diagnosis(Fault.CRASH, "pw.x stopped in c_bands: something else")


def finished(tmp_path):
    here = ended(tmp_path, "finished")
    (here / "out").mkdir()
    shutil.copyfile(DATA / "finished.xml", here / "out" / "pw.xml")
    return here


def test_warnings_of_a_finished_run_are_no_faults(engine, tmp_path):
    here = finished(tmp_path)
    text = (here / "stdout.txt").read_text()
    warned = text.replace(
        "     number of atoms",
        "     Not a group! Trying with lower acceptance parameter...\n     number of atoms",
    )
    (here / "stderr.txt").write_text("PMIX ERROR: OUT-OF-RESOURCE in file dstore_segment.c at line 196\n")
    (here / "stdout.txt").write_text(warned)
    assert engine.diagnose(here, 0) is None
    # the same words of a run that ended early
    (here / "stdout.txt").write_text(warned.replace("JOB DONE.", ""))
    assert engine.diagnose(here, 0).fault is Fault.SYMMETRY
    (here / "stdout.txt").write_text("     file ./pseudo/Si.UPF not found, trying another\n" + warned)
    assert engine.diagnose(here, 0).fault is Fault.SCRATCH


def recorded():
    return Atoms(
        "Si2",
        positions=[[0, 0, 0], [1.45, 1.3, 1.5]],
        cell=[[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]],
        pbc=True,
    )


def test_results_are_read_in_full(engine, tmp_path):
    raw = engine.read(recorded(), finished(tmp_path))
    assert raw.energy == pytest.approx(-19.67584802 * HARTREE / 2, abs=2e-7)
    # as printed, in Ry/Bohr
    printed = np.array([0.09896812, -0.07395801, 0.13325810]) * HARTREE / 2 / BOHR
    np.testing.assert_allclose(raw.forces, [printed, -printed], atol=1e-6)
    assert raw.stress.shape == (3, 3)
    np.testing.assert_allclose(raw.echo.positions, recorded().positions, atol=1e-9)
    np.testing.assert_allclose(raw.echo.cell.array, recorded().cell.array, atol=1e-9)
    assert raw.details["iterations"] == 8
    assert raw.details["magnetic_moment"] == 0.0
    # the free energy is the lower one
    assert raw.details["energy_extrapolated"] > raw.energy
    energies = engine.iterations(tmp_path / "finished")
    assert len(energies) == 8
    assert energies[-1] == pytest.approx(raw.energy, abs=1e-6)


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("stdout.txt", "JOB DONE", "", Fault.UNKNOWN),
        ("out/pw.xml", "<convergence_achieved>true", "<convergence_achieved>false", Fault.SCF),
        ("out/pw.xml", "</stress>", "", Fault.UNKNOWN),
        ("out/pw.xml", "etot>", "other>", Fault.UNKNOWN),
    ],
)
def test_incomplete_results_are_none(engine, tmp_path, file, old, new, fault):
    here = finished(tmp_path)
    text = (here / file).read_text()
    assert old in text
    (here / file).write_text(text.replace(old, new))
    with pytest.raises(CalculationFailedError) as caught:
        engine.read(recorded(), here)
    assert caught.value.fault is fault


def test_input_has_every_digit(engine, tmp_path):
    atoms = bulk("Si", a=5.4 + 1e-13)
    atoms.positions[1] += 1 / 3
    engine.write(atoms, tmp_path, {"mixing_beta": 0.3, "iterations": 2.0, "noinv": True}, checkpoint=None)
    text = (tmp_path / "pw.in").read_text()
    lines = text.splitlines()
    start = lines.index("CELL_PARAMETERS angstrom") + 1
    assert (
        np.array([line.split() for line in lines[start : start + 3]], float).tolist() == atoms.cell.tolist()
    )
    start = lines.index("ATOMIC_POSITIONS angstrom") + 1
    written = [[float(x) for x in line.split()[1:]] for line in lines[start : start + 2]]
    assert written == atoms.positions.tolist()
    for expected in ("mixing_beta = 0.3", "electron_maxstep = 240", "noinv = .true.", "nspin"):
        assert (expected in text) == (expected != "nspin")
    assert " ".join(map(str, engine.grid(atoms))) + " 0 0 0" in text
    assert engine.arguments(tmp_path) == ["-in", "pw.in"]
    assert (tmp_path / "pseudo" / "Si.pbe.UPF").read_text()


def test_isolated_structures_get_spin(engine, tmp_path):
    for name, atoms in (("atom", Atoms("Si")), ("dimer", Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]]))):
        (tmp_path / name).mkdir()
        engine.write(atoms, tmp_path / name, {}, checkpoint=None)
        text = (tmp_path / name / "pw.in").read_text()
        assert "K_POINTS gamma" in text
        assert "starting_magnetization(1) = 0.5" in text
        assert ("tot_magnetization = 2" in text) == (name == "atom")
        assert "tstress = .false." in text


@pytest.mark.parametrize(
    ("atoms", "order"),
    [
        (bulk("Si"), 48),
        (bulk("Si", cubic=True), 48),
        (bulk("Mg"), 24),
        # no inversion: time reversal doubles
        (bulk("GaAs", "zincblende", a=5.6), 48),
    ],
)
def test_symmetry_limits_the_pools(engine, atoms, order):
    assert _symmetries(atoms) == order
    atoms.rattle(0.1, seed=1)
    if len(atoms) > 2:
        assert _symmetries(atoms) == 2
    site = engine.site.model_copy(update={"launcher": ("mpirun", "-n", "{processes}"), "processes": 6})
    parallel = EspressoEngine(engine.settings, site)
    assert parallel._parallel(bulk("Si"), (4, 4, 4), {}) == ["-nk", "2", "-ndiag", "1"]
    assert parallel._parallel(bulk("Si"), (4, 4, 4), {"nosym": True}) == ["-nk", "6", "-ndiag", "1"]
    assert parallel._parallel(bulk("Si"), (4, 4, 4), {"nosym": True, "pools": 1})[1] == "1"


def test_pools_are_given_up_where_memory_is_short(engine, tmp_path):
    site = engine.site.model_copy(update={"launcher": ("mpirun",), "processes": 2})
    parallel = EspressoEngine(engine.settings, site)
    atoms = bulk("Si")
    atoms.positions[1] += [0.1, 0.0, 0.05]
    (tmp_path / "one").mkdir()
    parallel.write(atoms, tmp_path / "one", {}, checkpoint=None)
    assert parallel.arguments(tmp_path / "one")[2:4] == ["-nk", "2"]
    proposed = parallel.propose(Diagnosis(Fault.MEMORY, ""), tmp_path / "one")
    (tmp_path / "two").mkdir()
    parallel.write(atoms, tmp_path / "two", proposed.numerics, checkpoint=None)
    assert parallel.arguments(tmp_path / "two")[2:4] == ["-nk", "1"]
    assert parallel.propose(Diagnosis(Fault.MEMORY, ""), tmp_path / "two") is None


# ---- pseudopotentials -----------------------------------------------------------------------------------------


def test_the_only_file_for_element_and_functional_is_taken(pseudo):
    made(pseudo, "Si.pz.UPF", " SLA  PZ   NOGX NOGC")
    made(pseudo, "Si.rel-pbe.UPF", so="true")
    made(pseudo, "S.pbe.UPF", element="S")
    (pseudo / "Si.other.UPF").write_text("no header")
    found = find_pseudopotential("Si", "PBE", pseudo, {})
    assert (found.path.name, found.valence, found.functional) == ("Si.pbe.UPF", 4.0, "PBE")
    assert find_pseudopotential("Si", "LDA", pseudo, {}).path.name == "Si.pz.UPF"


def test_old_headers_are_read(tmp_path):
    (tmp_path / "Si.UPF").write_text(VERSION_1)
    found = Pseudopotential.read(tmp_path / "Si.UPF")
    assert (found.element, found.functional, found.valence) == ("Si", "SLA PW PBX PBC", 4.0)
    assert found.suits("PBE")
    assert not found.suits("PBEsol")


def test_several_files_are_listed(pseudo):
    made(pseudo, "Si.pbe-2.UPF", " SLA  PW   PBX  PBC")
    with pytest.raises(MissingEngineError, match=r"several .*Si\.pbe-2\.UPF, Si\.pbe\.UPF.*Choose one"):
        find_pseudopotential("Si", "PBE", pseudo, {})
    assert find_pseudopotential("Si", "PBE", pseudo, {"Si": "Si.pbe-2.UPF"}).suits("PBE")
    # Debian's collection has several for most elements
    made(pseudo, "Si.pbe-nl-rrkjus_psl.1.0.0.UPF")
    assert find_pseudopotential("Si", "PBE", pseudo, {}).path.name == "Si.pbe-nl-rrkjus_psl.1.0.0.UPF"


@pytest.mark.parametrize(
    ("symbol", "xc", "chosen", "words"),
    [
        ("Ge", "PBE", {}, "no pseudopotential of Ge for PBE"),
        ("Si", "PBEsol", {}, r"no pseudopotential of Si for PBEsol.*Si\.pbe\.UPF \(PBE\)"),
        ("Si", "PBEsol", {"Si": "Si.pbe.UPF"}, "functional PBE, the settings ask for PBEsol"),
        ("Si", "PBE", {"Si": "none.UPF"}, "is not in"),
        ("Ge", "PBE", {"Ge": "Si.pbe.UPF"}, "a pseudopotential of Si, the settings choose it for Ge"),
        ("Si", "PBE", {"Si": "Si.rel.UPF"}, "spin-orbit"),
    ],
)
def test_what_does_not_fit_is_refused(pseudo, symbol, xc, chosen, words):
    made(pseudo, "Si.rel.UPF", so="T")
    with pytest.raises(MissingEngineError, match=words):
        find_pseudopotential(symbol, xc, pseudo, chosen)


def test_a_missing_directory_is_said(tmp_path):
    engine = EspressoEngine(EspressoSettings(), ProgramSite(pseudopotentials=tmp_path / "none"))
    with pytest.raises(MissingEngineError, match="no directory"):
        engine.require(["Si"])
