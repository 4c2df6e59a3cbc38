"""CASTEP's recovery through custodian, step by step, with a recorded output replayed by a stand-in for the program."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gapfactory.errors import MissingEngineError
from gapfactory.reference import label_structures
from gapfactory.reference.engines import _castep_files as files
from gapfactory.reference.engines.castep import CastepEngine, CastepSettings
from gapfactory.reference.faults import Fault, MachineFaultError
from gapfactory.reference.recovery import run_program
from gapfactory.reference.site import ProgramSite

REPLAY = Path(__file__).with_name("gf_replay.py")
RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "castep" / "md.castep"
ELSEWHERE = os.environ.get("GAPFACTORY_RECORDED")
elsewhere = pytest.mark.skipif(
    not ELSEWHERE, reason="GAPFACTORY_RECORDED names no checkouts (see tests/data/recorded/README.md)"
)

#: a finished run of CASTEP 23.1: eight atoms of silicon, the last step of two
FINISHED = {"copy": {"label.castep": str(RECORDED)}}
WHOLE = RECORDED.read_text()
#: the same up to its last self-consistency, then the words that public readers of CASTEP's output look for
EXHAUSTED = {
    "text": {
        "label.castep": WHOLE[: WHOLE.rindex("Final energy")]
        + "*Warning* max. SCF cycles performed but system has not reached the groundstate.\n"
        + "Warning: electronic minimisation did not converge when finding ground state.\n"
    },
    "status": 1,
}


@pytest.fixture
def silicon():
    atoms, results = files.output_atoms(RECORDED)
    atoms.info["recorded"] = results["free_energy"]
    return atoms


@pytest.fixture
def replay(tmp_path):
    """Return a function from attempts to (engine, directory of the label)."""

    def prepare(*attempts, settings=None, **site):
        plan = tmp_path / "plan.json"
        plan.write_text(json.dumps({"version": "CASTEP version 23.1", "attempts": attempts}))
        where = ProgramSite(command=(sys.executable, str(REPLAY), str(plan)), pause_s=0.05, **site)
        return CastepEngine(settings or CastepSettings(), where), tmp_path / "label"

    return prepare


def started(tmp_path, number):
    """Return the keywords of .param as the program found them at its n-th start."""
    text = (tmp_path / f"started-{number:02d}" / "label.param").read_text()
    return dict(re.findall(r"^(\w+) : (.*)$", text, re.MULTILINE))


def cell(tmp_path, number):
    return (tmp_path / f"started-{number:02d}" / "label.cell").read_text()


def check(calculation, silicon):
    assert calculation.raw is not None, calculation.diagnosis
    assert calculation.raw.energy == silicon.info["recorded"]
    assert calculation.raw.forces.shape == (8, 3)
    assert np.abs(calculation.raw.stress).max() > 0
    assert calculation.factors == {}


def remedies(calculation):
    return [attempt.remedy for attempt in calculation.attempts]


OWN = [r.name for r in CastepEngine.ladder if Fault.SCF in r.faults]


def test_plain(replay, tmp_path, silicon):
    engine, label = replay(FINISHED)
    assert engine.version() == "23.1"
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert remedies(done) == ["plain"]
    assert (tmp_path / "started-01" / "arguments").read_text() == "label"


def test_a_program_that_is_not_castep_is_told(tmp_path):
    engine = CastepEngine(CastepSettings(), ProgramSite(command=(sys.executable, "-c", "print('hello')")))
    with pytest.raises(MissingEngineError, match="does not tell its version as CASTEP does; it says: hello"):
        engine.info()


def test_exhausted_cycles_climb_the_ladder(replay, tmp_path, silicon):
    engine, label = replay(EXHAUSTED, EXHAUSTED, FINISHED)
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert remedies(done) == ["plain", *OWN[:2]]
    assert "max. SCF cycles" in done.attempts[0].fault
    assert len(done.attempts[0].iterations) > 20
    first, second, third = (started(tmp_path, n) for n in (1, 2, 3))
    assert (first["metals_method"], first["max_scf_cycles"]) == ("dm", "120")
    assert (second["mixing_scheme"], second["mix_charge_amp"], second["max_scf_cycles"]) == (
        "Pulay",
        "0.2",
        "200",
    )
    assert third["metals_method"] == "EDFT"
    for key in ("cut_off_energy", "smearing_width", "smearing_scheme", "xc_functional", "fine_grid_scale"):
        assert first[key] == second[key] == third[key]
    assert cell(tmp_path, 1) == cell(tmp_path, 2) == cell(tmp_path, 3)


def test_end_of_the_ladder_is_quarantine_with_the_cause(replay, silicon):
    engine, label = replay(*[EXHAUSTED] * 8)
    done = run_program(engine, silicon, label)
    assert done.raw is None
    assert remedies(done) == ["plain", *OWN[:-1]]
    assert done.diagnosis.fault is Fault.SCF
    assert "not reached the groundstate" in done.diagnosis.text
    assert "not tried because it changes the energy: smearing doubled" in done.diagnosis.text
    assert {"label.cell", "label.param", "label.castep"} <= set(done.files)


def test_smearing_is_doubled_only_when_allowed(replay, tmp_path, silicon):
    settings = CastepSettings(allow_energy_changes=True)
    engine, label = replay(*[EXHAUSTED] * len(OWN), FINISHED, settings=settings)
    done = run_program(engine, silicon, label)
    assert done.factors == {"smearing_width_eV": 2.0}
    assert started(tmp_path, len(OWN) + 1)["smearing_width"] == "0.2 eV"


def test_missing_empty_bands(replay, tmp_path, silicon):
    words = " Warning: There are no empty bands for at least one kpoint and spin; this may\n"
    few = {"text": {"label.castep": WHOLE.replace("Final energy", words + "Final energy", 1)}}
    engine, label = replay(few, FINISHED)
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert remedies(done) == ["plain", "60 % more bands"]
    assert started(tmp_path, 2)["perc_extra_bands"] == "60"


def test_error_file(replay, tmp_path, silicon):
    # the first line of a recorded .err file
    failed = {"text": {"label.0001.err": "Error with dsytrf in nlpot_prepare_precon_ks\n"}, "status": 1}
    unknown = {"text": {"label.0001.err": "Error in a routine nobody knows\n"}, "status": 1}
    engine, label = replay(failed, unknown, unknown, FINISHED)
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert remedies(done) == [
        *(
            "plain",
            "ensemble density-functional theory",
            "repeated unchanged",
            "no symmetry but time reversal",
        ),
    ]
    assert "dsytrf" in done.attempts[0].fault
    assert done.attempts[1].fault == f"{Fault.CRASH}: Error in a routine nobody knows"
    assert "SYMMETRY_GENERATE" in cell(tmp_path, 3)
    assert "SYMMETRY_GENERATE" not in cell(tmp_path, 4)


def test_crash_is_repeated_unchanged(replay, tmp_path, silicon):
    engine, label = replay({"signal": signal.SIGSEGV}, FINISHED)
    check(run_program(engine, silicon, label), silicon)
    assert started(tmp_path, 1) == started(tmp_path, 2)
    assert cell(tmp_path, 1) == cell(tmp_path, 2)


def test_truncated_output_is_repeated(replay, silicon):
    engine, label = replay({"text": {"label.castep": WHOLE[: int(0.8 * len(WHOLE))]}}, FINISHED)
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert done.attempts[0].fault


def test_another_structure_in_the_output_is_no_label(replay, silicon):
    silicon.positions[1] += 0.01
    engine, label = replay(FINISHED, FINISHED, settings=CastepSettings(max_attempts=2))
    done = run_program(engine, silicon, label)
    assert done.diagnosis.fault is Fault.UNSOUND
    assert "from where it was sent" in done.diagnosis.text


def test_time_limit_stops_softly_and_continues_from_the_checkpoint(replay, tmp_path, silicon):
    slow = {
        "until": "label.param",
        "until_text": "\nstop\n",
        "after": {
            "label.check": "model",
            "label.castep": "STOP keyword detected in parameter file. Stop execution.\n",
        },
    }
    engine, label = replay(slow, FINISHED, settings=CastepSettings(time_limit_s=1.0), grace_s=20)
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert remedies(done) == ["plain", "continued from its checkpoint"]
    assert started(tmp_path, 2)["continuation"] == "previous.check"
    assert (tmp_path / "started-02" / "previous.check").read_text() == "model"


def test_run_time_of_its_own_is_continued(replay, tmp_path, silicon):
    early = {"text": {"label.castep": "Insufficient time for another iteration\n", "label.check": "model"}}
    engine, label = replay(early, FINISHED)
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert done.attempts[0].fault.startswith(Fault.TIME.value)
    assert started(tmp_path, 2)["continuation"] == "previous.check"


@pytest.mark.parametrize("leaves", ["when asked", "by itself"])
def test_end_of_the_allocation_hands_the_structure_back(replay, tmp_path, silicon, monkeypatch, leaves):
    words = {"when asked": "STOP keyword detected in parameter file. Stop execution.\n"}
    words |= {"by itself": "Insufficient time for another iteration\n"}
    files_left = {"label.check": "model", "label.castep": words[leaves]}
    asked = {"until": "label.param", "until_text": "\nstop\n", "after": files_left}
    engine, label = replay(
        asked if leaves == "when asked" else {"text": files_left}, FINISHED, stop_before_s=10
    )
    monkeypatch.setenv("GAPFACTORY_JOB_END", str(time.time() + (11 if leaves == "when asked" else 100)))
    with pytest.raises(MachineFaultError) as caught:
        run_program(engine, silicon, label)
    assert caught.value.diagnosis.fault is Fault.WALLTIME
    monkeypatch.delenv("GAPFACTORY_JOB_END")
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert remedies(done) == ["continued after an interruption"]
    assert started(tmp_path, 2)["continuation"] == "previous.check"


def test_no_licence_blames_no_structure(replay, silicon):
    engine, label = replay(*[{"stderr": "FLEXnet: licence checkout failed", "status": 1}] * 4)
    with pytest.raises(MachineFaultError) as caught:
        run_program(engine, silicon, label)
    assert caught.value.diagnosis.fault is Fault.LICENCE


def test_many_labels_one_in_quarantine(replay, tmp_path, silicon):
    engine, _ = replay(EXHAUSTED, EXHAUSTED, FINISHED, settings=CastepSettings(max_attempts=2))
    outcomes = label_structures(
        [("bad", silicon), ("good", silicon)], engine.settings, tmp_path / "work", site=engine.site
    )
    assert outcomes[0].label is None
    assert outcomes[0].fault == Fault.SCF.name.lower()
    assert outcomes[1].label.energy == silicon.info["recorded"]
    assert outcomes[1].label.version == "23.1"


@elsewhere
def test_recorded_failures_lead_to_the_label(replay, tmp_path, silicon):
    root = Path(ELSEWHERE)
    bands = {"copy": {"label.castep": str(root / "aiida-castep/tests/data/Si2-occ/Si2.castep")}}
    error = {"copy": {"label.0001.err": str(root / "castep_outputs/test/data_files/test.err")}, "status": 1}
    engine, label = replay(bands, error, FINISHED)
    done = run_program(engine, silicon, label)
    check(done, silicon)
    assert remedies(done) == ["plain", "60 % more bands", "ensemble density-functional theory"]
