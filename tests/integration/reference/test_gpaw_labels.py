"""Real density-functional theory with GPAW on one and two atoms, undisturbed and disturbed."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from engine_conformance import EngineConformance, rattled_silicon

from gapfactory.reference import (
    GpawSettings,
    energy_volume_reference,
    label_structures,
    make_engine,
    recovery,
)
from gapfactory.reference.faults import Fault, MachineFaultError
from gapfactory.reference.site import ProgramSite
from gapfactory.search import PhaseRelaxSettings

pytestmark = pytest.mark.gpaw
pytest.importorskip("gpaw")

# few k-points and a low cutoff: the derivative is that of this very energy, converged or not
FAST = GpawSettings(cutoff_eV=200.0, kpoint_grid=(2, 2, 2), vacuum_isolated=3.0, vacuum_dimer=3.0)


class TestGpaw(EngineConformance):
    settings = FAST
    result_files = ("result.json",)
    output, output_has = "gpaw.txt", ("energy", "forces")
    # a fixed cutoff leaves a Pulay part of a few GPa at 200 eV
    stress_tolerance = 0.013
    # GPAW begins in 400 MB; below 350 MB the libraries of linear algebra fail, or hang, before it does
    too_little_memory, large_cutoff_eV = 450 * 2**20, 3000.0

    def test_label_is_complete(self, undisturbed):
        label = undisturbed[1]["base"].label
        assert label.details["kpoints"] == [2, 2, 2]
        assert label.details["recovery"] == "plain"
        assert label.details["iterations"] == len(label.details["scf_energies"])
        assert label.details["scf_energies"][-1] == pytest.approx(
            label.details["energy_extrapolated"], abs=1e-5
        )
        # smeared occupations: the free energy is the lower of the two
        assert label.energy <= label.details["energy_extrapolated"]
        assert np.abs(label.forces.sum(axis=0)).max() < 0.05

    def test_another_process_gives_the_same_bits(self, undisturbed, tmp_path):
        again, first = self.label_once(tmp_path).label, undisturbed[1]["base"].label
        assert again.energy == first.energy
        np.testing.assert_array_equal(again.forces, first.forces)
        np.testing.assert_array_equal(again.stress, first.stress)

    def test_too_few_iterations_climb_to_the_undisturbed_label(self, undisturbed, tmp_path):
        # ten iterations are too few: the first recovery step has twice as many and other mixing
        hurried = FAST.model_copy(update={"max_iterations": 10})
        outcome = self.label_once(tmp_path, settings=hurried)
        self.check_same(outcome, undisturbed)
        assert "KohnShamConvergenceError" in outcome.history[0]
        assert outcome.label.details["recovery"] == "mixing damped, two eigensolver steps per iteration"

    @pytest.mark.parametrize("rung", range(4))
    def test_every_step_that_keeps_the_energy_keeps_it(self, engine, undisturbed, tmp_path, rung):
        numerics = {}
        for remedy in engine.ladder[: rung + 1]:
            numerics |= dict(remedy.numerics)
        raw, label = single_point(engine, tmp_path, numerics), undisturbed[1]["base"].label
        assert abs(raw.energy - label.energy) / 2 < 1e-3
        assert np.abs(raw.forces - label.forces).max() < 5e-3

    def test_time_limit_is_climbed_by_a_checkpoint(self, undisturbed, tmp_path, monkeypatch):
        # the file that asks for the end is there before the first iteration; later attempts have all the time they need
        real = recovery._Watch._why_stop
        monkeypatch.setattr(
            recovery._Watch,
            "_why_stop",
            staticmethod(lambda run, ran, limit: None if run.attempts else real(run, ran, limit)),
        )
        outcome = self.label_once(tmp_path, settings=FAST.model_copy(update={"time_limit_s": 0.05}))
        self.check_same(outcome, undisturbed)
        assert outcome.attempts == 2
        assert "time limit of 0.05 s" in outcome.history[0]
        assert outcome.label.details["recovery"] == "continued from its checkpoint"

    def test_interrupted_label_goes_on_from_its_checkpoint(self, engine, undisturbed, tmp_path):
        stop_after(engine, tmp_path / "work" / "attempt-01", iterations=3)
        calculation = recovery.run_program(engine, rattled_silicon(), tmp_path / "work")
        assert [a.remedy for a in calculation.attempts] == ["continued after an interruption"]
        label = undisturbed[1]["base"].label
        assert abs(calculation.raw.energy - label.energy) / 2 < 1e-3
        assert np.abs(calculation.raw.forces - label.forces).max() < 5e-3
        assert "Reading from" in (tmp_path / "work" / "attempt-02" / "gpaw.txt").read_text()

    def test_full_disk_blames_no_structure(self, tmp_path):
        limits = {"RLIMIT_FSIZE": 4096}
        with pytest.raises(MachineFaultError, match="disk full"):
            self.label_once(tmp_path, {"fault": "limited", "limits": limits, "attempts": list(range(1, 50))})


def stop_after(engine, directory, iterations):
    """Start a calculation and ask it to stop when it has done some iterations."""
    directory.mkdir(parents=True)
    engine.write(rattled_silicon(), directory, {}, checkpoint=None)
    with subprocess.Popen(engine.command(directory), cwd=directory) as process:
        end = time.monotonic() + 60.0
        while len(engine.iterations(directory)) < iterations and time.monotonic() < end:
            time.sleep(0.01)
        assert engine.ask_to_stop(directory)
        assert process.wait(60.0) == 0
    assert engine.has_checkpoint(directory)
    assert engine.diagnose(directory, 0).fault is Fault.UNKNOWN


def single_point(engine, tmp_path, numerics):
    """Run one attempt without custodian."""
    directory = tmp_path / "run"
    directory.mkdir()
    engine.write(rattled_silicon(), directory, numerics, checkpoint=None)
    subprocess.run(engine.command(directory), cwd=directory, check=True, timeout=120)
    return engine.read(rattled_silicon(), directory)


def test_carbon_is_a_triplet_and_its_dimer_is_bound(tmp_path):
    items = [
        ("atom", Atoms("C", cell=[20.0] * 3)),
        ("dimer", Atoms("C2", positions=[[0, 0, 0], [0, 0, 1.9]], cell=[20.0] * 3)),
    ]
    atom, dimer = (o.label for o in label_structures(items, FAST, tmp_path))
    assert atom.stress is None
    assert dimer.stress is None
    assert atom.details["magnetic_moment"] == pytest.approx(2.0, abs=0.01)
    assert atom.details["kpoints"] == [1, 1, 1]
    np.testing.assert_allclose(atom.forces, 0.0, atol=0.05)
    # 1.9 Å is far beyond the bond length of C2: the atoms attract each other
    assert dimer.forces[0, 2] > 1.0
    assert dimer.forces[0, 2] == pytest.approx(-dimer.forces[1, 2], abs=0.05)
    assert dimer.energy < 2 * atom.energy


def test_energy_volume_curve_of_diamond_and_its_resumption(tmp_path):
    settings = GpawSettings(cutoff_eV=200.0, kpoint_density=1.2)
    volumes = [18.5, 20.5, 22.5]
    relax_settings = PhaseRelaxSettings(force_threshold=0.05, cell_force_threshold=0.05)
    points = energy_volume_reference(
        bulk("Si"), volumes[:2], settings, tmp_path, relax_settings=relax_settings
    )
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("label.json")}
    seen = []
    points = energy_volume_reference(
        bulk("Si"), volumes, settings, tmp_path, relax_settings=relax_settings, on_point=seen.append
    )
    assert [p.volume_per_atom for p in points] == volumes
    assert len(seen) == 3
    energies = [p.energy_per_atom for p in points]
    assert energies[1] < min(energies[0], energies[2])
    assert {tuple(p.outcome.label.details["kpoints"]) for p in points} == {(3, 3, 3)}
    for point in points:
        assert point.atoms.get_volume() / 2 == pytest.approx(point.volume_per_atom)
        assert point.n_steps == 0
    # only the new volume was calculated
    assert len(first) == 2
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(list(tmp_path.rglob("label.json"))) == 3


def test_worker_inside_another_launcher_is_not_taken_for_its_process(tmp_path, monkeypatch):
    # a worker that srun or mpirun started hands down variables by which GPAW would take itself for a part of that job
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
    monkeypatch.setenv("PMIX_RANK", "3")
    [outcome] = label_structures([("base", rattled_silicon())], FAST, tmp_path)
    assert outcome.label is not None, outcome.reason


def test_copies_of_a_gpaw_without_mpi_are_refused(tmp_path):
    engine = make_engine(FAST, ProgramSite(launcher=("env", "OMPI_COMM_WORLD_SIZE=2")))
    calculation = recovery.run_program(engine, rattled_silicon(), tmp_path)
    known = json.loads(
        subprocess.run(
            [sys.executable, *engine.arguments(tmp_path)[:2], "--about", "PBE"],
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
    )
    if known["mpi"]:
        pytest.skip("this GPAW was built with MPI")
    assert calculation.diagnosis.fault is Fault.INPUT
    assert "MPI" in calculation.diagnosis.text
    assert len(calculation.attempts) == 1
