"""The recovery itself, with a small program of our own: ladders, checkpoints, the monitor, interruptions."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from engine_conformance import INJECTOR, rattled_silicon
from gf_toy_engine import ToyEngine, ToySettings

from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.reference.faults import Diagnosis, Fault, MachineFaultError, Signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.programs import run_programs
from gapfactory.reference.recovery import run_program
from gapfactory.reference.site import ProgramSite
from gapfactory.search.settings import PhaseRelaxSettings


def run(tmp_path, *, site=None, atoms=None, **settings):
    engine = ToyEngine(ToySettings(**settings), site or ProgramSite(pause_s=0.05, grace_s=5))
    return run_program(engine, atoms or rattled_silicon(), tmp_path / "label")


def expected():
    atoms = rattled_silicon()
    atoms.calc = StillingerWeberSilicon()
    return atoms


def check(calculation):
    assert calculation.raw is not None, calculation.diagnosis
    assert calculation.raw.energy == expected().get_potential_energy()
    np.testing.assert_array_equal(calculation.raw.forces, expected().get_forces())


def remedies(calculation):
    return [attempt.remedy for attempt in calculation.attempts]


def test_plain(tmp_path):
    done = run(tmp_path)
    check(done)
    assert remedies(done) == ["plain"]
    assert len(done.attempts[0].iterations) == 10
    assert done.custodian[0]["corrections"] == []
    assert done.custodian[0]["job"]["directory"] == ".", "the place in somebody's scratch goes nowhere"


@pytest.mark.parametrize(
    ("converges_with", "ladder"),
    [
        ("damped", ["plain", "damped mixing"]),
        ("more-steps", ["plain", "damped mixing", "more steps"]),
        ("nan", ["plain", "repeated unchanged", "more steps"]),
    ],
)
def test_ladder_is_climbed_rung_by_rung(tmp_path, converges_with, ladder):
    done = run(tmp_path, converges_with=converges_with)
    check(done)
    assert remedies(done) == ladder
    recorded = [c["actions"][0]["remedy"] for c in done.custodian[0]["corrections"]]
    assert recorded == ladder[1:]


def test_end_of_the_ladder_names_the_cause_and_what_was_refused(tmp_path):
    done = run(tmp_path, converges_with="smearing")
    assert done.raw is None
    assert remedies(done) == ["plain", "damped mixing", "more steps"]
    assert done.diagnosis.fault is Fault.SCF
    assert "not converged in 20 steps" in done.diagnosis.text
    assert "not tried because it changes the energy: twice the smearing" in done.diagnosis.text
    assert "not converged" in done.files["stdout.txt"]
    assert json.loads(done.files["input.json"])["mixing"] == 0.1
    # what is kept is kept in the record; the program's own files of every attempt but the last are gone
    assert [p.name for p in (tmp_path / "label").glob("attempt-*")] == ["attempt-03"]


def test_a_change_of_the_energy_is_made_only_when_allowed_and_is_told(tmp_path):
    done = run(tmp_path, converges_with="smearing", allow_energy_changes=True)
    check(done)
    assert done.factors == {"smearing_width_eV": 2.0}
    assert done.raw.details["width"] == 0.2
    last = done.custodian[0]["corrections"][-1]["actions"][0]
    assert last["changes the energy: factors on settings"] == {"smearing_width_eV": 2.0}


def test_attempts_are_bounded(tmp_path):
    done = run(tmp_path, converges_with="never", max_attempts=2)
    assert remedies(done) == ["plain", "damped mixing"]


def test_time_limit_stops_softly_and_goes_on_from_the_checkpoint(tmp_path):
    done = run(tmp_path, seconds=4.0, time_limit_s=3.0)
    check(done)
    # on a busy machine the second attempt may not suffice either
    assert remedies(done)[:2] == ["plain", "continued from its checkpoint"]
    assert done.raw.details["first"] >= 1
    assert "time limit" in done.attempts[0].fault


def test_end_of_the_allocation_leaves_a_checkpoint_that_the_next_run_uses(tmp_path, monkeypatch):
    site = ProgramSite(stop_before_s=10, grace_s=5)
    monkeypatch.setenv("GAPFACTORY_JOB_END", str(time.time() + 12.5))
    with pytest.raises(MachineFaultError, match="end of the allocation") as caught:
        run(tmp_path, site=site, seconds=4.0)
    assert caught.value.diagnosis.fault is Fault.WALLTIME
    monkeypatch.delenv("GAPFACTORY_JOB_END")
    done = run(tmp_path, site=site, seconds=4.0)
    check(done)
    assert remedies(done) == ["continued after an interruption"]
    assert done.raw.details["first"] >= 1


def test_a_program_that_does_not_listen_is_killed_after_its_grace(tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"fault": "freeze", "attempts": [1], "after_s": 0.05}))
    command = (sys.executable, str(INJECTOR), str(plan), sys.executable)
    site = ProgramSite(command=command, grace_s=0.5)
    started = time.monotonic()
    done = run(tmp_path, site=site, time_limit_s=3.0, seconds=0.3)
    assert time.monotonic() - started < 60
    check(done)
    assert "time limit" in done.attempts[0].fault


def test_a_remedy_may_be_proposed_from_the_outputs(tmp_path):
    class Adviser(ToyEngine):
        def propose(self, diagnosis, directory):
            if "not converged" in (directory / "stdout.txt").read_text():
                return Remedy("advised", frozenset({diagnosis.fault}), {"steps": 50})
            return None

    engine = Adviser(ToySettings(converges_with="more-steps"), ProgramSite())
    done = run_program(engine, rattled_silicon(), tmp_path / "label")
    check(done)
    assert remedies(done) == ["plain", "advised"]


def test_result_of_another_structure_is_rejected(tmp_path):
    class Confused(ToyEngine):
        def read(self, atoms, directory):
            raw = super().read(atoms, directory)
            return type(raw)(raw.energy, raw.forces, raw.stress, raw.details, echo=bulk("Si", a=5.5))

    done = run_program(Confused(ToySettings(), ProgramSite()), rattled_silicon(), tmp_path / "label")
    assert done.raw is None
    assert done.diagnosis.fault is Fault.UNSOUND
    assert "cell differs" in done.diagnosis.text


def test_a_missing_program_is_no_fault_of_the_structure(tmp_path):
    from gapfactory.errors import MissingEngineError

    with pytest.raises(MissingEngineError, match="not on PATH"):
        run(tmp_path, site=ProgramSite(command=("no-such-program",)))


def test_a_missing_launcher_is_no_fault_of_the_structure(tmp_path):
    from gapfactory.errors import MissingEngineError

    with pytest.raises(MissingEngineError, match="no-such-launcher"):
        run(tmp_path, site=ProgramSite(launcher=("no-such-launcher", "-n", "{processes}")))


class Grumbling(ToyEngine):
    """A program whose MPI library complains about memory."""

    name = "grumbling"
    signatures = (Signature(Fault.MEMORY, r"^iteration"), *ToyEngine.signatures)


def test_words_of_the_machine_do_not_spoil_a_sound_result(tmp_path):
    site = ProgramSite(pause_s=0)
    done = run_program(Grumbling(ToySettings(), site), rattled_silicon(), tmp_path / "sound")
    check(done)
    assert remedies(done) == ["plain"]
    with pytest.raises(MachineFaultError, match="memory"):
        run_program(
            Grumbling(ToySettings(converges_with="never"), site), rattled_silicon(), tmp_path / "none"
        )


def test_output_that_no_reader_foresaw_is_a_fault_of_the_structure(tmp_path):
    class Stumbling(ToyEngine):
        def read(self, atoms, directory):
            return {}[0]

    done = run_program(Stumbling(ToySettings(), ProgramSite()), rattled_silicon(), tmp_path / "label")
    assert done.raw is None
    assert "cannot be read (KeyError: 0)" in done.diagnosis.text
    assert remedies(done) == ["plain", "repeated unchanged"]


def test_results_are_read_at_the_settings_of_the_attempt(tmp_path):
    widths = []

    class Reader(ToyEngine):
        def read(self, atoms, directory):
            widths.append(self.settings.smearing_width_eV)
            return super().read(atoms, directory)

    settings = ToySettings(converges_with="smearing", allow_energy_changes=True)
    check(run_program(Reader(settings, ProgramSite()), rattled_silicon(), tmp_path / "label"))
    assert widths == [0.2]


def test_the_hundredth_attempt_follows_the_ninety_ninth(tmp_path):
    for number in (99, 100):
        (tmp_path / "label" / f"attempt-{number}").mkdir(parents=True)
    check(run(tmp_path))


def test_a_version_in_another_encoding_is_read():
    engine = ToyEngine(ToySettings(), ProgramSite())
    said = engine.asked_version(["-c", r"import sys; sys.stdout.buffer.write(b'V\xe9rsion 1.0')"])
    assert "rsion 1.0" in said


def test_a_batch_that_was_interrupted_takes_its_labels_over(tmp_path):
    engine = ToyEngine(ToySettings(), ProgramSite())
    items = [(str(n), bulk("Si", a=5.3 + 0.1 * n), None) for n in range(3)]
    seen = []

    class StopError(Exception):
        pass

    def stop(outcome, relaxation):
        seen.append(outcome.id)
        if len(seen) == 2:
            raise StopError

    with pytest.raises(StopError):
        run_programs(engine, items, tmp_path, stop)
    starts = []
    original = ToyEngine.write

    class Counting(ToyEngine):
        def write(self, *arguments, **keywords):
            starts.append(1)
            return original(self, *arguments, **keywords)

    outcomes = run_programs(Counting(ToySettings(), ProgramSite()), items, tmp_path, lambda *_: None)
    assert len(starts) == 1
    for name, atoms, _ in items:
        atoms.calc = StillingerWeberSilicon()
        assert outcomes[name].label.energy == atoms.get_potential_energy()
        assert outcomes[name].attempts == 1


def batch(tmp_path, site, deliver=lambda *_: None, engine=ToyEngine, **settings):
    engine = engine(ToySettings(**settings), site)
    return run_programs(engine, [("a", rattled_silicon(), None)], tmp_path / "work", deliver)["a"]


class StopError(Exception):
    pass


def interrupted(tmp_path, site, **settings):
    """Return the file of a label that was stored and did not reach its consumer."""

    def stop(outcome, relaxation):
        raise StopError

    with pytest.raises(StopError):
        batch(tmp_path, site, stop, **settings)
    [file] = site.scratch.glob("labels/*/label.json")
    return file


@pytest.mark.parametrize("text", ["", '{"structure"', "[]", "{}", '{"outcome": {"label": null}}'])
def test_a_stored_label_that_a_crash_cut_short_is_calculated_again(tmp_path, text):
    site = ProgramSite(scratch=tmp_path / "scratch")
    interrupted(tmp_path, site).write_text(text)
    assert batch(tmp_path, site).label.energy == expected().get_potential_energy()


def test_a_label_at_altered_settings_is_not_taken_over_where_that_is_not_allowed(tmp_path):
    site = ProgramSite(scratch=tmp_path / "scratch")
    interrupted(tmp_path, site, converges_with="smearing", allow_energy_changes=True)
    assert batch(tmp_path, site, converges_with="smearing").label is None
    interrupted(tmp_path, site, converges_with="smearing", allow_energy_changes=True)
    assert batch(tmp_path, site, converges_with="smearing", allow_energy_changes=True).altered


def test_a_common_scratch_keeps_nothing_of_what_is_decided(tmp_path):
    site = ProgramSite(scratch=tmp_path / "scratch")
    assert batch(tmp_path, site).label is not None
    assert batch(tmp_path, site, converges_with="never").label is None
    assert list(site.scratch.glob("labels/*")) == []


def test_a_label_is_delivered_even_if_it_cannot_be_stored(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gapfactory.reference.programs._store", full)
    seen = []
    with pytest.raises(MachineFaultError, match="disk full"):
        batch(tmp_path, ProgramSite(), lambda outcome, _: seen.append(outcome))
    assert seen[0].label.energy == expected().get_potential_energy()


@pytest.mark.long
def test_relaxations_never_mix_settings_keep_their_record_and_no_files(tmp_path):
    task = {
        "settings": PhaseRelaxSettings().model_dump(mode="json"),
        "keep_symmetry": False,
        "volume_per_atom": 21.0,
    }

    def relax(place, **settings):
        engine = ToyEngine(ToySettings(**settings), ProgramSite())
        [outcome] = run_programs(engine, [("a", rattled_silicon(), task)], place, lambda *_: None).values()
        return outcome

    failed = relax(tmp_path / "failed", converges_with="smearing", allow_energy_changes=True)
    assert failed.label is None
    assert "not tried because it changes the energy" in failed.reason
    assert [c["actions"] and c["actions"][0]["remedy"] for c in failed.custodian[0]["corrections"]] == [
        "damped mixing",
        "more steps",
        None,
    ]
    done = relax(tmp_path / "done", converges_with="damped")
    assert done.label is not None, done.reason
    assert len(done.custodian) == done.attempts / 2 > 1
    assert [p.name for p in (tmp_path / "done").glob("*/*")] == ["label.json"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("launcher", [(), ("env",)])
def test_what_a_script_has_started_does_not_outlive_the_supervisor(tmp_path, number, launcher):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    site = f"ProgramSite(command=({str(wrapper)!r},), launcher={launcher!r})"
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from gf_toy_engine import *; from engine_conformance import rattled_silicon\n"
        "from gapfactory.reference.recovery import run_program; from gapfactory.reference.site import ProgramSite\n"
        f"run_program(ToyEngine(ToySettings(seconds=60), {site}), rattled_silicon(), Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "label")]
    )
    output = tmp_path / "label" / "attempt-01" / "stdout.txt"
    for _ in range(200):
        if output.is_file() and "iteration" in output.read_text():
            break
        time.sleep(0.1)
    process.send_signal(number)
    process.wait()
    for _ in range(100):
        if not list(_working_in(output.parent)):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"processes {list(_working_in(output.parent))} outlived their supervisor")


def _working_in(directory):
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink() == directory:
                yield int(path.parent.name)
        except OSError:
            continue


def test_what_a_crashed_program_leaves_running_is_killed_before_the_next_attempt(tmp_path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(
        f"#!/bin/sh\nif [ ! -e {tmp_path}/once ]; then touch {tmp_path}/once; sleep 300 & exit 3; fi\n"
        f"ls -l /proc/*/cwd 2>/dev/null | grep -c {tmp_path}/.*attempt-01 > {tmp_path}/left\n"
        f'exec {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    done = run(tmp_path, site=ProgramSite(command=(str(wrapper),)))
    check(done)
    assert remedies(done) == ["plain", "repeated unchanged"]
    assert (tmp_path / "left").read_text().strip() == "0"


def test_the_program_does_not_outlive_its_supervisor(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from gf_toy_engine import *; from engine_conformance import rattled_silicon\n"
        "from gapfactory.reference.recovery import run_program; from gapfactory.reference.site import ProgramSite\n"
        "run_program(ToyEngine(ToySettings(seconds=60), ProgramSite()), rattled_silicon(), Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "label")]
    )
    output = tmp_path / "label" / "attempt-01" / "stdout.txt"
    for _ in range(200):
        if output.is_file() and "iteration" in output.read_text():
            break
        time.sleep(0.1)
    program = next(p for p in _children(process.pid))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(50):
        if (
            not Path(f"/proc/{program}").exists()
            or "Z" in Path(f"/proc/{program}/stat").read_text().split()[2]
        ):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"process {program} outlived its supervisor")


def _children(pid):
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            yield int(path.parent.name)


def test_files_of_the_site_decide_the_command(tmp_path, monkeypatch):
    from gapfactory.errors import InputError
    from gapfactory.reference.site import load_site

    file = tmp_path / "site.toml"
    file.write_text('[toy]\nlauncher = ["mpirun", "-n", "{processes}"]\nprocesses = 4\nthreads = 2\n')
    monkeypatch.setenv("GAPFACTORY_SITE", str(file))
    site = load_site("toy")
    assert site.prefix() == ["mpirun", "-n", "4"]
    assert site.variables()["OMP_NUM_THREADS"] == "2"
    assert site.variables()["OMPI_MCA_hwloc_base_binding_policy"] == "none"
    assert (
        "OMPI_MCA_hwloc_base_binding_policy" not in site.model_copy(update={"share_node": False}).variables()
    )
    assert load_site("gpaw") == ProgramSite()
    file.write_text('[toy]\nlauncher = ["mpirun", "{cores}"]\n')
    with pytest.raises(InputError, match=r"only \{processes\} and \{threads\}"):
        load_site("toy")
    file.write_text("[toy]\nproceses = 4\n")
    with pytest.raises(InputError, match="proceses"):
        load_site("toy")
    monkeypatch.setenv("GAPFACTORY_SITE", str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match="does not exist"):
        load_site("toy")


def test_engine_of_another_package_is_found(tmp_path):
    """One file and an entry point: nothing of this package has to be touched."""
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gapfactory.engines]\ntoy = gf_toy_engine:ENGINE\n")
    code = (
        "from gapfactory.campaign.model import Campaign\n"
        "reference = {'engine': 'toy', 'seconds': 1.5}\n"
        "campaign = Campaign.model_validate({'name': 'x', 'element': 'Si', 'reference': reference})\n"
        "print(type(campaign.reference).__name__, campaign.reference.seconds)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parent}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout.split() == ["ToySettings", "1.5"], done.stderr


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no MPI launcher here")
def test_labels_share_a_node_without_being_pinned(tmp_path):
    """A launcher pins every job of a node to the same first cores; two labels at once would share one of them."""
    cores = {}
    for share in (True, False):
        site = ProgramSite(
            launcher=("mpirun", "-n", "{processes}"),
            share_node=share,
            environment={"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
        )
        check(run(tmp_path / str(share), site=site))
        [said] = (tmp_path / str(share) / "label").glob("attempt-*/stdout.txt")
        cores[share] = int(said.read_text().split()[1])
    assert cores[True] == len(os.sched_getaffinity(0))
    assert cores[False] <= cores[True]


def test_diagnoses_read_well():
    from gapfactory.reference.faults import diagnosis_of_status

    assert "SIGSEGV" in diagnosis_of_status(-11, "").text
    assert "SIGKILL (its last words)" in diagnosis_of_status(137, "its last words").text
    assert "signal 40" in diagnosis_of_status(-40, "").text
    assert diagnosis_of_status(3, "").fault is Fault.UNKNOWN
    assert str(Diagnosis(Fault.SCF, "after 20 steps")) == "self-consistency not reached: after 20 steps"
