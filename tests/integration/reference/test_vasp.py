"""VASP's recovery through custodian, step by step, with recorded outputs replayed by a stand-in for the program."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.io import read as ase_read

from gapfactory.reference import label_structures
from gapfactory.reference.engines.vasp import VaspEngine, VaspSettings
from gapfactory.reference.faults import Fault, MachineFaultError
from gapfactory.reference.recovery import run_program
from gapfactory.reference.site import ProgramSite

REPLAY = Path(__file__).with_name("gf_replay.py")
RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "vasp"
ELSEWHERE = os.environ.get("GAPFACTORY_RECORDED")
elsewhere = pytest.mark.skipif(
    not ELSEWHERE, reason="GAPFACTORY_RECORDED names no checkouts (see tests/data/recorded/README.md)"
)
CUSTODIAN = Path(ELSEWHERE or ".") / "custodian" / "tests" / "files"

CONVERGED = "-------- aborting loop because EDIFF is reached ----------\n"
UNCONVERGED = "-------- aborting loop EDIFF was not reached (unconverged)  --------\n"
OSZICAR = "DAV:   1    -0.2024E+02   -0.2E+02   -0.1E+03  8192   0.3E+01\n"

#: a finished run: VASP 6.3's own file, of diamond
FINISHED = {
    "copy": {
        "vasprun.xml": str(RECORDED / "vasprun_pstress.xml"),
        "OUTCAR": str(RECORDED / "convergence_OUTCAR_n_y"),
    },
    "text": {"OSZICAR": OSZICAR},
}
#: a run that used up its iterations; the file of VASP 6 says so
EXHAUSTED = {
    "copy": {
        "vasprun.xml": str(RECORDED / "vasprun_pstress.xml"),
        "OUTCAR": str(RECORDED / "convergence_OUTCAR_y_n"),
    },
    "text": {"OSZICAR": OSZICAR},
}


@pytest.fixture
def diamond():
    atoms = ase_read(RECORDED / "vasprun_pstress.xml")
    # what the file's numbers are, under the reader's own name
    atoms.info["recorded"] = atoms.calc.results["free_energy"]
    atoms.calc = None
    return atoms


@pytest.fixture
def replay(tmp_path):
    """Return a function from attempts to (engine, directory of the label, directory of the plan)."""

    def prepare(*attempts, settings=None, **site):
        for folder in ("potpaw_PBE/C", "potpaw_PBE/Si"):
            path = tmp_path / "sets" / folder
            path.mkdir(parents=True, exist_ok=True)
            (path / "POTCAR").write_text(f"   VRHFIN ={path.name}: s2p2\n")
        plan = tmp_path / "plan.json"
        plan.write_text(json.dumps({"attempts": attempts}))
        where = ProgramSite(
            command=(sys.executable, str(REPLAY), str(plan)),
            pseudopotentials=tmp_path / "sets",
            pause_s=0.05,
            **site,
        )
        return VaspEngine(settings or VaspSettings(), where), tmp_path / "label"

    return prepare


def started(tmp_path, number):
    """Return INCAR's tags as the program found them at its n-th start."""
    text = (tmp_path / f"started-{number:02d}" / "INCAR").read_text()
    return dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))


def without_custodians_handlers(monkeypatch):
    """Do as if pymatgen were not installed."""
    monkeypatch.setitem(sys.modules, "custodian.vasp.handlers", None)


def check(calculation, diamond):
    assert calculation.raw is not None, calculation.diagnosis
    assert calculation.raw.energy == diamond.info["recorded"]
    np.testing.assert_allclose(calculation.raw.forces, 0, atol=1e-6)
    assert calculation.raw.stress is not None
    assert calculation.factors == {}


def remedies(calculation):
    return [attempt.remedy for attempt in calculation.attempts]


