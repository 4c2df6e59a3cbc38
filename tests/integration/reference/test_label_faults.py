"""Injected faults in real child processes: each ends in the right label or in quarantine, and blames one structure."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from gapfactory.errors import InputError, MissingEngineError, ReferenceCalculationError
from gapfactory.reference import (
    AseSettings,
    GpawSettings,
    energy_volume_reference,
    label_structures,
    relax_phase_reference,
)
from gapfactory.reference.analytic import SecondMomentTitanium, StillingerWeberSilicon
from gapfactory.reference.engines.ase_calculator import EXTRA_MODULES_VARIABLE
from gapfactory.search import PhaseRelaxSettings, relax_at_fixed_volume
from launchpad.retry import is_transient

HERE = str(Path(__file__).parent)
NAMES = dict(enumerate(["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]))


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)
    monkeypatch.setenv(EXTRA_MODULES_VARIABLE, "gf_faulty_calculators")

    def settings(faults, **more):
        once = more.pop("once", None)
        return AseSettings(
            calculator="gf_faulty_calculators.Faulty",
            parameters={"faults": faults, "once": None if once is None else str(once)},
            **more,
        )

    return settings


def structures(sizes=(1, 2, 4, 8)):
    """Rattled cells, told apart by their number of atoms."""
    rng = np.random.default_rng(1)
    cells = []
    for n in sizes:
        atoms = bulk("Si", "sc", a=2.55) * (n, 1, 1)
        atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
        cells.append((NAMES[n], atoms))
    return cells


def check_label(outcome, atoms):
    oracle = atoms.copy()
    oracle.calc = StillingerWeberSilicon()
    assert outcome.label is not None, outcome.reason
    assert outcome.label.energy == oracle.get_potential_energy()
    np.testing.assert_array_equal(outcome.label.forces, oracle.get_forces())
    np.testing.assert_array_equal(outcome.label.stress, oracle.get_stress())


SOFT = {
    "raise": "SCF did not converge",
    "nan": "energy is not finite",
    "nanforce": "forces is not finite",
    "shape": "forces have shape (4, 3)",
    "stress": "stress has shape (3,)",
    "netforce": "forces sum to",
}
HARD = {
    "kill": "SIGKILL",
    "segv": "SIGSEGV",
    "exit0": "ended with status 0",
    "exit7": "ended with status 7",
}


@pytest.mark.parametrize("faults", [SOFT, HARD], ids=["soft", "hard"])
def test_fault_quarantines_its_structure_only(faulty, tmp_path, faults):
    # a sound structure before, between and after the faulty ones (of 2, 3, ... atoms)
    sizes = {str(n): fault for n, fault in enumerate(faults, start=2)}
    items = structures((1, *(int(n) for n in sizes), 9))
    delivered = []
    outcomes = label_structures(items, faulty(sizes), tmp_path, delivered.append)
    assert [o.id for o in outcomes] == [name for name, _ in items]
    for (_, atoms), outcome in zip(items, outcomes, strict=True):
        fault = sizes.get(str(len(atoms)))
        if fault is None:
            check_label(outcome, atoms)
            assert outcome.attempts == 1
        else:
            assert outcome.label is None
            assert faults[fault].replace("(4, 3)", f"({len(atoms) - 1}, 3)") in outcome.reason
            assert "quarantined after 2 attempts" in outcome.reason
            assert outcome.attempts == len(outcome.history) == 2
    # each delivered once, as the same object
    assert sorted(id(o) for o in delivered) == sorted(id(o) for o in outcomes)


def test_transient_fault_is_recovered_with_the_undisturbed_label(faulty, tmp_path):
    items = structures((1, 2, 3, 4, 5))
    once = tmp_path / "once"
    once.mkdir()
    faults = {"2": "raise", "3": "kill", "4": "nan"}
    outcomes = label_structures(items, faulty(faults, once=once), tmp_path / "work")
    for (_, atoms), outcome in zip(items, outcomes, strict=True):
        check_label(outcome, atoms)
        assert outcome.attempts == (2 if str(len(atoms)) in faults else 1)
    for outcome, words in zip(outcomes[1:4], ("SCF did not converge", "SIGKILL", "not finite"), strict=True):
        assert words in outcome.history[0]
        assert outcome.label.details["failed_attempts"] == list(outcome.history)


def test_hang_is_killed_at_its_limit(faulty, tmp_path):
    items = structures()
    started = time.monotonic()
    outcomes = label_structures(items, faulty({"2": "hang"}, time_limit_s=1.5, max_attempts=1), tmp_path)
    assert time.monotonic() - started < 30
    assert "time limit of 1.5 s" in outcomes[1].reason
    for (name, atoms), outcome in zip(items, outcomes, strict=True):
        if name != "two":
            check_label(outcome, atoms)


def test_results_arrive_while_the_batch_runs(faulty, tmp_path):
    arrivals = []
    label_structures(
        structures(),
        faulty({"8": "hang"}, time_limit_s=2.0, max_attempts=1),
        tmp_path,
        lambda outcome: arrivals.append((outcome.id, time.monotonic())),
    )
    times = dict(arrivals)
    assert times["eight"] - times["four"] > 1.0


def test_supervisor_killed_then_run_again_takes_results_over(faulty, tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from test_label_faults import structures\n"
        "from gapfactory.reference import AseSettings, label_structures\n"
        "s = AseSettings(calculator='gf_faulty_calculators.Faulty', parameters={'faults': {'8': 'hang'}})\n"
        "label_structures(structures(), s, Path(sys.argv[2]), lambda o: print(o.id, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, HERE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen = [process.stdout.readline().strip() for _ in range(3)]
    assert seen == ["one", "two", "four"]
    child = [p for p in Path("/proc").glob("[0-9]*") if _parent(p) == process.pid]
    assert len(child) == 1
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while _parent(child[0]) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _parent(child[0]) is None, "the child outlived its supervisor"
    settings = faulty({"8": "hang"}, time_limit_s=1.0, max_attempts=1)
    settings = settings.model_copy(update={"parameters": {"faults": {"8": "hang"}}})
    outcomes = label_structures(structures(), settings, tmp_path)
    assert [o.label is not None for o in outcomes] == [True, True, True, False]
    # the second run calculated only what was missing
    jobs = sorted(tmp_path.glob("job-*.json"))
    assert jobs[-1].read_text().count('"numbers"') == 1


def _parent(process):
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[1])


def test_truncated_and_foreign_results_are_not_taken_over(tmp_path):
    items = structures()
    settings = AseSettings()
    label_structures(items, settings, tmp_path)
    path = tmp_path / "results-0001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    # cut the last result in half; change the settings of none
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    outcomes = label_structures(items, settings, tmp_path)
    for (_, atoms), outcome in zip(items, outcomes, strict=True):
        check_label(outcome, atoms)
    assert len(list(tmp_path.glob("results-*.jsonl"))) == 2
    # moved by a hair: another structure, so nothing may be reused
    moved = [(name, atoms.copy()) for name, atoms in items]
    for _, atoms in moved:
        atoms.positions[0, 0] += 1e-9
    for (_, atoms), outcome in zip(moved, label_structures(moved, settings, tmp_path), strict=True):
        check_label(outcome, atoms)


def test_full_disk_blames_nobody_and_resumes(faulty, tmp_path):
    delivered = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(ReferenceCalculationError, match="cannot write") as caught:
            label_structures(structures(), faulty({"4": "fill"}), tmp_path, delivered.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_transient(caught.value)
    assert all(outcome.label is not None for outcome in delivered)
    outcomes = label_structures(structures(), faulty({"4": "fill"}), tmp_path)
    assert all(outcome.label is not None and outcome.attempts == 1 for outcome in outcomes)


def test_too_little_memory_blames_nobody_and_resumes(faulty, tmp_path):
    once = tmp_path / "once"
    once.mkdir()
    delivered = []
    settings = faulty({"4": "memory"}, once=once)
    with pytest.raises(ReferenceCalculationError, match="out of memory") as caught:
        label_structures(structures(), settings, tmp_path / "work", delivered.append)
    assert is_transient(caught.value)
    assert [outcome.id for outcome in delivered] == ["one", "two"]
    outcomes = label_structures(structures(), settings, tmp_path / "work")
    assert all(outcome.label is not None and outcome.attempts == 1 for outcome in outcomes)


def test_working_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReferenceCalculationError, match="cannot be used"):
        label_structures(structures(), AseSettings(), tmp_path / "file" / "work")


def test_missing_code_is_a_fault_of_the_machine(monkeypatch, tmp_path):
    blocker = tmp_path / "path" / "gpaw"
    blocker.mkdir(parents=True)
    (blocker / "__init__.py").write_text("raise ImportError('blocked by the test')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    delivered = []
    with pytest.raises(MissingEngineError, match=r"blocked by the test.*pip install"):
        label_structures(structures(), GpawSettings(), tmp_path / "work", delivered.append)
    assert delivered == []


def test_child_that_cannot_start_is_a_fault_of_the_machine(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ReferenceCalculationError, match="before it started"):
        label_structures(structures(), AseSettings(), tmp_path / "work")


def test_settings_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="not allowed"):
        label_structures(structures(), AseSettings(calculator="os.system"), tmp_path)
    with pytest.raises(InputError, match="ids repeat"):
        label_structures([("a", bulk("Si")), ("a", bulk("Si"))], AseSettings(), tmp_path)
    slab = bulk("Si")
    slab.pbc = [True, True, False]
    with pytest.raises(InputError, match="periodic in"):
        label_structures([("a", slab)], AseSettings(), tmp_path)
    bad = bulk("Si")
    bad.positions[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        label_structures([("a", bad)], AseSettings(), tmp_path)
    assert label_structures([], AseSettings(), tmp_path) == []


@pytest.mark.parametrize("error", [KeyError, ConnectionResetError])
def test_a_failing_consumer_stops_the_child(tmp_path, error):
    def consumer(outcome):
        raise error(outcome.id)

    with pytest.raises(error):
        label_structures(structures(), AseSettings(), tmp_path, consumer)
    children = [p for p in Path("/proc").glob("[0-9]*") if _parent(p) == os.getpid()]
    assert not [p for p in children if b"gapfactory.reference.child" in (p / "cmdline").read_bytes()]


@pytest.mark.gap
def test_quip_potential_by_dotted_path(tmp_path):
    settings = AseSettings(
        calculator="quippy.potential.Potential",
        arguments=("IP SW",),
        parameters={
            "param_str": '<SW_params n_types="1" label="x"><per_type_data type="1" atomic_num="14" />'
            '<per_pair_data atnum_i="14" atnum_j="14" AA="7.049556277" BB="0.6022245584" p="4" q="0" a="1.80" '
            'sigma="2.0951" eps="2.16826" /><per_triplet_data atnum_c="14" atnum_j="14" atnum_k="14" '
            'lambda="21.0" gamma="1.20" eps="2.16826" /></SW_params>'
        },
    )
    items = structures((2, 8))
    for (_, atoms), outcome in zip(items, label_structures(items, settings, tmp_path), strict=True):
        oracle = atoms.copy()
        oracle.calc = StillingerWeberSilicon()
        assert outcome.label is not None, outcome.reason
        assert outcome.label.energy == pytest.approx(oracle.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(outcome.label.forces, oracle.get_forces(), atol=1e-5)
        np.testing.assert_allclose(outcome.label.stress, oracle.get_stress(), atol=1e-6)


def test_curve_with_shape_relaxation_equals_the_same_in_this_process(tmp_path):
    start = bulk("Ti", a=2.95, c=4.8)
    settings = AseSettings(calculator="second-moment")
    relax_settings = PhaseRelaxSettings()
    volumes = [16.0, 17.5, 19.0]
    points = energy_volume_reference(start, volumes, settings, tmp_path, relax_settings=relax_settings)
    for volume, point in zip(volumes, points, strict=True):
        here = relax_at_fixed_volume(
            start, SecondMomentTitanium(), volume_per_atom=volume, settings=relax_settings
        )
        assert point.n_steps == here.n_steps > 0
        assert point.energy_per_atom == here.energies[-1] / 2
        np.testing.assert_array_equal(point.atoms.positions, here.positions[-1])
        assert point.atoms.get_volume() / 2 == pytest.approx(volume, rel=1e-10)
    relaxed = relax_phase_reference(start, settings, tmp_path / "phase", relax_settings=relax_settings)
    assert relaxed.energy_per_atom <= min(p.energy_per_atom for p in points)
    assert relaxed.volume_per_atom == pytest.approx(relaxed.atoms.get_volume() / 2)


def test_curve_reports_a_point_that_cannot_be_had(faulty, tmp_path):
    settings = faulty({"2": "raise"}, max_attempts=1)
    (point,) = energy_volume_reference(
        bulk("Si"), [20.0], settings, tmp_path, relax_settings=PhaseRelaxSettings()
    )
    assert point.energy_per_atom is None
    assert "SCF did not converge" in point.outcome.reason
    with pytest.raises(InputError, match="distinct"):
        energy_volume_reference(
            bulk("Si"), [20.0, 20.0], settings, tmp_path, relax_settings=PhaseRelaxSettings()
        )