def test_plain(replay, tmp_path, diamond):
    engine, label = replay(FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert remedies(done) == ["plain"]
    assert done.raw.details["program_version"] == "6.3.0"
    assert started(tmp_path, 1)["ALGO"] == "Normal"


def test_exhausted_iterations_climb_the_own_ladder(replay, tmp_path, diamond, monkeypatch):
    without_custodians_handlers(monkeypatch)
    engine, label = replay(EXHAUSTED, EXHAUSTED, FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    own = [r.name for r in VaspEngine.ladder if Fault.SCF in r.faults]
    assert remedies(done) == ["plain", *own[:2]]
    assert "EDIFF was not reached" in done.attempts[0].fault
    second, third = started(tmp_path, 2), started(tmp_path, 3)
    assert (second["ALGO"], second["AMIX"], second["NELM"]) == ("Normal", "0.1", "200")
    assert (third["ALGO"], third["AMIX"], third["NELM"]) == ("All", "0.1", "300")
    # what decides the energy is the same in every attempt
    first = started(tmp_path, 1)
    for tag in ("ENCUT", "ISMEAR", "SIGMA", "GGA", "PREC", "LREAL", "EDIFF"):
        assert first[tag] == second[tag] == third[tag]
    grids = {(tmp_path / f"started-0{n}" / "KPOINTS").read_text() for n in (1, 2, 3)}
    assert len(grids) == 1


def test_end_of_the_ladder_is_quarantine_with_the_cause(replay, diamond, monkeypatch):
    without_custodians_handlers(monkeypatch)
    engine, label = replay(*[EXHAUSTED] * 8)
    done = run_program(engine, diamond, label)
    assert done.raw is None
    assert done.diagnosis.fault is Fault.SCF
    assert "EDIFF was not reached" in done.diagnosis.text
    assert "not tried because it changes the energy: smearing doubled" in done.diagnosis.text
    assert {"INCAR", "KPOINTS", "POSCAR", "OSZICAR", "OUTCAR"} <= set(done.files)
    assert "POTCAR" not in done.files


def test_smearing_is_doubled_only_when_allowed(replay, tmp_path, diamond, monkeypatch):
    without_custodians_handlers(monkeypatch)
    rungs = sum(Fault.SCF in r.faults for r in VaspEngine.ladder)
    engine, label = replay(*[EXHAUSTED] * rungs, FINISHED, settings=VaspSettings(allow_energy_changes=True))
    done = run_program(engine, diamond, label)
    assert done.raw is not None
    assert done.factors == {"smearing_width_eV": 2.0}
    assert started(tmp_path, rungs + 1)["SIGMA"] == "0.2"


@pytest.mark.parametrize(
    ("words", "fault", "changed"),
    [
        # words of recorded runs; the rest of those outputs is in the tests that need the recordings themselves
        ("Error EDDDAV: Call to ZHEGV failed. Returncode =   7 1   8", Fault.DIAGONALISER, {"ALGO": "All"}),
        (" VERY BAD NEWS! internal error in subroutine IBZKPT:", Fault.SYMMETRY, {"SYMPREC": "1e-06"}),
        (" Fatal error: unable to match k-point!       0", Fault.GRID, {"ISYM": "0"}),
        ("DAV:   7            NaN            NaN", Fault.NAN, {"ALGO": "Normal"}),
        (" LAPACK: Routine ZPOTRF failed!           1 ", Fault.DIAGONALISER, {"ALGO": "All"}),
    ],
)
def test_words_of_failures_lead_to_the_label(replay, tmp_path, diamond, monkeypatch, words, fault, changed):
    without_custodians_handlers(monkeypatch)
    engine, label = replay({"stdout": words, "status": 1}, FINISHED, FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert done.attempts[0].fault.startswith(fault.value)
    if fault is not Fault.NAN:  # numbers that are no numbers may come from outside: first once more unchanged
        assert {tag: started(tmp_path, 2)[tag] for tag in changed} == changed
    else:
        assert remedies(done)[1] == "repeated unchanged"


def test_more_bands_where_there_are_too_few(replay, tmp_path, diamond):
    few = {**FINISHED, "stdout": "you have included TOO FEW BANDS!! Please increase"}
    few = {**few, "text": {"OUTCAR": f"  number of bands    NBANDS=      8\n{CONVERGED}"}}
    few["copy"] = {"vasprun.xml": FINISHED["copy"]["vasprun.xml"]}
    engine, label = replay(few, FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert remedies(done) == ["plain", "12 bands instead of 8"]
    assert started(tmp_path, 2)["NBANDS"] == "12"


def test_crash_is_repeated_unchanged(replay, tmp_path, diamond):
    engine, label = replay({"signal": signal.SIGSEGV}, FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert remedies(done) == ["plain", "repeated unchanged"]
    assert started(tmp_path, 1) == started(tmp_path, 2)


def test_truncated_results_are_repeated(replay, diamond, tmp_path):
    whole = (RECORDED / "vasprun_pstress.xml").read_text()
    cut = {"text": {"vasprun.xml": whole[: whole.index('<varray name="forces"')], "OUTCAR": CONVERGED}}
    engine, label = replay(cut, FINISHED)
    check(run_program(engine, diamond, label), diamond)


def test_another_structure_in_the_output_is_no_label(replay, diamond):
    diamond.positions[1] += 0.01
    engine, label = replay(FINISHED, FINISHED, settings=VaspSettings(max_attempts=2))
    done = run_program(engine, diamond, label)
    assert done.diagnosis.fault is Fault.UNSOUND
    assert "from where it was sent" in done.diagnosis.text


def test_wrong_input_is_hopeless(replay, diamond):
    engine, label = replay({"stdout": "|     Error reading item EFERMI from file INCAR.   |", "status": 1})
    done = run_program(engine, diamond, label)
    assert remedies(done) == ["plain"]
    assert done.diagnosis.fault is Fault.INPUT
    assert "EFERMI" in done.diagnosis.text


@pytest.mark.parametrize("words", ["----- aborting loop because hard stop was set ---\n", UNCONVERGED])
def test_time_limit_stops_softly_and_continues_from_the_wavefunctions(replay, tmp_path, diamond, words):
    slow = {
        "until": "STOPCAR",
        "until_text": "LABORT",
        "after": {"WAVECAR": "waves", "CHGCAR": "density", "OUTCAR": words},
    }
    engine, label = replay(slow, FINISHED, settings=VaspSettings(time_limit_s=1.0), grace_s=20)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert remedies(done) == ["plain", "continued from its checkpoint"]
    assert "time limit" in done.attempts[0].fault
    assert (started(tmp_path, 2)["ISTART"], started(tmp_path, 2)["ICHARG"]) == ("1", "1")
    assert (tmp_path / "started-02" / "WAVECAR").read_text() == "waves"


def test_end_of_the_allocation_hands_the_structure_back(replay, tmp_path, diamond, monkeypatch):
    slow = {"until": "STOPCAR", "after": {"WAVECAR": "waves"}}
    engine, label = replay(slow, FINISHED, stop_before_s=10, grace_s=20)
    monkeypatch.setenv("GAPFACTORY_JOB_END", str(time.time() + 11))
    with pytest.raises(MachineFaultError, match="end of the allocation"):
        run_program(engine, diamond, label)
    monkeypatch.delenv("GAPFACTORY_JOB_END")
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert remedies(done) == ["continued after an interruption"]
    assert started(tmp_path, 2)["ISTART"] == "1"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("forrtl: No space left on device", Fault.DISK),
        ("slurmstepd: error: Detected 1 oom-kill event(s)", Fault.MEMORY),
        ("Operating system error: Cannot allocate memory", Fault.MEMORY),
    ],
)
def test_faults_of_the_machine_blame_no_structure(replay, diamond, words, fault):
    engine, label = replay(*[{"stderr": words, "status": 1}] * 4)
    with pytest.raises(MachineFaultError) as caught:
        run_program(engine, diamond, label)
    assert caught.value.diagnosis.fault is fault


def test_many_labels_one_in_quarantine(replay, tmp_path, diamond, monkeypatch):
    without_custodians_handlers(monkeypatch)
    engine, _ = replay(EXHAUSTED, EXHAUSTED, FINISHED, settings=VaspSettings(max_attempts=2))
    outcomes = label_structures(
        [("bad", diamond), ("good", diamond)], engine.settings, tmp_path / "work", site=engine.site
    )
    assert outcomes[0].label is None
    assert outcomes[0].fault == Fault.SCF.name.lower()
    assert outcomes[1].label.energy == diamond.info["recorded"]
    assert outcomes[1].label.details["iterations"] == 1


# ---- custodian's handlers as advisers -------------------------------------------------------------------------------


def test_custodians_handler_is_asked_first(replay, tmp_path, diamond):
    pytest.importorskip("pymatgen")
    failed = {"stdout": "Error EDDDAV: Call to ZHEGV failed. Returncode =   7 1   8", "status": 1}
    engine, label = replay(failed, FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert remedies(done)[1].startswith("custodian's VaspErrorHandler: ALGO Normal -> All")
    assert started(tmp_path, 2)["ALGO"] == "All"
    assert done.custodian[0]["corrections"][0]["actions"][0]["numerics"]["ALGO"] == "All"


def test_custodians_change_of_the_energy_is_refused_and_told(replay, diamond):
    """BRMIX: the handler's third answer is another k-point grid, which changes the energy."""
    pytest.importorskip("pymatgen")
    failed = {"stdout": "BRMIX: very serious problems", "status": 1}
    engine, label = replay(*[failed] * 8)
    done = run_program(engine, diamond, label)
    assert done.raw is None
    assert done.diagnosis.fault is Fault.SCF
    assert (
        "custodian's VaspErrorHandler: IMIX 1 -> default, another KPOINTS (by KPOINTS)" in done.diagnosis.text
    )
    assert any(name.startswith("custodian's VaspErrorHandler: IMIX default -> 1") for name in remedies(done))


@elsewhere
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("vasp.edddav2", {"ALGO": "All"}),
        ("vasp6.posmap", {"SYMPREC": "1e-06"}),
        ("vasp6.rhosyg", {"SYMPREC": "0.0001"}),
        ("vasp.pricelv", {"SYMPREC": "1e-06"}),
        ("vasp6.inv_rot_mat", {"SYMPREC": "0.0001"}),
        ("vasp6.point_group", {"ISYM": "0"}),
        ("vasp6.bravais", {"SYMPREC": "1e-06"}),
        ("vasp.ksymm", {"SYMPREC": "1e-06"}),
        ("vasp.hnform", {"ISYM": "0"}),
        ("vasp.sgrcon", {"ISYM": "0"}),
        ("zpotrf/vasp.out", {"ISYM": "0"}),
        # no handler has an answer for Fermi-Dirac occupations here: our own ladder goes on
        ("vasp.eddiag", {"ALGO": "All"}),
        ("vasp.pssyevx", {"ALGO": "All"}),
    ],
)
def test_recorded_failures_through_custodians_handlers(replay, tmp_path, diamond, name, changed):
    pytest.importorskip("pymatgen")
    out = (CUSTODIAN / name).read_text()
    engine, label = replay({"stdout": out, "status": 1}, FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    assert {tag: started(tmp_path, 2)[tag] for tag in changed} == changed


@elsewhere
def test_recorded_unconverged_run_through_custodians_handlers(replay, tmp_path, diamond):
    """The file of a run that used up its iterations: the handler reads it with pymatgen, and damps the mixing."""
    pytest.importorskip("pymatgen")
    source = CUSTODIAN / "unconverged" / "vasprun.xml.electronic_normal"
    copy = tmp_path / "vasprun.xml"
    shutil.copyfile(source, copy)
    failed = {"copy": {"vasprun.xml": str(copy)}, "text": {"OUTCAR": UNCONVERGED}}
    engine, label = replay(failed, failed, failed, FINISHED)
    done = run_program(engine, diamond, label)
    check(done, diamond)
    own = [r.name for r in VaspEngine.ladder if Fault.SCF in r.faults]
    assert remedies(done)[1].startswith("custodian's UnconvergedErrorHandler: ")
    # the handler repeats itself, as the recorded file does; then our own ladder, which it may not undo
    assert remedies(done)[2:] == own[:2]
    assert started(tmp_path, 4)["ALGO"] == "All"
